//! The log in memory.

use super::MemoryDisk;
use crate::store::log::LogChange;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// A change, kept until it is synced.
#[derive(Clone, Debug)]
enum Kept {
    Entry(u64, Bytes),
    Mark(&'static [u8], Bytes),
    Truncate(u64),
}

impl Kept {
    fn of(change: &LogChange<'_>) -> Self {
        match change {
            LogChange::Entry(entry) => {
                Self::Entry(entry.index, [entry.header, entry.payload].concat().into())
            }
            LogChange::Mark(name, mark) => Self::Mark(name, Bytes::copy_from_slice(mark)),
            LogChange::Truncate(first) => Self::Truncate(*first),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct LogImage {
    entries: BTreeMap<u64, Bytes>,
    marks: BTreeMap<&'static [u8], Bytes>,
}

impl LogImage {
    fn apply(&mut self, batch: &[Kept]) {
        for change in batch {
            match change {
                Kept::Entry(index, entry) => drop(self.entries.insert(*index, entry.clone())),
                Kept::Mark(name, mark) => drop(self.marks.insert(name, mark.clone())),
                Kept::Truncate(first) => drop(self.entries.split_off(first)),
            }
        }
    }
}

/// The log of a disk: as its node sees it, and as a crash would leave it.
#[derive(Debug, Default)]
pub(super) struct LogDisk {
    live: LogImage,
    durable: LogImage,
    /// Batches that are in `live` and not in `durable`, oldest first.
    unsynced: Vec<Vec<Kept>>,
    /// Batches that have become durable since the disk was made.
    synced: u64,
    /// Crashes so far: a handle of an earlier life writes nothing any more.
    life: u64,
}

impl LogDisk {
    pub(super) fn crash(&mut self, draw: u64) {
        let kept = draw % (self.unsynced.len() as u64 + 1);
        self.sync_up_to(self.synced + kept);
        self.unsynced.clear();
        self.life += 1;
        self.live = self.durable.clone();
    }

    fn written(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    fn sync_up_to(&mut self, batches: u64) {
        let count = usize::try_from(batches.saturating_sub(self.synced)).unwrap_or(usize::MAX);
        for batch in self.unsynced.drain(..count.min(self.unsynced.len())) {
            self.durable.apply(&batch);
            self.synced += 1;
        }
    }
}

/// A node's handle on the log of its disk.
#[derive(Clone, Debug)]
pub(in crate::store) struct MemoryLog {
    disk: MemoryDisk,
    life: u64,
}

impl MemoryLog {
    pub(in crate::store) fn new(disk: &MemoryDisk) -> Self {
        let life = disk.lock().log.life;
        Self {
            disk: disk.clone(),
            life,
        }
    }

    /// Writes a batch, all of it or nothing; with `sync`, it and all before it are durable then.
    pub(in crate::store) fn write(&self, batch: &[LogChange<'_>], sync: bool) {
        let batch: Vec<Kept> = batch.iter().map(Kept::of).collect();
        let mut disk = self.disk.lock();
        if disk.log.life != self.life {
            return;
        }
        disk.log.live.apply(&batch);
        disk.log.unsynced.push(batch);
        if sync {
            let all = disk.log.written().saturating_sub(disk.behaviour.lies_by);
            disk.log.sync_up_to(all);
        }
    }

    /// How long the next sync takes.
    pub(in crate::store) fn sync_delay(&self) -> Duration {
        self.disk.sync_delay()
    }

    /// How far the log is written: what a sync that begins now makes durable.
    pub(in crate::store) fn written(&self) -> u64 {
        self.disk.lock().log.written()
    }

    /// Ends a sync that began at `written`.
    pub(in crate::store) fn synced(&self, written: u64) {
        let mut disk = self.disk.lock();
        if disk.log.life == self.life {
            let durable = written.saturating_sub(disk.behaviour.lies_by);
            disk.log.sync_up_to(durable);
        }
    }

    /// Entries up to `purged` take no room any more.
    pub(in crate::store) fn reclaim(&self, purged: u64) {
        let mut disk = self.disk.lock();
        let log = &mut disk.log;
        // As with table files, only what is durably purged and durable itself goes.
        if log.unsynced.is_empty() {
            log.live.entries = log.live.entries.split_off(&(purged + 1));
            log.durable.entries = log.durable.entries.split_off(&(purged + 1));
        }
    }

    pub(in crate::store) fn mark(&self, name: &[u8]) -> Option<Bytes> {
        self.disk.lock().log.live.marks.get(name).cloned()
    }

    pub(in crate::store) fn first(&self) -> Option<u64> {
        self.disk.lock().log.live.entries.keys().next().copied()
    }

    pub(in crate::store) fn last(&self) -> Option<(u64, Bytes)> {
        let disk = self.disk.lock();
        let (index, entry) = disk.log.live.entries.last_key_value()?;
        Some((*index, entry.clone()))
    }

    pub(in crate::store) fn get(&self, index: u64) -> Option<Bytes> {
        self.disk.lock().log.live.entries.get(&index).cloned()
    }

    pub(in crate::store) fn entries(&self, range: Range<u64>, bytes_max: usize) -> Vec<(u64, Bytes)> {
        let disk = self.disk.lock();
        let mut bytes = 0;
        let mut found = Vec::new();
        for (index, entry) in disk.log.live.entries.range(range) {
            bytes += entry.len();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push((*index, entry.clone()));
        }
        found
    }
}
