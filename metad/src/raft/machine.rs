//! What the replicated log drives: a pure function from state and command to changes and reply. The service
//! runs `model`'s [`decide`](ullage_model); tests and benchmarks may run something smaller.

use bytes::Bytes;
use ullage_model::store::{Change, Read, StoreError};

/// What a command does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows to write.
    pub changes: Vec<Change>,
    /// The encoded reply. A refusal is a reply.
    pub reply: Bytes,
}

/// A deterministic state machine: the same state, index and command give the same changes and reply on every
/// node and at every time.
pub trait Machine: Send + Sync + 'static {
    /// Applies the command at log `index` to what `state` shows.
    ///
    /// # Errors
    /// Only when the state cannot be read or contradicts itself; that stops the replica for good.
    fn apply(&self, state: &dyn Read, index: u64, command: &[u8]) -> Result<Applied, StoreError>;
}
