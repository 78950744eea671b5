//! What travels between gateway and vendor agents, and between vendor agents: chunk headers, grants,
//! receipts, reads. Plain values and their signed forms; how they are carried is each service's business.

use crate::cluster_time::ClusterTime;
use crate::ids::{ChunkId, ClusterId, CopyId, DeviceId, Digest, Epoch, LeaseId, SessionId, VendorId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An Ed25519 public key (RFC 8032), 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(pub [u8; 32]);

/// An Ed25519 signature (RFC 8032), 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(pub Bytes);

/// What a grant allows its session to do at its vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantAction {
    /// Store copies under `lease`, at most `bytes` of room in all.
    Write {
        /// The provisional FAT whose room is used.
        lease: LeaseId,
        /// Cap on the room of all copies stored under this lease at this vendor, in bytes.
        bytes: u64,
        /// The devices whose room is locked: pieces go to devices of this class only.
        device_class: String,
    },
    /// Read any copy.
    Read,
}

/// What a metad node signs: one session, one vendor, one action, until a deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantBody {
    /// The cluster; a vendor of another one refuses.
    pub cluster: ClusterId,
    /// The epoch; a vendor that knows a newer one refuses.
    pub epoch: Epoch,
    /// Who may use it.
    pub session: SessionId,
    /// Whom it is made out to.
    pub vendor: VendorId,
    /// What it allows.
    pub action: GrantAction,
    /// Cluster time after which it is refused.
    pub deadline: ClusterTime,
}

/// A [`GrantBody`], encoded, with the signature of the metad node that issued it over exactly those bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// `codec::encode(&GrantBody)`.
    pub body: Bytes,
    /// Public half of the issuing metad's key; vendors accept keys they learned from metad only.
    pub issuer: PublicKey,
    /// Over `body`, prefixed by [`GRANT_CONTEXT`].
    pub signature: Signature,
}

/// Prefix of what a grant's signature covers, so that no other signed message can pass for a grant.
pub const GRANT_CONTEXT: &[u8] = b"ullage grant v1\0";
/// Prefix of what a receipt batch's signature covers.
pub const RECEIPTS_CONTEXT: &[u8] = b"ullage receipts v1\0";

/// One location still to be served: a vendor, the lease its copy is placed under, its grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The vendor that is to keep a copy.
    pub vendor: VendorId,
    /// The placement lease of that copy.
    pub lease: LeaseId,
    /// Made out to that vendor, for that lease. A hop's own grant is taken off before it forwards.
    pub grant: Grant,
}

/// Travels in front of each chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkHeader {
    /// Whose chunk it is: the session that sends it (vendors learn no users and no object names).
    pub owner: SessionId,
    /// The chunk.
    pub chunk: ChunkId,
    /// The locations still to be served, the receiver first. A receiver takes its own entry off and
    /// forwards the rest.
    pub route: Vec<Hop>,
    /// Least number of pieces per location (fewer only if the chunk has fewer frames).
    pub pieces: u32,
    /// Plaintext length in bytes; `units::stored_bytes` of it follow.
    pub plaintext_bytes: u64,
    /// For tracing only.
    pub request_id: u64,
}

/// What follows a header: the stored bytes in order, then the digest of all of them, which ends the chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkPart {
    /// The next stored bytes, of any size.
    Data(Bytes),
    /// BLAKE3 of all stored bytes; nothing follows.
    End(Digest),
}

/// One piece as a device reported it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceReceipt {
    /// The device that holds it.
    pub device: DeviceId,
    /// First frame of the chunk in this piece.
    pub first_frame: u32,
    /// Frames in this piece.
    pub frames: u32,
}

/// A vendor's word that one copy is durable on its devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The copy.
    pub copy: CopyId,
    /// BLAKE3 of the stored bytes as received.
    pub digest: Digest,
    /// Plaintext bytes of the chunk.
    pub plaintext_bytes: u64,
    /// The pieces really cut, in order of their frames.
    pub pieces: Vec<PieceReceipt>,
}

/// What a vendor signs: the flat list of receipts of one fsync group for one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptList {
    /// The cluster.
    pub cluster: ClusterId,
    /// The signer.
    pub vendor: VendorId,
    /// The session whose copies these are.
    pub session: SessionId,
    /// The receipts.
    pub receipts: Vec<Receipt>,
}

/// A [`ReceiptList`], encoded, with its vendor's signature over exactly those bytes. Shared by all uploads
/// of one fsync group: clones are cheap, and a verifier may remember that it has checked one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipts {
    /// `codec::encode(&ReceiptList)`.
    pub body: Bytes,
    /// Over [`RECEIPTS_CONTEXT`] then `body`.
    pub signature: Signature,
}

/// Why a hop did not take a chunk, or did not deliver one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChunkRefusal {
    /// The grant is missing, forged, of another vendor, session, epoch or cluster, or out of date.
    #[error("grant refused: {0}")]
    Grant(String),
    /// The lease is closed here.
    #[error("{0} is closed")]
    LeaseClosed(LeaseId),
    /// The header contradicts itself or a bound.
    #[error("chunk header refused: {0}")]
    Header(String),
    /// The bytes do not have the digest that followed them, or their number is wrong.
    #[error("chunk bytes are not what their sender digested")]
    Damaged,
    /// No device has room.
    #[error("no device has room for {needed} bytes")]
    Full {
        /// Room asked for, in bytes.
        needed: u64,
    },
    /// Fewer usable devices than pieces need, or devices failed.
    #[error("devices failed: {0}")]
    Devices(String),
    /// No such copy here.
    #[error("{0} is not here")]
    NotFound(CopyId),
    /// The copy is here but its bytes are damaged.
    #[error("{0} is damaged here")]
    CopyDamaged(CopyId),
    /// Too much is in flight; try elsewhere or later.
    #[error("the vendor is overloaded")]
    Overloaded,
    /// The agent is starting, stopping or not yet reconciled.
    #[error("the vendor is not ready")]
    NotReady,
    /// The sender stopped in the middle.
    #[error("the chunk ended early")]
    Cut,
    /// The transport failed.
    #[error("link failed: {0}")]
    Link(String),
}

/// What comes back up the chain for one chunk, as it arises: one message per hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HopReport {
    /// `vendor` has signed; the batch names this chunk's copy (among others).
    Stored {
        /// The hop.
        vendor: VendorId,
        /// Its signed receipts.
        receipts: SignedReceipts,
    },
    /// `vendor` did not store its copy, or (for a link failure) could not be reached from `from`. Hops
    /// behind it have not been served either unless they report themselves.
    Failed {
        /// The hop that did not deliver.
        vendor: VendorId,
        /// Who says so: a vendor, or `None` for the vendor itself.
        from: Option<VendorId>,
        /// Why.
        refusal: ChunkRefusal,
    },
}

/// Asks a vendor for stored bytes of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// Whose read this is.
    pub session: SessionId,
    /// A read grant made out to the vendor.
    pub grant: Grant,
    /// The copy.
    pub copy: CopyId,
    /// First frame wanted.
    pub first_frame: u32,
    /// Number of frames wanted, at least 1.
    pub frames: u32,
    /// For tracing only.
    pub request_id: u64,
}

/// Asks an agent for its local FAT, copy by copy in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListCopiesRequest {
    /// Copies after this one.
    pub after: Option<CopyId>,
    /// Most to answer, at most `limits::COPIES_PER_BATCH`.
    pub limit: usize,
}

/// A copy as its vendor's local FAT has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCopy {
    /// The copy.
    pub copy: CopyId,
    /// Plaintext bytes of its chunk.
    pub plaintext_bytes: u64,
    /// The device of each piece.
    pub devices: Vec<DeviceId>,
    /// Whether every piece is there.
    pub complete: bool,
}

/// A page of a local FAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListCopiesReply {
    /// Copies that are not erased.
    pub copies: Vec<HeldCopy>,
    /// Where to go on, if there may be more.
    pub next: Option<CopyId>,
    /// The devices and their paths at the vendor.
    pub devices: Vec<(DeviceId, String)>,
}

crate::codec::versioned!(
    GrantBody,
    Grant,
    ChunkHeader,
    ReceiptList,
    SignedReceipts,
    ChunkRefusal,
    HopReport,
    ReadRequest,
    ListCopiesRequest,
    ListCopiesReply,
);
