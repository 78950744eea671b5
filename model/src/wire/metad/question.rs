//! Questions of gateways to the metadata service, and their answers.

use crate::cluster_time::WallTime;
use crate::command::UploadRef;
use crate::fat::rows::{ChunkRow, ClassRow, CopyPlace, LeaseRow, LeaseVendorRow, RoomRow, VendorRow};
use crate::ids::{BucketId, CopyId, ManifestId, UploadId, UserId, VendorId, VersionId, VersionName};
use crate::namespace::rows::{
    AccessKeyRow, BucketDocumentKind, BucketRow, BucketUsageRow, Checksum, DeleteMarkerRow, Etag, Extent,
    LiveRow, ObjectPart, UploadRow, UserRow, VersionRow,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A question about the replicated state, answered linearizably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// A user by access key. Answers `Answer::AccessKey`.
    AccessKey(String),
    /// A bucket by name, with the documents that it is judged by. Answers `Answer::Bucket`.
    Bucket(String),
    /// Buckets by name, those after `after`, at most `limit`. Answers `Answer::Buckets`.
    Buckets {
        /// Only names that start with this.
        prefix: String,
        /// Names after this one.
        after: Option<String>,
        /// Most to answer.
        limit: usize,
    },
    /// The current version of a key or the one named, with the first page of where its bytes in `range` are.
    /// Answers `Answer::Object`.
    Object {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: String,
        /// Which version; `None`: the current one.
        version: Option<VersionName>,
        /// First plaintext byte wanted and number of bytes; `None` = no bytes (HEAD). The range is cut to
        /// the object.
        range: Option<(ByteRange, PageSize)>,
    },
    /// Further locations of a version's bytes. Answers `Answer::Located`.
    Locate {
        /// What to look in.
        source: LocateSource,
        /// First plaintext byte (of the object, or of the blob's extent).
        offset: u64,
        /// Number of bytes.
        bytes: u64,
    },
    /// Keys of a bucket. Answers `Answer::List`.
    List(ListRequest),
    /// An upload. Answers `Answer::Upload`.
    Upload {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: String,
        /// The upload.
        upload: UploadRef,
    },
    /// Parts of an upload in order, those after `after`. Answers `Answer::Parts`.
    Parts {
        /// The upload.
        upload: UploadRef,
        /// Part numbers after this one.
        after: u32,
        /// Most to answer.
        limit: usize,
    },
    /// All users (without secrets). Answers `Answer::Users`.
    Users,
    /// All access keys, with their users. Answers `Answer::AccessKeys`.
    AccessKeys,
    /// Open and closing leases with their rows. Answers `Answer::Leases`.
    Leases,
    /// All vendors with their room by device class. Answers `Answer::Vendors`.
    Vendors,
    /// All classes. Answers `Answer::Classes`.
    Classes,
    /// Usage of buckets, at most `limits::LIST_PAGE_KEYS_MAX` of them. Answers `Answer::Usage`.
    Usage(Vec<BucketId>),
    /// The FAT of one user's objects: versions it created, by bucket and key after `after`, at most
    /// `limit` rows looked at. Answers `Answer::UserObjects`.
    UserObjects {
        /// Whose.
        user: UserId,
        /// Where to go on.
        after: Option<UserObjectsAfter>,
        /// Most rows to look at.
        limit: usize,
    },
    /// The copies that the FAT says a vendor holds, in the order of their names. Answers `Answer::Copies`.
    Copies {
        /// The vendor.
        vendor: VendorId,
        /// Copies after this one.
        after: Option<CopyId>,
        /// Most to answer.
        limit: usize,
    },
    /// Open uploads of a bucket, by key and then by age. Answers `Answer::Uploads`.
    Uploads(UploadsRequest),
    /// A document of a bucket's settings. Answers `Answer::BucketDocument`.
    BucketDocument {
        /// The bucket.
        bucket: BucketId,
        /// What it is about.
        kind: BucketDocumentKind,
    },
    /// Versions and delete markers of a bucket. Answers `Answer::Versions`.
    Versions(VersionsRequest),
    /// Parts of an object in order, those after number `after`. Answers `Answer::ObjectParts`.
    ObjectParts {
        /// What the object's version refers to.
        manifest: ManifestId,
        /// Part numbers after this one.
        after: u32,
        /// Most to answer.
        limit: usize,
    },
    /// Which of these names users have, at most `limits::LIST_PAGE_KEYS_MAX` of them. Answers `Answer::UsersNamed`.
    UsersNamed(Vec<String>),
}

/// A bucket as gateways need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSettings {
    /// Its row.
    pub row: BucketRow,
    /// The documents by which requests are judged (`BucketDocumentKind::is_judged_by`), each kind once at most.
    pub documents: Vec<(BucketDocumentKind, String)>,
}

/// Where a listing of a user's versions goes on: (bucket name, key, version); without a key: at that bucket or the
/// first behind it.
pub type UserObjectsAfter = (String, Option<(String, VersionId)>);

/// Asks for versions and delete markers of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionsRequest {
    /// The bucket.
    pub bucket: BucketId,
    /// Only keys that start with this.
    pub prefix: String,
    /// As in `ListRequest`.
    pub delimiter: String,
    /// Only what comes after this: after all versions of a key (or all under a common prefix), or after one of
    /// them.
    pub after: Option<(String, Option<VersionName>)>,
    /// Most versions, delete markers and common prefixes together, 0 to `limits::LIST_PAGE_KEYS_MAX`.
    pub limit: usize,
}

/// Versions and delete markers of a bucket, by key and then newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionsReply {
    /// Keys, whether it is the newest of its key, and what it is.
    pub versions: Vec<(String, bool, ListedVersion)>,
    /// Common prefixes.
    pub common_prefixes: Vec<String>,
    /// Where to go on (as `after`), if there is more.
    pub next: Option<(String, Option<VersionName>)>,
}

/// What a listing of versions says of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListedVersion {
    /// A version of an object.
    Object(LiveRow),
    /// A delete marker.
    DeleteMarker(DeleteMarkerRow),
}

impl Query {
    /// Whether answering it may read more than a few rows: such a question goes by itself.
    #[must_use]
    pub fn reads_many_rows(&self) -> bool {
        matches!(
            self,
            Self::List(_)
                | Self::UserObjects { .. }
                | Self::Buckets { .. }
                | Self::Parts { .. }
                | Self::ObjectParts { .. }
                | Self::Uploads(_)
                | Self::Versions(_)
                | Self::Copies { .. }
                | Self::Leases
                | Self::Vendors
                | Self::Users
                | Self::AccessKeys
                | Self::UsersNamed(_)
        ) || matches!(self, Self::Usage(buckets) if buckets.len() > 1)
    }
}

/// Asks for the open uploads of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadsRequest {
    /// The bucket.
    pub bucket: BucketId,
    /// Only keys that start with this.
    pub prefix: String,
    /// As in `ListRequest`.
    pub delimiter: String,
    /// Only what comes after this: after all uploads of a key (or all under a common prefix), or after one of
    /// them.
    pub after: Option<(String, Option<UploadId>)>,
    /// Most uploads and common prefixes together, 0 to `limits::LIST_PAGE_KEYS_MAX`.
    pub limit: usize,
}

/// Open uploads of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadsReply {
    /// The uploads, by key and then by age.
    pub uploads: Vec<UploadRow>,
    /// Common prefixes.
    pub common_prefixes: Vec<String>,
    /// Where to go on (as `after`), if there is more.
    pub next: Option<(String, Option<UploadId>)>,
}

/// Which plaintext bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByteRange {
    /// From this byte on, this many at most.
    From {
        /// First byte.
        first: u64,
        /// Number of bytes at most.
        bytes: u64,
    },
    /// The last so many bytes.
    Last(u64),
    /// Those of the part of this number.
    Part(u32),
}

/// Most chunks of a page, at most `limits::LOCATE_PAGE_CHUNKS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageSize(pub u32);

/// What later pages of `Query::Locate` go by; valid while a session holds back erases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocateSource {
    /// A single extent; offsets count from the extent's start.
    Extent(Extent),
    /// A manifest; offsets count from the object's start.
    Manifest(ManifestId),
}

/// A span of an object and where its bytes are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatedSpan {
    /// First plaintext byte in the object (in the extent for `LocateSource::Extent`).
    pub offset: u64,
    /// Plaintext bytes of the span.
    pub bytes: u64,
    /// The extent it lies in.
    pub extent: Extent,
    /// The bytes themselves, or the chunk.
    pub place: SpanPlace,
}

/// Where a span's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpanPlace {
    /// The sealed frames of the whole blob.
    Inline(Bytes),
    /// In one chunk.
    Chunk {
        /// Index of the chunk in its blob.
        index: u32,
        /// First plaintext byte of the span within the chunk.
        offset: u64,
        /// The chunk and its copies.
        row: ChunkRow,
    },
}

/// Asks for keys of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    /// The bucket.
    pub bucket: BucketId,
    /// Only keys that start with this.
    pub prefix: String,
    /// Keys that share the part up to this after the prefix are folded into a common prefix. Empty = none.
    pub delimiter: String,
    /// Only keys greater than this; if it is (or lies under) a common prefix that was answered already,
    /// that prefix is not answered again.
    pub after: Option<String>,
    /// Most keys and common prefixes together, 0 to `limits::LIST_PAGE_KEYS_MAX`.
    pub limit: usize,
}

/// Keys of a bucket, in UTF-8 byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListReply {
    /// Keys with their live rows.
    pub objects: Vec<(String, LiveRow)>,
    /// Common prefixes.
    pub common_prefixes: Vec<String>,
    /// Where to go on (as `after`), if the page is full or the scan bound was reached.
    pub next: Option<String>,
}

/// Answers to queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The key's row and its user.
    AccessKey(Option<(AccessKeyRow, UserRow)>),
    /// The bucket.
    Bucket(Option<BucketSettings>),
    /// Buckets, and whether there are more.
    Buckets(Vec<BucketRow>, bool),
    /// The version, with the spans of the first page; or why there is none.
    Object(Found),
    /// Spans in order, without gaps from the offset asked; fewer bytes than asked means: ask again from
    /// there. Empty: the source is gone.
    Located(Vec<LocatedSpan>),
    /// Keys.
    List(ListReply),
    /// The upload.
    Upload(Option<UploadRow>),
    /// Parts, and whether there are more.
    Parts(Vec<UploadedPart>, bool),
    /// Users.
    Users(Vec<UserRow>),
    /// (access key, its user).
    AccessKeys(Vec<(String, UserId)>),
    /// Leases with their rows.
    Leases(Vec<(LeaseRow, Vec<(VendorId, LeaseVendorRow)>)>),
    /// Vendors with their rooms by device class.
    Vendors(Vec<(VendorRow, Vec<(String, RoomRow)>)>),
    /// Classes.
    Classes(Vec<ClassRow>),
    /// Usage of each bucket, in the order asked.
    Usage(Vec<BucketUsageRow>),
    /// (bucket name, key, version) of a user's objects, and where to go on.
    UserObjects(Vec<(String, String, VersionRow)>, Option<UserObjectsAfter>),
    /// Copies with their places, and whether there are more.
    Copies(Vec<(CopyId, CopyPlace)>, bool),
    /// Open uploads.
    Uploads(UploadsReply),
    /// The document, if there is one.
    BucketDocument(Option<String>),
    /// Versions and delete markers.
    Versions(VersionsReply),
    /// Parts, and how many the object has in all; 0 if it is gone.
    ObjectParts(Vec<ObjectPart>, u32),
    /// Whether a user has it, for each name in the order asked.
    UsersNamed(Vec<bool>),
}

/// What there is under a key, or under a version's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A delete marker: the newest of the key, or the one named.
    DeleteMarker(DeleteMarkerRow),
    /// A version.
    Object(Box<ObjectAnswer>),
}

/// A version and where the wanted bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectAnswer {
    /// The version.
    pub version: VersionRow,
    /// Spans of the wanted range, without gaps; maybe fewer bytes than wanted.
    pub spans: Vec<LocatedSpan>,
    /// The part that was asked for by `ByteRange::Part`, if there is one.
    pub part: Option<LocatedPart>,
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadedPart {
    /// Its number.
    pub number: u32,
    /// Plaintext bytes.
    pub bytes: u64,
    /// See `PartRow::etag`.
    pub etag: Etag,
    /// Last-Modified.
    pub modified: WallTime,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

/// A part of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatedPart {
    /// The part. Without a checksum of its own if the object was not made of parts.
    pub part: ObjectPart,
    /// How many parts the object has; `None` if it was not made of parts, and is its only one.
    pub of: Option<u32>,
}

/// A query answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryReply {
    /// Log index as of which it was read.
    pub index: u64,
    /// The answer.
    pub answer: Answer,
}
