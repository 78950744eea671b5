//! Everything that can change the replicated state, and every answer. A command is one Raft entry: its
//! `codec` bytes are made once, at proposal, and are at most `limits::COMMAND_BYTES_MAX`.
//!
//! Random parts of ids, wall-clock times and choices (which vendors' room to lock) enter here; `decide`
//! only checks and applies them.

mod session;

use crate::cluster_time::ClusterTime;
use crate::codec::versioned;
use crate::fat::query::ErasePermit;
use crate::fat::rows::{ClassRow, InlineRow, VendorState};
use crate::ids::{
    BucketId, ClusterId, CopyId, Digest, KekId, LeaseId, ManifestId, SessionId, UserId, VendorId, VersionId,
    VersionName,
};
use crate::namespace::rows::{Checksum, Etag};
use crate::rejection::Rejection;
use crate::wire::agent::{DamagedCopy, DeviceReport, RegisterRequest};
use crate::wire::chunk::PublicKey;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use session::{
    Actor, Body, BucketRef, CompleteSlice, CompleteUpload, Conditions, CopyObject, CopyPart, CopySource,
    DeleteObject, EtagMatch, FinalizeObject, FinalizePart, ListedPart, Seen, SessionCommand, SetObjectTags,
    SliceCommand, UploadRef,
};

/// One replicated command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// First command of a cluster. Refused when there is a cluster already.
    Initialise {
        /// Its name for ever.
        cluster: ClusterId,
        /// The classes it starts with; `STANDARD` among them.
        classes: Vec<ClassRow>,
        /// Inline settings (`used_bytes` 0).
        inline: InlineRow,
    },
    /// Advances cluster time to the greater of itself and `to`, and does what falls due then: bounded work,
    /// `limits::ROWS_PER_COMMAND`.
    Tick {
        /// New cluster time.
        to: ClusterTime,
    },
    /// Registers the check value of a KEK; answers the stored value, which the gateway compares.
    CheckKek {
        /// The KEK.
        kek: KekId,
        /// What the gateway computed.
        value: Bytes,
    },
    /// Changes cap and budget of inlining; `used_bytes` is ignored.
    SetInline(InlineRow),
    /// Registers a vendor, or the same one again by its public key.
    RegisterVendor(RegisterRequest),
    /// A vendor's devices changed enough to matter.
    UpdateDevices {
        /// The vendor.
        vendor: VendorId,
        /// All its devices now.
        devices: Vec<DeviceReport>,
    },
    /// A vendor turned stale, dead or healthy.
    SetVendorState {
        /// The vendor.
        vendor: VendorId,
        /// Its new state.
        state: VendorState,
    },
    /// Makes or changes a class; `settings_version` is ignored and minted.
    SetClass(ClassRow),
    /// Opens a session.
    OpenSession {
        /// Name of the gateway, for people.
        gateway: String,
        /// See `SessionRow::instance`.
        instance: u64,
    },
    /// Sign of life of a session; forgets outcomes below `acknowledged_below`.
    RenewSession {
        /// The session.
        session: SessionId,
        /// All outcomes below are known to the gateway.
        acknowledged_below: u64,
        /// See `SessionRow::observed_index`.
        observed_index: u64,
    },
    /// Ends a session: its commands are refused from now on. Idempotent.
    EndSession {
        /// The session.
        session: SessionId,
    },
    /// One bounded step of abandoning an ended session's building blobs, manifests and leases. Answers
    /// `Reply::Progress`.
    AbandonStep {
        /// The session.
        session: SessionId,
    },
    /// Asks a lease's session (by a flag it sees when it renews) to give back what it has not granted.
    RecallLease {
        /// The lease.
        lease: LeaseId,
    },
    /// Sets a lease to closing, by the leader: its deadline passed or its session ended. Idempotent.
    ExpireLease {
        /// The lease.
        lease: LeaseId,
    },
    /// A vendor confirmed the close of a lease: the room it did not settle is free.
    ConfirmClose {
        /// The lease.
        lease: LeaseId,
        /// The vendor.
        vendor: VendorId,
    },
    /// One bounded step of draining the release queue: turns copies into erase orders, pages of extents
    /// into released blobs. Answers `Reply::Progress`.
    DrainReleases {
        /// Which releases have no readers any more. What may have some is left, however late this is applied.
        permit: ErasePermit,
    },
    /// A vendor has erased copies, durably.
    AcknowledgeErased {
        /// The vendor.
        vendor: VendorId,
        /// (release index, copy) of each order; orders that are not there are passed over.
        copies: Vec<(u64, CopyId)>,
    },
    /// Copies turned out damaged or lost.
    ReportDamaged {
        /// Where.
        vendor: VendorId,
        /// Which.
        copies: Vec<DamagedCopy>,
    },
    /// A command of a session, decided at most once.
    InSession {
        /// The session.
        session: SessionId,
        /// Names the command within its session. A repeated sequence answers the stored outcome.
        sequence: u64,
        /// The command.
        command: SessionCommand,
    },
    /// What became of (session, sequence)? Answers the stored outcome, or records it abandoned so that it
    /// can never be decided, and answers `Reply::Abandoned`.
    Resolve {
        /// The session; may have ended.
        session: SessionId,
        /// The sequence.
        sequence: u64,
    },
    /// A metadata node tells of itself, or what has changed of it.
    SetMember {
        /// Its id.
        node: u64,
        /// See `MemberRow::address`.
        address: String,
        /// What its grants are signed with.
        issuer: PublicKey,
        /// Greatest level of `decide`'s behaviour that it knows.
        format_level: u32,
    },
    /// A metadata node has left the membership. Idempotent.
    RemoveMember {
        /// Its id.
        node: u64,
    },
    /// Raises the level of `decide`'s behaviour; refused while a member does not know it.
    RaiseFormat {
        /// The new level.
        to: u32,
    },
    /// Invites one vendor.
    Invite {
        /// BLAKE3 of the secret.
        secret: Digest,
        /// How long the invitation lives, in ms of cluster time.
        life_ms: u64,
    },
    /// Registers a vendor by an invitation, which is used up by it, or again by its public key, for which none
    /// is needed. Answers `Reply::Vendor`.
    EnrolVendor {
        /// What it says of itself.
        register: RegisterRequest,
        /// BLAKE3 of the secret it came with.
        invite: Option<Digest>,
    },
    /// Shuts a vendor out, for good. Idempotent.
    RevokeVendor {
        /// The vendor.
        vendor: VendorId,
    },
    /// Makes damaged copies good that their vendor has reported lost, has found again and has verified.
    /// Idempotent.
    ReportFound {
        /// The vendor.
        vendor: VendorId,
        /// The copies; at most `limits::COPIES_PER_BATCH`.
        copies: Vec<CopyId>,
    },
}

/// The answer to a command. A refusal is an answer like any other: replicated, stored, never an error of
/// the replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; there is nothing to say.
    Done,
    /// Refused, and nothing was changed.
    Refused(Rejection),
    /// `Resolve`: the sequence was never decided and never will be.
    Abandoned,
    /// A bounded step was done.
    Progress {
        /// Whether there is more to do.
        more: bool,
    },
    /// `CheckKek`: the stored check value.
    KekValue(Bytes),
    /// `RegisterVendor`, `EnrolVendor`.
    Vendor(VendorId),
    /// `OpenSession`.
    Session(SessionId),
    /// `Allocate`.
    Lease {
        /// The lease.
        lease: LeaseId,
        /// Its deadline.
        deadline: ClusterTime,
    },
    /// `RenewLease`: the new deadline.
    Deadline(ClusterTime),
    /// `CreateBucket`.
    Bucket(BucketId),
    /// `CreateUser`.
    User(UserId),
    /// `FinalizeObject`, `CompleteUpload`, `CopyObject`.
    Stored {
        /// The new version.
        version: VersionId,
        /// How answers name it; not at all if the bucket never kept old versions.
        name: Option<VersionName>,
        /// Its entity tag (of a repeated complete: as stored first).
        etag: Etag,
        /// Its checksum.
        checksum: Option<Checksum>,
    },
    /// `DeleteObject`.
    Deleted {
        /// Whether there was something to delete: a current version, or the one named.
        existed: bool,
        /// The delete marker that was made, or the version named, there or not.
        version: Option<VersionName>,
        /// It is a delete marker.
        delete_marker: bool,
    },
    /// `CreateUpload`.
    Upload(UploadRef),
    /// `CompleteSlice`: the manifest, and the parts' (etag, checksum, bytes) in order, from which the
    /// gateway makes those of the whole.
    Manifest {
        /// The manifest under construction.
        manifest: ManifestId,
        /// Per part of this slice.
        parts: Vec<(Etag, Option<Checksum>, u64)>,
    },
    /// `CompleteSlice` of an upload that is completed already: answer the client the same again.
    AlreadyCompleted {
        /// The version it became.
        version: VersionId,
        /// As of `Stored`.
        name: Option<VersionName>,
        /// Its entity tag.
        etag: Etag,
        /// Its checksum.
        checksum: Option<Checksum>,
    },
    /// `SetObjectTags`.
    Changed {
        /// The version that was changed.
        version: VersionId,
        /// As of `Stored`.
        name: Option<VersionName>,
    },
}

versioned!(Command, Reply);
