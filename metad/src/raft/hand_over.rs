//! Handing the leadership over: to a voter that is there and has caught up, and to nobody else, because a transfer
//! cannot be taken back.

use super::core::{Core, stopped};
use crate::error::Error;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Entries that the next leader may be behind: they are under way to it.
const LAG_MAX: u64 = 1000;
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often those who might take over are asked whether they are still there.
const ASK_EVERY: Duration = Duration::from_millis(250);

impl Core {
    /// See [`super::Group::hand_over`].
    pub(super) async fn hand_over(&self, to: Option<u64>, patience: Duration) -> Result<u64, Error> {
        let deadline = Instant::now() + patience;
        let mut asked = Instant::now();
        let next = loop {
            if !self.leads() {
                return Err(self.not_leader());
            }
            match self.next_leader(to) {
                Ok(next) => break next,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(error) if asked.elapsed() >= ASK_EVERY && !self.others_live().await => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
            if asked.elapsed() >= ASK_EVERY {
                asked = Instant::now();
            }
        };
        tracing::info!(to = format!("{next:016x}"), "handing the leadership over");
        self.raft.trigger().transfer_leader(next).await.map_err(stopped)?;
        loop {
            let leader = self.leader();
            if let Some((leader, _)) = leader
                && leader != self.me.node
            {
                // Whoever it is: the leadership is somebody else's now.
                return Ok(leader);
            }
            // All may have been told to stop at the same time.
            let gone = asked.elapsed() >= ASK_EVERY && {
                asked = Instant::now();
                !self.lives(next, &self.membership()).await
            };
            if gone || Instant::now() >= deadline {
                return Err(Error::Members {
                    reason: format!("{next:016x} has not taken the leadership over"),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether any other voter answers.
    async fn others_live(&self) -> bool {
        let membership = self.membership();
        let others = membership.voter_ids().filter(|voter| *voter != self.me.node);
        let asked = others.map(|voter| self.lives(voter, &membership));
        join_all(asked).await.contains(&true)
    }

    /// The voter that is there and furthest, or `to` if it is one that would do.
    fn next_leader(&self, to: Option<u64>) -> Result<u64, Error> {
        let metrics = self.raft_metrics();
        let last = metrics.last_log_index.unwrap_or(0);
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let fit = |node: &u64| {
            let matched = Self::matched(&metrics, *node)?.index;
            let silent = Self::silent(&metrics, *node)?;
            let there = silent < Duration::from_millis(self.config.election_min_ms);
            (*node != self.me.node && there && last.saturating_sub(matched) <= LAG_MAX)
                .then_some((matched, *node))
        };
        let refused = |reason: &str| Error::Members {
            reason: reason.to_owned(),
        };
        match to {
            Some(to) if to == self.me.node => Err(refused("it leads already")),
            Some(to) if !voters.contains(&to) => Err(refused("it is no voter")),
            Some(to) => fit(&to)
                .map(|(_, node)| node)
                .ok_or_else(|| refused("it is away or has not caught up")),
            None => voters
                .iter()
                .filter_map(fit)
                .max()
                .map(|(_, node)| node)
                .ok_or_else(|| refused("no other voter is there and has caught up")),
        }
    }
}
