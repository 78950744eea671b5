//! What the replicated log drives: a pure function from state and command to changes and reply. The service
//! runs `model`'s [`decide`](ullage_model); tests and benchmarks may run something smaller.

use bytes::Bytes;
use ullage_model::codec::{decode, encode};
use ullage_model::command::Command;
use ullage_model::decide::{Decision, decide};
use ullage_model::fat::query;
use ullage_model::step::At;
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

    /// Whether `command` is one at all. What comes encoded from elsewhere is asked this before it is
    /// proposed, because a log with an unreadable entry stops every replica.
    fn understands(&self, command: &[u8]) -> bool;
}

/// The service's own: `model`'s `decide` on commands in its codec.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelMachine;

impl Machine for ModelMachine {
    fn apply(&self, state: &dyn Read, index: u64, command: &[u8]) -> Result<Applied, StoreError> {
        let command = decode::<Command>(command);
        let command = command.map_err(|source| StoreError::Decode {
            column: "the log",
            source,
        })?;
        let at = At {
            index,
            cluster_time: query::cluster_time(&state)?,
        };
        let Decision { changes, reply } = decide(&state, at, &command)?;
        Ok(Applied {
            changes,
            reply: encode(&reply),
        })
    }

    fn understands(&self, command: &[u8]) -> bool {
        decode::<Command>(command).is_ok()
    }
}
