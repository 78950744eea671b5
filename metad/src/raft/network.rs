//! openraft's calls to other members: votes and heartbeats one at a time on a connection of their own, entries
//! pipelined on a stream ([`super::append_stream`]), snapshots file by file ([`super::snapshot_sender`]). No method
//! is left to openraft's defaults, some of which pretend success. Every call ends by its deadline.

use super::append_stream;
use super::link::{Lane, Link};
use super::snapshot_sender;
use super::types::{TypeConfig, Vote};
use super::wire::{
    Addressed, Answer, AppendBytes, HEARTBEAT, PRE_VOTE, PeerError, TRANSFER, VOTE, encode_append,
};
use crate::store::SnapshotDirectory;
use futures::{Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use std::sync::Arc;
use std::time::Duration;
use ullage_model::codec::Versioned;
use ullage_transport::client::CallError;

pub(super) type Failure = RPCError<TypeConfig>;

/// How long openraft waits before it tries a member again that was not reached.
const BACKOFF: Duration = Duration::from_millis(250);

/// Makes connections; in a group of one, to nobody.
#[derive(Clone, Debug)]
pub(super) struct Network(pub(super) Option<Link>);

/// Calls to one member.
#[derive(Clone, Debug)]
pub struct Connection {
    link: Option<Link>,
    target: u64,
    address: String,
    lane: Lane,
}

impl Network {
    fn connection(&self, target: u64, node: &BasicNode, lane: Lane) -> Connection {
        Connection {
            link: self.0.clone(),
            target,
            address: node.addr.clone(),
            lane,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    /// For entries, votes and transfers.
    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.connection(target, node, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.connection(target, node, Lane::Urgent)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.connection(target, node, Lane::Snapshot)
    }
}

/// A call that failed: the member is let alone for a while before it is tried again.
pub(super) fn unreachable(error: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(error)
}

impl Connection {
    fn link(&self) -> Result<&Link, Unreachable<TypeConfig>> {
        let Self { target, address, .. } = self;
        self.link.as_ref().ok_or_else(|| {
            unreachable(format!(
                "node {target:016x} at {address:?} cannot be reached from here"
            ))
        })
    }

    /// A call of its own, apart from entries.
    async fn call<Req, Resp>(
        &self,
        path: &'static str,
        body: Req,
        option: &RPCOption,
    ) -> Result<Resp, Failure>
    where
        Addressed<Req>: Versioned,
        Answer<Resp>: Versioned,
    {
        let link = self.link()?;
        let target = link.target(self.target, &self.address, Lane::Urgent);
        let called = link.call(self.target, &target, path, body, option.soft_ttl());
        called.await.map_err(failure)
    }

    async fn append_one(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        option: &RPCOption,
    ) -> Result<StreamAppendResult<TypeConfig>, Failure> {
        let bytes = encode_append(&request).map_err(|error| NetworkError::new(&error))?;
        self.call(HEARTBEAT, AppendBytes(bytes), option).await
    }
}

/// What a failed call means to openraft: a connection that broke may be made again at once.
pub(super) fn failure(error: CallError<PeerError>) -> Failure {
    match error {
        CallError::Unknown { .. } => NetworkError::from_string(error.to_string()).into(),
        _ => unreachable(error).into(),
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = Arc<SnapshotDirectory>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        self.append_one(request, &option)
            .await
            .map(AppendEntriesResponse::from)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failure>>, Failure>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        if self.lane == Lane::Append {
            return Box::pin(async move {
                let target = self.link()?.target(self.target, &self.address, Lane::Append);
                let opened = append_stream::open(self.link()?, self.target, target, input).await;
                if opened.is_err() {
                    // openraft makes its pauses when it is asked for requests, which such an attempt never
                    // does: without a pause here it would try again at once, over and over.
                    tokio::time::sleep(BACKOFF).await;
                }
                opened
            });
        }
        let this = &*self;
        Box::pin(async move {
            let answers = input.then(move |request| {
                let option = option.clone();
                async move { this.append_one(request, &option).await }
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        self.call(VOTE, request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        self.call(PRE_VOTE, request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, Arc<SnapshotDirectory>>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let link = self.link()?;
        let target = link.target(self.target, &self.address, Lane::Snapshot);
        let sent = snapshot_sender::send(link, self.target, &target, vote, snapshot);
        tokio::select! {
            sent = tokio::time::timeout(option.hard_ttl(), sent) => match sent {
                Ok(sent) => sent,
                Err(_) => Err(unreachable("the snapshot has not passed in time").into()),
            },
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failure> {
        self.call(TRANSFER, request, &option).await
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}
