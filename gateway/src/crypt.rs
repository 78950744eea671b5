//! Sealing and opening of frames: AES-256-GCM under a key that belongs to one blob. No keys of others, no
//! network.
//!
//! A frame is up to 32 KiB of plaintext followed by its 16-byte tag. The nonce is the frame's index in its
//! *blob* as a 96-bit big-endian number (chunk n starts at n × frames per chunk), never repeated because the key
//! is fresh per blob and a blob is sealed once. The associated data are 25 bytes: the blob's id (16), the frame
//! index (8, big-endian) and 1 for the blob's last frame, 0 for others. So a frame opens only as that frame of
//! that blob, and a blob cut at a frame's end does not pass for a whole one.

use crate::environment::Randomness;
use crate::kek::{KEY_BYTES, gcm_key};
use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use std::fmt;
use ullage_model::ids::BlobId;
use ullage_model::limits::{FRAME_BYTES, FRAME_TAG_BYTES};
use zeroize::Zeroizing;

/// Plaintext bytes of a whole frame.
#[expect(clippy::cast_possible_truncation, reason = "32 KiB")]
pub const FRAME: usize = FRAME_BYTES as usize;
/// Bytes of a frame's tag.
#[expect(clippy::cast_possible_truncation, reason = "16")]
pub const TAG: usize = FRAME_TAG_BYTES as usize;
/// Stored bytes of a whole frame.
pub const STORED_FRAME: usize = FRAME + TAG;
const AAD_BYTES: usize = 25;

/// Why a frame did not open or could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptError {
    /// The frame is not that frame of that blob, or was changed.
    #[error("frame {frame} of {blob} does not verify")]
    Damaged {
        /// The blob it should belong to.
        blob: BlobId,
        /// Its index in the blob.
        frame: u64,
    },
    /// The cipher refused a length it should know.
    #[error("frame {frame} of {blob} has an impossible length")]
    Length {
        /// The blob.
        blob: BlobId,
        /// Its index.
        frame: u64,
    },
}

/// Which frame of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameName {
    /// Index in the blob, from 0.
    pub index: u64,
    /// Whether it is the blob's last.
    pub last: bool,
}

/// A blob's key at work.
pub struct BlobKey {
    blob: BlobId,
    key: LessSafeKey,
}

impl fmt::Debug for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobKey({})", self.blob)
    }
}

/// 32 fresh random bytes for one blob.
#[must_use]
pub fn fresh_key(random: &dyn Randomness) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    random.fill(key.as_mut_slice());
    key
}

impl BlobKey {
    /// The key of `blob`.
    #[must_use]
    pub fn new(blob: BlobId, key: &[u8; KEY_BYTES]) -> Self {
        Self {
            blob,
            key: gcm_key(key),
        }
    }

    /// The blob it belongs to.
    #[must_use]
    pub fn blob(&self) -> BlobId {
        self.blob
    }

    /// Seals `frame` in place and answers its tag.
    ///
    /// # Errors
    /// When the frame is longer than a frame may be.
    pub fn seal(&self, name: FrameName, frame: &mut [u8]) -> Result<[u8; TAG], CryptError> {
        let refused = CryptError::Length {
            blob: self.blob,
            frame: name.index,
        };
        if frame.len() > FRAME {
            return Err(refused);
        }
        let aad = Aad::from(self.associated_data(name));
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(name.index), aad, frame)
            .map_err(|_| refused)?;
        tag.as_ref().try_into().map_err(|_| refused)
    }

    /// Opens `stored` (a frame with its tag) into `plain`, which is as long as the frame without its tag.
    ///
    /// # Errors
    /// When it is not that frame of this blob. `plain` holds nothing then.
    pub fn open(&self, name: FrameName, stored: &[u8], plain: &mut [u8]) -> Result<(), CryptError> {
        let damaged = CryptError::Damaged {
            blob: self.blob,
            frame: name.index,
        };
        if stored.len() != plain.len() + TAG {
            return Err(damaged);
        }
        let (ciphertext, tag) = stored.split_at(plain.len());
        let aad = Aad::from(self.associated_data(name));
        let opened = self
            .key
            .open_separate_gather(nonce(name.index), aad, ciphertext, tag, plain);
        if opened.is_err() {
            plain.fill(0);
            return Err(damaged);
        }
        Ok(())
    }

    fn associated_data(&self, name: FrameName) -> [u8; AAD_BYTES] {
        let mut bytes = [0; AAD_BYTES];
        bytes[..16].copy_from_slice(&self.blob.to_bytes());
        bytes[16..24].copy_from_slice(&name.index.to_be_bytes());
        bytes[24] = u8::from(name.last);
        bytes
    }
}

fn nonce(frame: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&frame.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::{BlobKey, FrameName, TAG};
    use ullage_model::ids::{BlobId, SessionId};

    fn key(counter: u64) -> BlobKey {
        let session = SessionId(1);
        BlobKey::new(BlobId { session, counter }, &[3; 32])
    }

    fn name(index: u64, last: bool) -> FrameName {
        FrameName { index, last }
    }

    fn check(
        sealed_as: FrameName,
        opened_as: FrameName,
        by: &BlobKey,
        change: impl Fn(&mut Vec<u8>),
    ) -> bool {
        let mut stored = b"some plaintext".to_vec();
        let tag = key(1).seal(sealed_as, &mut stored).unwrap();
        stored.extend_from_slice(&tag);
        change(&mut stored);
        let mut plain = vec![0; stored.len().saturating_sub(TAG)];
        let opened = by.open(opened_as, &stored, &mut plain).is_ok();
        assert!(!opened || plain == b"some plaintext");
        opened
    }

    #[test]
    fn a_frame_opens_as_itself_and_as_nothing_else() {
        let same = |_: &mut Vec<u8>| {};
        assert!(check(name(0, true), name(0, true), &key(1), same));
        assert!(
            !check(name(0, true), name(0, false), &key(1), same),
            "truncated blob"
        );
        assert!(
            !check(name(0, false), name(1, false), &key(1), same),
            "swapped frame"
        );
        assert!(
            !check(name(0, false), name(0, false), &key(2), same),
            "another blob's frame"
        );
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        for at in 0..14 + TAG {
            assert!(
                !check(name(4, false), name(4, false), &key(1), |stored| stored[at] ^=
                    0x80),
                "byte {at}"
            );
        }
        for len in 0..14 + TAG {
            assert!(
                !check(name(4, false), name(4, false), &key(1), |stored| stored
                    .truncate(len)),
                "{len}"
            );
        }
    }
}
