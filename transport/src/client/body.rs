//! The two bodies of a call on its stream: the request's is sent as the peer takes it, the response's is given
//! out as it comes.

use super::StreamBody;
use super::pool::Hold;
use crate::server::FRAME_BYTES;
use bytes::Bytes;
use futures::future::poll_fn;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

/// Bytes of a request's body that are asked room for at a time: a frame's.
const PART_BYTES: usize = FRAME_BYTES as usize;

/// Sends `body` to its end, or as far as the peer wants it. An error in it resets the stream.
pub(super) async fn send(mut body: StreamBody, stream: &mut SendStream<Bytes>) {
    loop {
        let frame = tokio::select! {
            biased;
            // The peer has answered already, or does not want it: what the response says counts.
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
            frame = body.frame() => frame,
        };
        let data = match frame.map(|frame| frame.map(Frame::into_data)) {
            None => {
                // Fails when the stream is closed; then nobody waits for the end.
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a request's body broke off");
                return stream.send_reset(Reason::CANCEL);
            }
            Some(Ok(Ok(data))) => data,
            // Trailers: no call has any.
            Some(Ok(Err(_))) => continue,
        };
        let ends = body.is_end_stream();
        if send_part(data, ends, stream).await.is_none() || ends {
            return;
        }
    }
}

/// Sends `data` as the peer takes it; `None` if the stream is closed.
async fn send_part(mut data: Bytes, ends: bool, stream: &mut SendStream<Bytes>) -> Option<()> {
    if data.is_empty() && ends {
        return stream.send_data(data, true).ok();
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(PART_BYTES));
        while stream.capacity() == 0 {
            poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
        }
        let part = data.split_to(data.len().min(stream.capacity()));
        stream.send_data(part, ends && data.is_empty()).ok()?;
    }
    Some(())
}

/// [`send`] in a task of its own, until whoever holds the other half of `alive` drops it: then the stream is
/// reset, unless it has ended both ways.
pub(super) fn send_while(body: StreamBody, mut stream: SendStream<Bytes>, alive: oneshot::Receiver<()>) {
    tokio::spawn(async move {
        let dropped = tokio::select! {
            () = send(body, &mut stream) => return,
            dropped = alive => dropped,
        };
        debug_assert!(dropped.is_err(), "nothing is ever sent");
        stream.send_reset(Reason::CANCEL);
    });
}

/// The body of a response; its frames of data are never empty. Dropping it resets the stream, both ways, unless
/// both have ended.
#[derive(Debug)]
pub struct Answer {
    stream: RecvStream,
    ended: bool,
    _hold: Hold,
    /// Dropping it ends the request's body.
    _alive: Option<oneshot::Sender<()>>,
}

impl Answer {
    pub(super) fn new(stream: RecvStream, hold: Hold, alive: Option<oneshot::Sender<()>>) -> Self {
        Self {
            ended: false,
            stream,
            _hold: hold,
            _alive: alive,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        loop {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Given out is as good as read: the reader pulls, and holds what it wants to hold.
                    self.stream.flow_control().release_capacity(data.len())?;
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                // A server that has answered in full needs no more of the request (RFC 9113, 8.1).
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let trailers: Option<HeaderMap> = ready!(self.stream.poll_trailers(cx))?;
                    drop(trailers);
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_next(cx));
        self.ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next.map(|data| data.map(Frame::data).map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
