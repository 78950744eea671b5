//! How the group does, for health pages, operators and whoever forwards to the leader.

use super::core::Core;
use crate::store::Identity;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use std::collections::BTreeMap;
use ullage_model::wire::members::{Member, MembersReply};

/// How the group does, for health and status pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who this node is.
    pub identity: Identity,
    /// Whether it leads.
    pub leads: bool,
    /// The leader, if known.
    pub leader: Option<u64>,
    /// Current term.
    pub term: u64,
    /// Last index in the log.
    pub last_index: Option<u64>,
    /// Last applied index. Like the others here it may trail by a moment; what was applied for sure says
    /// [`super::Group::applied_index`].
    pub applied_index: Option<u64>,
    /// Index of the current snapshot.
    pub snapshot_index: Option<u64>,
    /// Index up to which the log was purged.
    pub purged_index: Option<u64>,
    /// Members by id, with their addresses.
    pub members: BTreeMap<u64, String>,
    /// Why the group stopped for good, if it did.
    pub failure: Option<String>,
}

/// Who leads, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Current term.
    pub term: u64,
    /// The leader and where the others reach it.
    pub leader: Option<(u64, String)>,
    /// Whether it is this node.
    pub leads: bool,
}

impl Core {
    pub(super) fn status(&self) -> Status {
        let metrics = self.raft_metrics();
        let members = metrics.membership_config.membership().nodes();
        let stopped = metrics.running_state.err().map(|error| error.to_string());
        Status {
            identity: self.me.identity(),
            leads: metrics.state == ServerState::Leader && stopped.is_none(),
            leader: metrics.current_leader.filter(|_| stopped.is_none()),
            term: metrics.current_term,
            last_index: metrics.last_log_index,
            applied_index: metrics.last_applied.map(|log_id| log_id.index),
            snapshot_index: metrics.snapshot.map(|log_id| log_id.index),
            purged_index: metrics.purged.map(|log_id| log_id.index),
            members: members.map(|(id, node)| (*id, node.addr.clone())).collect(),
            failure: self.health.reason().or(stopped),
        }
    }

    pub(super) fn leadership(&self) -> Leadership {
        let term = self.server.borrow_watched().vote.leader_id().term;
        Leadership {
            term,
            leader: self.leader(),
            leads: self.leads(),
        }
    }

    pub(super) fn members(&self) -> MembersReply {
        let metrics = self.raft_metrics();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let mine = metrics.last_log_index;
        let member = |(id, node): (&u64, &openraft::impls::BasicNode)| {
            let me = *id == self.me.node;
            let silent = Self::silent(&metrics, *id);
            let silent_ms = silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX));
            Member {
                node: *id,
                address: node.addr.clone(),
                voter: voters.contains(id),
                leads: metrics.current_leader == Some(*id),
                matched_index: match me {
                    true => mine,
                    false => Self::matched(&metrics, *id).map(|log_id| log_id.index),
                },
                silent_ms: if me { Some(0) } else { silent_ms },
                issuer: None,
            }
        };
        MembersReply {
            members: membership.nodes().map(member).collect(),
            joint: membership.get_joint_config().len() > 1,
        }
    }
}
