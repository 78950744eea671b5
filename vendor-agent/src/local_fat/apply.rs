//! How records change the index: the same rules for records just written and for records replayed at start.

use super::rows::{
    ClosedRow, ErasedRow, PieceRow, PositionRow, SegmentRow, decode, device_key, encode, erased_key,
    kept_key, lease_key, piece_key, segment_key,
};
use super::store::Batch;
use super::{CopyEntry, LocalFat};
use crate::device::record::{ClosedState, ErasedItem, PieceHeader, place};
use crate::device::scan::ScannedBody;
use crate::device::{Location, Position, Wait};
use crate::error::AgentError;
use crate::sync::lock;
use std::collections::{BTreeMap, BTreeSet};
use ullage_model::ids::{CopyId, DeviceId, LeaseId};

/// What a durable record means for the index.
#[derive(Clone, Debug)]
pub enum Applied {
    /// A piece of a copy that was not here before.
    NewPiece(PieceHeader),
    /// A piece found at start: it may be known, moved, or dead.
    FoundPiece(PieceHeader),
    /// A piece that compaction wrote again; it lay at the location before.
    MovedPiece(PieceHeader, Location),
    /// Erased copies.
    Erased(Vec<ErasedItem>),
    /// Tombstones that compaction wrote again; they lay at the location before.
    MovedErased(Vec<ErasedItem>, Location),
    /// Kept copies.
    Kept(Vec<CopyId>),
    /// Closed leases.
    Closed(ClosedState),
}

impl Applied {
    /// What a record found at start means.
    #[must_use]
    pub fn from_scan(body: ScannedBody) -> Self {
        match body {
            ScannedBody::Piece(piece) => Self::FoundPiece(piece),
            ScannedBody::Erased(items) => Self::Erased(items),
            ScannedBody::Kept(copies) => Self::Kept(copies),
            ScannedBody::Closed(state) => Self::Closed(state),
        }
    }
}

/// Bytes of a segment that a record of this length takes, without the padding in front of it.
fn taken(bytes: u32) -> u64 {
    place(0, u64::from(bytes)).1
}

/// One batch under construction. What it changes of the rows in memory is shown when it is complete, for
/// lookups may wait for a medium and nobody else shall wait for them.
struct Changes<'a> {
    fat: &'a LocalFat,
    batch: Batch,
    segments: BTreeMap<(DeviceId, u64), SegmentRow>,
    unsettled: BTreeSet<LeaseId>,
    dead: Vec<(DeviceId, Location)>,
}

impl LocalFat {
    /// Enters durable records of `device`, all before `end`, in one batch. Returns the locations of piece
    /// records that are dead now, for their devices to give back.
    ///
    /// # Errors
    /// When the index fails: then the records are durable but not in the index, and the device must not be
    /// written until a restart has replayed it.
    pub fn apply(
        &self,
        device: DeviceId,
        records: &[(Location, Applied)],
        end: Position,
    ) -> Result<Vec<(DeviceId, Location)>, AgentError> {
        let _turn = lock(&self.turn);
        let mut changes = Changes {
            fat: self,
            batch: Batch::default(),
            segments: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            dead: Vec::new(),
        };
        for (location, applied) in records {
            changes.apply(device, *location, applied)?;
        }
        let Changes {
            mut batch,
            dead,
            segments,
            unsettled,
            ..
        } = changes;
        for (key, row) in &segments {
            batch.put(segment_key(key.0, key.1), encode(row));
        }
        batch.put(device_key(b'm', device), encode(&PositionRow::from(end)));
        lock(&self.unsettled).extend(unsettled);
        // Held until the batch is written: who sees these rows finds the pieces they count.
        let mut shown = lock(&self.segments);
        shown.extend(segments);
        self.rows.write(batch)?;
        Ok(dead)
    }

    /// Drops tombstones that are not needed any more from the index: their record at `location` is about to
    /// go.
    ///
    /// # Errors
    /// When the index fails.
    pub fn drop_erased(
        &self,
        device: DeviceId,
        location: Location,
        copies: &[CopyId],
    ) -> Result<(), AgentError> {
        let _turn = lock(&self.turn);
        let mut batch = Batch::default();
        for &copy in copies {
            let key = erased_key(copy, device);
            let row = self.rows.get(&key)?.and_then(|row| decode::<ErasedRow>(&row));
            if row.is_some_and(|row| (row.segment, row.offset) == (location.segment, location.offset)) {
                batch.delete(key);
            }
        }
        self.rows.write(batch)
    }
}

impl Changes<'_> {
    fn apply(&mut self, device: DeviceId, location: Location, applied: &Applied) -> Result<(), AgentError> {
        match applied {
            Applied::NewPiece(piece) => {
                self.put_piece(piece, PieceRow::new(device, location, piece));
                self.unsettle(piece.copy.lease);
            }
            Applied::FoundPiece(piece) => self.found_piece(device, location, piece)?,
            Applied::MovedPiece(piece, from) => {
                let mut row = PieceRow::new(device, location, piece);
                let old = self.entry(piece.copy)?;
                if let Some(old) = piece_of(&old, piece.first_frame) {
                    row.stale.clone_from(&old.stale);
                }
                add_stale(&mut row.stale, (device, from.segment));
                self.segment(device, from.segment, |stats| {
                    stats.live = stats.live.saturating_sub(taken(from.bytes))
                });
                self.put_piece(piece, row);
            }
            Applied::Erased(items) => {
                for item in items {
                    self.erased(device, location, item, None)?;
                }
                self.control(device, location);
            }
            Applied::MovedErased(items, from) => {
                for item in items {
                    self.erased(device, location, item, Some(*from))?;
                }
                self.control(device, location);
            }
            Applied::Kept(copies) => {
                for copy in copies {
                    if self.entry(*copy)?.is_some_and(|entry| !entry.pieces.is_empty()) {
                        self.batch.put(kept_key(*copy, device), []);
                    }
                }
                self.control(device, location);
            }
            Applied::Closed(state) => {
                let row = ClosedRow {
                    segment: location.segment,
                    offset: location.offset,
                    state: state.clone(),
                };
                self.batch.put(device_key(b'x', device), encode(&row));
                self.control(device, location);
            }
        }
        Ok(())
    }

    fn entry(&self, copy: CopyId) -> Result<Option<CopyEntry>, AgentError> {
        Ok(self.fat.lookup(copy, Wait::ForMedium)?)
    }

    fn found_piece(
        &mut self,
        device: DeviceId,
        location: Location,
        piece: &PieceHeader,
    ) -> Result<(), AgentError> {
        let entry = self.entry(piece.copy)?;
        let here = (device, location.segment);
        let killed = entry
            .iter()
            .flat_map(|entry| &entry.erased)
            .any(|(_, tombstone)| tombstone.killed.contains(&here));
        if killed {
            // Makes the segment known, so that it is removed when nothing else is in it.
            self.segment(device, location.segment, |_| {});
            return Ok(());
        }
        let mut row = PieceRow::new(device, location, piece);
        if let Some(known) = piece_of(&entry, piece.first_frame) {
            if known.device == device && known.location() == location {
                return Ok(());
            }
            // Compaction that did not end leaves two records: the newer segment has the one to keep. A write
            // that failed on one device and went to another may leave two as well.
            let newer = known.device == device && known.segment < location.segment;
            if newer {
                row.stale.clone_from(&known.stale);
                add_stale(&mut row.stale, (known.device, known.segment));
                let (old, bytes) = ((known.device, known.segment), known.bytes);
                self.segment(old.0, old.1, |stats| {
                    stats.live = stats.live.saturating_sub(taken(bytes))
                });
            } else {
                let mut kept = known.clone();
                add_stale(&mut kept.stale, here);
                self.batch
                    .put(piece_key(piece.copy, piece.first_frame), encode(&kept));
                self.segment(device, location.segment, |_| {});
                return Ok(());
            }
        }
        self.put_piece(piece, row);
        self.unsettle(piece.copy.lease);
        Ok(())
    }

    fn erased(
        &mut self,
        device: DeviceId,
        location: Location,
        item: &ErasedItem,
        moved_from: Option<Location>,
    ) -> Result<(), AgentError> {
        let entry = self.entry(item.copy)?;
        let mut left = 0;
        for (first_frame, piece) in entry.iter().flat_map(|entry| &entry.pieces) {
            if !item.killed.contains(&(piece.device, piece.segment)) {
                left += 1;
                continue;
            }
            self.batch.delete(piece_key(item.copy, *first_frame));
            let bytes = taken(piece.bytes);
            self.segment(piece.device, piece.segment, |stats| {
                stats.live = stats.live.saturating_sub(bytes)
            });
            self.dead.push((piece.device, piece.location()));
        }
        if left == 0 {
            for kept in entry.iter().flat_map(|entry| &entry.kept) {
                self.batch.delete(kept_key(item.copy, *kept));
            }
        }
        let mut row = ErasedRow::new(location, item);
        let known = entry
            .iter()
            .flat_map(|entry| &entry.erased)
            .find(|(home, _)| *home == device);
        if let Some((_, known)) = known {
            known
                .killed
                .iter()
                .for_each(|segment| add_stale(&mut row.killed, *segment));
            // A tombstone written since keeps the row: it is the one that will outlive the other.
            if moved_from.is_some_and(|from| (known.segment, known.offset) != (from.segment, from.offset)) {
                (row.segment, row.offset) = (known.segment, known.offset);
            }
        }
        self.batch.put(erased_key(item.copy, device), encode(&row));
        Ok(())
    }

    fn put_piece(&mut self, piece: &PieceHeader, row: PieceRow) {
        let bytes = taken(row.bytes);
        self.segment(row.device, row.segment, |stats| stats.live += bytes);
        self.batch
            .put(piece_key(piece.copy, piece.first_frame), encode(&row));
    }

    fn control(&mut self, device: DeviceId, location: Location) {
        self.segment(device, location.segment, |stats| {
            stats.control += taken(location.bytes)
        });
    }

    fn segment(&mut self, device: DeviceId, segment: u64, change: impl FnOnce(&mut SegmentRow)) {
        let key = (device, segment);
        let fat = self.fat;
        let known = || lock(&fat.segments).get(&key).copied().unwrap_or_default();
        change(self.segments.entry(key).or_insert_with(known));
    }

    fn unsettle(&mut self, lease: LeaseId) {
        if !self.fat.is_unsettled(lease) && self.unsettled.insert(lease) {
            self.batch.put(lease_key(lease), []);
        }
    }
}

fn piece_of(entry: &Option<CopyEntry>, first_frame: u32) -> Option<&PieceRow> {
    entry
        .iter()
        .flat_map(|entry| &entry.pieces)
        .find(|(first, _)| *first == first_frame)
        .map(|(_, row)| row)
}

fn add_stale(stale: &mut Vec<(DeviceId, u64)>, segment: (DeviceId, u64)) {
    if !stale.contains(&segment) {
        stale.push(segment);
    }
}
