//! The agent as a service: its addresses, its credentials, and everything that runs beside it. Read top-down: how
//! it starts, what it does until it is told to stop, how it ends.

use crate::agent::Agent;
use crate::config::{Config, DeviceConfig};
use crate::device::Device;
use crate::device::data_dir::DataDir;
use crate::enrol::{Enrolled, Enroller, Entry};
use crate::error::AgentError;
use crate::http;
use crate::local_fat::IndexHome;
use crate::network::{NetworkMetad, NetworkPeers};
use crate::probe::{Cookies, respond_forever};
use crate::seams::{AgentSeams, MonotonicClock, SystemClock};
use crate::show::answer_forever;
use crate::sync::lock;
use crate::workers::Workers;
use futures::FutureExt as _;
use prometheus::Registry;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use ullage_transport::client::{Client, ClientLimits};
use ullage_transport::credentials::{Credentials, Renewed, WallClock, keep_renewed};
use ullage_transport::health;
use ullage_transport::network::{Datagrams, Listener, Network};
use ullage_transport::server::{ServerLimits, serve};

/// How long chunks under way have to end after the stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How often it is looked whether the metadata nodes have moved.
const ADDRESSES_PERIOD: Duration = Duration::from_secs(2);

/// Makes 32 random bytes.
pub type Randomness = Arc<dyn Fn() -> [u8; 32] + Send + Sync>;

/// What reaches the service from outside.
pub struct RunSeams {
    /// The network.
    pub network: Arc<dyn Network>,
    /// A clock that only goes forward.
    pub clock: Arc<dyn MonotonicClock>,
    /// The wall clock, for the life of certificates only.
    pub wall: WallClock,
    /// Makes keys.
    pub random: Randomness,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Where the index of the local FAT lies.
    pub index: IndexHome,
    /// Devices instead of those of the configuration (class and device): for tests and simulation.
    pub devices: Option<Vec<(String, Arc<dyn Device>)>>,
    /// What does the work that may block.
    pub workers: Workers,
    /// Devices as the configuration names them when it is read again.
    pub new_devices: Option<mpsc::Receiver<Vec<DeviceConfig>>>,
}

impl RunSeams {
    /// The real things, but for what makes keys.
    #[must_use]
    pub fn real(network: Arc<dyn Network>, random: Randomness, registry: Registry) -> Self {
        Self {
            network,
            clock: Arc::new(SystemClock::default()),
            wall: Arc::new(SystemTime::now),
            random,
            registry,
            index: IndexHome::OnDisk,
            devices: None,
            workers: Workers::Threads,
            new_devices: None,
        }
    }
}

/// Runs the agent until `stop`: then no more chunks are taken, those under way end, and everything is written out.
///
/// # Errors
/// When the configuration is bad, an address or the data directory cannot be used, or the cluster will not have
/// this vendor.
pub async fn run(config: Config, seams: RunSeams, stop: CancellationToken) -> Result<(), AgentError> {
    match Service::start(config, seams, stop).await {
        Ok(service) => service.ended().await,
        Err(AgentError::Stopped) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A running agent with its doors open.
pub struct Service {
    agent: Arc<Agent>,
    address: SocketAddr,
    admin_address: SocketAddr,
    serving: JoinHandle<()>,
    running: JoinSet<Result<(), AgentError>>,
    stop: CancellationToken,
    end_agent: watch::Sender<bool>,
}

/// The addresses at which the service is reached, taken before anything else.
struct Doors {
    services: Box<dyn Listener>,
    probes: Box<dyn Datagrams>,
    admin: Box<dyn Listener>,
}

impl Service {
    /// Takes the addresses, opens the data directory, enrols if need be, opens the devices and begins to serve.
    /// Chunks are refused until the metadata service has been heard.
    ///
    /// # Errors
    /// As [`run`]; [`AgentError::Stopped`] when `stop` came before.
    pub async fn start(
        mut config: Config,
        seams: RunSeams,
        stop: CancellationToken,
    ) -> Result<Self, AgentError> {
        let doors = Doors::open(&config, seams.network.as_ref()).await?;
        let address = local(&config.listen, doors.services.local_address())?;
        let admin_address = local(&config.admin_listen, doors.admin.local_address())?;
        config.advertise = advertised(&config, address)?;
        let known = Arc::new(OnceLock::new());
        let mut running = JoinSet::new();
        let health = http::admin::health(Arc::clone(&known), seams.registry.clone());
        running.spawn(health::serve(doors.admin, health, stop.clone()).map(Ok));
        let entering = enter(config, seams);
        let entered = tokio::select! {
            biased;
            entered = entering => entered?,
            () = stop.cancelled() => return Err(AgentError::Stopped),
        };
        let agent = Arc::clone(&entered.agent);
        // Set here only.
        let _ = known.set(Arc::clone(&agent));
        let cookies = Arc::new(Cookies::new(entered.cookie_key, entered.clock));
        let router = http::api(Arc::clone(&agent), Arc::clone(&cookies)).into_router();
        let limits = ServerLimits {
            drain: DRAIN,
            ..ServerLimits::default()
        };
        let credentials = entered.credentials.clone();
        let serving = serve(doors.services, credentials, router, limits, stop.clone());
        let serving = tokio::spawn(serving);
        running.spawn(until(stop.clone(), respond_forever(doors.probes, cookies)));
        let renewing = keep_enrolled(
            entered.credentials,
            entered.enroller,
            Arc::downgrade(&agent),
            entered.wall,
            stop.clone(),
        );
        running.spawn(renewing.map(Ok));
        if let Some(new_devices) = entered.new_devices {
            running.spawn(until(
                stop.clone(),
                take_settings(Arc::clone(&agent), new_devices),
            ));
        }
        running.spawn(until(stop.clone(), keep_addresses(Arc::clone(&agent))));
        if agent.workers == Workers::Threads {
            running.spawn(until(stop.clone(), answer_forever(Arc::clone(&agent))));
        }
        let (end_agent, ending) = watch::channel(false);
        running.spawn(Arc::clone(&agent).run(ending));
        Ok(Self {
            agent,
            address,
            admin_address,
            serving,
            running,
            stop,
            end_agent,
        })
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Where services reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Waits for the stop, or for the agent to fail; then lets everything end in order.
    ///
    /// # Errors
    /// Why the agent could not go on, or could not write everything out.
    pub async fn ended(mut self) -> Result<(), AgentError> {
        let failed = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            failed = first_error(&mut self.running) => failed,
        };
        self.agent.refuse();
        self.stop.cancel();
        if self.serving.await.is_err() {
            tracing::error!("the server of chunks panicked");
        }
        self.agent.wait_idle(DRAIN).await;
        self.end_agent.send_replace(true);
        let ended = first_error(&mut self.running).await;
        failed.and(ended)
    }
}

impl Doors {
    async fn open(config: &Config, network: &dyn Network) -> Result<Self, AgentError> {
        let failed = |address: &str| {
            let address = address.to_owned();
            move |source| AgentError::Listen { address, source }
        };
        let services = network
            .listen(&config.listen)
            .await
            .map_err(failed(&config.listen))?;
        // The same number, whichever the system chose.
        let probed = local(&config.listen, services.local_address())?.to_string();
        let probes = network.datagrams(&probed).await.map_err(failed(&probed))?;
        let admin = network
            .listen(&config.admin_listen)
            .await
            .map_err(failed(&config.admin_listen))?;
        Ok(Self {
            services,
            probes,
            admin,
        })
    }
}

fn local(address: &str, found: std::io::Result<SocketAddr>) -> Result<SocketAddr, AgentError> {
    found.map_err(|source| AgentError::Listen {
        address: address.to_owned(),
        source,
    })
}

/// Where others reach the agent.
fn advertised(config: &Config, bound: SocketAddr) -> Result<String, AgentError> {
    let anywhere = match bound.ip() {
        IpAddr::V4(ip) => ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    match config.advertise.as_str() {
        "" if anywhere => Err(AgentError::Config {
            key: "advertise",
            reason: format!(
                "must say where others reach this agent: {} is every address of this machine",
                config.listen
            ),
        }),
        "" => Ok(bound.to_string()),
        advertise => Ok(advertise.to_owned()),
    }
}

/// An agent that has its place in the cluster.
struct Entered {
    agent: Arc<Agent>,
    credentials: Credentials,
    enroller: Enroller,
    cookie_key: [u8; 32],
    clock: Arc<dyn MonotonicClock>,
    wall: WallClock,
    new_devices: Option<mpsc::Receiver<Vec<DeviceConfig>>>,
}

/// Opens the data directory, gets credentials, opens the devices.
async fn enter(config: Config, seams: RunSeams) -> Result<Entered, AgentError> {
    let workers = seams.workers;
    let random = Arc::clone(&seams.random);
    let path = config.data.clone();
    let mut data_dir = workers
        .blocking(move || DataDir::open(&path, move || random()))
        .await??;
    let entry = Entry::read(&config, &data_dir)?;
    let network = Arc::clone(&seams.network);
    let key = data_dir.key().clone();
    let seed = number(&seams.random);
    let enroller = entry.enroller(&config, key, network, &seams.wall, seed)?;
    let mut addresses = entry.addresses.clone();
    let (credentials, new) = entry.credentials(&enroller, &seams.wall).await?;
    if let Some(enrolled) = new {
        addresses.extend(enrolled.reply.metad.iter().cloned());
        data_dir = workers.blocking(move || keep(data_dir, &enrolled)).await??;
    }
    let credentials = credentials.with_wall_clock(Arc::clone(&seams.wall));
    let client = Client::new(
        Arc::clone(&seams.network),
        credentials.clone(),
        ClientLimits::default(),
    );
    let clock = Arc::clone(&seams.clock);
    let cookie_key = (seams.random)();
    let parts = AgentSeams {
        clock: seams.clock,
        metad: Arc::new(NetworkMetad::new(
            client.clone(),
            addresses,
            number(&seams.random),
        )),
        peers: Arc::new(NetworkPeers::new(client)),
        index: seams.index,
        registry: seams.registry,
        devices: seams.devices,
        workers,
    };
    let opening = move || Agent::open_in(config, data_dir, parts);
    let agent = workers.blocking(opening).await??;
    Ok(Entered {
        agent,
        credentials,
        enroller,
        cookie_key,
        clock,
        wall: seams.wall,
        new_devices: seams.new_devices,
    })
}

/// Keeps what an enrolment brought: first of all whose vendor this is, so that a directory of another cluster
/// never gets credentials of this one.
fn keep(mut data_dir: DataDir, enrolled: &Enrolled) -> Result<DataDir, AgentError> {
    let registered = &enrolled.reply.registered;
    data_dir.bind(registered.cluster, registered.vendor)?;
    data_dir.save_credentials(&enrolled.stored)?;
    tracing::info!(vendor = %registered.vendor, cluster = %registered.cluster, "enrolled");
    Ok(data_dir)
}

fn number(random: &Randomness) -> u64 {
    let bytes = random();
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Renews the certificate at half of its life, by the registered key.
async fn keep_enrolled(
    credentials: Credentials,
    enroller: Enroller,
    agent: Weak<Agent>,
    wall: WallClock,
    stop: CancellationToken,
) {
    let renew = move || {
        let (enroller, agent) = (enroller.clone(), agent.upgrade());
        async move {
            let agent = agent.ok_or("the agent has ended")?;
            let looked = Arc::clone(&agent);
            let devices = agent.workers.blocking(move || looked.devices.reports()).await?;
            let enrolled = enroller.enrol(None, devices).await?;
            let (kept, credentials) = (Arc::clone(&agent), enrolled.credentials);
            let stored = enrolled.stored;
            let keeping = move || lock(&kept.data_dir).save_credentials(&stored);
            agent.workers.blocking(keeping).await??;
            Ok(credentials)
        }
        .map(|renewed: Renewed| renewed)
        .boxed()
    };
    keep_renewed(credentials, wall, stop, renew).await;
}

/// Keeps where the metadata nodes are, so that a start finds them when all have moved since the enrolment.
async fn keep_addresses(agent: Arc<Agent>) {
    let mut kept = Vec::new();
    loop {
        sleep(ADDRESSES_PERIOD).await;
        let heard = agent.others.metad();
        if heard.is_empty() || heard == kept {
            continue;
        }
        let (keeper, addresses) = (Arc::clone(&agent), heard.clone());
        let keeping = move || lock(&keeper.data_dir).save_addresses(addresses);
        match agent.workers.blocking(keeping).await.and_then(|kept| kept) {
            Ok(()) => kept = heard,
            Err(error) => tracing::warn!(%error, "cannot keep the addresses of the metadata nodes"),
        }
    }
}

/// Takes over the settings of devices whenever they are read again.
async fn take_settings(agent: Arc<Agent>, mut new_devices: mpsc::Receiver<Vec<DeviceConfig>>) {
    while let Some(devices) = new_devices.recv().await {
        match agent.set_devices(devices).await {
            Ok(()) => tracing::info!("settings of devices taken over"),
            Err(error) => tracing::error!(%error, "settings of devices cannot be taken over"),
        }
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) -> Result<(), AgentError> {
    tokio::select! {
        biased;
        () = work => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}

/// The first error of what runs; nothing when all has ended well.
async fn first_error(running: &mut JoinSet<Result<(), AgentError>>) -> Result<(), AgentError> {
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(ended) => ended?,
            Err(error) => {
                return Err(AgentError::Index(format!(
                    "a part of the agent panicked: {error}"
                )));
            }
        }
    }
    Ok(())
}
