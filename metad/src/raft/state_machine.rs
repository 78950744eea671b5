//! openraft's state machine on the state database: entries are applied in batches, each batch is one write of
//! all its changes together with the position it reaches, and the answers go out after that write.
//!
//! Nothing here refuses a command: that is the machine's reply. Every error of this module stops the node.

use super::digest::{self, Digest, DigestPoints};
use super::group::OpenGuard;
use super::health::Health;
use super::hot::{HotRead, HotRows};
use super::machine::Machine;
use super::metrics::Metrics;
use super::snapshot::{Builder, SnapshotMeta, meta_of};
use super::types::{Entry, LogId, ReplyBytes, StoredMembership, TypeConfig, decode, encode, fatal};
use crate::error::Error;
use crate::store::{OpenState, SnapshotDirectory, StateWrite, States, offload};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, alias::SnapshotOf};
use serde::{Deserialize, Serialize};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use ullage_model::store::Overlay;

/// The row that says up to where the state is applied.
pub(super) const APPLIED_ROW: &str = "applied";
/// The row that holds the last applied membership.
pub(super) const MEMBERSHIP_ROW: &str = "membership";
/// Raft's rows in every state and snapshot.
pub const RAFT_ROWS: &[&str] = &[APPLIED_ROW, MEMBERSHIP_ROW];

/// Entries applied with one write, at most.
const BATCH_ENTRIES_MAX: usize = 1024;
/// Bytes of commands applied with one write, at most; the last one may exceed it.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Up to where the state is applied, and the digest of all changes until there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) log_id: LogId,
    pub(super) digest: Digest,
}

type Responder = Option<ApplyResponder<TypeConfig>>;

/// The replicated state of one group on this node.
pub struct StateMachine {
    states: Arc<States>,
    state: Arc<OpenState>,
    // Boxed, so that what starts a group is not long.
    hot: Box<HotRows>,
    position: Option<Position>,
    membership: StoredMembership,
    machine: Arc<dyn Machine>,
    digests: Arc<DigestPoints>,
    metrics: Metrics,
    health: Health,
    // Last: gone when the state is.
    guard: Option<OpenGuard>,
}

impl std::fmt::Debug for StateMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateMachine")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl StateMachine {
    /// The state machine on what `states` holds.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn new(
        states: Arc<States>,
        machine: Arc<dyn Machine>,
        digests: Arc<DigestPoints>,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let state = states.current();
        let hot = Box::new(HotRows::load(&**state, states.recent_bytes())?);
        let unreadable = |error: io::Error| Error::Corrupt {
            database: "state",
            reason: error.to_string(),
        };
        let row = |name| state.raft_row(name);
        let position = row(APPLIED_ROW)?
            .map(|row| decode(&row))
            .transpose()
            .map_err(unreadable)?;
        let membership = row(MEMBERSHIP_ROW)?
            .map(|row| decode(&row))
            .transpose()
            .map_err(unreadable)?;
        let membership = membership.unwrap_or_default();
        Ok(Self {
            states,
            state,
            hot,
            position,
            membership,
            machine,
            digests,
            metrics,
            health: Health::default(),
            guard: None,
        })
    }

    /// The same state machine, which tells `health` what it finds corrupt.
    pub(super) fn watched(self, health: Health) -> Self {
        Self { health, ..self }
    }

    /// `error` for openraft, which stops; corruption is remembered.
    fn fatal(&self, error: Error) -> io::Error {
        self.health.note(&error);
        fatal(error)
    }

    /// The same state machine, which holds `guard` while the state is open.
    pub(super) fn guarded(self, guard: OpenGuard) -> Self {
        Self {
            guard: Some(guard),
            ..self
        }
    }

    fn apply_batch(&mut self, batch: Vec<(Entry, Responder)>) -> Result<(), Error> {
        let started = Instant::now();
        let read = HotRead {
            hot: &self.hot,
            below: &**self.state,
        };
        let mut overlay = Overlay::new(read);
        let mut position = self.position;
        let mut membership = None;
        let mut answers = Vec::with_capacity(batch.len());
        let entries = batch.len();
        for (entry, responder) in batch {
            let log_id = entry.log_id();
            // The log reader vouches that nothing is left out; applying an entry twice would be as bad.
            if position.is_some_and(|position| log_id.index <= position.log_id.index) {
                let reason = format!("entry {} is already applied", log_id.index);
                return Err(Error::Database {
                    database: "state",
                    action: "apply to",
                    reason,
                });
            }
            let (changes, reply) = match entry.payload {
                EntryPayload::Blank => (Vec::new(), Bytes::new()),
                EntryPayload::Normal(command) => {
                    let decided = catch_unwind(AssertUnwindSafe(|| {
                        self.machine.apply(&overlay, log_id.index, &command.0)
                    }));
                    let applied = decided.map_err(|panic| panicked(log_id.index, panic.as_ref()))??;
                    (applied.changes, applied.reply)
                }
                EntryPayload::Membership(new) => {
                    membership = Some(StoredMembership::new(Some(log_id), new));
                    (Vec::new(), Bytes::new())
                }
            };
            let before = position.map_or([0; 32], |position| position.digest);
            let digest = digest::extend(&before, log_id.index, &changes);
            self.digests.note(log_id.index, &digest);
            position = Some(Position { log_id, digest });
            overlay.apply(changes);
            answers.extend(responder.map(|responder| (responder, ReplyBytes(reply))));
        }
        let changes = overlay.into_changes();
        let raft = raft_rows(position.as_ref(), membership.as_ref())?;
        let write = StateWrite { changes, raft };
        self.state.write(&write)?;
        self.hot.follow(write.changes);
        self.position = position;
        self.membership = membership.unwrap_or_else(|| std::mem::take(&mut self.membership));
        self.metrics.apply_entries.observe(entries as f64);
        self.metrics
            .apply_seconds
            .observe(started.elapsed().as_secs_f64());
        self.count_applied();
        for (responder, reply) in answers {
            responder.send(reply);
        }
        Ok(())
    }

    fn count_applied(&self) {
        let index = self.position.map_or(0, |position| position.log_id.index);
        self.metrics
            .applied_index
            .set(i64::try_from(index).unwrap_or(i64::MAX));
    }

    async fn install(&mut self, meta: &SnapshotMeta, snapshot: Arc<SnapshotDirectory>) -> Result<(), Error> {
        let found = meta_of(&snapshot).map_err(|error| Error::damaged(snapshot.path(), error.to_string()))?;
        if found.last_log_id != meta.last_log_id {
            let reason = format!("it reaches {:?}, not {:?}", found.last_log_id, meta.last_log_id);
            return Err(Error::damaged(snapshot.path(), reason));
        }
        let states = Arc::clone(&self.states);
        offload(states.blocks(), move || states.install(&snapshot)).await??;
        let (machine, digests) = (Arc::clone(&self.machine), Arc::clone(&self.digests));
        let installed = Self::new(Arc::clone(&self.states), machine, digests, self.metrics.clone())?;
        *self = Self {
            guard: self.guard.take(),
            health: self.health.clone(),
            ..installed
        };
        self.count_applied();
        Ok(())
    }
}

fn raft_rows(
    position: Option<&Position>,
    membership: Option<&StoredMembership>,
) -> Result<Vec<(&'static str, Bytes)>, Error> {
    let unwritable = |error: io::Error| Error::Database {
        database: "state",
        action: "encode",
        reason: error.to_string(),
    };
    let mut rows = Vec::with_capacity(2);
    if let Some(position) = position {
        rows.push((APPLIED_ROW, encode(position).map_err(unwritable)?));
    }
    if let Some(membership) = membership {
        rows.push((MEMBERSHIP_ROW, encode(membership).map_err(unwritable)?));
    }
    Ok(rows)
}

fn panicked(index: u64, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let reason = format!("the state machine panicked at entry {index}: {text}");
    Error::Database {
        database: "state",
        action: "apply to",
        reason,
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Arc<SnapshotDirectory>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((
            self.position.map(|position| position.log_id),
            self.membership.clone(),
        ))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some((entry, responder)) = entries.try_next().await? {
            if let EntryPayload::Normal(command) = &entry.payload {
                bytes += command.0.len();
            }
            batch.push((entry, responder));
            if batch.len() >= BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_MAX {
                self.apply_batch(std::mem::take(&mut batch))
                    .map_err(|error| self.fatal(error))?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.apply_batch(batch).map_err(|error| self.fatal(error))?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(Builder::checkpoint(Arc::clone(&self.states), self.metrics.clone()).await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder::checkpoint(Arc::clone(&self.states), self.metrics.clone()).await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Arc<SnapshotDirectory>,
    ) -> io::Result<()> {
        let installed = self.install(meta, snapshot).await;
        installed.map_err(|error| self.fatal(error))
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, Arc<SnapshotDirectory>>>> {
        let Some(snapshot) = self.states.snapshot() else {
            return Ok(None);
        };
        Ok(Some(SnapshotOf::<TypeConfig, _> {
            meta: meta_of(&snapshot)?,
            snapshot,
        }))
    }
}
