//! The one error type of the gateway's data path. It knows the metadata service's refusals and what went
//! wrong on the way to vendors; it knows no protocol of clients.

use crate::crypt::CryptError;
use ullage_model::ids::BlobId;
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::MetadError;

/// Why the gateway did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The metadata service refused; nothing was changed. Never `StaleSettings` and never `SessionGone`, which
    /// have variants of their own.
    #[error("refused: {0}")]
    Rejected(Rejection),
    /// Settings changed under the decision. The caches have been cleared: look up, authorize and try again.
    #[error("settings have changed")]
    StaleSettings,
    /// The gateway's session ended under the request. The request was not done.
    #[error("the gateway's session ended under this request")]
    SessionLost,
    /// The metadata service did not say in time what became of the request.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// The cluster has no room for this now.
    #[error("no room: {0}")]
    NoRoom(String),
    /// Too much is in flight here or at the metadata service; nothing was done.
    #[error("too much in flight: {0}")]
    SlowDown(&'static str),
    /// The sender of a body was too slow and lost its place.
    #[error("the body came too slowly")]
    SlowBody,
    /// The body is not as long as was announced.
    #[error("the body is not {announced} bytes long, as was announced")]
    BodyLength {
        /// Plaintext bytes announced.
        announced: u64,
    },
    /// The metadata service is not available; nothing was done.
    #[error("the metadata service is not available: {0}")]
    Unavailable(String),
    /// Too few vendors stored their copies of a chunk, after other vendors were tried.
    #[error("vendors did not store a chunk: {0}")]
    NotStored(String),
    /// No copy of some bytes could be read and verified.
    #[error("no good copy of a chunk of {blob} could be read: {reason}")]
    Unreadable {
        /// The blob.
        blob: BlobId,
        /// What the last copies tried said.
        reason: String,
    },
    /// A read was ended: it took longer than reads are waited for, or what it read was replaced after the
    /// gateway's session had ended.
    #[error("the read was cut: {0}")]
    Cut(&'static str),
    /// The key-encryption key is not the cluster's.
    #[error("the key-encryption key {0} is not the one this cluster's data was sealed with")]
    WrongKek(ullage_model::ids::KekId),
    /// The key-encryption key cannot be read, or is not one.
    #[error("key-encryption key: {0}")]
    Kek(String),
    /// Sealing or opening failed.
    #[error(transparent)]
    Crypt(#[from] CryptError),
    /// A setting of the gateway is out of bounds.
    #[error("configuration: {0}")]
    Config(String),
    /// The metadata service answered something that does not fit the question.
    #[error("unexpected answer to {0}")]
    UnexpectedAnswer(&'static str),
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::StaleSettings => Self::StaleSettings,
            Rejection::SessionGone => Self::SessionLost,
            Rejection::SequenceForgotten(_) => Self::OutcomeUnknown(rejection.to_string()),
            Rejection::NoRoom { .. } => Self::NoRoom(rejection.to_string()),
            other => Self::Rejected(other),
        }
    }
}

impl From<MetadError> for Error {
    fn from(error: MetadError) -> Self {
        match error {
            MetadError::Unavailable(reason) => Self::Unavailable(reason),
            MetadError::Overloaded => Self::SlowDown("the metadata service is overloaded"),
            MetadError::Unknown(reason) => Self::OutcomeUnknown(reason),
            MetadError::Refused(rejection) => rejection.into(),
            MetadError::NoRoom(reason) => Self::NoRoom(reason),
            error @ MetadError::NotLeader { .. } => Self::Unavailable(error.to_string()),
        }
    }
}
