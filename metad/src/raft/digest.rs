//! A digest of everything that apply ever wrote: a chain over the changes of each entry. Replicas with the
//! same digest at the same index hold the same state.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use ullage_model::store::Change;

/// Entries between two digests that are kept for comparison.
pub const DIGEST_EVERY_ENTRIES: u64 = 4096;
/// Digests that are kept.
const KEPT: usize = 32;

/// What [`extend`] adds to the key and value of a change: four lengths, the column's name, a byte.
const CHANGE_FRAMING_BYTES: usize = 4 * 8 + 16;

/// BLAKE3 over the chain.
pub type Digest = [u8; 32];

/// The digest after an entry: of the digest before it, its index and its changes.
pub(super) fn extend(before: &Digest, index: u64, changes: &[Change]) -> Digest {
    let bytes = |change: &Change| change.key.len() + change.value.as_ref().map_or(0, |value| value.len());
    let bytes: usize = changes
        .iter()
        .map(|change| bytes(change) + CHANGE_FRAMING_BYTES)
        .sum();
    // Hashed at once: a piece at a time costs as much again.
    let mut hashed = Vec::with_capacity(before.len() + 8 + bytes);
    hashed.extend_from_slice(before);
    hashed.extend_from_slice(&index.to_le_bytes());
    let mut sized = |bytes: &[u8]| {
        hashed.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        hashed.extend_from_slice(bytes);
    };
    for Change { column, key, value } in changes {
        sized(column.name().as_bytes());
        sized(key);
        match value {
            Some(value) => {
                sized(&[1]);
                sized(value);
            }
            None => sized(&[0]),
        }
    }
    *blake3::hash(&hashed).as_bytes()
}

/// The last digests at indexes that are multiples of a number, [`DIGEST_EVERY_ENTRIES`] by default.
#[derive(Debug)]
pub struct DigestPoints {
    every: u64,
    points: Mutex<VecDeque<(u64, Digest)>>,
}

impl Default for DigestPoints {
    fn default() -> Self {
        Self::every(DIGEST_EVERY_ENTRIES)
    }
}

impl DigestPoints {
    /// Notes a digest every so many entries.
    #[must_use]
    pub fn every(entries: u64) -> Self {
        Self {
            every: entries.max(1),
            points: Mutex::default(),
        }
    }

    pub(super) fn note(&self, index: u64, digest: &Digest) {
        if !index.is_multiple_of(self.every) {
            return;
        }
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        points.push_back((index, *digest));
        if points.len() > KEPT {
            points.pop_front();
        }
    }

    /// The kept (index, digest) pairs, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<(u64, Digest)> {
        self.points
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect()
    }
}
