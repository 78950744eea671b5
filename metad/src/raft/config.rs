//! Settings of a group, and what it is made of.

use super::machine::Machine;
use super::metrics::Metrics;
use crate::error::Error;
use crate::store::{Budget, DataDirectory, Identity, Steps};
use openraft::{Config, SnapshotPolicy};
use std::sync::Arc;
use ullage_transport::client::Client;

/// Entries of one append request, at most; its bytes are bounded by the log's reader.
const ENTRIES_PER_REQUEST_MAX: u64 = 2048;

/// Settings of a group.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Address at which the other members reach this node.
    pub address: String,
    /// Interval of heartbeats; must exceed a round trip plus the p99.9 of a sync.
    pub heartbeat_ms: u64,
    /// Shortest silence after which a follower stands for election.
    pub election_min_ms: u64,
    /// Longest such silence.
    pub election_max_ms: u64,
    /// Bytes of log behind a snapshot that make the next one due.
    pub snapshot_after_bytes: u64,
    /// Bytes of log kept although they are in a snapshot.
    pub keep_log_bytes: u64,
    /// How long a start waits until what was written before is applied again.
    pub recovery_ms: u64,
    /// Entries between two digests that replicas compare. The same on all members, or they have few to compare.
    pub digest_every_entries: u64,
    /// How often the leader compares digests.
    pub compare_every_ms: u64,
    /// Silence of the other side after which a snapshot's transfer, or an append that waits for its answer, is
    /// given up. A transfer goes on where it stopped.
    pub idle_ms: u64,
}

impl Default for GroupConfig {
    /// The settings of a group of one.
    fn default() -> Self {
        Self {
            address: String::new(),
            heartbeat_ms: 150,
            election_min_ms: 500,
            election_max_ms: 900,
            snapshot_after_bytes: 64 * 1024 * 1024,
            keep_log_bytes: 256 * 1024 * 1024,
            recovery_ms: 60_000,
            digest_every_entries: super::DIGEST_EVERY_ENTRIES,
            compare_every_ms: 10_000,
            idle_ms: 5_000,
        }
    }
}

impl GroupConfig {
    /// The settings of a member of a larger group, which the others reach at `address`: more log is kept, so
    /// that a node that was away for a while needs no snapshot.
    #[must_use]
    pub fn member(address: String) -> Self {
        Self {
            address,
            keep_log_bytes: 1024 * 1024 * 1024,
            ..Self::default()
        }
    }

    pub(super) fn raft(&self, identity: Identity, alone: bool) -> Result<Config, Error> {
        let config = Config {
            cluster_name: format!("group {} of node {:016x}", identity.group, identity.node),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            max_payload_entries: ENTRIES_PER_REQUEST_MAX,
            enable_pre_vote: Some(true),
            // A restarted leader whose committed mark was lost with the power must not lead on without a vote.
            enable_leader_restore: Some(alone),
            // Both by bytes, see `retention`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            // A follower far behind gets log as long as there is any; a snapshot only when it was purged.
            replication_lag_threshold: u64::MAX,
            // The whole of a snapshot must pass within this; the transfer has its own idle time-out.
            install_snapshot_timeout: 3_600_000,
            ..Config::default()
        };
        config.validate().map_err(|error| Error::Setting {
            key: "raft",
            reason: error.to_string(),
        })
    }
}

/// How a group reaches its other members.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Calls them, with this node's credentials (`Identity::Metad` of the data directory's node id).
    pub client: Client,
    /// Addresses of the members that make a new cluster, this node's own among them: the first one, if all are
    /// empty, begins. A node that is not among them, or comes later, asks them to let it join.
    pub first: Vec<String>,
}

/// What a group is made of.
pub struct GroupParts {
    /// Where it lies.
    pub data: DataDirectory,
    /// Memory it shares with other databases.
    pub budget: Budget,
    /// What its log drives.
    pub machine: Arc<dyn Machine>,
    /// Its counters.
    pub metrics: Metrics,
    /// Where tests stop it.
    pub steps: Steps,
    /// The other members; `None` makes a group of one that nobody can reach.
    pub peers: Option<Peers>,
    /// Seed of Raft's randomness; `None` takes the operating system's.
    pub seed: Option<u64>,
}

impl std::fmt::Debug for GroupParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupParts")
            .field("data", &self.data)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}
