//! Why a command was refused. A rejection changes nothing; the gateway turns it into the S3 error or into
//! another try.

use crate::ids::{BlobId, BucketId, LeaseId, UserId, VendorId};
use serde::{Deserialize, Serialize};

/// A replicated refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The cluster has been initialised already, or has not been yet.
    #[error("the cluster is {0}")]
    Cluster(String),
    /// A bound or a rule on the command's own values; the caller is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The session has ended or never was.
    #[error("the session has ended")]
    SessionGone,
    /// The sequence lies below the session's window: its outcome is forgotten.
    #[error("sequence {0} is below the session's window")]
    SequenceForgotten(u64),
    /// The sequence was resolved as abandoned.
    #[error("sequence {0} was abandoned")]
    SequenceAbandoned(u64),
    /// Too many outcomes are unacknowledged.
    #[error("the session's window is full")]
    WindowFull,
    /// The settings under which the gateway decided have changed: look them up and decide again.
    #[error("settings have changed")]
    StaleSettings,
    /// No such vendor.
    #[error("no {0}")]
    NoSuchVendor(VendorId),
    /// Another vendor has this name.
    #[error("a vendor named {0} exists already under another key")]
    VendorNameTaken(String),
    /// No such class.
    #[error("no class named {0}")]
    NoSuchClass(String),
    /// A vendor's free room does not reach.
    #[error("{vendor} has {free} bytes free, not {asked}")]
    NoRoom {
        /// Where.
        vendor: VendorId,
        /// Free there, in bytes.
        free: u64,
        /// Asked, in bytes.
        asked: u64,
    },
    /// The lease is closing, closed, or another session's.
    #[error("{0} is closed")]
    LeaseClosed(LeaseId),
    /// More would be settled than is locked.
    #[error("{lease} has not {asked} bytes left at {vendor}")]
    LeaseExceeded {
        /// The lease.
        lease: LeaseId,
        /// The vendor.
        vendor: VendorId,
        /// Room asked, in bytes.
        asked: u64,
    },
    /// Copies do not lie as the class says.
    #[error("placement: {0}")]
    Placement(String),
    /// Inlining is off, over its cap, or over its budget: store at vendors.
    #[error("not inlined: {0}")]
    NotInlined(String),
    /// The building blob is not this session's, or a slice is out of order.
    #[error("{0}: {1}")]
    Blob(BlobId, String),
    /// No such bucket.
    #[error("no such bucket")]
    NoSuchBucket,
    /// The name is taken.
    #[error("the bucket exists")]
    BucketExists {
        /// Its id.
        bucket: BucketId,
        /// Who made it.
        creator: UserId,
    },
    /// It holds objects or open uploads.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// The key names no object (only where a condition asks for one).
    #[error("no such key")]
    NoSuchKey,
    /// A condition does not hold.
    #[error("a precondition failed")]
    PreconditionFailed,
    /// No such upload, or it was completed or aborted.
    #[error("no such upload")]
    NoSuchUpload,
    /// A listed part is missing or another one.
    #[error("part {0} is not as listed")]
    InvalidPart(u32),
    /// Listed parts are not in rising order.
    #[error("parts are not in rising order")]
    InvalidPartOrder,
    /// A part other than the last is too small.
    #[error("part {number} has {bytes} bytes, too few for a part that is not the last")]
    PartTooSmall {
        /// Its number.
        number: u32,
        /// Its bytes.
        bytes: u64,
    },
    /// Parts changed while a complete was building its manifest: start the complete again.
    #[error("parts changed during the complete")]
    PartsChanged,
    /// The object is greater than allowed, or not as long as the client said.
    #[error("size: {0}")]
    Size(String),
    /// A user of this name, or an access key like this, exists.
    #[error("{0} exists already")]
    UserExists(String),
    /// No such user.
    #[error("no such user")]
    NoSuchUser,
    /// No such access key.
    #[error("no such access key")]
    NoSuchAccessKey,
    /// The user made `limits::BUCKETS_PER_USER` buckets already.
    #[error("too many buckets")]
    TooManyBuckets,
    /// A vendor that is not registered came without an invitation, or with one that was used or has expired.
    #[error("no such invitation, or it was used, or has expired")]
    NotInvited,
    /// The vendor was shut out.
    #[error("{0} is revoked")]
    VendorRevoked(VendorId),
    /// The source of a copy is not the version any more that the gateway read.
    #[error("the source of the copy has changed")]
    SourceChanged,
    /// The key has no version of the name asked for.
    #[error("no such version")]
    NoSuchVersion,
    /// The version named is a delete marker.
    #[error("the version is a delete marker")]
    DeleteMarker,
    /// The bytes to be copied lie in more extents than a part or its upload may have: copy them through the gateway.
    #[error("too many extents")]
    TooManyExtents,
    /// The bucket would hold more than its quota.
    #[error("the bucket's quota is used up")]
    QuotaExceeded,
    /// Copies refer to the bytes `limits::REFERENCES_MAX` times already.
    #[error("too many references")]
    TooManyReferences,
}
