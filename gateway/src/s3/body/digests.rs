//! The digests of one body, made in one pass, and only those needed.

use super::super::checksum::{Checksum, ChecksumAlgorithm, ChecksumHasher};
use super::super::md5::{Md5Digest, Md5Hasher};
use super::super::sha256::Sha256Hasher;
use bytes::Bytes;

/// What a verified body was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigests {
    /// Bytes of the decoded body.
    pub bytes: u64,
    /// Its MD5, if wanted or sent to compare.
    pub md5: Option<Md5Digest>,
    /// Its checksum: of the algorithm the client chose, else of the one
    /// wanted.
    pub checksum: Option<Checksum>,
}

#[derive(Debug)]
pub(super) struct Digests {
    md5: Option<Md5Hasher>,
    sha256: Option<Sha256Hasher>,
    checksum: Option<ChecksumHasher>,
    /// The checksum is the SHA-256 that is made anyhow.
    checksum_is_sha256: bool,
}

impl Digests {
    pub(super) fn new(md5: bool, sha256: bool, checksum: Option<ChecksumAlgorithm>) -> Self {
        let checksum_is_sha256 = sha256 && checksum == Some(ChecksumAlgorithm::Sha256);
        Self {
            md5: md5.then(Md5Hasher::new),
            sha256: sha256.then(Sha256Hasher::new),
            checksum: checksum.filter(|_| !checksum_is_sha256).map(ChecksumHasher::new),
            checksum_is_sha256,
        }
    }

    pub(super) fn update(&mut self, bytes: &Bytes) {
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        if let Some(checksum) = &mut self.checksum {
            checksum.update(bytes);
        }
    }

    /// The digests, and beside them the SHA-256 if it was asked for.
    pub(super) fn finish(self, bytes: u64) -> (BodyDigests, Option<[u8; 32]>) {
        let sha256 = self.sha256.map(Sha256Hasher::finish);
        let shared = sha256.filter(|_| self.checksum_is_sha256);
        let checksum = match shared {
            Some(digest) => Checksum::from_bytes(ChecksumAlgorithm::Sha256, &digest),
            None => self.checksum.map(ChecksumHasher::finish),
        };
        (
            BodyDigests {
                bytes,
                md5: self.md5.map(Md5Hasher::finish),
                checksum,
            },
            sha256,
        )
    }
}
