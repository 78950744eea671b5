//! The five checksums of S3: their names, their digests, and how those of
//! parts become that of an object. Where they are expected in a request or
//! a body is not known here.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;

use super::error::{ErrorCode, Result, S3Error};

/// A checksum algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChecksumAlgorithm {
    /// CRC-32 of ISO-HDLC.
    Crc32,
    /// CRC-32 of Castagnoli.
    Crc32c,
    /// CRC-64 of NVMe; S3's default.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// How the checksum of an object of parts comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumType {
    /// A checksum of the parts' checksums, written with `-N`.
    Composite,
    /// The checksum of all bytes.
    FullObject,
}

impl ChecksumType {
    /// As in `x-amz-checksum-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Composite => "COMPOSITE",
            Self::FullObject => "FULL_OBJECT",
        }
    }

    /// Reads `x-amz-checksum-type`.
    ///
    /// # Errors
    /// InvalidRequest for another word.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "COMPOSITE" => Ok(Self::Composite),
            "FULL_OBJECT" => Ok(Self::FullObject),
            _ => Err(S3Error::new(
                ErrorCode::InvalidRequest,
                "Value for x-amz-checksum-type header is invalid.",
            )),
        }
    }
}

impl ChecksumAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// As in `x-amz-checksum-algorithm`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header (or trailer) that carries the value.
    pub fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The XML element that carries the value.
    pub fn element(self) -> &'static str {
        match self {
            Self::Crc32 => "ChecksumCRC32",
            Self::Crc32c => "ChecksumCRC32C",
            Self::Crc64Nvme => "ChecksumCRC64NVME",
            Self::Sha1 => "ChecksumSHA1",
            Self::Sha256 => "ChecksumSHA256",
        }
    }

    /// Bytes of the digest.
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Reads `x-amz-checksum-algorithm` or `x-amz-sdk-checksum-algorithm`.
    ///
    /// # Errors
    /// InvalidRequest for an unknown name.
    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
            S3Error::new(
                ErrorCode::InvalidRequest,
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                 [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
            )
        })
    }

    /// The algorithm of a checksum header's or trailer's name.
    pub fn of_header(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.header().eq_ignore_ascii_case(name))
    }

    /// The type that an upload of this algorithm has unless it asks for one.
    pub fn default_type(self) -> ChecksumType {
        match self {
            Self::Crc64Nvme => ChecksumType::FullObject,
            _ => ChecksumType::Composite,
        }
    }

    /// Whether an upload of this algorithm may have this type: full-object
    /// needs a CRC, and CRC64NVME has nothing else.
    pub fn allows(self, kind: ChecksumType) -> bool {
        match kind {
            ChecksumType::FullObject => self.crc().is_some(),
            ChecksumType::Composite => self != Self::Crc64Nvme,
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

/// One digest of one algorithm. Big-endian for CRCs, as S3 writes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum {
    algorithm: ChecksumAlgorithm,
    bytes: [u8; 32],
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.to_base64())
    }
}

impl Checksum {
    /// From a digest of the algorithm's own length, else `None`.
    pub fn from_bytes(algorithm: ChecksumAlgorithm, digest: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        (digest.len() == algorithm.digest_bytes()).then(|| bytes[..digest.len()].copy_from_slice(digest))?;
        Some(Self { algorithm, bytes })
    }

    /// Reads the base64 of a header, trailer or element.
    ///
    /// # Errors
    /// InvalidRequest, naming the header, if it is not base64 of the right length.
    pub fn from_base64(algorithm: ChecksumAlgorithm, text: &str) -> Result<Self> {
        let mut buffer = [0; 48];
        let invalid = || {
            let message = format!("Value for {} header is invalid.", algorithm.header());
            S3Error::new(ErrorCode::InvalidRequest, message)
        };
        let length = BASE64.decode_slice(text, &mut buffer).map_err(|_| invalid())?;
        Self::from_bytes(algorithm, &buffer[..length]).ok_or_else(invalid)
    }

    /// Of one buffer.
    pub fn of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Self {
        let mut hasher = ChecksumHasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// The digest.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_bytes()]
    }

    /// As headers and elements carry it.
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.bytes())
    }

    fn crc_value(&self) -> u64 {
        self.bytes()
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn from_crc(algorithm: ChecksumAlgorithm, value: u64) -> Self {
        let all = value.to_be_bytes();
        let mut bytes = [0; 32];
        let length = algorithm.digest_bytes().min(8);
        bytes[..length].copy_from_slice(&all[8 - length..]);
        Self { algorithm, bytes }
    }
}

/// A checksum of a stream of bytes.
#[allow(clippy::large_enum_variant)] // One for each body; a box would cost more than the bytes.
pub enum ChecksumHasher {
    /// A CRC.
    Crc(ChecksumAlgorithm, crc_fast::Digest),
    /// SHA-1 or SHA-256, with the CPU's own instructions where it has them.
    Sha(ChecksumAlgorithm, digest::Context),
}

impl std::fmt::Debug for ChecksumHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChecksumHasher(..)")
    }
}

impl ChecksumHasher {
    /// Of nothing yet.
    pub fn new(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm.crc() {
            Some(crc) => Self::Crc(algorithm, crc_fast::Digest::new(crc)),
            None if algorithm == ChecksumAlgorithm::Sha1 => {
                Self::Sha(algorithm, digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY))
            }
            None => Self::Sha(algorithm, digest::Context::new(&digest::SHA256)),
        }
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, crc) => crc.update(bytes),
            Self::Sha(_, sha) => sha.update(bytes),
        }
    }

    /// The checksum.
    pub fn finish(self) -> Checksum {
        match self {
            Self::Crc(algorithm, crc) => Checksum::from_crc(algorithm, crc.finalize()),
            Self::Sha(algorithm, sha) => {
                let digest = sha.finish();
                let mut bytes = [0; 32];
                bytes[..digest.as_ref().len()].copy_from_slice(digest.as_ref());
                Checksum { algorithm, bytes }
            }
        }
    }
}

/// A checksum as an object has it: of one body, or of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectChecksum {
    /// The digest: of the bytes, or of the parts' digests.
    pub checksum: Checksum,
    /// `None` for full-object; the number of parts for composite.
    pub composite_parts: Option<u32>,
}

impl ObjectChecksum {
    /// The checksum of all bytes.
    pub fn full(checksum: Checksum) -> Self {
        Self {
            checksum,
            composite_parts: None,
        }
    }

    /// Its type.
    pub fn kind(&self) -> ChecksumType {
        match self.composite_parts {
            None => ChecksumType::FullObject,
            Some(_) => ChecksumType::Composite,
        }
    }

    /// As headers and elements carry it: base64, with `-N` if composite.
    pub fn value(&self) -> String {
        match self.composite_parts {
            None => self.checksum.to_base64(),
            Some(parts) => format!("{}-{parts}", self.checksum.to_base64()),
        }
    }

    /// Reads what [`ObjectChecksum::value`] writes; a composite one may come
    /// without its `-N` (`None` then), as clients send it to Complete.
    ///
    /// # Errors
    /// InvalidRequest if it is not base64 of the right length.
    pub fn parse(algorithm: ChecksumAlgorithm, text: &str) -> Result<Self> {
        match text.rsplit_once('-') {
            Some((value, parts)) => {
                let parts = parts.parse().map_err(|_| {
                    let message = format!("Value for {} header is invalid.", algorithm.header());
                    S3Error::new(ErrorCode::InvalidRequest, message)
                })?;
                Ok(Self {
                    checksum: Checksum::from_base64(algorithm, value)?,
                    composite_parts: Some(parts),
                })
            }
            None => Ok(Self::full(Checksum::from_base64(algorithm, text)?)),
        }
    }

    /// Whether a client that sent `claimed` means this checksum. A composite
    /// one may come without its number of parts.
    pub fn agrees_with(&self, claimed: &Self) -> bool {
        self.checksum == claimed.checksum
            && (claimed.composite_parts.is_none() || claimed.composite_parts == self.composite_parts)
    }

    /// The checksum of an object made of parts, given each part's checksum
    /// and length in order. `None` if a part has another algorithm, there is
    /// no part, or the algorithm does not allow the type.
    pub fn of_parts(kind: ChecksumType, parts: &[(Checksum, u64)]) -> Option<Self> {
        let (first, _) = parts.first()?;
        let algorithm = first.algorithm;
        if !algorithm.allows(kind) || parts.iter().any(|(part, _)| part.algorithm != algorithm) {
            return None;
        }
        match kind {
            ChecksumType::Composite => {
                let mut hasher = ChecksumHasher::new(algorithm);
                parts.iter().for_each(|(part, _)| hasher.update(part.bytes()));
                let count = u32::try_from(parts.len()).ok()?;
                Some(Self {
                    checksum: hasher.finish(),
                    composite_parts: Some(count),
                })
            }
            ChecksumType::FullObject => {
                let crc = algorithm.crc()?;
                let value = parts[1..]
                    .iter()
                    .fold(first.crc_value(), |value, (part, length)| {
                        crc_fast::checksum_combine(crc, value, part.crc_value(), *length)
                    });
                Some(Self::full(Checksum::from_crc(algorithm, value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_the_algorithms() {
        // The check input of the CRC catalogue.
        for (algorithm, expected) in [
            (ChecksumAlgorithm::Crc32, "cbf43926"),
            (ChecksumAlgorithm::Crc32c, "e3069283"),
            (ChecksumAlgorithm::Crc64Nvme, "ae8b14860a799888"),
            (
                ChecksumAlgorithm::Sha1,
                "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            ),
            (
                ChecksumAlgorithm::Sha256,
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
        ] {
            let checksum = Checksum::of(algorithm, b"123456789");
            assert_eq!(hex::encode(checksum.bytes()), expected);
            assert_eq!(
                Checksum::from_base64(algorithm, &checksum.to_base64()),
                Ok(checksum)
            );
            assert_eq!(ChecksumAlgorithm::of_header(algorithm.header()), Some(algorithm));
            assert_eq!(ChecksumAlgorithm::parse(algorithm.as_str()), Ok(algorithm));
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for text in [
            "",
            "!",
            "AAAA",
            "AAAAAAA=",
            "AAAAAA",
            "AAAAAA==x",
            &"A".repeat(400),
        ] {
            assert!(
                Checksum::from_base64(ChecksumAlgorithm::Crc32, text).is_err(),
                "{text}"
            );
        }
        assert!(ObjectChecksum::parse(ChecksumAlgorithm::Crc32, "AAAAAA==-x").is_err());
        assert_eq!(
            ObjectChecksum::parse(ChecksumAlgorithm::Crc32, "AAAAAA==-3").map(|c| c.value()),
            Ok("AAAAAA==-3".to_owned())
        );
    }

    #[test]
    fn types_follow_s3s_table() {
        use ChecksumAlgorithm::{Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
        for (algorithm, composite, full) in [
            (Crc32, true, true),
            (Crc32c, true, true),
            (Crc64Nvme, false, true),
            (Sha1, true, false),
            (Sha256, true, false),
        ] {
            assert_eq!(algorithm.allows(ChecksumType::Composite), composite);
            assert_eq!(algorithm.allows(ChecksumType::FullObject), full);
            assert!(algorithm.allows(algorithm.default_type()));
        }
    }

    #[test]
    fn a_composite_is_the_checksum_of_the_checksums() {
        let parts: Vec<(Checksum, u64)> = [b"ab", b"cd"]
            .iter()
            .map(|p| (Checksum::of(ChecksumAlgorithm::Sha256, *p), 2))
            .collect();
        let expected = Checksum::of(
            ChecksumAlgorithm::Sha256,
            &[parts[0].0.bytes(), parts[1].0.bytes()].concat(),
        );
        let whole = ObjectChecksum::of_parts(ChecksumType::Composite, &parts).unwrap();
        assert_eq!(whole.value(), format!("{}-2", expected.to_base64()));
        assert!(whole.agrees_with(&whole) && whole.agrees_with(&ObjectChecksum::full(expected)));
        assert!(!whole.agrees_with(&ObjectChecksum {
            composite_parts: Some(3),
            ..whole
        }));
        assert!(!whole.agrees_with(&ObjectChecksum::full(parts[0].0)));
        assert_eq!(ObjectChecksum::of_parts(ChecksumType::FullObject, &parts), None);
        assert_eq!(ObjectChecksum::of_parts(ChecksumType::Composite, &[]), None);
    }

    proptest::proptest! {
        #[test]
        fn crcs_of_parts_combine_to_that_of_the_whole(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..500),
            cuts in proptest::collection::vec(0usize..500, 0..5),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c % bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            for algorithm in [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme] {
                let parts: Vec<(Checksum, u64)> = cuts
                    .windows(2)
                    .map(|w| (Checksum::of(algorithm, &bytes[w[0]..w[1]]), (w[1] - w[0]) as u64))
                    .collect();
                proptest::prop_assert_eq!(
                    ObjectChecksum::of_parts(ChecksumType::FullObject, &parts),
                    Some(ObjectChecksum::full(Checksum::of(algorithm, &bytes)))
                );
            }
        }
    }
}
