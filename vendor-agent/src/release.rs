//! Giving copies up: erase orders, and closing leases (refuse, wait, list, judge, erase or keep). When these
//! run, and how their outcomes are told, is the heartbeat's.

use crate::agent::Agent;
use crate::device::record::{ErasedItem, RecordBody};
use crate::device::{DeviceError, Wait};
use crate::error::AgentError;
use crate::lane::Job;
use crate::local_fat::{Applied, CopyEntry};
use crate::sync::lock;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;
use ullage_model::ids::{CopyId, DeviceId, LeaseId};
use ullage_model::limits::COPIES_PER_BATCH;
use ullage_model::wire::agent::{JudgeRequest, Judgement};

/// Looks at what is to be erased before it is given up for now: each but the last follows tombstones.
const ERASE_LOOKS: u32 = 8;

impl Agent {
    /// Erases copies, durably. Idempotent: a copy that is not here counts as erased.
    ///
    /// # Errors
    /// When a tombstone cannot be written; some of the copies may be erased then.
    pub(crate) async fn erase(self: &Arc<Self>, copies: Vec<CopyId>) -> Result<(), AgentError> {
        // Compaction may move a piece between the look and its tombstone, which kills it where it lay: only
        // another look tells.
        for look in 0..ERASE_LOOKS {
            let entries = self.present(copies.clone()).await?;
            if look == 0 {
                self.metrics.erased.inc_by(entries.len() as u64);
            }
            if entries.is_empty() {
                let mut damaged = lock(&self.damaged);
                for copy in &copies {
                    damaged.remove(copy);
                }
                return Ok(());
            }
            self.write_tombstones(&entries).await?;
        }
        Err(AgentError::Index("pieces to be erased keep moving".to_owned()))
    }

    /// Those of `copies` that have pieces here.
    async fn present(&self, copies: Vec<CopyId>) -> Result<Vec<CopyEntry>, AgentError> {
        let fat = Arc::clone(&self.fat);
        self.workers
            .blocking(move || {
                let mut entries = Vec::new();
                for copy in copies {
                    entries.extend(fat.lookup(copy, Wait::ForMedium)?);
                }
                entries.retain(|entry| !entry.pieces.is_empty());
                Ok::<Vec<CopyEntry>, AgentError>(entries)
            })
            .await?
    }

    async fn write_tombstones(&self, entries: &[CopyEntry]) -> Result<(), AgentError> {
        let mut writable = self.devices.writable();
        loop {
            match self.write_tombstones_to(entries, &writable).await {
                // A device without room for them is emptied by tombstones on another.
                Err(AgentError::Device(DeviceError::Full { device })) if writable.len() > 1 => {
                    writable.retain(|other| *other != device);
                }
                written => return written,
            }
        }
    }

    async fn write_tombstones_to(
        &self,
        entries: &[CopyEntry],
        writable: &[DeviceId],
    ) -> Result<(), AgentError> {
        let mut homes: BTreeMap<DeviceId, Vec<ErasedItem>> = BTreeMap::new();
        for entry in entries {
            for (home, item) in tombstones(entry, writable)? {
                homes.entry(home).or_default().push(item);
            }
        }
        let mut waiting = Vec::new();
        for (home, items) in homes {
            for batch in items.chunks(COPIES_PER_BATCH) {
                let applied = Applied::Erased(batch.to_vec());
                waiting.push(self.submit_control(home, RecordBody::Erased(batch.to_vec()), applied)?);
            }
        }
        for told in waiting {
            wait_control(told).await?;
        }
        Ok(())
    }

    fn submit_control(
        &self,
        device: DeviceId,
        body: RecordBody,
        applied: Applied,
    ) -> Result<oneshot::Receiver<Result<(), DeviceError>>, AgentError> {
        let (done, told) = oneshot::channel();
        self.devices
            .get(device)?
            .lane
            .submit(Job::Control { body, applied, done });
        Ok(told)
    }

    /// Records which leases are closed on every device that takes it. From before this call on, chunks under
    /// them are refused.
    ///
    /// # Errors
    /// When no device took it; `Full` only if nothing else was the matter with any.
    pub(crate) async fn persist_closed(&self) -> Result<(), AgentError> {
        let state = self.leases.closed();
        let mut waiting = Vec::new();
        for device in self.devices.writable() {
            let applied = Applied::Closed(state.clone());
            waiting.push(self.submit_control(device, RecordBody::Closed(state.clone()), applied)?);
        }
        let mut taken = false;
        let mut failed: Option<AgentError> = None;
        for told in waiting {
            match wait_control(told).await {
                Ok(()) => taken = true,
                Err(error) => {
                    tracing::debug!(%error, "a device did not take the record of closed leases");
                    if failed.as_ref().is_none_or(AgentError::is_full) {
                        failed = Some(error);
                    }
                }
            }
        }
        let nobody = || AgentError::NoDevice("the record of closed leases");
        if taken {
            Ok(())
        } else {
            Err(failed.unwrap_or_else(nobody))
        }
    }

    /// Judges every copy under a lease whose close is persisted, erases what the FAT does not name and marks
    /// the rest. Returns whether nothing is left undecided.
    ///
    /// # Errors
    /// When the metadata service does not answer, or a device or the index fails: nothing is lost, try again.
    pub(crate) async fn settle_lease(self: &Arc<Self>, lease: LeaseId) -> Result<bool, AgentError> {
        self.leases.wait_idle(lease).await;
        let mut settled = true;
        let mut after = None;
        loop {
            let fat = Arc::clone(&self.fat);
            let page = self
                .workers
                .blocking(move || fat.list_lease(lease, after, COPIES_PER_BATCH))
                .await??;
            let Some(last) = page.last() else { break };
            after = Some(last.copy);
            let unjudged: Vec<&CopyEntry> = page
                .iter()
                .filter(|entry| entry.kept.is_empty() && !entry.pieces.is_empty())
                .collect();
            if !unjudged.is_empty() {
                settled &= self.judge(&unjudged).await?;
            }
        }
        if settled {
            let fat = Arc::clone(&self.fat);
            self.workers.blocking(move || fat.settle(lease)).await??;
        }
        Ok(settled)
    }

    async fn judge(self: &Arc<Self>, entries: &[&CopyEntry]) -> Result<bool, AgentError> {
        let (_, vendor) = self
            .identity()
            .map_err(|error| AgentError::Metad(error.to_string()))?;
        let copies: Vec<CopyId> = entries.iter().map(|entry| entry.copy).collect();
        let request = JudgeRequest { vendor, copies };
        let reply = self
            .metad
            .judge(request)
            .await
            .map_err(|error| AgentError::Metad(error.to_string()))?;
        if reply.judgements.len() != entries.len() {
            return Err(AgentError::Metad(format!(
                "{} judgements for {} copies",
                reply.judgements.len(),
                entries.len()
            )));
        }
        let mut erase = Vec::new();
        let mut keep: BTreeMap<DeviceId, Vec<CopyId>> = BTreeMap::new();
        let mut decided = true;
        let writable = self.devices.writable();
        for (entry, judgement) in entries.iter().zip(reply.judgements) {
            match judgement {
                Judgement::Erase => erase.push(entry.copy),
                Judgement::Keep => {
                    let homes = entry.pieces.iter().map(|(_, piece)| piece.device);
                    // On a device that takes no records the mark is made later: it only saves a question.
                    match homes.into_iter().find(|device| writable.contains(device)) {
                        Some(home) => keep.entry(home).or_default().push(entry.copy),
                        None => tracing::debug!(copy = %entry.copy, "kept, but not marked"),
                    }
                    if !entry.is_complete() {
                        self.note_damaged(entry.copy, true);
                    }
                }
                Judgement::Undecided => decided = false,
            }
        }
        if !erase.is_empty() {
            self.erase(erase).await?;
        }
        let mut waiting = Vec::new();
        for (home, copies) in keep {
            waiting.push(self.submit_control(
                home,
                RecordBody::Kept(copies.clone()),
                Applied::Kept(copies),
            )?);
        }
        for told in waiting {
            match wait_control(told).await {
                Err(error) if error.is_full() => tracing::debug!(%error, "kept, but not marked"),
                told => told?,
            }
        }
        Ok(decided)
    }
}

async fn wait_control(told: oneshot::Receiver<Result<(), DeviceError>>) -> Result<(), AgentError> {
    match told.await {
        Ok(result) => Ok(result?),
        Err(_) => Err(AgentError::Index("a device's lane has ended".to_owned())),
    }
}

/// Where the tombstones of a copy go: to each device that has pieces of it; those of a device that takes no
/// records to another one, so that they are dead when that device comes back.
fn tombstones(entry: &CopyEntry, writable: &[DeviceId]) -> Result<Vec<(DeviceId, ErasedItem)>, AgentError> {
    let mut homes: BTreeMap<DeviceId, Vec<(DeviceId, u64)>> = BTreeMap::new();
    for (_, piece) in &entry.pieces {
        let own = std::iter::once((piece.device, piece.segment));
        for killed in own.chain(piece.stale.iter().copied()) {
            let home = if writable.contains(&piece.device) {
                piece.device
            } else {
                let elsewhere = writable.first().copied();
                elsewhere.ok_or(AgentError::NoDevice("tombstones"))?
            };
            let list = homes.entry(home).or_default();
            if !list.contains(&killed) {
                list.push(killed);
            }
        }
    }
    Ok(homes
        .into_iter()
        .map(|(home, killed)| {
            (
                home,
                ErasedItem {
                    copy: entry.copy,
                    killed,
                },
            )
        })
        .collect())
}
