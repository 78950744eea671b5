//! The local FAT: which piece of which copy lies where on this vendor's devices. An index over the records of
//! the segments, and rebuilt from them when it is gone; it never decides what is stored or erased.
//!
//! The index is a RocksDB without write-ahead log. Its rows lie in one column family, so what a crash leaves
//! is a prefix of the batches written; each batch carries the position in its device up to which it is
//! complete, and a start replays the segments from there.

mod apply;
pub mod rows;
mod store;

pub use apply::Applied;
pub use store::{IndexHome, MemoryIndex};

use crate::device::record::ClosedState;
use crate::device::scan::ScanSummary;
use crate::device::{Device, Position, Wait};
use crate::error::AgentError;
use crate::sync::{Shared, lock};
use rocksdb::{Cache, WriteBufferManager};
use rows::{
    ClosedRow, ErasedRow, PieceRow, PositionRow, SegmentRow, copy_prefix, decode, device_key, lease_key,
    parse_copy_key, segment_key,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use store::{Batch, Store, Walk};
use ullage_model::ids::{CopyId, DeviceId, LeaseId};

/// Memory that the RocksDBs of one process share.
#[derive(Clone)]
pub struct IndexMemory {
    /// Blocks read.
    pub cache: Cache,
    /// Rows not yet flushed.
    pub write_buffers: WriteBufferManager,
}

impl IndexMemory {
    /// Memory of its own for one agent: `bytes` for blocks and rows not yet flushed together.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let cache = Cache::new_lru_cache(bytes);
        let write_buffers =
            WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 2, false, cache.clone());
        Self { cache, write_buffers }
    }
}

/// All that the local FAT knows of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyEntry {
    /// The copy.
    pub copy: CopyId,
    /// Its pieces with their first frames, in order of those.
    pub pieces: Vec<(u32, PieceRow)>,
    /// Its tombstones and the devices they lie on.
    pub erased: Vec<(DeviceId, ErasedRow)>,
    /// It was judged "keep"; the devices on which that is recorded.
    pub kept: Vec<DeviceId>,
}

impl CopyEntry {
    /// Whether every piece is there and no erasure has begun.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.erased.is_empty()
            && self
                .pieces
                .first()
                .is_some_and(|(_, piece)| usize::from(piece.pieces) == self.pieces.len())
    }

    /// Bytes that its records take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|(_, piece)| u64::from(piece.bytes)).sum()
    }
}

/// Why a lookup gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The rows are not in memory and the caller must not wait.
    #[error("the local FAT would have to wait for its medium")]
    WouldWait,
    /// The index failed.
    #[error("local FAT index: {0}")]
    Failed(String),
}

impl From<LookupError> for AgentError {
    fn from(error: LookupError) -> Self {
        AgentError::Index(error.to_string())
    }
}

impl From<rocksdb::Error> for LookupError {
    fn from(error: rocksdb::Error) -> Self {
        match error.kind() {
            rocksdb::ErrorKind::Incomplete => Self::WouldWait,
            _ => Self::Failed(error.into_string()),
        }
    }
}

impl From<rocksdb::Error> for AgentError {
    fn from(error: rocksdb::Error) -> Self {
        AgentError::Index(error.into_string())
    }
}

/// The index. Calls may block (but for lookups that must not wait).
pub struct LocalFat {
    rows: Store,
    /// Held while a batch that depends on rows is made and written, also over reads from the index's medium;
    /// taken before the other locks, and only where the caller may block.
    turn: Shared<()>,
    /// Needed bytes of each segment. Held over no read.
    segments: Shared<BTreeMap<(DeviceId, u64), SegmentRow>>,
    /// Leases whose copies have not all been judged. Held for moments only, so that async callers may look.
    unsettled: Shared<BTreeSet<LeaseId>>,
}

impl LocalFat {
    /// Opens the index at `path`, or begins a new one; a corrupt one is thrown away, because the segments
    /// rebuild it. `memory` is what it may take, unless `home` says where else it lies.
    ///
    /// # Errors
    /// When the files cannot be used.
    pub fn open(path: &Path, home: &IndexHome, memory: usize) -> Result<Self, AgentError> {
        let rows = match home {
            IndexHome::OnDisk => Store::on_disk(path, &IndexMemory::new(memory))?,
            IndexHome::Sharing(shared) => Store::on_disk(path, shared)?,
            IndexHome::InMemory(memory) => Store::Memory(memory.clone()),
        };
        let fat = Self {
            rows,
            turn: Shared::default(),
            segments: Shared::default(),
            unsettled: Shared::default(),
        };
        fat.load()?;
        Ok(fat)
    }

    fn load(&self) -> Result<(), AgentError> {
        let mut segments = lock(&self.segments);
        let mut unsettled = lock(&self.unsettled);
        let mut unreadable = 0;
        self.each_row(b"s", |key, row| {
            match (
                number32(key.get(1..5)),
                number64(key.get(5..13)),
                decode::<SegmentRow>(row),
            ) {
                (Some(device), Some(segment), Some(row)) => {
                    segments.insert((DeviceId(device), segment), row);
                }
                _ => unreadable += 1,
            }
        })?;
        if unreadable > 0 {
            // A segment without a row is one in which nothing is needed.
            return Err(AgentError::Index(format!(
                "{unreadable} rows of segments cannot be read; without its directory the index is rebuilt"
            )));
        }
        self.each_row(b"l", |key, _| {
            if let Some(lease) = number64(key.get(1..9)) {
                unsettled.insert(LeaseId(lease));
            }
        })
    }

    fn each_row(&self, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), AgentError> {
        let walked = self.rows.walk(prefix, Walk::Ordered, |key, row| {
            let wanted = key.starts_with(prefix);
            if wanted {
                each(key, row);
            }
            Ok(wanted)
        });
        Ok(walked?)
    }

    /// Brings the index up to what `device` holds.
    ///
    /// # Errors
    /// When the device or the index fails.
    pub fn replay(&self, device: &dyn Device) -> Result<ScanSummary, AgentError> {
        let id = device.id();
        let from = self.position(id)?;
        let mut failed = None;
        let scanned = device.scan(from, &mut |found| {
            let location = found.location;
            let end = found.end;
            self.apply(id, &[(location, Applied::from_scan(found.body))], end)
                .map(drop)
                .map_err(|error| {
                    let reason = error.to_string();
                    failed = Some(error);
                    crate::device::DeviceError::Read {
                        device: id,
                        segment: location.segment,
                        reason,
                    }
                })
        });
        match (scanned, failed) {
            (_, Some(error)) => Err(error),
            (scanned, None) => Ok(scanned?),
        }
    }

    /// Up to where `device` is in the index.
    ///
    /// # Errors
    /// When the index fails.
    pub fn position(&self, device: DeviceId) -> Result<Option<Position>, AgentError> {
        let row = self.rows.get(&device_key(b'm', device))?;
        Ok(row
            .and_then(|row| decode::<PositionRow>(&row))
            .map(|row| Position {
                segment: row.segment,
                offset: row.offset,
            }))
    }

    /// What is known of `copy`; `None` if nothing.
    ///
    /// # Errors
    /// When the index fails, or would have to read its files and must not.
    pub fn lookup(&self, copy: CopyId, wait: Wait) -> Result<Option<CopyEntry>, LookupError> {
        let mut entry = None;
        self.rows.walk(&copy_prefix(copy), Walk::Copy(wait), |key, row| {
            add_row(entry.get_or_insert_with(|| empty(copy)), key, row)?;
            Ok(true)
        })?;
        Ok(entry)
    }

    /// Copies in order of their names (placement lease first), after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the index fails.
    pub fn list(&self, after: Option<CopyId>, limit: usize) -> Result<Vec<CopyEntry>, AgentError> {
        self.list_while(after, limit, |_| true)
    }

    /// Copies placed under `lease`, after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the index fails.
    pub fn list_lease(
        &self,
        lease: LeaseId,
        after: Option<CopyId>,
        limit: usize,
    ) -> Result<Vec<CopyEntry>, AgentError> {
        let first = CopyId {
            lease,
            ..CopyId::default()
        };
        match after {
            Some(after) => self.list_while(Some(after), limit, |copy| copy.lease == lease),
            None => self.list_from(&copy_prefix(first), limit, |copy| copy.lease == lease),
        }
    }

    fn list_while(
        &self,
        after: Option<CopyId>,
        limit: usize,
        wanted: impl Fn(CopyId) -> bool,
    ) -> Result<Vec<CopyEntry>, AgentError> {
        match after {
            Some(after) => {
                let mut key = copy_prefix(after).to_vec();
                key.extend([0xff; 6]);
                self.list_from(&key, limit, wanted)
            }
            None => self.list_from(b"c", limit, wanted),
        }
    }

    fn list_from(
        &self,
        key: &[u8],
        limit: usize,
        wanted: impl Fn(CopyId) -> bool,
    ) -> Result<Vec<CopyEntry>, AgentError> {
        let mut entries: Vec<CopyEntry> = Vec::new();
        self.rows.walk(key, Walk::Ordered, |key, row| {
            let Some((copy, _, _)) = parse_copy_key(key).filter(|(copy, _, _)| wanted(*copy)) else {
                return Ok(false);
            };
            if entries.last().is_none_or(|entry| entry.copy != copy) {
                if entries.len() == limit {
                    return Ok(false);
                }
                entries.push(empty(copy));
            }
            if let Some(entry) = entries.last_mut() {
                add_row(entry, key, row)?;
            }
            Ok(true)
        })?;
        Ok(entries)
    }

    /// Leases whose copies have not all been judged, in order.
    #[must_use]
    pub fn unsettled(&self) -> Vec<LeaseId> {
        lock(&self.unsettled).iter().copied().collect()
    }

    /// Whether copies under `lease` may await judgement.
    #[must_use]
    pub fn is_unsettled(&self, lease: LeaseId) -> bool {
        lock(&self.unsettled).contains(&lease)
    }

    /// Notes that all copies under `lease` are judged.
    ///
    /// # Errors
    /// When the index fails.
    pub fn settle(&self, lease: LeaseId) -> Result<(), AgentError> {
        let _turn = lock(&self.turn);
        lock(&self.unsettled).remove(&lease);
        let mut batch = Batch::default();
        batch.delete(lease_key(lease));
        self.rows.write(batch)
    }

    /// All that the devices recorded of closed leases.
    ///
    /// # Errors
    /// When the index fails.
    pub fn closed(&self) -> Result<ClosedState, AgentError> {
        let mut state = ClosedState::default();
        self.each_row(b"x", |_, row| {
            if let Some(row) = decode::<ClosedRow>(row) {
                state.merge(&row.state);
            }
        })?;
        Ok(state)
    }

    /// The newest record of closed leases on `device`.
    ///
    /// # Errors
    /// When the index fails.
    pub fn closed_row(&self, device: DeviceId) -> Result<Option<ClosedRow>, AgentError> {
        Ok(self
            .rows
            .get(&device_key(b'x', device))?
            .and_then(|row| decode(&row)))
    }

    /// Needed bytes of each segment of `device`.
    #[must_use]
    pub fn segment_rows(&self, device: DeviceId) -> BTreeMap<u64, SegmentRow> {
        let rows = lock(&self.segments);
        rows.range((device, 0)..=(device, u64::MAX))
            .map(|((_, segment), row)| (*segment, *row))
            .collect()
    }

    /// Devices that have pieces.
    #[must_use]
    pub fn devices(&self) -> BTreeSet<DeviceId> {
        let rows = lock(&self.segments);
        let needed = rows.iter().filter(|(_, row)| row.live > 0);
        needed.map(|((device, _), _)| *device).collect()
    }

    /// Bytes of all pieces on `device`.
    #[must_use]
    pub fn live_bytes(&self, device: DeviceId) -> u64 {
        let rows = lock(&self.segments);
        rows.range((device, 0)..=(device, u64::MAX))
            .map(|(_, row)| row.live)
            .sum()
    }

    /// Forgets a segment that was removed.
    ///
    /// # Errors
    /// When the index fails.
    pub fn forget_segment(&self, device: DeviceId, segment: u64) -> Result<(), AgentError> {
        let _turn = lock(&self.turn);
        let mut rows = lock(&self.segments);
        rows.remove(&(device, segment));
        let mut batch = Batch::default();
        batch.delete(segment_key(device, segment));
        self.rows.write(batch)
    }

    /// Writes everything to the index's files, so that a start has little to replay.
    ///
    /// # Errors
    /// When the index fails.
    pub fn flush(&self) -> Result<(), AgentError> {
        self.rows.flush()
    }
}

fn empty(copy: CopyId) -> CopyEntry {
    CopyEntry {
        copy,
        pieces: Vec::new(),
        erased: Vec::new(),
        kept: Vec::new(),
    }
}

fn add_row(entry: &mut CopyEntry, key: &[u8], row: &[u8]) -> Result<(), LookupError> {
    let bad = || LookupError::Failed(format!("a row of {} cannot be read", entry.copy));
    match parse_copy_key(key) {
        Some((_, b'p', first_frame)) => {
            let row = decode(row).ok_or_else(bad)?;
            entry.pieces.push((first_frame, row));
        }
        Some((_, b'e', device)) => {
            let row = decode(row).ok_or_else(bad)?;
            entry.erased.push((DeviceId(device), row));
        }
        Some((_, b'k', device)) => entry.kept.push(DeviceId(device)),
        _ => return Err(bad()),
    }
    Ok(())
}

fn number32(bytes: Option<&[u8]>) -> Option<u32> {
    Some(u32::from_be_bytes(bytes?.try_into().ok()?))
}

fn number64(bytes: Option<&[u8]>) -> Option<u64> {
    Some(u64::from_be_bytes(bytes?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_can_be_looked_at_while_a_batch_waits_for_its_medium() {
        let home = tempfile::tempdir().unwrap();
        let fat = LocalFat::open(home.path(), &IndexHome::OnDisk, 1 << 20).unwrap();
        let _turn = lock(&fat.turn);
        assert!(!fat.is_unsettled(LeaseId(1)));
        assert!(fat.unsettled().is_empty());
        assert_eq!(fat.live_bytes(DeviceId(0)), 0);
    }
}
