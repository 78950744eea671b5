//! The services of a standalone store: started in the order in which they need each other, stopped in the
//! other.

use super::in_process::{DirectAgents, DirectMetad};
use super::layout::Layout;
use super::settings::Settings;
use super::vendor_metrics::VendorMetrics;
use anyhow::{Context, bail};
use prometheus::Registry;
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ullage_gateway::config::GatewayConfig;
use ullage_gateway::environment::{SystemClock, SystemRandomness};
use ullage_gateway::kek::Kek;
use ullage_gateway::metrics::Metrics;
use ullage_gateway::server::{
    self, ANSWER_PATIENCE, Listeners, Readiness, RootKeys, ServerParts, ServerSettings,
};
use ullage_gateway::store::{Store, StoreParts};
use ullage_metad::config::MetadConfig;
use ullage_metad::service::Metad;
use ullage_metad::store::Budget;
use ullage_model::ids::ClusterId;
use ullage_vendor_agent::local_fat::{IndexHome, IndexMemory};
use ullage_vendor_agent::{Agent, Config as AgentConfig, DeviceConfig, Seams, Workers};

/// Memory that all RocksDBs of the process share for blocks and for rows not yet flushed, in bytes.
const DATABASE_MEMORY: usize = 64 * 1024 * 1024;
/// How long agents have to replay, register and reconcile before the start is given up.
const AGENTS_READY_WITHIN: Duration = Duration::from_secs(600);
/// How often the agents are looked at while they start.
const AGENTS_POLL: Duration = Duration::from_millis(2);
/// How often the metadata service is looked at while all is well.
const METAD_POLL: Duration = Duration::from_secs(1);
/// How long requests in progress have to end when the process is told to stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Running services.
pub struct Services {
    metad: Arc<Metad>,
    agents: DirectAgents,
    store: Arc<Store>,
    tasks: JoinSet<anyhow::Result<()>>,
    stop_agents: watch::Sender<bool>,
    stop_server: CancellationToken,
    readiness: Readiness,
    addresses: (SocketAddr, SocketAddr),
}

impl Services {
    /// Starts everything; the S3 endpoint answers when this returns.
    ///
    /// # Errors
    /// When a part cannot start; its data directory then says which.
    pub async fn start(settings: &Settings, layout: &Layout) -> anyhow::Result<Self> {
        let listeners = Listeners {
            s3: bind("--listen", settings.listen).await?,
            admin: bind("--admin-listen", settings.admin_listen).await?,
        };
        let addresses = (listeners.s3.local_addr()?, listeners.admin.local_addr()?);
        let kek = Kek::read(&layout.kek()).context("cannot read the key-encryption key (KEK)")?;
        let registry = Registry::new();
        let memory = IndexMemory::new(DATABASE_MEMORY);
        let metad = start_metad(settings, layout, &memory, &registry).await?;

        let mut tasks = JoinSet::new();
        let stop_agents = watch::Sender::new(false);
        let agents = DirectAgents::default();
        let opened = open_agents(layout, &metad, &agents, &memory, &registry).await?;
        agents.set(opened);
        for agent in agents.all().iter() {
            let (agent, stop) = (Arc::clone(agent), stop_agents.subscribe());
            tasks.spawn(async move { agent.run(stop).await.context("a vendor agent ended") });
        }
        wait_until_ready(&agents, &mut tasks).await?;

        let store = start_store(settings, kek, &metad, &agents, &registry).await?;
        let (readiness, stop_server) = (Readiness::default(), CancellationToken::new());
        readiness.set(true);
        let server_settings = ServerSettings {
            region: settings.region.clone(),
            domains: settings.domain.iter().cloned().collect(),
            root: RootKeys {
                access_key: layout.credentials.access_key.clone(),
                secret_key: layout.credentials.secret_key.clone().into(),
            },
            answer_patience: ANSWER_PATIENCE,
        };
        let parts = ServerParts {
            store: Arc::clone(&store).into(),
            local_fats: Arc::new(agents.clone()),
            registry,
            ready: readiness.clone(),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandomness),
        };
        let stop = stop_server.clone();
        tasks.spawn(async move {
            server::run(listeners, server_settings, parts, stop)
                .await
                .context("the gateway ended")
        });
        Ok(Self {
            metad,
            agents,
            store,
            tasks,
            stop_agents,
            stop_server,
            readiness,
            addresses,
        })
    }

    /// Where S3 is served.
    pub fn s3_address(&self) -> SocketAddr {
        self.addresses.0
    }

    /// Where the admin API is served.
    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.1
    }

    /// Waits until a service ends by itself, which none should. A metadata service that has stopped for good
    /// (its disk failed) counts: nothing can be stored any more, and a restart is what helps.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        let stopped = async {
            while self.metad.is_ready() {
                tokio::time::sleep(METAD_POLL).await;
            }
        };
        tokio::select! {
            ended = self.tasks.join_next() => match ended {
                Some(ended) => ended.context("a service panicked")?.and(Err(anyhow::anyhow!("a service ended"))),
                None => bail!("no service is running"),
            },
            () = stopped => bail!(
                "the metadata service has stopped; look for the failure in the log above, mend it, and start again"
            ),
        }
    }

    /// Stops everything: requests in progress end, the session gives its room back, disks are synced.
    pub async fn shutdown(mut self) {
        self.readiness.set(false);
        self.stop_server.cancel();
        // The gateway's task ends by itself; the agents' go on, because requests need them to end.
        let drained = async {
            while self.tasks.len() > self.agents.all().len() && self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err() {
            tracing::warn!("requests were cut that did not end in time");
        }
        if let Err(error) = self.store.shutdown().await {
            tracing::warn!(%error, "the session was not ended; it ends by itself");
        }
        self.stop_agents.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::warn!("{error:#}");
            }
        }
        let agents = self.agents.set(Vec::new());
        let closing = tokio::task::spawn_blocking(move || {
            for agent in agents.iter() {
                if let Err(error) = agent.close() {
                    tracing::warn!(%error, "an agent's index was not flushed; its next start replays more");
                }
            }
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "the agents did not close in good order");
        }
        drop(self.store);
        self.metad.shutdown().await;
    }
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{flag} {address}: cannot listen there"))
}

async fn start_metad(
    settings: &Settings,
    layout: &Layout,
    memory: &IndexMemory,
    registry: &Registry,
) -> anyhow::Result<Arc<Metad>> {
    let config = MetadConfig {
        first_copies: settings.copies,
        ..MetadConfig::new(layout.metad())
    };
    let budget = Budget::shared(memory.cache.clone(), memory.write_buffers.clone());
    let budget = budget.with_recent_rows(config.recent_bytes);
    let clock = Arc::new(ullage_metad::clock::SystemClock::default());
    let mut random = OsRng.unwrap_err();
    Metad::start(config, budget, registry, clock, &mut random)
        .await
        .context("cannot start the metadata service")
}

async fn open_agents(
    layout: &Layout,
    metad: &Arc<Metad>,
    peers: &DirectAgents,
    memory: &IndexMemory,
    registry: &Registry,
) -> anyhow::Result<Vec<Arc<Agent>>> {
    let mut agents = Vec::new();
    for number in 1..=layout.settled.vendors {
        let name = format!("v{number}");
        let of_vendor = VendorMetrics::register(registry, &name)?;
        let seams = Seams {
            clock: Arc::new(ullage_vendor_agent::SystemClock::default()),
            key_seed: Box::new(random_seed),
            metad: Arc::new(DirectMetad(Arc::clone(metad))),
            peers: Arc::new(peers.clone()),
            index: IndexHome::Sharing(memory.clone()),
            registry: of_vendor,
            devices: None,
            workers: Workers::Threads,
        };
        let config = agent_config(layout, metad.cluster(), number, name);
        let opened = tokio::task::spawn_blocking(move || Agent::open(config, seams)).await;
        let opened = opened.context("opening a vendor panicked")?;
        agents.push(opened.with_context(|| format!("cannot start vendor v{number}"))?);
    }
    Ok(agents)
}

fn agent_config(layout: &Layout, cluster: ClusterId, number: u32, name: String) -> AgentConfig {
    let devices = (1..=layout.settled.devices_per_vendor).map(|device| DeviceConfig {
        path: layout.device(number, device),
        capacity: layout.settled.device_capacity,
        class: "ssd".to_owned(),
    });
    AgentConfig {
        owner: "standalone".to_owned(),
        zone: name.clone(),
        cluster: Some(cluster),
        // It listens nowhere: who calls it is in the same process.
        listen: String::new(),
        // What is in flight here are the gateway's own buffers, not copies of them: its budget is the bound.
        intake_memory: u64::MAX,
        ..AgentConfig::new(layout.vendor(number), name, devices.collect())
    }
}

fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    rand::RngCore::fill_bytes(&mut OsRng.unwrap_err(), &mut seed);
    seed
}

async fn wait_until_ready(
    agents: &DirectAgents,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + AGENTS_READY_WITHIN;
    while !agents.all().iter().all(|agent| agent.is_ready()) {
        if let Some(ended) = tasks.try_join_next() {
            ended.context("a vendor agent panicked")??;
            bail!("a vendor agent ended while it started");
        }
        if Instant::now() >= deadline {
            bail!(
                "not all vendors were ready within {} s",
                AGENTS_READY_WITHIN.as_secs()
            );
        }
        tokio::time::sleep(AGENTS_POLL).await;
    }
    Ok(())
}

async fn start_store(
    settings: &Settings,
    kek: Kek,
    metad: &Arc<Metad>,
    agents: &DirectAgents,
    registry: &Registry,
) -> anyhow::Result<Arc<Store>> {
    let defaults = GatewayConfig::default();
    let parts = StoreParts {
        name: "standalone".to_owned(),
        metad: Arc::new(DirectMetad(Arc::clone(metad))),
        agents: Arc::new(agents.clone()),
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(SystemRandomness),
        kek,
        metrics: Metrics::register(registry).context("cannot set up the gateway's metrics")?,
        inline_bytes: settings.inline_bytes.unwrap_or(defaults.inline_bytes),
        upload_memory: settings.upload_memory.unwrap_or(defaults.upload_memory),
    };
    Ok(Arc::new(
        Store::start(parts).await.context("cannot start the gateway")?,
    ))
}
