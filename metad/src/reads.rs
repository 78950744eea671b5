//! Linearizable reads: a state in which every write acknowledged before the read began is applied.

use crate::error::Error;
use crate::raft::Group;
use crate::store::OpenState;
use std::sync::Arc;
use std::time::Duration;

/// Reads of one group.
#[derive(Clone, Debug)]
pub struct Reads {
    group: Arc<Group>,
    patience: Duration,
}

impl Reads {
    /// Reads of `group`, each of which waits at most `patience` for its confirmation.
    #[must_use]
    pub fn new(group: Arc<Group>, patience: Duration) -> Self {
        Self { group, patience }
    }

    /// The state, with everything applied that was acknowledged before this call. Rows that must agree with
    /// each other are read from one `snapshot()` of it.
    ///
    /// In a group of one a write is acknowledged after it is applied, so the state as it is will do. In a
    /// larger one the leader first confirms that it still leads, in one round for all reads that wait.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::LeaderNotReady`], [`Error::ReadUnconfirmed`] or [`Error::Overloaded`].
    pub async fn linearizable(&self) -> Result<Arc<OpenState>, Error> {
        if !self.group.leads_alone() {
            let index = self.group.read_index(self.patience).await?;
            self.group.wait_applied(index, self.patience).await?;
        }
        Ok(self.group.state())
    }

    /// The state as it is, however old: for status pages only.
    #[must_use]
    pub fn stale(&self) -> Arc<OpenState> {
        self.group.state()
    }
}
