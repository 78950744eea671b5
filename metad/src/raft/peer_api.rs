//! What a member answers to the others: [`ROUTES`] and their handlers. Callers are metadata nodes only, and each
//! message is refused unless it names this cluster, this group, its true sender and this node.

use super::core::Core;
use super::group::Group;
use super::rounds::Refused;
use super::snapshot_receiver::{self, Answers};
use super::types::{TypeConfig, decode, encode};
use super::wire::{
    self, APPEND, APPEND_BYTES_MAX, Addressed, Answer, AppendBytes, Appended, DIGESTS, DigestsRequest,
    HEARTBEAT, Head, JOIN, Join, ODD, OFFER_BYTES_MAX, Odd, PRE_VOTE, PeerError, READ_INDEX,
    ReadIndexRequest, SNAPSHOT, SnapshotAnswer, SnapshotOffer, StreamHead, TRANSFER, VOTE, WHO, Who,
    WhoRequest, decode_append,
};
use crate::error::Error;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use openraft::raft::{
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use ullage_model::codec::Versioned;
use ullage_transport::api::{Api, StreamRequest, StreamResponse};
use ullage_transport::frame::{framed, messages};
use ullage_transport::identity::Peer;

/// Bytes of entries of one stream that wait for their sync.
const STREAM_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest that a follower's read is waited for.
const READ_INDEX_WITHIN: Duration = Duration::from_secs(30);
/// Answers to a snapshot's sender that wait for it.
const SNAPSHOT_ANSWERS: usize = 4;

const _: () = assert!(APPEND_BYTES_MAX <= STREAM_BYTES_MAX, "one request fits");

/// Adds the routes between members to `api`; `group` finds the group in the state of the service.
#[must_use]
pub fn peer_api<S>(api: Api<S>, group: impl Fn(&S) -> Arc<Group> + Clone + Send + Sync + 'static) -> Api<S>
where
    S: Clone + Send + Sync + 'static,
{
    let who = group.clone();
    let api = api.call(
        wire::route_of(WHO),
        move |state, _peer, request: WhoRequest| -> BoxFuture<'static, Result<Who, PeerError>> {
            let core = who(&state).core();
            Box::pin(async move { answer_who(&core, request).await })
        },
    );
    let api = addressed(api, VOTE, group.clone(), |core, _from, body| {
        Box::pin(vote(core, body))
    });
    let api = addressed(api, PRE_VOTE, group.clone(), |core, _from, body| {
        Box::pin(pre_vote(core, body))
    });
    let api = addressed(api, HEARTBEAT, group.clone(), |core, _from, body| {
        Box::pin(heartbeat(core, body))
    });
    let api = addressed(api, TRANSFER, group.clone(), |core, _from, body| {
        Box::pin(transfer(core, body))
    });
    let api = addressed(api, JOIN, group.clone(), |core, from, body: Join| {
        Box::pin(async move { core.join(from, body.address).await.map_err(PeerError::from) })
    });
    let api = addressed(api, READ_INDEX, group.clone(), |core, _from, body| {
        Box::pin(read_index(core, body))
    });
    let api = addressed(
        api,
        DIGESTS,
        group.clone(),
        |core, _from, _body: DigestsRequest| Box::pin(async move { Ok(core.digests.all()) }),
    );
    let api = addressed(api, ODD, group.clone(), |core, _from, body: Odd| {
        Box::pin(async move {
            core.judged(body.index, &body.digest);
            Ok(())
        })
    });
    let of_append = group.clone();
    let api = api.stream(wire::route_of(APPEND), move |state, peer, request| {
        let core = of_append(&state).core();
        Box::pin(async move { append(core, peer, request) })
    });
    api.stream(wire::route_of(SNAPSHOT), move |state, peer, request| {
        let core = group(&state).core();
        Box::pin(async move { snapshot(core, peer, request) })
    })
}

type Handled<Resp> = BoxFuture<'static, Result<Resp, PeerError>>;

/// A call whose message names its sender and addressee.
fn addressed<S, Req, Resp>(
    api: Api<S>,
    path: &'static str,
    group: impl Fn(&S) -> Arc<Group> + Clone + Send + Sync + 'static,
    handler: fn(Arc<Core>, u64, Req) -> Handled<Resp>,
) -> Api<S>
where
    S: Clone + Send + Sync + 'static,
    Addressed<Req>: Versioned + Send + 'static,
    Answer<Resp>: Versioned + Send + 'static,
    Req: Send + 'static,
    Resp: Send + 'static,
{
    api.call(
        wire::route_of(path),
        move |state, peer, request: Addressed<Req>| -> BoxFuture<'static, Result<Answer<Resp>, PeerError>> {
            let core = group(&state).core();
            Box::pin(async move {
                core.admit(&request.head, peer).await?;
                handler(core, request.head.from, request.body).await.map(Answer)
            })
        },
    )
}

impl From<Error> for PeerError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotLeader { .. } | Error::LeaderNotReady | Error::ReadUnconfirmed { .. } => {
                Self::Refused(Refused::from(error))
            }
            error => Self::Failed(error.to_string()),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> PeerError {
    PeerError::Failed(error.to_string())
}

async fn answer_who(core: &Core, request: WhoRequest) -> Result<Who, PeerError> {
    if request.group != core.me.group {
        return Err(PeerError::OtherGroup(core.me.group));
    }
    Ok(core.who().await?)
}

async fn vote(
    core: Arc<Core>,
    request: VoteRequest<TypeConfig>,
) -> Result<VoteResponse<TypeConfig>, PeerError> {
    core.raft.vote(request).await.map_err(failed)
}

async fn pre_vote(
    core: Arc<Core>,
    request: VoteRequest<TypeConfig>,
) -> Result<VoteResponse<TypeConfig>, PeerError> {
    core.raft.pre_vote(request).await.map_err(failed)
}

async fn heartbeat(core: Arc<Core>, body: AppendBytes) -> Result<StreamAppendResult<TypeConfig>, PeerError> {
    let request = decode_append(body.0).map_err(failed)?;
    let mut answers = Box::pin(core.raft.stream_append(stream::iter([request])));
    let answer = answers.next().await;
    answer
        .ok_or_else(|| failed("the group has stopped"))?
        .map_err(failed)
}

async fn transfer(
    core: Arc<Core>,
    request: TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, PeerError> {
    let handled = core.raft.handle_transfer_leader(request).await;
    handled.map_err(failed)
}

async fn read_index(core: Arc<Core>, request: ReadIndexRequest) -> Result<u64, PeerError> {
    if !core.leads() {
        return Err(core.not_leader().into());
    }
    let patience = Duration::from_millis(request.patience_ms).min(READ_INDEX_WITHIN);
    Ok(core.rounds.confirm(patience).await?)
}

/// Entries that stream in, each with leave to be in memory until it is answered.
fn append(core: Arc<Core>, peer: Peer, request: StreamRequest) -> StreamResponse {
    let incoming = messages(request.into_body(), APPEND_BYTES_MAX);
    let answers = stream::once(async move { start_append(core, peer, incoming).await });
    let answers = answers.flat_map(|started| match started {
        Ok(answers) => answers,
        Err(error) => stream::iter([Err(error)]).boxed(),
    });
    ullage_transport::api::streamed(answers.map(|answer: Appended| {
        let bytes = encode(&answer)?;
        Ok::<_, io::Error>(framed(&bytes))
    }))
}

type Messages = stream::BoxStream<'static, Result<Bytes, ullage_transport::frame::FrameError>>;

async fn start_append(
    core: Arc<Core>,
    peer: Peer,
    mut incoming: Messages,
) -> Result<stream::BoxStream<'static, Appended>, PeerError> {
    let head = incoming
        .next()
        .await
        .ok_or_else(|| failed("the stream is empty"))?;
    let StreamHead(head): StreamHead = decode(&head.map_err(failed)?).map_err(failed)?;
    core.admit(&head, peer).await?;
    let room = Room::default();
    let leave = room.clone();
    // A connection that breaks, or a request that cannot be read, ends the stream: the sender begins anew.
    let requests = incoming.scan(leave, |room, message| {
        let room = room.clone();
        async move {
            let message = message.ok()?;
            room.enter(message.len()).await;
            let request = decode_append(message);
            request
                .inspect_err(|error| tracing::warn!(%error, "a request to append cannot be read"))
                .ok()
        }
    });
    let answers = core.raft.stream_append(requests);
    let answers = answers.map(move |answer| {
        room.leave();
        answer.map_err(failed)
    });
    Ok(answers.boxed())
}

/// What requests of one stream hold in memory until they are answered, in their order.
#[derive(Clone)]
struct Room {
    bytes: Arc<Semaphore>,
    held: Arc<Mutex<VecDeque<Option<OwnedSemaphorePermit>>>>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(STREAM_BYTES_MAX)),
            held: Arc::default(),
        }
    }
}

impl Room {
    async fn enter(&self, bytes: usize) {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Never closed.
        let permit = Arc::clone(&self.bytes).acquire_many_owned(permits).await.ok();
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(permit);
    }

    fn leave(&self) {
        drop(
            self.held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front(),
        );
    }
}

/// A snapshot that streams in. What installs it is a task of its own: it goes on if the sender's connection breaks.
fn snapshot(core: Arc<Core>, peer: Peer, request: StreamRequest) -> StreamResponse {
    let pieces = request.into_body().into_data_stream();
    let pieces = pieces.map(|piece| piece.map_err(failed)).boxed();
    let (answers, mut outgoing) = mpsc::channel(SNAPSHOT_ANSWERS);
    let answers = Answers(answers);
    tokio::spawn(async move {
        let offer = async {
            let (offer, rest) = snapshot_receiver::split(pieces, OFFER_BYTES_MAX).await?;
            let offer: SnapshotOffer = decode(&offer).map_err(failed)?;
            let head: &Head = &offer.head;
            core.admit(head, peer).await?;
            Ok::<_, PeerError>((offer, rest))
        };
        match tokio::time::timeout(core.idle, offer).await {
            Ok(Ok((offer, rest))) => snapshot_receiver::receive(core, offer, rest, answers).await,
            Ok(Err(error)) => answers.say(&SnapshotAnswer::Failed(error)).await,
            Err(_) => {
                answers
                    .say(&SnapshotAnswer::Failed(failed("no offer came in time")))
                    .await
            }
        }
    });
    let outgoing = stream::poll_fn(move |context| outgoing.poll_recv(context));
    ullage_transport::api::streamed(outgoing.map(Ok::<Bytes, io::Error>))
}
