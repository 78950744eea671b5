//! The gateway as a process: its secrets, its certificate, its connections, its session, its listeners; started in
//! the order in which they need each other, stopped in the other.

use crate::config::{GatewayConfig, Secret};
use crate::environment::{Clock, Randomness, SystemClock, SystemRandomness};
use crate::error::Error;
use crate::instance::Instance;
use crate::kek::Kek;
use crate::limits::{CONNECT_WAIT, END_SESSION_WAIT, START_PAUSE, START_SAID_EVERY};
use crate::metrics::Metrics;
use crate::network::{NetworkAgents, NetworkMetad};
use crate::server::{
    self, ANSWER_PATIENCE, Listeners, Readiness, RootKeys, ServerParts, ServerSettings, StoreSlot,
};
use crate::store::{Store, StoreParts};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use prometheus::Registry;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ullage_model::rejection::Rejection;
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::client::{Client, ClientLimits};
use ullage_transport::credentials::{Credentials, keep_issued};
use ullage_transport::identity::Identity;
use ullage_transport::network::{Network, TokioNetwork};

/// What a process gives its gateway, so that a simulator can give something else.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Towards the other services. The listeners for clients are the machine's own.
    pub network: Arc<dyn Network>,
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Randomness>,
    /// Where metrics are registered.
    pub registry: Registry,
}

impl Seams {
    /// The machine's. To be called within a tokio runtime.
    #[must_use]
    pub fn real() -> Self {
        Self {
            network: Arc::new(TokioNetwork),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandomness),
            registry: Registry::new(),
        }
    }
}

/// Runs a gateway until `stop`, then ends it in good order: requests in progress end, the session gives its room
/// back. Listens at once; S3 answers 503 until the metadata service has answered.
///
/// # Errors
/// When settings, files or addresses cannot be used; or when the cluster's data was sealed under another key.
pub async fn run(config: GatewayConfig, seams: Seams, stop: CancellationToken) -> Result<(), Error> {
    config.check()?;
    let root = root_keys(&config)?;
    let kek = Kek::read(required("kek_file", config.kek_file.as_deref())?)?;
    let secret = required("cluster_secret_file", config.cluster_secret_file.as_deref())?;
    let secret = ClusterSecret::read(secret)
        .map_err(|error| Error::Config(format!("cluster_secret_file: {error}")))?;
    let instance = match &config.data {
        Some(data) => Instance::kept(data, &*seams.random)?,
        None => Instance::passing(&*seams.random),
    };
    let connected = connect(&secret, &config.metad, instance.number(), &seams)?;
    let listeners = Listeners {
        s3: bind("listen", config.listen).await?,
        admin: bind("admin_listen", config.admin_listen).await?,
    };
    let (slot, ready) = (StoreSlot::default(), Readiness::default());
    let settings = ServerSettings {
        region: config.region.clone(),
        domains: config.domain.iter().cloned().collect(),
        root,
        answer_patience: ANSWER_PATIENCE,
    };
    let parts = ServerParts {
        store: slot.clone(),
        local_fats: Arc::new(connected.agents.clone()),
        registry: seams.registry.clone(),
        ready: ready.clone(),
        clock: Arc::clone(&seams.clock),
        random: Arc::clone(&seams.random),
    };
    let metrics = Metrics::register(&seams.registry).map_err(|error| Error::Config(error.to_string()))?;
    let store = StoreParts {
        name: format!("{} {:08x}", config.listen, instance.number() >> 32),
        metad: Arc::<NetworkMetad>::clone(&connected.metad) as _,
        agents: Arc::new(connected.agents.clone()),
        clock: Arc::clone(&seams.clock),
        random: Arc::clone(&seams.random),
        kek,
        metrics,
        inline_bytes: config.inline_bytes,
        upload_memory: config.upload_memory,
    };
    tracing::info!(s3 = %config.listen, admin = %config.admin_listen, "the gateway listens");
    let stop_serving = CancellationToken::new();
    let serving = server::run(listeners, settings, parts, stop_serving.clone());
    let life = live(store, &slot, &ready, &stop, &stop_serving);
    let upkeep = connected.upkeep(stop_serving.clone());
    let (served, lived, ()) = tokio::join!(serving, life, upkeep);
    served.map_err(|error| Error::Config(error.to_string()))?;
    // Requests have ended: now the session may.
    if let Some(store) = slot.get() {
        match tokio::time::timeout(END_SESSION_WAIT, store.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the session was not ended; it ends by itself"),
            Err(_) => {
                tracing::warn!("the metadata service did not answer in time; the session ends by itself")
            }
        }
    }
    lived
}

/// Opens the store, says that the gateway is ready, and waits for the end; then new requests are refused.
async fn live(
    parts: StoreParts,
    slot: &StoreSlot,
    ready: &Readiness,
    stop: &CancellationToken,
    stop_serving: &CancellationToken,
) -> Result<(), Error> {
    let opened = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(None),
        opened = open_store(parts) => opened.map(Some),
    };
    let lived = match opened {
        Ok(None) => Ok(()),
        Ok(Some(store)) => {
            slot.fill(store);
            ready.set(true);
            tracing::info!("the gateway is ready");
            stop.cancelled().await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    ready.set(false);
    stop_serving.cancel();
    lived
}

/// Opens the session, however long the metadata service takes to answer.
async fn open_store(parts: StoreParts) -> Result<Arc<Store>, Error> {
    let mut said: Option<Instant> = None;
    loop {
        let error = match Store::start(parts.clone()).await {
            Ok(store) => return Ok(Arc::new(store)),
            Err(error) => error,
        };
        let may_pass = matches!(
            error,
            Error::Unavailable(_)
                | Error::SlowDown(_)
                | Error::OutcomeUnknown(_)
                | Error::SessionLost
                | Error::Rejected(Rejection::Cluster(_))
        );
        if !may_pass {
            return Err(error);
        }
        if said.is_none_or(|said| said.elapsed() >= START_SAID_EVERY) {
            tracing::warn!(%error, "the metadata service does not answer yet; S3 answers 503 until it does");
            said = Some(Instant::now());
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}

/// A gateway's connections to the other services.
#[derive(Debug)]
pub struct Connected {
    /// To the metadata service.
    pub metad: Arc<NetworkMetad>,
    /// To vendor agents.
    pub agents: NetworkAgents,
    credentials: Credentials,
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
}

/// Issues this process a certificate that names `instance`. Nothing is called yet.
///
/// # Errors
/// When the certificate cannot be made, or no address is given.
pub fn connect(
    secret: &ClusterSecret,
    metad: &[String],
    instance: u64,
    seams: &Seams,
) -> Result<Connected, Error> {
    if metad.is_empty() {
        return Err(Error::Config("metad names no address".to_owned()));
    }
    let untrusted = |error: ullage_transport::authority::TrustError| Error::Config(error.to_string());
    let authority = Arc::new(Authority::derive(secret).map_err(untrusted)?);
    let now = wall(&*seams.clock);
    let credentials =
        Credentials::issued_by(&authority, Identity::Gateway(instance), now).map_err(untrusted)?;
    let judging = Arc::clone(&seams.clock);
    let credentials = credentials.with_wall_clock(Arc::new(move || wall(&*judging)));
    let limits = ClientLimits {
        connect: CONNECT_WAIT,
        ..ClientLimits::default()
    };
    let client = Client::new(Arc::clone(&seams.network), credentials.clone(), limits);
    Ok(Connected {
        metad: Arc::new(NetworkMetad::new(
            client.clone(),
            metad.to_vec(),
            Arc::clone(&seams.clock),
            Arc::clone(&seams.random),
        )),
        agents: NetworkAgents::new(
            client,
            Arc::clone(&seams.network),
            Arc::clone(&seams.clock),
            Arc::clone(&seams.random),
        ),
        credentials,
        authority,
        clock: Arc::clone(&seams.clock),
    })
}

impl Connected {
    /// Keeps the certificate and the addresses of the metadata nodes fresh until `stop`.
    pub fn upkeep(&self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(&self.clock);
        let renewing = keep_issued(
            self.credentials.clone(),
            Arc::clone(&self.authority),
            Arc::new(move || wall(&*clock)),
            stop.clone(),
        );
        let metad = Arc::clone(&self.metad);
        async move {
            let following = async {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = metad.follow_members() => {}
                }
            };
            tokio::join!(renewing, following);
        }
        .boxed()
    }
}

fn wall(clock: &dyn Clock) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_millis(clock.wall().0)
}

fn required<'a>(key: &'static str, file: Option<&'a Path>) -> Result<&'a Path, Error> {
    file.ok_or_else(|| Error::Config(format!("{key} is missing")))
}

/// All gateways of a cluster have the same root keys, so none makes its own.
fn root_keys(config: &GatewayConfig) -> Result<RootKeys, Error> {
    match (&config.root_access_key, &config.root_secret_key) {
        (Some(access_key), Some(secret_key)) => Ok(RootKeys {
            access_key: access_key.clone(),
            secret_key: Secret::expose(secret_key).to_owned().into(),
        }),
        _ => Err(Error::Config(
            "root_access_key and root_secret_key are missing: they are the same at all gateways of a cluster"
                .to_owned(),
        )),
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Error::Config(format!("{key} = {address}: cannot listen there: {error}")))
}
