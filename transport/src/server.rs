//! Takes mutually authenticated connections and serves a router on them.

use crate::body::NotEmpty;
use crate::credentials::Credentials;
use crate::handshakes::Handshakes;
use crate::identity::Peer;
use crate::network::{BoxStream, Listener};
use crate::read_ahead::ReadAhead;
use crate::tls;
use futures::TryFutureExt;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest header of a request, in bytes as HTTP/2 counts them.
const HEADER_BYTES: u32 = 16 * 1024;
/// Bytes of one HTTP/2 data frame: what the services send at a time, 256 KiB and some, goes in one.
pub(crate) const FRAME_BYTES: u32 = 260 * 1024;
/// Bytes of a response that may wait for the peer to take them, per stream.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;
/// How long a connection without a certificate may live: enrolment takes less.
const ANONYMOUS_LIFE: Duration = Duration::from_secs(60);
/// Streams of a connection without a certificate at a time: enrolment is one call.
const ANONYMOUS_STREAMS: u32 = 8;
/// Bytes that a stream of such a connection may have on the way unread.
const ANONYMOUS_WINDOW_BYTES: u32 = 64 * 1024;
/// How long to wait after the operating system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Streams of one connection at a time: what servers take, and clients open.
pub(crate) const STREAMS: u32 = 256;
/// Bytes that a stream may have on the way unread.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Longest window of HTTP/2 (RFC 9113, 6.9.1).
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// Bytes that all streams of a connection may have on the way unread: enough for each of them.
pub(crate) fn connection_window(streams: u32, stream_window_bytes: u32) -> u32 {
    streams.saturating_mul(stream_window_bytes).min(WINDOW_BYTES_MAX)
}

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at a time whose handshake is over; further ones are closed.
    pub connections: usize,
    /// Handshakes under way at a time, beside `connections`: the oldest is given up for a further one, so that
    /// those who connect and say nothing keep out nobody who does.
    pub handshakes: usize,
    /// Connections without a certificate among them; further ones are closed, so that nobody's cannot keep out
    /// those who belong here.
    pub anonymous: usize,
    /// Streams of one connection at a time.
    pub streams: u32,
    /// Bytes a stream may have on the way unread. A connection may have as many for each of its streams: were
    /// it less, streams that nobody reads just now would hold up the others, and chains of them each other.
    pub stream_window_bytes: u32,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// Silence on a connection, after which a ping is sent; no answer to it within as much again means that
    /// the other end is gone.
    pub keep_alive: Duration,
    /// How long requests under way have to end after the stop.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshakes: 1024,
            anonymous: 256,
            streams: STREAMS,
            stream_window_bytes: STREAM_WINDOW_BYTES,
            handshake: Duration::from_secs(10),
            keep_alive: Duration::from_secs(10),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves `router` (HTTP/2, TLS 1.3) to whoever connects, until `stop`; then lets what is under way end.
/// A client certificate is asked for and, if shown, must be of the cluster's authority; which routes take
/// callers without one is the router's word ([`crate::api`]). Requests carry [`Peer`] as an extension.
///
/// Credentials without a certificate serve nobody: connections are refused until they are replaced.
pub async fn serve(
    mut listener: Box<dyn Listener>,
    credentials: Credentials,
    router: axum::Router,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    let server = Arc::new(Server {
        credentials,
        router: TowerToHyperService::new(router),
        limits,
        handshakes: Handshakes::new(limits.handshakes),
        places: Semaphore::new(limits.connections),
        anonymous: Semaphore::new(limits.anonymous),
        stop,
        kill: CancellationToken::new(),
    });
    // Whoever drops this future wants the connections gone too.
    let _kill = server.kill.clone().drop_guard();
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = server.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let server = server.clone();
                tasks.spawn(async move {
                    let kill = server.kill.clone();
                    tokio::select! {
                        () = kill.cancelled() => {}
                        () = server.connection(stream, from) => {}
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, say: what is open already goes on, and will free some.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if timeout(limits.drain, tasks.wait()).await.is_err() {
        tracing::info!(connections = tasks.len(), "cutting what is still under way");
        server.kill.cancel();
        tasks.wait().await;
    }
}

struct Server {
    credentials: Credentials,
    router: TowerToHyperService<axum::Router>,
    limits: ServerLimits,
    handshakes: Handshakes,
    /// Places of connections.
    places: Semaphore,
    /// Places of connections without a certificate.
    anonymous: Semaphore,
    stop: CancellationToken,
    /// What is under way is cut.
    kill: CancellationToken,
}

impl Server {
    async fn connection(&self, stream: BoxStream, from: SocketAddr) {
        let Some(config) = self.credentials.current().server.clone() else {
            tracing::warn!(%from, "refused a connection: this service has no certificate yet");
            return;
        };
        let under_way = self.handshakes.begin();
        let handshake = TlsAcceptor::from(config).accept(ReadAhead::new(stream));
        let stream = tokio::select! {
            () = self.stop.cancelled() => return,
            () = under_way.gives_way() => return tracing::debug!(%from, "too many handshakes at a time"),
            shaken = timeout(self.limits.handshake, handshake) => match shaken {
                Ok(Ok(mut stream)) => {
                    stream.get_mut().1.set_buffer_limit(Some(tls::SEALED_BYTES));
                    stream
                }
                Ok(Err(error)) => return tracing::debug!(%from, %error, "a handshake failed"),
                Err(_) => return tracing::debug!(%from, "a handshake took too long"),
            },
        };
        drop(under_way);
        let Ok(_place) = self.places.try_acquire() else {
            return tracing::warn!(%from, "refused a connection: there are too many");
        };
        let peer = match tls::peer_identity(stream.get_ref().1.peer_certificates()) {
            Ok(Some(identity)) => Peer::Known(identity),
            Ok(None) => Peer::Anonymous,
            Err(error) => return tracing::debug!(%from, %error, "a certificate names nobody"),
        };
        let _anonymous = match peer {
            Peer::Known(_) => None,
            Peer::Anonymous => match self.anonymous.try_acquire() {
                Ok(place) => Some(place),
                Err(_) => return tracing::debug!(%from, "too many connections without a certificate"),
            },
        };
        let router = self.router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request).map_ok(|response| response.map(NotEmpty))
        });
        let connection = self.http(peer).serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let over = async {
            match peer {
                Peer::Anonymous => sleep(ANONYMOUS_LIFE).await,
                Peer::Known(_) => std::future::pending().await,
            }
        };
        let served = tokio::select! {
            served = connection.as_mut() => Some(served),
            () = self.stop.cancelled() => None,
            () = over => None,
        };
        let served = match served {
            Some(served) => served,
            None => {
                connection.as_mut().graceful_shutdown();
                match timeout(self.limits.drain, connection).await {
                    Ok(served) => served,
                    Err(_) => return tracing::debug!(%from, %peer, "cut what was still under way"),
                }
            }
        };
        if let Err(error) = served {
            tracing::debug!(%from, %peer, %error, "a connection broke");
        }
    }

    fn http(&self, peer: Peer) -> http2::Builder<TokioExecutor> {
        let (streams, window_bytes) = match peer {
            Peer::Known(_) => (self.limits.streams, self.limits.stream_window_bytes),
            Peer::Anonymous => (ANONYMOUS_STREAMS, ANONYMOUS_WINDOW_BYTES),
        };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_stream_window_size(window_bytes)
            .initial_connection_window_size(connection_window(streams, window_bytes))
            .max_concurrent_streams(streams)
            .max_frame_size(FRAME_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADER_BYTES)
            .keep_alive_interval(self.limits.keep_alive)
            .keep_alive_timeout(self.limits.keep_alive);
        if let Peer::Known(_) = peer {
            // Services cancel calls all the time (hedged reads): what protects from strangers who do so would
            // break good connections.
            builder
                .max_pending_accept_reset_streams(self.limits.streams as usize)
                .max_local_error_reset_streams(None);
        }
        builder
    }
}
