//! The stores' twin in memory, for simulation: the same calls with the same promises, and a crash that takes
//! what was not synced. What is "on disk" lies in a [`MemoryDisk`], which outlives the node that uses it.
//!
//! What a crash leaves: of the log, everything synced and any prefix of the batches written since; of the
//! state, what was last flushed, all columns together; the snapshot and state that were last pointed to.

mod log;
mod state;

pub(super) use log::MemoryLog;
pub(super) use state::{Image, MemoryState};

use super::files::remove_tree;
use crate::error::Error;
use log::LogDisk;
use state::StateDisk;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a simulated disk behaves. The default one is at once durable and flushes nothing by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskBehaviour {
    /// Shortest and longest time a sync takes, in milliseconds.
    pub sync_ms: (u64, u64),
    /// One in so many writes to the state makes the database flush by itself; 0: none does.
    pub flush_one_in: u64,
    /// Lies: a sync is reported done while the last so many batches written are not durable. For the test that
    /// a simulation finds it; 0 is honest.
    pub lies_by: u64,
}

/// A simulated disk: what survives a crash of its node. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

struct Disk {
    log: LogDisk,
    state: StateDisk,
    behaviour: DiskBehaviour,
    random: u64,
    /// Where snapshots lie as files while they are sent and received.
    scratch: PathBuf,
    /// Starts so far.
    starts: u64,
}

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryDisk")
            .field("scratch", &self.lock().scratch)
            .finish_non_exhaustive()
    }
}

impl MemoryDisk {
    /// An empty disk. All that is random about it follows from `seed`. `scratch` is a directory for snapshots on
    /// their way to and from other nodes; nothing in it outlives a start.
    #[must_use]
    pub fn new(seed: u64, behaviour: DiskBehaviour, scratch: PathBuf) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            log: LogDisk::default(),
            state: StateDisk::default(),
            behaviour,
            random: seed,
            scratch,
            starts: 0,
        })))
    }

    /// The node's crash: what was not durable is gone, but for a prefix of the unsynced log.
    pub fn crash(&self) {
        let mut disk = self.lock();
        let draw = disk.draw();
        disk.log.crash(draw);
        disk.state.crash();
    }

    /// Where what must be a file may lie.
    pub(super) fn scratch(&self) -> PathBuf {
        self.lock().scratch.clone()
    }

    /// Whether a node has opened its databases on it.
    pub(super) fn was_used(&self) -> bool {
        self.lock().starts > 0
    }

    /// A new directory for this start's snapshots on their way.
    pub(super) fn start(&self) -> Result<PathBuf, Error> {
        let mut disk = self.lock();
        if disk.starts > 0 {
            remove_tree(&disk.scratch.join(format!("start-{}", disk.starts)))?;
        }
        disk.starts += 1;
        let path = disk.scratch.join(format!("start-{}", disk.starts));
        std::fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
        Ok(path)
    }

    /// How long the next sync takes.
    pub(super) fn sync_delay(&self) -> Duration {
        let mut disk = self.lock();
        let (least, most) = disk.behaviour.sync_ms;
        let spread = most.saturating_sub(least) + 1;
        Duration::from_millis(least + disk.draw() % spread)
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// SplitMix64: good enough for faults, and the same everywhere.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
