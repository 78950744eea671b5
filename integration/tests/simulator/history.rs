//! What all clients did and were told, in the order in which it happened. The simulation runs on one thread, so that
//! order is one of instants: whatever knows of an answer knows of all that was done before it.

use crate::linearizability::{self, Action, Operation, Value, Violation};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The record. Clones are the same record; it outlives clients that crash.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    /// Simulated time, in ms.
    now_ms: u64,
    instants: u64,
    values: Value,
    keys: BTreeMap<String, Vec<Operation>>,
}

/// An operation under way.
#[derive(Clone, Debug)]
pub struct Begun {
    key: String,
    place: usize,
}

impl History {
    /// Tells what time it is.
    pub fn set_now(&self, now_ms: u64) {
        self.record().now_ms = now_ms;
    }

    /// What time it is.
    pub fn now_ms(&self) -> u64 {
        self.record().now_ms
    }

    /// A value that was never written.
    pub fn fresh_value(&self) -> Value {
        let mut record = self.record();
        record.values += 1;
        record.values
    }

    /// The value last written to a key, as far as is known: for conditions that have a chance to hold.
    pub fn last_value(&self, key: &str) -> Option<Value> {
        let record = self.record();
        record
            .keys
            .get(key)?
            .iter()
            .rev()
            .find_map(|operation| match operation.action {
                Action::Write {
                    value,
                    done: Some(true),
                    ..
                } => Some(value),
                _ => None,
            })
    }

    /// Records the call of an operation, which stays open until [`History::end`].
    pub fn begin(&self, client: usize, key: &str, open: Action) -> Begun {
        let mut record = self.record();
        let called = record.instant();
        let operations = record.keys.entry(key.to_owned()).or_default();
        operations.push(Operation {
            client,
            called,
            answered: u64::MAX,
            action: open,
        });
        Begun {
            key: key.to_owned(),
            place: operations.len() - 1,
        }
    }

    /// Records its answer.
    pub fn end(&self, begun: &Begun, answer: Action) {
        let mut record = self.record();
        let answered = record.instant();
        if let Some(operation) = record
            .keys
            .get_mut(&begun.key)
            .and_then(|operations| operations.get_mut(begun.place))
        {
            operation.answered = answered;
            operation.action = answer;
        }
    }

    /// Takes back an operation that surely did not and will not happen.
    pub fn never(&self, begun: &Begun) {
        let mut record = self.record();
        if let Some(operation) = record
            .keys
            .get_mut(&begun.key)
            .and_then(|operations| operations.get_mut(begun.place))
        {
            operation.action = Action::Nothing;
        }
    }

    /// Records a read, which is nothing until it is answered: `called` is from [`History::instant`].
    pub fn read(&self, client: usize, key: &str, called: u64, seen: Option<Value>) {
        let mut record = self.record();
        let answered = record.instant();
        record.keys.entry(key.to_owned()).or_default().push(Operation {
            client,
            called,
            answered,
            action: Action::Read(seen),
        });
    }

    /// The present instant: µs of simulated time, and the order of events within them.
    pub fn instant(&self) -> u64 {
        self.record().instant()
    }

    /// All keys that were touched.
    pub fn keys(&self) -> Vec<String> {
        self.record().keys.keys().cloned().collect()
    }

    /// What was done to a key.
    pub fn operations(&self, key: &str) -> Vec<Operation> {
        let record = self.record();
        record.keys.get(key).cloned().unwrap_or_default()
    }

    /// Operations by how they ended: answered writes and deletes, open ones, reads.
    pub fn counts(&self) -> (usize, usize, usize) {
        let record = self.record();
        let mut counts = (0, 0, 0);
        for operation in record.keys.values().flatten() {
            match operation.action {
                Action::Read(_) => counts.2 += 1,
                _ if operation.answered == u64::MAX => counts.1 += 1,
                _ => counts.0 += 1,
            }
        }
        counts
    }

    /// Checks each key on its own.
    ///
    /// # Errors
    /// The first key whose operations cannot have happened.
    pub fn check(&self) -> Result<(), (String, Violation)> {
        let record = self.record();
        for (key, operations) in &record.keys {
            linearizability::check(operations, None).map_err(|violation| (key.clone(), violation))?;
        }
        Ok(())
    }

    /// Everything, as text that two equal runs have in common.
    pub fn transcript(&self) -> String {
        let record = self.record();
        let mut text = String::new();
        for (key, operations) in &record.keys {
            for operation in operations {
                // Writing to a string does not fail.
                let _ = writeln!(
                    text,
                    "{key} {} {} {} {:?}",
                    operation.client, operation.called, operation.answered, operation.action
                );
            }
        }
        text
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn instant(&mut self) -> u64 {
        // Rises with every event, and tells the time to whoever reads it.
        self.instants = (self.instants + 1).max(self.now_ms * 1000);
        self.instants
    }
}
