//! Connections by target: made when wanted, one attempt at a time, shared, closed when idle, forgotten when
//! broken.

use super::primed::{LastHeard, Primed};
use super::watch::{Watch, drive};
use super::{ClientLimits, Target};
use crate::credentials::Credentials;
use crate::network::{BoxStream, Network};
use crate::read_ahead::ReadAhead;
use crate::server::{FRAME_BYTES, connection_window};
use crate::tls;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// Streams on every connection to a target from which another connection is worth its handshake.
const BUSY_STREAMS: u32 = 4;
/// Age from which a connection takes no more calls, so that no certificate is relied on for much longer than
/// it is valid.
const AGE: Duration = Duration::from_secs(12 * 3600);
/// How often a call waits for a new connection before its caller hears that there is none.
const CONNECTS: usize = 3;
/// Longest header of a response, in bytes as HTTP/2 counts them.
const HEADER_BYTES: u32 = 16 * 1024;
/// Bytes of a request that may wait for the peer to take them, per stream.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// Streams that were cancelled here and are remembered for a while, per connection.
const RESET_STREAMS: usize = 1024;

/// The connections of a client.
pub(super) struct Pool {
    network: Arc<dyn Network>,
    credentials: Credentials,
    pub(super) limits: ClientLimits,
    lines: Mutex<HashMap<Target, Line>>,
    /// A stream ended somewhere.
    freed: Notify,
}

/// The connections to one target.
#[derive(Default)]
struct Line {
    open: Vec<Arc<Connection>>,
    connecting: Option<Connecting>,
}

/// One attempt to connect, which any number of calls may wait for.
type Connecting = Shared<BoxFuture<'static, Result<(), Arc<str>>>>;

struct Connection {
    sender: SendRequest<Bytes>,
    since: Instant,
    usage: Arc<Usage>,
}

/// What a connection is used for now.
pub(super) struct Usage {
    now: Mutex<Now>,
    /// A stream began.
    began: Notify,
}

struct Now {
    streams: u32,
    /// When the last stream ended, or the connection was made.
    ended_at: Instant,
    /// No stream can be opened any more.
    closed: bool,
}

impl Usage {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            now: Mutex::new(Now {
                streams: 0,
                ended_at: Instant::now(),
                closed: false,
            }),
            began: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn streams(&self) -> u32 {
        self.lock().streams
    }

    pub(super) fn ended_at(&self) -> Instant {
        self.lock().ended_at
    }

    /// Waits for a stream to begin.
    pub(super) async fn begins(&self) {
        self.began.notified().await;
    }
}

/// A call's place on a connection.
pub(super) struct Hold {
    connection: Arc<Connection>,
    pool: Arc<Pool>,
}

impl Hold {
    fn on(connection: &Arc<Connection>, pool: &Arc<Pool>) -> Self {
        connection.usage.lock().streams += 1;
        connection.usage.began.notify_one();
        Self {
            connection: connection.clone(),
            pool: pool.clone(),
        }
    }

    /// Opens a stream with the request `head`. When this fails, nothing was sent, and the connection takes no
    /// more calls.
    pub(super) async fn open(
        &self,
        head: Request<()>,
        has_body: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let sender = self.connection.sender.clone();
        let opened = match sender.ready().await {
            Ok(mut sender) => sender.send_request(head, !has_body),
            Err(error) => Err(error),
        };
        if opened.is_err() {
            self.connection.usage.lock().closed = true;
        }
        opened
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        {
            let mut now = self.connection.usage.lock();
            now.streams = now.streams.saturating_sub(1);
            now.ended_at = Instant::now();
        }
        self.pool.freed.notify_waiters();
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}

/// Whether the other end said that it has not looked at the stream: it refused it (RFC 9113, 8.7), or went away
/// naming an earlier one as its last (6.8).
pub(super) fn refused_untouched(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

impl Pool {
    pub(super) fn new(
        network: Arc<dyn Network>,
        credentials: Credentials,
        limits: ClientLimits,
    ) -> Arc<Self> {
        Arc::new(Self {
            network,
            credentials,
            limits,
            lines: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// A place on a connection to `target`, made if need be.
    pub(super) async fn hold(self: &Arc<Self>, target: &Target) -> Result<Hold, String> {
        let mut connects = 0;
        loop {
            let freed = self.freed.notified();
            let mut freed = std::pin::pin!(freed);
            // From here on no ended stream is missed.
            freed.as_mut().enable();
            let connecting = match self.place(target) {
                Place::Found(hold) => return Ok(hold),
                Place::Connecting {
                    connecting,
                    has_others,
                } => {
                    // One that others have filled meanwhile did not close.
                    connects += usize::from(!has_others);
                    connecting
                }
                Place::Full => {
                    freed.await;
                    continue;
                }
            };
            if connects > CONNECTS {
                return Err("its connections close as soon as they are made".to_owned());
            }
            connecting.await.map_err(|reason| reason.to_string())?;
        }
    }

    fn place(self: &Arc<Self>, target: &Target) -> Place {
        let mut lines = self.lines();
        let line = lines.entry(target.clone()).or_default();
        line.open
            .retain(|connection| !connection.usage.lock().closed && connection.since.elapsed() < AGE);
        let least = line
            .open
            .iter()
            .min_by_key(|connection| connection.usage.streams());
        let streams = least.map(|connection| connection.usage.streams());
        let found = least
            .filter(|_| streams.is_some_and(|streams| streams < self.limits.streams_per_connection))
            .map(|connection| Hold::on(connection, self));
        let wants_another = streams.is_none_or(|streams| streams >= BUSY_STREAMS);
        if wants_another
            && line.connecting.is_none()
            && line.open.len() < self.limits.connections_per_target.max(1)
        {
            line.connecting = Some(self.start_connecting(target.clone()));
        }
        match (found, &line.connecting) {
            (Some(hold), _) => Place::Found(hold),
            (None, Some(connecting)) => Place::Connecting {
                connecting: connecting.clone(),
                has_others: !line.open.is_empty(),
            },
            (None, None) => Place::Full,
        }
    }

    /// Connects in a task of its own: calls that wait for it may give up without harming the others.
    fn start_connecting(self: &Arc<Self>, target: Target) -> Connecting {
        let (done, outcome) = oneshot::channel();
        let pool = self.clone();
        tokio::spawn(async move {
            let connected = match timeout(pool.limits.connect, pool.connect(&target)).await {
                Ok(connected) => connected,
                Err(_) => Err(format!("no connection within {:?}", pool.limits.connect)),
            };
            let outcome = pool.enter(target, connected);
            // Nobody may be waiting any more.
            let _ = done.send(outcome);
        });
        outcome
            .map(|outcome| outcome.unwrap_or_else(|_| Err("connecting was given up".into())))
            .boxed()
            .shared()
    }

    /// Puts a new connection where calls find it.
    fn enter(self: &Arc<Self>, target: Target, connected: Result<Connected, String>) -> Result<(), Arc<str>> {
        let mut lines = self.lines();
        let line = lines.entry(target.clone()).or_default();
        line.connecting = None;
        match connected {
            Ok((sender, mut connection, heard)) => {
                let usage = Usage::new();
                line.open.push(Arc::new(Connection {
                    sender,
                    since: Instant::now(),
                    usage: usage.clone(),
                }));
                let watch = Watch {
                    usage,
                    heard,
                    pings: connection.ping_pong(),
                    idle: self.limits.idle,
                    keep_alive: self.limits.keep_alive,
                };
                tokio::spawn(drive(connection, watch, Arc::downgrade(self), target));
                Ok(())
            }
            Err(reason) => {
                tracing::debug!(address = %target.address, reason, "cannot connect");
                if line.open.is_empty() {
                    lines.remove(&target);
                }
                Err(reason.into())
            }
        }
    }

    async fn connect(&self, target: &Target) -> Result<Connected, String> {
        let stream = self.network.connect(&target.address).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let config = self.credentials.current().client.clone();
        let name = tls::no_name().map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(config)
            .connect(name, ReadAhead::new(stream))
            .await;
        let mut stream = stream.map_err(|error| tls::handshake_failure(&error))?;
        stream.get_mut().1.set_buffer_limit(Some(tls::SEALED_BYTES));
        let found = tls::peer_identity(stream.get_ref().1.peer_certificates())
            .map_err(|error| error.to_string())?
            .ok_or("it showed no certificate")?;
        if !target.expect.admits(found) {
            return Err(format!("{found} is there, not {}", target.expect));
        }
        // The server checks this side's certificate after TLS has finished here. Its first words tell that it
        // takes the connection: no call is handed over to one that does not.
        let stream = Primed::first_of(stream).await?;
        let heard = stream.heard.clone();
        let made = Builder::new()
            .enable_push(false)
            .initial_window_size(self.limits.stream_window_bytes)
            .initial_connection_window_size(connection_window(
                self.limits.streams_per_connection,
                self.limits.stream_window_bytes,
            ))
            .max_frame_size(FRAME_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADER_BYTES)
            // Calls are cancelled all the time (hedged reads); what still comes for them is no offence.
            .max_concurrent_reset_streams(RESET_STREAMS)
            .max_local_error_reset_streams(None)
            .handshake(stream)
            .await;
        let (sender, connection) = made.map_err(|error| error.to_string())?;
        Ok((sender, connection, heard))
    }

    /// Takes a connection out of use; calls under way on it go on.
    pub(super) fn retire(&self, target: &Target, usage: &Arc<Usage>) {
        let mut lines = self.lines();
        if let Some(line) = lines.get_mut(target) {
            line.open
                .retain(|connection| !Arc::ptr_eq(&connection.usage, usage));
            if line.open.is_empty() && line.connecting.is_none() {
                lines.remove(target);
            }
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Target, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("credentials", &self.credentials)
            .field("limits", &self.limits)
            .field("targets", &self.lines().len())
            .finish_non_exhaustive()
    }
}

/// Where a call may go.
enum Place {
    Found(Hold),
    /// One is being made.
    Connecting {
        connecting: Connecting,
        /// Whether there are others, all of them full.
        has_others: bool,
    },
    /// All connections have as many streams as they may, and no more may be made.
    Full,
}

type Wire = Primed<tokio_rustls::client::TlsStream<ReadAhead<BoxStream>>>;
type Connected = (SendRequest<Bytes>, h2::client::Connection<Wire>, LastHeard);
