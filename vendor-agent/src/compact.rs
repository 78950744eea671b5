//! The keeper: one worker per device that gives room back. It punches out dead large records, removes
//! segments in which nothing is needed, and writes again what is needed of segments that hold too much else.
//!
//! Garbage bound: at rest, a sealed segment holds at most a quarter of garbage ([`GARBAGE_SHARE`]), tombstones
//! and other control records aside until [`REMOVALS_TO_RECHECK`] segments have gone since they were last
//! looked at. Two more segments per device are in hand (one written to, one compacted). When a device runs
//! short of its capacity any garbage is collected, at full speed.

use crate::device::record::{ClosedState, ErasedItem, HEADER_BYTES, PieceHeader, RecordBody};
use crate::device::scan::ScannedBody;
use crate::device::{Device, DeviceError, Location, SegmentInfo, Wait};
use crate::error::AgentError;
use crate::lane::{Job, Lane, MovedPiece};
use crate::local_fat::{Applied, LocalFat};
use crate::sync::{Shared, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use ullage_model::ids::{CopyId, DeviceId};

/// One in this many bytes of a sealed segment may be garbage.
pub const GARBAGE_SHARE: u64 = 4;
/// Less garbage than this in a segment is not worth a look.
const GARBAGE_BYTES_MIN: u64 = 16 * 1024;
/// Control records are looked at again after so many segments have gone.
pub const REMOVALS_TO_RECHECK: u64 = 8;
/// Bytes moved in one step.
const MOVE_BYTES: usize = 1024 * 1024;
/// Dead locations waiting; beyond that the rest waits for compaction.
const DEAD_MAX: usize = 1 << 16;
/// How often the keeper looks by itself.
const PERIOD: Duration = Duration::from_secs(1);

/// Whether a segment of some device of this vendor may still exist.
pub trait SegmentsExist: Send + Sync + 'static {
    /// True unless the device is here and the segment is not on it.
    fn may_exist(&self, device: DeviceId, segment: u64) -> bool;
}

#[derive(Default)]
struct Work {
    dead: Vec<Location>,
    woken: bool,
}

/// Gives back room of one device.
pub struct Keeper {
    device: Arc<dyn Device>,
    lane: Arc<Lane>,
    fat: Arc<LocalFat>,
    exists: Arc<dyn SegmentsExist>,
    rate_bytes: u64,
    work: Shared<Work>,
    wake: Notify,
    stopping: AtomicBool,
}

/// What the keeper remembers between rounds; rebuilt by looking.
#[derive(Default)]
struct Memory {
    removals: u64,
    checked: BTreeMap<u64, u64>,
    /// Segments with bytes that no header explains: left alone, for something may refer to them.
    pinned: BTreeSet<u64>,
    sealed: usize,
}

impl Keeper {
    /// A keeper that moves at most `rate_bytes` per second when there is no hurry.
    #[must_use]
    pub fn new(
        device: Arc<dyn Device>,
        lane: Arc<Lane>,
        fat: Arc<LocalFat>,
        exists: Arc<dyn SegmentsExist>,
        rate_bytes: u64,
    ) -> Self {
        Self {
            device,
            lane,
            fat,
            exists,
            rate_bytes: rate_bytes.max(1),
            work: Shared::default(),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Queues dead records whose room may be given back.
    pub fn died(&self, locations: impl IntoIterator<Item = Location>) {
        let mut work = lock(&self.work);
        work.dead.extend(locations);
        work.dead.truncate(DEAD_MAX);
        work.woken = true;
        drop(work);
        self.wake.notify_one();
    }

    /// Looks now.
    pub fn kick(&self) {
        lock(&self.work).woken = true;
        self.wake.notify_one();
    }

    /// Ends [`Keeper::run`] soon.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Works until [`Keeper::stop`]; for a worker of its own.
    pub async fn run(&self) {
        let mut memory = Memory::default();
        while let Some(dead) = self.next_dead().await {
            if let Err(error) = self.round(&mut memory, &dead).await {
                tracing::warn!(device = %self.device.id(), %error, "cannot give room back");
                // The device's own state tells everybody else; try again when the next period has passed.
                sleep(PERIOD.min(Duration::from_millis(200))).await;
            }
        }
    }

    /// What has died since the last round, when it is time for another; `None` when there will be none.
    async fn next_dead(&self) -> Option<Vec<Location>> {
        if !lock(&self.work).woken && !self.stopping.load(Ordering::Relaxed) {
            // Woken or not: the period is over then, and it is time to look.
            let _ = timeout(PERIOD, self.wake.notified()).await;
        }
        if self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        let mut work = lock(&self.work);
        work.woken = false;
        Some(std::mem::take(&mut work.dead))
    }

    async fn round(&self, memory: &mut Memory, dead: &[Location]) -> Result<(), AgentError> {
        self.device.release(dead)?;
        self.flush_index(memory)?;
        while !self.stopping.load(Ordering::Relaxed) {
            let segments = self.device.segments();
            // The rows are read last: they have all that was written to segments before this one.
            let indexed = self.fat.position(self.device.id())?.unwrap_or_default().segment;
            let rows = self.fat.segment_rows(self.device.id());
            for info in segments.iter().filter(|info| info.sealed) {
                if memory.pinned.contains(&info.segment) {
                    continue;
                }
                let row = rows.get(&info.segment).copied().unwrap_or_default();
                if row.live == 0 && row.control == 0 && info.segment < indexed {
                    self.remove(memory, info.segment)?;
                }
            }
            // Without those that have just gone.
            let segments = self.device.segments();
            let urgent = self.is_short(&segments);
            let Some(victim) = self.victim(memory, &segments, urgent) else {
                break;
            };
            // What the lane wrote to a segment last may not be in the index yet: it must not pass for garbage.
            if victim >= indexed {
                self.wait_for_lane().await?;
                if self.victim(memory, &segments, urgent) != Some(victim) {
                    continue;
                }
            }
            self.compact(memory, victim, urgent).await?;
        }
        Ok(())
    }

    /// A start replays what was written since the last flush: after each sealed segment there is a flush.
    fn flush_index(&self, memory: &mut Memory) -> Result<(), AgentError> {
        let sealed = self.device.segments().iter().filter(|info| info.sealed).count();
        if sealed > memory.sealed {
            self.fat.flush()?;
        }
        memory.sealed = sealed;
        Ok(())
    }

    fn is_short(&self, segments: &[SegmentInfo]) -> bool {
        let allocated: u64 = segments.iter().map(|info| info.allocated).sum();
        let space = self.device.space();
        let in_hand = 2 * self.device.segment_bytes();
        allocated + in_hand > space.capacity || space.file_system_free < in_hand || space.fault.is_some()
    }

    fn victim(&self, memory: &mut Memory, segments: &[SegmentInfo], urgent: bool) -> Option<u64> {
        let rows = self.fat.segment_rows(self.device.id());
        let mut best = None;
        for info in segments.iter().filter(|info| info.sealed) {
            let seen = *memory.checked.entry(info.segment).or_insert(memory.removals);
            if memory.pinned.contains(&info.segment) {
                continue;
            }
            let row = rows.get(&info.segment).copied().unwrap_or_default();
            let recheck = memory.removals >= seen + if urgent { 1 } else { REMOVALS_TO_RECHECK };
            let needed = row.live + if recheck { 0 } else { row.control };
            let garbage = info.allocated.saturating_sub(needed);
            let share = if urgent { 64 } else { GARBAGE_SHARE };
            if garbage >= GARBAGE_BYTES_MIN
                && garbage * share > info.allocated
                && best.is_none_or(|(most, _)| garbage > most)
            {
                best = Some((garbage, info.segment));
            }
        }
        best.map(|(_, segment)| segment)
    }

    async fn compact(&self, memory: &mut Memory, segment: u64, urgent: bool) -> Result<(), AgentError> {
        let mut found = Vec::new();
        let summary = self.device.scan_segment(segment, &mut |scanned| {
            found.push((scanned.location, scanned.body));
            Ok(())
        })?;
        memory.checked.insert(segment, memory.removals);
        if summary.damaged_bytes > 0 {
            tracing::error!(device = %self.device.id(), segment, bytes = summary.damaged_bytes, "segment is damaged between its records; it is left as it is");
            memory.pinned.insert(segment);
            return Ok(());
        }
        let mut moved = Vec::new();
        let mut bytes = 0;
        let mut dead = Vec::new();
        for (location, body) in found {
            if self.stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            match body {
                ScannedBody::Piece(header) => {
                    if !self.is_live(&header, location)? {
                        dead.push(location);
                        continue;
                    }
                    let payload = self.device.read(
                        segment,
                        u64::from(location.offset) + HEADER_BYTES as u64,
                        location.bytes as usize - HEADER_BYTES,
                        Wait::ForMedium,
                    )?;
                    bytes += payload.len();
                    moved.push(MovedPiece {
                        header,
                        from: location,
                        payload,
                    });
                }
                ScannedBody::Erased(items) => self.keep_erased(location, items).await?,
                ScannedBody::Kept(copies) => self.keep_kept(copies).await?,
                ScannedBody::Closed(state) => self.keep_closed(location, state).await?,
            }
            if bytes >= MOVE_BYTES {
                self.move_pieces(std::mem::take(&mut moved)).await?;
                self.throttle(bytes, urgent).await;
                bytes = 0;
            }
        }
        self.move_pieces(moved).await?;
        self.device.release(&dead)?;
        let live = self
            .fat
            .segment_rows(self.device.id())
            .get(&segment)
            .copied()
            .unwrap_or_default()
            .live;
        if live > 0 {
            tracing::error!(device = %self.device.id(), segment, live, "segment has pieces that were not found; it is left as it is");
            memory.pinned.insert(segment);
            return Ok(());
        }
        self.remove(memory, segment)
    }

    fn is_live(&self, header: &PieceHeader, location: Location) -> Result<bool, AgentError> {
        let entry = self.fat.lookup(header.copy, Wait::ForMedium)?;
        Ok(entry
            .iter()
            .flat_map(|entry| &entry.pieces)
            .any(|(first_frame, row)| {
                *first_frame == header.first_frame
                    && row.device == self.device.id()
                    && row.location() == location
            }))
    }

    async fn keep_erased(&self, location: Location, items: Vec<ErasedItem>) -> Result<(), AgentError> {
        let own = |device: DeviceId, segment: u64| device == self.device.id() && segment == location.segment;
        let (needed, done): (Vec<ErasedItem>, Vec<ErasedItem>) = items.into_iter().partition(|item| {
            item.killed
                .iter()
                .any(|&(device, segment)| !own(device, segment) && self.exists.may_exist(device, segment))
        });
        if !needed.is_empty() {
            let applied = Applied::MovedErased(needed.clone(), location);
            self.control(RecordBody::Erased(needed), applied).await?;
        }
        let copies: Vec<CopyId> = done.iter().map(|item| item.copy).collect();
        self.fat.drop_erased(self.device.id(), location, &copies)
    }

    async fn keep_kept(&self, copies: Vec<CopyId>) -> Result<(), AgentError> {
        let mut needed = Vec::new();
        for copy in copies {
            let entry = self.fat.lookup(copy, Wait::ForMedium)?;
            if entry.is_some_and(|entry| !entry.pieces.is_empty() && entry.kept.contains(&self.device.id())) {
                needed.push(copy);
            }
        }
        if needed.is_empty() {
            return Ok(());
        }
        self.control(RecordBody::Kept(needed.clone()), Applied::Kept(needed))
            .await
    }

    async fn keep_closed(&self, location: Location, state: ClosedState) -> Result<(), AgentError> {
        let newest = self.fat.closed_row(self.device.id())?;
        if newest.is_some_and(|row| (row.segment, row.offset) == (location.segment, location.offset)) {
            self.control(RecordBody::Closed(state.clone()), Applied::Closed(state))
                .await?;
        }
        Ok(())
    }

    async fn control(&self, body: RecordBody, applied: Applied) -> Result<(), AgentError> {
        let (done, told) = oneshot::channel();
        self.lane.submit(Job::Control { body, applied, done });
        self.wait(told).await
    }

    async fn move_pieces(&self, pieces: Vec<MovedPiece>) -> Result<(), AgentError> {
        if pieces.is_empty() {
            return Ok(());
        }
        self.submit_move(pieces).await
    }

    /// Returns when all that was submitted before is durable and in the index, or has failed.
    async fn wait_for_lane(&self) -> Result<(), AgentError> {
        self.submit_move(Vec::new()).await
    }

    async fn submit_move(&self, pieces: Vec<MovedPiece>) -> Result<(), AgentError> {
        let (done, told) = oneshot::channel();
        self.lane.submit(Job::Move { pieces, done });
        self.wait(told).await
    }

    async fn wait(&self, told: oneshot::Receiver<Result<(), DeviceError>>) -> Result<(), AgentError> {
        match told.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(DeviceError::Gone {
                device: self.device.id(),
                reason: "its lane has ended".to_owned(),
            }
            .into()),
        }
    }

    async fn throttle(&self, bytes: usize, urgent: bool) {
        if !urgent {
            let seconds = bytes as f64 / self.rate_bytes as f64;
            sleep(Duration::from_secs_f64(seconds.min(1.0))).await;
        }
    }

    fn remove(&self, memory: &mut Memory, segment: u64) -> Result<(), AgentError> {
        self.device.remove_segment(segment)?;
        memory.removals += 1;
        memory.checked.remove(&segment);
        self.fat.forget_segment(self.device.id(), segment)
    }
}
