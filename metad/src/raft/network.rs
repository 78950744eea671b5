//! The network of a group whose members cannot be reached from here: every call answers that at once. A group
//! of one never calls it. No method is left to openraft's defaults, some of which pretend success.

use super::types::{TypeConfig, Vote};
use crate::store::SnapshotDirectory;
use futures::Stream;
use openraft::alias::SnapshotOf;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use std::sync::Arc;
use std::time::Duration;

type Failure = RPCError<TypeConfig>;

/// Makes connections that reach nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

/// A connection that reaches nobody.
#[derive(Clone, Debug)]
pub struct NoConnection {
    target: u64,
    address: String,
}

impl NoConnection {
    fn unreachable(&self) -> Unreachable<TypeConfig> {
        let Self { target, address } = self;
        Unreachable::from_string(format!(
            "node {target:016x} at {address:?} cannot be reached from here"
        ))
    }
}

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = NoConnection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> NoConnection {
        NoConnection {
            target,
            address: node.addr.clone(),
        }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> NoConnection {
        self.new_client(target, node).await
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> NoConnection {
        self.new_client(target, node).await
    }
}

impl RaftNetworkV2<TypeConfig> for NoConnection {
    type SnapshotData = Arc<SnapshotDirectory>;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        Err(self.unreachable().into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        _input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failure>>, Failure>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async { Err(self.unreachable().into()) })
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        Err(self.unreachable().into())
    }

    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: SnapshotOf<TypeConfig, Arc<SnapshotDirectory>>,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn transfer_leader(
        &mut self,
        _request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failure> {
        Err(self.unreachable().into())
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(Duration::from_millis(500))))
    }
}
