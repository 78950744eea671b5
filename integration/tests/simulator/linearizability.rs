//! Whether what clients saw of one key could have happened one operation after the other, each at some instant
//! between its call and its answer. An operation without an answer may have happened at any later time, or never.
//!
//! The search is Wing and Gong's with Lowe's memory: depth first over the operations that may come next, never
//! twice from the same set of done operations and value.

use std::collections::BTreeSet;
use std::fmt;

/// A value, by a number that no two writes share.
pub type Value = u64;

/// What a write asks of the value it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// That there is none.
    IfAbsent,
    /// That it is this one.
    IfValue(Value),
}

/// What a client did and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wrote; `None` = no answer, `Some(false)` = refused by its condition.
    Write {
        /// What.
        value: Value,
        /// If.
        condition: Condition,
        /// How it ended.
        done: Option<bool>,
    },
    /// Deleted; the answer says whether there was something.
    Delete {
        /// How it ended.
        existed: Option<bool>,
    },
    /// Read this.
    Read(Option<Value>),
    /// Surely did not happen, and never will.
    Nothing,
}

/// One operation on a key. Times are of one clock that all clients share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which client.
    pub client: usize,
    /// When it was called, in µs.
    pub called: u64,
    /// When it was answered, in µs; without meaning if it was not.
    pub answered: u64,
    /// What.
    pub action: Action,
}

impl Operation {
    fn is_open(&self) -> bool {
        matches!(
            self.action,
            Action::Write { done: None, .. } | Action::Delete { existed: None }
        )
    }

    fn end(&self) -> u64 {
        if self.is_open() { u64::MAX } else { self.answered }
    }

    /// The value after it, if it may happen on `before`.
    fn apply(&self, before: Option<Value>) -> Option<Option<Value>> {
        match self.action {
            Action::Nothing => Some(before),
            Action::Read(seen) => (seen == before).then_some(before),
            Action::Delete { existed } => existed
                .is_none_or(|existed| existed == before.is_some())
                .then_some(None),
            Action::Write {
                value,
                condition,
                done,
            } => {
                let holds = match condition {
                    Condition::Always => true,
                    Condition::IfAbsent => before.is_none(),
                    Condition::IfValue(wanted) => before == Some(wanted),
                };
                if done.is_some_and(|done| done != holds) {
                    return None;
                }
                Some(if holds { Some(value) } else { before })
            }
        }
    }
}

/// Operations that cannot have happened one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// All operations on the key, by call.
    pub operations: Vec<Operation>,
    /// How many could be brought into an order, at most.
    pub ordered: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "no order explains these {} operations (at most {}):",
            self.operations.len(),
            self.ordered
        )?;
        for operation in &self.operations {
            let end = if operation.is_open() {
                "…".to_owned()
            } else {
                operation.answered.to_string()
            };
            writeln!(
                f,
                "  client {} [{}, {end}] µs: {:?}",
                operation.client, operation.called, operation.action
            )?;
        }
        Ok(())
    }
}

/// A set of operations by their place in the history.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Set(Vec<u64>);

impl Set {
    fn of(places: usize) -> Self {
        Self(vec![0; places.div_ceil(64)])
    }

    fn has(&self, place: usize) -> bool {
        self.0[place / 64] & (1 << (place % 64)) != 0
    }

    fn with(&self, place: usize) -> Self {
        let mut more = self.clone();
        more.0[place / 64] |= 1 << (place % 64);
        more
    }
}

/// Checks the history of one key, which starts as `first`.
///
/// # Errors
/// The operations, when no order explains them.
pub fn check(operations: &[Operation], first: Option<Value>) -> Result<(), Violation> {
    let mut operations: Vec<Operation> = operations
        .iter()
        .copied()
        .filter(|operation| operation.action != Action::Nothing)
        .collect();
    operations.sort_by_key(|operation| (operation.called, operation.end(), operation.client));
    let answered = operations.iter().filter(|operation| !operation.is_open()).count();
    let mut seen = BTreeSet::new();
    let mut paths = vec![(Set::of(operations.len()), first, 0, 0)];
    let mut most = 0;
    while let Some((done, value, answered_done, count)) = paths.pop() {
        most = most.max(count);
        if answered_done == answered {
            return Ok(());
        }
        // Whoever is first must have been called before anybody who is left was answered.
        let left = || (0..operations.len()).filter(|&place| !done.has(place));
        let Some(limit) = left().map(|place| operations[place].end()).min() else {
            return Ok(());
        };
        for place in left() {
            let operation = &operations[place];
            if operation.called > limit {
                break;
            }
            let Some(after) = operation.apply(value) else {
                continue;
            };
            let more = done.with(place);
            if seen.insert((more.clone(), after)) {
                let answered_done = answered_done + usize::from(!operation.is_open());
                paths.push((more, after, answered_done, count + 1));
            }
        }
    }
    Err(Violation {
        operations,
        ordered: most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(client: usize, called: u64, answered: u64, action: Action) -> Operation {
        Operation {
            client,
            called,
            answered,
            action,
        }
    }

    fn write(value: Value, done: Option<bool>) -> Action {
        Action::Write {
            value,
            condition: Condition::Always,
            done,
        }
    }

    fn create(value: Value, done: Option<bool>) -> Action {
        Action::Write {
            value,
            condition: Condition::IfAbsent,
            done,
        }
    }

    #[test]
    fn a_read_sees_the_last_write() {
        let history = [
            at(0, 0, 1, write(1, Some(true))),
            at(1, 2, 3, Action::Read(Some(1))),
        ];
        assert!(check(&history, None).is_ok());
        let stale = [at(0, 0, 1, write(1, Some(true))), at(1, 2, 3, Action::Read(None))];
        assert!(check(&stale, None).is_err());
    }

    #[test]
    fn operations_at_the_same_time_may_come_in_any_order() {
        let both = |seen| {
            [
                at(0, 0, 9, write(1, Some(true))),
                at(1, 0, 9, write(2, Some(true))),
                at(2, 10, 11, Action::Read(Some(seen))),
            ]
        };
        assert!(check(&both(1), None).is_ok());
        assert!(check(&both(2), None).is_ok());
        assert!(check(&both(3), None).is_err());
    }

    #[test]
    fn a_value_never_returns_by_itself() {
        let history = [
            at(0, 0, 1, write(1, Some(true))),
            at(0, 2, 3, write(2, Some(true))),
            at(1, 4, 5, Action::Read(Some(1))),
        ];
        assert!(check(&history, None).is_err());
    }

    #[test]
    fn an_open_write_happens_late_or_never_but_not_twice() {
        let history = |reads: &[Option<Value>]| {
            let mut all = vec![at(0, 0, 0, write(1, None))];
            for (number, seen) in (0u64..).zip(reads) {
                all.push(at(1, 10 + 2 * number, 11 + 2 * number, Action::Read(*seen)));
            }
            all
        };
        assert!(check(&history(&[None, None]), None).is_ok());
        assert!(check(&history(&[None, Some(1)]), None).is_ok());
        assert!(check(&history(&[Some(1), None]), None).is_err());
    }

    #[test]
    fn of_two_creators_one_wins() {
        let history = |first, second| {
            [
                at(0, 0, 5, create(1, Some(first))),
                at(1, 1, 6, create(2, Some(second))),
            ]
        };
        assert!(check(&history(true, false), None).is_ok());
        assert!(check(&history(true, true), None).is_err());
        assert!(check(&history(false, false), None).is_err());
    }

    #[test]
    fn a_refusal_for_ones_own_win_is_found() {
        let history = [
            at(0, 0, 5, create(1, Some(false))),
            at(1, 6, 7, Action::Read(Some(1))),
        ];
        assert!(check(&history, None).is_err());
    }

    #[test]
    fn deletes_tell_whether_there_was_something() {
        let history = |existed| {
            [
                at(0, 0, 1, write(1, Some(true))),
                at(
                    0,
                    2,
                    3,
                    Action::Delete {
                        existed: Some(existed),
                    },
                ),
                at(1, 4, 5, Action::Read(None)),
            ]
        };
        assert!(check(&history(true), None).is_ok());
        assert!(check(&history(false), None).is_err());
    }

    #[test]
    fn long_histories_with_many_open_writes_are_decided_quickly() {
        let mut history = Vec::new();
        for number in 0..100u64 {
            history.push(at(0, number * 10, number * 10 + 5, write(number + 1, Some(true))));
            history.push(at(
                1,
                number * 10 + 6,
                number * 10 + 8,
                Action::Read(Some(number + 1)),
            ));
            if number % 10 == 0 {
                history.push(at(2, number * 10, 0, write(1000 + number, None)));
            }
        }
        assert!(check(&history, None).is_ok());
    }
}
