//! One replication group on this node: its databases, its Raft, and the few calls the rest of the crate makes
//! on them.

use super::digest::DigestPoints;
use super::log_store::LogStore;
use super::machine::Machine;
use super::metrics::Metrics;
use super::network::NoPeers;
use super::respond::{PermitResponder, Room};
use super::retention::{Keeper, Retention};
use super::rounds::Rounds;
use super::state_machine::{RAFT_ROWS, StateMachine};
use super::types::{CommandBytes, TypeConfig};
use crate::error::Error;
use crate::store::{Budget, DataDirectory, Identity, LogDatabase, OpenState, States, Steps};
use bytes::Bytes;
use openraft::alias::{WatchReceiverOf, WriteResponderOf};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::impls::BasicNode;
use openraft::metrics::RaftServerMetrics;
use openraft::raft::ClientWriteResult;
use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How long a shutdown waits for openraft's tasks to let go of the databases.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

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
        }
    }
}

impl GroupConfig {
    fn raft(&self, identity: Identity) -> Result<Config, Error> {
        let config = Config {
            cluster_name: format!("{:032x}/{}", identity.cluster, identity.group),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            enable_pre_vote: Some(true),
            // Both by bytes, see `retention`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            // The whole of a snapshot must pass within this; the transfer has its own idle time-out.
            install_snapshot_timeout: 600_000,
            ..Config::default()
        };
        config.validate().map_err(|error| Error::Setting {
            key: "raft",
            reason: error.to_string(),
        })
    }
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
}

impl std::fmt::Debug for GroupParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupParts")
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// The index a linearizable read must have applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadIndex(pub u64);

/// How the group does, for health and status pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who this node is.
    pub identity: Identity,
    /// Whether it leads.
    pub leads: bool,
    /// The leader, if known.
    pub leader: Option<u64>,
    /// Current term.
    pub term: u64,
    /// Last index in the log.
    pub last_index: Option<u64>,
    /// Last applied index.
    pub applied_index: Option<u64>,
    /// Index of the current snapshot.
    pub snapshot_index: Option<u64>,
    /// Index up to which the log was purged.
    pub purged_index: Option<u64>,
    /// Members by id, with their addresses.
    pub members: BTreeMap<u64, String>,
    /// Why the group stopped for good, if it did.
    pub failure: Option<String>,
}

/// A running replication group.
pub struct Group {
    identity: Identity,
    raft: Raft<TypeConfig, StateMachine>,
    states: Arc<States>,
    digests: Arc<DigestPoints>,
    machine: Arc<dyn Machine>,
    server: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    rounds: Arc<Rounds>,
    metrics: Metrics,
    keeper: Background,
    closed: Closed,
    // Last: the directory is unlocked when everything above is closed.
    data: DataDirectory,
}

/// A task that ends, after what it is doing, when `stop` is sent or dropped.
struct Background {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Held by whatever keeps a database open; sends nothing.
pub(super) type OpenGuard = mpsc::Sender<std::convert::Infallible>;

/// Yields `None` when all [`OpenGuard`]s are gone.
type Closed = mpsc::Receiver<std::convert::Infallible>;

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

pub(crate) type Answer = oneshot::Receiver<ClientWriteResult<TypeConfig>>;

impl Group {
    /// Opens the group of one in `parts.data`, makes it on first start, and waits until this node leads it
    /// and has applied everything it had written before.
    ///
    /// # Errors
    /// When the directory, a database or a setting is at fault, or recovery does not end in time.
    pub async fn start(config: &GroupConfig, parts: GroupParts) -> Result<Self, Error> {
        let GroupParts {
            data,
            budget,
            machine,
            metrics,
            steps,
        } = parts;
        let identity = data.identity();
        let raft_config = Arc::new(config.raft(identity)?);
        let (log_path, state_path) = (data.log_path(), data.state_path());
        // Both at once: opening is mostly waiting for syncs.
        let (of_log, of_steps) = (budget.clone(), steps.clone());
        let log = tokio::task::spawn_blocking(move || LogDatabase::open(&log_path, &of_log, of_steps));
        let states =
            tokio::task::spawn_blocking(move || States::open(&state_path, &budget, steps, RAFT_ROWS));
        let (log, states) = tokio::join!(log, states);
        let (log, states) = (log.map_err(stopped)??, states.map_err(stopped)??);
        let states = Arc::new(states);
        let (open, closed) = mpsc::channel(1);
        let log = LogStore::new(log, metrics.clone())?.guarded(open.clone());
        let digests = Arc::new(DigestPoints::default());
        let (kept, noted) = (Arc::clone(&states), Arc::clone(&digests));
        let applies = StateMachine::new(kept, Arc::clone(&machine), noted, metrics.clone())?.guarded(open);
        let raft = Raft::new(identity.node, raft_config, NoPeers, log.clone(), applies).await;
        let raft = raft.map_err(stopped)?;
        let retention = Retention {
            snapshot_after_bytes: config.snapshot_after_bytes,
            keep_bytes: config.keep_log_bytes,
        };
        let keeper = Keeper {
            raft: raft.clone(),
            log,
            states: Arc::clone(&states),
            retention,
        };
        let (stop, stopping) = oneshot::channel();
        let keeper = Background {
            stop,
            task: tokio::spawn(keeper.run(stopping)),
        };
        let group = Self {
            identity,
            server: raft.server_metrics(),
            rounds: Rounds::new(raft.clone(), metrics.clone()),
            keeper,
            raft,
            states,
            digests,
            machine,
            metrics,
            closed,
            data,
        };
        let ready = group.lead_alone(config).await;
        match ready {
            Ok(()) => Ok(group),
            Err(error) => {
                group.shutdown().await;
                Err(error)
            }
        }
    }

    async fn lead_alone(&self, config: &GroupConfig) -> Result<(), Error> {
        if !self.raft.is_initialized().await.map_err(stopped)? {
            let me = BTreeMap::from([(self.identity.node, BasicNode::new(&config.address))]);
            self.raft.initialize(me).await.map_err(stopped)?;
        }
        let patience = Duration::from_millis(config.recovery_ms);
        self.raft
            .wait_for_recovery(Some(patience))
            .await
            .map_err(stopped)?;
        let leads = |metrics: &openraft::RaftMetrics<TypeConfig>| metrics.state == ServerState::Leader;
        self.raft
            .wait(Some(patience))
            .metrics(leads, "this node leads")
            .await
            .map_err(stopped)?;
        Ok(())
    }

    /// Hands a command to Raft; the answer comes through the receiver, and `room` is given back with it.
    ///
    /// # Errors
    /// When Raft has stopped: the command was not appended.
    pub(crate) async fn submit(&self, command: Bytes, room: Room) -> Result<Answer, Error> {
        let (responder, answer) = PermitResponder::new(Some(room));
        let responder: WriteResponderOf<TypeConfig> = responder;
        self.raft
            .client_write_ff(CommandBytes(command), Some(responder))
            .await
            .map_err(stopped)?;
        Ok(answer)
    }

    /// The index a linearizable read arriving now must have applied: by read index, shared with the reads
    /// that wait at the same time. Only the leader can tell.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::LeaderNotReady`], [`Error::ReadUnconfirmed`] when no quorum answered
    /// within `patience`, or [`Error::Overloaded`].
    pub async fn read_index(&self, patience: Duration) -> Result<ReadIndex, Error> {
        self.rounds.confirm(patience).await.map(ReadIndex)
    }

    /// Waits until this node has applied `index`.
    ///
    /// # Errors
    /// [`Error::ReadUnconfirmed`] when that takes longer than `patience`.
    pub async fn wait_applied(&self, index: ReadIndex, patience: Duration) -> Result<(), Error> {
        let waited = self
            .raft
            .wait(Some(patience))
            .applied_index_at_least(Some(index.0), "a read waits")
            .await;
        waited.map(drop).map_err(|error| Error::ReadUnconfirmed {
            reason: error.to_string(),
        })
    }

    /// Whether `command` is one that this node's state machine knows.
    #[must_use]
    pub fn understands(&self, command: &[u8]) -> bool {
        self.machine.understands(command)
    }

    /// Whether this node leads and is the only voter: then what it has applied is all that was acknowledged.
    #[must_use]
    pub fn leads_alone(&self) -> bool {
        let server = self.server.borrow_watched();
        let mut voters = server.membership_config.membership().voter_ids();
        server.state == ServerState::Leader
            && voters.next() == Some(self.identity.node)
            && voters.next().is_none()
    }

    /// The state as applied up to now.
    #[must_use]
    pub fn state(&self) -> Arc<OpenState> {
        self.states.current()
    }

    /// Index of the last applied entry: no state read from now on is older.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        u64::try_from(self.metrics.applied_index.get()).unwrap_or(0)
    }

    /// Digests of the applied changes, to be compared between replicas.
    #[must_use]
    pub fn digests(&self) -> &DigestPoints {
        &self.digests
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let members = metrics.membership_config.membership().nodes();
        Status {
            identity: self.identity,
            leads: metrics.state == ServerState::Leader,
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_index: metrics.last_log_index,
            applied_index: metrics.last_applied.map(|log_id| log_id.index),
            snapshot_index: metrics.snapshot.map(|log_id| log_id.index),
            purged_index: metrics.purged.map(|log_id| log_id.index),
            members: members.map(|(id, node)| (*id, node.addr.clone())).collect(),
            failure: metrics.running_state.err().map(|error| error.to_string()),
        }
    }

    /// Builds a snapshot now, whatever the log's length. For tests and for backups.
    ///
    /// # Errors
    /// When the group has stopped.
    pub async fn trigger_snapshot(&self) -> Result<(), Error> {
        self.raft.trigger().snapshot().await.map_err(stopped)
    }

    /// Stops the group: proposals under way get an unknown outcome, the log is closed, and so is the state
    /// unless somebody still holds a handle on it. What was applied is flushed, so the next start is quick.
    pub async fn shutdown(self) {
        let Self {
            raft,
            states,
            rounds,
            server,
            keeper,
            mut closed,
            data,
            ..
        } = self;
        if let Err(error) = raft.shutdown().await {
            tracing::error!(%error, "the Raft task did not end well");
        }
        let Background { stop, task } = keeper;
        drop(stop);
        if let Err(error) = task.await {
            tracing::error!(%error, "the task that condenses the log did not end well");
        }
        drop((raft, rounds, server));
        let let_go = async {
            closed.recv().await;
            // A snapshot may still be on its way to disk.
            while Arc::strong_count(&states) > 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, let_go).await.is_err() {
            tracing::error!("the databases are still in use after the group has stopped");
        }
        // Closing flushes, which may take a while.
        let close = tokio::task::spawn_blocking(move || drop((states, data)));
        if let Err(error) = close.await {
            tracing::error!(%error, "closing the databases did not end well");
        }
    }
}

/// Why Raft did not apply a command.
pub(crate) fn refused(error: ClientWriteError<TypeConfig>) -> Error {
    match error {
        ClientWriteError::ForwardToLeader(ForwardToLeader {
            leader_node, reason, ..
        }) => match reason {
            ForwardReason::NotLeader => Error::NotLeader {
                leader: leader_node.map(|node| node.addr),
            },
            ForwardReason::LeadershipTransfer | ForwardReason::LeaseExpired => Error::LeaderNotReady,
        },
        error => Error::OutcomeUnknown {
            reason: error.to_string(),
        },
    }
}

fn stopped(error: impl std::fmt::Display) -> Error {
    Error::Stopped {
        reason: error.to_string(),
    }
}
