//! Rows of the FAT: vendors, room, classes, sessions, leases, chunks with their copies, erase orders.
//! Keys are described in [`super::keys`].

use crate::cluster_time::ClusterTime;
use crate::codec::versioned;
use crate::ids::{
    BlobId, ChunkId, ClusterId, CopyId, Digest, Epoch, LeaseId, ManifestId, SessionId, UploadId, VendorId,
};
use crate::wire::agent::{Characteristics, DeviceReport};
use crate::wire::chunk::PublicKey;
use serde::{Deserialize, Serialize};

/// The cluster's own row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRow {
    /// Its name for ever.
    pub cluster: ClusterId,
    /// Raised by a restore or a lost-quorum recovery.
    pub epoch: Epoch,
    /// Level of `decide`'s behaviour, raised when every member knows it.
    pub format_level: u32,
}

/// A metadata node, as it tells of itself. The membership itself is Raft's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its id, minted with its data directory.
    pub node: u64,
    /// `host:port` where gateways and vendor agents reach it; empty in one process.
    pub address: String,
    /// What its grants are signed with.
    pub issuer: PublicKey,
    /// Greatest level of `decide`'s behaviour that it knows.
    pub format_level: u32,
    /// When it left the membership: its grants are good until they have run out.
    pub left: Option<ClusterTime>,
}

/// An operator's invitation of one vendor; its key names the BLAKE3 digest of the join token's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRow {
    /// Not good any more from then on.
    pub expires: ClusterTime,
}

/// Counters from which ids are minted: each holds the next counter, see [`Epoch::id`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersRow {
    /// Next vendor.
    pub vendor: u64,
    /// Next bucket.
    pub bucket: u64,
    /// Next user. Counter 0 is the root user, who needs no row.
    pub user: u64,
    /// Next session.
    pub session: u64,
    /// Next lease.
    pub lease: u64,
    /// Next manifest.
    pub manifest: u64,
    /// Next upload.
    pub upload: u64,
}

/// Inlining: what may be kept in the FAT itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineRow {
    /// Longest inlined plaintext in bytes; 0 = off; at most `limits::INLINE_BYTES_MAX`.
    pub cap_bytes: u64,
    /// Most bytes inlined in all.
    pub budget_bytes: u64,
    /// Bytes inlined now.
    pub used_bytes: u64,
}

/// How far a vendor is trusted to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VendorState {
    /// Heartbeats come.
    #[default]
    Healthy,
    /// Heartbeats are late: gets no new room locked.
    Stale,
    /// Silent for the whole dead-interval: its copies count as lost until it returns.
    Dead,
    /// Shut out by an operator, for good: nobody talks to it any more, and its copies count as lost.
    Revoked,
}

/// A server that offers storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorRow {
    /// Its id.
    pub vendor: VendorId,
    /// Name for people.
    pub name: String,
    /// What its receipts are signed with.
    pub public_key: PublicKey,
    /// Where and whose it is.
    pub characteristics: Characteristics,
    /// Its devices as last committed (`free` is soft state and kept at its value of then).
    pub devices: Vec<DeviceReport>,
    /// Whether it is there.
    pub state: VendorState,
    /// When it registered first.
    pub registered: ClusterTime,
}

/// Room of one vendor in one device class, in bytes. free = capacity − leased − used − erasing; capacity
/// may fall below the others' sum when a device is lost, then nothing is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// Offered in all by devices that are not gone.
    pub capacity: u64,
    /// Locked by provisional FATs and not settled.
    pub leased: u64,
    /// Settled: copies of the final FAT.
    pub used: u64,
    /// Ordered erased, not acknowledged yet.
    pub erasing: u64,
}

impl RoomRow {
    /// What may still be locked.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.capacity
            .saturating_sub(self.leased)
            .saturating_sub(self.used)
            .saturating_sub(self.erasing)
    }
}

/// A named placement rule (S3 storage class).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassRow {
    /// Its name, e.g. `STANDARD`.
    pub name: String,
    /// Copies of each chunk, each at a vendor of its own: 1 to `limits::COPIES_MAX`.
    pub copies: u32,
    /// Distinct zones the copies must lie in; 0 or 1 = any. Vendors that name no zone count for none.
    pub zones: u32,
    /// Device class the copies must lie on.
    pub device_class: Option<String>,
    /// Greatest price of a vendor.
    pub max_price: Option<u64>,
    /// Plaintext bytes of a chunk: whole frames, `limits::CHUNK_BYTES_MIN` to `CHUNK_BYTES_MAX`.
    pub chunk_bytes: u64,
    /// Least pieces per location, each on a device of its own: 1 to `limits::PIECES_MAX`.
    pub pieces: u32,
    /// Raised by each change.
    pub settings_version: u64,
}

/// Whether a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// Its commands are taken.
    Live,
    /// Ended: its building blobs are being abandoned and its leases closed; outcomes stay for
    /// `limits::OUTCOME_KEPT_MS`.
    Ended {
        /// When.
        at: ClusterTime,
    },
}

/// A gateway's replicated identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its id.
    pub session: SessionId,
    /// Name of the gateway, for people.
    pub gateway: String,
    /// The gateway, by the number in its certificate: nobody else may act for the session, and its next session
    /// ends this one. 0 for a gateway in the same process.
    pub instance: u64,
    /// Whether it lives.
    pub state: SessionState,
    /// Last sign of life.
    pub renewed: ClusterTime,
    /// Sequences below this are finished and forgotten: a command that names one is refused.
    pub window_start: u64,
    /// Outcomes below this have been deleted; at most `window_start`. Forgetting is bounded per command and
    /// may lag behind the window.
    pub forgotten_below: u64,
    /// No read of this session that began before this log index was applied is still going on.
    pub observed_index: u64,
}

/// Whether a lease takes copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseState {
    /// Slices and finalizes may name it.
    Open,
    /// Refused from now on; vendors have yet to confirm.
    Closing,
}

/// A provisional FAT without its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// Its id.
    pub lease: LeaseId,
    /// Whose it is.
    pub session: SessionId,
    /// Name of the class it was chosen for.
    pub class: String,
    /// When it is closed unless renewed.
    pub deadline: ClusterTime,
    /// Whether it takes copies.
    pub state: LeaseState,
    /// Whether its session was asked to give back what it has not granted.
    pub recalled: bool,
}

/// One vendor's room in a lease. free → leased (locked) → used (settled).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseVendorRow {
    /// Device class whose room is locked.
    pub device_class: String,
    /// Locked in all, in bytes, less what was shrunk.
    pub locked: u64,
    /// Of it, settled into copies.
    pub settled: u64,
    /// The vendor has confirmed the close: `locked − settled` is free again.
    pub confirmed: bool,
}

/// State of one copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyState {
    /// As receipted.
    #[default]
    Good,
    /// Reported damaged or lost.
    Damaged,
    /// Ordered erased.
    Erasing,
}

/// One copy in a chunk row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRow {
    /// Where it is.
    pub vendor: VendorId,
    /// Placement lease: with the chunk's id it makes the copy's name.
    pub lease: LeaseId,
    /// Device class whose room it takes.
    pub device_class: String,
    /// Pieces cut, from the receipt: its room is `units::room(plaintext, pieces)`.
    pub pieces: u32,
    /// The gateway's score of the vendor when it was chosen, 0 to 1000.
    pub score: u16,
    /// State.
    pub state: CopyState,
}

/// A chunk of a blob: the final FAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRow {
    /// Its id.
    pub chunk: ChunkId,
    /// Plaintext bytes.
    pub plaintext_bytes: u64,
    /// BLAKE3 of its stored bytes.
    pub digest: Digest,
    /// Where it is.
    pub copies: Vec<CopyRow>,
}

impl ChunkRow {
    /// The name of `copy` of this chunk.
    #[must_use]
    pub fn copy_id(&self, copy: &CopyRow) -> CopyId {
        CopyId {
            chunk: self.chunk,
            lease: copy.lease,
        }
    }
}

/// Where the chunk row of a copy is: value of `Column::Copies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPlace {
    /// The blob.
    pub blob: BlobId,
    /// The chunk's index in it.
    pub index: u32,
}

/// An erase order not acknowledged yet; its key names vendor, release index and copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseOrderRow {
    /// Room that becomes free.
    pub room: u64,
    /// In which device class.
    pub device_class: String,
    /// The chunk row to take the copy out of.
    pub place: CopyPlace,
    /// When the release was committed: after `limits::READER_MS` no reader is waited for.
    pub released: ClusterTime,
}

/// Something whose last reference went, waiting to be drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseItem {
    /// All chunks of a blob, from index `next` on.
    Blob {
        /// The blob.
        blob: BlobId,
        /// Chunks it has.
        chunks: u32,
        /// First chunk not drained yet.
        next: u32,
        /// When it was released.
        released: ClusterTime,
    },
    /// All extents of a manifest; pages are taken from the front.
    Manifest {
        /// The manifest.
        manifest: ManifestId,
        /// When it was released.
        released: ClusterTime,
    },
    /// All parts of an upload that was completed or aborted.
    Upload {
        /// The upload.
        upload: UploadId,
        /// When it was released.
        released: ClusterTime,
    },
}

versioned!(
    ClusterRow,
    MemberRow,
    InviteRow,
    CountersRow,
    InlineRow,
    VendorRow,
    RoomRow,
    ClassRow,
    SessionRow,
    LeaseRow,
    LeaseVendorRow,
    ChunkRow,
    CopyPlace,
    EraseOrderRow,
    ReleaseItem,
);
