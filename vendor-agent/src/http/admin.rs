//! Health and metrics over plain HTTP, for the machine's operators and their monitoring.

use crate::agent::Agent;
use crate::error::AgentError;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use ullage_transport::network::{BoxStream, Listener};

/// Pause after the operating system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What health and metrics are read from. The agent comes when it has been opened.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) agent: Arc<OnceLock<Arc<Agent>>>,
    pub(crate) registry: Registry,
}

/// Serves `/health/live`, `/health/ready` and `/metrics` until `stop`.
pub(crate) async fn serve(listener: Box<dyn Listener>, admin: Admin, stop: CancellationToken) {
    let (of_ready, of_metrics) = (admin.clone(), admin);
    let router = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(move || async move { ready(&of_ready) }))
        .route("/metrics", get(move || async move { metrics(&of_metrics) }));
    let served = axum::serve(Accepting(listener), router);
    tokio::select! {
        biased;
        // Ends by the token only.
        _ = served.into_future() => {}
        () = stop.cancelled() => {}
    }
}

fn ready(admin: &Admin) -> (StatusCode, &'static str) {
    match admin.agent.get() {
        Some(agent) if agent.is_ready() => (StatusCode::OK, "ready\n"),
        Some(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not yet heard from the metadata service, or stopping\n",
        ),
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
    }
}

fn metrics(admin: &Admin) -> axum::response::Response {
    let text = TextEncoder::new().encode_to_string(&admin.registry.gather());
    match text.map_err(AgentError::from) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A listener of the network's as axum wants it.
struct Accepting(Box<dyn Listener>);

impl axum::serve::Listener for Accepting {
    type Io = BoxStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoxStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection for health and metrics");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_address()
    }
}
