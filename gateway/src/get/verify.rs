//! Stored bytes to plaintext: every frame is opened, and so verified, before any byte of it is handed on. Pure.

use crate::chunker::frame_name;
use crate::crypt::{BlobKey, CryptError, FRAME, STORED_FRAME, TAG};
use ullage_model::limits::FRAME_BYTES;
use ullage_model::units::frames;

/// Frames of one chunk that are wanted, and whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSpan {
    /// Index of the chunk in its blob.
    pub index: u32,
    /// Plaintext bytes of the chunk.
    pub chunk_plaintext_bytes: u64,
    /// Plaintext bytes of each of the blob's chunks but the last.
    pub chunk_bytes: u64,
    /// Plaintext bytes of the whole blob.
    pub blob_bytes: u64,
    /// First frame wanted, counted in the chunk.
    pub first: u64,
    /// Number of frames wanted.
    pub count: u64,
}

impl FrameSpan {
    /// Plaintext bytes of all wanted frames.
    #[must_use]
    pub fn plaintext_bytes(&self) -> u64 {
        let end = ((self.first + self.count) * FRAME_BYTES).min(self.chunk_plaintext_bytes);
        end.saturating_sub(self.first * FRAME_BYTES)
    }

    /// Whether the frames lie in the chunk and the chunk in the blob.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let start = u64::from(self.index).checked_mul(self.chunk_bytes);
        let end = start.and_then(|start| start.checked_add(self.chunk_plaintext_bytes));
        self.count > 0
            && self
                .first
                .checked_add(self.count)
                .is_some_and(|end| end <= frames(self.chunk_plaintext_bytes))
            && self.chunk_bytes.is_multiple_of(FRAME_BYTES)
            && self.chunk_plaintext_bytes <= self.chunk_bytes
            && end.is_some_and(|end| end <= self.blob_bytes)
    }

    fn frame_bytes(&self, frame: u64) -> usize {
        let rest = self.chunk_plaintext_bytes - (self.first + frame) * FRAME_BYTES;
        usize::try_from(rest.min(FRAME_BYTES)).unwrap_or(FRAME)
    }
}

/// Why stored bytes did not become plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A frame did not open.
    #[error(transparent)]
    Frame(#[from] CryptError),
    /// There were fewer bytes than the frames have.
    #[error("{missing} frames are missing")]
    TooShort {
        /// Frames that were not complete.
        missing: u64,
    },
    /// There were more.
    #[error("there are more bytes than were asked for")]
    TooLong,
}

/// Opens the frames of a span as their stored bytes come, in pieces of any size.
#[derive(Debug)]
pub struct Opening<'a> {
    key: &'a BlobKey,
    span: FrameSpan,
    opened: u64,
    pending: Vec<u8>,
}

impl<'a> Opening<'a> {
    /// Nothing opened yet. `span` must be sound.
    #[must_use]
    pub fn new(key: &'a BlobKey, span: FrameSpan) -> Self {
        Self {
            key,
            span,
            opened: 0,
            pending: Vec::new(),
        }
    }

    /// Opens what `stored` completes, appending the plaintext to `plain`.
    ///
    /// # Errors
    /// When a frame does not verify or too many bytes come. What was appended before is verified.
    pub fn push(&mut self, mut stored: &[u8], plain: &mut Vec<u8>) -> Result<(), VerifyError> {
        while !stored.is_empty() {
            if self.opened == self.span.count {
                return Err(VerifyError::TooLong);
            }
            let whole = self.span.frame_bytes(self.opened) + TAG;
            if self.pending.is_empty() && stored.len() >= whole {
                let (frame, rest) = stored.split_at(whole);
                self.open(frame, plain)?;
                stored = rest;
                continue;
            }
            let taken = (whole - self.pending.len()).min(stored.len());
            if self.pending.capacity() == 0 {
                self.pending.reserve_exact(STORED_FRAME);
            }
            self.pending.extend_from_slice(&stored[..taken]);
            stored = &stored[taken..];
            if self.pending.len() == whole {
                let mut frame = std::mem::take(&mut self.pending);
                self.open(&frame, plain)?;
                frame.clear();
                self.pending = frame;
            }
        }
        Ok(())
    }

    /// All bytes were pushed.
    ///
    /// # Errors
    /// When frames are missing.
    pub fn finish(self) -> Result<(), VerifyError> {
        let missing = self.span.count - self.opened;
        if missing > 0 {
            Err(VerifyError::TooShort { missing })
        } else {
            Ok(())
        }
    }

    fn open(&mut self, stored: &[u8], plain: &mut Vec<u8>) -> Result<(), VerifyError> {
        let frame = self.span.first + self.opened;
        let name = frame_name(
            self.span.index,
            frame,
            self.span.chunk_bytes,
            self.span.blob_bytes,
        );
        let start = plain.len();
        plain.resize(start + stored.len() - TAG, 0);
        if let Err(error) = self.key.open(name, stored, &mut plain[start..]) {
            plain.truncate(start);
            return Err(error.into());
        }
        self.opened += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameSpan, Opening, VerifyError};
    use crate::chunker::Chunker;
    use crate::crypt::{BlobKey, FRAME, STORED_FRAME};
    use crate::memory::BufferPool;
    use bytes::Bytes;
    use std::sync::Arc;
    use ullage_model::ids::BlobId;

    const CHUNK: u64 = 4 * FRAME as u64;

    fn key() -> BlobKey {
        BlobKey::new(BlobId::default(), &[5; 32])
    }

    fn body(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at % 241).unwrap()).collect()
    }

    fn sealed(len: usize) -> Bytes {
        let pool = Arc::new(BufferPool::default());
        let mut chunker = Chunker::new(key(), CHUNK);
        chunker.fill(pool.take(1024, None));
        assert!(chunker.push(&mut Bytes::from(body(len))).unwrap().is_none());
        chunker.finish().unwrap().unwrap().stored
    }

    fn span(len: usize, first: u64, count: u64) -> FrameSpan {
        FrameSpan {
            index: 0,
            chunk_plaintext_bytes: len as u64,
            chunk_bytes: CHUNK,
            blob_bytes: len as u64,
            first,
            count,
        }
    }

    fn open(stored: &[u8], span: FrameSpan, step: usize) -> Result<Vec<u8>, VerifyError> {
        let key = key();
        let mut opening = Opening::new(&key, span);
        let mut plain = Vec::new();
        for part in stored.chunks(step) {
            opening.push(part, &mut plain)?;
        }
        opening.finish().map(|()| plain)
    }

    #[test]
    fn frames_open_whatever_pieces_their_bytes_come_in() {
        let len = 2 * FRAME + 100;
        let stored = sealed(len);
        for step in [1000, FRAME, STORED_FRAME, STORED_FRAME + 1, stored.len()] {
            assert_eq!(open(&stored, span(len, 0, 3), step).unwrap(), body(len));
            let tail = open(&stored[STORED_FRAME..], span(len, 1, 2), step).unwrap();
            assert_eq!(tail, body(len)[FRAME..]);
        }
        assert_eq!(span(len, 1, 2).plaintext_bytes(), (FRAME + 100) as u64);
    }

    #[test]
    fn missing_swapped_and_surplus_frames_are_noticed() {
        let len = 2 * FRAME + 100;
        let stored = sealed(len);
        let cut = open(&stored[..2 * STORED_FRAME], span(len, 0, 3), 1000);
        assert_eq!(cut.unwrap_err(), VerifyError::TooShort { missing: 1 });
        assert!(
            open(&stored[..STORED_FRAME], span(len, 1, 1), 1000).is_err(),
            "another frame"
        );
        assert_eq!(
            open(&stored, span(len, 0, 1), 1000).unwrap_err(),
            VerifyError::TooLong
        );
        let shorter = FrameSpan {
            blob_bytes: 2 * FRAME as u64,
            ..span(2 * FRAME, 0, 2)
        };
        assert!(
            open(&stored[..2 * STORED_FRAME], shorter, 1000).is_err(),
            "a blob cut at a frame's end"
        );
    }

    #[test]
    fn unsound_spans_are_known() {
        assert!(span(FRAME + 1, 0, 2).is_sound());
        assert!(!span(FRAME + 1, 0, 3).is_sound());
        assert!(!span(FRAME + 1, 0, 0).is_sound());
        assert!(
            !FrameSpan {
                blob_bytes: 1,
                ..span(FRAME, 0, 1)
            }
            .is_sound()
        );
        assert!(
            !FrameSpan {
                first: u64::MAX,
                ..span(FRAME, 0, 1)
            }
            .is_sound()
        );
    }
}
