//! Linearizable reads: a state in which every write acknowledged before the read began is applied.

use crate::error::Error;
use crate::raft::Group;
use crate::store::OpenState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Reads of one group.
#[derive(Clone, Debug)]
pub struct Reads {
    group: Arc<Group>,
    patience: Duration,
    /// The term in which this node led alone and had a read confirmed: since then it has applied whatever it
    /// acknowledges. 0 is no term that anybody leads in.
    alone_since_term: Arc<AtomicU64>,
}

impl Reads {
    /// Reads of `group`, each of which waits at most `patience` for its confirmation.
    #[must_use]
    pub fn new(group: Arc<Group>, patience: Duration) -> Self {
        Self {
            group,
            patience,
            alone_since_term: Arc::default(),
        }
    }

    /// The state, with everything applied that was acknowledged before this call. Rows that must agree with
    /// each other are read from one `snapshot()` of it. A node that follows asks the leader how far it must
    /// have applied, and answers itself.
    ///
    /// In a group of one a write is acknowledged after it is applied, so that the state as it is will do, once
    /// a first read has seen what was acknowledged before this node began to lead. In a larger one the leader
    /// confirms that it still leads, in one round for all reads that wait.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::LeaderNotReady`], [`Error::ReadUnconfirmed`] or [`Error::Overloaded`].
    pub async fn linearizable(&self) -> Result<Arc<OpenState>, Error> {
        let alone_in = self.alone_in();
        if alone_in.is_none_or(|term| self.alone_since_term.load(Ordering::Acquire) != term) {
            let index = self.group.read_index(self.patience).await?;
            self.group.wait_applied(index, self.patience).await?;
            if let Some(term) = alone_in.filter(|term| self.alone_in() == Some(*term)) {
                self.alone_since_term.store(term, Ordering::Release);
            }
        }
        Ok(self.group.state())
    }

    /// The state as it is, however old: for status pages, and for what `decide` checks again.
    #[must_use]
    pub fn stale(&self) -> Arc<OpenState> {
        self.group.state()
    }

    fn alone_in(&self) -> Option<u64> {
        self.group.term_led().filter(|_| self.group.leads_alone())
    }
}
