//! Building snapshots: a checkpoint made while apply stands still, made durable afterwards. What a snapshot
//! covers is read from the checkpoint itself.

use super::metrics::Metrics;
use super::state_machine::Position;
use super::types::{StoredMembership, TypeConfig, decode, fatal};
use crate::error::Error;
use crate::store::{SnapshotDirectory, States, offload};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::RaftSnapshotBuilder;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

/// What `snapshot` covers, according to its own rows (see `RAFT_ROWS`).
pub(super) fn meta_of(snapshot: &SnapshotDirectory) -> io::Result<SnapshotMeta> {
    let row = |at: usize| snapshot.raft_rows().get(at).and_then(Option::as_ref);
    let position = row(0).map(|row| decode::<Position>(row)).transpose()?;
    let membership = row(1).map(|row| decode::<StoredMembership>(row)).transpose()?;
    Ok(SnapshotMeta {
        last_log_id: position.map(|position| position.log_id),
        last_membership: membership.unwrap_or_default(),
    })
}

/// A checkpoint on its way to become the current snapshot.
#[derive(Debug)]
pub struct Builder {
    states: Arc<States>,
    checkpoint: Option<Result<Arc<SnapshotDirectory>, Error>>,
    /// How long apply stood still for it.
    took: Duration,
    metrics: Metrics,
}

impl Builder {
    pub(super) async fn checkpoint(states: Arc<States>, metrics: Metrics) -> Self {
        let (made, started) = (Arc::clone(&states), Instant::now());
        let made = offload(states.blocks(), move || made.checkpoint()).await;
        let made = made.and_then(|made| made);
        Self {
            states,
            checkpoint: Some(made),
            took: started.elapsed(),
            metrics,
        }
    }

    async fn publish(&mut self) -> Result<(SnapshotMeta, Arc<SnapshotDirectory>), Error> {
        let (made, started) = (self.checkpoint.take(), Instant::now());
        let made = made.unwrap_or_else(|| {
            Err(Error::Stopped {
                reason: "it was built before".to_owned(),
            })
        })?;
        let meta = meta_of(&made).map_err(|error| Error::damaged(made.path(), error.to_string()))?;
        let (states, snapshot, mine) = (Arc::clone(&self.states), Arc::clone(&made), meta.last_log_id);
        let publish = move || {
            states.publish(&snapshot, |current, _| {
                meta_of(current).is_ok_and(|current| current.last_log_id > mine)
            })
        };
        if offload(self.states.blocks(), publish).await?? {
            let took = self.took + started.elapsed();
            self.metrics.snapshot_seconds.observe(took.as_secs_f64());
            self.metrics.snapshots.inc();
        } else {
            tracing::info!("a snapshot was overtaken by a newer one while it was built");
        }
        Ok((meta, made))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Arc<SnapshotDirectory>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Arc<SnapshotDirectory>>> {
        let (meta, snapshot) = self.publish().await.map_err(fatal)?;
        Ok(SnapshotOf::<TypeConfig, _> { meta, snapshot })
    }
}
