//! What a vendor agent and the metadata service say to each other: registration, heartbeats with commands in
//! the replies, and the judgement of copies whose lease has closed.

use crate::cluster_time::ClusterTime;
use crate::ids::{ClusterId, CopyId, DeviceId, Digest, Epoch, LeaseId, VendorId};
use crate::wire::chunk::{PublicKey, Signature};
use serde::{Deserialize, Serialize};

/// What the FAT knows of a vendor's room, as its operator configured it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Characteristics {
    /// Who offers the room.
    pub owner: String,
    /// Region, e.g. `eu-central`.
    pub region: String,
    /// Failure zone within the region; copies of a chunk may be asked to lie in distinct zones. Empty: in no
    /// zone that could count as one.
    pub zone: String,
    /// Rack within the zone.
    pub rack: String,
    /// Price in micro-units of the cluster's currency per GiB and month.
    pub price: u64,
    /// `host:port` where gateways and other vendors reach the agent; empty in one process.
    pub address: String,
}

/// Whether a device takes and gives bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeviceState {
    /// Reads and writes.
    #[default]
    Healthy,
    /// Reads only: it failed a write, or its file system is full beyond what was promised.
    ReadOnly,
    /// Not reachable: its copies cannot be read.
    Gone,
}

/// One device as its agent sees it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// The device.
    pub device: DeviceId,
    /// Device class, e.g. `hdd`, `ssd`.
    pub class: String,
    /// Bytes offered in all for records (already less what the agent keeps for itself).
    pub capacity: u64,
    /// Bytes that records may still take, bounded by what the file system has free (devices of one file
    /// system share its free bytes; the agent divides them).
    pub free: u64,
    /// Whether it works.
    pub state: DeviceState,
}

/// First words of an agent. Idempotent by public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// The agent's Ed25519 key: what makes it the same vendor when it comes again.
    pub public_key: PublicKey,
    /// Name for people, unique in the cluster.
    pub name: String,
    /// Where and whose it is.
    pub characteristics: Characteristics,
    /// Its devices.
    pub devices: Vec<DeviceReport>,
}

/// What an agent learns when it registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterReply {
    /// Its id.
    pub vendor: VendorId,
    /// The cluster. An agent whose data directory names another one stops.
    pub cluster: ClusterId,
    /// The epoch.
    pub epoch: Epoch,
}

/// Which leases are closed: those below `mark` that are not in `open`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedLeases {
    /// No lease at or above this had been made when this was read.
    pub mark: LeaseId,
    /// Leases below the mark that still take copies, in order.
    pub open: Vec<LeaseId>,
}

impl ClosedLeases {
    /// Whether `lease` is known to be closed.
    #[must_use]
    pub fn is_closed(&self, lease: LeaseId) -> bool {
        lease < self.mark && self.open.binary_search(&lease).is_err()
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandOutcome {
    /// The close of `lease` is persisted, its copies are judged, and those not kept are erased, durably.
    LeaseClosed {
        /// The lease.
        lease: LeaseId,
    },
    /// The copies are erased, durably (or were not there).
    Erased {
        /// The copies.
        copies: Vec<CopyId>,
        /// Signature over [`ERASED_CONTEXT`] and `codec::encode(&ErasedList)`.
        signature: Signature,
    },
}

/// What an erasure receipt's signature covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedList {
    /// The cluster.
    pub cluster: ClusterId,
    /// The signer.
    pub vendor: VendorId,
    /// The copies that are gone.
    pub copies: Vec<CopyId>,
}

/// Prefix of what an erasure receipt's signature covers.
pub const ERASED_CONTEXT: &[u8] = b"ullage erased v1\0";

/// A copy that failed verification at its vendor (scrub or read).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedCopy {
    /// The copy.
    pub copy: CopyId,
    /// Whether its bytes are gone (device lost) rather than damaged.
    pub lost: bool,
}

/// An agent's regular report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who reports.
    pub vendor: VendorId,
    /// Its devices now.
    pub devices: Vec<DeviceReport>,
    /// Bytes of chunks being received or waiting to be written.
    pub in_flight_bytes: u64,
    /// Outcomes of commands since the last answered heartbeat.
    pub outcomes: Vec<CommandOutcome>,
    /// Copies found damaged since the last answered heartbeat.
    pub damaged: Vec<DamagedCopy>,
    /// Copies reported lost before that are here again, every byte of them verified, since the last answered
    /// heartbeat.
    pub found: Vec<CopyId>,
    /// Revision of the [`Directory`] that the agent has; 0 if it has none.
    pub directory: u64,
}

/// Where the other services are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Differs when anything else here does; never 0.
    pub revision: u64,
    /// Address of every vendor that has one and is not shut out, by id.
    pub vendors: Vec<(VendorId, String)>,
    /// Addresses of the metadata nodes.
    pub metad: Vec<String>,
}

impl Directory {
    /// The directory of these addresses, with its revision.
    #[must_use]
    pub fn new(vendors: Vec<(VendorId, String)>, metad: Vec<String>) -> Self {
        let mut directory = Self {
            revision: 0,
            vendors,
            metad,
        };
        let digest = Digest::of(&crate::codec::encode(&directory));
        let head = digest.0.first_chunk().map_or(0, |head| u64::from_be_bytes(*head));
        directory.revision = head.max(1);
        directory
    }
}

/// What metad wants of the agent. Bounded by `limits::COPIES_PER_BATCH` copies in all; the rest follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// The epoch: older words are refused.
    pub epoch: Epoch,
    /// The Raft term of the leader that answers: words of an older (epoch, term) are refused.
    pub term: u64,
    /// Cluster time now. Agents extrapolate at most 10 s past it by their own monotonic clock.
    pub cluster_time: ClusterTime,
    /// Keys whose grants are good.
    pub issuers: Vec<PublicKey>,
    /// Vendors that were shut out: nothing is taken from them, whatever certificate they show.
    pub revoked: Vec<VendorId>,
    /// Where the other services are, if the agent has told another revision.
    pub directory: Option<Directory>,
    /// Which leases are closed.
    pub closed: ClosedLeases,
    /// Leases whose close this vendor has yet to confirm.
    pub close: Vec<LeaseId>,
    /// Copies to erase.
    pub erase: Vec<CopyId>,
    /// How soon to report again, in ms, if nothing happens before.
    pub interval_ms: u64,
}

/// Asks which of these copies of a closed lease the FAT knows. At most `limits::COPIES_PER_BATCH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeRequest {
    /// Who asks.
    pub vendor: VendorId,
    /// The copies.
    pub copies: Vec<CopyId>,
}

/// What to do with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Judgement {
    /// The FAT names it.
    Keep,
    /// Its lease is closed and the FAT does not name it.
    Erase,
    /// Its lease is open, or of another epoch, or anything else: do nothing.
    Undecided,
}

/// One judgement per copy asked, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeReply {
    /// The judgements.
    pub judgements: Vec<Judgement>,
}

crate::codec::versioned!(
    RegisterRequest,
    RegisterReply,
    ErasedList,
    Directory,
    Heartbeat,
    HeartbeatReply,
    JudgeRequest,
    JudgeReply,
);
