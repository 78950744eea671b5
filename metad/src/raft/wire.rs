//! What members of a group say to each other, and the paths they say it on. Every message names cluster, group,
//! sender and addressee, and is refused unless all four fit.
//!
//! Entries travel as the bytes they are stored in: a request to append is a `u32` length, that many bytes of
//! head, and then for each entry a `u32` length and header and payload as in the log (all numbers big-endian).

use super::digest::Digest;
use super::rounds::Refused;
use super::types::{
    Entry, HEADER_BYTES, LogId, TypeConfig, Vote, decode, decode_entry, encode, encode_entry,
};
use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use std::io;
use ullage_model::codec::Versioned;
use ullage_model::limits::COMMAND_BYTES_MAX;
use ullage_transport::api::Route;
use ullage_transport::identity::Callers;

/// `Addressed<VoteRequest>` → `Answer<VoteResponse>`.
pub(super) const VOTE: &str = "/v1/raft/vote";
/// The same, only asking.
pub(super) const PRE_VOTE: &str = "/v1/raft/pre-vote";
/// `Addressed<AppendBytes>` → `Answer<StreamAppendResult>`: heartbeats, one at a time.
pub(super) const HEARTBEAT: &str = "/v1/raft/heartbeat";
/// A stream of requests to append; see [`Stream`] and [`Appended`].
pub(super) const APPEND: &str = "/v1/raft/append";
/// A snapshot; see [`SnapshotOffer`] and [`SnapshotAnswer`].
pub(super) const SNAPSHOT: &str = "/v1/raft/snapshot";
/// `Addressed<TransferLeaderRequest>` → `Answer<TransferLeaderResponse>`.
pub(super) const TRANSFER: &str = "/v1/raft/transfer";
/// `WhoRequest` → `Who`: the only question of a node that does not know whom it asks.
pub(super) const WHO: &str = "/v1/raft/who";
/// `Addressed<Join>` → `Answer<()>`: a node says where it is; the leader makes it a learner, or notes its new
/// address.
pub(super) const JOIN: &str = "/v1/raft/join";
/// `Addressed<ReadIndexRequest>` → `Answer<u64>`: the index that a read beginning now must have applied.
pub(super) const READ_INDEX: &str = "/v1/raft/read-index";
/// `Addressed<DigestsRequest>` → `Answer<Vec<(u64, Digest)>>`.
pub(super) const DIGESTS: &str = "/v1/raft/digests";
/// `Addressed<Odd>` → `Answer<()>`: the leader's word that this replica's digest is not the majority's.
pub(super) const ODD: &str = "/v1/raft/odd";

/// Bytes of a message without entries.
const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request to append: what the log's reader gives at once, and one entry more.
pub(super) const APPEND_BYTES_MAX: usize = 4 * 1024 * 1024 + 2 * COMMAND_BYTES_MAX;
/// Bytes of a snapshot's manifest.
pub(super) const OFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an answer within a stream.
pub(super) const ANSWER_BYTES_MAX: usize = OFFER_BYTES_MAX;

/// The routes between members.
pub const ROUTES: &[Route] = &[
    route(VOTE, SMALL_BYTES_MAX),
    route(PRE_VOTE, SMALL_BYTES_MAX),
    route(HEARTBEAT, APPEND_BYTES_MAX),
    route(APPEND, 0),
    route(SNAPSHOT, 0),
    route(TRANSFER, SMALL_BYTES_MAX),
    route(WHO, SMALL_BYTES_MAX),
    route(JOIN, SMALL_BYTES_MAX),
    route(READ_INDEX, SMALL_BYTES_MAX),
    route(DIGESTS, SMALL_BYTES_MAX),
    route(ODD, SMALL_BYTES_MAX),
];

const fn route(path: &'static str, body_bytes: usize) -> Route {
    Route {
        path,
        callers: Callers::METAD,
        body_bytes,
    }
}

/// The route of a path above.
pub(super) fn route_of(path: &'static str) -> Route {
    let found = ROUTES.iter().find(|route| route.path == path);
    // Nobody may call what the table does not name.
    let callers = Callers::NOBODY;
    found.copied().unwrap_or(Route {
        callers,
        ..route(path, 0)
    })
}

/// Whose message this is, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) cluster: u128,
    pub(super) group: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// A message with its head.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Addressed<T> {
    pub(super) head: Head,
    pub(super) body: T,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer<T>(pub(super) T);

/// Why a member does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(super) enum PeerError {
    /// The message is for another cluster.
    #[error("this node is of cluster {0:032x}")]
    OtherCluster(u128),
    /// The message is for another group.
    #[error("this node serves group {0}")]
    OtherGroup(u64),
    /// The message is for another node.
    #[error("this is node {0:016x}")]
    OtherNode(u64),
    /// The sender is not who the message names.
    #[error("the sender is not the node that the message names")]
    OtherSender,
    /// What a read or a change was refused for.
    #[error("{0}")]
    Refused(Refused),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// A question to whoever listens at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WhoRequest {
    /// The group that the asking node serves.
    pub(super) group: u64,
}

/// Who listens there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Who {
    pub(super) node: u64,
    /// 0 until a cluster has adopted the node.
    pub(super) cluster: u128,
    pub(super) group: u64,
    /// Whether it has a vote, a log or a state: an empty node has none.
    pub(super) initialised: bool,
    /// The leader that it knows, with its address.
    pub(super) leader: Option<(u64, String)>,
    /// The members that it knows, with their addresses.
    pub(super) members: Vec<(u64, String)>,
}

/// Where the sender is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Join {
    pub(super) address: String,
}

/// Asks for a read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReadIndexRequest {
    /// How long the asking node waits, in ms.
    pub(super) patience_ms: u64,
}

/// Asks for the digests a replica has kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DigestsRequest;

/// At `index` the majority has `digest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Odd {
    pub(super) index: u64,
    pub(super) digest: Digest,
}

/// An [`AppendEntriesRequest`] in the layout above.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AppendBytes(pub(super) Bytes);

/// The first message of a stream.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct StreamHead(pub(super) Head);

/// What a stream of requests to append is answered, in their order. An error is the last answer.
pub(super) type Appended = Result<StreamAppendResult<TypeConfig>, PeerError>;

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileOffer {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) blake3: [u8; 32],
}

/// The first message of a snapshot's transfer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SnapshotOffer {
    pub(super) head: Head,
    pub(super) vote: Vote,
    pub(super) meta: super::snapshot::SnapshotMeta,
    pub(super) files: Vec<FileOffer>,
}

/// Answers to it, in this order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum SnapshotAnswer {
    /// The files that are not there yet, by their place in the offer, each from an offset on. Their bytes are
    /// to follow in this order.
    Wanted(Vec<(u32, u64)>),
    /// The receiver is at work. Sent every second or so.
    Alive,
    /// Installed, or refused for the vote in it.
    Done(SnapshotResponse<TypeConfig>),
    /// Not received, or not installed.
    Failed(PeerError),
}

macro_rules! versioned {
    ($($type:ty => $name:literal),* $(,)?) => {$(
        impl Versioned for $type {
            const NAME: &'static str = $name;
        }
    )*};
}

versioned!(
    Addressed<VoteRequest<TypeConfig>> => "a vote request",
    Answer<VoteResponse<TypeConfig>> => "a vote",
    Addressed<AppendBytes> => "a heartbeat",
    Answer<StreamAppendResult<TypeConfig>> => "a heartbeat's answer",
    Addressed<TransferLeaderRequest<TypeConfig>> => "a transfer of leadership",
    Answer<TransferLeaderResponse<TypeConfig>> => "a transfer's answer",
    WhoRequest => "a question who listens",
    Who => "who listens",
    Addressed<Join> => "a request to join",
    Addressed<ReadIndexRequest> => "a request for a read index",
    Answer<u64> => "a read index",
    Addressed<DigestsRequest> => "a request for digests",
    Answer<Vec<(u64, Digest)>> => "digests",
    Addressed<Odd> => "a judgement on a digest",
    Answer<()> => "an acknowledgement",
    PeerError => "a member's refusal",
);

#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: Vote,
    prev_log_id: Option<LogId>,
    leader_commit: Option<LogId>,
    entries: u32,
}

/// A request to append as it travels.
pub(super) fn encode_append(request: &AppendEntriesRequest<TypeConfig>) -> io::Result<Bytes> {
    let head = encode(&AppendHead {
        vote: request.vote,
        prev_log_id: request.prev_log_id,
        leader_commit: request.leader_commit,
        entries: length(request.entries.len())?,
    })?;
    let encoded: Vec<_> = request
        .entries
        .iter()
        .map(|entry| encode_entry(entry, 0))
        .collect::<io::Result<_>>()?;
    let entries: u64 = encoded.iter().map(|entry| 4 + entry.len()).sum();
    let total = 4 + head.len() + usize::try_from(entries).map_err(io::Error::other)?;
    let mut bytes = BytesMut::with_capacity(total);
    bytes.put_u32(length(head.len())?);
    bytes.put_slice(&head);
    for entry in &encoded {
        bytes.put_u32(length(HEADER_BYTES + entry.payload.len())?);
        bytes.put_slice(&entry.header);
        bytes.put_slice(&entry.payload);
    }
    Ok(bytes.freeze())
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}

/// The inverse of [`encode_append`].
pub(super) fn decode_append(mut bytes: Bytes) -> io::Result<AppendEntriesRequest<TypeConfig>> {
    let head: AppendHead = decode(&part(&mut bytes)?)?;
    let mut next = head
        .prev_log_id
        .map_or(0, |log_id| log_id.index.saturating_add(1));
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..head.entries {
        entries.push(decode_entry(next, &part(&mut bytes)?)?);
        next = next.saturating_add(1);
    }
    if !bytes.is_empty() {
        return Err(io::Error::other("bytes are left over behind the entries"));
    }
    Ok(AppendEntriesRequest {
        vote: head.vote,
        prev_log_id: head.prev_log_id,
        leader_commit: head.leader_commit,
        entries,
    })
}

fn part(bytes: &mut Bytes) -> io::Result<Bytes> {
    let short = || io::Error::other("a request to append ends early");
    let (length, _) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    let length = u32::from_be_bytes(*length) as usize;
    if bytes.len() - 4 < length {
        return Err(short());
    }
    drop(bytes.split_to(4));
    Ok(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::super::types::{CommandBytes, log_id};
    use super::{decode_append, encode_append};
    use bytes::Bytes;
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;
    use openraft::raft::AppendEntriesRequest;

    #[test]
    fn entries_arrive_as_they_were_sent() {
        let entry = |index, payload| super::Entry::new(log_id(3, 7, index), payload);
        let request = AppendEntriesRequest {
            vote: super::Vote::new_committed(3, 7),
            prev_log_id: Some(log_id(2, 7, 10)),
            leader_commit: Some(log_id(2, 7, 9)),
            entries: vec![
                entry(11, EntryPayload::Blank),
                entry(12, EntryPayload::Normal(CommandBytes(Bytes::from("a command")))),
                entry(13, EntryPayload::Normal(CommandBytes(Bytes::new()))),
            ],
        };
        let sent = encode_append(&request).unwrap();
        let got = decode_append(sent.clone()).unwrap();
        assert_eq!(got.vote, request.vote);
        assert_eq!(got.prev_log_id, request.prev_log_id);
        assert_eq!(got.leader_commit, request.leader_commit);
        assert_eq!(got.entries, request.entries);
        for cut in 0..sent.len() {
            assert!(decode_append(sent.slice(..cut)).is_err(), "cut at {cut}");
        }
        let longer = Bytes::from([&sent[..], &[0]].concat());
        assert!(decode_append(longer).is_err());
    }
}
