//! `x-amz-content-sha256`: what a signature says of the body.

use super::super::error::{ErrorCode, Result, S3Error};
use super::super::head::Head;
use super::Scheme;

/// The kinds of payload, with the one that signed chunks refine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The whole body has this SHA-256.
    Sha256([u8; 32]),
    /// `UNSIGNED-PAYLOAD`: the signature says nothing of the body.
    Unsigned,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`, or `…-TRAILER`: aws-chunked,
    /// each chunk signed.
    SignedChunks {
        /// A signed trailer follows the chunks.
        trailer: bool,
    },
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: aws-chunked, unsigned, with a
    /// trailer.
    UnsignedChunks,
}

impl Payload {
    /// True for the three kinds framed as aws-chunked.
    pub fn is_chunked(&self) -> bool {
        matches!(self, Self::SignedChunks { .. } | Self::UnsignedChunks)
    }

    /// True if each chunk has a signature.
    pub fn has_signed_chunks(&self) -> bool {
        matches!(self, Self::SignedChunks { .. })
    }

    /// True if the chunks are followed by a trailer.
    pub fn has_trailer(&self) -> bool {
        matches!(self, Self::SignedChunks { trailer: true } | Self::UnsignedChunks)
    }

    /// Reads a value of `x-amz-content-sha256`.
    ///
    /// # Errors
    /// InvalidArgument; NotImplemented for the asymmetric Version 4A.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "UNSIGNED-PAYLOAD" => Self::Unsigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Self::SignedChunks { trailer: false },
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Self::SignedChunks { trailer: true },
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Self::UnsignedChunks,
            _ if text.starts_with("STREAMING-AWS4-ECDSA-") => {
                return Err(S3Error::header_not_offered("x-amz-content-sha256"));
            }
            hex => {
                let mut digest = [0; 32];
                if hex::decode_to_slice(hex, &mut digest).is_err() {
                    return Err(S3Error::argument(
                        "x-amz-content-sha256",
                        hex,
                        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                         STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a \
                         valid sha256 value.",
                    ));
                }
                Self::Sha256(digest)
            }
        })
    }
}

/// The payload of a request, and its text for the canonical request. A
/// presigned URL that says nothing leaves the body unsigned; one that names
/// a kind is held to it, chunk signatures included.
pub(super) fn of_request<'a>(head: &'a Head<'_>, scheme: Scheme) -> Result<(Payload, &'a str)> {
    match (head.amz("x-amz-content-sha256")?, scheme) {
        (Some(text), _) => Ok((Payload::parse(text)?, text)),
        (None, Scheme::Presigned | Scheme::Form) => Ok((Payload::Unsigned, "UNSIGNED-PAYLOAD")),
        (None, Scheme::Header) => Err(S3Error::new(
            ErrorCode::InvalidRequest,
            "Missing required header for this request: x-amz-content-sha256",
        )),
    }
}
