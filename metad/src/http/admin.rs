//! Health and metrics over plain HTTP: the only routes that nobody has to prove anything for. They say nothing of
//! what is stored.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{Registry, TextEncoder};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use ullage_transport::network::Listener;

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// How long a request's head may take to come.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest life of a connection.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
/// How long to wait after the operating system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the node does.
#[derive(Clone)]
pub(crate) struct Health {
    /// Whether it need not be restarted.
    pub(crate) live: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Whether it serves.
    pub(crate) ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

fn router(registry: Registry, health: Health) -> Router {
    let says = |holds: Arc<dyn Fn() -> bool + Send + Sync>| {
        get(move || async move {
            if holds() {
                (StatusCode::OK, "ok\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not now\n")
            }
        })
    };
    Router::new()
        .route("/health/live", says(health.live))
        .route("/health/ready", says(health.ready))
        .route("/metrics", get(move || async move { metrics(&registry) }))
}

fn metrics(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Serves health and metrics until `stop`.
pub(crate) async fn serve_admin(
    mut listener: Box<dyn Listener>,
    registry: Registry,
    health: Health,
    stop: CancellationToken,
) {
    let router = router(registry, health);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(room) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
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
                () = stop.cancelled() => {}
                // How a scrape ends is the scraper's business.
                _ = tokio::time::timeout(CONNECTION_LIFE, connection) => {}
            }
            drop(room);
        });
    }
}
