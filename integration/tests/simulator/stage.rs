//! How far a run is, shared by the driver outside and the hosts inside: the driver tells the phase, hosts tell what
//! they have reached.

use crate::plan::GATEWAYS;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The cluster comes up; nothing goes wrong yet.
    #[default]
    Starting,
    /// Clients work, and things go wrong.
    Faults,
    /// All is whole again: each gateway must store and fetch.
    Healed,
    /// Clients have stopped: each gateway reads everything.
    Reading,
    /// Nobody does anything any more.
    Quiet,
}

/// Something that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The bucket is there and vendors may enrol.
    Prepared,
    /// A gateway has stored and fetched a first object at vendors.
    Works(usize),
    /// A gateway has stored and fetched after everything was healed.
    WorksAgain(usize),
    /// A gateway has read every key.
    HasRead(usize),
}

/// The stage. Clones are the same stage.
#[derive(Clone, Debug, Default)]
pub struct Stage(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    phase: Phase,
    marks: BTreeSet<Mark>,
    clients: usize,
    trouble: Vec<String>,
}

impl Stage {
    /// The phase.
    pub fn phase(&self) -> Phase {
        self.inner().phase
    }

    /// The next phase.
    pub fn enter(&self, phase: Phase) {
        self.inner().phase = phase;
    }

    /// Tells that something was reached.
    pub fn reach(&self, mark: Mark) {
        self.inner().marks.insert(mark);
    }

    /// Whether something was reached.
    pub fn reached(&self, mark: Mark) -> bool {
        self.inner().marks.contains(&mark)
    }

    /// Whether all gateways have reached it.
    pub fn all_reached(&self, mark: impl Fn(usize) -> Mark) -> bool {
        (0..GATEWAYS).all(|gateway| self.reached(mark(gateway)))
    }

    /// A number for a client, which none had before.
    pub fn next_client(&self) -> usize {
        let mut inner = self.inner();
        inner.clients += 1;
        inner.clients
    }

    /// Notes why something is not reached yet, for whoever wonders.
    pub fn trouble(&self, what: String) {
        let mut inner = self.inner();
        if inner.trouble.len() >= 20 {
            inner.trouble.remove(0);
        }
        inner.trouble.push(what);
    }

    /// The last troubles.
    pub fn troubles(&self) -> Vec<String> {
        self.inner().trouble.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
