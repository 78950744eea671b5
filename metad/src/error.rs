//! The one error type of this crate. What a command is refused for is no error: a refusal is a replicated
//! reply (`model`).

use std::path::{Path, PathBuf};
use ullage_model::store::StoreError;

/// Why the metadata service could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// RocksDB failed.
    #[error("cannot {action} the {database} database: {reason}")]
    Database {
        /// `log` or `state`.
        database: &'static str,
        /// What was tried.
        action: &'static str,
        /// What RocksDB says.
        reason: String,
    },
    /// An earlier write or sync of this database failed; it takes no more until a restart.
    #[error("the {database} database stopped after a failed write: {reason}")]
    Poisoned {
        /// `log` or `state`.
        database: &'static str,
        /// The failure that stopped it.
        reason: String,
    },
    /// Another process, or another service of this one, has the data directory open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory belongs to another cluster. It was not written to.
    #[error("{} holds data of cluster {found}, not of cluster {expected}", path.display())]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// The cluster it names.
        found: String,
        /// The cluster this node was told to be in.
        expected: String,
    },
    /// The data directory belongs to another replication group. It was not written to.
    #[error("{} holds data of group {found}, not of group {expected}", path.display())]
    OtherGroup {
        /// The data directory.
        path: PathBuf,
        /// The group it names.
        found: u64,
        /// The group this node was told to serve.
        expected: u64,
    },
    /// The data directory was written by a newer release. It was not written to.
    #[error("{} has format level {found}; this release knows levels up to {known}", path.display())]
    NewerFormat {
        /// The data directory.
        path: PathBuf,
        /// Its level.
        found: u32,
        /// The highest level known here.
        known: u32,
    },
    /// What lies on disk is not what was written there.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A database read what it never wrote: its disk, or the memory above it, is not to be trusted. The data
    /// directory is quarantined.
    #[error("the {database} database is corrupt: {reason}")]
    Corrupt {
        /// `log` or `state`.
        database: &'static str,
        /// What was found.
        reason: String,
    },
    /// The data directory was set aside, because its content is not what the group agreed on.
    #[error(
        "{} is quarantined: {reason}. Move the directory away, start this node with an empty one, and let it \
         take the old one's place: ullage admin metad add ADDRESS --replaces {node:016x}",
        path.display()
    )]
    Quarantined {
        /// The data directory.
        path: PathBuf,
        /// The node it belongs to.
        node: u64,
        /// Why.
        reason: String,
    },
    /// A member could not be asked, or refused to answer.
    #[error("cannot {action} the member at {address}: {reason}")]
    Peer {
        /// What was tried.
        action: &'static str,
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// A change of the members is refused as things are. Nothing was changed.
    #[error("the members stay as they are: {reason}")]
    Members {
        /// Why.
        reason: String,
    },
    /// A row or the state machine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A command's encoding exceeds the limit. It was not appended.
    #[error("a command of {bytes} bytes exceeds the limit of {limit} bytes")]
    CommandTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Bytes to be proposed are no command this release knows. They were not appended.
    #[error("the bytes to be proposed are no command")]
    NoCommand,
    /// Too many or too large proposals are in flight. This one was not appended; try again later.
    #[error("too many proposals are in flight")]
    Overloaded,
    /// This node does not lead the group. The proposal was not appended, the read not served.
    #[error("this node does not lead the group")]
    NotLeader {
        /// Address of the leader, if known.
        leader: Option<String>,
    },
    /// This node leads but its leadership is not confirmed yet, or is being handed over. The proposal was not
    /// appended; try again soon.
    #[error("the leader is not ready yet")]
    LeaderNotReady,
    /// The proposal was appended or may have been, and its outcome is unknown: ask by session and sequence,
    /// never repeat it blindly.
    #[error("the outcome of the proposal is unknown: {reason}")]
    OutcomeUnknown {
        /// Why.
        reason: String,
    },
    /// A linearizable read could not be confirmed before its deadline.
    #[error("the read could not be confirmed: {reason}")]
    ReadUnconfirmed {
        /// Why.
        reason: String,
    },
    /// The group has stopped; a proposal was not appended.
    #[error("the replication group has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// A setting does not fit.
    #[error("setting {key}: {reason}")]
    Setting {
        /// Its name.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }
}
