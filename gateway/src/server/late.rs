//! Answers that begin before it is known what they say. Clients give up when nothing comes for a while (the AWS SDKs
//! after a minute), so what takes long is answered as Amazon S3 does: a head with 200, whitespace as long as it takes,
//! and the document at the end, which is an Error if it failed after all (Amazon S3 API reference, "CopyObject").

use crate::error::Error;
use crate::s3::answer::{LATE_DOCUMENT, STILL_AT_IT};
use crate::s3::route::OperationName;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Frame;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep};

/// How far a request has come, as whoever answers it sees.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    asked: OnceLock<OperationName>,
    takes_long: AtomicBool,
}

impl Progress {
    /// What was asked for, once that is known.
    pub(super) fn asked(&self) -> Option<OperationName> {
        self.asked.get().copied()
    }

    /// Says what was asked for.
    pub(super) fn asks(&self, operation: OperationName) {
        // A request asks for one thing, and is routed once.
        let _ = self.asked.set(operation);
    }

    /// Says that from now on a head with 200 may be sent before the outcome: what is refused at once was not, the body
    /// was read, and the answer is a document and no header that only the outcome tells.
    pub(crate) fn takes_long(&self) {
        self.takes_long.store(true, Ordering::Relaxed);
    }
}

/// What `work` comes to; nothing if that takes longer than `patience` after it said that it may take long. Then `work`
/// is not over and goes on when it is polled.
pub(super) async fn in_time<T>(
    work: &mut BoxFuture<'static, T>,
    progress: &Progress,
    patience: Duration,
) -> Option<T> {
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    // It is said while the work is polled, that is right here: nobody has to wake this up.
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        if !progress.takes_long.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// The body of an answer whose head was sent already. The work goes on while the body is sent, and ends when the client
/// is gone, as it does before.
pub(crate) struct LateBody {
    /// The beginning, until it was sent.
    first: Option<Bytes>,
    /// What makes the rest, until that was sent.
    rest: Option<BoxFuture<'static, Bytes>>,
    pulse: Interval,
}

impl LateBody {
    /// A body that says every `patience` that `rest` is still being made.
    pub(super) fn new(rest: BoxFuture<'static, Bytes>, patience: Duration) -> Self {
        let mut pulse = interval_at(Instant::now() + patience, patience);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            first: Some(Bytes::from_static(LATE_DOCUMENT.as_bytes())),
            rest: Some(rest),
            pulse,
        }
    }

    pub(super) fn is_end(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        if let Some(first) = self.first.take() {
            return frame(first);
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(bytes) = rest.as_mut().poll(cx) {
            self.rest = None;
            return frame(bytes);
        }
        std::task::ready!(self.pulse.poll_tick(cx));
        frame(Bytes::from_static(STILL_AT_IT.as_bytes()))
    }
}
