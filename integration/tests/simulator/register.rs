//! The smallest state machine worth replicating: keys with values, written, written under a condition, and deleted.

use crate::linearizability::{Condition, Value};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use ullage_metad::raft::{Applied, Machine};
use ullage_model::store::{Change, Column, Direction, KeyRange, Read, StoreError};

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Write {
    /// Writes; the reply says whether the condition held.
    Put(String, Value, If),
    /// Deletes; the reply says whether there was something.
    Delete(String),
}

/// [`Condition`], as it travels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum If {
    /// See [`Condition::Always`].
    Always,
    /// See [`Condition::IfAbsent`].
    Absent,
    /// See [`Condition::IfValue`].
    Value(Value),
}

impl From<Condition> for If {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Always => Self::Always,
            Condition::IfAbsent => Self::Absent,
            Condition::IfValue(value) => Self::Value(value),
        }
    }
}

impl Write {
    /// As proposed. Some are long, so that logs grow and snapshots come.
    pub fn encoded(&self) -> Bytes {
        let padding = match self {
            Self::Put(_, value, _) => usize::try_from(value % 7 * 100).unwrap_or(0),
            Self::Delete(_) => 0,
        };
        let encoded = postcard::to_stdvec(&(self, vec![0_u8; padding]));
        Bytes::from(encoded.unwrap_or_default())
    }

    fn decoded(command: &[u8]) -> Option<Self> {
        let decoded = postcard::from_bytes::<(Self, Vec<u8>)>(command);
        decoded.ok().map(|(write, _)| write)
    }
}

/// The state machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers;

impl Machine for Registers {
    fn apply(&self, state: &dyn Read, _index: u64, command: &[u8]) -> Result<Applied, StoreError> {
        let write = Write::decoded(command);
        let write = write.ok_or_else(|| StoreError::Inconsistent("no command".to_owned()))?;
        let (key, change, answer) = match write {
            Write::Delete(key) => {
                let existed = value_at(state, &key)?.is_some();
                (key, Some(None), existed)
            }
            Write::Put(key, value, condition) => {
                let before = value_at(state, &key)?;
                let holds = match condition {
                    If::Always => true,
                    If::Absent => before.is_none(),
                    If::Value(wanted) => before == Some(wanted),
                };
                (key, holds.then_some(Some(value)), holds)
            }
        };
        let change = change.map(|value: Option<Value>| Change {
            column: Column::Live,
            key: Bytes::from(key),
            value: value.map(|value| Bytes::copy_from_slice(&value.to_be_bytes())),
        });
        Ok(Applied {
            changes: change.into_iter().collect(),
            reply: Bytes::copy_from_slice(&[u8::from(answer)]),
        })
    }

    fn understands(&self, command: &[u8]) -> bool {
        Write::decoded(command).is_some()
    }
}

/// The value at `key`.
pub fn value_at(state: &(impl Read + ?Sized), key: &str) -> Result<Option<Value>, StoreError> {
    let row = state.get(Column::Live, key.as_bytes())?;
    Ok(row.and_then(|row| row.first_chunk().map(|bytes| Value::from_be_bytes(*bytes))))
}

/// Every row of a state, as text.
pub fn all_rows(state: &impl Read) -> Result<String, StoreError> {
    let mut text = String::new();
    for column in Column::ALL {
        let mut visit = |key: &[u8], row: &[u8]| {
            text.push_str(&format!("{column:?} {} {}\n", hex::encode(key), hex::encode(row)));
            ControlFlow::Continue(())
        };
        state.scan(column, &KeyRange::all(), Direction::Forward, &mut visit)?;
    }
    Ok(text)
}
