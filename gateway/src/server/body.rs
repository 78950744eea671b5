//! Request bodies: read as far as they are wanted, decoded and checked by the protocol layer, and done away
//! with when they are not. Nothing here holds more of a body than what one read gave.

use super::answer::AnswerBody;
use super::limits::{
    DOCUMENT_IDLE, DOCUMENT_MEMORY, DRAIN_BYTES_AFTER, DRAIN_BYTES_BEFORE, DRAIN_WAIT_AFTER,
    DRAIN_WAIT_BEFORE, STRANGERS_MEMORY,
};
use crate::limits::BODY_BYTES_PER_S_MIN;
use crate::memory::{Budget, Reservation};
use crate::s3::body::BodyDigests;
use crate::s3::error::{ErrorCode, Result};
use crate::s3::{BodyDecoder, BodyPlan, S3Error, WantedDigests};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prometheus::IntCounter;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// What comes after a request's head.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    received: IntCounter,
    /// The client waits for leave to send.
    expects_leave: bool,
    /// Nothing comes, so that no leave is ever given.
    empty: bool,
    /// Something was asked of it, so that leave was given.
    begun: bool,
    /// It broke off; nothing can be read any more.
    broken: bool,
}

/// Memory for the documents of one listener.
pub(crate) fn document_memory() -> Budget {
    Budget::new(DOCUMENT_MEMORY, "memory for documents is used up")
}

/// Memory for the documents and forms of those whom nobody knows.
pub(super) fn strangers_memory() -> Budget {
    Budget::new(STRANGERS_MEMORY, "memory for documents of strangers is used up")
}

/// What is to become of the connection after the answer.
#[derive(Debug)]
pub(crate) enum Afterwards {
    /// The next request may come.
    KeepAlive,
    /// Close it.
    Close,
    /// Read on for a while, so that the client sees the answer, then close it.
    DrainAndClose(RequestBody),
}

impl Afterwards {
    /// Tells the client, and reads on behind the answer where that is due.
    ///
    /// After a chunked transfer the connection is not used again: what stood beside Transfer-Encoding in the
    /// head (a Content-Length, in whatever order) is no longer to be seen here, and another reader on the way
    /// may have believed it (RFC 9112, section 6.1).
    pub(crate) fn apply(self, parts: &Parts, response: &mut Response<AnswerBody>) {
        let close = match self {
            Self::KeepAlive => parts.headers.contains_key(header::TRANSFER_ENCODING),
            Self::Close => true,
            Self::DrainAndClose(body) => {
                // Bounded in bytes and time, and there is one per connection.
                tokio::spawn(body.linger());
                true
            }
        };
        if close {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}

impl RequestBody {
    /// The body behind these headers. `received` counts its bytes.
    pub(crate) fn new(incoming: Incoming, headers: &HeaderMap, received: IntCounter) -> Self {
        let expects_leave = headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self {
            empty: incoming.is_end_stream(),
            incoming,
            received,
            expects_leave,
            begun: false,
            broken: false,
        }
    }

    /// The next bytes off the wire; `None` at the end. Gives the client leave to send, if it waits for that:
    /// call this for authenticated requests only. May be dropped and called again.
    ///
    /// # Errors
    /// IncompleteBody when the client is gone or breaks HTTP's framing.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>> {
        self.begun = true;
        loop {
            match self.incoming.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    // HTTP's own trailers say nothing in S3.
                    if let Ok(data) = frame.into_data() {
                        self.received.inc_by(data.len() as u64);
                        return Ok(Some(data));
                    }
                }
                Some(Err(_)) => {
                    self.broken = true;
                    return Err(ErrorCode::IncompleteBody.into());
                }
            }
        }
    }

    /// Reads a document whole, verified. Its bound is the plan's; it has its place in `memory` until it is dropped.
    ///
    /// # Errors
    /// What the decoder finds, SlowDown when there is no memory, RequestTimeout for a client that stopped sending
    /// or sends too slowly.
    pub(crate) async fn document(&mut self, plan: BodyPlan, memory: &Budget) -> Result<Bytes> {
        let (document, _) = self.document_and_answer(plan, memory, |_| 0).await?;
        Ok(document)
    }

    /// As [`RequestBody::document`], with memory for the answer, whose bytes at most follow from those of the
    /// document: reserved together, so that what a document asks for is not begun without it.
    ///
    /// # Errors
    /// As [`RequestBody::document`].
    pub(crate) async fn document_and_answer(
        &mut self,
        plan: BodyPlan,
        memory: &Budget,
        answer_bytes: impl Fn(u64) -> u64,
    ) -> Result<(Bytes, Reservation)> {
        let bytes_max = if self.incoming.is_end_stream() {
            0
        } else {
            plan.bytes_max()
        };
        let reserved = memory
            .admit(bytes_max.saturating_add(answer_bytes(bytes_max)))
            .await;
        let mut reserved = reserved.map_err(|_| S3Error::from(ErrorCode::SlowDown))?;
        let for_document = reserved.split(bytes_max);
        let until = Instant::now() + DOCUMENT_IDLE + Duration::from_secs(bytes_max / BODY_BYTES_PER_S_MIN);
        let mut decoder = BodyDecoder::new(plan, WantedDigests::default());
        let mut slices = Vec::new();
        let mut document = BytesMut::new();
        loop {
            let read = timeout_at(until.min(Instant::now() + DOCUMENT_IDLE), self.read()).await;
            let Some(data) = read.map_err(|_| S3Error::from(ErrorCode::RequestTimeout))?? else {
                break;
            };
            decoder.push(data, &mut slices)?;
            for slice in slices.drain(..) {
                document.extend_from_slice(&slice);
            }
        }
        decoder.finish()?;
        Ok((for_document.hold(document.freeze()), reserved))
    }

    /// Does away with what was not read, before the answer is given.
    pub(crate) async fn settle(mut self) -> Afterwards {
        if self.empty && self.expects_leave {
            // Right away a final answer, without leave: the AWS CLI (botocore before 1.44) takes its status for
            // that of the next request on the connection too, and that one's answer for an empty one.
            return Afterwards::Close;
        }
        if self.incoming.is_end_stream() {
            return Afterwards::KeepAlive;
        }
        if self.broken || (self.expects_leave && !self.begun) {
            // A client that was not given leave sends its next request at best, and its body at worst.
            return Afterwards::Close;
        }
        let left = self.incoming.size_hint().upper();
        if left.is_some_and(|left| left <= DRAIN_BYTES_BEFORE)
            && self.drain(DRAIN_BYTES_BEFORE, DRAIN_WAIT_BEFORE).await
        {
            return Afterwards::KeepAlive;
        }
        if self.broken {
            return Afterwards::Close;
        }
        Afterwards::DrainAndClose(self)
    }

    /// Reads on after the answer, for a while.
    pub(crate) async fn linger(mut self) {
        self.drain(DRAIN_BYTES_AFTER, DRAIN_WAIT_AFTER).await;
    }

    /// Whether the end came within so many bytes and so much time.
    async fn drain(&mut self, bytes_max: u64, wait: Duration) -> bool {
        let reading = async {
            let mut bytes = 0_u64;
            while let Ok(next) = self.read().await {
                let Some(data) = next else { return true };
                bytes = bytes.saturating_add(data.len() as u64);
                if bytes > bytes_max {
                    break;
                }
            }
            false
        };
        timeout(wait, reading).await.unwrap_or(false)
    }
}

/// Where the bytes of an object or a part come from.
pub(crate) trait ByteSource: Send {
    /// The next bytes; `None` after the last ones.
    fn read(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

impl ByteSource for RequestBody {
    fn read(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send {
        RequestBody::read(self)
    }
}

/// An object's or a part's bytes: decoded while they come, and judged after the last one.
#[derive(Debug)]
pub(crate) struct DecodedBody<'a, S> {
    source: &'a mut S,
    decoder: Option<BodyDecoder>,
    /// Slices of one read, in reverse.
    decoded: Vec<Bytes>,
    ended: bool,
    digests: Option<BodyDigests>,
}

impl<'a, S: ByteSource> DecodedBody<'a, S> {
    /// Begins on a body.
    pub(crate) fn new(source: &'a mut S, plan: BodyPlan, wanted: WantedDigests) -> Self {
        Self {
            source,
            decoder: Some(BodyDecoder::new(plan, wanted)),
            decoded: Vec::new(),
            ended: false,
            digests: None,
        }
    }

    /// The next bytes of the object; `None` after the last one, when there are as many as were said. Whether they are
    /// the right ones is for [`DecodedBody::digests`] to say.
    ///
    /// # Errors
    /// When the body is not what was said.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(slice) = self.decoded.pop() {
                return Ok(Some(slice));
            }
            if self.ended {
                return Ok(None);
            }
            match (self.source.read().await?, &mut self.decoder) {
                (Some(data), Some(decoder)) => {
                    decoder.push(data, &mut self.decoded)?;
                    self.decoded.reverse();
                }
                (None, Some(decoder)) => {
                    decoder.check_length()?;
                    self.ended = true;
                }
                (_, None) => return Err(ErrorCode::IncompleteBody.into()),
            }
        }
    }

    /// The digests of the whole, verified: nothing may become of the body before. The later they are asked for, the
    /// more of them is made beside those of other bodies.
    ///
    /// # Errors
    /// What the body is not; IncompleteBody before [`DecodedBody::next`] has answered `None`, and after an error.
    pub(crate) fn digests(&mut self) -> Result<BodyDigests> {
        if let Some(digests) = self.digests {
            return Ok(digests);
        }
        let decoder = self.decoder.take().filter(|_| self.ended);
        let digests = decoder.ok_or(ErrorCode::IncompleteBody)?.finish()?;
        self.digests = Some(digests);
        Ok(digests)
    }
}
