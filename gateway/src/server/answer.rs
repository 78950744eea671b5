//! Bodies of answers: whole documents, or an object's bytes as they are read and verified.

use bytes::Bytes;
use futures::stream::BoxStream;
use http_body::{Body, Frame, SizeHint};
use prometheus::IntCounter;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use tracing::warn;

use super::late::LateBody;
use crate::error::Error;
use futures::StreamExt as _;

/// An object's verified bytes.
pub(crate) type ObjectBytes = BoxStream<'static, Result<Bytes, Error>>;

/// The body of one answer.
pub(crate) enum AnswerBody {
    /// All there is; taken when sent.
    Whole(Option<Bytes>),
    /// An object's bytes. They are as many as the head says, or the connection breaks off.
    Object {
        /// What was read before the head was sent.
        first: Option<Bytes>,
        /// The rest.
        rest: ObjectBytes,
        /// Bytes still to come.
        left: u64,
        /// Counts what is sent.
        sent: IntCounter,
    },
    /// A document that is still being made.
    Late(LateBody),
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => f
                .debug_tuple("Whole")
                .field(&bytes.as_ref().map(Bytes::len))
                .finish(),
            Self::Object { left, .. } => f
                .debug_struct("Object")
                .field("left", left)
                .finish_non_exhaustive(),
            Self::Late(_) => f.write_str("Late"),
        }
    }
}

impl AnswerBody {
    /// A whole body.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Late(late) => late.poll(cx),
            Self::Object { left: 0, .. } => Poll::Ready(None),
            Self::Object {
                first,
                rest,
                left,
                sent,
            } => {
                let next = match first.take() {
                    Some(bytes) => Some(Ok(bytes)),
                    None => std::task::ready!(rest.poll_next_unpin(cx)),
                };
                match next {
                    Some(Ok(bytes)) => {
                        // More than the head said never leaves: HTTP would take it for the next answer.
                        *left = match left.checked_sub(bytes.len() as u64) {
                            Some(left) => left,
                            None => return Poll::Ready(Some(Err(Error::UnexpectedAnswer("a read")))),
                        };
                        sent.inc_by(bytes.len() as u64);
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    Some(Err(error)) => {
                        warn!(%error, left, "a read broke off; the connection is cut");
                        Poll::Ready(Some(Err(error)))
                    }
                    None => Poll::Ready(Some(Err(Error::Cut("the bytes ended early")))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Object { left, .. } => *left == 0,
            Self::Late(late) => late.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Object { left, .. } => SizeHint::with_exact(*left),
            Self::Late(_) => SizeHint::default(),
        }
    }
}
