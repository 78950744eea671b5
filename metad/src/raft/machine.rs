//! What the replicated log drives: a pure function from state and command to changes and reply. The service
//! runs `model`'s [`decide`](ullage_model); tests and benchmarks may run something smaller.

use bytes::Bytes;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use ullage_model::codec::{decode, encode};
use ullage_model::command::{Command, Reply};
use ullage_model::decide::{Decision, decide};
use ullage_model::fat::query;
use ullage_model::rejection::Rejection;
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

/// What becomes of a command at which `decide` panics: it changes nothing and is refused, in the same words on every
/// replica. The panic is as much a function of command and state as any decision is, so that the replicas agree; were
/// one alone to panic, its digest would tell. Stopping instead would stop them all, at every start again.
fn undecided(index: u64, panic: &(dyn Any + Send)) -> Decision {
    let reason = panic.downcast_ref::<&str>().copied();
    let reason = reason.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        index,
        reason,
        "a command cannot be decided: this is a defect, please report it"
    );
    Decision {
        changes: Vec::new(),
        reply: Reply::Refused(Rejection::Invalid("the command cannot be decided".to_owned())),
    }
}

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
        let decided = catch_unwind(AssertUnwindSafe(|| decide(&state, at, &command)));
        let Decision { changes, reply } = decided.unwrap_or_else(|panic| Ok(undecided(index, &*panic)))?;
        Ok(Applied {
            changes,
            reply: encode(&reply),
        })
    }

    fn understands(&self, command: &[u8]) -> bool {
        decode::<Command>(command).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{
        Applied, Change, Command, Machine, ModelMachine, Read, Rejection, Reply, StoreError, decode, encode,
    };
    use bytes::Bytes;
    use ullage_model::ids::SessionId;
    use ullage_model::store::{Column, Direction, KeyRange, Visit};

    /// A state at which every transition panics.
    struct Panics;

    impl Read for Panics {
        fn get(&self, column: Column, _key: &[u8]) -> Result<Option<Bytes>, StoreError> {
            match column {
                Column::System => Ok(None),
                other => panic!("{} is read", other.name()),
            }
        }

        fn scan(
            &self,
            column: Column,
            _range: &KeyRange,
            _direction: Direction,
            _visit: &mut Visit<'_>,
        ) -> Result<(), StoreError> {
            panic!("{} is scanned", column.name())
        }
    }

    #[test]
    fn a_command_that_cannot_be_decided_is_refused_and_changes_nothing() {
        let session = SessionId(1);
        let command = encode(&Command::EndSession { session });
        let Applied { changes, reply } = ModelMachine.apply(&Panics, 7, &command).unwrap();
        assert_eq!(changes, Vec::<Change>::new());
        assert!(matches!(
            decode::<Reply>(&reply).unwrap(),
            Reply::Refused(Rejection::Invalid(_))
        ));
    }
}
