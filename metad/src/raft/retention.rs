//! How much log is kept: bytes of log trigger snapshots, and what both lies in a snapshot and exceeds the
//! retention is purged. A snapshot was flushed, so purging never outruns what the state has on disk. The same
//! task keeps scans of the state fast after mass deletions.

use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::types::TypeConfig;
use crate::error::Error;
use crate::store::{States, offload};
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Least time between two flushes for the sake of scans: each writes a table for every column it touches.
const TIDY_EVERY: Duration = Duration::from_secs(2);
/// A snapshot that was asked for and did not come is asked for again after this long.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How much log is kept and when it is condensed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    pub(super) snapshot_after_bytes: u64,
    pub(super) keep_bytes: u64,
}

pub(super) struct Keeper {
    pub(super) raft: Raft<TypeConfig, StateMachine>,
    pub(super) log: LogStore,
    pub(super) states: Arc<States>,
    pub(super) retention: Retention,
}

impl Keeper {
    /// Runs until the group stops, or until `stop` is sent or dropped; never leaves work behind.
    pub(super) async fn run(self, mut stop: oneshot::Receiver<()>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: Option<(Option<u64>, Instant)> = None;
        let mut purged = None;
        let mut tidied = Instant::now();
        loop {
            tokio::select! {
                _ = look.tick() => (),
                _ = &mut stop => return,
            }
            let metrics = self.raft.metrics().borrow_watched().clone();
            if metrics.running_state.is_err() {
                return;
            }
            let snapshot = metrics.snapshot.map(|log_id| log_id.index);
            let waits = |(before, since): (Option<u64>, Instant)| {
                before == snapshot && since.elapsed() < ASK_AGAIN_AFTER
            };
            if !asked.is_some_and(waits) {
                match self.condense(snapshot).await {
                    Ok(true) => asked = Some((snapshot, Instant::now())),
                    Ok(false) => asked = None,
                    Err(error) => tracing::error!(%error, "cannot condense the Raft log"),
                }
            }
            let now_purged = metrics.purged.map(|log_id| log_id.index);
            if let Err(error) = self.trim(snapshot, now_purged != purged).await {
                tracing::error!(%error, "cannot trim the Raft log");
            }
            purged = now_purged;
            if tidied.elapsed() >= TIDY_EVERY {
                match self.tidy().await {
                    Ok(true) => tidied = Instant::now(),
                    Ok(false) => (),
                    Err(error) => tracing::error!(%error, "cannot tidy the state"),
                }
            }
        }
    }

    /// Asks for a snapshot if enough log lies behind the last one.
    async fn condense(&self, snapshot: Option<u64>) -> Result<bool, Error> {
        if self.log.bytes_behind(snapshot)? < self.retention.snapshot_after_bytes {
            return Ok(false);
        }
        // The checkpoint flushes while apply stands still: flush most of it before.
        let state = self.states.current();
        offload(self.states.blocks(), move || state.flush()).await??;
        self.raft.trigger().snapshot().await.map_err(stopped)?;
        Ok(true)
    }

    async fn tidy(&self) -> Result<bool, Error> {
        let state = self.states.current();
        offload(self.states.blocks(), move || state.tidy()).await?
    }

    /// Purges what exceeds the retention, in steps worth a sync, and gives back files of earlier purges.
    async fn trim(&self, snapshot: Option<u64>, moved: bool) -> Result<(), Error> {
        let (log, keep_bytes) = (self.log.clone(), self.retention.keep_bytes);
        let look = move || {
            if moved {
                log.reclaim()?;
            }
            let Some(snapshot) = snapshot else { return Ok(None) };
            if log.bytes_behind(None)? < keep_bytes + keep_bytes / 8 {
                return Ok(None);
            }
            log.purge_target(keep_bytes, snapshot)
        };
        if let Some(target) = offload(self.states.blocks(), look).await?? {
            self.raft.trigger().purge_log(target).await.map_err(stopped)?;
        }
        Ok(())
    }
}

fn stopped(error: impl std::fmt::Display) -> Error {
    Error::Stopped {
        reason: error.to_string(),
    }
}
