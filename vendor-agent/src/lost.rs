//! What lies on devices that are gone: its copies are reported lost, so that the FAT stops counting on them, and
//! found again when the device is back and every byte of them has been verified. A few at a time, each batch when
//! the one before has been told. What becomes of the copies is decided there.
//!
//! A device may be away for a while before anything is said (`lost_after_s`): reads go to other copies meanwhile,
//! and a mount that comes back has cost nothing. Which devices were reported is kept in the data directory, so
//! that one which comes back after a restart is reported found, too.

use crate::agent::Agent;
use crate::error::AgentError;
use crate::heartbeat::DAMAGED_MAX;
use crate::local_fat::CopyEntry;
use crate::sync::lock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use ullage_model::ids::{CopyId, DeviceId};

/// Copies listed at once.
const PAGE: usize = 256;
/// Copies waiting to be told; the rest of the report's room is for damage that is found otherwise.
const LOST_MAX: usize = DAMAGED_MAX / 2;
/// Between two looks at the devices, and at what was told.
const PERIOD: Duration = Duration::from_millis(500);
/// Bytes per second that are verified of devices that came back.
const VERIFY_RATE: f64 = 64.0 * 1024.0 * 1024.0;

impl Agent {
    /// Reports the copies of every device that goes, and of every one that comes back; ends only by being
    /// dropped.
    pub(crate) async fn report_lost_forever(self: &Arc<Self>) {
        let mut gone_since: BTreeMap<DeviceId, Instant> = BTreeMap::new();
        let lost_after = Duration::from_secs(self.config.lost_after_s);
        loop {
            sleep(PERIOD).await;
            let agent = Arc::clone(self);
            let Ok(gone) = self.workers.blocking(move || agent.devices.gone()).await else {
                return;
            };
            gone_since.retain(|device, _| gone.contains(device));
            for device in &gone {
                gone_since.entry(*device).or_insert_with(Instant::now);
            }
            if !self.is_ready() {
                continue;
            }
            let reported = lock(&self.data_dir).lost_devices();
            let lost: BTreeSet<DeviceId> = gone_since
                .iter()
                .filter(|(device, since)| since.elapsed() >= lost_after && !reported.contains(device))
                .map(|(device, _)| *device)
                .collect();
            if !lost.is_empty()
                && let Err(error) = self.report_lost(&lost).await
            {
                tracing::warn!(%error, "cannot report what lay on devices that are gone");
            }
            let back: BTreeSet<DeviceId> = reported.difference(&gone).copied().collect();
            if !back.is_empty()
                && let Err(error) = self.report_found(&back).await
            {
                tracing::warn!(%error, "cannot report what lies on devices that are back");
            }
        }
    }

    async fn report_lost(self: &Arc<Self>, lost: &BTreeSet<DeviceId>) -> Result<(), AgentError> {
        // First noted, then said: what was said of them must be taken back some day.
        self.keep_lost(lost, &BTreeSet::new()).await?;
        let mut copies = 0u64;
        let mut after = None;
        loop {
            let page = self.page_of(lost, &mut after).await?;
            let Some(page) = page else { break };
            for entry in page {
                while !self.remember_damaged(entry.copy, true, LOST_MAX) {
                    sleep(PERIOD).await;
                }
                copies += 1;
            }
        }
        tracing::error!(devices = ?lost, copies, "devices are gone; their copies are reported lost");
        Ok(())
    }

    async fn report_found(self: &Arc<Self>, back: &BTreeSet<DeviceId>) -> Result<(), AgentError> {
        let mut copies = 0u64;
        let mut after = None;
        loop {
            let page = self.page_of(back, &mut after).await?;
            let Some(page) = page else { break };
            for entry in page {
                let bytes = match self.verify_copy(&entry).await {
                    Ok(bytes) if self.is_here(&entry) => bytes,
                    // Gone again, or in part still: it stays lost until all of it is back.
                    Ok(_) => continue,
                    Err(lost) => {
                        self.note_damaged(entry.copy, lost);
                        continue;
                    }
                };
                while lock(&self.found).len() >= LOST_MAX {
                    sleep(PERIOD).await;
                }
                lock(&self.damaged).remove(&entry.copy);
                lock(&self.found).insert(entry.copy);
                self.report.notify_one();
                copies += 1;
                sleep(Duration::from_secs_f64(bytes as f64 / VERIFY_RATE)).await;
            }
        }
        while !lock(&self.found).is_empty() {
            sleep(PERIOD).await;
        }
        self.keep_lost(&BTreeSet::new(), back).await?;
        tracing::info!(devices = ?back, copies, "devices are back; their copies are reported found");
        Ok(())
    }

    /// The next page of copies with pieces on one of `devices` that are not being erased; `None` after the last.
    async fn page_of(
        self: &Arc<Self>,
        devices: &BTreeSet<DeviceId>,
        after: &mut Option<CopyId>,
    ) -> Result<Option<Vec<CopyEntry>>, AgentError> {
        let (fat, from) = (Arc::clone(&self.fat), *after);
        let mut page = self.workers.blocking(move || fat.list(from, PAGE)).await??;
        let Some(last) = page.last() else { return Ok(None) };
        *after = Some(last.copy);
        page.retain(|entry| {
            let mut homes = entry.pieces.iter().map(|(_, piece)| piece.device);
            entry.erased.is_empty() && homes.any(|home| devices.contains(&home))
        });
        Ok(Some(page))
    }

    /// Whether all of a copy is on devices that are here.
    fn is_here(&self, entry: &CopyEntry) -> bool {
        let gone = self.devices.gone();
        let mut homes = entry.pieces.iter().map(|(_, piece)| piece.device);
        entry.is_complete() && homes.all(|home| !gone.contains(&home))
    }

    async fn keep_lost(
        self: &Arc<Self>,
        lost: &BTreeSet<DeviceId>,
        found: &BTreeSet<DeviceId>,
    ) -> Result<(), AgentError> {
        let agent = Arc::clone(self);
        let (lost, found) = (lost.clone(), found.clone());
        let keep = move || lock(&agent.data_dir).save_lost(&lost, &found);
        self.workers.blocking(keep).await?
    }
}
