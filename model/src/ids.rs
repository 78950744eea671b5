//! Names of things: newtypes for every id of the system, and nothing else.
//!
//! Ids minted by the metadata service are 64-bit numbers whose top 16 bits are the [`Epoch`] and whose low
//! 48 bits are a replicated counter, so that an id never comes back, not even after a restore.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Number of low bits of an id that hold the replicated counter; the epoch lies above them.
pub const COUNTER_BITS: u32 = 48;

/// Raised by a restore or a lost-quorum recovery; the top 16 bits of every minted id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u16);

impl Epoch {
    /// The id with this epoch and `counter`, which must be below 2^48.
    ///
    /// # Panics
    /// When `counter` has reached 2^48: the ids of this epoch are used up.
    #[must_use]
    pub fn id(self, counter: u64) -> u64 {
        assert!(counter < 1 << COUNTER_BITS, "the ids of one epoch are used up");
        (u64::from(self.0) << COUNTER_BITS) | counter
    }

    /// The epoch in which `id` was minted.
    #[must_use]
    pub fn of(id: u64) -> Self {
        Self(u16::try_from(id >> COUNTER_BITS).unwrap_or(u16::MAX))
    }
}

macro_rules! minted_ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )*};
}

minted_ids! {
    /// A server that offers storage. Minted when its agent registers.
    VendorId, "vendor-";
    /// A bucket. A bucket that is deleted and made again has another id.
    BucketId, "bucket-";
    /// A person or program with access keys.
    UserId, "user-";
    /// A gateway's replicated identity while it lives.
    SessionId, "session-";
    /// A provisional FAT. "Closed" is: below the mark and not in the open list.
    LeaseId, "lease-";
    /// An immutable, reference-counted list of extents.
    ManifestId, "manifest-";
    /// A multipart upload (its wire form adds the random part of its row).
    UploadId, "upload-";
}

/// A device of one vendor: counted from 0 in the order in which its agent first saw it, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(pub u32);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device-{}", self.0)
    }
}

/// The stored bytes of one PUT body or one uploaded part. Named by its gateway before the first byte moves,
/// because frames are sealed to the name: a session's `counter` never repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId {
    /// The session that stored it.
    pub session: SessionId,
    /// Counts that session's blobs.
    pub counter: u64,
}

impl BlobId {
    /// The id as 16 bytes, big-endian: what frames are bound to.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.session.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blob-{}-{}", self.session.0, self.counter)
    }
}

/// A contiguous part of a blob: (the lease it was first placed under, a counter within that lease).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId {
    /// The lease under which the chunk was first sent.
    pub lease: LeaseId,
    /// Counts the chunks first sent under that lease.
    pub counter: u32,
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunk-{}-{}", self.lease.0, self.counter)
    }
}

/// One chunk at one vendor: (chunk, the lease under which this copy was placed). A copy's name never comes
/// back; a chunk may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CopyId {
    /// The chunk of which this is a copy.
    pub chunk: ChunkId,
    /// The placement lease: the copy's room was taken from it.
    pub lease: LeaseId,
}

impl CopyId {
    /// Length of [`CopyId::to_bytes`].
    pub const BYTES: usize = 20;

    /// The name as 20 bytes, big-endian, placement lease first: copies of one lease sort together.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.lease.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.chunk.lease.0.to_be_bytes());
        bytes[16..].copy_from_slice(&self.chunk.counter.to_be_bytes());
        bytes
    }

    /// The inverse of [`CopyId::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut lease = [0; 8];
        let mut chunk_lease = [0; 8];
        let mut counter = [0; 4];
        lease.copy_from_slice(&bytes[..8]);
        chunk_lease.copy_from_slice(&bytes[8..16]);
        counter.copy_from_slice(&bytes[16..]);
        Self {
            chunk: ChunkId {
                lease: LeaseId(u64::from_be_bytes(chunk_lease)),
                counter: u32::from_be_bytes(counter),
            },
            lease: LeaseId(u64::from_be_bytes(lease)),
        }
    }
}

impl fmt::Display for CopyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "copy-{}-{}@{}",
            self.chunk.lease.0, self.chunk.counter, self.lease.0
        )
    }
}

/// The version of an object: the log index that made it, and a random part so that it cannot be guessed.
/// Newer versions have greater `order`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionId {
    /// Log index of the command that made the version.
    pub order: u64,
    /// Random part, minted by the gateway.
    pub random: u64,
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.order, self.random)
    }
}

impl VersionId {
    /// The inverse of its `Display`; nothing else is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        let valid = text.len() == 32 && text.as_bytes().iter().all(is_digit);
        let (order, random) = text.split_at_checked(16).filter(|_| valid)?;
        Some(Self {
            order: u64::from_str_radix(order, 16).ok()?,
            random: u64::from_str_radix(random, 16).ok()?,
        })
    }
}

/// How clients name a version. Those stored while a bucket keeps no old versions are all named `null`: a key has
/// at most one such version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VersionName {
    /// `null`.
    Null,
    /// Its id. Names no `null` version.
    Id(VersionId),
}

impl VersionName {
    /// The inverse of its `Display`; nothing else is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "null" => Some(Self::Null),
            other => VersionId::parse(other).map(Self::Id),
        }
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Id(version) => version.fmt(f),
        }
    }
}

/// Names one cluster for ever; 128 random bits minted at first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Names a key-encryption key: the first 8 bytes of the BLAKE3 derivation documented in the gateway's
/// encryption module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KekId(pub u64);

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// BLAKE3 of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}
