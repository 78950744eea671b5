//! Health and metrics over plain HTTP, for a service's operators and their monitoring: the only routes that nobody
//! has to prove anything for. They say nothing of what is stored.

use crate::network::Listener;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{Registry, TextEncoder};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Whether a service need not be restarted.
pub const LIVE: &str = "/health/live";
/// Whether a service does its work.
pub const READY: &str = "/health/ready";
/// A service's figures, in Prometheus' text format.
pub const METRICS: &str = "/metrics";
/// The routes here, all of them.
pub const PUBLIC_ROUTES: [&str; 3] = [LIVE, READY, METRICS];

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// How long a request's head may take to come.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest life of a connection.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
/// How long to wait after the operating system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Says that something holds, or in words why not.
type Question = Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

/// How a service does.
#[derive(Clone)]
pub struct Health {
    live: Question,
    ready: Question,
    registry: Registry,
}

impl Health {
    /// Answers of a service that is always live, is ready while `ready` says so, and keeps its figures in `registry`.
    #[must_use]
    pub fn new(
        registry: Registry,
        ready: impl Fn() -> Result<(), &'static str> + Send + Sync + 'static,
    ) -> Self {
        Self {
            live: Arc::new(|| Ok(())),
            ready: Arc::new(ready),
            registry,
        }
    }

    /// The same, live only while `live` says so.
    #[must_use]
    pub fn living(mut self, live: impl Fn() -> Result<(), &'static str> + Send + Sync + 'static) -> Self {
        self.live = Arc::new(live);
        self
    }

    fn router(self) -> Router {
        let Self {
            live,
            ready,
            registry,
        } = self;
        Router::new()
            .route(LIVE, get(move || async move { says("live\n", live()) }))
            .route(READY, get(move || async move { says("ready\n", ready()) }))
            .route(METRICS, get(move || async move { figures(&registry) }))
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

fn says(yes: &'static str, answer: Result<(), &'static str>) -> Response {
    match answer {
        Ok(()) => (StatusCode::OK, yes).into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

fn figures(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Serves [`PUBLIC_ROUTES`] until `stop`.
pub async fn serve(mut listener: Box<dyn Listener>, health: Health, stop: CancellationToken) {
    let router = health.router();
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(room) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for health and metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let stop = stop.clone();
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // How a scrape ends is the scraper's business.
                _ = tokio::time::timeout(CONNECTION_LIFE, connection) => {}
            }
            drop(room);
        });
    }
}
