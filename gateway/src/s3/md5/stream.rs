//! One message: the state of its chain, and bytes that came and are not taken yet.

use super::Md5Digest;
use super::kernel::{self, BLOCK_BYTES, LANES, START, worth_while};
use bytes::Bytes;
use std::collections::VecDeque;

/// The chain of one message.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    state: [u32; 4],
    /// The bytes of an unfinished block.
    block: [u8; BLOCK_BYTES],
    /// Bytes taken, those of `block` among them.
    bytes: u64,
    /// Bytes in `block`.
    filled: usize,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            state: START,
            block: [0; BLOCK_BYTES],
            bytes: 0,
            filled: 0,
        }
    }
}

impl Stream {
    /// Bytes taken so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Finishes a begun block with the first of `bytes`; answers those after it.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.filled == 0 {
            return bytes;
        }
        let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.filled));
        self.block[self.filled..][..taken.len()].copy_from_slice(taken);
        self.bytes += taken.len() as u64;
        self.filled += taken.len();
        if self.filled == BLOCK_BYTES {
            kernel::one(&mut self.state, &self.block);
            self.filled = 0;
        }
        rest
    }

    /// Begins a block with `bytes`, fewer than one, if there are any; none is begun.
    fn begin_if_any(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.block[..bytes.len()].copy_from_slice(bytes);
        self.filled = bytes.len();
        self.bytes += bytes.len() as u64;
    }

    /// Takes `bytes`.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let bytes = self.fill(bytes);
        let (blocks, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK_BYTES);
        kernel::one(&mut self.state, blocks);
        self.bytes += blocks.len() as u64;
        self.begin_if_any(rest);
    }

    /// The digest (RFC 1321, sections 3.1, 3.2 and 3.5).
    pub(super) fn finish(mut self) -> Md5Digest {
        let bits = self.bytes.wrapping_mul(8).to_le_bytes();
        let zeros = (2 * BLOCK_BYTES - 9 - self.filled) % BLOCK_BYTES;
        let mut padding = [0; 2 * BLOCK_BYTES];
        padding[0] = 0x80;
        padding[1 + zeros..][..8].copy_from_slice(&bits);
        self.update(&padding[..1 + zeros + 8]);
        let mut digest = [0; 16];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }
}

/// A message and the bytes it is to take next.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) bytes: VecDeque<Bytes>,
}

impl Waiting<'_> {
    /// Takes what is no whole number of blocks in one piece; then the first piece, if there is one, begins with
    /// whole blocks.
    fn align(&mut self) {
        while let Some(mut first) = self.bytes.pop_front() {
            let left = self.stream.fill(&first).len();
            if left >= BLOCK_BYTES {
                let taken = first.len() - left;
                self.bytes.push_front(first.split_off(taken));
                return;
            }
            let taken = first.len() - left;
            self.stream.begin_if_any(&first[taken..]);
        }
    }

    fn blocks(&self) -> usize {
        self.bytes.front().map_or(0, |first| first.len() / BLOCK_BYTES)
    }

    /// The first piece is taken up to here.
    fn advance(&mut self, bytes: usize) {
        self.stream.bytes += bytes as u64;
        if let Some(first) = self.bytes.front_mut() {
            drop(first.split_to(bytes));
        }
    }
}

/// Takes all bytes of the first of up to `LANES` messages, and of the others what goes side by side with them. What
/// is left of those goes with later ones: so lanes are rarely empty, and nobody's turn takes long.
pub(super) fn take_first(waiting: &mut [Waiting<'_>]) {
    debug_assert!(waiting.len() <= LANES);
    loop {
        waiting.iter_mut().for_each(Waiting::align);
        let first_has_blocks = waiting.first().is_some_and(|first| first.blocks() > 0);
        let mut active: Vec<&mut Waiting<'_>> = waiting.iter_mut().filter(|one| one.blocks() > 0).collect();
        if !first_has_blocks || active.len() < worth_while() {
            break;
        }
        let blocks = active.iter().map(|one| one.blocks()).min().unwrap_or(0);
        let bytes = blocks * BLOCK_BYTES;
        let mut states = [[0; LANES]; 4];
        {
            // Lanes without a message go over the first one's bytes once more.
            let mut messages: [&[u8]; LANES] = [&active[0].bytes[0][..bytes]; LANES];
            for (lane, one) in active.iter().enumerate() {
                messages[lane] = &one.bytes[0][..bytes];
                for (words, word) in states.iter_mut().zip(one.stream.state) {
                    words[lane] = word;
                }
            }
            kernel::many(&mut states, &messages);
        }
        for (lane, one) in active.iter_mut().enumerate() {
            one.stream.state = states.map(|words| words[lane]);
            one.advance(bytes);
        }
    }
    if let Some(first) = waiting.first_mut() {
        for bytes in std::mem::take(&mut first.bytes) {
            first.stream.update(&bytes);
        }
    }
}
