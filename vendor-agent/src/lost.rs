//! What lies on devices that are gone: its copies are reported lost, so that the FAT stops counting on them.
//! A few at a time, each batch when the one before has been told. What becomes of the copies is decided there.

use crate::agent::Agent;
use crate::error::AgentError;
use crate::heartbeat::DAMAGED_MAX;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use ullage_model::ids::DeviceId;

/// Copies listed at once.
const PAGE: usize = 256;
/// Copies waiting to be told; the rest of the report's room is for damage that is found otherwise.
const LOST_MAX: usize = DAMAGED_MAX / 2;
/// Between two looks at the devices, and at what was told.
const PERIOD: Duration = Duration::from_millis(500);

impl Agent {
    /// Reports the copies of every device that goes; ends only by being dropped.
    pub(crate) async fn report_lost_forever(self: &Arc<Self>) {
        let mut reported: BTreeSet<DeviceId> = BTreeSet::new();
        loop {
            sleep(PERIOD).await;
            let agent = Arc::clone(self);
            let Ok(gone) = self.workers.blocking(move || agent.devices.gone()).await else {
                return;
            };
            // One that came back and goes again is reported again.
            reported.retain(|device| gone.contains(device));
            if !self.is_ready() || gone == reported {
                continue;
            }
            match self.report_lost(&gone).await {
                Ok(copies) => {
                    tracing::error!(devices = ?gone, copies, "devices are gone; their copies are reported lost");
                    reported = gone;
                }
                Err(error) => tracing::warn!(%error, "cannot list what lay on devices that are gone"),
            }
        }
    }

    async fn report_lost(self: &Arc<Self>, gone: &BTreeSet<DeviceId>) -> Result<u64, AgentError> {
        let mut copies = 0;
        let mut after = None;
        loop {
            let fat = Arc::clone(&self.fat);
            let page = self.workers.blocking(move || fat.list(after, PAGE)).await??;
            let Some(last) = page.last() else {
                return Ok(copies);
            };
            after = Some(last.copy);
            for entry in page.iter().filter(|entry| entry.erased.is_empty()) {
                if entry.pieces.iter().any(|(_, piece)| gone.contains(&piece.device)) {
                    while !self.remember_damaged(entry.copy, true, LOST_MAX) {
                        sleep(PERIOD).await;
                    }
                    copies += 1;
                }
            }
        }
    }
}
