//! The metadata service as its callers see it: one object, whose methods are the calls of gateways
//! ([`gateway_calls`]) and of vendor agents ([`agent_calls`]), however they arrive.

mod agent_calls;
mod collector;
mod gateway_calls;

use crate::clock::Clock;
use crate::config::MetadConfig;
use crate::error::Error;
use crate::grants::GrantSigner;
use crate::leader::duties;
use crate::leader::soft_state::SoftState;
use crate::propose::{ProposalLimits, Proposer};
use crate::raft::{Group, GroupConfig, GroupParts, Metrics, ModelMachine};
use crate::reads::Reads;
use crate::space::Space;
use crate::store::{Budget, DataDirectory, OpenState, Steps};
use prometheus::Registry;
use rand::RngCore;
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

/// The first replication group: the FAT and, as long as it is not split, the whole namespace.
const FIRST_GROUP: u64 = 0;
/// How long a linearizable read may wait for its confirmation.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// How long a caller waits for its turn to allocate or to open a session.
const TURN_PATIENCE: Duration = Duration::from_secs(5);
/// Queries that read many rows, under way at a time.
const LONG_QUERIES_MAX: usize = 256;
/// How long a shutdown waits for calls under way.
const LET_GO_WITHIN: Duration = Duration::from_secs(5);
/// Class of objects that name none.
pub const DEFAULT_CLASS: &str = "STANDARD";

/// A running metadata node.
#[derive(Debug)]
pub struct Metad {
    config: MetadConfig,
    cluster: ClusterId,
    group: Arc<Group>,
    proposer: Proposer,
    reads: Reads,
    grants: GrantSigner,
    soft: SoftState,
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
        let cluster = ClusterId(data.identity().cluster);
        let mut seed = [0; 32];
        random.fill_bytes(&mut seed);
        let space = Space::open(data.path(), config.free_mark_bytes, config.ballast_bytes)?;
        let space = Arc::new(space);
        let grants = GrantSigner::open(data.path(), cluster, seed)?;
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
        };
        let group = Arc::new(Group::start(&GroupConfig::default(), parts).await?);
        let proposer = Proposer::new(Arc::clone(&group), ProposalLimits::default());
        let reads = Reads::new(Arc::clone(&group), READ_PATIENCE);
        let metad = Arc::new(Self {
            config,
            cluster,
            group,
            proposer,
            reads,
            grants,
            soft: SoftState::default(),
            clock,
            space,
            allocation: Mutex::default(),
            kek: Mutex::default(),
            long_queries: Arc::new(Semaphore::new(LONG_QUERIES_MAX)),
            wake: Notify::new(),
            stop: watch::Sender::new(false),
            tasks: std::sync::Mutex::default(),
        });
        metad.initialise().await?;
        collector::register(&metad, registry)?;
        let space = Arc::clone(&metad.space);
        metad.tasks().extend([
            tokio::spawn(duties::run(Arc::clone(&metad), metad.stop.subscribe())),
            tokio::spawn(space.watch(metad.stop.subscribe())),
        ]);
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

    async fn initialise(&self) -> Result<(), Error> {
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
            cluster: self.cluster,
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

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Where it lies.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.config.data
    }

    /// Whether the node serves: it has recovered, the group has not stopped, and the duties are at work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.group.status().failure.is_none() && !self.tasks().iter().any(JoinHandle::is_finished)
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn soft_state(&self) -> &SoftState {
        &self.soft
    }

    pub(crate) fn grants(&self) -> &GrantSigner {
        &self.grants
    }

    pub(crate) fn leads(&self) -> bool {
        self.group.leads_alone() || self.group.status().leads
    }

    /// The applied state, for duties whose proposals are checked again when they are decided.
    pub(crate) fn stale(&self) -> Arc<OpenState> {
        self.reads.stale()
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
            Error::CommandTooLong { .. } => Self::Refused(Rejection::Invalid(error.to_string())),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
