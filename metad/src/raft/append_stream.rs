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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use ullage_transport::client::{CallError, Target};
use ullage_transport::frame::{FrameError, framed, messages};

type Answers = BoxStream<'static, Result<Bytes, FrameError>>;

/// Requests that are under way at a time, at most. What comes meanwhile goes as one request when an answer has come:
/// a follower that syncs one would not begin with a third before it has synced the second.
const UNDER_WAY_MAX: u64 = 2;

/// How long a request is held back that has no entries and only says what is committed. Under load entries follow at
/// once, and whatever goes with them says it too.
const HOLD: Duration = Duration::from_millis(2);

type Request = AppendEntriesRequest<TypeConfig>;

/// openraft's requests on their way out, shared by the body that sends them and by whoever waits for the answers: when
/// nobody waits any more, no further request is taken, however long the transport holds on to the body.
///
/// openraft makes a request when it is asked for one, of all there is to say then. So asking late makes fewer and
/// larger ones.
struct Outgoing<S> {
    input: Option<S>,
    sent: u64,
    answered: u64,
    /// Whether entries have gone out: from then on requests without any say only what is committed.
    began: bool,
    /// A request without entries, held back. Whatever follows says the same and more, and is answered for both.
    held: Option<Request>,
    until: Pin<Box<Sleep>>,
    /// Who asked while too many were under way.
    waits: Option<Waker>,
}

impl<S> Outgoing<S>
where
    S: Stream<Item = Request> + Unpin,
{
    fn new(input: S) -> Self {
        Self {
            input: Some(input),
            sent: 0,
            answered: 0,
            began: false,
            held: None,
            until: Box::pin(tokio::time::sleep(HOLD)),
            waits: None,
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Request>> {
        if self.sent - self.answered >= UNDER_WAY_MAX {
            self.waits = Some(context.waker().clone());
            return Poll::Pending;
        }
        while let Some(input) = self.input.as_mut() {
            let next = match input.poll_next_unpin(context) {
                Poll::Ready(Some(request)) if request.entries.is_empty() && self.began => {
                    if self.held.replace(request).is_none() {
                        self.until.as_mut().reset(Instant::now() + HOLD);
                    }
                    continue;
                }
                Poll::Ready(Some(request)) => {
                    self.began = true;
                    self.held = None;
                    Some(request)
                }
                Poll::Ready(None) => {
                    self.input = None;
                    self.held.take()
                }
                Poll::Pending => {
                    if self.held.is_some() {
                        std::task::ready!(self.until.as_mut().poll(context));
                    } else {
                        return Poll::Pending;
                    }
                    self.held.take()
                }
            };
            self.sent += u64::from(next.is_some());
            return Poll::Ready(next);
        }
        Poll::Ready(None)
    }

    fn answered(&mut self) {
        self.answered += 1;
        if let Some(waits) = self.waits.take() {
            waits.wake();
        }
    }
}

/// [`Outgoing`] for both of its users.
struct Shared<S>(Arc<Mutex<Outgoing<S>>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Outgoing<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests as a body sends them.
struct Requests<S>(Shared<S>);

impl<S> Stream for Requests<S>
where
    S: Stream<Item = Request> + Unpin,
{
    type Item = std::io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.0.lock().poll_next(context));
        Poll::Ready(next.map(|request| encode_append(&request).map(|bytes| framed(&bytes))))
    }
}

/// Drops the requests with the answers.
struct Waiting<S> {
    outgoing: Shared<S>,
    most: IntGauge,
    answers: Answers,
    idle: Duration,
    ended: bool,
}

impl<S> Drop for Waiting<S> {
    fn drop(&mut self) {
        let mut outgoing = self.outgoing.lock();
        let waits = outgoing.waits.take();
        drop((outgoing.input.take(), outgoing.held.take()));
        if let Some(waits) = waits {
            waits.wake();
        }
    }
}

impl<S> Waiting<S>
where
    S: Stream<Item = Request> + Unpin,
{
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, Failure>> {
        loop {
            let waited_for = {
                let outgoing = self.outgoing.lock();
                outgoing.sent > outgoing.answered
            };
            let answer = match tokio::time::timeout(self.idle, self.answers.next()).await {
                Ok(answer) => answer?,
                Err(_) if waited_for => {
                    return Some(Err(unreachable("entries wait too long for their answer").into()));
                }
                Err(_) => continue,
            };
            {
                let mut outgoing = self.outgoing.lock();
                let in_flight = outgoing.sent.saturating_sub(outgoing.answered);
                let in_flight = i64::try_from(in_flight).unwrap_or(i64::MAX);
                if in_flight > self.most.get() {
                    self.most.set(in_flight);
                }
                outgoing.answered();
            }
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
    let outgoing = Shared(Arc::new(Mutex::new(Outgoing::new(input))));
    let requests = Requests(outgoing.clone());
    let body = stream::once(std::future::ready(Ok(framed(&head)))).chain(requests);
    let body = StreamBody::new(body.map(|bytes| bytes.map(http_body::Frame::data))).boxed_unsync();
    let mut waiting = Waiting {
        outgoing,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::types::{CommandBytes, Entry, Vote, log_id};
    use super::{HOLD, Outgoing, Request};
    use bytes::Bytes;
    use futures::FutureExt;
    use futures::stream::{self, BoxStream, StreamExt};
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;
    use tokio::sync::mpsc;

    struct Scene {
        openraft: Option<mpsc::UnboundedSender<Request>>,
        outgoing: Outgoing<BoxStream<'static, Request>>,
    }

    impl Scene {
        fn new() -> Self {
            let (openraft, mut made) = mpsc::unbounded_channel();
            let input = stream::poll_fn(move |context| made.poll_recv(context)).boxed();
            Self {
                openraft: Some(openraft),
                outgoing: Outgoing::new(input),
            }
        }

        /// openraft makes a request of so many entries behind `prev`, with all committed up to `committed`.
        fn makes(&self, prev: u64, entries: u64, committed: u64) {
            let payload = || EntryPayload::Normal(CommandBytes(Bytes::from_static(b"a command")));
            let entry = |index| Entry::new(log_id(3, 7, index), payload());
            let request = Request {
                vote: Vote::new_committed(3, 7),
                prev_log_id: Some(log_id(3, 7, prev)),
                leader_commit: Some(log_id(3, 7, committed)),
                entries: (prev + 1..=prev + entries).map(entry).collect(),
            };
            self.openraft.as_ref().unwrap().send(request).unwrap();
        }

        /// What goes out now, as entries and the index committed; `None` if nothing does.
        fn goes(&mut self) -> Option<Option<(usize, u64)>> {
            let next = std::future::poll_fn(|context| self.outgoing.poll_next(context)).now_or_never()?;
            Some(next.map(|request| (request.entries.len(), request.leader_commit.unwrap().index)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_committed_goes_with_the_entries_that_follow() {
        let mut scene = Scene::new();
        scene.makes(10, 0, 5);
        assert_eq!(scene.goes(), Some(Some((0, 5))), "a probe goes at once");
        scene.makes(10, 2, 5);
        assert_eq!(scene.goes(), Some(Some((2, 5))));
        scene.outgoing.answered();
        scene.outgoing.answered();
        scene.makes(12, 0, 11);
        scene.makes(12, 0, 12);
        assert_eq!(scene.goes(), None);
        scene.makes(12, 1, 12);
        assert_eq!(scene.goes(), Some(Some((1, 12))));
        tokio::time::sleep(2 * HOLD).await;
        assert_eq!(scene.goes(), None, "it has been said");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_committed_goes_by_itself_if_nothing_follows() {
        let mut scene = Scene::new();
        scene.makes(10, 1, 5);
        assert_eq!(scene.goes(), Some(Some((1, 5))));
        scene.makes(11, 0, 10);
        assert_eq!(scene.goes(), None);
        tokio::time::sleep(HOLD / 2).await;
        scene.makes(11, 0, 11);
        assert_eq!(scene.goes(), None);
        tokio::time::sleep(HOLD / 2).await;
        assert_eq!(
            scene.goes(),
            Some(Some((0, 11))),
            "the first of them has waited long enough"
        );
        scene.outgoing.answered();
        scene.outgoing.answered();
        scene.makes(11, 0, 12);
        assert_eq!(scene.goes(), None);
        scene.openraft = None;
        assert_eq!(scene.goes(), Some(Some((0, 12))), "the end waits for nothing");
        assert_eq!(scene.goes(), Some(None));
    }

    #[tokio::test(start_paused = true)]
    async fn two_are_under_way_at_a_time() {
        let mut scene = Scene::new();
        for prev in 0..4 {
            scene.makes(prev, 1, 0);
        }
        assert_eq!(scene.goes(), Some(Some((1, 0))));
        assert_eq!(scene.goes(), Some(Some((1, 0))));
        assert_eq!(scene.goes(), None);
        scene.outgoing.answered();
        assert_eq!(scene.goes(), Some(Some((1, 0))));
        assert_eq!(scene.goes(), None);
    }
}
