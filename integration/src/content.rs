//! Bodies whose bytes follow from a seed and a name, so that any byte of any object can be checked
//! later without having kept the body.
//!
//! A body is a window into one endless repetition of a fixed random pattern. The pattern's length is a
//! prime above 1 MiB, so that no shift by frames, chunks or parts maps a body onto itself, and sending
//! or checking a body costs a memory comparison and no generation.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, anyhow, ensure};
use md5::{Digest as _, Md5};
use rand::{RngCore as _, SeedableRng as _};

/// Length of the pattern in bytes: the first prime above 2^20.
const PATTERN_BYTES: usize = 1_048_583;

/// The seed of the pattern itself; the same in every run, so that a later process can check.
const PATTERN_SEED: u64 = 0x0075_6c6c_6167_6500;

fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut bytes = vec![0; PATTERN_BYTES];
        rand::rngs::StdRng::seed_from_u64(PATTERN_SEED).fill_bytes(&mut bytes);
        bytes
    })
}

/// A body: `length` bytes that follow from a seed and a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// The first byte of a body that is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Offset in the body.
    pub offset: u64,
}

impl Content {
    /// The body of `length` bytes for `name` under `seed`.
    #[must_use]
    pub fn new(seed: u64, name: &str, length: u64) -> Self {
        let mut state = seed ^ 0xcbf2_9ce4_8422_2325;
        for byte in name.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // FNV-1a leaves its high bits weak for short names; one round of splitmix64 spreads them.
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
        Self {
            start: state % PATTERN_BYTES as u64,
            length,
        }
    }

    /// Up to `limit` bytes from `offset` as one contiguous slice; empty only at the end of the body.
    #[must_use]
    pub fn slice(&self, offset: u64, limit: usize) -> &'static [u8] {
        let left = self.length.saturating_sub(offset).min(limit as u64);
        let at = usize::try_from((self.start + offset) % PATTERN_BYTES as u64).unwrap_or(0);
        let end = at
            .saturating_add(usize::try_from(left).unwrap_or(usize::MAX))
            .min(PATTERN_BYTES);
        &pattern()[at..end]
    }

    /// Checks that `bytes` are this body's bytes from `offset` on.
    ///
    /// # Errors
    /// The first byte that differs or lies beyond the body.
    pub fn check(&self, offset: u64, bytes: &[u8]) -> Result<(), Mismatch> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let want = self.slice(at, bytes.len() - done);
            if want.is_empty() {
                return Err(Mismatch { offset: at });
            }
            let have = &bytes[done..done + want.len()];
            if have != want {
                let first = have.iter().zip(want).position(|(a, b)| a != b).unwrap_or(0);
                return Err(Mismatch {
                    offset: at + first as u64,
                });
            }
            done += want.len();
        }
        Ok(())
    }

    /// The part of this body from `offset` on, `length` bytes at most, as a body of its own.
    #[must_use]
    pub fn part(&self, offset: u64, length: u64) -> Self {
        let length = length.min(self.length.saturating_sub(offset));
        Self {
            start: (self.start + offset) % PATTERN_BYTES as u64,
            length,
        }
    }

    /// The whole body in memory.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < self.length {
            bytes.extend_from_slice(self.slice(bytes.len() as u64, usize::MAX));
        }
        bytes
    }

    /// Writes the body to a file.
    ///
    /// # Errors
    /// If the file cannot be made or written.
    pub fn write_file(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = BufWriter::new(File::create(path).context("make a file")?);
        let mut offset = 0;
        while offset < self.length {
            let slice = self.slice(offset, 1 << 20);
            file.write_all(slice).context("write")?;
            offset += slice.len() as u64;
        }
        file.flush().context("write")
    }

    /// Requires that a file holds the body and nothing else.
    ///
    /// # Errors
    /// Names the first byte that differs.
    pub fn check_file(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        loop {
            let read = file.read(&mut buffer).context("read")?;
            if read == 0 {
                break;
            }
            self.check(offset, &buffer[..read])
                .map_err(|Mismatch { offset }| anyhow!("{}: byte {offset} differs", path.display()))?;
            offset += read as u64;
        }
        ensure!(
            offset == self.length,
            "{}: {offset} bytes, not {}",
            path.display(),
            self.length
        );
        Ok(())
    }

    /// The MD5 of the body in lower-case hex: what an ETag of a plain PUT must say.
    #[must_use]
    pub fn md5_hex(&self) -> String {
        let mut digest = Md5::new();
        let mut offset = 0;
        while offset < self.length {
            let slice = self.slice(offset, usize::MAX);
            digest.update(slice);
            offset += slice.len() as u64;
        }
        hex::encode(digest.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_checks_against_itself_at_any_offset() {
        let content = Content::new(7, "some/key", 3_000_000);
        let bytes = content.to_vec();
        assert_eq!(bytes.len(), 3_000_000);
        assert_eq!(content.check(0, &bytes), Ok(()));
        assert_eq!(content.check(1_048_000, &bytes[1_048_000..2_500_000]), Ok(()));
        assert_eq!(content.part(65_536, 100).to_vec(), &bytes[65_536..65_636]);
    }

    #[test]
    fn a_wrong_byte_and_a_byte_too_many_are_found() {
        let content = Content::new(7, "some/key", 100_000);
        let mut bytes = content.to_vec();
        bytes[77_777] ^= 1;
        assert_eq!(content.check(0, &bytes), Err(Mismatch { offset: 77_777 }));
        assert_eq!(
            content.check(99_999, &[content.slice(99_999, 1)[0], 0]),
            Err(Mismatch { offset: 100_000 })
        );
    }

    #[test]
    fn names_seeds_and_shifts_give_other_bodies() {
        let content = Content::new(7, "a", 4096);
        assert_ne!(content.to_vec(), Content::new(7, "b", 4096).to_vec());
        assert_ne!(content.to_vec(), Content::new(8, "a", 4096).to_vec());
        let long = Content::new(7, "a", 16 << 20);
        for shift in [32 << 10, 1 << 20, 4 << 20, 8 << 20] {
            assert!(
                long.check(0, long.slice(shift, 4096)).is_err(),
                "shift by {shift} must be noticed"
            );
        }
    }

    #[test]
    fn md5_is_the_digest_of_the_bytes() {
        let content = Content::new(1, "x", 2_200_000);
        assert_eq!(content.md5_hex(), hex::encode(Md5::digest(content.to_vec())));
    }
}
