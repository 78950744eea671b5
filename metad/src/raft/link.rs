//! This node as it speaks to the others: who it is, where they are, and calls to them.

use super::types::TypeConfig;
use super::wire::{Addressed, Answer, Head, PeerError, WHO, Who, WhoRequest};
use crate::error::Error;
use crate::store::{Identity, NO_CLUSTER};
use openraft::alias::StoredMembershipOf;
use prometheus::IntGauge;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use std::{fmt, sync::Arc};
use ullage_model::codec::Versioned;
use ullage_transport::client::{CallError, Client, Target};
use ullage_transport::identity::{self, Expect};

/// How long a call to a node whose cluster or address may be wrong may take.
const WHO_WITHIN: Duration = Duration::from_secs(3);

/// Which calls share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Lane {
    /// Votes and heartbeats.
    Urgent = 1,
    /// Entries.
    Append = 2,
    /// Snapshots.
    Snapshot = 3,
    /// Everything else.
    Other = 4,
}

/// Who this node is.
#[derive(Debug)]
pub(super) struct Me {
    pub(super) node: u64,
    pub(super) group: u64,
    cluster: OnceLock<u128>,
}

impl Me {
    pub(super) fn new(identity: Identity) -> Self {
        let me = Self {
            node: identity.node,
            group: identity.group,
            cluster: OnceLock::new(),
        };
        if identity.cluster != NO_CLUSTER {
            me.adopted(identity.cluster);
        }
        me
    }

    pub(super) fn cluster(&self) -> Option<u128> {
        self.cluster.get().copied()
    }

    /// Notes the cluster that the data directory says it belongs to.
    pub(super) fn adopted(&self, cluster: u128) {
        self.cluster.get_or_init(|| cluster);
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            cluster: self.cluster().unwrap_or(NO_CLUSTER),
            group: self.group,
            node: self.node,
        }
    }
}

/// Where the members are, according to the newest membership that this node has seen.
#[derive(Debug, Default)]
pub(super) struct AddressBook(Mutex<BTreeMap<u64, String>>);

impl AddressBook {
    pub(super) fn follow(&self, membership: &StoredMembershipOf<TypeConfig>) {
        let nodes = membership.nodes().map(|(id, node)| (*id, node.addr.clone()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = nodes.collect();
    }

    pub(super) fn address(&self, node: u64) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&node)
            .cloned()
    }
}

/// Calls to the others.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) me: Arc<Me>,
    pub(super) book: Arc<AddressBook>,
    /// Silence after which a stream is given up.
    pub(super) idle: Duration,
    /// Most requests to append that were under way at a time.
    pub(super) in_flight_most: IntGauge,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn target(&self, node: u64, known_address: &str, lane: Lane) -> Target {
        Target {
            address: self
                .book
                .address(node)
                .unwrap_or_else(|| known_address.to_owned()),
            expect: Expect::Exactly(identity::Identity::Metad(node)),
            lane: lane as u8,
        }
    }

    /// The head of a message to `to`.
    pub(super) fn head(&self, to: u64) -> Head {
        Head {
            cluster: self.me.cluster().unwrap_or(NO_CLUSTER),
            group: self.me.group,
            from: self.me.node,
            to,
        }
    }

    /// Sends `body` to the node that `target` names.
    pub(super) async fn call<Req, Resp>(
        &self,
        to: u64,
        target: &Target,
        path: &'static str,
        body: Req,
        within: Duration,
    ) -> Result<Resp, CallError<PeerError>>
    where
        Addressed<Req>: Versioned,
        Answer<Resp>: Versioned,
    {
        self.send(self.head(to), target, path, body, within).await
    }

    /// [`Link::call`] with a head of the caller's.
    pub(super) async fn send<Req, Resp>(
        &self,
        head: Head,
        target: &Target,
        path: &'static str,
        body: Req,
        within: Duration,
    ) -> Result<Resp, CallError<PeerError>>
    where
        Addressed<Req>: Versioned,
        Answer<Resp>: Versioned,
    {
        let request = Addressed { head, body };
        let Answer(answer) = self.client.call(target, path, &request, within).await?;
        Ok(answer)
    }

    /// Asks who listens at `address`.
    pub(super) async fn who(&self, address: &str) -> Result<Who, Error> {
        let target = Target {
            address: address.to_owned(),
            expect: Expect::AnyMetad,
            lane: Lane::Other as u8,
        };
        let request = WhoRequest { group: self.me.group };
        let answer = self
            .client
            .call::<_, Who, PeerError>(&target, WHO, &request, WHO_WITHIN);
        answer.await.map_err(|error| Error::Peer {
            action: "identify",
            address: address.to_owned(),
            reason: error.to_string(),
        })
    }
}
