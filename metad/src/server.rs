//! A metadata node as a process: opens its data directory, proves itself with a certificate of its own issue,
//! listens, joins the others, and on the way out hands its leadership over before it lets go.

use crate::clock::Clock;
use crate::config::{MetadConfig, MetadFile};
use crate::error::Error;
use crate::http::{self, CallMetrics};
use crate::raft::{GroupConfig, Peers};
use crate::service::{FIRST_GROUP, Issuing, Metad, MetadParts};
use crate::store::{Budget, DataDirectory};
use prometheus::Registry;
use rand::RngCore;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ullage_transport::authority::{Authority, ClusterSecret, TrustError};
use ullage_transport::client::{Client, ClientLimits};
use ullage_transport::credentials::{Credentials, WallClock, keep_issued};
use ullage_transport::health::{self, Health};
use ullage_transport::identity::Identity;
use ullage_transport::network::{Listener, Network};
use ullage_transport::server::{ServerLimits, serve};

/// How long a node that stops waits for another one to lead.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);
/// How long a node waits in one go to catch up after its start, before it says that it still waits.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What a node gets from the world.
pub struct Seams {
    /// How it reaches others and is reached.
    pub network: Arc<dyn Network>,
    /// Its monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Its wall clock, which certificates go by.
    pub wall: WallClock,
    /// Where its secrets come from.
    pub random: Box<dyn RngCore + Send>,
    /// Seed of Raft's randomness; `None` takes the operating system's.
    pub raft_seed: Option<u64>,
    /// Memory that its databases share with others of the process; `None` takes the settings'.
    pub budget: Option<Budget>,
    /// Its data directory, if not the one of the settings.
    pub data: Option<DataDirectory>,
    /// Where its figures go.
    pub registry: Registry,
}

impl std::fmt::Debug for Seams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seams").finish_non_exhaustive()
    }
}

/// Runs a node until `stop`, then lets it go in an orderly way.
///
/// # Errors
/// When it cannot start; see [`Node::start`].
pub async fn run(file: &MetadFile, seams: Seams, stop: CancellationToken) -> Result<(), Error> {
    let node = Node::start(file, seams).await?;
    let failure = tokio::select! {
        () = stop.cancelled() => None,
        failure = node.failed() => Some(failure),
    };
    node.stop().await;
    match failure {
        None => Ok(()),
        Some(reason) => Err(Error::Stopped { reason }),
    }
}

/// How often a node is looked at while all is well.
const LOOK: Duration = Duration::from_secs(1);

/// A node at work.
#[derive(Debug)]
pub struct Node {
    metad: Arc<Metad>,
    /// Ends the health page last.
    admin: CancellationToken,
    serving: CancellationToken,
    ready: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    admin_task: JoinHandle<()>,
}

impl Node {
    /// Waits until the node has stopped for good, because its disk failed or its state is not that of the others.
    /// Nothing but a new process, and maybe a person, helps then.
    async fn failed(&self) -> String {
        loop {
            if let Some(failure) = self.metad.failure() {
                return failure;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Opens the node and listens. Whether it serves yet, its health page says: it may have to wait for others.
    ///
    /// # Errors
    /// When a setting, the cluster secret or the data directory is at fault, or an address is taken.
    pub async fn start(file: &MetadFile, seams: Seams) -> Result<Self, Error> {
        let secret = ClusterSecret::read(&file.cluster_secret_file).map_err(untrusted)?;
        let authority = Arc::new(Authority::derive(&secret).map_err(untrusted)?);
        Self::start_trusting(file, authority, seams).await
    }

    /// As [`Node::start`], in the cluster of `authority`.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_trusting(
        file: &MetadFile,
        authority: Arc<Authority>,
        seams: Seams,
    ) -> Result<Self, Error> {
        let Seams {
            network,
            clock,
            wall,
            mut random,
            raft_seed,
            budget,
            data,
            registry,
        } = seams;
        let mut config = file.node();
        // Before anything is written: an address that is taken is a mistake to be mended.
        let listener = listen(&*network, "listen", &file.listen).await?;
        let admin_listener = listen(&*network, "admin_listen", &file.admin_listen).await?;
        let data = match data {
            Some(data) => data,
            None => {
                DataDirectory::open_member(&config.data, FIRST_GROUP, &mut |bytes| random.fill_bytes(bytes))?
            }
        };
        if !data.blocks() {
            // A simulated disk does not fill up.
            (config.free_mark_bytes, config.ballast_bytes) = (0, 0);
        }
        let identity = Identity::Metad(data.identity().node);
        let credentials = Credentials::issued_by(&authority, identity, wall()).map_err(untrusted)?;
        let credentials = credentials.with_wall_clock(Arc::clone(&wall));
        let client = Client::new(network, credentials.clone(), ClientLimits::default());
        let parts = MetadParts {
            data,
            budget: budget.unwrap_or_else(|| {
                Budget::new(config.cache_bytes, config.write_buffer_bytes)
                    .with_recent_rows(config.recent_bytes)
            }),
            registry: &registry,
            clock,
            random: &mut *random,
            group: group(file),
            peers: Some(Peers {
                client,
                first: file.peers.clone(),
            }),
            raft_seed,
            issuing: Some(Issuing {
                authority: Arc::clone(&authority),
                wall: Arc::clone(&wall),
            }),
        };
        let metrics = CallMetrics::new(&registry)?;
        let metad = Metad::assemble(config, parts).await?;
        let (serving, admin) = (CancellationToken::new(), CancellationToken::new());
        let ready = Arc::new(AtomicBool::new(false));
        let health = health_of(&metad, &ready, registry);
        let router = http::router(&metad, metrics);
        let limits = ServerLimits::default();
        let tasks = vec![
            tokio::spawn(serve(
                listener,
                credentials.clone(),
                router,
                limits,
                serving.clone(),
            )),
            tokio::spawn(keep_issued(credentials, authority, wall, serving.clone())),
            tokio::spawn(await_ready(
                Arc::clone(&metad),
                Arc::clone(&ready),
                serving.clone(),
            )),
        ];
        let admin_task = tokio::spawn(health::serve(admin_listener, health, admin.clone()));
        Ok(Self {
            metad,
            admin,
            serving,
            ready,
            tasks,
            admin_task,
        })
    }

    /// The service itself.
    #[must_use]
    pub fn metad(&self) -> &Arc<Metad> {
        &self.metad
    }

    /// Whether it serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.metad.is_ready()
    }

    /// Stops the node: it is not ready from now on, hands its leadership over, lets what is under way end, and
    /// closes its databases.
    pub async fn stop(self) {
        let Self {
            metad,
            admin,
            serving,
            ready,
            tasks,
            admin_task,
        } = self;
        ready.store(false, Ordering::Release);
        metad.step_down(HAND_OVER_WITHIN).await;
        serving.cancel();
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the node did not end well");
            }
        }
        admin.cancel();
        if let Err(error) = admin_task.await {
            tracing::error!(%error, "the health page did not end well");
        }
        metad.shutdown().await;
    }

    /// Ends the node without a word to anybody, as a crash would, but that its databases are let go of.
    pub async fn abandon(self) {
        self.serving.cancel();
        self.admin.cancel();
        for task in self.tasks.into_iter().chain([self.admin_task]) {
            task.abort();
            // That it was cut off is the point.
            drop(task.await);
        }
        self.metad.shutdown().await;
    }
}

async fn listen(network: &dyn Network, key: &'static str, address: &str) -> Result<Box<dyn Listener>, Error> {
    let listener = network.listen(address).await;
    listener.map_err(|error| Error::Setting {
        key,
        reason: format!("cannot listen at {address}: {error}"),
    })
}

fn group(file: &MetadFile) -> GroupConfig {
    let defaults = GroupConfig::member(file.advertised().to_owned());
    let raft = &file.raft;
    GroupConfig {
        heartbeat_ms: raft.heartbeat_ms.unwrap_or(defaults.heartbeat_ms),
        election_min_ms: raft.election_min_ms.unwrap_or(defaults.election_min_ms),
        election_max_ms: raft.election_max_ms.unwrap_or(defaults.election_max_ms),
        snapshot_after_bytes: raft.snapshot_after_bytes.unwrap_or(defaults.snapshot_after_bytes),
        keep_log_bytes: raft.keep_log_bytes.unwrap_or(defaults.keep_log_bytes),
        ..defaults
    }
}

fn health_of(metad: &Arc<Metad>, ready: &Arc<AtomicBool>, registry: Registry) -> Health {
    // Weak: whoever looks at the health page must not keep the databases open.
    let (of_live, of_ready) = (Arc::downgrade(metad), Arc::downgrade(metad));
    let ready = Arc::clone(ready);
    let is_live = move || of_live.upgrade().is_some_and(|metad| metad.is_live());
    let is_ready =
        move || ready.load(Ordering::Acquire) && of_ready.upgrade().is_some_and(|metad| metad.is_ready());
    let said = |holds: bool, otherwise| if holds { Ok(()) } else { Err(otherwise) };
    Health::new(registry, move || {
        said(
            is_ready(),
            "no leader is known, or not caught up with it, or stopping",
        )
    })
    .living(move || said(is_live(), "a part of this node has stopped"))
}

/// Says that the node is ready once it has caught up with its cluster.
async fn await_ready(metad: Arc<Metad>, ready: Arc<AtomicBool>, stop: CancellationToken) {
    loop {
        let caught_up = tokio::select! {
            () = stop.cancelled() => return,
            caught_up = metad.group.ready(READY_WITHIN) => caught_up,
        };
        match caught_up {
            Ok(()) => {
                tracing::info!(node = format!("{:016x}", metad.node()), cluster = %metad.cluster(), "this node serves");
                ready.store(true, Ordering::Release);
                return;
            }
            Err(Error::Stopped { reason }) => {
                tracing::error!(reason, "this node's group has stopped");
                return;
            }
            Err(error) => tracing::warn!(%error, "this node still waits for its cluster"),
        }
    }
}

fn untrusted(error: TrustError) -> Error {
    Error::Setting {
        key: "cluster_secret_file",
        reason: error.to_string(),
    }
}

impl MetadFile {
    /// The node's own settings.
    fn node(&self) -> MetadConfig {
        let mut config = MetadConfig::new(self.data.clone()).in_its_own_process();
        self.advertised().clone_into(&mut config.advertise);
        let vendors = &self.vendors;
        config.heartbeat_ms = vendors.heartbeat_ms.unwrap_or(config.heartbeat_ms);
        config.stale_ms = vendors.stale_ms.unwrap_or(config.stale_ms);
        config.dead_ms = vendors.dead_ms.unwrap_or(config.dead_ms);
        config
    }
}
