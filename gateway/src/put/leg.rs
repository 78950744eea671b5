//! One way out for a chunk: to one vendor, or along a chain of them. What is heard of it, and whether it stands still.

use crate::agent_client::ReportStream;
use crate::chunker::SealedChunk;
use crate::crypt::STORED_FRAME;
use crate::limits::{CHUNK_WAIT, PART_FRAMES, VENDOR_BYTES_PER_S_MIN};
use crate::path::Way;
use crate::session::Surroundings;
use futures::stream::{self, AbortHandle, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ullage_model::ids::{Digest, VendorId};
use ullage_model::wire::chunk::{ChunkHeader, ChunkPart, ChunkRefusal, HopReport};

/// What is heard of a leg, by its number.
pub(super) enum Event {
    /// A hop reported.
    Report(usize, HopReport),
    /// The first hop refused the chunk before it took it.
    Refused(usize, ChunkRefusal),
    /// No further report will come.
    Ended(usize),
}

/// A leg on its way. Dropping it gives the transfer up.
pub(super) struct Leg {
    pub(super) number: usize,
    /// Its hops in their order.
    pub(super) route: Vec<VendorId>,
    /// When something moved last, by the gateway's clock in µs: a part was taken, or a hop reported.
    moved: Arc<AtomicU64>,
    patience: Duration,
    until: Duration,
    abort: AbortHandle,
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Leg {
    /// Sends `chunk` to the first vendor of the header's route.
    pub(super) fn start(
        around: &Arc<Surroundings>,
        number: usize,
        header: ChunkHeader,
        chunk: &SealedChunk,
        digest: Digest,
    ) -> Option<(Self, BoxStream<'static, Event>)> {
        let route: Vec<VendorId> = header.route.iter().map(|hop| hop.vendor).collect();
        let first = *route.first()?;
        let now = around.clock.monotonic();
        let moved = Arc::new(AtomicU64::new(micros(now)));
        let parts = parts(around, chunk, digest, &moved);
        let answer = around.agents.put_chunk(first, header, parts);
        let heard = answer.map(move |answer| events(number, answer)).flatten_stream();
        let (heard, abort) = stream::abortable(heard);
        let patience = |vendor: &VendorId| around.paths.patience(*vendor, Way::Write);
        let seconds = chunk.stored.len() as u64 / VENDOR_BYTES_PER_S_MIN;
        let leg = Self {
            number,
            // The most patient of them: word of a hop passes those before it.
            patience: route.iter().map(patience).max().unwrap_or(CHUNK_WAIT),
            until: now + CHUNK_WAIT + Duration::from_secs(seconds),
            route,
            moved,
            abort,
        };
        Some((leg, heard.boxed()))
    }

    /// Something was heard.
    pub(super) fn heard(&self, now: Duration) {
        self.moved.store(micros(now), Ordering::Relaxed);
    }

    /// When it is given up, unless something moves before.
    pub(super) fn due(&self) -> Duration {
        let moved = Duration::from_micros(self.moved.load(Ordering::Relaxed));
        (moved + self.patience).min(self.until)
    }

    /// The hop before `vendor`; `None` for the first, which the gateway itself sends to.
    pub(super) fn before(&self, vendor: VendorId) -> Option<VendorId> {
        let at = self.route.iter().position(|hop| *hop == vendor)?;
        self.route.get(at.checked_sub(1)?).copied()
    }
}

fn events(leg: usize, answer: Result<ReportStream, ChunkRefusal>) -> BoxStream<'static, Event> {
    match answer {
        Ok(reports) => {
            let end = stream::once(async move { Event::Ended(leg) });
            reports
                .map(move |report| Event::Report(leg, report))
                .chain(end)
                .boxed()
        }
        Err(refusal) => stream::once(async move { Event::Refused(leg, refusal) }).boxed(),
    }
}

/// The stored bytes in messages of whole frames, then their digest. Each that is taken moves the leg.
fn parts(
    around: &Arc<Surroundings>,
    chunk: &SealedChunk,
    digest: Digest,
    moved: &Arc<AtomicU64>,
) -> BoxStream<'static, Result<ChunkPart, ChunkRefusal>> {
    let step = PART_FRAMES * STORED_FRAME;
    let stored = chunk.stored.clone();
    let count = stored.len().div_ceil(step);
    let (around, moved) = (Arc::clone(around), Arc::clone(moved));
    let data = (0..count).map(move |at| {
        let end = stored.len().min((at + 1) * step);
        ChunkPart::Data(stored.slice(at * step..end))
    });
    let taken = data.chain([ChunkPart::End(digest)]).map(move |part| {
        moved.store(micros(around.clock.monotonic()), Ordering::Relaxed);
        if let ChunkPart::Data(bytes) = &part {
            around.metrics.uplink_bytes.inc_by(bytes.len() as u64);
        }
        Ok(part)
    });
    stream::iter(taken).boxed()
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}
