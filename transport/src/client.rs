//! Calls other services: pooled HTTP/2 connections under mutual TLS.

mod body;
mod pool;
mod primed;
#[cfg(test)]
mod tests;
mod watch;

use crate::credentials::Credentials;
use crate::identity::Expect;
use crate::network::Network;
use crate::server::{STREAM_WINDOW_BYTES, STREAMS};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use pool::{Pool, refused_untouched};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::oneshot;
use ullage_model::codec::{self, Versioned};

pub use body::Answer;

/// Where a call goes and whom it must find there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// Whom the certificate there must name.
    pub expect: Expect,
    /// Calls of different lanes never share a connection, so that bulk does not delay what is urgent.
    pub lane: u8,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// Surely not done: no connection, or the other end is not who it should be.
    #[error("{address} is not reached: {reason}")]
    NotSent {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// Maybe done: the connection broke, or no answer came in time.
    #[error("{address} has not answered: {reason}")]
    Unknown {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// Answered with a status that is no answer of the call (401, 403, 404, 413, 503 …): not done.
    #[error("{address} answered {status}: {text}")]
    Status {
        /// Where.
        address: String,
        /// HTTP status.
        status: u16,
        /// Its words, at most 1 KiB.
        text: String,
    },
    /// The service's own error.
    #[error("{0:?}")]
    Application(E),
}

impl<E> CallError<E> {
    /// The same with `change` made to the service's own error.
    pub fn map<F>(self, change: impl FnOnce(E) -> F) -> CallError<F> {
        self.and_then(|error| CallError::Application(change(error)))
    }

    /// The same, or what `change` makes of the service's own error.
    pub fn and_then<F>(self, change: impl FnOnce(E) -> CallError<F>) -> CallError<F> {
        match self {
            Self::Application(error) => change(error),
            Self::NotSent { address, reason } => CallError::NotSent { address, reason },
            Self::Unknown { address, reason } => CallError::Unknown { address, reason },
            Self::Status {
                address,
                status,
                text,
            } => CallError::Status {
                address,
                status,
                text,
            },
        }
    }

    /// Whether the call may have been done without anybody knowing.
    #[must_use]
    pub fn maybe_done(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// Bounds of a client.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// How long connecting, handshakes included, may take.
    pub connect: Duration,
    /// A connection idle for so long is closed.
    pub idle: Duration,
    /// Silence on a connection with calls under way, after which a ping is sent; no answer to it within as
    /// much again means that the connection is dead.
    pub keep_alive: Duration,
    /// Longest answer of a unary call, in bytes.
    pub answer_bytes: usize,
    /// Most connections per target. The second is made when the first is busy.
    pub connections_per_target: usize,
    /// Most streams of a connection at a time; more calls wait. At most `ServerLimits::streams`.
    pub streams_per_connection: u32,
    /// Bytes a stream may have on the way unread; a connection may have as many for each of its streams.
    pub stream_window_bytes: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(2),
            answer_bytes: 64 * 1024 * 1024,
            connections_per_target: 2,
            streams_per_connection: STREAMS,
            stream_window_bytes: STREAM_WINDOW_BYTES,
        }
    }
}

/// A request body that streams; an error in it resets the stream.
pub type StreamBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// Calls other services. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Arc<Pool>,
}

/// How often a call that was surely not done is tried on another connection before its caller hears of it.
const TRIES: usize = 3;
/// Most bytes of a refusal's text.
const TEXT_BYTES: usize = 1024;

impl Client {
    /// A client that proves itself with `credentials`.
    #[must_use]
    pub fn new(network: Arc<dyn Network>, credentials: Credentials, limits: ClientLimits) -> Self {
        Self {
            pool: Pool::new(network, credentials, limits),
        }
    }

    /// One message there, one back, within `deadline` (connecting included). The counterpart of
    /// [`crate::api::Api::call`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<Req, Resp, E>(
        &self,
        target: &Target,
        path: &str,
        request: &Req,
        deadline: Duration,
    ) -> Result<Resp, CallError<E>>
    where
        Req: Versioned,
        Resp: Versioned,
        E: Versioned,
    {
        self.call_with(target, path, HeaderMap::new(), request, deadline)
            .await
    }

    /// [`Client::call`] with headers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_with<Req, Resp, E>(
        &self,
        target: &Target,
        path: &str,
        headers: HeaderMap,
        request: &Req,
        deadline: Duration,
    ) -> Result<Resp, CallError<E>>
    where
        Req: Versioned,
        Resp: Versioned,
        E: Versioned,
    {
        let request = codec::encode(request);
        match self.call_bytes(target, path, headers, request, deadline).await {
            Ok(bytes) => codec::decode(&bytes).map_err(|error| failure(target, true, error.to_string())),
            Err(error) => Err(error.and_then(|bytes| match codec::decode(&bytes) {
                Ok(error) => CallError::Application(error),
                Err(error) => failure(target, true, error.to_string()),
            })),
        }
    }

    /// [`Client::call`] of a message that is encoded already, such as one that is forwarded; so are the answer
    /// and the service's own error.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_bytes(
        &self,
        target: &Target,
        path: &str,
        headers: HeaderMap,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError<Bytes>> {
        // Whether the other end may have got it.
        let handed_over = AtomicBool::new(false);
        let exchange = self.exchange(target, path, &headers, &request, &handed_over);
        match tokio::time::timeout(deadline, exchange).await {
            Ok(answered) => answered,
            Err(_) => {
                let reason = format!("no answer to {path} within {deadline:?}");
                Err(failure(target, handed_over.load(Relaxed), reason))
            }
        }
    }

    async fn exchange(
        &self,
        target: &Target,
        path: &str,
        headers: &HeaderMap,
        request: &Bytes,
        handed_over: &AtomicBool,
    ) -> Result<Bytes, CallError<Bytes>> {
        let mut tries = 0;
        let (response, hold) = loop {
            tries += 1;
            handed_over.store(false, Relaxed);
            let hold = self.pool.hold(target).await;
            let hold = hold.map_err(|reason| failure(target, false, reason))?;
            let mut head = head_of(target, path, headers.clone())?;
            head.headers_mut().insert(CONTENT_LENGTH, request.len().into());
            let error = match hold.open(head, !request.is_empty()).await {
                Ok((response, stream)) => {
                    handed_over.store(true, Relaxed);
                    match answered(response, stream, request.clone()).await {
                        Ok(response) => break (response, hold),
                        Err(error) if refused_untouched(&error) => error,
                        Err(error) => return Err(failure(target, true, error.to_string())),
                    }
                }
                Err(error) => error,
            };
            if tries == TRIES {
                return Err(failure(target, false, error.to_string()));
            }
        };
        let status = response.status();
        let body = Answer::new(response.into_body(), hold, None);
        if status != StatusCode::OK && status != StatusCode::CONFLICT {
            return Err(CallError::Status {
                address: target.address.clone(),
                status: status.as_u16(),
                text: text_of(body).await,
            });
        }
        let answer = Limited::new(body, self.pool.limits.answer_bytes)
            .collect()
            .await
            .map_err(|error| failure(target, true, format!("the answer to {path} broke off: {error}")))?
            .to_bytes();
        match status {
            StatusCode::OK => Ok(answer),
            _ => Err(CallError::Application(answer)),
        }
    }

    /// `POST path` with a body that streams; answers as soon as the response's head is there, whatever its
    /// status. Dropping the response's body, or the future, resets the stream. The only bounds in time are
    /// those of connecting and of a dead peer ([`ClientLimits::keep_alive`]): others are the caller's.
    ///
    /// # Errors
    /// `NotSent` or `Unknown`.
    pub async fn open(
        &self,
        target: &Target,
        path: &str,
        headers: HeaderMap,
        body: StreamBody,
    ) -> Result<Response<Answer>, CallError<Infallible>> {
        let mut tries = 0;
        let (response, stream, hold) = loop {
            tries += 1;
            let hold = self.pool.hold(target).await;
            let hold = hold.map_err(|reason| failure(target, false, reason))?;
            let mut head = head_of(target, path, headers.clone())?;
            if let Some(bytes) = body.size_hint().exact() {
                head.headers_mut().insert(CONTENT_LENGTH, bytes.into());
            }
            match hold.open(head, !body.is_end_stream()).await {
                Ok((response, stream)) => break (response, stream, hold),
                Err(error) if tries == TRIES => return Err(failure(target, false, error.to_string())),
                Err(_) => {}
            }
        };
        let (alive, dropped) = oneshot::channel();
        if !body.is_end_stream() {
            body::send_while(body, stream, dropped);
        }
        match response.await {
            Ok(response) => Ok(response.map(|stream| Answer::new(stream, hold, Some(alive)))),
            Err(error) => Err(failure(target, !refused_untouched(&error), error.to_string())),
        }
    }
}

/// The head of the response to a request whose body is `body`.
async fn answered(
    response: ResponseFuture,
    mut stream: SendStream<Bytes>,
    body: Bytes,
) -> Result<Response<RecvStream>, h2::Error> {
    if body.is_empty() {
        return response.await;
    }
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = pin!(response);
    tokio::select! {
        biased;
        response = response.as_mut() => return response,
        () = body::send(body, &mut stream) => {}
    }
    response.await
}

/// `NotSent` or `Unknown`.
fn failure<E>(target: &Target, maybe_done: bool, reason: String) -> CallError<E> {
    let address = target.address.clone();
    if maybe_done {
        CallError::Unknown { address, reason }
    } else {
        CallError::NotSent { address, reason }
    }
}

fn head_of<E>(target: &Target, path: &str, headers: HeaderMap) -> Result<Request<()>, CallError<E>> {
    let uri = Uri::builder()
        .scheme("https")
        .authority(target.address.as_str())
        .path_and_query(path)
        .build()
        .map_err(|error| failure(target, false, format!("no address or path: {error}")))?;
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    *head.uri_mut() = uri;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = headers;
    Ok(head)
}

/// The first line or so of a refusal.
async fn text_of(mut body: Answer) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < TEXT_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(&data[..data.len().min(TEXT_BYTES - bytes.len())]);
        }
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}
