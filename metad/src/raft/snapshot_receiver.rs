//! A snapshot on its way in: one at a time, into a directory of its own; verified, made durable and installed. A
//! newer leader's transfer takes the place of an older one's; what has arrived stays for the next attempt.

use super::core::Core;
use super::types::{TypeConfig, encode};
use super::wire::{FileOffer, PeerError, SnapshotAnswer, SnapshotOffer};
use crate::error::Error;
use crate::store::{Incoming, SnapshotDirectory, offload};
use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::SnapshotResponse;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use ullage_transport::frame::framed;

/// How often the sender hears that the receiver is at work.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// Bytes read back at once to be verified.
const VERIFY_BYTES: usize = 1024 * 1024;
/// Files that a snapshot may have.
const FILES_MAX: usize = 65_536;

/// What streams in behind the offer.
pub(super) type Pieces = BoxStream<'static, Result<Bytes, PeerError>>;

/// The one transfer that is under way: telling it to end makes room for the next.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    ends: Mutex<Option<oneshot::Sender<()>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Receiving {
    /// A turn at receiving, whoever had it before; and what tells that somebody else wants it.
    async fn turn(&self) -> (tokio::sync::MutexGuard<'_, ()>, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        let before = self
            .ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(end);
        drop(before);
        (self.turn.lock().await, ended)
    }
}

/// Answers to a transfer.
#[derive(Clone)]
pub(super) struct Answers(pub(super) mpsc::Sender<Bytes>);

impl Answers {
    pub(super) async fn say(&self, answer: &SnapshotAnswer) {
        match encode(answer) {
            // A sender that has gone does not want to know.
            Ok(bytes) => drop(self.0.send(framed(&bytes)).await),
            Err(error) => tracing::error!(%error, "cannot encode an answer to a snapshot"),
        }
    }
}

/// Receives what `offer` announces, installs it, and says so.
pub(super) async fn receive(core: Arc<Core>, offer: SnapshotOffer, pieces: Pieces, answers: Answers) {
    let working = async {
        let mut tick = tokio::time::interval(ALIVE_EVERY);
        loop {
            tick.tick().await;
            answers.say(&SnapshotAnswer::Alive).await;
        }
    };
    let last = tokio::select! {
        last = received(&core, offer, pieces, &answers) => last,
        () = working => return,
    };
    let last = last.unwrap_or_else(|error| {
        core.health.note(&error);
        tracing::warn!(%error, "a snapshot was not received");
        SnapshotAnswer::Failed(PeerError::Failed(error.to_string()))
    });
    answers.say(&last).await;
}

async fn received(
    core: &Core,
    offer: SnapshotOffer,
    pieces: Pieces,
    answers: &Answers,
) -> Result<SnapshotAnswer, Error> {
    let mine = core.server.borrow_watched().vote;
    if offer.vote < mine {
        return Ok(SnapshotAnswer::Done(SnapshotResponse::new(mine)));
    }
    check(&offer.files)?;
    let started = Instant::now();
    let (turn, mut ended) = core.receiving.turn().await;
    let snapshot = transfer(core, &offer, pieces, answers, &mut ended).await?;
    // From here on it goes to its end: openraft refuses what is older than what it has.
    let snapshot = SnapshotOf::<TypeConfig, _> {
        meta: offer.meta,
        snapshot,
    };
    let installed = core.raft.install_full_snapshot(offer.vote, snapshot).await;
    drop(turn);
    match installed {
        Ok(response) => {
            let seconds = started.elapsed().as_secs_f64();
            core.metrics.snapshot_received_seconds.observe(seconds);
            Ok(SnapshotAnswer::Done(response))
        }
        Err(error) => Err(Error::Stopped {
            reason: error.to_string(),
        }),
    }
}

/// Refuses names that are no plain file names, and a snapshot that is no plausible one.
fn check(files: &[FileOffer]) -> Result<(), Error> {
    let plain = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(plain)
    };
    let names: BTreeSet<_> = files.iter().map(|file| &file.name).collect();
    if files.is_empty() || files.len() > FILES_MAX || names.len() < files.len() {
        return Err(refused("its list of files is not one of a snapshot"));
    }
    match files.iter().find(|file| !plain(&file.name)) {
        Some(file) => Err(refused(&format!("{:?} is no file of a snapshot", file.name))),
        None => Ok(()),
    }
}

fn refused(reason: &str) -> Error {
    Error::Peer {
        action: "receive a snapshot from",
        address: "the leader".to_owned(),
        reason: reason.to_owned(),
    }
}

async fn transfer(
    core: &Core,
    offer: &SnapshotOffer,
    pieces: Pieces,
    answers: &Answers,
    ended: &mut oneshot::Receiver<()>,
) -> Result<Arc<SnapshotDirectory>, Error> {
    let blocks = core.states.blocks();
    let (states, files) = (Arc::clone(&core.states), offer.files.clone());
    let (mut incoming, wanted) = offload(blocks, move || {
        let incoming = states.incoming()?;
        let wanted = missing(&incoming, &files)?;
        Ok::<_, Error>((incoming, wanted))
    })
    .await??;
    let lacking: u64 = wanted
        .iter()
        .map(|(at, offset)| {
            let file = offer.files.get(*at as usize);
            file.map_or(0, |file| file.bytes - offset)
        })
        .sum();
    let all: u64 = offer.files.iter().map(|file| file.bytes).sum();
    core.metrics.snapshot_bytes_resumed.inc_by(all - lacking);
    answers.say(&SnapshotAnswer::Wanted(wanted.clone())).await;
    let mut source = Source {
        pieces,
        rest: Bytes::new(),
        idle: core.idle,
    };
    for (at, mut offset) in wanted {
        let Some(file) = offer.files.get(at as usize).cloned() else {
            continue;
        };
        while offset < file.bytes {
            // What is being written is finished: the next transfer finds files that nobody touches.
            let piece = tokio::select! {
                piece = source.next(file.bytes - offset) => piece?,
                _ = &mut *ended => return Err(refused("another transfer began")),
            };
            let (name, length) = (file.name.clone(), piece.len() as u64);
            incoming = offload(blocks, move || {
                incoming.write(&name, offset, &piece)?;
                Ok::<_, Error>(incoming)
            })
            .await??;
            offset += length;
            core.metrics.snapshot_bytes_received.inc_by(length);
        }
        incoming = offload(blocks, move || {
            if checksum(&incoming, &file)? != file.blake3 {
                incoming.remove(&file.name)?;
                return Err(refused(&format!("{} arrived damaged", file.name)));
            }
            Ok(incoming)
        })
        .await??;
    }
    let states = Arc::clone(&core.states);
    offload(blocks, move || states.received(incoming)).await?
}

/// The parts of `files` that are not there; removes what is not part of them.
fn missing(incoming: &Incoming, files: &[FileOffer]) -> Result<Vec<(u32, u64)>, Error> {
    let there: Vec<(String, u64)> = incoming.files()?;
    for (name, _) in &there {
        if !files.iter().any(|file| file.name == *name) {
            incoming.remove(name)?;
        }
    }
    let mut wanted = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let at = u32::try_from(at).map_err(|_| refused("it has too many files"))?;
        let length = there
            .iter()
            .find(|(name, _)| *name == file.name)
            .map(|(_, length)| *length);
        match length {
            // An empty file has no bytes to bring it.
            None if file.bytes == 0 => incoming.write(&file.name, 0, &[])?,
            None => wanted.push((at, 0)),
            Some(length) if length < file.bytes => wanted.push((at, length)),
            Some(length) if length == file.bytes && checksum(incoming, file)? == file.blake3 => (),
            Some(_) => {
                incoming.remove(&file.name)?;
                wanted.push((at, 0));
            }
        }
    }
    Ok(wanted)
}

fn checksum(incoming: &Incoming, file: &FileOffer) -> Result<[u8; 32], Error> {
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < file.bytes {
        let piece = incoming.read(&file.name, offset, VERIFY_BYTES)?;
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        hasher.update(&piece);
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The bytes behind the offer, cut as they are needed.
struct Source {
    pieces: Pieces,
    rest: Bytes,
    idle: Duration,
}

impl Source {
    /// At least one byte and at most `limit`.
    async fn next(&mut self, limit: u64) -> Result<Bytes, Error> {
        while self.rest.is_empty() {
            let piece = tokio::time::timeout(self.idle, self.pieces.next()).await;
            let piece = piece.map_err(|_| refused("it is silent"))?;
            let piece = piece.ok_or_else(|| refused("it ended early"))?;
            self.rest = piece.map_err(|error| refused(&error.to_string()))?;
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(self.rest.split_to(limit.min(self.rest.len())))
    }
}

/// The first message of a transfer and the bytes behind it.
pub(super) async fn split(mut body: Pieces, limit: usize) -> Result<(Bytes, Pieces), PeerError> {
    let mut head = BytesMut::new();
    loop {
        if let Some(length) = head.first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > limit {
                return Err(PeerError::Failed("the offer is too long".to_owned()));
            }
            if head.len() - 4 >= length {
                head.advance(4);
                let message = head.split_to(length).freeze();
                let rest = futures::stream::iter([Ok(head.freeze())]).chain(body);
                return Ok((message, rest.boxed()));
            }
        }
        match body.next().await {
            Some(Ok(piece)) => head.extend_from_slice(&piece),
            Some(Err(error)) => return Err(error),
            None => return Err(PeerError::Failed("the offer ended early".to_owned())),
        }
    }
}
