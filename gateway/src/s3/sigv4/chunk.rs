//! Signatures of aws-chunked chunks and trailers: each is made of the one
//! before it, the first of the request's own.

use subtle::ConstantTimeEq;

use super::super::error::{ErrorCode, Result, S3Error};
use super::super::sha256::sha256;
use super::canonical::push_hex;
use super::keys::SigningKey;

/// Verifies the chain of chunk signatures of one body.
#[derive(Clone)]
pub struct ChunkSigner {
    key: SigningKey,
    /// `timestamp \n scope \n`
    context: String,
    previous: String,
}

impl std::fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkSigner(..)")
    }
}

impl ChunkSigner {
    pub(super) fn new(key: SigningKey, timestamp: &str, scope: &str, seed: String) -> Self {
        Self {
            key,
            context: format!("{timestamp}\n{scope}\n"),
            previous: seed,
        }
    }

    /// Checks a chunk's signature, given the SHA-256 of its data.
    ///
    /// # Errors
    /// SignatureDoesNotMatch.
    pub fn verify_chunk(&mut self, data_sha256: &[u8; 32], signature: &[u8]) -> Result<()> {
        let mut text = self.start("AWS4-HMAC-SHA256-PAYLOAD\n");
        push_hex(&mut text, &sha256(b""));
        text.push('\n');
        push_hex(&mut text, data_sha256);
        self.compare(&text, signature)
    }

    /// Checks the trailer's signature, given its canonical form: one
    /// `name:value\n` for each line.
    ///
    /// # Errors
    /// SignatureDoesNotMatch.
    pub fn verify_trailer(&mut self, canonical: &[u8], signature: &[u8]) -> Result<()> {
        let mut text = self.start("AWS4-HMAC-SHA256-TRAILER\n");
        push_hex(&mut text, &sha256(canonical));
        self.compare(&text, signature)
    }

    fn start(&self, algorithm: &str) -> String {
        let mut text = String::with_capacity(320);
        for part in [algorithm, &self.context, &self.previous, "\n"] {
            text.push_str(part);
        }
        text
    }

    fn compare(&mut self, string_to_sign: &str, signature: &[u8]) -> Result<()> {
        let expected =
            aws_sigv4::sign::v4::calculate_signature(self.key.as_slice(), string_to_sign.as_bytes());
        if !bool::from(expected.as_bytes().ct_eq(signature)) {
            return Err(S3Error::from(ErrorCode::SignatureDoesNotMatch)
                .with("StringToSign", string_to_sign)
                .with("SignatureProvided", String::from_utf8_lossy(signature)));
        }
        self.previous = expected;
        Ok(())
    }
}
