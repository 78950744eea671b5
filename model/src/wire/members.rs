//! The metadata service's own members, as operators see and change them.

use crate::wire::chunk::PublicKey;
use serde::{Deserialize, Serialize};

/// What an operator asks of the membership. Each answers with the membership afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembersRequest {
    /// Only tell.
    List,
    /// Make the node at `address`, which must run and be empty, a voter: as a learner first, promoted when it
    /// has caught up. With `replaces`, that member is removed in the same change.
    Add {
        /// Where it listens.
        address: String,
        /// The member whose place it takes.
        replaces: Option<u64>,
    },
    /// Remove a member. Refused when the rest would be no majority that is there.
    Remove {
        /// Which.
        node: u64,
    },
    /// Hand the leadership to a voter that has caught up.
    Transfer {
        /// To whom; any, if not named.
        to: Option<u64>,
    },
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: u64,
    /// Where the others reach it.
    pub address: String,
    /// Whether it votes; else it learns.
    pub voter: bool,
    /// Whether it leads.
    pub leads: bool,
    /// Last log index known to be on it; only the leader knows.
    pub matched_index: Option<u64>,
    /// ms since it was last heard of; only the leader knows.
    pub silent_ms: Option<u64>,
    /// What its grants are signed with, once it has told.
    pub issuer: Option<PublicKey>,
}

/// The membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersReply {
    /// The members by id.
    pub members: Vec<Member>,
    /// Whether a change is under way (two configurations hold at once).
    pub joint: bool,
}

crate::codec::versioned!(MembersRequest, MembersReply);
