//! The one error type of the agent. What travels to gateways is `ChunkRefusal` of the model, not this.

use crate::device::DeviceError;
use std::path::PathBuf;
use ullage_model::ids::ClusterId;
use ullage_transport::authority::TrustError;

/// Why the agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration contradicts itself or names something that is not there.
    #[error("configuration key `{key}`: {reason}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A file of the data directory could not be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the data directory.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// The directory is not this agent's, or was written by a newer build. Nothing in it was changed.
    #[error("{path} cannot be used: {reason}")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is, or of which format.
        reason: String,
    },
    /// The metadata service belongs to another cluster than the data directory.
    #[error("the data directory belongs to cluster {ours}, the metadata service to cluster {theirs}")]
    OtherCluster {
        /// Named by the data directory.
        ours: ClusterId,
        /// Named by the metadata service.
        theirs: ClusterId,
    },
    /// A device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The local FAT's index failed. It can be deleted: the segments rebuild it.
    #[error("local FAT index: {0}")]
    Index(String),
    /// A thread could not be started.
    #[error("cannot start thread {name}: {source}")]
    Thread {
        /// What it was for.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The metadata service could not be reached or refused.
    #[error("metadata service: {0}")]
    Metad(String),
    /// The cluster will not have this vendor, or it cannot tell which cluster is meant.
    #[error("cannot enrol: {0}")]
    Enrol(String),
    /// A key or certificate cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// An address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No device takes records now.
    #[error("no device takes {0} now")]
    NoDevice(&'static str),
    /// The agent was told to stop before it had started.
    #[error("stopped before it had started")]
    Stopped,
    /// A metric is already registered, or its name is bad.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl AgentError {
    /// Whether it is devices that keep what was to be done from being done, and nothing else: what is in memory
    /// holds, and nobody is told that it is durable.
    pub(crate) fn is_of_devices(&self) -> bool {
        matches!(self, Self::Device(_) | Self::NoDevice(_))
    }

    /// Whether all that is missing is room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Device(DeviceError::Full { .. }))
    }

    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> AgentError {
        let path = path.into();
        move |source| AgentError::File { action, path, source }
    }
}
