//! One listener: accepts connections, bounds them, speaks HTTP/1.1 on each, and ends them gracefully. What
//! a request means is not known here.

use super::answer::AnswerBody;
use super::io::WatchedStream;
use super::limits::{
    ACCEPT_PAUSE, CONNECTION_BUFFER_BYTES, CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_WAIT, SHUTDOWN_GRACE,
};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Whoever answers the requests of a listener.
pub(crate) trait Answers: Send + Sync + 'static {
    /// Answers one request that came from `peer`. Dropped when the client is gone.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> impl Future<Output = Response<AnswerBody>> + Send;
}

/// Serves `listener` until `shutdown`; then requests in progress have [`SHUTDOWN_GRACE`] to end.
pub(super) async fn serve<A: Answers>(
    listener: TcpListener,
    answers: Arc<A>,
    connections: IntGauge,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let cut = CancellationToken::new();
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, peer, slot)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let open = OpenConnection::new(connections.clone());
        let answers = Arc::clone(&answers);
        let (shutdown, cut) = (shutdown.clone(), cut.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = connection(stream, peer, answers, shutdown) => {}
                () = cut.cancelled() => {}
            }
            drop((open, slot));
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(SHUTDOWN_GRACE, tasks.wait()).await.is_err() {
        warn!("requests still in progress are cut");
        cut.cancel();
        tasks.wait().await;
    }
}

/// A connection, who is at its other end, and its slot; `None` when the kernel refuses, after saying so.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        // An IPv4 client of a socket for both comes as an IPv6 address, which no policy would name.
        Ok((stream, peer)) => Some((stream, peer.ip().to_canonical(), slot)),
        Err(error) => {
            warn!(%error, "cannot accept a connection");
            None
        }
    }
}

async fn connection<A: Answers>(
    stream: TcpStream,
    peer: IpAddr,
    answers: Arc<A>,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.answer(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        // Twice as many, so that slightly too many still get the protocol layer's answer.
        .max_headers(2 * crate::s3::limits::HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(WatchedStream::new(stream)), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a connection broke off");
    }
}

/// Counts a connection while it is open.
struct OpenConnection(IntGauge);

impl OpenConnection {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
