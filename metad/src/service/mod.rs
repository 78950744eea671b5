//! The metadata service as its callers see it: one object, whose methods are the calls of gateways
//! ([`gateway_calls`]), of vendor agents ([`agent_calls`]), and about who is in the cluster ([`member_calls`]),
//! however they arrive.

mod agent_calls;
mod collector;
mod gateway_calls;
mod member_calls;

use crate::clock::Clock;
use crate::config::MetadConfig;
use crate::error::Error;
use crate::grants::GrantSigner;
use crate::leader::duties;
use crate::leader::leadership::Leadership;
use crate::propose::{ProposalLimits, Proposer};
use crate::raft::{Group, GroupConfig, GroupParts, Metrics, ModelMachine, Peers};
use crate::reads::Reads;
use crate::space::Space;
use crate::store::{Budget, DataDirectory, OpenState, Steps, offload};
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::query;
use ullage_model::fat::rows::{ClassRow, InlineRow};
use ullage_model::ids::ClusterId;
use ullage_model::limits::CHUNK_BYTES_DEFAULT;
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::MetadError;
use ullage_transport::authority::Authority;
use ullage_transport::client::Client;
use ullage_transport::credentials::WallClock;

/// The first replication group: the FAT and, as long as it is not split, the whole namespace.
pub(crate) const FIRST_GROUP: u64 = 0;
/// How long a linearizable read may wait for its confirmation.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// How long a node that is alone may take until it leads.
const LEAD_WITHIN: Duration = Duration::from_secs(60);
/// How long a caller waits for its turn to allocate or to open a session.
const TURN_PATIENCE: Duration = Duration::from_secs(5);
/// Queries that read many rows, under way at a time.
const LONG_QUERIES_MAX: usize = 256;
/// How long a shutdown waits for calls under way.
const LET_GO_WITHIN: Duration = Duration::from_secs(5);
/// Class of objects that name none.
pub const DEFAULT_CLASS: &str = "STANDARD";

/// What a node needs to let vendors in: the cluster's authority, and the wall clock that certificates go by.
pub struct Issuing {
    /// Issues certificates.
    pub authority: Arc<Authority>,
    /// What time it is.
    pub wall: WallClock,
}

impl std::fmt::Debug for Issuing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuing").finish_non_exhaustive()
    }
}

/// What a node is made of beside its settings.
pub struct MetadParts<'a> {
    /// Where it lies.
    pub data: DataDirectory,
    /// Memory shared with other databases.
    pub budget: Budget,
    /// Where its figures go.
    pub registry: &'a Registry,
    /// Its monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Where the seeds of its secrets come from.
    pub random: &'a mut (dyn RngCore + Send),
    /// Settings of its replication group.
    pub group: GroupConfig,
    /// How it reaches other members, and the first of them; `None` makes a group of one that nobody can reach.
    pub peers: Option<Peers>,
    /// Seed of Raft's randomness; `None` takes the operating system's.
    pub raft_seed: Option<u64>,
    /// How it lets vendors in; `None` in one process.
    pub issuing: Option<Issuing>,
}

impl std::fmt::Debug for MetadParts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadParts")
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// A running metadata node.
#[derive(Debug)]
pub struct Metad {
    config: MetadConfig,
    pub(crate) group: Arc<Group>,
    proposer: Proposer,
    pub(crate) reads: Reads,
    grants: GrantSigner,
    pub(crate) leadership: std::sync::Mutex<Option<Arc<Leadership>>>,
    pub(crate) taking_over: Mutex<()>,
    client: Option<Client>,
    /// Whether reading its state may wait for a disk.
    blocks: bool,
    issuing: Option<Issuing>,
    random: std::sync::Mutex<StdRng>,
    clock: Arc<dyn Clock>,
    space: Arc<Space>,
    allocation: Mutex<()>,
    kek: Mutex<()>,
    long_queries: Arc<Semaphore>,
    wake: Notify,
    stop: watch::Sender<bool>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Metad {
    /// Opens the node in `config.data`, makes a cluster on first start, and begins the leader's duties.
    ///
    /// # Errors
    /// When the data directory is refused, damaged or in use, or the log cannot be recovered.
    pub async fn start(
        config: MetadConfig,
        budget: Budget,
        registry: &Registry,
        clock: Arc<dyn Clock>,
        random: &mut (dyn RngCore + Send),
    ) -> Result<Arc<Self>, Error> {
        let data = DataDirectory::open(&config.data, None, FIRST_GROUP, &mut |bytes| {
            random.fill_bytes(bytes)
        })?;
        let parts = MetadParts {
            data,
            budget,
            registry,
            clock,
            random,
            group: GroupConfig::default(),
            peers: None,
            raft_seed: None,
            issuing: None,
        };
        let metad = Self::assemble(config, parts).await?;
        match metad.lead_at_last().await {
            Ok(()) => Ok(metad),
            Err(error) => {
                metad.shutdown().await;
                Err(error)
            }
        }
    }

    /// Waits until this node, which is alone, leads; a slow disk may take a few attempts.
    async fn lead_at_last(&self) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + LEAD_WITHIN;
        loop {
            match self.leading().await {
                Ok(_) => return Ok(()),
                Err(
                    Error::NotLeader { .. }
                    | Error::LeaderNotReady
                    | Error::ReadUnconfirmed { .. }
                    | Error::OutcomeUnknown { .. },
                ) if tokio::time::Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Opens the node in `parts.data` and begins its duties. Whether it belongs to a cluster yet, and who leads
    /// there, shows later: see [`Metad::is_ready`].
    ///
    /// # Errors
    /// When the data directory is refused, damaged or in use, or the log cannot be recovered.
    pub async fn assemble(config: MetadConfig, parts: MetadParts<'_>) -> Result<Arc<Self>, Error> {
        let MetadParts {
            data,
            budget,
            registry,
            clock,
            random,
            group,
            peers,
            raft_seed,
            issuing,
        } = parts;
        let client = peers.as_ref().map(|peers| peers.client.clone());
        let blocks = data.blocks();
        let (mut seed, mut of_secrets) = ([0; 32], [0; 32]);
        random.fill_bytes(&mut seed);
        random.fill_bytes(&mut of_secrets);
        let space = Space::open(data.path(), config.free_mark_bytes, config.ballast_bytes)?;
        let space = Arc::new(space);
        let grants = GrantSigner::open(data.path(), seed)?;
        let metrics = Metrics::new(registry).map_err(|error| Error::Setting {
            key: "metrics",
            reason: error.to_string(),
        })?;
        let parts = GroupParts {
            data,
            budget,
            machine: Arc::new(ModelMachine),
            metrics,
            steps: Steps::default(),
            peers,
            seed: raft_seed,
        };
        let group = Arc::new(Group::start(&group, parts).await?);
        let proposer = Proposer::new(Arc::clone(&group), ProposalLimits::default());
        let reads = Reads::new(Arc::clone(&group), READ_PATIENCE);
        let metad = Arc::new(Self {
            config,
            group,
            proposer,
            reads,
            grants,
            leadership: std::sync::Mutex::default(),
            taking_over: Mutex::default(),
            client,
            blocks,
            issuing,
            random: std::sync::Mutex::new(StdRng::from_seed(of_secrets)),
            clock,
            space,
            allocation: Mutex::default(),
            kek: Mutex::default(),
            long_queries: Arc::new(Semaphore::new(LONG_QUERIES_MAX)),
            wake: Notify::new(),
            stop: watch::Sender::new(false),
            tasks: std::sync::Mutex::default(),
        });
        collector::register(&metad, registry)?;
        let duties = duties::run(Arc::clone(&metad), metad.stop.subscribe());
        metad.tasks().push(tokio::spawn(duties));
        if metad.space.matters() {
            let watch = Arc::clone(&metad.space).watch(metad.stop.subscribe());
            metad.tasks().push(tokio::spawn(watch));
        }
        Ok(metad)
    }

    /// Stops the duties and the group. Callers under way get an unknown outcome. Whoever calls this should
    /// hold the last handle: the databases close in an orderly way only then.
    pub async fn shutdown(self: Arc<Self>) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the metadata service did not end well");
            }
        }
        let Some(Self {
            group,
            proposer,
            reads,
            ..
        }) = last_handle(self).await
        else {
            tracing::warn!("the metadata service is still in use; its databases recover at the next start");
            return;
        };
        drop((proposer, reads));
        if let Some(group) = Arc::into_inner(group) {
            group.shutdown().await;
        }
    }

    /// Makes the cluster's first rows, if nobody has.
    pub(crate) async fn initialise(&self) -> Result<(), Error> {
        if query::cluster(&**self.stale())?.is_some() {
            return Ok(());
        }
        let standard = ClassRow {
            name: DEFAULT_CLASS.to_owned(),
            copies: self.config.first_copies,
            zones: 0,
            device_class: None,
            max_price: None,
            chunk_bytes: CHUNK_BYTES_DEFAULT,
            pieces: 1,
            settings_version: 0,
        };
        let inline = InlineRow {
            cap_bytes: self.config.first_inline_bytes,
            budget_bytes: self.config.first_inline_budget_bytes,
            used_bytes: 0,
        };
        let command = Command::Initialise {
            cluster: self.cluster(),
            classes: vec![standard],
            inline,
        };
        match self.propose(&command).await? {
            Reply::Done | Reply::Refused(Rejection::Cluster(_)) => Ok(()),
            other => Err(Error::Setting {
                key: "first settings",
                reason: format!("{other:?}"),
            }),
        }
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &MetadConfig {
        &self.config
    }

    /// The cluster; 0 until one has taken this node in.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        ClusterId(self.group.identity().cluster)
    }

    /// Hands the leadership to another voter, if this node leads and there is one: a stop need not cost an
    /// election.
    pub async fn step_down(&self, patience: Duration) {
        if self.group.term_led().is_none() || self.group.leads_alone() {
            return;
        }
        match self.group.hand_over(None, patience).await {
            Ok(to) => tracing::info!(to = format!("{to:016x}"), "another node leads"),
            // Nothing is amiss: the others elect, or they all stop with this one.
            Err(error) => tracing::info!(%error, "the leadership is not handed over"),
        }
    }

    /// The applied state, however old: for status pages and tests.
    #[must_use]
    pub fn rows(&self) -> Arc<OpenState> {
        self.stale()
    }

    /// This node's id.
    #[must_use]
    pub fn node(&self) -> u64 {
        self.group.identity().node
    }

    /// The state as applied up to now and the log index it has at least reached: for whoever compares replicas.
    #[must_use]
    pub fn applied(&self) -> (u64, Arc<OpenState>) {
        (self.group.applied_index(), self.reads.stale())
    }

    /// Where it lies.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.config.data
    }

    /// Whether the node does not need to be restarted: the group has not stopped, and the duties are at work.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.failure().is_none() && !self.tasks().iter().any(JoinHandle::is_finished)
    }

    /// Why the node has stopped for good, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.group.status().failure
    }

    /// Whether the node serves: it is live and knows a leader, be it itself.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_live() && self.group.leader().is_some()
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    pub(crate) fn issuing(&self) -> Option<&Issuing> {
        self.issuing.as_ref()
    }

    /// A fresh secret.
    pub(crate) fn secret(&self) -> [u8; 32] {
        let mut secret = [0; 32];
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.fill_bytes(&mut secret);
        secret
    }

    pub(crate) fn grants(&self) -> &GrantSigner {
        &self.grants
    }

    /// The applied state, for those whose proposals are checked again when they are decided. See
    /// [`Metad::leading`].
    pub(crate) fn stale(&self) -> Arc<OpenState> {
        self.reads.stale()
    }

    /// Runs `work`, which reads many rows, where it holds up nobody.
    pub(crate) async fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        offload(self.blocks, work).await
    }

    pub(crate) async fn propose(&self, command: &Command) -> Result<Reply, Error> {
        self.proposer.propose(command).await
    }

    pub(crate) async fn kek_turn(&self) -> Result<MutexGuard<'_, ()>, MetadError> {
        turn(&self.kek).await
    }

    /// Leave to answer a query that reads many rows.
    pub(crate) fn long_query(&self) -> Result<OwnedSemaphorePermit, MetadError> {
        let permit = Arc::clone(&self.long_queries).try_acquire_owned();
        permit.map_err(|_| MetadError::Overloaded)
    }

    /// Refuses what makes the metadata grow while its disk is nearly full.
    pub(crate) fn admit_data(&self) -> Result<(), MetadError> {
        if self.space.is_low() {
            return Err(MetadError::NoRoom(
                "the metadata service's disk is full".to_owned(),
            ));
        }
        Ok(())
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) async fn allocation_turn(&self) -> Result<MutexGuard<'_, ()>, MetadError> {
        turn(&self.allocation).await
    }

    /// Makes the duties take their next turn at once.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// A turn at what goes one after another; who would wait long is told so.
async fn turn(turns: &Mutex<()>) -> Result<MutexGuard<'_, ()>, MetadError> {
    let turn = tokio::time::timeout(TURN_PATIENCE, turns.lock()).await;
    turn.map_err(|_| MetadError::Overloaded)
}

/// What `handle` holds, as soon as nobody else holds it: whoever scrapes or calls lets go soon.
async fn last_handle(mut handle: Arc<Metad>) -> Option<Metad> {
    let deadline = tokio::time::Instant::now() + LET_GO_WITHIN;
    loop {
        handle = match Arc::try_unwrap(handle) {
            Ok(metad) => return Some(metad),
            Err(shared) if tokio::time::Instant::now() < deadline => shared,
            Err(_) => return None,
        };
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A read of the local state that failed: nothing was done.
pub(crate) fn unavailable(error: impl std::fmt::Display) -> MetadError {
    MetadError::Unavailable(error.to_string())
}

impl From<Error> for MetadError {
    fn from(error: Error) -> Self {
        match error {
            Error::OutcomeUnknown { reason } => Self::Unknown(reason),
            Error::Overloaded => Self::Overloaded,
            Error::NotLeader { leader } => Self::NotLeader { leader },
            Error::CommandTooLong { .. } => Self::Refused(Rejection::Invalid(error.to_string())),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
