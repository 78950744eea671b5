//! Memory for parts that are read, used again and again: fresh memory would be zeroed, and faulted in page by page.

use super::PART_BYTES;
use crate::sync::{Shared, lock};
use bytes::Bytes;
use std::sync::Arc;

/// Buffers kept for their next use: 8 MiB.
const IDLE_MAX: usize = 32;

/// Buffers that wait for their next use, each of `PART_BYTES`.
#[derive(Default)]
pub(crate) struct Buffers {
    idle: Shared<Vec<Vec<u8>>>,
}

/// Memory for one part. What is in it is whatever was there last.
pub(super) struct Buffer {
    memory: Vec<u8>,
    bytes: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// Memory for `bytes` bytes.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Buffer {
        // A small part would hold a large buffer on its way.
        let is_large = (PART_BYTES / 2..=PART_BYTES).contains(&bytes);
        let idle = if is_large { lock(&self.idle).pop() } else { None };
        let memory = idle.unwrap_or_else(|| vec![0; if is_large { PART_BYTES } else { bytes }]);
        Buffer {
            memory,
            bytes,
            home: Arc::clone(self),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.bytes]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.bytes]
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut idle = lock(&self.home.idle);
        if memory.len() == PART_BYTES && idle.len() < IDLE_MAX {
            idle.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(buffers: &Buffers) -> usize {
        lock(&buffers.idle).len()
    }

    #[test]
    fn large_buffers_come_back_when_the_last_of_their_bytes_is_gone_and_only_so_many() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take(PART_BYTES - 7);
        buffer.as_mut().fill(1);
        let bytes = Bytes::from(buffer);
        let tail = bytes.slice(100..);
        drop(bytes);
        assert_eq!(idle(&buffers), 0, "its tail is still wanted");
        assert_eq!(tail.len(), PART_BYTES - 107);
        drop(tail);
        assert_eq!(idle(&buffers), 1);
        drop(buffers.take(100));
        assert_eq!(idle(&buffers), 1, "a small one is freed");
        let many: Vec<_> = (0..2 * IDLE_MAX).map(|_| buffers.take(PART_BYTES)).collect();
        assert_eq!(idle(&buffers), 0);
        drop(many);
        assert_eq!(idle(&buffers), IDLE_MAX);
    }
}
