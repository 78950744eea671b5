//! Bodies without empty frames: a peer that receives too many of them on a connection takes it for an attack and
//! closes it.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// `body`'s next frame that carries something.
pub(crate) fn poll_not_empty<B>(
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>>
where
    B: Body<Data = Bytes>,
{
    loop {
        match ready!(body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            other => return Poll::Ready(other),
        }
    }
}

/// A response's body.
pub(crate) struct NotEmpty(pub(crate) axum::body::Body);

impl Body for NotEmpty {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        poll_not_empty(Pin::new(&mut self.0), cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
