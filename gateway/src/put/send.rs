//! Third step: a chunk goes out to its vendors, along a chain or directly, and every copy that does not get its
//! receipt goes to the next best vendor, within bounds. A copy that was lost between two vendors is first sent again,
//! directly, under its own name: a vendor that has it already answers the same.

use crate::chunker::SealedChunk;
use crate::engine::Engine;
use crate::error::Error;
use crate::limits::{CHUNK_RESTARTS, RESENDS_PER_CHUNK, RESTART_PAUSE};
use crate::path::{Fault, Transfer, Way};
use crate::put::leg::{Event, Leg};
use crate::put::plan::Plan;
use crate::put::probe::{Probed, Wanted, place, probe};
use crate::put::validate::{ReceiptFault, SentCopy, Validated, ValidatedCopy, validate};
use crate::rooms::Placement;
use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll};
use std::time::Duration;
use ullage_model::fat::rows::VendorState;
use ullage_model::ids::{ChunkId, CopyId, Digest, VendorId};
use ullage_model::wire::chunk::{ChunkHeader, ChunkRefusal, Hop, HopReport, SignedReceipts};

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
    legs: Vec<Leg>,
    legs_started: usize,
    events: SelectAll<BoxStream<'static, Event>>,
    resends: usize,
    last_fault: String,
}

/// A copy that has no receipt yet.
struct Waiting {
    placement: Placement,
    since: Duration,
    leg: usize,
    /// Another hop passes it on.
    relayed: bool,
    _in_flight: InFlight,
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
            legs: Vec::new(),
            legs_started: 0,
            events: SelectAll::new(),
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
            let due = self.legs.iter().map(Leg::due).min();
            let event = match due {
                Some(due) => {
                    let left = due.saturating_sub(self.now());
                    tokio::time::timeout(left, self.events.next()).await
                }
                None => Ok(None),
            };
            match event {
                Ok(Some(event)) => self.take(event),
                Ok(None) => self.fail_all_waiting("its reports ended"),
                Err(_) => self.fail_overdue(),
            }
            self.legs
                .retain(|leg| self.waiting.iter().any(|it| it.leg == leg.number));
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
        let number = self.legs_started;
        self.legs_started += 1;
        let hop = |placement: &Placement| Hop {
            vendor: placement.vendor,
            lease: placement.lease,
            grant: placement.grant.clone(),
        };
        let header = ChunkHeader {
            owner: self.plan.session.id,
            chunk: self.id,
            route: placements.iter().map(hop).collect(),
            pieces: self.plan.class.pieces,
            plaintext_bytes: self.chunk.plaintext_bytes,
            request_id: self.plan.request_id,
        };
        let around = &self.engine.around;
        let Some((leg, events)) = Leg::start(around, number, header, self.chunk, self.digest) else {
            return;
        };
        let now = self.now();
        for mut placement in placements {
            placement.sent(now);
            if !self.tried.contains(&placement.vendor) {
                self.tried.push(placement.vendor);
            }
            self.waiting.push(Waiting {
                relayed: leg.is_relayed(placement.vendor),
                _in_flight: InFlight::new(self.engine, placement.vendor),
                placement,
                since: now,
                leg: number,
            });
        }
        self.legs.push(leg);
        self.events.push(events);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Report(leg, report) => {
                if let Some(leg) = self.legs.iter().find(|it| it.number == leg) {
                    leg.heard(self.now());
                }
                match report {
                    HopReport::Stored { vendor, receipts } => self.receipt(vendor, &receipts),
                    HopReport::Failed {
                        vendor,
                        from,
                        refusal,
                    } => self.failed(leg, vendor, from, &refusal),
                }
            }
            Event::Refused(leg, refusal) => self.fail_leg(leg, &refusal),
            Event::Ended(leg) => self.fail_leg(leg, &ChunkRefusal::Cut),
        }
    }

    /// A hop says that it, or the one behind it, has not stored its copy.
    fn failed(&mut self, leg: usize, vendor: VendorId, from: Option<VendorId>, refusal: &ChunkRefusal) {
        // A leg that was given up may still speak of copies that are on another one now.
        let of_leg = |it: &Waiting| it.leg == leg && it.placement.vendor == vendor;
        let Some(at) = self.waiting.iter().position(of_leg) else {
            return;
        };
        let waiting = self.waiting.remove(at);
        let came_wrong = matches!(
            refusal,
            ChunkRefusal::Damaged
                | ChunkRefusal::Cut
                | ChunkRefusal::Header(_)
                | ChunkRefusal::Grant(_)
                | ChunkRefusal::Link(_)
        );
        if waiting.relayed && (from.is_some() || came_wrong) {
            self.send_again(waiting, refusal);
        } else {
            self.fail(waiting, from.is_none(), refusal);
        }
    }

    /// A copy did not come from one vendor to the next as it should: whoever of them is to blame, it is sent again,
    /// directly.
    fn send_again(&mut self, waiting: Waiting, why: &dyn std::fmt::Display) {
        self.tell_leg(waiting.leg, |leg| leg.lost(waiting.placement.vendor, why));
        let metrics = &self.engine.around.metrics;
        metrics.copies_resent.with_label_values(&["relay"]).inc();
        self.start_leg(vec![waiting.placement]);
    }

    /// Something became of a hop. When that shows which link of a chain broke, chains do without it for a while.
    fn tell_leg(&mut self, leg: usize, tell: impl FnOnce(&mut Leg)) {
        let Some(leg) = self.legs.iter_mut().find(|it| it.number == leg) else {
            return;
        };
        tell(leg);
        let Some((from, to, reason)) = leg.broken_link() else {
            return;
        };
        tracing::warn!(%from, %to, chunk = %self.id, reason, "a chunk did not come through between vendors");
        let around = &self.engine.around;
        let link = [from.0.to_string(), to.0.to_string()];
        around
            .metrics
            .links_failed
            .with_label_values(&[&link[0], &link[1]])
            .inc();
        for vendor in [from, to] {
            around.paths.relay_failed(vendor, self.now());
        }
    }

    fn receipt(&mut self, vendor: VendorId, receipts: &SignedReceipts) {
        // One that comes after its vendor was given up, or for somebody else, changes nothing.
        let Some(at) = self.position(vendor) else { return };
        let view = self.plan.session.view();
        let waiting = self.waiting.remove(at);
        let Some(info) = view.vendors.get(&vendor) else {
            // Nobody's key: nothing can be signed with it.
            return self.receipt_refused(waiting, ReceiptFault::Signature);
        };
        let sent = SentCopy {
            cluster: self.plan.session.cluster,
            session: self.plan.session.id,
            vendor,
            public_key: &info.row.public_key,
            copy: CopyId {
                chunk: self.id,
                lease: waiting.placement.lease,
            },
            digest: self.digest,
            plaintext_bytes: self.chunk.plaintext_bytes,
            pieces: self.plan.class.pieces,
        };
        match validate(&self.engine.verified, receipts, &sent) {
            Ok(receipt) => {
                self.stored(vendor, &waiting);
                self.tell_leg(waiting.leg, |leg| leg.stored(vendor));
                self.done.push(receipt.of(waiting.placement));
            }
            Err(fault) => self.receipt_refused(waiting, fault),
        }
    }

    fn stored(&self, vendor: VendorId, waiting: &Waiting) {
        let (around, now) = (&self.engine.around, self.now());
        let bytes = self.chunk.stored.len() as u64;
        around.metrics.sent_bytes.inc_by(bytes);
        let took = now.saturating_sub(waiting.since);
        if waiting.relayed {
            around.paths.succeeded_by_relay(vendor, now, took);
            return;
        }
        let way = Way::Write;
        around.paths.succeeded(vendor, now, Transfer { way, bytes, took });
    }

    fn receipt_refused(&mut self, waiting: Waiting, fault: ReceiptFault) {
        let vendor = waiting.placement.vendor;
        let metrics = &self.engine.around.metrics;
        tracing::warn!(%vendor, chunk = %self.id, %fault, "a vendor's receipt does not count");
        metrics.receipts_refused.inc();
        self.last_fault = format!("{vendor}: {fault}");
        if waiting.relayed && matches!(fault, ReceiptFault::Signature | ReceiptFault::Layout(_)) {
            // A hop before it may have changed its receipt.
            self.send_again(waiting, &fault);
            return;
        }
        metrics.copies_resent.with_label_values(&["receipt"]).inc();
        if waiting.relayed {
            // It has signed for what it got, and a hop before it may have changed that. It holds something else under
            // the copy's name now, so the copy goes elsewhere or gets another name.
            self.tell_leg(waiting.leg, |leg| leg.lost(vendor, &fault));
        } else {
            self.engine.around.paths.failed(vendor, self.now(), Fault::Lied);
        }
    }

    /// A leg is over. The first hop is to blame, unless it has stored; what it should have passed on is sent again.
    fn fail_leg(&mut self, leg: usize, refusal: &ChunkRefusal) {
        while let Some(at) = self.waiting.iter().position(|it| it.leg == leg) {
            let waiting = self.waiting.remove(at);
            if waiting.relayed {
                self.send_again(waiting, refusal);
            } else {
                self.fail(waiting, true, refusal);
            }
        }
        self.legs.retain(|it| it.number != leg);
    }

    fn fail_all_waiting(&mut self, why: &str) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.fail(waiting, true, &ChunkRefusal::Link(why.to_owned()));
        }
    }

    /// Legs that stand still, or have taken all the time there is: the first hop that was not heard of is given up,
    /// what should have passed it goes on directly.
    fn fail_overdue(&mut self) {
        let now = self.now();
        let overdue: Vec<usize> = self
            .legs
            .iter()
            .filter(|leg| leg.due() <= now)
            .map(|leg| leg.number)
            .collect();
        let silent = ChunkRefusal::Link("nothing was heard of it in time".to_owned());
        for leg in overdue {
            if let Some(at) = self.waiting.iter().position(|it| it.leg == leg) {
                let waiting = self.waiting.remove(at);
                let (vendor, waited) = (waiting.placement.vendor, now.saturating_sub(waiting.since));
                let paths = &self.engine.around.paths;
                paths.outwaited(vendor, Way::Write, now, waited);
                paths.failed(vendor, now, Fault::Silent);
                if waiting.relayed {
                    // Not heard of may also be: not told of.
                    self.tell_leg(leg, |leg| leg.lost(vendor, &silent));
                }
                self.fail(waiting, false, &silent);
            }
            self.fail_leg(leg, &silent);
        }
    }

    fn fail(&mut self, mut waiting: Waiting, blamed: bool, refusal: &ChunkRefusal) {
        let vendor = waiting.placement.vendor;
        if blamed {
            self.tell_leg(waiting.leg, |leg| leg.failed(vendor));
        }
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
        let untried = |vendor: &VendorId| {
            !self.tried.contains(vendor)
                && !matches!(others.state(*vendor), VendorState::Dead | VendorState::Revoked)
        };
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
