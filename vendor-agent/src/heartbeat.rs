//! The agent's running life: register, report, obey. Commands in replies are carried out by tasks of their own
//! so that reports go on; their outcomes are told until a report that carried them was answered.

use crate::agent::Agent;
use crate::device::record::ClosedState;
use crate::error::AgentError;
use crate::receipts::sign;
use crate::seams::MetadError;
use crate::sync::{Shared, lock};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use ullage_model::codec;
use ullage_model::ids::{CopyId, LeaseId};
use ullage_model::limits::COPIES_PER_BATCH;
use ullage_model::wire::agent::{
    CommandOutcome, DamagedCopy, DeviceReport, DeviceState, ERASED_CONTEXT, ErasedList, Heartbeat,
    HeartbeatReply, RegisterRequest,
};

/// Damaged copies in one report; beyond that the rest is found again.
pub(crate) const DAMAGED_MAX: usize = 1024;
/// Outcomes waiting to be told; beyond that no new erase order is begun.
const OUTCOMES_MAX: usize = 256;
/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Between two reports, however much there is to say.
const REPORT_PAUSE: Duration = Duration::from_millis(2);
/// After a report that was not answered.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// After a close that devices did not take.
const DEVICE_PAUSE: Duration = Duration::from_secs(1);
/// How often leases that are closed but not settled are tried again without being asked.
const SETTLE_PERIOD: Duration = Duration::from_secs(60);

/// Commands received and outcomes to be told.
#[derive(Default)]
pub(crate) struct Outbox {
    inner: Shared<Inner>,
    work: Notify,
    close_work: Notify,
}

/// What a report holds, to be forgotten when it is answered.
struct Told {
    /// Outcomes below this number.
    outcomes: u64,
    damaged: Vec<CopyId>,
    found: Vec<CopyId>,
}

#[derive(Default)]
struct Inner {
    /// (epoch, term) of the newest reply.
    newest: (u16, u64),
    erase: BTreeSet<CopyId>,
    close: BTreeSet<LeaseId>,
    outcomes: Vec<(u64, CommandOutcome)>,
    next: u64,
    heard: bool,
}

impl Agent {
    /// Registers, reports and obeys until `shutdown` turns true, then stops everything.
    ///
    /// # Errors
    /// When the metadata service will not have this agent, or belongs to another cluster.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) -> Result<(), AgentError> {
        let registered = tokio::select! {
            biased;
            registered = self.register() => registered,
            _ = stopped(&mut shutdown) => Ok(()),
        };
        if registered.is_ok() && !*shutdown.borrow() {
            // In this order, always: a simulation is the same each time.
            tokio::select! {
                biased;
                () = self.report_forever() => {}
                () = self.erase_forever() => {}
                () = self.close_forever() => {}
                () = Arc::clone(&self).scrub_forever() => {}
                () = self.report_lost_forever() => {}
                () = self.watch_devices_forever() => {}
                _ = stopped(&mut shutdown) => {}
            }
        }
        let closed = self.shut().await;
        registered.and(closed)
    }

    async fn register(self: &Arc<Self>) -> Result<(), AgentError> {
        loop {
            let agent = Arc::clone(self);
            let devices = self.workers.blocking(move || agent.devices.reports()).await?;
            let request = RegisterRequest {
                public_key: self.public_key(),
                name: self.config.name.clone(),
                characteristics: self.config.characteristics(),
                devices,
            };
            match timeout(ANSWER_TIME, self.metad.register(request)).await {
                Ok(Ok(reply)) => {
                    let agent = Arc::clone(self);
                    self.workers
                        .blocking(move || lock(&agent.data_dir).bind(reply.cluster, reply.vendor))
                        .await??;
                    self.epoch.fetch_max(reply.epoch.0, Ordering::Relaxed);
                    self.signer.set_identity(reply.cluster, reply.vendor);
                    // Set already when the directory was bound before; `bind` has checked that it is the same.
                    let _ = self.identity.set((reply.cluster, reply.vendor));
                    tracing::info!(vendor = %reply.vendor, cluster = %reply.cluster, "registered");
                    return Ok(());
                }
                Ok(Err(MetadError::Refused(reason))) => return Err(AgentError::Metad(reason)),
                Ok(Err(MetadError::Unavailable(reason))) => {
                    tracing::warn!(reason, "cannot register yet");
                }
                Err(_) => tracing::warn!("registering was not answered in time"),
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn report_forever(self: &Arc<Self>) {
        let Ok((_, vendor)) = self.identity() else { return };
        let mut answered = true;
        loop {
            let begun = Instant::now();
            // Looking at devices may wait for their file systems.
            let agent = Arc::clone(self);
            let Ok((told, heartbeat)) = self.workers.blocking(move || agent.heartbeat(vendor)).await else {
                return;
            };
            let pause = match timeout(ANSWER_TIME, self.metad.heartbeat(heartbeat)).await {
                Ok(Ok(reply)) => {
                    answered = true;
                    let interval = Duration::from_millis(reply.interval_ms.clamp(10, 60_000));
                    if self.obey(reply) {
                        self.told(&told);
                    }
                    interval
                }
                Ok(Err(error)) => {
                    if std::mem::take(&mut answered) {
                        tracing::warn!(%error, "metadata service does not answer heartbeats");
                    }
                    RETRY_PAUSE
                }
                Err(_) => RETRY_PAUSE,
            };
            sleep(REPORT_PAUSE).await;
            // A report may be asked for while there is no answer, too; but not faster than retries.
            let asked = async {
                if !answered {
                    sleep(RETRY_PAUSE).await;
                }
                self.report.notified().await;
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(begun + pause) => {}
                () = asked => {}
            }
        }
    }

    /// The next report, and what of the agent's memory is in it.
    fn heartbeat(&self, vendor: ullage_model::ids::VendorId) -> (Told, Heartbeat) {
        let devices = self.devices.reports();
        self.show_room(&devices);
        let damaged: Vec<DamagedCopy> = lock(&self.damaged)
            .iter()
            .map(|(copy, lost)| DamagedCopy {
                copy: *copy,
                lost: *lost,
            })
            .collect();
        let found: Vec<CopyId> = lock(&self.found).iter().take(COPIES_PER_BATCH).copied().collect();
        let inner = lock(&self.outbox.inner);
        let told = Told {
            outcomes: inner.next,
            damaged: damaged.iter().map(|damaged| damaged.copy).collect(),
            found: found.clone(),
        };
        let outcomes = inner
            .outcomes
            .iter()
            .map(|(_, outcome)| outcome.clone())
            .collect();
        drop(inner);
        let in_flight_bytes = self.intake.in_use();
        (
            told,
            Heartbeat {
                vendor,
                devices,
                in_flight_bytes,
                outcomes,
                damaged,
                found,
                directory: self.others.revision(),
            },
        )
    }

    fn show_room(&self, devices: &[DeviceReport]) {
        for report in devices {
            let device = report.device.0.to_string();
            let used = self.fat.live_bytes(report.device);
            self.metrics
                .room_bytes
                .with_label_values(&[&device, "used"])
                .set(used.cast_signed());
            self.metrics
                .room_bytes
                .with_label_values(&[&device, "free"])
                .set(report.free.cast_signed());
            if report.state != DeviceState::Healthy {
                tracing::debug!(device, state = ?report.state, "device does not take pieces");
            }
        }
    }

    fn told(&self, told: &Told) {
        lock(&self.outbox.inner)
            .outcomes
            .retain(|(number, _)| *number >= told.outcomes);
        let mut remembered = lock(&self.damaged);
        for copy in &told.damaged {
            remembered.remove(copy);
        }
        drop(remembered);
        let mut found = lock(&self.found);
        for copy in &told.found {
            found.remove(copy);
        }
        drop(found);
        self.outbox.work.notify_one();
    }

    /// Takes a reply in. Returns false if it is older than another one already heard: then it counts for
    /// nothing.
    fn obey(&self, reply: HeartbeatReply) -> bool {
        let mut inner = lock(&self.outbox.inner);
        if (reply.epoch.0, reply.term) < inner.newest {
            tracing::warn!(
                epoch = reply.epoch.0,
                term = reply.term,
                "words of an older leader are refused"
            );
            return false;
        }
        inner.newest = (reply.epoch.0, reply.term);
        self.epoch.fetch_max(reply.epoch.0, Ordering::Relaxed);
        self.time.learn(reply.cluster_time);
        self.grants.set_issuers(reply.issuers);
        self.others.set_revoked(reply.revoked);
        if let Some(directory) = reply.directory {
            self.peers.learn(&directory.vendors);
            self.metad.learn(&directory.metad);
            self.others.set_directory(directory);
        }
        self.leases.learn(&ClosedState::from(reply.closed));
        self.leases.close(&reply.close);
        inner.close.extend(reply.close.into_iter().take(COPIES_PER_BATCH));
        inner.erase.extend(reply.erase.into_iter().take(COPIES_PER_BATCH));
        inner.heard = true;
        let (erase, close) = (inner.erase.len(), inner.close.len());
        self.metrics
            .erase_backlog
            .set(i64::try_from(erase).unwrap_or(i64::MAX));
        drop(inner);
        if erase > 0 {
            self.outbox.work.notify_one();
        }
        if close > 0 || !self.is_ready() {
            self.outbox.close_work.notify_one();
        }
        true
    }

    async fn erase_forever(self: &Arc<Self>) {
        loop {
            let batch: Vec<CopyId> = {
                let inner = lock(&self.outbox.inner);
                if inner.outcomes.len() < OUTCOMES_MAX {
                    inner.erase.iter().take(COPIES_PER_BATCH).copied().collect()
                } else {
                    Vec::new()
                }
            };
            if batch.is_empty() {
                self.outbox.work.notified().await;
                continue;
            }
            if let Err(error) = self.erase(batch.clone()).await {
                // The order stays; it is tried again, and repeated by the metadata service anyhow.
                tracing::warn!(%error, "cannot erase copies yet");
                sleep(RETRY_PAUSE).await;
                continue;
            }
            let Ok((cluster, vendor)) = self.identity() else {
                continue;
            };
            let list = ErasedList {
                cluster,
                vendor,
                copies: batch,
            };
            let signature = sign(&self.key, ERASED_CONTEXT, &codec::encode(&list));
            let mut inner = lock(&self.outbox.inner);
            for copy in &list.copies {
                inner.erase.remove(copy);
            }
            self.metrics
                .erase_backlog
                .set(i64::try_from(inner.erase.len()).unwrap_or(i64::MAX));
            push_outcome(
                &mut inner,
                CommandOutcome::Erased {
                    copies: list.copies,
                    signature,
                },
            );
            drop(inner);
            self.report.notify_one();
        }
    }

    async fn close_forever(self: &Arc<Self>) {
        let mut was_of_devices = false;
        loop {
            let ordered: Vec<LeaseId> = {
                let inner = lock(&self.outbox.inner);
                if inner.heard {
                    inner.close.iter().copied().collect()
                } else {
                    Vec::new()
                }
            };
            let heard = lock(&self.outbox.inner).heard;
            if heard && let Err(error) = self.close_leases(&ordered).await {
                let is_of_devices = error.is_of_devices();
                if !(is_of_devices && was_of_devices) {
                    tracing::warn!(%error, "cannot settle closed leases yet");
                }
                was_of_devices = is_of_devices;
                sleep(if is_of_devices { DEVICE_PAUSE } else { RETRY_PAUSE }).await;
                continue;
            }
            was_of_devices = false;
            tokio::select! {
                biased;
                () = self.outbox.close_work.notified() => {}
                () = sleep(SETTLE_PERIOD) => {}
            }
        }
    }

    /// Persists what is closed, then settles the leases ordered closed and every other one known to be
    /// closed. When that has succeeded once, this agent's copies are reconciled and it may serve. It may serve
    /// as well when only devices keep it from that (they are full, failed or away): what is closed is known in
    /// memory, no chunk is taken under it, and no close is confirmed before it is persisted.
    async fn close_leases(self: &Arc<Self>, ordered: &[LeaseId]) -> Result<(), AgentError> {
        let settled = self.settle_known(!ordered.is_empty()).await;
        let serves = settled.as_ref().err().is_none_or(AgentError::is_of_devices);
        if serves && !self.stopping.load(Ordering::Acquire) && !self.ready.swap(true, Ordering::AcqRel) {
            tracing::info!(settled = settled.is_ok(), "ready");
        }
        settled?;
        let mut full = Ok(());
        for &lease in ordered {
            // Undecided copies keep the lease from being confirmed; the order comes again.
            let settled = match self.settle_lease(lease).await {
                Err(error) if error.is_full() => {
                    full = Err(error);
                    continue;
                }
                settled => settled?,
            };
            let mut inner = lock(&self.outbox.inner);
            inner.close.remove(&lease);
            if settled {
                push_outcome(&mut inner, CommandOutcome::LeaseClosed { lease });
            }
            drop(inner);
            self.report.notify_one();
        }
        full
    }

    /// Persists what is closed and settles every lease known to be closed. One that lacks room does not hold
    /// up the others.
    async fn settle_known(self: &Arc<Self>, any_ordered: bool) -> Result<(), AgentError> {
        let known: Vec<LeaseId> = self
            .fat
            .unsettled()
            .into_iter()
            .filter(|lease| self.leases.is_closed(*lease))
            .collect();
        if any_ordered || !known.is_empty() {
            self.persist_closed().await?;
        }
        let mut full = Ok(());
        for lease in known {
            match self.settle_lease(lease).await {
                Err(error) if error.is_full() => full = Err(error),
                settled => {
                    settled?;
                }
            }
        }
        full
    }
}

fn push_outcome(inner: &mut Inner, outcome: CommandOutcome) {
    if let CommandOutcome::LeaseClosed { .. } = outcome
        && inner.outcomes.iter().any(|(_, known)| *known == outcome)
    {
        return;
    }
    let number = inner.next;
    inner.next += 1;
    inner.outcomes.push((number, outcome));
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone wants the agent stopped, too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
