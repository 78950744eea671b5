//! Messages within a streamed body: each is its length (4 bytes, big-endian) and that many bytes. Plain bytes
//! may follow the last one.

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http_body::Body;
use http_body_util::BodyExt;

/// Bytes in front of each message.
const LENGTH_BYTES: usize = 4;

/// Why a stream of messages ended early.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed, or ended within a message.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// A message is longer than the receiver takes.
    #[error("a message of {bytes} bytes is longer than {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}

/// A message as it goes out.
///
/// # Panics
/// When it is 4 GiB long or longer: no message comes near.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or_else(|_| panic!("a message of 4 GiB or more"));
    let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + message.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.freeze()
}

/// The messages in `body`, each at most `limit` bytes. Ends with the body; an error is the last item.
pub fn messages<B>(body: B, limit: usize) -> BoxStream<'static, Result<Bytes, FrameError>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    stream::unfold(Some(FrameReader::new(body)), move |reader| async move {
        let mut reader = reader?;
        match reader.message(limit).await {
            Ok(Some(message)) => Some((Ok(message), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// Reads messages, and the bytes after them, from a body.
#[derive(Debug)]
pub struct FrameReader<B> {
    body: B,
    /// Came, but not given out yet.
    rest: Bytes,
}

impl<B> FrameReader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// A reader at the beginning of `body`.
    pub fn new(body: B) -> Self {
        Self {
            body,
            rest: Bytes::new(),
        }
    }

    /// The next message, of at most `limit` bytes; `None` at the end of the body.
    ///
    /// # Errors
    /// When the body fails or ends within a message, or the message is too long. Nothing may be read after.
    pub async fn message(&mut self, limit: usize) -> Result<Option<Bytes>, FrameError> {
        if self.rest.is_empty() {
            match self.data().await? {
                Some(data) => self.rest = data,
                None => return Ok(None),
            }
        }
        let mut length = self.exactly(LENGTH_BYTES).await?;
        let bytes = length.get_u32() as usize;
        if bytes > limit {
            return Err(FrameError::TooLong { bytes, limit });
        }
        self.exactly(bytes).await.map(Some)
    }

    /// The next bytes, as many as came together, never none; `None` at the end of the body.
    ///
    /// # Errors
    /// When the body fails.
    pub async fn data(&mut self) -> Result<Option<Bytes>, FrameError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| FrameError::Broken(error.to_string()))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When the body fails or ends before.
    pub async fn exactly(&mut self, count: usize) -> Result<Bytes, FrameError> {
        if self.rest.len() >= count {
            return Ok(self.rest.split_to(count));
        }
        // Grows with what comes, not with what was announced.
        let mut bytes = BytesMut::from(std::mem::take(&mut self.rest));
        while bytes.len() < count {
            let Some(mut data) = self.data().await? else {
                return Err(FrameError::Broken(format!(
                    "the body ended {} bytes short",
                    count - bytes.len()
                )));
            };
            let part = data.split_to(data.len().min(count - bytes.len()));
            bytes.extend_from_slice(&part);
            self.rest = data;
        }
        Ok(bytes.freeze())
    }
}
