//! Changes of the members. One at a time, on the leader, each guarded by the membership it was decided on; a change
//! that a lost leader left half done is finished by the next one.

use super::core::{Core, stopped};
use super::types::{StoredMembership, TypeConfig};
use crate::error::Error;
use futures::future::join_all;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::impls::BasicNode;
use openraft::{ChangeMembers, Precondition};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use ullage_model::limits::MEMBERS_MAX;
use ullage_model::wire::members::{MembersReply, MembersRequest};

/// Entries that a node may be behind and still count as caught up.
const LAG_MAX: u64 = 1000;
/// How often a node that catches up is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

type Change = ChangeMembers<u64, BasicNode>;

fn refused(reason: impl Into<String>) -> Error {
    Error::Members {
        reason: reason.into(),
    }
}

impl Core {
    /// See [`super::Group::change_members`].
    pub(super) async fn change_members(
        &self,
        request: MembersRequest,
        patience: Duration,
    ) -> Result<MembersReply, Error> {
        match request {
            MembersRequest::List => (),
            MembersRequest::Add { address, replaces } => self.add(&address, replaces, patience).await?,
            MembersRequest::Remove { node } => self.remove(node, patience).await?,
            MembersRequest::Transfer { to } => self.hand_over(to, patience).await.map(drop)?,
        }
        Ok(self.members())
    }

    /// Makes the node at `address` a voter, in the place of `replaces` if that is named.
    async fn add(&self, address: &str, replaces: Option<u64>, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        if !self.leads() {
            return Err(self.not_leader());
        }
        let link = self.link.as_ref();
        let link = link.ok_or_else(|| refused("this node was not started as a member of a group"))?;
        let who = link.who(address).await?;
        if who.group != self.me.group || (who.cluster != 0 && Some(who.cluster) != self.me.cluster()) {
            return Err(refused(format!(
                "the node at {address} is of another cluster or group"
            )));
        }
        {
            let _turn = self.turn(deadline).await?;
            let membership = self.membership();
            let gone = |old: &u64| membership.get_node(old).is_none();
            let votes = membership.voter_ids().any(|voter| voter == who.node);
            if votes && replaces.as_ref().is_none_or(gone) {
                return Ok(());
            }
            if let Some(old) = replaces.filter(|old| *old == who.node || gone(old)) {
                return Err(refused(format!("{old:016x} is no other member")));
            }
            self.learn(who.node, address, deadline).await?;
        }
        // Others may change what they like meanwhile.
        self.caught_up(who.node, deadline).await?;
        let _turn = self.turn(deadline).await?;
        let mut wanted: BTreeSet<u64> = self.membership().voter_ids().collect();
        wanted.insert(who.node);
        let mut change = vec![Change::AddVoterIds(BTreeSet::from([who.node]))];
        if let Some(old) = replaces {
            change.push(if wanted.remove(&old) {
                Change::RemoveVoters(BTreeSet::from([old]))
            } else {
                Change::RemoveNodes(BTreeSet::from([old]))
            });
        }
        self.quorum_lives(&wanted).await?;
        self.propose(Change::Batch(change), deadline).await
    }

    /// Removes `node`.
    async fn remove(&self, node: u64, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        if !self.leads() {
            return Err(self.not_leader());
        }
        let _turn = self.turn(deadline).await?;
        let membership = self.membership();
        if membership.get_node(&node).is_none() {
            return Err(refused(format!("{node:016x} is no member")));
        }
        let mut voters: BTreeSet<u64> = membership.voter_ids().collect();
        let ids = BTreeSet::from([node]);
        if !voters.remove(&node) {
            return self.propose(Change::RemoveNodes(ids), deadline).await;
        }
        if voters.is_empty() {
            return Err(refused("it is the only voter"));
        }
        self.quorum_lives(&voters).await?;
        self.propose(Change::RemoveVoters(ids), deadline).await
    }

    /// A node says that it is at `address`: notes a member's new address, and makes anybody else a learner.
    pub(super) async fn join(&self, node: u64, address: String) -> Result<(), Error> {
        if !self.leads() {
            return Err(self.not_leader());
        }
        let deadline = Instant::now() + Duration::from_millis(4 * self.config.election_max_ms);
        let _turn = self.turn(deadline).await?;
        self.learn(node, &address, deadline).await
    }

    /// Makes `node` at least a learner at `address`. Learners that were at that address before are gone.
    async fn learn(&self, node: u64, address: &str, deadline: Instant) -> Result<(), Error> {
        let membership = self.membership();
        let known = membership.get_node(&node).map(|known| known.addr.as_str());
        if known == Some(address) {
            return Ok(());
        }
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let gone = |(id, known): (&u64, &BasicNode)| {
            (known.addr == address && !voters.contains(id) && *id != node).then_some(*id)
        };
        let gone: BTreeSet<u64> = membership.nodes().filter_map(gone).collect();
        let mut change = Vec::new();
        if !gone.is_empty() {
            change.push(Change::RemoveNodes(gone));
        }
        let there = BTreeMap::from([(node, BasicNode::new(address))]);
        change.push(if known.is_some() {
            // The certificate at the address proves that it is the same node.
            Change::SetNodes(there)
        } else {
            Change::AddNodes(there)
        });
        if known.is_none() && membership.nodes().count() >= MEMBERS_MAX {
            return Err(refused(format!("there are {MEMBERS_MAX} members already")));
        }
        tracing::info!(node = format!("{node:016x}"), address, "a member is there");
        self.propose(Change::Batch(change), deadline).await
    }

    /// Waits until `node` has nearly all of the log.
    async fn caught_up(&self, node: u64, deadline: Instant) -> Result<(), Error> {
        loop {
            if !self.leads() {
                return Err(self.not_leader());
            }
            let metrics = self.raft_metrics();
            let matched = Self::matched(&metrics, node).map(|log_id| log_id.index);
            let lag = metrics
                .last_log_index
                .unwrap_or(0)
                .saturating_sub(matched.unwrap_or(0));
            if matched.is_some() && lag <= LAG_MAX {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(refused(format!(
                    "{node:016x} learns, but is still {lag} entries behind; ask again"
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Refuses a set of voters of which no majority answers now.
    async fn quorum_lives(&self, voters: &BTreeSet<u64>) -> Result<(), Error> {
        let membership = self.membership();
        let answers = voters.iter().map(|node| self.lives(*node, &membership));
        let live = join_all(answers).await.into_iter().filter(|lives| *lives).count();
        if live > voters.len() / 2 {
            return Ok(());
        }
        Err(refused(format!(
            "only {live} of the {} voters that would be left are there",
            voters.len()
        )))
    }

    /// Whether `node` answers, and is who the membership says.
    pub(super) async fn lives(&self, node: u64, membership: &StoredMembership) -> bool {
        if node == self.me.node {
            return true;
        }
        let (Some(link), Some(member)) = (&self.link, membership.get_node(&node)) else {
            return false;
        };
        let within = Duration::from_millis(2 * self.config.election_max_ms);
        let asked = tokio::time::timeout(within, link.who(&member.addr)).await;
        asked.is_ok_and(|who| who.is_ok_and(|who| who.node == node))
    }

    /// A turn at changing the members: one change at a time is decided on what the last one left.
    async fn turn(&self, deadline: Instant) -> Result<tokio::sync::MutexGuard<'_, ()>, Error> {
        let turn = tokio::time::timeout_at(deadline, self.changing.lock()).await;
        turn.map_err(|_| refused("another change is under way"))
    }

    /// Proposes a change of the membership as it is now. Removed members are forgotten.
    async fn propose(&self, change: Change, deadline: Instant) -> Result<(), Error> {
        let before = self.membership();
        let proposed = self.raft.change_membership_if(change, false, [guard(&before)]);
        match tokio::time::timeout_at(deadline, proposed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::Fatal(error))) => Err(stopped(error)),
            Ok(Err(RaftError::APIError(error))) => {
                let begun = self.membership().log_id() != before.log_id();
                Err(unfinished(error, begun, || self.not_leader()))
            }
            Err(_) => Err(Error::OutcomeUnknown {
                reason: "the change of the members was not confirmed in time".to_owned(),
            }),
        }
    }

    /// Finishes a change that stands half done, if nobody here is at it.
    pub(super) async fn finish_change(&self) -> Result<(), Error> {
        let Ok(_turn) = self.changing.try_lock() else {
            return Ok(());
        };
        let membership = self.membership();
        if membership.get_joint_config().len() < 2 || !self.leads() {
            return Ok(());
        }
        tracing::info!("finishing a change of the members that was left half done");
        let deadline = Instant::now() + Duration::from_millis(8 * self.config.election_max_ms);
        self.propose(Change::AddVoterIds(BTreeSet::new()), deadline).await
    }
}

/// What a change came to that Raft did not finish; `begun` if the membership is another one than it was. A change has
/// two steps: if the leadership is lost between them, nobody may take it for not done, and do it again.
fn unfinished(error: ClientWriteError<TypeConfig>, begun: bool, not_leader: impl FnOnce() -> Error) -> Error {
    match error {
        ClientWriteError::ForwardToLeader(_) if !begun => not_leader(),
        ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => Error::OutcomeUnknown {
            reason: "the leadership was lost in the middle of the change; the next leader finishes it, if it has \
                     begun: look at the members"
                .to_owned(),
        },
        error => refused(error.to_string()),
    }
}

fn guard(membership: &StoredMembership) -> Precondition<TypeConfig> {
    Precondition::LastMembershipLogId {
        last_membership_log_id: *membership.log_id(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientWriteError, Error, TypeConfig, unfinished};
    use openraft::errors::ForwardToLeader;

    #[test]
    fn a_change_is_not_done_for_sure_only_if_it_has_not_begun() {
        let not_leader = || Error::NotLeader { leader: None };
        let forward = || ForwardToLeader::<TypeConfig>::empty();
        let refused = |begun| unfinished(ClientWriteError::ForwardToLeader(forward()), begun, not_leader);
        assert!(matches!(refused(false), Error::NotLeader { .. }));
        assert!(matches!(refused(true), Error::OutcomeUnknown { .. }));
        let discarded = unfinished(ClientWriteError::LogEntryDiscarded(forward()), false, not_leader);
        assert!(
            matches!(discarded, Error::OutcomeUnknown { .. }),
            "it may be done by the next leader"
        );
    }
}
