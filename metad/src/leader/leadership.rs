//! One term in which this node leads: begun when the state is known to hold all that earlier leaders
//! acknowledged, ended when another leads. What a leader knows without Raft lives and dies with it.

use super::soft_state::SoftState;
use crate::error::Error;
use crate::service::Metad;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::cluster::FORMAT_LEVEL;
use ullage_model::fat::query;

/// How long a call waits until this node has taken over, when it has just been elected.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(5);

/// A term in which this node leads.
#[derive(Debug)]
pub(crate) struct Leadership {
    /// The Raft term.
    pub(crate) term: u64,
    /// When it began, by this node's monotonic clock.
    pub(crate) since: Duration,
    /// What vendors and sessions have told in it.
    pub(crate) soft: SoftState,
}

impl Metad {
    /// The leadership of this node, if it leads; takes over first when it has just been elected.
    ///
    /// A call that goes by it may read the state as it is: everything acknowledged before this node's election
    /// is applied, and so is whatever this node has acknowledged since. What another leader may have done
    /// meanwhile, unknown to this one, `decide` sees when the call's command is committed; a call without a
    /// command confirms its reading ([`Metad::confirmed`]).
    ///
    /// # Errors
    /// [`Error::NotLeader`]; [`Error::LeaderNotReady`] while taking over does not succeed.
    pub(crate) async fn leading(&self) -> Result<Arc<Leadership>, Error> {
        let term = self.group.term_led().ok_or_else(|| self.not_leader())?;
        if let Some(leadership) = self.led_in(term) {
            return Ok(leadership);
        }
        let taken = tokio::time::timeout(TAKE_OVER_WITHIN, self.take_over()).await;
        taken.map_err(|_| Error::LeaderNotReady)?
    }

    /// The state, linearizably, as seen by a leader in the term of `leadership`: a quorum has confirmed after
    /// this call began that nobody led in a later one.
    ///
    /// # Errors
    /// As [`crate::reads::Reads::linearizable`], and [`Error::LeaderNotReady`] when the term has ended.
    pub(crate) async fn confirmed(
        &self,
        leadership: &Leadership,
    ) -> Result<Arc<crate::store::OpenState>, Error> {
        let state = self.reads.linearizable().await?;
        // Another leader may have confirmed the read to this node.
        if self.group.term_led() != Some(leadership.term) {
            return Err(Error::LeaderNotReady);
        }
        Ok(state)
    }

    /// The error of a call that only the leader answers.
    pub(crate) fn not_leader(&self) -> Error {
        Error::NotLeader {
            leader: self.leader_elsewhere().map(|(_, address)| address),
        }
    }

    /// The leader, if it is another node.
    pub(crate) fn leader_elsewhere(&self) -> Option<(u64, String)> {
        self.group.leader().filter(|(node, _)| *node != self.node())
    }

    fn led_in(&self, term: u64) -> Option<Arc<Leadership>> {
        let led = self.leadership.lock().unwrap_or_else(PoisonError::into_inner);
        led.clone().filter(|led| led.term == term)
    }

    /// One at a time; whoever comes later finds it done.
    async fn take_over(&self) -> Result<Arc<Leadership>, Error> {
        let _turn = self.taking_over.lock().await;
        let term = self.group.term_led().ok_or_else(|| self.not_leader())?;
        if let Some(leadership) = self.led_in(term) {
            return Ok(leadership);
        }
        // A leader's first read waits for the first entry of its own term, which is behind all that was
        // acknowledged before.
        self.reads.linearizable().await?;
        self.initialise().await?;
        self.tell_of_itself().await?;
        if self.group.term_led() != Some(term) {
            return Err(Error::LeaderNotReady);
        }
        tracing::info!(term, "this node leads");
        let leadership = Arc::new(Leadership {
            term,
            since: self.clock().now(),
            soft: SoftState::default(),
        });
        let mut led = self.leadership.lock().unwrap_or_else(PoisonError::into_inner);
        *led = Some(Arc::clone(&leadership));
        Ok(leadership)
    }

    /// Commits this node's own row if it is not there as it should be: grants are good only if their key is.
    async fn tell_of_itself(&self) -> Result<(), Error> {
        let Some(command) = self.own_row_to_be_set()? else {
            return Ok(());
        };
        match self.propose(&command).await? {
            Reply::Done => Ok(()),
            other => Err(Error::Members {
                reason: format!("this node's own row was answered with {other:?}"),
            }),
        }
    }

    /// The command that sets this node's row, if the row says something else or is not there.
    pub(crate) fn own_row_to_be_set(&self) -> Result<Option<Command>, Error> {
        let (node, issuer) = (self.node(), self.grants().issuer());
        let address = self.config().advertise.clone();
        let known = query::member(&**self.stale(), node)?;
        let as_it_should_be = known.is_some_and(|row| {
            (row.issuer, row.format_level, row.left) == (issuer, FORMAT_LEVEL, None) && row.address == address
        });
        let command = Command::SetMember {
            node,
            address,
            issuer,
            format_level: FORMAT_LEVEL,
        };
        Ok((!as_it_should_be).then_some(command))
    }
}
