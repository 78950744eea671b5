//! Rows of buckets: who made them, what they keep, who may reach them, what they hold and may hold.

use crate::cluster_time::WallTime;
use crate::codec::versioned;
use crate::ids::{BucketId, UserId, VersionName};
use crate::limits::BUCKET_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// Whether a bucket keeps old versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// Never switched on: one version per key, named `null`.
    #[default]
    Off,
    /// Each write makes a version with a name of its own; a delete that names no version makes a delete marker.
    Enabled,
    /// No more versions are kept: a write or a delete replaces the key's `null` version. Those there stay.
    Suspended,
}

impl Versioning {
    /// Whether what a write makes is named `null`, and so replaces the version that was.
    #[must_use]
    pub fn writes_null(self) -> bool {
        self != Self::Enabled
    }

    /// How answers name a version; not at all where versioning was never switched on.
    #[must_use]
    pub fn shown(self, name: VersionName) -> Option<VersionName> {
        match name {
            VersionName::Null => (self != Self::Off).then_some(name),
            // There are none where it was not, whatever is known of the bucket.
            VersionName::Id(_) => Some(name),
        }
    }
}

/// A canned access control list: what others than the owner may do, whatever policies say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CannedAcl {
    /// Nothing.
    #[default]
    Private,
    /// Everybody reads: lists a bucket, gets an object.
    PublicRead,
    /// Everybody reads; everybody stores and deletes in a bucket.
    PublicReadWrite,
    /// Whoever has an access key reads.
    AuthenticatedRead,
}

/// Whether access control lists count in a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectOwnership {
    /// They count.
    #[default]
    ObjectWriter,
    /// They count. As all users are one account, it differs from `ObjectWriter` in name only.
    BucketOwnerPreferred,
    /// None counts, neither the bucket's nor an object's.
    BucketOwnerEnforced,
}

/// Who may reach a bucket, policies aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketAccess {
    /// The bucket's own list.
    pub acl: CannedAcl,
    /// Whether lists count.
    pub ownership: ObjectOwnership,
    /// What keeps out the public, if that was set.
    pub block: Option<PublicAccessBlock>,
}

/// What keeps out the public, whatever lists and policies say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicAccessBlock {
    /// Lists that grant something to everybody are not taken.
    pub block_public_acls: bool,
    /// Such lists do not count.
    pub ignore_public_acls: bool,
    /// Policies that let in everybody are not taken.
    pub block_public_policy: bool,
    /// A policy that lets in everybody lets in users only.
    pub restrict_public_buckets: bool,
}

/// What a bucket may hold. `None`: as much as there is room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Most plaintext bytes of all versions and of the parts of open uploads.
    pub bytes: Option<u64>,
    /// Most versions of objects, old ones among them; delete markers are none.
    pub objects: Option<u64>,
}

impl Quota {
    /// Whether a write that makes `before` to `after` goes beyond the quota, or beyond
    /// [`BUCKET_BYTES_MAX`]. What is beyond it already may become less, and stay.
    #[must_use]
    pub fn is_exceeded(&self, before: &BucketUsageRow, after: &BucketUsageRow) -> bool {
        let exceeds = |most: Option<u64>, before: u64, after: u64| {
            most.is_some_and(|most| after > most && after > before)
        };
        let bytes = self.bytes.unwrap_or(BUCKET_BYTES_MAX).min(BUCKET_BYTES_MAX);
        exceeds(Some(bytes), before.held_bytes(), after.held_bytes())
            || exceeds(self.objects, before.versions, after.versions)
    }

    /// How much of it is used, by the bound that is used up most. `None` without bounds.
    #[must_use]
    pub fn share(&self, usage: &BucketUsageRow) -> Option<Share> {
        let bounds = [(self.bytes, usage.held_bytes()), (self.objects, usage.versions)];
        let shares = bounds.into_iter().filter_map(|(most, held)| {
            let most = most?;
            Some(if held >= most {
                Share::Full
            } else if held >= most - most / 10 {
                Share::Near
            } else {
                Share::Below
            })
        });
        shares.max()
    }
}

/// How much of a quota is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// Less than nine tenths.
    Below,
    /// Nine tenths or more.
    Near,
    /// All, or more.
    Full,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    /// Its id; a bucket made again has another one.
    pub bucket: BucketId,
    /// Its name.
    pub name: String,
    /// Who made it.
    pub creator: UserId,
    /// When.
    pub created: WallTime,
    /// Region named at its creation.
    pub region: String,
    /// Whether it keeps old versions.
    pub versioning: Versioning,
    /// Who may reach it.
    pub access: BucketAccess,
    /// What it may hold.
    pub quota: Quota,
    /// Raised by each change of its settings.
    pub settings_version: u64,
}

/// What a document of a bucket's settings is about. Settings that `decide` itself reads are fields of
/// [`BucketRow`]; what only gateways understand is a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BucketDocumentKind {
    /// Rules of cross-origin requests.
    Cors,
    /// Tags.
    Tagging,
    /// Who may do what.
    Policy,
}

impl BucketDocumentKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Cors, Self::Tagging, Self::Policy];

    /// The byte that stands for it in row keys.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Cors => 1,
            Self::Tagging => 2,
            Self::Policy => 3,
        }
    }

    /// Whether gateways judge requests by it, so that it comes along when a bucket is looked up.
    #[must_use]
    pub fn is_judged_by(self) -> bool {
        match self {
            Self::Cors | Self::Policy => true,
            Self::Tagging => false,
        }
    }
}

/// One document of a bucket's settings, as its gateway wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketDocumentRow {
    /// The document: 1 to `limits::BUCKET_DOCUMENT_BYTES_MAX` bytes.
    pub text: String,
}

/// Exact usage of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketUsageRow {
    /// Live objects: keys whose current version is no delete marker.
    pub objects: u64,
    /// Versions of objects, live ones and old ones. Delete markers are none.
    pub versions: u64,
    /// Delete markers.
    pub delete_markers: u64,
    /// Plaintext bytes of all versions, the old ones among them.
    pub bytes: u64,
    /// Open uploads.
    pub uploads: u64,
    /// Plaintext bytes of their parts.
    pub part_bytes: u64,
}

impl BucketUsageRow {
    /// Plaintext bytes of everything: versions and parts.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.part_bytes)
    }

    /// Both together; what is more than a number can say is the greatest one.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            objects: self.objects.saturating_add(other.objects),
            versions: self.versions.saturating_add(other.versions),
            delete_markers: self.delete_markers.saturating_add(other.delete_markers),
            bytes: self.bytes.saturating_add(other.bytes),
            uploads: self.uploads.saturating_add(other.uploads),
            part_bytes: self.part_bytes.saturating_add(other.part_bytes),
        }
    }
}

versioned!(BucketRow = 2, BucketDocumentRow, BucketUsageRow = 3,);
