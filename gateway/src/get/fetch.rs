//! One segment of one chunk: from the best copy, from the next one too if that is slow, from any other if it fails.
//! What is handed on was verified.

use crate::crypt::BlobKey;
use crate::engine::Engine;
use crate::error::Error;
use crate::get::locate::Locator;
use crate::get::verify::{FrameSpan, Opening};
use crate::limits::{HEDGE_BETWEEN, READ_WAIT, RELOCATIONS, SEGMENT_BYTES};
use crate::memory::{PooledBuffer, Reservation};
use crate::path::{Fault, Transfer, Way};
use crate::session::Session;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use ullage_model::fat::rows::{ChunkRow, CopyRow, CopyState, VendorState};
use ullage_model::ids::VendorId;
use ullage_model::limits::FRAME_BYTES;
use ullage_model::wire::agent::DamagedCopy;
use ullage_model::wire::chunk::{ChunkRefusal, ReadRequest};
use ullage_model::wire::metad::{LocateSource, SpanPlace};

/// Scores within so many points of the best are as good: the load is shared among them. Half the speed of the best
/// costs about as many: below it, that the bytes are in memory where they were read before is worth more.
const AS_GOOD: u16 = 100;

/// Frames to be fetched.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The blob's key.
    pub key: Arc<BlobKey>,
    /// The frames.
    pub span: FrameSpan,
    /// The chunk and its copies as last known.
    pub row: ChunkRow,
    /// Plaintext bytes to leave out at the start of the first frame.
    pub skip: usize,
    /// Plaintext bytes wanted after those.
    pub bytes: usize,
    /// What a fresh answer goes by.
    pub source: LocateSource,
    /// First plaintext byte wanted, as `source` counts.
    pub offset: u64,
    /// For tracing only.
    pub request_id: u64,
}

/// Number of the run of a chunk's frames that `frame` is in: whoever reads all of a run asks for it at once.
pub(super) fn run(frame: u64) -> u64 {
    frame * FRAME_BYTES / SEGMENT_BYTES.1
}

/// Fetches a segment, asking again where it is when no copy answers.
///
/// # Errors
/// `Unreadable` when no copy could be read and verified; `SessionLost` when the session ended meanwhile.
pub async fn fetch(
    engine: Arc<Engine>,
    session: Arc<Session>,
    mut segment: Segment,
    reservation: Arc<Reservation>,
) -> Result<Bytes, Error> {
    let mut relocations = 0;
    loop {
        let failed = match fetch_once(&engine, &session, &segment, &reservation).await {
            Ok(buffer) => {
                engine.around.metrics.read_bytes.inc_by(segment.bytes as u64);
                return Ok(Bytes::from_owner(buffer).slice(segment.skip..segment.skip + segment.bytes));
            }
            Err(failed) => failed,
        };
        if session.is_gone() {
            return Err(Error::SessionLost);
        }
        relocations += 1;
        if relocations > RELOCATIONS {
            let blob = segment.key.blob();
            tracing::error!(%blob, chunk = %segment.row.chunk, reason = %failed, "no copy of a chunk can be read");
            return Err(Error::Unreadable { blob, reason: failed });
        }
        let copies = segment.row.copies.iter();
        let vendors: Vec<VendorId> = copies.map(|copy| copy.vendor).collect();
        engine.keeper.learn(&vendors).await?;
        let span = Locator::again(&segment.source, &session, segment.offset).await?;
        match span.place {
            SpanPlace::Chunk { index, row, .. } if index == segment.span.index => segment.row = row,
            _ => return Err(Error::UnexpectedAnswer("where bytes are")),
        }
    }
}

/// Tries the copies in order; a slow one is not waited for before the next is tried.
async fn fetch_once(
    engine: &Engine,
    session: &Arc<Session>,
    segment: &Segment,
    reservation: &Arc<Reservation>,
) -> Result<PooledBuffer, String> {
    let (paths, clock) = (&engine.around.paths, &engine.around.clock);
    let mut copies = order(engine, session, segment);
    let mut running: FuturesUnordered<BoxFuture<'_, Read>> = FuturesUnordered::new();
    let mut started: Vec<(VendorId, Duration)> = Vec::new();
    let mut last = "it has no copies".to_owned();
    let mut hedge = Duration::ZERO;
    engine.hedges.earn();
    loop {
        if running.is_empty() {
            let Some(copy) = copies.pop_front() else {
                return Err(last);
            };
            hedge = paths.hedge_after(copy.vendor);
            started.push((copy.vendor, clock.monotonic()));
            running.push(Box::pin(read_copy(engine, session, segment, copy, reservation)));
        }
        tokio::select! {
            biased;
            Some((vendor, read)) = running.next() => {
                started.retain(|(other, _)| *other != vendor);
                match read {
                    Ok(buffer) => {
                        let now = clock.monotonic();
                        for (slower, began) in started {
                            paths.overtaken(slower, now, now.saturating_sub(began));
                        }
                        return Ok(buffer);
                    }
                    Err(reason) => last = reason,
                }
            }
            () = tokio::time::sleep(hedge), if !copies.is_empty() => {
                if !engine.hedges.may(hedge) {
                    // Dear enough when nothing has come by then.
                    hedge = HEDGE_BETWEEN.1;
                } else if let Some(copy) = copies.pop_front() {
                    engine.around.metrics.hedges.inc();
                    hedge = hedge.max(paths.hedge_after(copy.vendor));
                    started.push((copy.vendor, clock.monotonic()));
                    running.push(Box::pin(read_copy(engine, session, segment, copy, reservation)));
                }
            }
        }
    }
}

/// A read of a copy at a vendor that is over.
type Read = (VendorId, Result<PooledBuffer, String>);

/// Copies by path, best first; those that are damaged or about to go come last. Of paths that are as good, every
/// gateway takes the same for the same bytes: so they come from a medium once, and into the memory of one vendor.
fn order(engine: &Engine, session: &Session, segment: &Segment) -> VecDeque<CopyRow> {
    let row = &segment.row;
    let view = session.view();
    let now = engine.around.clock.monotonic();
    let mut ordered = VecDeque::with_capacity(row.copies.len());
    for wanted in [true, false] {
        let copies = || {
            row.copies
                .iter()
                .filter(|copy| (copy.state == CopyState::Good) == wanted)
        };
        let states: Vec<(VendorId, VendorState)> = copies()
            .map(|copy| (copy.vendor, view.state(copy.vendor)))
            .collect();
        if states.is_empty() {
            continue;
        }
        let mut ranking = engine.around.paths.rank(&states, Way::Read, now);
        let best = ranking.chosen.first().map_or(0, |&(_, score)| score);
        let as_good = ranking
            .chosen
            .iter()
            .take_while(|&&(_, score)| score + AS_GOOD >= best)
            .count();
        ranking.chosen[..as_good].sort_by_cached_key(|&(vendor, _)| turn(segment, vendor));
        let discarded = ranking.discarded.iter().map(|&(vendor, ..)| vendor);
        for vendor in ranking.chosen.iter().map(|&(vendor, _)| vendor).chain(discarded) {
            ordered.extend(copies().find(|copy| copy.vendor == vendor).cloned());
        }
    }
    ordered
}

/// Where `vendor` comes among those as good for a segment: any order, other for the next bytes of the chunk, and the
/// same whenever these are read.
fn turn(segment: &Segment, vendor: VendorId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let chunk = segment.row.chunk;
    for part in [
        chunk.lease.0,
        u64::from(chunk.counter),
        run(segment.span.first),
        vendor.0,
    ] {
        hasher.update(&part.to_be_bytes());
    }
    *hasher.finalize().as_bytes()
}

async fn read_copy(
    engine: &Engine,
    session: &Arc<Session>,
    segment: &Segment,
    copy: CopyRow,
    reservation: &Arc<Reservation>,
) -> Read {
    let vendor = copy.vendor;
    let began = engine.around.clock.monotonic();
    engine.around.paths.began(vendor);
    let _in_flight = Ended { engine, vendor };
    let read = tokio::time::timeout(
        READ_WAIT,
        read_frames(engine, session, segment, &copy, reservation),
    )
    .await;
    let read = read.unwrap_or(Err(ReadFault::Silent));
    let now = engine.around.clock.monotonic();
    if matches!(read, Err(ReadFault::Silent)) {
        let waited = now.saturating_sub(began);
        engine.around.paths.outwaited(vendor, Way::Read, now, waited);
    }
    let outcome = match read {
        Ok(buffer) => {
            let transfer = Transfer {
                way: Way::Read,
                bytes: buffer.bytes.len() as u64,
                took: now.saturating_sub(began),
            };
            engine.around.paths.succeeded(vendor, now, transfer);
            engine.around.metrics.reads.with_label_values(&["good"]).inc();
            return (vendor, Ok(buffer));
        }
        Err(fault) => fault,
    };
    blame(engine, session, segment, &copy, &outcome, now);
    (vendor, Err(format!("{vendor}: {outcome}")))
}

fn blame(
    engine: &Engine,
    session: &Session,
    segment: &Segment,
    copy: &CopyRow,
    fault: &ReadFault,
    now: Duration,
) {
    let copy_id = segment.row.copy_id(copy);
    let (label, path_fault, lost) = match fault {
        ReadFault::Untrue(_) => ("damaged", Some(Fault::Lied), Some(false)),
        ReadFault::Refused(ChunkRefusal::CopyDamaged(_)) => ("damaged", None, Some(false)),
        // A copy that has moved is not in the FAT under this name any more: then the report is passed over.
        ReadFault::Refused(ChunkRefusal::NotFound(_)) => ("not_found", None, Some(true)),
        ReadFault::Refused(ChunkRefusal::Overloaded | ChunkRefusal::NotReady) => {
            ("busy", Some(Fault::Busy), None)
        }
        ReadFault::Refused(_) => ("failed", Some(Fault::Failed), None),
        ReadFault::Silent => ("silent", Some(Fault::Silent), None),
        ReadFault::Unknown => ("unknown_vendor", None, None),
    };
    engine.around.metrics.reads.with_label_values(&[label]).inc();
    tracing::debug!(vendor = %copy.vendor, copy = %copy_id, %fault, "a copy could not be read");
    if let Some(path_fault) = path_fault {
        engine.around.paths.failed(copy.vendor, now, path_fault);
    }
    if let Some(lost) = lost {
        session.damaged(copy.vendor, DamagedCopy { copy: copy_id, lost });
    }
}

/// Why a copy was not read.
#[derive(Debug, thiserror::Error)]
enum ReadFault {
    /// The vendor refused or the link failed.
    #[error(transparent)]
    Refused(#[from] ChunkRefusal),
    /// The vendor sent bytes that are not the copy's.
    #[error(transparent)]
    Untrue(#[from] crate::get::verify::VerifyError),
    /// Nothing came from the vendor in time.
    #[error("nothing came in time")]
    Silent,
    /// The gateway has no grant for the vendor.
    #[error("not a vendor of this cluster any more")]
    Unknown,
}

async fn read_frames(
    engine: &Engine,
    session: &Session,
    segment: &Segment,
    copy: &CopyRow,
    reservation: &Arc<Reservation>,
) -> Result<PooledBuffer, ReadFault> {
    let view = session.view();
    let info = view.vendors.get(&copy.vendor).ok_or(ReadFault::Unknown)?;
    let request = ReadRequest {
        session: session.id,
        grant: info.read_grant.clone(),
        copy: segment.row.copy_id(copy),
        // Chunks have at most 512 frames.
        first_frame: u32::try_from(segment.span.first).unwrap_or(u32::MAX),
        frames: u32::try_from(segment.span.count).unwrap_or(u32::MAX),
        request_id: segment.request_id,
    };
    // Time without a byte, not the time of the whole: a slow path gets on too.
    let patience = engine.around.paths.patience(copy.vendor, Way::Read);
    let asked = engine.around.agents.read(copy.vendor, request);
    let asked = tokio::time::timeout(patience, asked).await;
    let mut stored = asked.map_err(|_| ReadFault::Silent)??;
    let capacity = usize::try_from(segment.span.plaintext_bytes()).unwrap_or(usize::MAX);
    let mut buffer = engine.pool.take(capacity, Some(Arc::clone(reservation)));
    let mut opening = Opening::new(&segment.key, segment.span);
    loop {
        let next = tokio::time::timeout(patience, stored.next()).await;
        let Some(bytes) = next.map_err(|_| ReadFault::Silent)? else {
            break;
        };
        match opening.push(&bytes?, &mut buffer.bytes) {
            Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match opening.finish() {
        Ok(()) => Ok(buffer),
        // It stopped early without a word: as if the link had failed.
        Err(_) => Err(ReadFault::Refused(ChunkRefusal::Cut)),
    }
}

struct Ended<'a> {
    engine: &'a Engine,
    vendor: VendorId,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.engine.around.paths.ended(self.vendor);
    }
}
