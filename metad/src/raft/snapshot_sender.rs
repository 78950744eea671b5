//! A snapshot on its way to a follower: an offer with the checksum of each file, then the bytes that the follower
//! says it lacks. A transfer that breaks goes on where it stopped, because what has arrived stays there.

use super::append_stream::widened;
use super::link::Link;
use super::network::{failure, unreachable};
use super::types::{TypeConfig, Vote, decode, encode};
use super::wire::{ANSWER_BYTES_MAX, FileOffer, SNAPSHOT, SnapshotAnswer, SnapshotOffer};
use crate::error::Error;
use crate::store::{SnapshotDirectory, offload};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::HeaderMap;
use http_body_util::{BodyExt, StreamBody};
use openraft::alias::SnapshotOf;
use openraft::errors::StreamingError;
use openraft::raft::SnapshotResponse;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use ullage_transport::client::Target;
use ullage_transport::frame::{FrameError, framed, messages};

/// Bytes read and sent at once.
const PIECE_BYTES: usize = 512 * 1024;
/// Pieces read ahead of the connection.
const PIECES_AHEAD: usize = 4;

type Answers = BoxStream<'static, Result<Bytes, FrameError>>;
type Body = mpsc::Sender<io::Result<Bytes>>;

/// Sends `snapshot` to `to`; returns when it is installed there, or refused for a higher vote.
pub(super) async fn send(
    link: &Link,
    to: u64,
    target: &Target,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, Arc<SnapshotDirectory>>,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let directory = snapshot.snapshot;
    let files = offer(&directory).await.map_err(unreachable)?;
    let offer = SnapshotOffer {
        head: link.head(to),
        vote,
        meta: snapshot.meta,
        files,
    };
    let head = encode(&offer).map_err(unreachable)?;
    let (body, mut outgoing) = mpsc::channel::<io::Result<Bytes>>(PIECES_AHEAD);
    body.try_send(Ok(framed(&head))).map_err(unreachable)?;
    let outgoing = futures::stream::poll_fn(move |context| outgoing.poll_recv(context));
    let outgoing = StreamBody::new(outgoing.map(|bytes| bytes.map(http_body::Frame::data))).boxed_unsync();
    let opened = link.client.open(target, SNAPSHOT, HeaderMap::new(), outgoing);
    let response = match tokio::time::timeout(link.idle, opened).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(failure(widened(error)).into()),
        Err(_) => return Err(unreachable("the snapshot was not accepted in time").into()),
    };
    if !response.status().is_success() {
        return Err(unreachable(format!("{} answered {}", target.address, response.status())).into());
    }
    let mut answers = messages(response.into_body(), ANSWER_BYTES_MAX);
    let wanted = loop {
        match answer(&mut answers, link.idle).await? {
            SnapshotAnswer::Alive => (),
            SnapshotAnswer::Wanted(wanted) => break wanted,
            last => return ended(last),
        }
    };
    let sending = send_files(&directory, &offer.files, wanted, body, link.idle);
    let listening = async {
        loop {
            match answer(&mut answers, link.idle).await? {
                SnapshotAnswer::Alive | SnapshotAnswer::Wanted(_) => (),
                last => return ended(last),
            }
        }
    };
    tokio::pin!(listening);
    // Whoever receives may have its reasons to end before everything is sent.
    tokio::select! {
        ended = &mut listening => ended,
        sent = sending => match sent {
            Ok(()) => listening.await,
            Err(error) => Err(unreachable(error).into()),
        },
    }
}

async fn answer(answers: &mut Answers, idle: Duration) -> Result<SnapshotAnswer, StreamingError<TypeConfig>> {
    let next = tokio::time::timeout(idle, answers.next()).await;
    let next = next.map_err(|_| unreachable("the receiver of a snapshot is silent"))?;
    let bytes = next.ok_or_else(|| unreachable("the receiver of a snapshot has gone"))?;
    let decoded = decode(&bytes.map_err(unreachable)?);
    Ok(decoded.map_err(unreachable)?)
}

fn ended(answer: SnapshotAnswer) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    match answer {
        SnapshotAnswer::Done(response) => Ok(response),
        SnapshotAnswer::Failed(error) => Err(unreachable(error).into()),
        SnapshotAnswer::Alive | SnapshotAnswer::Wanted(_) => {
            Err(unreachable("the receiver of a snapshot speaks out of turn").into())
        }
    }
}

/// The files of a snapshot with their checksums.
async fn offer(directory: &Arc<SnapshotDirectory>) -> Result<Vec<FileOffer>, Error> {
    let directory = Arc::clone(directory);
    offload(directory.blocks(), move || {
        let describe = |(name, bytes): (String, u64)| {
            let blake3 = directory.checksum(&name)?;
            Ok(FileOffer { name, bytes, blake3 })
        };
        directory.files()?.into_iter().map(describe).collect()
    })
    .await?
}

async fn send_files(
    directory: &Arc<SnapshotDirectory>,
    files: &[FileOffer],
    wanted: Vec<(u32, u64)>,
    body: Body,
    idle: Duration,
) -> Result<(), Error> {
    let gone = |reason: &str| Error::Peer {
        action: "send a snapshot to",
        address: String::new(),
        reason: reason.to_owned(),
    };
    for (at, mut offset) in wanted {
        let file = files
            .get(at as usize)
            .ok_or_else(|| gone("it wants a file that there is not"))?;
        while offset < file.bytes {
            let (from, name) = (Arc::clone(directory), file.name.clone());
            let piece = offload(directory.blocks(), move || from.read(&name, offset, PIECE_BYTES)).await??;
            if piece.is_empty() {
                return Err(Error::damaged(
                    directory.path(),
                    format!("{} has become shorter", file.name),
                ));
            }
            offset += piece.len() as u64;
            match tokio::time::timeout(idle, body.send(Ok(piece))).await {
                Ok(Ok(())) => (),
                Ok(Err(_)) => return Err(gone("the connection is closed")),
                Err(_) => return Err(gone("it takes nothing any more")),
            }
        }
    }
    Ok(())
}
