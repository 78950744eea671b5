//! Cuts plaintext into chunks and seals it frame by frame into one buffer per chunk: the only copy that is made of
//! a body. Pure but for the buffers; where chunks go is not known here.

use crate::crypt::{BlobKey, CryptError, FRAME, FrameName};
use crate::memory::PooledBuffer;
use bytes::{Buf, Bytes};
use ullage_model::ids::Digest;
use ullage_model::units::frames;

/// A chunk as it travels and is stored.
#[derive(Clone, Debug)]
pub struct SealedChunk {
    /// Its index in the blob.
    pub index: u32,
    /// Plaintext bytes.
    pub plaintext_bytes: u64,
    /// Its frames with their tags.
    pub stored: Bytes,
}

impl SealedChunk {
    /// BLAKE3 of the stored bytes. Costs a pass over them.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.stored)
    }
}

/// Cuts one blob.
#[derive(Debug)]
pub struct Chunker {
    key: BlobKey,
    chunk_bytes: u64,
    frame: u64,
    index: u32,
    total: u64,
    filling: Option<Filling>,
}

#[derive(Debug)]
struct Filling {
    buffer: PooledBuffer,
    /// Where the frame being filled starts in the buffer; it is plaintext yet.
    frame_start: usize,
    plaintext_bytes: u64,
}

impl Chunker {
    /// Cuts a blob into chunks of `chunk_bytes` (whole frames) under `key`.
    #[must_use]
    pub fn new(key: BlobKey, chunk_bytes: u64) -> Self {
        Self {
            key,
            chunk_bytes,
            frame: 0,
            index: 0,
            total: 0,
            filling: None,
        }
    }

    /// Whether [`Chunker::fill`] must be called before the next byte can be pushed.
    #[must_use]
    pub fn needs_buffer(&self) -> bool {
        self.filling.is_none()
    }

    /// Plaintext bytes pushed so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The buffer of the next chunk.
    pub fn fill(&mut self, buffer: PooledBuffer) {
        self.filling = Some(Filling {
            buffer,
            frame_start: 0,
            plaintext_bytes: 0,
        });
    }

    /// Takes bytes off `data`: all of them, or, if a chunk became full and more bytes follow it, some; then that
    /// chunk is answered. A frame is sealed only when the next byte is there, because the last one of a blob is
    /// sealed as such.
    ///
    /// # Errors
    /// Never for frames of the right length; see [`BlobKey::seal`].
    ///
    /// # Panics
    /// When [`Chunker::needs_buffer`].
    pub fn push(&mut self, data: &mut Bytes) -> Result<Option<SealedChunk>, CryptError> {
        while data.has_remaining() {
            let filling = self.filling.as_mut().expect("a chunk is filled into a buffer");
            if filling.plaintext_bytes == self.chunk_bytes {
                return self.seal_chunk(false).map(Some);
            }
            let in_frame = filling.buffer.bytes.len() - filling.frame_start;
            if in_frame == FRAME {
                filling.seal_frame(
                    &self.key,
                    FrameName {
                        index: self.frame,
                        last: false,
                    },
                )?;
                self.frame += 1;
                continue;
            }
            let room = (FRAME - in_frame) as u64;
            let taken = room
                .min(self.chunk_bytes - filling.plaintext_bytes)
                .min(data.len() as u64);
            // Both bounds are below 2^32: a frame and the length of a slice in memory.
            let part = data.split_to(usize::try_from(taken).unwrap_or(usize::MAX));
            filling.buffer.bytes.extend_from_slice(&part);
            filling.plaintext_bytes += taken;
            self.total += taken;
        }
        Ok(None)
    }

    /// The last chunk; `None` for a blob without bytes.
    ///
    /// # Errors
    /// As [`Chunker::push`].
    pub fn finish(&mut self) -> Result<Option<SealedChunk>, CryptError> {
        match &self.filling {
            Some(filling) if filling.plaintext_bytes > 0 => self.seal_chunk(true).map(Some),
            _ => Ok(None),
        }
    }

    fn seal_chunk(&mut self, last: bool) -> Result<SealedChunk, CryptError> {
        let mut filling = self
            .filling
            .take()
            .expect("a chunk is sealed after it was filled");
        filling.seal_frame(
            &self.key,
            FrameName {
                index: self.frame,
                last,
            },
        )?;
        self.frame += 1;
        let chunk = SealedChunk {
            index: self.index,
            plaintext_bytes: filling.plaintext_bytes,
            stored: Bytes::from_owner(filling.buffer),
        };
        self.index += 1;
        Ok(chunk)
    }
}

impl Filling {
    fn seal_frame(&mut self, key: &BlobKey, name: FrameName) -> Result<(), CryptError> {
        let tag = key.seal(name, &mut self.buffer.bytes[self.frame_start..])?;
        self.buffer.bytes.extend_from_slice(&tag);
        self.frame_start = self.buffer.bytes.len();
        Ok(())
    }
}

/// Frame `frame_in_chunk` of chunk `index` of a blob of `blob_bytes`, as it is named in the whole blob.
#[must_use]
pub fn frame_name(index: u32, frame_in_chunk: u64, chunk_bytes: u64, blob_bytes: u64) -> FrameName {
    let frame = u64::from(index) * frames(chunk_bytes) + frame_in_chunk;
    FrameName {
        index: frame,
        last: frame + 1 == frames(blob_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunker, frame_name};
    use crate::crypt::{BlobKey, FRAME, STORED_FRAME, TAG};
    use crate::memory::BufferPool;
    use bytes::Bytes;
    use std::sync::Arc;
    use ullage_model::ids::BlobId;
    use ullage_model::units::stored_bytes;

    const CHUNK: u64 = 3 * FRAME as u64;

    fn key() -> BlobKey {
        BlobKey::new(BlobId::default(), &[5; 32])
    }

    fn check(len: usize, step: usize) {
        let body: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let pool = Arc::new(BufferPool::default());
        let mut chunker = Chunker::new(key(), CHUNK);
        let mut chunks = Vec::new();
        for part in body.chunks(step.max(1)) {
            let mut part = Bytes::copy_from_slice(part);
            while !part.is_empty() {
                if chunker.needs_buffer() {
                    chunker.fill(pool.take(1024, None));
                }
                chunks.extend(chunker.push(&mut part).unwrap());
            }
        }
        chunks.extend(chunker.finish().unwrap());
        assert_eq!(chunker.total(), len as u64);
        let mut opened = Vec::new();
        for (at, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk.index as usize, at);
            assert_eq!(chunk.stored.len() as u64, stored_bytes(chunk.plaintext_bytes));
            assert!(chunk.plaintext_bytes == CHUNK || at + 1 == chunks.len());
            for (frame, stored) in chunk.stored.chunks(STORED_FRAME).enumerate() {
                let mut plain = vec![0; stored.len() - TAG];
                let name = frame_name(chunk.index, frame as u64, CHUNK, len as u64);
                key().open(name, stored, &mut plain).unwrap();
                opened.extend_from_slice(&plain);
            }
        }
        assert_eq!(opened, body, "{len} bytes by {step}");
    }

    #[test]
    fn bodies_of_every_shape_come_apart_and_together_again() {
        let chunk = usize::try_from(CHUNK).unwrap();
        for len in [
            0,
            1,
            FRAME - 1,
            FRAME,
            FRAME + 1,
            chunk - 1,
            chunk,
            chunk + 1,
            2 * chunk,
            2 * chunk + FRAME,
        ] {
            for step in [len, 1000, FRAME, FRAME + 1] {
                check(len, step);
            }
        }
    }
}
