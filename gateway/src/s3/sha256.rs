//! SHA-256 by aws-lc-rs, which uses the CPU's own instructions.

use aws_lc_rs::digest::{self, Context};

/// SHA-256 of a stream of bytes.
#[derive(Clone)]
pub(super) struct Sha256Hasher(Context);

impl std::fmt::Debug for Sha256Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sha256Hasher(..)")
    }
}

impl Sha256Hasher {
    pub(super) fn new() -> Self {
        Self(Context::new(&digest::SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> [u8; 32] {
        to_array(&self.0.finish())
    }
}

/// SHA-256 of one buffer.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    to_array(&digest::digest(&digest::SHA256, bytes))
}

fn to_array(digest: &digest::Digest) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}
