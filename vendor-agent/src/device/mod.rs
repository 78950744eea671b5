//! Devices: where pieces lie. The [`Device`] trait, its value types and the on-disk record format live
//! below this module; which copy is where (the local FAT) and when to write (the lane) do not.
//!
//! The agent's own directory, with its key and the list of devices, is here too ([`data_dir`]): all that touches
//! disks but the index does.
//!
//! A device is a growing sequence of *segments* named by ids that never come back. A segment is a sequence
//! of self-describing *records* ([`record`]). Everything that must survive is a record: pieces, erasures,
//! judgements to keep, closed leases. The local FAT is rebuilt from them.

pub(crate) mod data_dir;
mod direct;
pub mod directory;
pub mod memory;
pub mod record;
pub mod scan;
mod segment;

use bytes::{Bytes, BytesMut};
use record::Record;
use scan::{ScanSummary, Scanned};
use std::fmt;
use std::io::IoSliceMut;
use ullage_model::ids::DeviceId;

/// Where a record lies on its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The segment.
    pub segment: u64,
    /// Offset of the record's header in the segment, in bytes.
    pub offset: u32,
    /// Bytes of the record: header and payload, without padding.
    pub bytes: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} at {}", self.segment, self.offset)
    }
}

/// A place in a device's sequence of records: everything before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment.
    pub segment: u64,
    /// Offset in it, in bytes.
    pub offset: u64,
}

/// What a durable batch came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// One per record, in order.
    pub locations: Vec<Location>,
    /// All records of the device before this are durable.
    pub end: Position,
}

/// Which room a batch may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// New pieces: refused when the capacity is used up but for what compaction needs.
    Store,
    /// Records that give room back (erasures, judgements, closes) and compaction: may use the reserve.
    Upkeep,
}

/// One segment as its device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its id.
    pub segment: u64,
    /// Bytes it occupies on the medium now (holes left out).
    pub allocated: u64,
    /// No record will be added any more.
    pub sealed: bool,
}

/// A device's room and health as the device itself sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bound on what its segments may occupy, in bytes.
    pub capacity: u64,
    /// What the file system has free for this agent, in bytes. Shared by devices with the same `share`.
    pub file_system_free: u64,
    /// Bytes that its segments occupy on the medium.
    pub allocated: u64,
    /// Devices with the same number draw on the same free bytes (`st_dev`).
    pub share: u64,
    /// Why it takes no pieces now, if it does not.
    pub fault: Option<Fault>,
}

/// Why a device does not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No room; it takes pieces again when room is back.
    Full,
    /// A write or sync failed: nothing more is written until restart. Reads go on.
    Poisoned(String),
    /// It is not reachable.
    Gone(String),
}

/// Why a device did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No room.
    #[error("{device} is full")]
    Full {
        /// The device.
        device: DeviceId,
    },
    /// A write or sync failed, now or earlier.
    #[error("{device} takes no more writes: {reason}")]
    Poisoned {
        /// The device.
        device: DeviceId,
        /// The first failure.
        reason: String,
    },
    /// The device is not reachable.
    #[error("{device} is gone: {reason}")]
    Gone {
        /// The device.
        device: DeviceId,
        /// What was noticed.
        reason: String,
    },
    /// The bytes are not in memory and the caller must not wait.
    #[error("{device} would have to wait for its medium")]
    WouldWait {
        /// The device.
        device: DeviceId,
    },
    /// A read failed or there is no such segment.
    #[error("cannot read {device}, segment {segment}: {reason}")]
    Read {
        /// The device.
        device: DeviceId,
        /// The segment.
        segment: u64,
        /// What the medium said.
        reason: String,
    },
    /// The device cannot be used as one.
    #[error("{path}: {reason}")]
    Unusable {
        /// Its path.
        path: String,
        /// What is missing.
        reason: String,
    },
}

/// A reader's readiness to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The call runs on a blocking thread and may wait for the medium.
    ForMedium,
    /// The call runs where nothing may block: only bytes already in memory.
    Never,
}

/// A medium that keeps records. Calls block (except [`Wait::Never`] reads) and come from threads made for it;
/// `put_batch` calls come one at a time.
pub trait Device: Send + Sync + 'static {
    /// Which device this is.
    fn id(&self) -> DeviceId;

    /// Writes `records` in order and returns when all are durable.
    ///
    /// # Errors
    /// None of the records counts as stored. After a failed write or sync every later call fails too.
    fn put_batch(&self, records: &[Record], purpose: Purpose) -> Result<Durable, DeviceError>;

    /// Fills `into` with the bytes of a segment from `offset` on, one slice after the other.
    ///
    /// # Errors
    /// When the segment is not there, ends before, cannot be read, or the bytes are not in memory and the
    /// caller may not wait.
    fn read_into(
        &self,
        segment: u64,
        offset: u64,
        into: &mut [IoSliceMut<'_>],
        wait: Wait,
    ) -> Result<(), DeviceError>;

    /// `bytes` bytes of a segment from `offset`.
    ///
    /// # Errors
    /// As [`Device::read_into`].
    fn read(&self, segment: u64, offset: u64, bytes: usize, wait: Wait) -> Result<Bytes, DeviceError> {
        let mut buffer = BytesMut::zeroed(bytes);
        self.read_into(segment, offset, &mut [IoSliceMut::new(&mut buffer)], wait)?;
        Ok(buffer.freeze())
    }

    /// Gives back the medium under dead records, as far as they are large enough; the first block of each
    /// stays. Idempotent. Returns the bytes given back.
    ///
    /// # Errors
    /// When the medium refuses.
    fn release(&self, locations: &[Location]) -> Result<u64, DeviceError>;

    /// Reads all records from `from` on (from the beginning if `None`), in order.
    ///
    /// # Errors
    /// When the medium fails, or `each` does.
    fn scan(
        &self,
        from: Option<Position>,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError>;

    /// Reads all records of one sealed segment, in order.
    ///
    /// # Errors
    /// As [`Device::scan`].
    fn scan_segment(
        &self,
        segment: u64,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError>;

    /// Removes a sealed segment and gives its room back.
    ///
    /// # Errors
    /// When the medium refuses.
    fn remove_segment(&self, segment: u64) -> Result<(), DeviceError>;

    /// Its segments, oldest first.
    fn segments(&self) -> Vec<SegmentInfo>;

    /// Whether `segment` is still there.
    fn has_segment(&self, segment: u64) -> bool;

    /// Its room and health, looked at now.
    fn space(&self) -> Space;

    /// Bytes of one segment: what it keeps in hand for compaction.
    fn segment_bytes(&self) -> u64;
}
