//! What gateways ask the metadata service and get: sessions, provisional FATs, commands, reads. Each pair of
//! structs is one call.

mod question;

use crate::cluster_time::ClusterTime;
use crate::codec::versioned;
use crate::command::{Reply, SessionCommand};
use crate::fat::rows::{ClassRow, InlineRow, LeaseRow, VendorRow};
use crate::ids::{ClusterId, Epoch, KekId, LeaseId, SessionId, VendorId};
use crate::wire::agent::DamagedCopy;
use crate::wire::chunk::{Grant, PublicKey};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use question::{
    Answer, BucketSettings, ByteRange, Found, ListReply, ListRequest, ListedVersion, LocateSource,
    LocatedPart, LocatedSpan, ObjectAnswer, PageSize, Query, QueryReply, SpanPlace, UploadedPart,
    UploadsReply, UploadsRequest, UserObjectsAfter, VersionsReply, VersionsRequest,
};

/// Opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSessionRequest {
    /// Name of the gateway, for people.
    pub gateway: String,
    /// The KEK it holds.
    pub kek: KekId,
    /// Check value of the KEK: a gateway whose value differs from the replicated one is refused.
    pub kek_value: Bytes,
}

/// A new session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSessionReply {
    /// The cluster.
    pub cluster: ClusterId,
    /// The epoch.
    pub epoch: Epoch,
    /// The session.
    pub session: SessionId,
    /// The replicated check value of the KEK: must equal what was sent.
    pub kek_value: Bytes,
}

/// Sign of life of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewSessionRequest {
    /// The session.
    pub session: SessionId,
    /// All outcomes below are known to the gateway.
    pub acknowledged_below: u64,
    /// See `SessionRow::observed_index`.
    pub observed_index: u64,
}

/// A vendor as gateways need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorInfo {
    /// Its row.
    pub row: VendorRow,
    /// A read grant for the asking session.
    pub read_grant: Grant,
}

/// What a gateway must know to go on: everything is small and replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewSessionReply {
    /// Cluster time now.
    pub cluster_time: ClusterTime,
    /// Log index as of which this was read.
    pub index: u64,
    /// Open leases of the session (those the gateway does not know are to be returned), with their rows.
    pub leases: Vec<LeaseRow>,
    /// All vendors.
    pub vendors: Vec<VendorInfo>,
    /// All classes.
    pub classes: Vec<ClassRow>,
    /// Inlining.
    pub inline: InlineRow,
}

/// Asks for room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateRequest {
    /// The session.
    pub session: SessionId,
    /// Sequence of the command.
    pub sequence: u64,
    /// Name of the class.
    pub class: String,
    /// Room wanted per vendor, in bytes: the leader gives less when there is less, but never less than
    /// `least_bytes` per vendor.
    pub bytes: u64,
    /// Room without which the lease is of no use, in bytes per vendor.
    pub least_bytes: u64,
    /// Vendors not to be named (they just failed this gateway).
    pub avoid: Vec<VendorId>,
}

/// One row of a provisional FAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionalRow {
    /// The vendor.
    pub vendor: VendorId,
    /// The device class whose room is locked.
    pub device_class: String,
    /// Locked, in bytes.
    pub bytes: u64,
    /// Write grant for the session, this vendor and this lease.
    pub grant: Grant,
}

/// A provisional FAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionalFat {
    /// The lease.
    pub lease: LeaseId,
    /// Name of its class.
    pub class: String,
    /// Deadline in cluster time.
    pub deadline: ClusterTime,
    /// Its rows: at least as many vendors (in as many zones) as the class wants copies.
    pub rows: Vec<ProvisionalRow>,
}

/// A command of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitRequest {
    /// The session.
    pub session: SessionId,
    /// Its sequence.
    pub sequence: u64,
    /// The command.
    pub command: SessionCommand,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitReply {
    /// Log index at which it was decided (of a stored outcome: at which it was asked again).
    pub index: u64,
    /// The answer.
    pub reply: Reply,
    /// Address of the leader, if the node that was called passed the call on to it: who calls there next time saves
    /// a hop.
    pub leader: Option<String>,
}

/// Commands of sessions that came together at a gateway: each is the `codec` bytes of a `Command::InSession`. They
/// are proposed together, in this order, and each is decided by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitManyRequest {
    /// The commands, at most `limits::COMMANDS_TOGETHER`.
    pub commands: Vec<Bytes>,
}

/// What one of them is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// As in [`SubmitReply`].
    pub index: u64,
    /// The `codec` bytes of the `Reply`.
    pub reply: Bytes,
}

/// Their answers, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitManyReply {
    /// An answer each.
    pub answers: Vec<Result<Submitted, MetadError>>,
    /// As in [`SubmitReply`].
    pub leader: Option<String>,
}

/// Questions that came together at a gateway, none of which [`Query::reads_many_rows`]. They see the same state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryManyRequest {
    /// The questions, at most `limits::QUERIES_TOGETHER`.
    pub queries: Vec<Query>,
}

/// Their answers, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryManyReply {
    /// Log index as of which they were read.
    pub index: u64,
    /// An answer each.
    pub answers: Vec<Result<Answer, MetadError>>,
}

/// Asks what became of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveRequest {
    /// The session.
    pub session: SessionId,
    /// The sequence.
    pub sequence: u64,
}

/// Copies that a gateway found damaged or missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportDamagedRequest {
    /// The session.
    pub session: SessionId,
    /// Where.
    pub vendor: VendorId,
    /// Which.
    pub copies: Vec<DamagedCopy>,
}

/// State of the metadata service, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The cluster.
    pub cluster: ClusterId,
    /// The epoch.
    pub epoch: Epoch,
    /// This node.
    pub node: u64,
    /// The leader it knows.
    pub leader: Option<u64>,
    /// Raft term.
    pub term: u64,
    /// Last applied log index.
    pub applied_index: u64,
    /// Cluster time.
    pub cluster_time: ClusterTime,
    /// Live sessions.
    pub sessions: u64,
    /// Open and closing leases.
    pub leases: u64,
    /// Erase orders not acknowledged, at most 10,000 counted.
    pub erase_backlog: u64,
    /// Releases not drained, at most 10,000 counted.
    pub release_backlog: u64,
    /// Keys whose grants are good.
    pub issuers: Vec<PublicKey>,
}

/// An answer that says only that it was done, or a question without words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done;

/// Ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSessionRequest {
    /// The session.
    pub session: SessionId,
}

/// Why a call to the metadata service failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MetadError {
    /// Surely not done: no leader, not ready, or refused before it was proposed. May be tried again.
    #[error("the metadata service is not available: {0}")]
    Unavailable(String),
    /// Surely not done: too much is in flight.
    #[error("the metadata service is overloaded")]
    Overloaded,
    /// Maybe done: ask by `Resolve`.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// Surely not done, and trying again will not help.
    #[error("refused: {0}")]
    Refused(#[from] crate::rejection::Rejection),
    /// The cluster has no room for this, after leases were recalled.
    #[error("no room: {0}")]
    NoRoom(String),
    /// Surely not done: this node does not lead, and cannot pass the call on. See [`crate::wire::leader`].
    #[error("this metadata node does not lead")]
    NotLeader {
        /// Address of the node that does, if known.
        leader: Option<String>,
    },
}

versioned!(
    OpenSessionRequest,
    OpenSessionReply,
    RenewSessionRequest,
    RenewSessionReply,
    AllocateRequest,
    ProvisionalFat,
    SubmitRequest,
    SubmitReply,
    SubmitManyRequest,
    SubmitManyReply,
    QueryManyRequest,
    QueryManyReply,
    ResolveRequest,
    Query,
    QueryReply,
    ReportDamagedRequest,
    StatusReply,
    MetadError,
    Done,
    EndSessionRequest,
);
