//! The gateway's two listeners: S3 for everybody's clients, the admin API for operators. Connections, the
//! order in which a request is checked, and answers live here; what operations do is in [`crate::ops`] and
//! [`crate::admin`].

mod answer;
mod body;
mod form;
mod io;
mod late;
pub(crate) mod limits;
pub(crate) mod listener;
pub mod metrics;
mod pipeline;

use crate::admin::{AdminApi, LocalFats};
use crate::environment::{Clock, Randomness};
use crate::memory::Budget;
use crate::s3::{Endpoint, SigningKeys};
use crate::store::Store;
use metrics::ServerMetrics;
use pipeline::S3Api;
use prometheus::Registry;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub(crate) use answer::{AnswerBody, ObjectBytes};
pub(crate) use body::{ByteSource, DecodedBody, RequestBody, document_memory};
pub(crate) use form::{FORM_MEMORY, Form, boundary};
pub(crate) use late::Progress;
pub use limits::ANSWER_PATIENCE;

/// The key pair that may do everything.
#[derive(Clone)]
pub struct RootKeys {
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: Zeroizing<String>,
}

impl fmt::Debug for RootKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootKeys")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Settings of the listeners.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The region that requests are signed for, e.g. `us-east-1`.
    pub region: String,
    /// Domains under which buckets are virtual hosts; none = path style only.
    pub domains: Vec<String>,
    /// The root keys.
    pub root: RootKeys,
    /// How long a client waits for the head of an answer that may take long, and for each byte behind it:
    /// [`ANSWER_PATIENCE`] but in tests.
    pub answer_patience: Duration,
}

/// The two sockets, bound already.
#[derive(Debug)]
pub struct Listeners {
    /// S3.
    pub s3: TcpListener,
    /// Admin API, health and metrics.
    pub admin: TcpListener,
}

/// Whether the gateway can serve: set by whoever composes the process.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that it can, or cannot any more.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether it can.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The data path, as soon as there is one: a gateway listens before the metadata service has answered it.
#[derive(Clone, Debug, Default)]
pub struct StoreSlot(Arc<OnceLock<Arc<Store>>>);

impl StoreSlot {
    /// Puts it there; only the first one counts.
    pub fn fill(&self, store: Arc<Store>) {
        // A second one would be a mistake of whoever composes the process, and changes nothing.
        let _ = self.0.set(store);
    }

    /// The data path, if it is there.
    #[must_use]
    pub fn get(&self) -> Option<&Arc<Store>> {
        self.0.get()
    }
}

impl From<Arc<Store>> for StoreSlot {
    fn from(store: Arc<Store>) -> Self {
        let slot = Self::default();
        slot.fill(store);
        slot
    }
}

/// What the listeners need of the rest of the process.
#[derive(Debug)]
pub struct ServerParts {
    /// The data path.
    pub store: StoreSlot,
    /// The vendors' own tables, where this process can ask for them.
    pub local_fats: Arc<dyn LocalFats>,
    /// What `/metrics` shows; the listeners' own figures are registered in it.
    pub registry: Registry,
    /// Whether S3 is served; until then it answers 503.
    pub ready: Readiness,
    /// Clock: signatures are judged by its wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness: ids of requests.
    pub random: Arc<dyn Randomness>,
}

/// Serves both listeners until `shutdown`, and for a bounded time on what is in progress then.
///
/// # Errors
/// When the figures are registered already.
pub async fn run(
    listeners: Listeners,
    settings: ServerSettings,
    parts: ServerParts,
    shutdown: CancellationToken,
) -> prometheus::Result<()> {
    let metrics = Arc::new(ServerMetrics::new(&parts.registry)?);
    let shared = Arc::new(Shared {
        endpoint: Endpoint::new(&settings.domains),
        region: settings.region,
        root: settings.root,
        signing_keys: SigningKeys::new(),
        answer_patience: settings.answer_patience,
        listings: Budget::new(limits::LISTING_MEMORY, "memory for listings is used up"),
        store: parts.store,
        ready: parts.ready,
        clock: parts.clock,
        random: parts.random,
    });
    let s3 = Arc::new(S3Api::new(Arc::clone(&shared), Arc::clone(&metrics)));
    let admin = Arc::new(AdminApi::new(
        shared,
        parts.local_fats,
        parts.registry,
        metrics.admin_received.clone(),
    ));
    let connections = (metrics.s3_connections.clone(), metrics.admin_connections.clone());
    tokio::join!(
        listener::serve(listeners.s3, s3, connections.0, shutdown.clone()),
        listener::serve(listeners.admin, admin, connections.1, shutdown),
    );
    Ok(())
}

/// What both APIs use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) region: String,
    pub(crate) root: RootKeys,
    pub(crate) signing_keys: SigningKeys,
    answer_patience: Duration,
    /// Memory for listings.
    pub(crate) listings: Budget,
    store: StoreSlot,
    ready: Readiness,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Randomness>,
}

impl Shared {
    /// The data path, if S3 is served now.
    pub(crate) fn serving(&self) -> Option<&Arc<Store>> {
        self.store.get().filter(|_| self.ready.get())
    }

    /// The data path, if there is one, whether S3 is served or not.
    pub(crate) fn store(&self) -> Option<&Arc<Store>> {
        self.store.get()
    }

    /// Whether requests can be expected to succeed.
    pub(crate) fn is_ready(&self) -> bool {
        self.serving().is_some_and(|store| store.is_ready())
    }
}
