//! MD5, the ETag's digest. All MD5 of the gateway goes through this module,
//! so that an implementation that shares SIMD lanes between concurrent
//! uploads can replace it in one place.

use md5::{Digest as _, Md5};

/// An MD5 digest.
pub type Md5Digest = [u8; 16];

/// MD5 of a stream of bytes.
#[derive(Clone, Debug, Default)]
pub struct Md5Hasher {
    inner: Md5,
}

impl Md5Hasher {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// The digest.
    pub fn finish(self) -> Md5Digest {
        self.inner.finalize().into()
    }
}

/// MD5 of one buffer.
pub fn md5(bytes: &[u8]) -> Md5Digest {
    Md5::digest(bytes).into()
}
