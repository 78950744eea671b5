//! Entries on their way to a follower: requests go out as openraft makes them, answers come back in their order, so
//! that many are under way at a time. Bytes under way are bounded by the stream's windows; a follower that does not
//! answer while requests wait is given up.

use super::link::Link;
use super::network::{Failure, failure, unreachable};
use super::types::{TypeConfig, decode, encode};
use super::wire::{ANSWER_BYTES_MAX, APPEND, Appended, PeerError, StreamHead, encode_append};
use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use http::HeaderMap;
use http_body_util::{BodyExt, StreamBody};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use prometheus::IntGauge;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use ullage_transport::client::{CallError, Target};
use ullage_transport::frame::{FrameError, framed, messages};

type Answers = BoxStream<'static, Result<Bytes, FrameError>>;

/// openraft's requests, shared by the body that sends them and by whoever waits for the answers: when nobody waits
/// any more, no further request is taken, however long the transport holds on to the body.
struct Requests<S> {
    input: Arc<Mutex<Option<S>>>,
    sent: Arc<AtomicU64>,
}

impl<S> Stream for Requests<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = std::io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(requests) = input.as_mut() else {
            return Poll::Ready(None);
        };
        let next = std::task::ready!(requests.poll_next_unpin(context));
        let Some(request) = next else {
            *input = None;
            return Poll::Ready(None);
        };
        self.sent.fetch_add(1, Ordering::AcqRel);
        Poll::Ready(Some(encode_append(&request).map(|bytes| framed(&bytes))))
    }
}

/// Drops the requests with the answers.
struct Waiting<S> {
    input: Arc<Mutex<Option<S>>>,
    sent: Arc<AtomicU64>,
    answered: u64,
    most: IntGauge,
    answers: Answers,
    idle: Duration,
    ended: bool,
}

impl<S> Drop for Waiting<S> {
    fn drop(&mut self) {
        drop(self.input.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl<S> Waiting<S> {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, Failure>> {
        loop {
            let before = self.sent.load(Ordering::Acquire);
            let answer = match tokio::time::timeout(self.idle, self.answers.next()).await {
                Ok(answer) => answer?,
                Err(_) if before > self.answered => {
                    return Some(Err(unreachable("entries wait too long for their answer").into()));
                }
                Err(_) => continue,
            };
            let in_flight = self.sent.load(Ordering::Acquire).saturating_sub(self.answered);
            let in_flight = i64::try_from(in_flight).unwrap_or(i64::MAX);
            if in_flight > self.most.get() {
                self.most.set(in_flight);
            }
            self.answered += 1;
            let answer = answer.map_err(|error| unreachable(error).into());
            return Some(answer.and_then(|bytes| match decode::<Appended>(&bytes) {
                Ok(answer) => answer.map_err(|error| unreachable(error).into()),
                Err(error) => Err(unreachable(error).into()),
            }));
        }
    }
}

/// Opens a stream to `to`.
pub(super) async fn open<S>(
    link: &Link,
    to: u64,
    target: Target,
    input: S,
) -> Result<BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Failure>>, Failure>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let head = encode(&StreamHead(link.head(to))).map_err(unreachable)?;
    let input = Arc::new(Mutex::new(Some(input)));
    let sent = Arc::new(AtomicU64::new(0));
    let requests = Requests {
        input: Arc::clone(&input),
        sent: Arc::clone(&sent),
    };
    let body = stream::once(std::future::ready(Ok(framed(&head)))).chain(requests);
    let body = StreamBody::new(body.map(|bytes| bytes.map(http_body::Frame::data))).boxed_unsync();
    let mut waiting = Waiting {
        input,
        sent,
        answered: 0,
        most: link.in_flight_most.clone(),
        answers: stream::empty().boxed(),
        idle: link.idle,
        ended: false,
    };
    let opened = link.client.open(&target, APPEND, HeaderMap::new(), body);
    let response = match tokio::time::timeout(link.idle, opened).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(failure(widened(error))),
        Err(_) => return Err(unreachable("the stream was not accepted in time").into()),
    };
    if !response.status().is_success() {
        return Err(unreachable(format!("{} answered {}", target.address, response.status())).into());
    }
    waiting.answers = messages(response.into_body(), ANSWER_BYTES_MAX);
    let answers = stream::unfold(waiting, |mut waiting| async move {
        if waiting.ended {
            return None;
        }
        let next = waiting.next().await?;
        // Neither a refusal nor a failure is followed by anything.
        waiting.ended = !matches!(next, Ok(Ok(_)));
        Some((next, waiting))
    });
    Ok(answers.boxed())
}

/// An error of a call that has no refusals of its own, as one that might have.
pub(super) fn widened(error: CallError<std::convert::Infallible>) -> CallError<PeerError> {
    match error {
        CallError::NotSent { address, reason } => CallError::NotSent { address, reason },
        CallError::Unknown { address, reason } => CallError::Unknown { address, reason },
        CallError::Status {
            address,
            status,
            text,
        } => CallError::Status {
            address,
            status,
            text,
        },
        CallError::Application(never) => match never {},
    }
}
