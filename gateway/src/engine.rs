//! Everything the flows of `put/` and `get/` share, made once at start.

use crate::directory::Directory;
use crate::get::hedge::Hedges;
use crate::get::window::Windows;
use crate::keeper::Keeper;
use crate::limits::UPKEEP_EVERY;
use crate::memory::{Budget, BufferPool};
use crate::put::validate::VerifiedBatches;
use crate::session::Surroundings;
use std::sync::Arc;
use ullage_model::fat::rows::InlineRow;

/// Idle buffers are given back after so many looks at which no memory was in use.
const POOL_KEPT_TICKS: u32 = 10;

/// The gateway's data path.
#[derive(Debug)]
pub struct Engine {
    /// What sessions share too.
    pub around: Arc<Surroundings>,
    /// Keeps the session.
    pub keeper: Arc<Keeper>,
    /// Buckets and users.
    pub directory: Directory,
    /// Memory for bodies coming in.
    pub upload_memory: Budget,
    /// Leave for second reads of slow segments.
    pub hedges: Hedges,
    /// Memory for bytes going out.
    pub read_memory: Budget,
    /// The reads that hold some of it.
    pub windows: Arc<Windows>,
    /// Buffers of both.
    pub pool: Arc<BufferPool>,
    /// Receipts whose signatures were checked.
    pub verified: VerifiedBatches,
    /// The gateway's own cap of inlining, in bytes.
    pub inline_bytes: u64,
}

impl Engine {
    /// Plaintext bytes up to which a body is inlined: the replicated cap, which this gateway may only lower, as
    /// long as the budget is not used up.
    #[must_use]
    pub fn inline_cap(&self, inline: &InlineRow) -> u64 {
        if inline.used_bytes >= inline.budget_bytes {
            0
        } else {
            inline.cap_bytes.min(self.inline_bytes)
        }
    }
}

impl Engine {
    /// Shows how much memory is in use, and gives idle buffers back when nothing goes on. Never ends.
    pub async fn watch_memory(self: Arc<Self>) {
        let mut quiet = 0;
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            let used = [
                ("upload", self.upload_memory.in_use()),
                ("read", self.read_memory.in_use()),
            ];
            for (way, bytes) in used {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                self.around
                    .metrics
                    .memory_bytes
                    .with_label_values(&[way])
                    .set(bytes);
            }
            quiet = if used.iter().all(|&(_, bytes)| bytes == 0) {
                quiet + 1
            } else {
                0
            };
            if quiet == POOL_KEPT_TICKS {
                self.pool.clear();
            }
        }
    }
}
