//! Rows of the namespace: buckets (in a file of their own), live rows, versions, manifests, blobs, uploads, users.
//! Keys are described in [`super::keys`].

mod bucket;

use crate::cluster_time::{ClusterTime, WallTime};
use crate::codec::versioned;
use crate::ids::{BlobId, BucketId, KekId, ManifestId, SessionId, UploadId, UserId, VersionId, VersionName};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

pub use bucket::{
    BucketAccess, BucketDocumentKind, BucketDocumentRow, BucketRow, BucketUsageRow, CannedAcl,
    ObjectOwnership, PublicAccessBlock, Quota, Share, Versioning,
};

/// The user who holds the gateways' root keys; has no row.
pub const ROOT_USER: UserId = UserId(0);

/// Whoever sends a request without credentials; has no row. What such callers store is nobody's else.
pub const ANONYMOUS_USER: UserId = UserId(u64::MAX);

/// An entity tag, without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Etag {
    /// MD5 of the body.
    Md5([u8; 16]),
    /// MD5 of the parts' MD5s, and the number of parts.
    Multipart([u8; 16], u32),
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Md5(md5) | Self::Multipart(md5, _)) = self;
        for byte in md5 {
            write!(f, "{byte:02x}")?;
        }
        match self {
            Self::Md5(_) => Ok(()),
            Self::Multipart(_, parts) => write!(f, "-{parts}"),
        }
    }
}

/// Checksum algorithms of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC), 4 bytes big-endian.
    Crc32,
    /// CRC-32C (iSCSI), 4 bytes big-endian.
    Crc32c,
    /// CRC-64/NVME, 8 bytes big-endian.
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
}

/// What a multipart object's checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumKind {
    /// The object's bytes.
    FullObject,
    /// The parts' checksums.
    Composite,
}

/// A stored checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Which.
    pub algorithm: ChecksumAlgorithm,
    /// Of what.
    pub kind: ChecksumKind,
    /// The value, big-endian, as long as the algorithm says.
    pub value: Bytes,
    /// Parts, for a composite one; 0 otherwise.
    pub parts: u32,
}

/// A blob's data key, wrapped by a key-encryption key that only gateways hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// Which KEK wrapped it.
    pub kek: KekId,
    /// The wrapped key, in the gateway's format.
    pub bytes: Bytes,
}

/// Where a blob's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobStorage {
    /// In `Column::Inline`, or in the row of the version itself.
    Inline,
    /// In this many chunk rows.
    Chunks(u32),
}

/// (blob, offset, length, wrapped key): a span of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The blob.
    pub blob: BlobId,
    /// First plaintext byte in the blob.
    pub offset: u64,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Plaintext bytes of the whole blob.
    pub blob_bytes: u64,
    /// Plaintext bytes of each of the blob's chunks but the last.
    pub chunk_bytes: u64,
    /// Where its bytes are.
    pub storage: BlobStorage,
    /// Its key.
    pub key: WrappedKey,
}

/// What a version consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// No bytes at all.
    Empty,
    /// One extent; the version owns the blob, which has no row of its own.
    Single(Extent),
    /// The extents of a manifest.
    Manifest(ManifestId),
    /// One extent of a blob that other versions may refer to too: the blob has a row, which counts them.
    Shared(Extent),
    /// One extent whose bytes are here: those of a blob that is small, and the version's alone.
    Held(Extent, Bytes),
}

impl Content {
    /// Its only extent, if it is of one.
    #[must_use]
    pub fn extent(&self) -> Option<&Extent> {
        match self {
            Self::Single(extent) | Self::Shared(extent) | Self::Held(extent, _) => Some(extent),
            Self::Empty | Self::Manifest(_) => None,
        }
    }

    /// Whether its bytes are in the FAT itself.
    #[must_use]
    pub fn is_inlined(&self) -> bool {
        self.extent()
            .is_some_and(|extent| extent.storage == BlobStorage::Inline)
    }
}

/// Headers and user metadata, as S3 returns them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// System headers by lower-case name (content-type, cache-control, …).
    pub headers: Vec<(String, String)>,
    /// `x-amz-meta-` names without the prefix, and values.
    pub user: Vec<(String, String)>,
    /// Tags: keys, each once, and values.
    pub tags: Vec<(String, String)>,
    /// Who may reach the version, policies aside.
    pub acl: CannedAcl,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// Its id.
    pub version: VersionId,
    /// Clients know it as `null`: stored while the bucket kept no old versions.
    pub null: bool,
    /// Who stored it.
    pub creator: UserId,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Entity tag.
    pub etag: Etag,
    /// Last-Modified.
    pub modified: WallTime,
    /// Name of its class.
    pub class: String,
    /// Headers and metadata.
    pub metadata: Metadata,
    /// Checksum, if one was given or made.
    pub checksum: Option<Checksum>,
    /// Its bytes, or where they are.
    pub content: Content,
}

/// What a delete that names no version leaves in a bucket that keeps old versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteMarkerRow {
    /// Its id.
    pub version: VersionId,
    /// As of a version.
    pub null: bool,
    /// Who deleted.
    pub creator: UserId,
    /// When.
    pub modified: WallTime,
}

/// A row of `Column::Versions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionEntry {
    /// A version of an object.
    Object(Box<VersionRow>),
    /// A delete marker.
    DeleteMarker(DeleteMarkerRow),
}

/// What stands behind all other versions of a key: its `null` version, if that was stored before its bucket kept any
/// others, or else where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NullRow {
    /// The version itself, older than all others.
    Here(Box<VersionRow>),
    /// It is among the others.
    At(VersionId),
}

impl VersionEntry {
    /// Its id.
    #[must_use]
    pub fn version(&self) -> VersionId {
        match self {
            Self::Object(row) => row.version,
            Self::DeleteMarker(row) => row.version,
        }
    }

    /// Whether clients know it as `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        match self {
            Self::Object(row) => row.null,
            Self::DeleteMarker(row) => row.null,
        }
    }
}

fn name(version: VersionId, null: bool) -> VersionName {
    if null {
        VersionName::Null
    } else {
        VersionName::Id(version)
    }
}

impl VersionRow {
    /// How clients name it.
    #[must_use]
    pub fn name(&self) -> VersionName {
        name(self.version, self.null)
    }

    /// The same without the bytes that it may hold, for those who are only told of it.
    #[must_use]
    pub fn without_bytes(self) -> Self {
        let content = match self.content {
            Content::Held(extent, _) => Content::Single(extent),
            content => content,
        };
        Self { content, ..self }
    }
}

impl DeleteMarkerRow {
    /// How clients name it.
    #[must_use]
    pub fn name(&self) -> VersionName {
        name(self.version, self.null)
    }
}

impl LiveRow {
    /// How clients name the version.
    #[must_use]
    pub fn name(&self) -> VersionName {
        name(self.version, self.null)
    }
}

impl From<&VersionRow> for LiveRow {
    fn from(row: &VersionRow) -> Self {
        let checksum = row.checksum.as_ref();
        Self {
            version: row.version,
            null: row.null,
            bytes: row.bytes,
            etag: row.etag,
            modified: row.modified,
            class: row.class.clone(),
            checksum: checksum.map(|checksum| (checksum.algorithm, checksum.kind)),
            creator: row.creator,
        }
    }
}

/// What LIST returns of a key, and where its version is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRow {
    /// The current version.
    pub version: VersionId,
    /// As of the version.
    pub null: bool,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Entity tag.
    pub etag: Etag,
    /// Last-Modified.
    pub modified: WallTime,
    /// Name of its class.
    pub class: String,
    /// Its checksum's algorithm and kind.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// Who stored it.
    pub creator: UserId,
}

/// Whose a blob with a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobOwner {
    /// Being uploaded by this session; abandoned with it.
    Building(SessionId),
    /// Referenced by parts and manifest extents.
    Shared,
}

/// A blob that has a row: being built, or referenced by parts and extents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    /// Whose it is.
    pub owner: BlobOwner,
    /// References to it; 0 while building, and terminal otherwise.
    pub references: u32,
    /// Where its bytes are: `Chunks(n)` with n rows committed so far.
    pub storage: BlobStorage,
    /// Plaintext bytes committed so far.
    pub bytes: u64,
    /// Plaintext bytes of each chunk but the last; 0 for an inlined blob.
    pub chunk_bytes: u64,
}

/// An immutable list of extents; its pages are rows of up to `limits::EXTENTS_PER_PAGE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRow {
    /// References to it; 0 while under construction.
    pub references: u32,
    /// Extents so far.
    pub extents: u32,
    /// Parts so far.
    pub parts: u32,
    /// Plaintext bytes so far.
    pub bytes: u64,
    /// While under construction: for what.
    pub building: Option<ManifestBuilding>,
}

/// A manifest under construction, which its upload's complete owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestBuilding {
    /// The upload it is made for.
    pub upload: UploadId,
    /// The upload's `generation` when the manifest was begun.
    pub generation: u64,
    /// Number of the last part taken.
    pub last_part: u32,
    /// The last slice has come: no more parts follow.
    pub closed: bool,
}

/// One page of a manifest; its key names the manifest and the page's first plaintext offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPage {
    /// The extents, in order.
    pub extents: Vec<Extent>,
}

/// One part of an object that was made of parts. Its number is its place: the first is number 1, whatever its
/// number was in the upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPart {
    /// Its first plaintext byte in the object.
    pub offset: u64,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

/// Some parts of a manifest; its key names the manifest and the number of the first of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestParts {
    /// The parts, in order: at most `limits::EXTENTS_PER_PAGE`.
    pub parts: Vec<ObjectPart>,
}

/// Where an upload stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadState {
    /// Takes parts.
    Open,
    /// A complete is building `manifest`; parts are still taken, and make it start again.
    Completing {
        /// The manifest under construction.
        manifest: ManifestId,
    },
    /// Completed: a repeated complete of the same parts answers the same.
    Completed {
        /// The version it became.
        version: VersionId,
        /// How answers name it; not at all if the bucket kept no old versions.
        name: Option<VersionName>,
        /// Its entity tag.
        etag: Etag,
        /// Its checksum.
        checksum: Option<Checksum>,
        /// When, in cluster time; forgotten after `limits::COMPLETED_UPLOAD_KEPT_MS`.
        at: ClusterTime,
    },
}

/// A multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRow {
    /// Its id.
    pub upload: UploadId,
    /// Random part of its name on the wire, so that it cannot be guessed.
    pub random: u64,
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: String,
    /// Who began it.
    pub creator: UserId,
    /// When.
    pub initiated: WallTime,
    /// Name of its class.
    pub class: String,
    /// Headers and metadata of the object to be.
    pub metadata: Metadata,
    /// Checksum named at its creation.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// Raised by each part.
    pub generation: u64,
    /// Plaintext bytes of its parts, while it is open.
    pub part_bytes: u64,
    /// Extents of its parts beyond one for each part: at most
    /// `limits::EXTENTS_PER_VERSION` - `limits::PARTS_PER_UPLOAD`, so that whatever was uploaded can be completed.
    pub extents_beyond: u32,
    /// Where it stands.
    pub state: UploadState,
}

/// One part; its key names upload and part number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    /// Its bytes: one extent if they were sent, up to `limits::EXTENTS_PER_PART` if they were copied, none if there
    /// are no bytes. Each blob has a row, and this part a reference to it for each extent.
    pub extents: Vec<Extent>,
    /// MD5 of its bytes; of bytes that were copied without being read, another digest that stands for them.
    pub etag: Etag,
    /// Last-Modified.
    pub modified: WallTime,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

impl PartRow {
    /// Plaintext bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.bytes).sum()
    }
}

/// What a user may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserPolicy {
    /// Everything in S3.
    ReadWrite,
    /// Reads and listings in S3.
    ReadOnly,
    /// Nothing but what buckets grant.
    None,
    /// What this document says, verified by the gateway: 1 to `limits::USER_POLICY_BYTES_MAX` bytes.
    Document(String),
}

/// A person or program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Its id.
    pub user: UserId,
    /// Its name, unique.
    pub name: String,
    /// What it may do.
    pub policy: UserPolicy,
    /// Raised by each change of the user or its keys.
    pub settings_version: u64,
}

/// An access key; its key is the access key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyRow {
    /// Whose it is.
    pub user: UserId,
    /// The secret, sealed by the gateway under the KEK and bound to the access key.
    pub sealed_secret: WrappedKey,
}

versioned!(
    VersionEntry = 2,
    NullRow,
    LiveRow = 2,
    BlobRow,
    ManifestRow = 2,
    ManifestPage,
    ManifestParts,
    UploadRow = 3,
    PartRow = 2,
    UserRow,
    AccessKeyRow,
);
