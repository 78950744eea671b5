//! How a vendor comes into the cluster: an operator's one-time join token, and enrolment, which turns a token
//! (or the key of a vendor that is registered already) into a certificate.

use crate::ids::Digest;
use crate::wire::agent::{RegisterReply, RegisterRequest};
use crate::wire::chunk::Signature;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest life of an invitation, in ms of cluster time.
pub const INVITE_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Life of an invitation when the operator names none, in ms of cluster time.
pub const INVITE_MS_DEFAULT: u64 = 24 * 3_600_000;
/// Prefix of what an enrolment's signature covers.
pub const ENROL_CONTEXT: &[u8] = b"ullage enrol v1\0";

/// What an operator hands to a vendor's operator, once, as text: see [`JoinToken::to_text`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// SHA-256 of the certificate of the cluster's authority: whom the vendor may trust.
    pub authority: [u8; 32],
    /// Addresses of the metadata service.
    pub metad: Vec<String>,
    /// The secret: metad keeps its BLAKE3 digest only.
    pub secret: [u8; 32],
}

/// A vendor asks for a certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The secret of a join token; `None` when the key is registered already.
    pub secret: Option<[u8; 32]>,
    /// Who it is. Registered with the first enrolment.
    pub register: RegisterRequest,
    /// The TLS key to be certified, DER `SubjectPublicKeyInfo`.
    pub tls_key: Bytes,
    /// By the vendor's registered key over [`ENROL_CONTEXT`], the authority's fingerprint (32 bytes) and
    /// `tls_key`.
    pub signature: Signature,
}

/// A certificate for a vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolReply {
    /// Who it is now.
    pub registered: RegisterReply,
    /// Its certificate, DER.
    pub certificate: Bytes,
    /// The authority's certificate, DER.
    pub authority: Bytes,
    /// Addresses of the metadata nodes as they are now.
    pub metad: Vec<String>,
}

/// An operator invites a vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRequest {
    /// How long the invitation lives, in ms of cluster time, at most [`INVITE_MS_MAX`].
    pub life_ms: u64,
}

/// The token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteReply {
    /// To be handed to the vendor's operator.
    pub token: JoinToken,
}

/// Text that is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join token: copy it whole, from {TEXT_PREFIX:?} on")]
pub struct NotAToken;

const TEXT_PREFIX: &str = "ullage-join-";

impl JoinToken {
    /// `ullage-join-` and the token in hexadecimal, followed by a checksum.
    #[must_use]
    pub fn to_text(&self) -> String {
        use std::fmt::Write;
        let body = crate::codec::encode(self);
        let check = blake3::hash(&body);
        let mut text = TEXT_PREFIX.to_owned();
        for byte in body.iter().chain(&check.as_bytes()[..4]) {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The inverse of [`JoinToken::to_text`]; white space around it is no matter.
    ///
    /// # Errors
    /// When it is not one, or was not copied whole.
    pub fn from_text(text: &str) -> Result<Self, NotAToken> {
        let digits = text.trim().strip_prefix(TEXT_PREFIX).ok_or(NotAToken)?;
        if !digits.len().is_multiple_of(2) || !digits.is_ascii() || digits.len() > 8192 {
            return Err(NotAToken);
        }
        let bytes = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| NotAToken))
            .collect::<Result<Vec<u8>, NotAToken>>()?;
        let (body, check) = bytes.split_last_chunk::<4>().ok_or(NotAToken)?;
        if blake3::hash(body).as_bytes()[..4] != check[..] {
            return Err(NotAToken);
        }
        crate::codec::decode(body).map_err(|_| NotAToken)
    }

    /// What the metadata service keeps of the secret.
    #[must_use]
    pub fn digest_of(secret: &[u8; 32]) -> Digest {
        Digest::of(secret)
    }
}

impl EnrolRequest {
    /// What the signature covers.
    #[must_use]
    pub fn signed_bytes(authority: &[u8; 32], tls_key: &[u8]) -> Vec<u8> {
        [ENROL_CONTEXT, authority, tls_key].concat()
    }
}

// Secrets stay out of logs.
impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken")
            .field("metad", &self.metad)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolRequest")
            .field("register", &self.register)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for InviteReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InviteReply").finish_non_exhaustive()
    }
}

crate::codec::versioned!(JoinToken, EnrolRequest, EnrolReply, InviteRequest, InviteReply);

#[cfg(test)]
mod tests {
    use super::JoinToken;

    #[test]
    fn a_token_survives_its_text_and_a_damaged_one_is_refused() {
        let token = JoinToken {
            authority: [1; 32],
            metad: vec!["a:9310".to_owned(), "b:9310".to_owned()],
            secret: [2; 32],
        };
        let text = token.to_text();
        assert_eq!(JoinToken::from_text(&format!(" {text}\n")), Ok(token));
        assert!(JoinToken::from_text(&text[1..]).is_err());
        assert!(JoinToken::from_text(&text[..text.len() - 2]).is_err());
        let changed = text.replacen("0101", "0102", 1);
        assert!(JoinToken::from_text(&changed).is_err());
        assert!(JoinToken::from_text("ullage-join-é0").is_err());
    }
}
