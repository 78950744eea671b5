//! Third step: a chunk goes out to its vendors, along a chain or directly, and every copy that does not get its
//! receipt goes to the next best vendor, within bounds.

use crate::agent_client::ReportStream;
use crate::chunker::SealedChunk;
use crate::crypt::STORED_FRAME;
use crate::engine::Engine;
use crate::error::Error;
use crate::limits::{
    CHUNK_RESTARTS, CHUNK_WAIT, PART_FRAMES, RESENDS_PER_CHUNK, RESTART_PAUSE, VENDOR_BYTES_PER_S_MIN,
};
use crate::path::{Fault, Transfer, Way};
use crate::put::plan::Plan;
use crate::put::probe::{Probed, Wanted, place, probe};
use crate::put::validate::{SentCopy, Validated, ValidatedCopy, validate};
use crate::rooms::Placement;
use bytes::Bytes;
use futures::stream::{self, BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use std::time::Duration;
use ullage_model::fat::rows::VendorState;
use ullage_model::ids::{ChunkId, CopyId, Digest, VendorId};
use ullage_model::wire::chunk::{
    ChunkHeader, ChunkPart, ChunkRefusal, Hop, HopReport, PublicKey, SignedReceipts,
};

/// Stores all copies of `chunk`.
///
/// # Errors
/// When the class has no room, or vendors failed more often than is tried.
pub async fn send(engine: &Engine, plan: &Plan, chunk: &SealedChunk) -> Result<Validated, Error> {
    let digest = chunk.digest();
    let mut restarts = 0;
    loop {
        let probed = match probe(engine, plan, chunk.plaintext_bytes).await {
            Ok(probed) => probed,
            Err(error) => {
                engine.around.metrics.chunks_failed.inc();
                return Err(error);
            }
        };
        let mut sending = Sending::new(engine, plan, chunk, digest, probed.chunk);
        let error = match sending.run(probed, restarts > 0).await {
            Ok(validated) => {
                engine.around.metrics.chunks_stored.inc();
                return Ok(validated);
            }
            Err(error) => error,
        };
        // A new id: what the vendors tried under the old one, whose copies may yet be written, does not matter.
        restarts += 1;
        if restarts > CHUNK_RESTARTS || !matches!(error, Error::NotStored(_)) {
            engine.around.metrics.chunks_failed.inc();
            return Err(error);
        }
        tracing::debug!(blob = %plan.blob, index = chunk.index, %error, "sending a chunk again under a new id");
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

/// One chunk id on its way.
struct Sending<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    chunk: &'a SealedChunk,
    digest: Digest,
    id: ChunkId,
    waiting: Vec<Waiting>,
    done: Vec<ValidatedCopy>,
    tried: Vec<VendorId>,
    legs: SelectAll<BoxStream<'static, Event>>,
    resends: usize,
    last_fault: String,
}

/// A copy that has no receipt yet.
struct Waiting {
    placement: Placement,
    since: Duration,
    until: tokio::time::Instant,
    leg: usize,
    first: bool,
    _in_flight: InFlight,
}

enum Event {
    /// A hop reported.
    Report(HopReport),
    /// The first hop of a leg refused the chunk before it took it.
    Refused(usize, ChunkRefusal),
    /// No further report will come from a leg.
    Ended(usize),
}

impl<'a> Sending<'a> {
    fn new(engine: &'a Engine, plan: &'a Plan, chunk: &'a SealedChunk, digest: Digest, id: ChunkId) -> Self {
        Self {
            engine,
            plan,
            chunk,
            digest,
            id,
            waiting: Vec::new(),
            done: Vec::new(),
            tried: Vec::new(),
            legs: SelectAll::new(),
            resends: 0,
            last_fault: String::new(),
        }
    }

    async fn run(&mut self, probed: Probed, direct: bool) -> Result<Validated, Error> {
        if probed.fan_out || direct {
            for placement in probed.placements {
                self.start_leg(vec![placement]);
            }
        } else {
            self.start_leg(probed.placements);
        }
        while self.done.len() < self.plan.class.copies as usize {
            let until = self.waiting.iter().map(|it| it.until).min();
            let event = match until {
                Some(until) => tokio::time::timeout_at(until, self.legs.next()).await,
                None => Ok(None),
            };
            match event {
                Ok(Some(event)) => self.take(event),
                Ok(None) => self.fail_all_waiting("its reports ended"),
                Err(_) => self.fail_overdue(),
            }
            self.replace_missing().await?;
        }
        let done = std::mem::take(&mut self.done);
        Validated::new(
            self.id,
            self.chunk.plaintext_bytes,
            self.digest,
            done,
            self.plan.class.copies,
        )
        .ok_or_else(|| Error::NotStored("too few copies".to_owned()))
    }

    fn start_leg(&mut self, placements: Vec<Placement>) {
        // Grows with every leg.
        let leg = self.tried.len();
        let now = self.engine.around.clock.monotonic();
        let seconds = self.chunk.stored.len() as u64 / VENDOR_BYTES_PER_S_MIN;
        let until = tokio::time::Instant::now() + CHUNK_WAIT + Duration::from_secs(seconds);
        let route: Vec<Hop> = placements
            .iter()
            .map(|placement| Hop {
                vendor: placement.vendor,
                lease: placement.lease,
                grant: placement.grant.clone(),
            })
            .collect();
        let Some(first) = route.first().map(|hop| hop.vendor) else {
            return;
        };
        let header = ChunkHeader {
            owner: self.plan.session.id,
            chunk: self.id,
            route,
            pieces: self.plan.class.pieces,
            plaintext_bytes: self.chunk.plaintext_bytes,
            request_id: self.plan.request_id,
        };
        for mut placement in placements {
            placement.sent(now);
            self.tried.push(placement.vendor);
            self.waiting.push(Waiting {
                first: placement.vendor == first,
                _in_flight: InFlight::new(self.engine, placement.vendor),
                placement,
                since: now,
                until,
                leg,
            });
        }
        let parts = parts(self.chunk.stored.clone(), self.digest);
        let answer = self.engine.agents.put_chunk(first, header, parts);
        let events = answer.map(move |answer| events(leg, answer)).flatten_stream();
        self.legs.push(events.boxed());
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Report(HopReport::Stored { vendor, receipts }) => self.receipt(vendor, &receipts),
            Event::Report(HopReport::Failed {
                vendor,
                from,
                refusal,
            }) => {
                let Some(at) = self.position(vendor) else { return };
                if from.is_some() {
                    self.engine.around.paths.relay_failed(vendor, self.now());
                }
                let waiting = self.waiting.swap_remove(at);
                self.fail(waiting, from.is_none(), &refusal);
            }
            Event::Refused(leg, refusal) => self.fail_leg(leg, &refusal),
            Event::Ended(leg) => self.fail_leg(leg, &ChunkRefusal::Cut),
        }
    }

    fn receipt(&mut self, vendor: VendorId, receipts: &SignedReceipts) {
        // One that comes after its vendor was given up, or for somebody else, changes nothing.
        let Some(at) = self.position(vendor) else { return };
        let view = self.plan.session.view();
        let public_key = view
            .vendors
            .get(&vendor)
            .map_or(PublicKey::default(), |info| info.row.public_key);
        let Waiting {
            placement,
            since,
            _in_flight,
            ..
        } = self.waiting.swap_remove(at);
        let sent = SentCopy {
            cluster: self.plan.session.cluster,
            session: self.plan.session.id,
            vendor,
            public_key: &public_key,
            copy: CopyId {
                chunk: self.id,
                lease: placement.lease,
            },
            digest: self.digest,
            plaintext_bytes: self.chunk.plaintext_bytes,
            pieces: self.plan.class.pieces,
        };
        let now = self.now();
        let around = &self.engine.around;
        match validate(&self.engine.verified, receipts, &sent, placement) {
            Ok(copy) => {
                let bytes = self.chunk.stored.len() as u64;
                around.metrics.sent_bytes.inc_by(bytes);
                let took = now.saturating_sub(since);
                around.paths.succeeded(
                    vendor,
                    now,
                    Transfer {
                        way: Way::Write,
                        bytes,
                        took,
                    },
                );
                self.done.push(copy);
            }
            Err(fault) => {
                tracing::warn!(%vendor, copy = %sent.copy, %fault, "a vendor's receipt does not count");
                around.metrics.receipts_refused.inc();
                around.metrics.copies_resent.with_label_values(&["receipt"]).inc();
                around.paths.failed(vendor, now, Fault::Lied);
                self.last_fault = format!("{vendor}: {fault}");
            }
        }
    }

    /// The first hop of a leg is to blame for what became of the leg; those behind it may not have been served.
    fn fail_leg(&mut self, leg: usize, refusal: &ChunkRefusal) {
        while let Some(at) = self.waiting.iter().position(|it| it.leg == leg) {
            let waiting = self.waiting.swap_remove(at);
            let blamed = waiting.first;
            self.fail(waiting, blamed, refusal);
        }
    }

    fn fail_all_waiting(&mut self, why: &str) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.fail(waiting, true, &ChunkRefusal::Link(why.to_owned()));
        }
    }

    fn fail_overdue(&mut self) {
        let now = tokio::time::Instant::now();
        while let Some(at) = self.waiting.iter().position(|it| it.until <= now) {
            let waiting = self.waiting.swap_remove(at);
            self.fail(
                waiting,
                true,
                &ChunkRefusal::Link("no receipt in time".to_owned()),
            );
        }
    }

    fn fail(&mut self, mut waiting: Waiting, blamed: bool, refusal: &ChunkRefusal) {
        let vendor = waiting.placement.vendor;
        let reason = reason(refusal);
        tracing::debug!(%vendor, chunk = %self.id, %refusal, blamed, "a copy was not stored");
        self.engine
            .around
            .metrics
            .copies_resent
            .with_label_values(&[reason])
            .inc();
        self.last_fault = format!("{vendor}: {refusal}");
        match refusal {
            ChunkRefusal::Full { .. } | ChunkRefusal::Grant(_) | ChunkRefusal::LeaseClosed(_) if blamed => {
                waiting.placement.exhausted();
            }
            // Refused before a byte was taken.
            ChunkRefusal::Overloaded | ChunkRefusal::NotReady if blamed => waiting.placement.refused(),
            _ => {}
        }
        if blamed {
            let fault = match refusal {
                ChunkRefusal::Overloaded | ChunkRefusal::NotReady | ChunkRefusal::Full { .. } => Fault::Busy,
                ChunkRefusal::LeaseClosed(_) => Fault::Busy,
                _ => Fault::Failed,
            };
            self.engine.around.paths.failed(vendor, self.now(), fault);
        }
    }

    /// Sends the copies that are neither stored nor on their way to the next best vendors, directly.
    async fn replace_missing(&mut self) -> Result<(), Error> {
        let missing = (self.plan.class.copies as usize).saturating_sub(self.done.len() + self.waiting.len());
        if missing == 0 {
            return Ok(());
        }
        self.resends += missing;
        let others = self.plan.session.view();
        let untried =
            |vendor: &VendorId| !self.tried.contains(vendor) && others.state(*vendor) != VendorState::Dead;
        if self.resends > RESENDS_PER_CHUNK || !others.vendors.keys().any(untried) {
            return Err(Error::NotStored(std::mem::take(&mut self.last_fault)));
        }
        let kept: Vec<VendorId> = self
            .done
            .iter()
            .map(ValidatedCopy::vendor)
            .chain(self.waiting.iter().map(|it| it.placement.vendor))
            .collect();
        let wanted = Wanted {
            copies: missing,
            tried: &self.tried,
            kept: &kept,
        };
        let placements = place(self.engine, self.plan, self.chunk.plaintext_bytes, wanted)
            .await
            .map_err(|error| {
                match error {
                    // There is room, but not where it could help: the whole chunk may yet be placed.
                    Error::NoRoom(_) | Error::NotStored(_) => Error::NotStored(self.last_fault.clone()),
                    error => error,
                }
            })?;
        for placement in placements {
            self.start_leg(vec![placement]);
        }
        Ok(())
    }

    fn position(&self, vendor: VendorId) -> Option<usize> {
        self.waiting.iter().position(|it| it.placement.vendor == vendor)
    }

    fn now(&self) -> Duration {
        self.engine.around.clock.monotonic()
    }
}

fn events(leg: usize, answer: Result<ReportStream, ChunkRefusal>) -> BoxStream<'static, Event> {
    match answer {
        Ok(reports) => {
            let end = stream::once(async move { Event::Ended(leg) });
            reports.map(Event::Report).chain(end).boxed()
        }
        Err(refusal) => stream::once(async move { Event::Refused(leg, refusal) }).boxed(),
    }
}

/// The stored bytes in messages of whole frames, then their digest.
fn parts(stored: Bytes, digest: Digest) -> BoxStream<'static, Result<ChunkPart, ChunkRefusal>> {
    let step = PART_FRAMES * STORED_FRAME;
    let count = stored.len().div_ceil(step);
    let data = (0..count).map(move |at| {
        let end = stored.len().min((at + 1) * step);
        Ok(ChunkPart::Data(stored.slice(at * step..end)))
    });
    stream::iter(data.chain([Ok(ChunkPart::End(digest))])).boxed()
}

fn reason(refusal: &ChunkRefusal) -> &'static str {
    match refusal {
        ChunkRefusal::Grant(_) => "grant",
        ChunkRefusal::LeaseClosed(_) => "lease_closed",
        ChunkRefusal::Header(_) => "header",
        ChunkRefusal::Damaged => "damaged",
        ChunkRefusal::Full { .. } => "full",
        ChunkRefusal::Devices(_) => "devices",
        ChunkRefusal::NotFound(_) | ChunkRefusal::CopyDamaged(_) => "copy",
        ChunkRefusal::Overloaded => "overloaded",
        ChunkRefusal::NotReady => "not_ready",
        ChunkRefusal::Cut => "cut",
        ChunkRefusal::Link(_) => "link",
    }
}

/// Counts a transfer in flight to a vendor.
struct InFlight {
    around: std::sync::Arc<crate::session::Surroundings>,
    vendor: VendorId,
}

impl InFlight {
    fn new(engine: &Engine, vendor: VendorId) -> Self {
        engine.around.paths.began(vendor);
        Self {
            around: std::sync::Arc::clone(&engine.around),
            vendor,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.around.paths.ended(self.vendor);
    }
}
