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

/// What became of a hop's copy.
enum Fate {
    Waiting,
    Stored,
    /// It did not store, for a reason of its own.
    Failed,
    /// It did not get what was sent, or what it said did not come back.
    Lost(String),
}

/// A leg on its way. Dropping it gives the transfer up.
pub(super) struct Leg {
    pub(super) number: usize,
    /// Its hops in their order.
    hops: Vec<(VendorId, Fate)>,
    named: bool,
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
            hops: route.into_iter().map(|vendor| (vendor, Fate::Waiting)).collect(),
            named: false,
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

    /// Whether `vendor` gets the chunk from another hop, not from the gateway itself.
    pub(super) fn is_relayed(&self, vendor: VendorId) -> bool {
        self.hops.first().is_some_and(|(first, _)| *first != vendor)
    }

    /// A hop has stored its copy.
    pub(super) fn stored(&mut self, vendor: VendorId) {
        self.set(vendor, Fate::Stored);
    }

    /// A hop has not stored its copy, for a reason of its own.
    pub(super) fn failed(&mut self, vendor: VendorId) {
        self.set(vendor, Fate::Failed);
    }

    /// A hop's copy was lost on the way there, or its word on the way back.
    pub(super) fn lost(&mut self, vendor: VendorId, why: &dyn std::fmt::Display) {
        self.set(vendor, Fate::Lost(why.to_string()));
    }

    /// The link that broke, told once: before the first hop that did not get its copy, if all before it have theirs.
    /// What is lost further on is a consequence.
    pub(super) fn broken_link(&mut self) -> Option<(VendorId, VendorId, String)> {
        let at = self
            .hops
            .iter()
            .position(|(_, fate)| !matches!(fate, Fate::Stored))?;
        let (from, _) = self.hops.get(at.checked_sub(1)?)?;
        match &self.hops[at] {
            (to, Fate::Lost(why)) if !self.named => {
                self.named = true;
                Some((*from, *to, why.clone()))
            }
            _ => None,
        }
    }

    fn set(&mut self, vendor: VendorId, fate: Fate) {
        if let Some((_, known)) = self.hops.iter_mut().find(|(hop, _)| *hop == vendor) {
            *known = fate;
        }
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
