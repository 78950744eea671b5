//! The bodies of streaming calls: the request's, which ends when its caller loses interest, and the response's.

use super::StreamBody;
use super::pool::Hold;
use crate::body::poll_not_empty;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// The body of a response; its frames of data are never empty. Dropping it resets the stream, both ways, unless both have ended.
#[derive(Debug)]
pub struct Answer {
    incoming: Incoming,
    _hold: Hold,
    /// Dropping it ends the request's body.
    _alive: oneshot::Sender<()>,
}

impl Answer {
    pub(super) fn new(incoming: Incoming, hold: Hold, alive: oneshot::Sender<()>) -> Self {
        Self {
            incoming,
            _hold: hold,
            _alive: alive,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        poll_not_empty(Pin::new(&mut self.incoming), cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The body of a request; fails when its caller dropped the response or stopped waiting for it.
pub(super) struct Cancellable {
    body: StreamBody,
    cancelled: oneshot::Receiver<()>,
}

impl Cancellable {
    pub(super) fn new(body: StreamBody, cancelled: oneshot::Receiver<()>) -> Self {
        Self { body, cancelled }
    }
}

impl Body for Cancellable {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if Pin::new(&mut self.cancelled).poll(cx).is_ready() {
            let gone = io::Error::new(io::ErrorKind::Interrupted, "the caller dropped the call");
            return Poll::Ready(Some(Err(gone)));
        }
        poll_not_empty(Pin::new(&mut self.body), cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
