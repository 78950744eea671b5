//! The types openraft is instantiated with, and their encoding on disk.
//!
//! A log entry is a header of [`HEADER_BYTES`] (layout version, kind, term, node, and the length of the log
//! up to and including the entry, all big-endian) followed by its payload: a command's bytes as proposed, or
//! a membership in postcard. The running length makes "how many bytes lie between two entries" two reads.

use super::respond::PermitResponder;
use bytes::Bytes;
use openraft::alias::{EntryOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::impls::{BasicNode, leader_id_adv};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership, RaftTypeConfig};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt, io};

/// A command as proposed: encoded once, never changed afterwards.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandBytes(pub Bytes);

impl fmt::Debug for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a command was answered; empty for entries that are no commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyBytes(pub Bytes);

/// openraft's types as this crate uses them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig {}

impl RaftTypeConfig for TypeConfig {
    type D = CommandBytes;
    type R = ReplyBytes;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    type LeaderId = leader_id_adv::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<CommandBytes, u64, BasicNode>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = super::runtime::Runtime;
    type Responder<T>
        = PermitResponder<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(super) type Entry = EntryOf<TypeConfig>;
pub(super) type LogId = LogIdOf<TypeConfig>;
pub(super) type Vote = VoteOf<TypeConfig>;
pub(super) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(super) type CommittedLeaderId = openraft::alias::CommittedLeaderIdOf<TypeConfig>;

/// Bytes before an entry's payload.
pub(super) const HEADER_BYTES: usize = 26;
const LAYOUT: u8 = 1;
const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// An entry as it is stored, but for the header's running length.
pub(super) struct EncodedEntry {
    pub(super) index: u64,
    pub(super) header: [u8; HEADER_BYTES],
    pub(super) payload: Bytes,
}

impl EncodedEntry {
    pub(super) fn len(&self) -> u64 {
        (HEADER_BYTES + self.payload.len()) as u64
    }
}

/// Encodes `entry`; `before` is the length of the log up to the entry before it.
pub(super) fn encode_entry(entry: &Entry, before: u64) -> io::Result<EncodedEntry> {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(command) => (COMMAND, command.0.clone()),
        EntryPayload::Membership(membership) => (MEMBERSHIP, encode(membership)?),
    };
    let log_id = entry.log_id();
    let mut encoded = EncodedEntry {
        index: log_id.index,
        header: [0; HEADER_BYTES],
        payload,
    };
    let length = before + encoded.len();
    encoded.header[0] = LAYOUT;
    encoded.header[1] = kind;
    encoded.header[2..10].copy_from_slice(&log_id.leader_id.term.to_be_bytes());
    encoded.header[10..18].copy_from_slice(&log_id.leader_id.node_id.to_be_bytes());
    encoded.header[18..26].copy_from_slice(&length.to_be_bytes());
    Ok(encoded)
}

/// The fixed part of a stored entry.
pub(super) struct EntryHeader {
    kind: u8,
    pub(super) log_id: LogId,
    /// Length of the log up to and including this entry, in bytes.
    pub(super) length: u64,
}

pub(super) fn decode_header(index: u64, stored: &[u8]) -> io::Result<EntryHeader> {
    let damaged = |what: &str| io::Error::other(format!("log entry {index} is damaged: {what}"));
    let header = stored
        .first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| damaged("it is too short"))?;
    if header[0] != LAYOUT {
        return Err(damaged("its layout is unknown"));
    }
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_be_bytes(bytes)
    };
    Ok(EntryHeader {
        kind: header[1],
        log_id: log_id(number(2), number(10), index),
        length: number(18),
    })
}

pub(super) fn decode_entry(index: u64, stored: &Bytes) -> io::Result<Entry> {
    let header = decode_header(index, stored)?;
    let payload = stored.slice(HEADER_BYTES..);
    let payload = match header.kind {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(CommandBytes(payload)),
        MEMBERSHIP => EntryPayload::Membership(decode::<Membership<u64, BasicNode>>(&payload)?),
        kind => {
            return Err(io::Error::other(format!(
                "log entry {index} is damaged: its kind is {kind}"
            )));
        }
    };
    Ok(Entry::new(header.log_id, payload))
}

pub(super) fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
    LogId {
        leader_id: CommittedLeaderId { term, node_id },
        index,
    }
}

/// Encodes a mark or row of Raft's own: layout version, then postcard.
pub(super) fn encode<T: Serialize>(value: &T) -> io::Result<Bytes> {
    postcard::to_extend(value, vec![LAYOUT])
        .map(Bytes::from)
        .map_err(io::Error::other)
}

/// The inverse of [`encode`].
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match bytes.split_first() {
        Some((&LAYOUT, rest)) => postcard::from_bytes(rest).map_err(io::Error::other),
        _ => Err(io::Error::other(
            "a mark of the log or state has an unknown layout",
        )),
    }
}

/// Any error as the one openraft takes.
pub(super) fn fatal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}
