//! What the parts of a group share: its Raft, its databases, its link to the others.

use super::config::GroupConfig;
use super::digest::DigestPoints;
use super::health::Health;
use super::link::{Link, Me};
use super::metrics::Metrics;
use super::rounds::Rounds;
use super::snapshot_receiver::Receiving;
use super::state_machine::StateMachine;
use super::types::{LogId, StoredMembership, TypeConfig};
use super::wire::{PeerError, Who};
use crate::error::Error;
use crate::store::{DataDirectory, States, offload};
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::{Instant, WatchReceiver};
use openraft::metrics::RaftServerMetrics;
use openraft::{Raft, RaftMetrics, ServerState};
use std::sync::Arc;
use std::time::Duration;
use ullage_transport::identity::{Identity, Peer};

/// The shared parts. Tasks and calls hold it while they are at work.
pub(super) struct Core {
    pub(super) config: GroupConfig,
    pub(super) me: Arc<Me>,
    pub(super) raft: Raft<TypeConfig, StateMachine>,
    pub(super) server: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    pub(super) all: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    pub(super) states: Arc<States>,
    pub(super) digests: Arc<DigestPoints>,
    pub(super) rounds: Arc<Rounds>,
    pub(super) link: Option<Link>,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) receiving: Receiving,
    /// Held by whoever changes the members.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) idle: Duration,
    // Last: the directory is unlocked when everything above is closed.
    pub(super) data: Arc<DataDirectory>,
}

impl Core {
    /// Whether Raft is at work. What it told last stays to be seen when it is not.
    pub(super) fn runs(&self) -> bool {
        self.all.borrow_watched().running_state.is_ok()
    }

    pub(super) fn leads(&self) -> bool {
        self.term_led().is_some()
    }

    /// The term in which this node leads.
    pub(super) fn term_led(&self) -> Option<u64> {
        let server = self.server.borrow_watched();
        (server.state == ServerState::Leader && self.runs()).then(|| server.vote.leader_id().term)
    }

    /// The leader that this node knows, and where it is.
    pub(super) fn leader(&self) -> Option<(u64, String)> {
        if !self.runs() {
            return None;
        }
        let server = self.server.borrow_watched();
        let leader = server.current_leader?;
        let node = server.membership_config.membership().get_node(&leader)?;
        Some((leader, node.addr.clone()))
    }

    pub(super) fn raft_metrics(&self) -> RaftMetrics<TypeConfig> {
        self.all.borrow_watched().clone()
    }

    pub(super) fn membership(&self) -> Arc<StoredMembership> {
        Arc::clone(&self.server.borrow_watched().membership_config)
    }

    pub(super) fn not_leader(&self) -> Error {
        Error::NotLeader {
            leader: self.leader().map(|(_, address)| address),
        }
    }

    /// Whether this node has ever voted or been given an entry.
    pub(super) async fn initialised(&self) -> Result<bool, Error> {
        self.raft.is_initialized().await.map_err(stopped)
    }

    /// Durably makes this node one of `cluster`.
    pub(super) async fn adopt(&self, cluster: u128) -> Result<(), Error> {
        let data = Arc::clone(&self.data);
        offload(self.states.blocks(), move || data.adopt(cluster)).await??;
        self.me.adopted(cluster);
        Ok(())
    }

    /// Refuses a message that is not for this node, or not of the one it names. An empty node is adopted by the
    /// first that is: the sender has proven that it holds the cluster secret, and it knows this node's id.
    pub(super) async fn admit(&self, head: &super::wire::Head, peer: Peer) -> Result<(), PeerError> {
        if peer != Peer::Known(Identity::Metad(head.from)) {
            return Err(PeerError::OtherSender);
        }
        if head.to != self.me.node {
            return Err(PeerError::OtherNode(self.me.node));
        }
        if head.group != self.me.group {
            return Err(PeerError::OtherGroup(self.me.group));
        }
        match self.me.cluster() {
            Some(cluster) if cluster == head.cluster => Ok(()),
            Some(cluster) => Err(PeerError::OtherCluster(cluster)),
            None if head.cluster == crate::store::NO_CLUSTER => {
                Err(PeerError::OtherCluster(crate::store::NO_CLUSTER))
            }
            None => {
                let adopted = self.adopt(head.cluster).await;
                adopted.map_err(|error| PeerError::Failed(error.to_string()))?;
                tracing::info!(
                    cluster = format!("{:032x}", head.cluster),
                    "this node has joined a cluster"
                );
                Ok(())
            }
        }
    }

    /// Who this node is and what it knows.
    pub(super) async fn who(&self) -> Result<Who, Error> {
        let identity = self.me.identity();
        let nodes = self.membership();
        Ok(Who {
            node: identity.node,
            cluster: identity.cluster,
            group: identity.group,
            initialised: self.initialised().await?,
            leader: self.leader(),
            members: nodes.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        })
    }

    /// The last log index of `metrics`' node, and the one known to be on `node`.
    pub(super) fn matched(metrics: &RaftMetrics<TypeConfig>, node: u64) -> Option<LogId> {
        metrics.replication.as_ref()?.get(&node).copied().flatten()
    }

    /// Since when nothing was heard of `node`; `None` if that is not known here.
    pub(super) fn silent(metrics: &RaftMetrics<TypeConfig>, node: u64) -> Option<Duration> {
        let heard = metrics.heartbeat.as_ref()?.get(&node)?.as_ref()?;
        Some(Instant::elapsed(&**heard))
    }
}

pub(super) fn stopped(error: impl std::fmt::Display) -> Error {
    Error::Stopped {
        reason: error.to_string(),
    }
}
