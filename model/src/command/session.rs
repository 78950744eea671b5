//! Commands of gateways, within their sessions: what they make of buckets, objects, uploads, users and their own room.

use crate::cluster_time::WallTime;
use crate::fat::rows::ChunkRow;
use crate::ids::{BlobId, BucketId, LeaseId, ManifestId, UploadId, UserId, VendorId, VersionId, VersionName};
use crate::namespace::rows::{
    BucketAccess, BucketDocumentKind, CannedAcl, Checksum, ChecksumAlgorithm, ChecksumKind, Etag, Metadata,
    Quota, UserPolicy, Versioning, WrappedKey,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Commands of gateways, each decided at most once under its sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionCommand {
    /// Locks room: a provisional FAT. The rows were chosen by the leader.
    Allocate {
        /// Class it is for.
        class: String,
        /// (vendor, device class, bytes).
        rows: Vec<(VendorId, String, u64)>,
        /// Life in ms of cluster time.
        duration_ms: u64,
    },
    /// Moves a lease's deadline.
    RenewLease {
        /// The lease.
        lease: LeaseId,
        /// Life in ms of cluster time from now.
        duration_ms: u64,
    },
    /// Gives back room for which nothing was ever sent: free at once.
    ShrinkLease {
        /// The lease.
        lease: LeaseId,
        /// (vendor, bytes).
        rows: Vec<(VendorId, u64)>,
    },
    /// Returns a lease: closing from now on.
    ReturnLease {
        /// The lease.
        lease: LeaseId,
    },
    /// Commits the next chunks of a long body: settles their room, owned by a building blob.
    Slice(SliceCommand),
    /// Gives up a building blob: its chunks are released.
    AbandonBlob {
        /// The blob.
        blob: BlobId,
    },
    /// Makes an object visible, or replaces it.
    FinalizeObject(FinalizeObject),
    /// Makes an uploaded part, or replaces it.
    FinalizePart(FinalizePart),
    /// Makes a bucket.
    CreateBucket {
        /// Who.
        actor: Actor,
        /// Its name.
        name: String,
        /// Region named.
        region: String,
        /// Who may reach it.
        access: BucketAccess,
        /// When.
        now: WallTime,
    },
    /// Deletes an empty bucket.
    DeleteBucket {
        /// Who.
        actor: Actor,
        /// The bucket as decided under.
        bucket: BucketRef,
    },
    /// Deletes an object, or one version of it. Deleting what is not there succeeds unless conditions say
    /// otherwise.
    DeleteObject(DeleteObject),
    /// Begins a multipart upload.
    CreateUpload {
        /// Who.
        actor: Actor,
        /// The bucket as decided under.
        bucket: BucketRef,
        /// The key.
        key: String,
        /// Random part of the upload's name.
        random: u64,
        /// Name of its class.
        class: String,
        /// Headers and metadata of the object to be.
        metadata: Metadata,
        /// Checksum of the object to be.
        checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
        /// When.
        now: WallTime,
    },
    /// Adds the next listed parts to the manifest that a complete is building.
    CompleteSlice(CompleteSlice),
    /// Turns a finished manifest into an object version.
    CompleteUpload(CompleteUpload),
    /// Aborts an upload. Answers `Rejection::NoSuchUpload` for one that is completed.
    AbortUpload {
        /// Who.
        actor: Actor,
        /// The bucket as decided under.
        bucket: BucketRef,
        /// The key.
        key: String,
        /// The upload.
        upload: UploadRef,
    },
    /// Makes a user with its first access key.
    CreateUser {
        /// Name, unique.
        name: String,
        /// What it may do.
        policy: UserPolicy,
        /// Access key, unique.
        access_key: String,
        /// Its secret, sealed.
        sealed_secret: WrappedKey,
    },
    /// Deletes an access key.
    DeleteAccessKey {
        /// The key.
        access_key: String,
    },
    /// Copies an object, without its bytes.
    CopyObject(CopyObject),
    /// Replaces the tags of an object.
    SetObjectTags(SetObjectTags),
    /// Sets or deletes a document of a bucket's settings. Setting what is there already changes nothing, and
    /// so does deleting what is not there.
    SetBucketDocument {
        /// Who.
        actor: Actor,
        /// The bucket as decided under.
        bucket: BucketRef,
        /// What it is about.
        kind: BucketDocumentKind,
        /// The document, verified by the gateway; `None` deletes.
        document: Option<String>,
    },
    /// Sets whether a bucket keeps old versions.
    SetVersioning {
        /// Who.
        actor: Actor,
        /// The bucket as decided under.
        bucket: BucketRef,
        /// `Enabled` or `Suspended`.
        versioning: Versioning,
    },
    /// Changes what a user may do.
    SetUserPolicy {
        /// Who.
        user: UserId,
        /// What it may do.
        policy: UserPolicy,
    },
    /// Changes who may reach a bucket.
    SetBucketAccess {
        /// Who.
        actor: Actor,
        /// The bucket as decided under.
        bucket: BucketRef,
        /// Who may reach it.
        access: BucketAccess,
    },
    /// Changes who may reach an object, or one version of it.
    SetObjectAcl {
        /// Who.
        actor: Actor,
        /// The bucket as decided under.
        bucket: BucketRef,
        /// The key.
        key: String,
        /// The version; `None` for the current one.
        version: Option<VersionName>,
        /// What the gateway saw of that version, if it decided by that.
        seen: Option<Seen>,
        /// Who may reach it.
        acl: CannedAcl,
    },
    /// Makes a part of an upload of bytes of an object, without those bytes.
    CopyPart(CopyPart),
    /// Sets what a bucket may hold, by an operator's word: whatever its other settings are.
    SetBucketQuota {
        /// The bucket.
        bucket: BucketId,
        /// The quota.
        quota: Quota,
    },
}

/// A user and the version of its settings under which a gateway decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Who.
    pub user: UserId,
    /// Version of the user's settings; 0 for the root user.
    pub settings_version: u64,
}

/// A bucket and the version of its settings under which a gateway decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRef {
    /// Which.
    pub bucket: BucketId,
    /// Version of its settings.
    pub settings_version: u64,
}

/// An upload as named on the wire: its id and its random part, both of which must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRef {
    /// Which.
    pub upload: UploadId,
    /// Its random part.
    pub random: u64,
}

/// An entity-tag condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EtagMatch {
    /// `*`: any existing object.
    Any,
    /// One of these, without quotes. Text, because clients may send what no object can have.
    OneOf(Vec<String>),
}

/// S3 preconditions on the current version, checked where the write is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// The object must exist and match.
    pub if_match: Option<EtagMatch>,
    /// The object must not exist, or not match.
    pub if_none_match: Option<EtagMatch>,
}

/// The bytes of a finalize.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// No bytes.
    Empty,
    /// Sealed frames kept in the FAT.
    Inline {
        /// The blob.
        blob: BlobId,
        /// Plaintext bytes.
        plaintext_bytes: u64,
        /// The frames with their tags.
        sealed: Bytes,
        /// Its key.
        key: WrappedKey,
    },
    /// Chunks at vendors: the last slice; earlier ones are committed under the same blob already.
    Chunks {
        /// The blob.
        blob: BlobId,
        /// Plaintext bytes of the whole blob.
        plaintext_bytes: u64,
        /// Plaintext bytes of each chunk but the last.
        chunk_bytes: u64,
        /// Index of the first chunk below; 0 if nothing was sliced before.
        first: u32,
        /// The rest of the chunks, at most `limits::CHUNKS_PER_SLICE`.
        chunks: Vec<ChunkRow>,
        /// Its key.
        key: WrappedKey,
        /// Class under whose rule it was placed, with the version of the rule.
        class: (String, u64),
    },
}

/// See [`SessionCommand::Slice`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceCommand {
    /// The building blob; its first slice makes it.
    pub blob: BlobId,
    /// Index of the first chunk below: the number committed so far.
    pub first: u32,
    /// Plaintext bytes of each chunk but the last of the blob.
    pub chunk_bytes: u64,
    /// At most `limits::CHUNKS_PER_SLICE`.
    pub chunks: Vec<ChunkRow>,
    /// Class under whose rule they were placed, with the version of the rule.
    pub class: (String, u64),
}

/// See [`SessionCommand::FinalizeObject`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalizeObject {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// Conditions.
    pub conditions: Conditions,
    /// Random part of the version's id.
    pub random: u64,
    /// Last-Modified.
    pub now: WallTime,
    /// Entity tag.
    pub etag: Etag,
    /// Checksum.
    pub checksum: Option<Checksum>,
    /// Name of the class asked for.
    pub class: String,
    /// Headers and metadata.
    pub metadata: Metadata,
    /// The bytes.
    pub body: Body,
}

/// See [`SessionCommand::DeleteObject`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteObject {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The version or delete marker to be removed for good. `None`: the current version goes; where the bucket
    /// keeps old versions, a delete marker comes in front of it.
    pub version: Option<VersionName>,
    /// Conditions on the current version.
    pub conditions: Conditions,
    /// Random part of a delete marker's id.
    pub random: u64,
    /// When.
    pub now: WallTime,
}

/// Which version a copy is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopySource {
    /// This one, which must be the current one still.
    Current(VersionId),
    /// This one, which the client asked for by its name.
    Named(VersionId),
}

/// See [`SessionCommand::CopyObject`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyObject {
    /// Who.
    pub actor: Actor,
    /// The bucket of the source as decided under.
    pub source: BucketRef,
    /// The key of the source.
    pub source_key: String,
    /// The version that the gateway read, and made its decisions about.
    pub version: CopySource,
    /// The bucket of the copy as decided under.
    pub target: BucketRef,
    /// The key of the copy.
    pub key: String,
    /// Conditions on the copy's key.
    pub conditions: Conditions,
    /// Random part of the copy's version id.
    pub random: u64,
    /// Last-Modified of the copy.
    pub now: WallTime,
    /// Its headers and metadata.
    pub metadata: Metadata,
    /// Its checksum, made of the version's bytes; `None`: the source's.
    pub checksum: Option<Checksum>,
}

/// See [`SessionCommand::SetObjectTags`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetObjectTags {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The version; `None` for the current one.
    pub version: Option<VersionName>,
    /// What the gateway saw of that version, if it decided by that.
    pub seen: Option<Seen>,
    /// All tags that it has from now on.
    pub tags: Vec<(String, String)>,
}

/// What a gateway saw of the version that a command changes: policies may ask for tags. If it is another version by
/// now, or has other tags, what was decided does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The version.
    pub version: VersionId,
    /// Its tags.
    pub tags: Vec<(String, String)>,
}

/// See [`SessionCommand::FinalizePart`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalizePart {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload: UploadRef,
    /// 1 to `limits::PARTS_PER_UPLOAD`.
    pub number: u32,
    /// Last-Modified.
    pub now: WallTime,
    /// MD5 of the part.
    pub etag: Etag,
    /// Checksum.
    pub checksum: Option<Checksum>,
    /// The bytes; never `Inline`, so that parts can be referenced for good.
    pub body: Body,
}

/// See [`SessionCommand::CopyPart`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPart {
    /// Who.
    pub actor: Actor,
    /// The bucket of the source as decided under.
    pub source: BucketRef,
    /// The key of the source.
    pub source_key: String,
    /// The version that the gateway read, and made its decisions about.
    pub version: CopySource,
    /// First plaintext byte of the source that is copied.
    pub first: u64,
    /// How many; 0 only of a source without any.
    pub bytes: u64,
    /// The bucket of the upload as decided under.
    pub target: BucketRef,
    /// The key of the upload.
    pub key: String,
    /// The upload.
    pub upload: UploadRef,
    /// 1 to `limits::PARTS_PER_UPLOAD`.
    pub number: u32,
    /// Last-Modified.
    pub now: WallTime,
    /// See `PartRow::etag`.
    pub etag: Etag,
    /// Checksum, if it is known.
    pub checksum: Option<Checksum>,
}

/// One part as a complete lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPart {
    /// Its number; rising.
    pub number: u32,
    /// Its MD5.
    pub etag: Etag,
    /// Its checksum, where the client gave one.
    pub checksum: Option<Bytes>,
}

/// See [`SessionCommand::CompleteSlice`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteSlice {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload: UploadRef,
    /// The manifest under construction; `None` begins one (and drops one left by an earlier complete).
    pub manifest: Option<ManifestId>,
    /// The next parts, at most `limits::EXTENTS_PER_PAGE`.
    pub parts: Vec<ListedPart>,
    /// No further parts follow: the last part may be short, all others must not.
    pub last: bool,
}

/// See [`SessionCommand::CompleteUpload`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteUpload {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload: UploadRef,
    /// The finished manifest.
    pub manifest: ManifestId,
    /// Conditions.
    pub conditions: Conditions,
    /// Random part of the version's id.
    pub random: u64,
    /// Last-Modified.
    pub now: WallTime,
    /// Entity tag of the whole, made by the gateway from the listed parts.
    pub etag: Etag,
    /// Checksum of the whole, made by the gateway from the parts' checksums.
    pub checksum: Option<Checksum>,
    /// Plaintext bytes the client says the object has (`x-amz-mp-object-size`).
    pub expected_bytes: Option<u64>,
}
