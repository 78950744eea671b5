//! What a client asked for and what it was told: the record that a later check holds the store to.

use std::collections::BTreeMap;

use crate::content::Content;

/// What a key is after an operation took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No object.
    Absent,
    /// This object.
    Holds(Content),
}

/// How an operation ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server said that it is done.
    Acknowledged,
    /// No answer, or one that leaves it open: it may have happened, or still happen while the server runs.
    Unknown,
}

/// The states that one key may have: the last acknowledged one, and those whose outcome is unknown since.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// The last acknowledged state; a key starts absent.
    pub settled: State,
    /// Operations since then of unknown outcome, oldest first.
    pub open: Vec<State>,
}

impl Default for Allowed {
    fn default() -> Self {
        Self {
            settled: State::Absent,
            open: Vec::new(),
        }
    }
}

impl Allowed {
    /// Whether the key may be in this state.
    #[must_use]
    pub fn permits(&self, state: State) -> bool {
        self.settled == state || self.open.contains(&state)
    }
}

/// The record of one writer's keys. Keys of different writers must differ: then operations on a key
/// are one after the other, and what a key may be follows from its own operations alone.
#[derive(Clone, Debug, Default)]
pub struct History {
    keys: BTreeMap<String, Allowed>,
    /// Operations that were acknowledged.
    pub acknowledged: u64,
    /// Operations of unknown outcome.
    pub unknown: u64,
}

impl History {
    /// Records an operation on a key.
    pub fn record(&mut self, key: &str, state: State, outcome: Outcome) {
        let allowed = self.keys.entry(key.to_owned()).or_default();
        match outcome {
            Outcome::Acknowledged => {
                // An earlier operation of unknown outcome cannot take effect after this one: the process
                // that might have done it answered this one later, or is dead.
                *allowed = Allowed {
                    settled: state,
                    open: Vec::new(),
                };
                self.acknowledged += 1;
            }
            Outcome::Unknown => {
                allowed.open.push(state);
                self.unknown += 1;
            }
        }
    }

    /// Settles a key to the state that was read after the writers had stopped: from now on it must stay so.
    pub fn settle(&mut self, key: &str, state: State) {
        self.keys.insert(
            key.to_owned(),
            Allowed {
                settled: state,
                open: Vec::new(),
            },
        );
    }

    /// All keys and what they may be.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &Allowed)> {
        self.keys.iter().map(|(key, allowed)| (key.as_str(), allowed))
    }

    /// What a key may be.
    #[must_use]
    pub fn allowed(&self, key: &str) -> Allowed {
        self.keys.get(key).cloned().unwrap_or_default()
    }

    /// Takes over the record of another writer.
    ///
    /// # Panics
    /// If both wrote the same key.
    pub fn merge(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        for (key, allowed) in other.keys {
            assert!(
                self.keys.insert(key.clone(), allowed).is_none(),
                "two writers of {key}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_settles_and_an_unknown_outcome_adds_a_state() {
        let (first, second) = (Content::new(1, "a", 10), Content::new(1, "b", 10));
        let mut history = History::default();
        assert!(history.allowed("k").permits(State::Absent));
        history.record("k", State::Holds(first), Outcome::Unknown);
        assert!(
            history.allowed("k").permits(State::Absent) && history.allowed("k").permits(State::Holds(first))
        );
        history.record("k", State::Holds(second), Outcome::Acknowledged);
        assert!(history.allowed("k").permits(State::Holds(second)));
        assert!(
            !history.allowed("k").permits(State::Holds(first))
                && !history.allowed("k").permits(State::Absent)
        );
        history.record("k", State::Absent, Outcome::Unknown);
        assert!(
            history.allowed("k").permits(State::Absent) && history.allowed("k").permits(State::Holds(second))
        );
        assert_eq!((history.acknowledged, history.unknown), (1, 2));
    }
}
