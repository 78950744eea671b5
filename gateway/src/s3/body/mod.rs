//! Decodes and checks request bodies while they stream: framing, lengths,
//! signatures of chunks and trailers, digests. Memory is bounded by one line
//! of framing and the trailer; data passes through as slices of what came.
//! What the bytes mean is not known here.
//!
//! Bytes come out before the body has been verified as a whole. Whoever
//! takes them must not act on them (commit, parse, answer) until
//! [`BodyDecoder::finish`] has agreed.

mod chunked;
mod digests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

pub use digests::BodyDigests;

use self::chunked::ChunkedDecoder;
use self::digests::Digests;
use super::checksum::{Checksum, ChecksumAlgorithm, ChecksumType};
use super::error::{ErrorCode, Result, S3Error};
use super::head::Head;
use super::limits;
use super::md5::Md5Digest;
use super::sigv4::{Authenticated, ChunkSigner, Payload};

/// What an operation does with its request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// There is none; one that comes is refused.
    None,
    /// A small document, at most so many bytes.
    Document {
        /// Bound of the decoded body.
        bytes_max: u64,
        /// Whether `x-amz-checksum-…` headers are of the document (they are
        /// of the whole object in CompleteMultipartUpload).
        checksummed: bool,
    },
    /// An object's or part's bytes, whose length must be said beforehand.
    Object,
    /// An object's bytes in a form, whose length nobody says beforehand.
    Form {
        /// Least bytes that the form's policy allows.
        bytes_min: u64,
        /// Most bytes that it allows.
        bytes_max: u64,
    },
}

impl BodyUse {
    fn bytes_max(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Document { bytes_max, .. } | Self::Form { bytes_max, .. } => bytes_max,
            Self::Object => limits::PUT_BYTES_MAX,
        }
    }
}

/// Digests to be made whether or not the client sent them to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedDigests {
    /// The MD5, for the ETag.
    pub md5: bool,
    /// The checksum to make if the client sends none.
    pub checksum: Option<ChecksumAlgorithm>,
}

/// The checksum that the client promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromisedChecksum {
    /// None.
    None,
    /// This one.
    Value(Checksum),
    /// One of this algorithm, in the trailer.
    Trailer(ChecksumAlgorithm),
}

impl PromisedChecksum {
    /// The algorithm promised.
    pub fn algorithm(&self) -> Option<ChecksumAlgorithm> {
        match self {
            Self::None => None,
            Self::Value(checksum) => Some(checksum.algorithm()),
            Self::Trailer(algorithm) => Some(*algorithm),
        }
    }
}

/// All that a request's head says of its body.
#[derive(Debug)]
pub struct BodyPlan {
    body_use: BodyUse,
    payload: Payload,
    signer: Option<ChunkSigner>,
    decoded_length: Option<u64>,
    content_md5: Option<Md5Digest>,
    promised: PromisedChecksum,
}

impl BodyPlan {
    /// Reads what the head says of the body.
    ///
    /// # Errors
    /// MissingContentLength, EntityTooLarge, MaxMessageLengthExceeded,
    /// InvalidDigest, InvalidRequest, UnexpectedContent.
    pub fn new(head: &Head<'_>, authenticated: &Authenticated, body_use: BodyUse) -> Result<Self> {
        let payload = authenticated.payload().clone();
        let decoded_length = decoded_length(head, &payload)?;
        check_length(head, body_use, decoded_length)?;
        refuse_raw_chunks(head, &payload)?;
        let checksummed = !matches!(
            body_use,
            BodyUse::Document {
                checksummed: false,
                ..
            }
        );
        let promised = if body_use != BodyUse::None && checksummed {
            promised_checksum(head, &payload)?
        } else {
            PromisedChecksum::None
        };
        Ok(Self {
            body_use,
            signer: authenticated.chunk_signer(),
            payload,
            decoded_length,
            content_md5: content_md5(head)?,
            promised,
        })
    }

    /// Of the file of a form whose fields `head` stands for, and which may have from `bytes_min` to `bytes_max`
    /// bytes.
    ///
    /// # Errors
    /// InvalidDigest, InvalidRequest.
    pub fn of_form(head: &Head<'_>, (bytes_min, bytes_max): (u64, u64)) -> Result<Self> {
        let payload = Payload::Unsigned;
        refuse_raw_chunks(head, &payload)?;
        Ok(Self {
            body_use: BodyUse::Form { bytes_min, bytes_max },
            signer: None,
            decoded_length: None,
            content_md5: content_md5(head)?,
            promised: promised_checksum(head, &payload)?,
            payload,
        })
    }

    /// Bytes of the decoded body, if they are known beforehand. Always known
    /// for [`BodyUse::Object`].
    pub fn decoded_length(&self) -> Option<u64> {
        self.decoded_length
    }

    /// Most bytes that the decoded body can have.
    pub fn bytes_max(&self) -> u64 {
        self.decoded_length.unwrap_or(self.body_use.bytes_max())
    }

    /// The checksum that the client promises.
    pub fn promised_checksum(&self) -> PromisedChecksum {
        self.promised
    }

    /// For UploadPart: a part's checksum must be of the upload's algorithm, and where the object's is made of those of
    /// its parts, the client must send one.
    ///
    /// # Errors
    /// InvalidRequest.
    pub fn check_upload_checksum(&self, upload: Option<(ChecksumAlgorithm, ChecksumType)>) -> Result<()> {
        let part = self.promised.algorithm();
        let Some((expected, kind)) = upload else {
            return Ok(());
        };
        let fits = match part {
            Some(part) => part == expected,
            None => kind == ChecksumType::FullObject,
        };
        if fits {
            return Ok(());
        }
        let name = |algorithm: ChecksumAlgorithm| algorithm.as_str().to_ascii_lowercase();
        let message = format!(
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            name(expected),
            part.map_or_else(|| "null".to_owned(), name)
        );
        Err(S3Error::new(ErrorCode::InvalidRequest, message))
    }

    /// True if the body comes with a digest (Content-MD5 or a checksum), as
    /// DeleteObjects demands.
    pub fn has_integrity_check(&self) -> bool {
        self.content_md5.is_some() || self.promised != PromisedChecksum::None
    }
}

/// Decodes one body.
#[derive(Debug)]
pub struct BodyDecoder {
    body_use: BodyUse,
    decoded_length: Option<u64>,
    decoded: u64,
    chunked: Option<ChunkedDecoder>,
    content_sha256: Option<[u8; 32]>,
    content_md5: Option<Md5Digest>,
    promised: PromisedChecksum,
    digests: Digests,
    failed: bool,
}

impl BodyDecoder {
    /// Starts on a body.
    pub fn new(plan: BodyPlan, wanted: WantedDigests) -> Self {
        let content_sha256 = match plan.payload {
            Payload::Sha256(digest) => Some(digest),
            _ => None,
        };
        let chunked = plan.payload.is_chunked().then(|| {
            ChunkedDecoder::new(
                plan.signer,
                plan.decoded_length.unwrap_or(0),
                plan.payload.has_trailer(),
                match plan.promised {
                    PromisedChecksum::Trailer(algorithm) => Some(algorithm),
                    _ => None,
                },
            )
        });
        Self {
            body_use: plan.body_use,
            decoded_length: plan.decoded_length,
            decoded: 0,
            chunked,
            content_sha256,
            content_md5: plan.content_md5,
            digests: Digests::new(
                wanted.md5 || plan.content_md5.is_some(),
                content_sha256.is_some(),
                plan.promised.algorithm().or(wanted.checksum),
            ),
            promised: plan.promised,
            failed: false,
        }
    }

    /// Takes the next bytes off the wire and appends what they decode to
    /// `out`, as slices of `data`. After an error the body is lost: every
    /// further call fails.
    ///
    /// # Errors
    /// IncompleteBody for bytes beyond the length said, SignatureDoesNotMatch
    /// for a chunk, InvalidRequest or MalformedTrailerError for broken framing.
    pub fn push(&mut self, data: Bytes, out: &mut Vec<Bytes>) -> Result<()> {
        if self.failed {
            return Err(incomplete());
        }
        let before = out.len();
        let pushed = self.push_inner(data, out, before);
        if pushed.is_err() {
            self.failed = true;
            out.truncate(before);
        }
        pushed
    }

    fn push_inner(&mut self, data: Bytes, out: &mut Vec<Bytes>, before: usize) -> Result<()> {
        match &mut self.chunked {
            Some(chunked) => chunked.push(data, out)?,
            None if data.is_empty() => {}
            None => out.push(data),
        }
        for slice in &out[before..] {
            self.decoded = self.decoded.saturating_add(slice.len() as u64);
            if self.decoded_length.is_some_and(|length| self.decoded > length) {
                return Err(incomplete());
            }
            if self.decoded > self.body_use.bytes_max() {
                return Err(too_large(self.body_use, self.decoded));
            }
            self.digests.update(slice);
        }
        Ok(())
    }

    /// Whether what has come is as long as was said.
    ///
    /// # Errors
    /// IncompleteBody.
    pub fn check_length(&self) -> Result<()> {
        if self.failed || self.decoded_length.is_some_and(|length| length != self.decoded) {
            return Err(incomplete());
        }
        Ok(())
    }

    /// Checks the body as a whole, now that all of it has come.
    ///
    /// # Errors
    /// IncompleteBody, XAmzContentSHA256Mismatch, BadDigest,
    /// MalformedTrailerError, SignatureDoesNotMatch.
    pub fn finish(self) -> Result<BodyDigests> {
        self.check_length()?;
        if let BodyUse::Form { bytes_min, .. } = self.body_use
            && self.decoded < bytes_min
        {
            return Err(S3Error::from(ErrorCode::EntityTooSmall)
                .with("ProposedSize", self.decoded.to_string())
                .with("MinSizeAllowed", bytes_min.to_string()));
        }
        let trailer = match self.chunked {
            Some(chunked) => chunked.finish()?,
            None => None,
        };
        let (digests, sha256) = self.digests.finish(self.decoded);
        if let (Some(expected), Some(sha256)) = (self.content_sha256, sha256)
            && expected != sha256
        {
            return Err(S3Error::from(ErrorCode::XAmzContentSHA256Mismatch)
                .with("ClientComputedContentSHA256", hex::encode(expected))
                .with("S3ComputedContentSHA256", hex::encode(sha256)));
        }
        if let (Some(expected), Some(md5)) = (self.content_md5, digests.md5)
            && expected != md5
        {
            return Err(S3Error::new(
                ErrorCode::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            )
            .with("ExpectedDigest", hex::encode(expected))
            .with("CalculatedDigest", BASE64.encode(md5)));
        }
        let expected = match self.promised {
            PromisedChecksum::None => None,
            PromisedChecksum::Value(checksum) => Some(checksum),
            PromisedChecksum::Trailer(_) => trailer,
        };
        if expected.is_some() && expected != digests.checksum {
            let algorithm = self
                .promised
                .algorithm()
                .map_or("checksum", ChecksumAlgorithm::as_str);
            return Err(S3Error::new(
                ErrorCode::BadDigest,
                format!("The {algorithm} you specified did not match the calculated checksum."),
            ));
        }
        Ok(digests)
    }
}

fn incomplete() -> S3Error {
    ErrorCode::IncompleteBody.into()
}

fn too_large(body_use: BodyUse, bytes: u64) -> S3Error {
    match body_use {
        BodyUse::None => ErrorCode::UnexpectedContent.into(),
        BodyUse::Document { bytes_max, .. } => S3Error::from(ErrorCode::MaxMessageLengthExceeded)
            .with("MaxMessageLengthBytes", bytes_max.to_string()),
        BodyUse::Object => S3Error::too_large(bytes, limits::PUT_BYTES_MAX),
        BodyUse::Form { bytes_max, .. } => S3Error::too_large(bytes, bytes_max),
    }
}

/// The length after decoding: `x-amz-decoded-content-length` for aws-chunked
/// bodies, else Content-Length.
fn decoded_length(head: &Head<'_>, payload: &Payload) -> Result<Option<u64>> {
    let decoded = match head.amz("x-amz-decoded-content-length")? {
        None => None,
        Some(text) => {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let length = text.parse::<u64>().ok().filter(|_| digits).ok_or_else(|| {
                S3Error::argument("x-amz-decoded-content-length", text, "The length is not valid")
            })?;
            Some(length)
        }
    };
    match (payload.is_chunked(), decoded) {
        (true, None) => Err(ErrorCode::MissingContentLength.into()),
        (true, length) => Ok(length),
        (false, Some(length)) if head.content_length() != Some(length) => Err(S3Error::new(
            ErrorCode::InvalidRequest,
            "x-amz-decoded-content-length needs a streaming x-amz-content-sha256",
        )),
        (false, _) => Ok(head.content_length()),
    }
}

fn check_length(head: &Head<'_>, body_use: BodyUse, decoded_length: Option<u64>) -> Result<()> {
    match (body_use, decoded_length) {
        (BodyUse::None, _) if head.has_body() => Err(ErrorCode::UnexpectedContent.into()),
        (BodyUse::Object, None) => Err(ErrorCode::MissingContentLength.into()),
        (_, Some(length)) if length > body_use.bytes_max() => Err(too_large(body_use, length)),
        _ => Ok(()),
    }
}

/// A body that calls itself aws-chunked, but not in the signed header, would
/// be stored with its framing.
fn refuse_raw_chunks(head: &Head<'_>, payload: &Payload) -> Result<()> {
    if payload.is_chunked() {
        return Ok(());
    }
    let encodings = head.list_header("content-encoding")?;
    let raw = |list: &str| {
        list.split(',')
            .any(|e| e.trim().eq_ignore_ascii_case("aws-chunked"))
    };
    if encodings.as_deref().is_some_and(raw) {
        return Err(S3Error::new(
            ErrorCode::InvalidRequest,
            "Content-Encoding aws-chunked needs a streaming x-amz-content-sha256",
        ));
    }
    if head.amz("x-amz-trailer")?.is_some() {
        return Err(S3Error::new(
            ErrorCode::InvalidRequest,
            "x-amz-trailer needs a streaming x-amz-content-sha256",
        ));
    }
    Ok(())
}

fn content_md5(head: &Head<'_>) -> Result<Option<Md5Digest>> {
    let Some(text) = head.header("content-md5")? else {
        return Ok(None);
    };
    let mut digest = [0; 18];
    match BASE64.decode_slice(text, &mut digest) {
        Ok(16) => {
            let mut md5 = [0; 16];
            md5.copy_from_slice(&digest[..16]);
            Ok(Some(md5))
        }
        _ => Err(S3Error::new(
            ErrorCode::InvalidDigest,
            "The Content-MD5 you specified was invalid.",
        )
        .with("Content-MD5", text)),
    }
}

/// The checksum promised in `x-amz-checksum-…`, or by `x-amz-trailer`.
fn promised_checksum(head: &Head<'_>, payload: &Payload) -> Result<PromisedChecksum> {
    let invalid = |message: &'static str| S3Error::new(ErrorCode::InvalidRequest, message);
    let mut promised = PromisedChecksum::None;
    for algorithm in ChecksumAlgorithm::ALL {
        if let Some(text) = head.amz(algorithm.header())? {
            if promised != PromisedChecksum::None {
                return Err(invalid(
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
                ));
            }
            promised = PromisedChecksum::Value(Checksum::from_base64(algorithm, text)?);
        }
    }
    if let Some(trailer) = head.amz("x-amz-trailer")? {
        let algorithm = ChecksumAlgorithm::of_header(trailer)
            .ok_or_else(|| invalid("The value specified in the x-amz-trailer header is not supported"))?;
        if !payload.has_trailer() {
            return Err(invalid("x-amz-trailer needs a payload type with a trailer"));
        }
        if promised != PromisedChecksum::None {
            return Err(invalid(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
        promised = PromisedChecksum::Trailer(algorithm);
    }
    if let Some(text) = head.amz("x-amz-sdk-checksum-algorithm")? {
        match promised.algorithm() {
            None => {
                return Err(invalid(
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or \
                     x-amz-trailer headers were found.",
                ));
            }
            Some(algorithm) if algorithm != ChecksumAlgorithm::parse(text)? => {
                return Err(invalid(
                    "Value for x-amz-sdk-checksum-algorithm header is invalid.",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(promised)
}

#[cfg(test)]
mod tests;
