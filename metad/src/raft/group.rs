//! One replication group on this node: its databases, its Raft, its tasks, and the few calls the rest of the crate
//! makes on them.

use super::comparison;
use super::config::{GroupConfig, GroupParts, Peers};
use super::core::{Core, stopped};
use super::digest::DigestPoints;
use super::duties;
use super::formation;
use super::health::{Health, corruption};
use super::link::{AddressBook, Link, Me};
use super::log_store::LogStore;
use super::machine::Machine;
use super::metrics::Metrics;
use super::network::Network;
use super::respond::{PermitResponder, Room};
use super::retention::{Keeper, Retention};
use super::rounds::Rounds;
use super::runtime::seeded;
use super::snapshot_receiver::Receiving;
use super::state_machine::{RAFT_ROWS, StateMachine};
use super::status::{Leadership, Status};
use super::types::{CommandBytes, TypeConfig};
use crate::error::Error;
use crate::store::{Budget, DataDirectory, Identity, LogDatabase, OpenState, States, Steps, offload};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use openraft::alias::WriteResponderOf;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::impls::BasicNode;
use openraft::raft::ClientWriteResult;
use openraft::{Raft, ServerState};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use ullage_model::wire::members::{MembersReply, MembersRequest};

/// How long a shutdown waits for openraft's tasks to let go of the databases.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// The index a linearizable read must have applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadIndex(pub u64);

/// A running replication group.
pub struct Group {
    core: Arc<Core>,
    machine: Arc<dyn Machine>,
    leadership: watch::Receiver<Leadership>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    keeper: Background,
    closed: Closed,
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
            .field("identity", &self.identity())
            .finish_non_exhaustive()
    }
}

/// What commands handed over together are answered.
pub(crate) type Answers = BoxStream<'static, Result<(u64, Bytes), Error>>;

pub(crate) type Answer = oneshot::Receiver<ClientWriteResult<TypeConfig>>;

impl Group {
    /// Opens the group in `parts.data`, or makes it.
    ///
    /// A group of one (no `parts.peers`) begins on first start; this returns when the node leads and has applied
    /// everything it had written before. A member of a larger group is merely at work when this returns: it must be
    /// reachable by the others ([`super::peer_api`]) to get any further, see [`Group::ready`].
    ///
    /// # Errors
    /// When the directory, a database or a setting is at fault, or recovery does not end in time.
    pub async fn start(config: &GroupConfig, parts: GroupParts) -> Result<Self, Error> {
        let alone = parts.peers.is_none();
        let group = seeded(parts.seed, Self::open(config, parts)).await?;
        if !alone {
            return Ok(group);
        }
        match group.lead_alone(config).await {
            Ok(()) => Ok(group),
            Err(error) => {
                group.shutdown().await;
                Err(error)
            }
        }
    }

    /// A directory whose content turns out to be corrupt is set aside.
    async fn open(config: &GroupConfig, parts: GroupParts) -> Result<Self, Error> {
        let data = Arc::new(parts.data);
        let parts = Parts {
            data: Arc::clone(&data),
            budget: parts.budget,
            machine: parts.machine,
            metrics: parts.metrics,
            steps: parts.steps,
            peers: parts.peers,
        };
        let opened = Self::assemble(config, parts).await;
        let Err(error) = opened else { return opened };
        let Some(reason) = corruption(&error) else {
            return Err(error);
        };
        let (path, node, blocks) = (data.path().to_path_buf(), data.identity().node, data.blocks());
        let why = reason.clone();
        offload(blocks, move || data.quarantine(&why)).await??;
        Err(Error::Quarantined { path, node, reason })
    }

    async fn assemble(config: &GroupConfig, parts: Parts) -> Result<Self, Error> {
        let Parts {
            data,
            budget,
            machine,
            metrics,
            steps,
            peers,
        } = parts;
        let identity = data.identity();
        let raft_config = Arc::new(config.raft(identity, peers.is_none())?);
        let (log, states) = open_stores(&data, &budget, &steps).await?;
        let states = Arc::new(states);
        let health = Health::default();
        let (open, closed) = mpsc::channel(1);
        let log = LogStore::new(log, metrics.clone())?
            .watched(health.clone())
            .guarded(open.clone());
        let digests = Arc::new(DigestPoints::every(config.digest_every_entries));
        let (kept, noted) = (Arc::clone(&states), Arc::clone(&digests));
        let applies = StateMachine::new(kept, Arc::clone(&machine), noted, metrics.clone())?
            .watched(health.clone())
            .guarded(open);
        let me = Arc::new(Me::new(identity));
        let idle = Duration::from_millis(config.idle_ms);
        let link = peers.as_ref().map(|peers| Link {
            client: peers.client.clone(),
            me: Arc::clone(&me),
            book: Arc::new(AddressBook::default()),
            idle,
            in_flight_most: metrics.appends_in_flight_most.clone(),
        });
        let network = Network(link.clone());
        let raft = Raft::new(identity.node, raft_config, network, log.clone(), applies).await;
        let raft = raft.map_err(stopped)?;
        let keeper = keep(config, &raft, log, &states);
        let core = Arc::new(Core {
            config: config.clone(),
            me,
            server: raft.server_metrics(),
            all: raft.metrics(),
            rounds: Rounds::new(raft.clone(), link.clone(), metrics.clone()),
            raft,
            states,
            digests,
            link,
            health,
            metrics,
            receiving: Receiving::default(),
            changing: tokio::sync::Mutex::default(),
            idle,
            data,
        });
        let stop = watch::Sender::new(false);
        let (tasks, leadership) = start_tasks(&core, peers, &stop);
        Ok(Self {
            core,
            machine,
            leadership,
            stop,
            tasks,
            keeper,
            closed,
        })
    }

    async fn lead_alone(&self, config: &GroupConfig) -> Result<(), Error> {
        if !self.core.initialised().await? {
            let me = BTreeMap::from([(self.core.me.node, BasicNode::new(&config.address))]);
            self.core.raft.initialize(me).await.map_err(stopped)?;
        }
        let patience = Duration::from_millis(config.recovery_ms);
        self.core
            .raft
            .wait_for_recovery(Some(patience))
            .await
            .map_err(stopped)?;
        let leads = |metrics: &openraft::RaftMetrics<TypeConfig>| metrics.state == ServerState::Leader;
        self.core
            .raft
            .wait(Some(patience))
            .metrics(leads, "this node leads")
            .await
            .map_err(stopped)?;
        Ok(())
    }

    /// Waits until the node is of a cluster, has applied what it had written before, knows a leader, and has applied
    /// what that leader had committed when asked: from then on it can serve.
    ///
    /// # Errors
    /// When that takes longer than `patience`, with what it waits for, or the group stops.
    pub async fn ready(&self, patience: Duration) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut last = Error::NotLeader { leader: None };
        loop {
            if let Some(failure) = self.status().failure {
                return Err(stopped(failure));
            }
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Err(last);
            }
            if self.leader().is_some() {
                // A leader that is lost in the middle must not eat up all patience.
                let round = left.min(Duration::from_millis(4 * self.core.config.election_max_ms));
                match self.read_index(round).await {
                    Ok(index) => return self.wait_applied(index, left).await,
                    Err(error) => last = error,
                }
            }
            tokio::time::sleep(Duration::from_millis(20).min(left)).await;
        }
    }

    /// Hands a command to Raft; the answer comes through the receiver, and `room` is given back with it.
    ///
    /// # Errors
    /// When Raft has stopped: the command was not appended.
    pub(crate) async fn submit(&self, command: Bytes, room: Room) -> Result<Answer, Error> {
        let (responder, answer) = PermitResponder::new(Some(room));
        let responder: WriteResponderOf<TypeConfig> = responder;
        self.core
            .raft
            .client_write_ff(CommandBytes(command), Some(responder))
            .await
            .map_err(stopped)?;
        Ok(answer)
    }

    /// Hands commands to Raft as one message; the answers come in their order, each with its log index.
    ///
    /// # Errors
    /// When Raft has stopped: none was appended.
    pub(crate) async fn submit_many(&self, commands: Vec<Bytes>) -> Result<Answers, Error> {
        let commands = commands.into_iter().map(CommandBytes);
        let answers = self
            .core
            .raft
            .client_write_many(commands)
            .await
            .map_err(stopped)?;
        let answers = answers.map(|answer| match answer {
            Ok(Ok(applied)) => Ok((applied.log_id.index, applied.response.0)),
            Ok(Err(error)) => Err(refused(error)),
            Err(error) => Err(Error::OutcomeUnknown {
                reason: error.to_string(),
            }),
        });
        Ok(answers.boxed())
    }

    /// The index a linearizable read arriving now must have applied: by read index, shared with the reads
    /// that wait at the same time. A follower asks the leader.
    ///
    /// # Errors
    /// [`Error::NotLeader`] when no leader is known, [`Error::LeaderNotReady`], [`Error::ReadUnconfirmed`] when no
    /// quorum answered within `patience`, or [`Error::Overloaded`].
    pub async fn read_index(&self, patience: Duration) -> Result<ReadIndex, Error> {
        self.core.rounds.confirm(patience).await.map(ReadIndex)
    }

    /// Waits until this node has applied `index`.
    ///
    /// # Errors
    /// [`Error::ReadUnconfirmed`] when that takes longer than `patience`.
    pub async fn wait_applied(&self, index: ReadIndex, patience: Duration) -> Result<(), Error> {
        if self.applied_index() >= index.0 {
            return Ok(());
        }
        let waited = self
            .core
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

    /// Who this node is. Its cluster is [`crate::store::NO_CLUSTER`] until one has adopted it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.core.me.identity()
    }

    /// Whether this node leads, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.core.leads()
    }

    /// The term in which this node leads, if it does, as far as it knows.
    #[must_use]
    pub fn term_led(&self) -> Option<u64> {
        self.core.term_led()
    }

    /// Whether this node leads and is the only voter: then what it has applied is all that was acknowledged.
    #[must_use]
    pub fn leads_alone(&self) -> bool {
        let server = self.core.server.borrow_watched();
        let mut voters = server.membership_config.membership().voter_ids();
        server.state == ServerState::Leader
            && self.core.runs()
            && voters.next() == Some(self.core.me.node)
            && voters.next().is_none()
    }

    /// The leader this node knows, and where the others reach it.
    #[must_use]
    pub fn leader(&self) -> Option<(u64, String)> {
        self.core.leader()
    }

    /// Who leads, now and whenever that changes.
    #[must_use]
    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// The members. Only the leader knows how far each is and since when it is silent.
    #[must_use]
    pub fn members(&self) -> MembersReply {
        self.core.members()
    }

    /// Changes the members as an operator asks; answers with the members afterwards. A new voter is first given the
    /// log, for at most `patience`; asked again, the change goes on where it stopped.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Members`] when it is refused, [`Error::Peer`] when the new node is not reached,
    /// or [`Error::OutcomeUnknown`].
    pub async fn change_members(
        &self,
        request: MembersRequest,
        patience: Duration,
    ) -> Result<MembersReply, Error> {
        self.core.change_members(request, patience).await
    }

    /// Hands the leadership to `to`, or to the voter that is furthest; waits until it leads. Answers who leads then.
    ///
    /// # Errors
    /// [`Error::NotLeader`] when this node has nothing to hand over, [`Error::Members`] when nobody (or not `to`) is
    /// there and has caught up, or the new leader does not appear within `patience`.
    pub async fn hand_over(&self, to: Option<u64>, patience: Duration) -> Result<u64, Error> {
        self.core.hand_over(to, patience).await
    }

    /// The state as applied up to now.
    #[must_use]
    pub fn state(&self) -> Arc<OpenState> {
        self.core.states.current()
    }

    /// Index of the last applied entry: no state read from now on is older.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        u64::try_from(self.core.metrics.applied_index.get()).unwrap_or(0)
    }

    /// Digests of the applied changes, to be compared between replicas.
    #[must_use]
    pub fn digests(&self) -> &DigestPoints {
        &self.core.digests
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.status()
    }

    pub(super) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// Builds a snapshot now, whatever the log's length. For tests and for backups.
    ///
    /// # Errors
    /// When the group has stopped.
    pub async fn trigger_snapshot(&self) -> Result<(), Error> {
        self.core.raft.trigger().snapshot().await.map_err(stopped)
    }

    /// Stops the group: proposals under way get an unknown outcome, the log is closed, and so is the state
    /// unless somebody still holds a handle on it. What was applied is flushed, so the next start is quick.
    ///
    /// The others are to be cut off before (a server that is still at work holds on to the databases), and a leader
    /// hands over before ([`Group::hand_over`]).
    pub async fn shutdown(self) {
        let Self {
            core,
            stop,
            tasks,
            keeper,
            mut closed,
            ..
        } = self;
        stop.send_replace(true);
        // They first: whoever asks Raft something after its end gets an error logged.
        join(tasks).await;
        if let Err(error) = core.raft.shutdown().await {
            tracing::error!(%error, "the Raft task did not end well");
        }
        let Background { stop, task } = keeper;
        drop(stop);
        join([task]).await;
        if let Some(reason) = core.health.reason() {
            // The task that does this may have been stopped before it came to it.
            core.quarantine(&reason).await;
        }
        let (states, data) = (Arc::clone(&core.states), Arc::clone(&core.data));
        drop(core);
        let let_go = async {
            closed.recv().await;
            // A snapshot may still be on its way to disk, a call of another member still under way.
            while Arc::strong_count(&states) > 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, let_go).await.is_err() {
            tracing::error!("the databases are still in use after the group has stopped");
        }
        // Closing flushes, which may take a while.
        let close = offload(states.blocks(), move || drop((states, data))).await;
        if let Err(error) = close {
            tracing::error!(%error, "closing the databases did not end well");
        }
    }
}

/// [`GroupParts`] with the directory shared.
struct Parts {
    data: Arc<DataDirectory>,
    budget: Budget,
    machine: Arc<dyn Machine>,
    metrics: Metrics,
    steps: Steps,
    peers: Option<Peers>,
}

/// Opens both databases at once: it is mostly waiting for syncs.
async fn open_stores(
    data: &Arc<DataDirectory>,
    budget: &Budget,
    steps: &Steps,
) -> Result<(LogDatabase, States), Error> {
    let open_log = {
        let (data, budget, steps) = (Arc::clone(data), budget.clone(), steps.clone());
        move || data.open_log(&budget, steps)
    };
    let open_states = {
        let (data, budget, steps) = (Arc::clone(data), budget.clone(), steps.clone());
        move || data.open_states(&budget, steps, RAFT_ROWS)
    };
    let blocks = data.blocks();
    let (log, states) = tokio::join!(offload(blocks, open_log), offload(blocks, open_states));
    Ok((log??, states??))
}

fn keep(
    config: &GroupConfig,
    raft: &Raft<TypeConfig, StateMachine>,
    log: LogStore,
    states: &Arc<States>,
) -> Background {
    let retention = Retention {
        snapshot_after_bytes: config.snapshot_after_bytes,
        keep_bytes: config.keep_log_bytes,
    };
    let keeper = Keeper {
        raft: raft.clone(),
        log,
        states: Arc::clone(states),
        retention,
    };
    let (stop, stopping) = oneshot::channel();
    Background {
        stop,
        task: tokio::spawn(keeper.run(stopping)),
    }
}

/// Starts what a member does beside answering: it follows the leadership, becomes part of a group, and, if it leads,
/// looks after the members.
fn start_tasks(
    core: &Arc<Core>,
    peers: Option<Peers>,
    stop: &watch::Sender<bool>,
) -> (Vec<JoinHandle<()>>, watch::Receiver<Leadership>) {
    let (told, leadership) = watch::channel(core.leadership());
    let until = |stop: watch::Receiver<bool>, work: futures::future::BoxFuture<'static, ()>| {
        tokio::spawn(async move {
            let mut stop = stop;
            tokio::select! {
                () = work => (),
                _ = stop.wait_for(|stop| *stop) => (),
            }
        })
    };
    let mut tasks = vec![
        until(stop.subscribe(), Box::pin(duties::follow(Arc::clone(core), told))),
        until(stop.subscribe(), Box::pin(duties::set_aside(Arc::clone(core)))),
    ];
    if let Some(peers) = peers {
        tasks.extend([
            until(
                stop.subscribe(),
                Box::pin(formation::run(Arc::clone(core), peers.first)),
            ),
            until(
                stop.subscribe(),
                Box::pin(duties::look_after_members(Arc::clone(core))),
            ),
            until(stop.subscribe(), Box::pin(comparison::run(Arc::clone(core)))),
        ]);
    }
    (tasks, leadership)
}

async fn join(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task of the group did not end well");
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
