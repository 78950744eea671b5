//! The aws-chunked framing: `size[;chunk-signature=…]\r\n data \r\n …`, a
//! chunk of size 0, and a trailer. A state machine over what has come; it
//! keeps at most one line and the trailer.
//!
//! ```text
//! Size ──▶ Data ──▶ DataEnd ──▶ Size
//!   └ size 0 ──▶ Trailer ──▶ Done
//! ```

use bytes::{Buf as _, Bytes};

use super::super::checksum::{Checksum, ChecksumAlgorithm};
use super::super::error::{ErrorCode, Result, S3Error};
use super::super::limits;
use super::super::sha256::Sha256Hasher;
use super::super::sigv4::ChunkSigner;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailer,
    Done,
}

#[derive(Debug)]
pub(super) struct ChunkedDecoder {
    state: State,
    line: Vec<u8>,
    /// Bytes of data that may still come.
    decoded_left: u64,
    /// A chunk below the least size has come: only the last may be one.
    had_small_chunk: bool,
    signing: Option<Signing>,
    has_trailer: bool,
    trailer_algorithm: Option<ChecksumAlgorithm>,
    trailer: Option<Checksum>,
    trailer_bytes: usize,
    trailer_lines: usize,
    canonical_trailer: Vec<u8>,
    trailer_verified: bool,
}

#[derive(Debug)]
struct Signing {
    signer: ChunkSigner,
    sha256: Sha256Hasher,
    signature: Vec<u8>,
}

fn malformed(message: &'static str) -> S3Error {
    S3Error::new(ErrorCode::InvalidRequest, message)
}

fn bad_trailer() -> S3Error {
    ErrorCode::MalformedTrailerError.into()
}

impl ChunkedDecoder {
    pub(super) fn new(
        signer: Option<ChunkSigner>,
        decoded_length: u64,
        has_trailer: bool,
        trailer_algorithm: Option<ChecksumAlgorithm>,
    ) -> Self {
        Self {
            state: State::Size,
            line: Vec::new(),
            decoded_left: decoded_length,
            had_small_chunk: false,
            signing: signer.map(|signer| Signing {
                signer,
                sha256: Sha256Hasher::new(),
                signature: Vec::with_capacity(64),
            }),
            has_trailer,
            trailer_algorithm,
            trailer: None,
            trailer_bytes: 0,
            trailer_lines: 0,
            canonical_trailer: Vec::new(),
            trailer_verified: false,
        }
    }

    pub(super) fn push(&mut self, mut data: Bytes, out: &mut Vec<Bytes>) -> Result<()> {
        while data.has_remaining() {
            match self.state {
                State::Data { left } => self.take_data(&mut data, left, out)?,
                State::Size => {
                    if self.take_line(&mut data, limits::CHUNK_LINE_BYTES_MAX)? {
                        self.start_chunk()?;
                    }
                }
                State::DataEnd => {
                    if self.take_line(&mut data, 2)? {
                        self.line.clear();
                        self.state = State::Size;
                    }
                }
                State::Trailer => {
                    if self.take_line(&mut data, limits::TRAILER_BYTES_MAX)? {
                        self.trailer_line()?;
                    }
                }
                State::Done => return Err(malformed("Bytes follow the end of the aws-chunked body")),
            }
        }
        Ok(())
    }

    /// The checksum of the trailer, once all has come. The last empty line
    /// may be missing, as some clients leave it out.
    pub(super) fn finish(self) -> Result<Option<Checksum>> {
        let at_end = self.state == State::Done || (self.state == State::Trailer && self.line.is_empty());
        if !at_end || self.decoded_left != 0 {
            return Err(ErrorCode::IncompleteBody.into());
        }
        if self.signing.is_some() && self.has_trailer && !self.trailer_verified {
            return Err(bad_trailer());
        }
        if self.trailer_algorithm.is_some() && self.trailer.is_none() {
            return Err(bad_trailer());
        }
        Ok(self.trailer)
    }

    fn take_data(&mut self, data: &mut Bytes, left: u64, out: &mut Vec<Bytes>) -> Result<()> {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        let slice = data.split_to(take);
        if let Some(signing) = &mut self.signing {
            signing.sha256.update(&slice);
        }
        out.push(slice);
        let left = left - take as u64;
        self.state = State::Data { left };
        if left == 0 {
            self.verify_chunk()?;
            self.state = State::DataEnd;
        }
        Ok(())
    }

    /// Takes bytes up to a line feed; true when a whole line, without its
    /// CRLF, stands in `self.line`.
    fn take_line(&mut self, data: &mut Bytes, bytes_max: usize) -> Result<bool> {
        let end = data.iter().position(|byte| *byte == b'\n');
        let take = end.map_or(data.len(), |end| end + 1);
        if self.line.len() + take > bytes_max {
            return Err(malformed(
                "A line of the aws-chunked body is malformed or too long",
            ));
        }
        self.line.extend_from_slice(&data[..take]);
        data.advance(take);
        if end.is_none() {
            return Ok(false);
        }
        self.line.pop();
        match self.line.pop() {
            Some(b'\r') => Ok(true),
            // In the trailer a bare line feed is known from S3's own example.
            Some(other) if self.state == State::Trailer => {
                self.line.push(other);
                Ok(true)
            }
            _ => Err(malformed("A line of the aws-chunked body does not end with CRLF")),
        }
    }

    fn start_chunk(&mut self) -> Result<()> {
        let bad = || malformed("A chunk header of the aws-chunked body is malformed");
        let line = std::mem::take(&mut self.line);
        let (size, extension) = match line.iter().position(|byte| *byte == b';') {
            Some(at) => (&line[..at], Some(&line[at + 1..])),
            None => (&line[..], None),
        };
        let size = parse_hex(size).ok_or_else(bad)?;
        match (&mut self.signing, extension) {
            (None, None) => {}
            (Some(signing), Some(extension)) => {
                let signature = extension.strip_prefix(b"chunk-signature=").ok_or_else(bad)?;
                if signature.len() != 64 {
                    return Err(bad());
                }
                signing.signature.clear();
                signing.signature.extend_from_slice(signature);
                if size > 0 && self.had_small_chunk {
                    return Err(ErrorCode::InvalidChunkSizeError.into());
                }
                self.had_small_chunk |= size < limits::SIGNED_CHUNK_BYTES_MIN;
            }
            _ => return Err(bad()),
        }
        self.line = line;
        self.line.clear();
        self.decoded_left = self
            .decoded_left
            .checked_sub(size)
            .ok_or_else(|| S3Error::from(ErrorCode::IncompleteBody))?;
        if size > 0 {
            self.state = State::Data { left: size };
        } else {
            self.verify_chunk()?;
            self.state = State::Trailer;
        }
        Ok(())
    }

    fn verify_chunk(&mut self) -> Result<()> {
        let Some(signing) = &mut self.signing else {
            return Ok(());
        };
        let hasher = std::mem::replace(&mut signing.sha256, Sha256Hasher::new());
        signing.signer.verify_chunk(&hasher.finish(), &signing.signature)
    }

    fn trailer_line(&mut self) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        self.trailer_bytes += line.len() + 2;
        self.trailer_lines += 1;
        if self.trailer_bytes > limits::TRAILER_BYTES_MAX || self.trailer_lines > limits::TRAILER_LINES_MAX {
            return Err(bad_trailer());
        }
        if line.is_empty() {
            // Before the signature an empty line is known from S3's example.
            let awaits_signature = self.signing.is_some() && self.has_trailer && !self.trailer_verified;
            if !awaits_signature {
                self.state = State::Done;
            }
            return Ok(());
        }
        if !self.has_trailer || self.trailer_verified {
            return Err(bad_trailer());
        }
        let text = std::str::from_utf8(&line).map_err(|_| bad_trailer())?;
        let (name, value) = text.split_once(':').ok_or_else(bad_trailer)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        match (&mut self.signing, name.as_str()) {
            (Some(signing), "x-amz-trailer-signature") => {
                signing
                    .signer
                    .verify_trailer(&self.canonical_trailer, value.as_bytes())?;
                self.trailer_verified = true;
                Ok(())
            }
            _ => self.trailer_checksum(&name, value),
        }
    }

    /// Only the checksum that `x-amz-trailer` announced may come, and once.
    fn trailer_checksum(&mut self, name: &str, value: &str) -> Result<()> {
        let algorithm = self
            .trailer_algorithm
            .filter(|algorithm| algorithm.header() == name);
        let Some(algorithm) = algorithm.filter(|_| self.trailer.is_none()) else {
            return Err(bad_trailer());
        };
        for part in [name, ":", value, "\n"] {
            self.canonical_trailer.extend_from_slice(part.as_bytes());
        }
        self.trailer = Some(Checksum::from_base64(algorithm, value)?);
        Ok(())
    }
}

/// A chunk's size: 1 to 16 hex digits and nothing else.
fn parse_hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}
