//! The scrubber: re-reads every copy at a set rate and remembers damaged ones for the next heartbeat.

use crate::agent::Agent;
use crate::error::AgentError;
use crate::local_fat::CopyEntry;
use std::sync::Arc;
use std::time::Duration;
use ullage_model::ids::CopyId;

/// Copies listed at once.
const PAGE: usize = 64;

impl Agent {
    /// Scrubs again and again; ends only by being dropped.
    pub(crate) async fn scrub_forever(self: Arc<Self>) {
        if self.config.scrub_rate == 0 {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(Duration::from_secs(self.config.scrub_pause_s)).await;
            match self.scrub_once(self.config.scrub_rate).await {
                Ok(damaged) => tracing::info!(damaged, "scrubbed"),
                Err(error) => tracing::warn!(%error, "cannot scrub"),
            }
        }
    }

    /// Re-reads every copy once, at most `rate` bytes per second. Returns how many are damaged or lost.
    ///
    /// # Errors
    /// When the local FAT cannot be listed.
    pub async fn scrub_once(self: &Arc<Self>, rate: u64) -> Result<u64, AgentError> {
        let mut after = None;
        let mut damaged = 0;
        loop {
            let fat = Arc::clone(&self.fat);
            let page = self.workers.blocking(move || fat.list(after, PAGE)).await??;
            let Some(last) = page.last() else {
                return Ok(damaged);
            };
            after = Some(last.copy);
            for entry in page.iter().filter(|entry| entry.erased.is_empty()) {
                let (bytes, bad) = match self.verify_copy(entry).await {
                    Ok(bytes) => (bytes, None),
                    Err(lost) => (0, Some(lost)),
                };
                if let Some(lost) = bad
                    && self.is_unchanged(entry).await?
                {
                    damaged += 1;
                    self.note_damaged(entry.copy, lost);
                }
                let pause = bytes as f64 / rate.max(1) as f64;
                if pause > 0.001 {
                    tokio::time::sleep(Duration::from_secs_f64(pause.min(10.0))).await;
                }
            }
        }
    }

    /// Whether compaction or an erase order has left `entry` alone since it was listed.
    async fn is_unchanged(&self, entry: &CopyEntry) -> Result<bool, AgentError> {
        let copy: CopyId = entry.copy;
        let found = self
            .lookup(copy)
            .await
            .map_err(|error| AgentError::Index(error.to_string()))?;
        Ok(found.as_ref() == Some(entry))
    }
}
