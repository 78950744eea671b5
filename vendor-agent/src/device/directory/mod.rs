//! The directory device: segment files in a directory of their own file system or a shared one. Which record
//! means what is not known here.
//!
//! # Layout
//!
//! | file | what |
//! |---|---|
//! | `ullage-device` | marker: format, device id, public key of the vendor it belongs to; made once, synced |
//! | `segments/<16 hex digits>.seg` | segment with that id, a sequence of [`super::record`]s |
//! | `segments/*.tmp` | not yet a segment: its room is taken, the one before it is not complete; removed at start |
//!
//! The segment being written is preallocated (64 MiB unless the device is nearly full) and is sealed —
//! synced and cut to its last record — when the next record does not fit, and at every start. Only then does
//! its successor get its name: whatever the instant of a power cut, all segments but the newest are complete.
//! Ids only grow.
//! A file system that cannot punch holes is refused.

mod roll;

use super::direct::Staging;
use super::record::{HEADER_BYTES, Record, is_aligned, place};
use super::scan::{Payloads, ScanSummary, Scanned, walk};
use super::segment::{self, Batch, FileSource};
use super::{Device, DeviceError, Durable, Fault, Location, Position, Purpose, SegmentInfo, Space, Wait};
use crate::device::data_dir::{self, DeviceMarker};
use crate::error::AgentError;
use crate::sync::{Shared, lock};
use bytes::Bytes;
use roll::Active;
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ullage_model::ids::DeviceId;
use ullage_model::limits::SEGMENT_BYTES;

/// Open files kept for reading, per device.
const OPEN_FILES_MAX: usize = 512;
/// A preallocated segment on a nearly full file system is not made smaller than this.
const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;

/// How a directory device is opened.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// Its directory; made if its parent exists and `is_new`.
    pub path: PathBuf,
    /// What its marker must say.
    pub marker: DeviceMarker,
    /// No marker is expected yet.
    pub is_new: bool,
    /// Bound on what its segments may occupy, in bytes.
    pub capacity: u64,
    /// Bytes of one segment; `limits::SEGMENT_BYTES` but in tests.
    pub segment_bytes: u64,
}

impl DirectoryOptions {
    /// Options with segments of the usual size.
    #[must_use]
    pub fn new(path: PathBuf, marker: DeviceMarker, is_new: bool, capacity: u64) -> Self {
        Self {
            path,
            marker,
            is_new,
            capacity,
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

/// A directory that keeps records in segment files.
pub struct DirectoryDevice {
    id: DeviceId,
    options: DirectoryOptions,
    segments_path: PathBuf,
    marker_inode: (u64, u64),
    table: Shared<Table>,
    active: Shared<Option<Active>>,
    staging: Shared<Staging>,
    files: Shared<HashMap<u64, Arc<File>>>,
    fault: Shared<Option<Fault>>,
}

#[derive(Default)]
struct Table {
    /// Bytes that each segment occupies; the one being written counts in full.
    allocated: BTreeMap<u64, u64>,
    active: Option<u64>,
    next: u64,
    /// The newest segment at start: its end may not have been synced before.
    unsynced: Option<u64>,
}

impl DirectoryDevice {
    /// Opens the device, or makes it if it is new.
    ///
    /// # Errors
    /// When it is not there, belongs to somebody else, or its file system does not punch holes. Nothing is
    /// written to a directory that is not the vendor's.
    pub fn open(options: DirectoryOptions) -> Result<Self, AgentError> {
        let path = &options.path;
        if options.is_new {
            data_dir::make_device(path, &options.marker)?;
        } else {
            data_dir::check_device(path, &options.marker)?;
        }
        let segments_path = path.join("segments");
        match std::fs::create_dir(&segments_path) {
            Ok(()) => data_dir::sync_directory(path)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(AgentError::file("make", &segments_path)(error)),
        }
        let marker = path.join(data_dir::DEVICE_MARKER);
        let found = std::fs::metadata(&marker).map_err(AgentError::file("look at", &marker))?;
        let id = options.marker.device;
        let device = Self {
            id,
            marker_inode: (found.dev(), found.ino()),
            segments_path,
            table: Shared::default(),
            active: Shared::default(),
            staging: Shared::default(),
            files: Shared::default(),
            fault: Shared::default(),
            options,
        };
        device.load()?;
        let punches = segment::can_punch(&device.segments_path)
            .or_else(|error| match Errno::from_io_error(&error) {
                // A full file system has been accepted before it was full.
                Some(Errno::NOSPC | Errno::DQUOT) => Ok(true),
                _ => Err(error),
            })
            .map_err(AgentError::file("punch a hole in", &device.segments_path))?;
        if !punches {
            return Err(DeviceError::Unusable {
                path: device.options.path.display().to_string(),
                reason: "its file system cannot punch holes (fallocate FALLOC_FL_PUNCH_HOLE); use ext4, XFS, btrfs or tmpfs"
                    .to_owned(),
            }
            .into());
        }
        Ok(device)
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.options.path
    }

    fn load(&self) -> Result<(), AgentError> {
        let mut table = lock(&self.table);
        let entries =
            std::fs::read_dir(&self.segments_path).map_err(AgentError::file("list", &self.segments_path))?;
        for entry in entries {
            let path = entry
                .map_err(AgentError::file("list", &self.segments_path))?
                .path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if let Some(segment) = segment::parse_name(name) {
                let found = std::fs::metadata(&path).map_err(AgentError::file("look at", &path))?;
                table.allocated.insert(segment, found.blocks() * 512);
            } else if name.ends_with(".tmp") {
                std::fs::remove_file(&path).map_err(AgentError::file("remove", &path))?;
            }
        }
        let newest = table.allocated.last_key_value().map(|(segment, _)| *segment);
        table.next = newest.map_or(1, |newest| newest + 1);
        table.unsynced = newest;
        Ok(())
    }

    fn io_fault(&self, action: &str, error: &io::Error) -> DeviceError {
        let mut fault = lock(&self.fault);
        let reason = format!("cannot {action}: {error}");
        let gone = error.kind() == io::ErrorKind::NotFound || !self.is_in_place();
        match &*fault {
            Some(Fault::Poisoned(_) | Fault::Gone(_)) => {}
            _ if gone => *fault = Some(Fault::Gone(reason.clone())),
            _ => *fault = Some(Fault::Poisoned(reason.clone())),
        }
        tracing::error!(device = %self.id, path = %self.options.path.display(), reason, "device failed");
        if gone {
            DeviceError::Gone {
                device: self.id,
                reason,
            }
        } else {
            DeviceError::Poisoned {
                device: self.id,
                reason,
            }
        }
    }

    fn is_in_place(&self) -> bool {
        std::fs::metadata(self.options.path.join(data_dir::DEVICE_MARKER))
            .is_ok_and(|found| (found.dev(), found.ino()) == self.marker_inode)
            && self.segments_path.is_dir()
    }

    fn check_writable(&self, purpose: Purpose) -> Result<(), DeviceError> {
        match &*lock(&self.fault) {
            None => Ok(()),
            Some(Fault::Full) if purpose == Purpose::Upkeep => Ok(()),
            Some(Fault::Full) => Err(DeviceError::Full { device: self.id }),
            Some(Fault::Poisoned(reason)) => Err(DeviceError::Poisoned {
                device: self.id,
                reason: reason.clone(),
            }),
            Some(Fault::Gone(reason)) => Err(DeviceError::Gone {
                device: self.id,
                reason: reason.clone(),
            }),
        }
    }

    fn set_full(&self) -> DeviceError {
        let mut fault = lock(&self.fault);
        if fault.is_none() {
            *fault = Some(Fault::Full);
            tracing::warn!(device = %self.id, path = %self.options.path.display(), "device is full");
        }
        DeviceError::Full { device: self.id }
    }

    fn remember(&self, segment: u64, file: &Arc<File>) {
        let mut files = lock(&self.files);
        if files.len() >= OPEN_FILES_MAX {
            // Any half will do: a file that is wanted again costs one open.
            let mut turn = false;
            files.retain(|_, _| {
                turn = !turn;
                turn
            });
        }
        files.insert(segment, Arc::clone(file));
    }

    fn file(&self, segment: u64) -> Result<Arc<File>, DeviceError> {
        if let Some(file) = lock(&self.files).get(&segment) {
            return Ok(Arc::clone(file));
        }
        let path = self.segments_path.join(segment::file_name(segment));
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| {
                if self.is_in_place() {
                    DeviceError::Read {
                        device: self.id,
                        segment,
                        reason: error.to_string(),
                    }
                } else {
                    DeviceError::Gone {
                        device: self.id,
                        reason: error.to_string(),
                    }
                }
            })?;
        let file = Arc::new(file);
        self.remember(segment, &file);
        Ok(file)
    }

    fn flush(&self, active: &mut Active, batch: Batch) -> Result<(), DeviceError> {
        match batch.write(&mut active.to, &mut lock(&self.staging)) {
            Ok(()) => {}
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOSPC | Errno::DQUOT)) => {
                return Err(self.set_full());
            }
            Err(error) => return Err(self.io_fault("write a segment file", &error)),
        }
        // Never retried: after a failed sync the kernel may have dropped the pages and report success.
        rustix::fs::fdatasync(&active.to.file)
            .map_err(|error| self.io_fault("sync a segment file", &error.into()))
    }

    fn write_batch(
        &self,
        slot: &mut Option<Active>,
        records: &[Record],
        purpose: Purpose,
    ) -> Result<Durable, DeviceError> {
        let mut locations = Vec::with_capacity(records.len());
        let mut batch: Option<Batch> = None;
        let mut at = slot.as_ref().map_or(0, |active| active.at);
        for record in records {
            let payload = record.payload();
            let payload_bytes: usize = payload.iter().map(Bytes::len).sum();
            let record_bytes = (HEADER_BYTES + payload_bytes) as u64;
            let tail = if purpose == Purpose::Store {
                self.reserved_tail()
            } else {
                0
            };
            let fits = slot
                .as_ref()
                .is_some_and(|active| place(at, record_bytes).1 + tail <= active.bytes);
            if !fits {
                // Its room is taken first: when there is none the present one stays usable.
                let next = self.prepare_segment(purpose, record_bytes)?;
                self.roll(slot, batch.take(), at, next)?;
                at = 0;
            }
            let Some(active) = slot.as_ref() else { continue };
            let (offset, end) = place(at, record_bytes);
            let header = record.header(active.segment, u32::try_from(payload_bytes).unwrap_or(u32::MAX));
            let batch = batch.get_or_insert_with(|| Batch::new(at));
            batch.record((offset, end), &header, &payload);
            locations.push(Location {
                segment: active.segment,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                bytes: u32::try_from(record_bytes).unwrap_or(u32::MAX),
            });
            at = end;
        }
        let Some(active) = slot.as_mut() else {
            return Ok(Durable {
                locations,
                end: Position::default(),
            });
        };
        if let Some(batch) = batch {
            self.flush(active, batch)?;
        }
        active.at = at;
        Ok(Durable {
            locations,
            end: Position {
                segment: active.segment,
                offset: at,
            },
        })
    }

    fn scan_file(
        &self,
        segment: u64,
        from: u64,
        payloads: Payloads,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError> {
        let file = self.file(segment)?;
        walk(
            &FileSource {
                device: self.id,
                segment,
                file: &file,
            },
            segment,
            from,
            payloads,
            each,
        )
    }
}

impl Device for DirectoryDevice {
    fn id(&self) -> DeviceId {
        self.id
    }

    fn put_batch(&self, records: &[Record], purpose: Purpose) -> Result<Durable, DeviceError> {
        self.check_writable(purpose)?;
        let mut slot = lock(&self.active);
        self.write_batch(&mut slot, records, purpose)
    }

    fn read_into(
        &self,
        segment: u64,
        offset: u64,
        into: &mut [IoSliceMut<'_>],
        wait: Wait,
    ) -> Result<(), DeviceError> {
        if wait == Wait::Never && !lock(&self.files).contains_key(&segment) {
            return Err(DeviceError::WouldWait { device: self.id });
        }
        let file = self.file(segment)?;
        let flags = match wait {
            Wait::ForMedium => ReadWriteFlags::empty(),
            Wait::Never => ReadWriteFlags::NOWAIT,
        };
        segment::read(&file, offset, into, flags).map_err(|error| match (wait, error) {
            (Wait::Never, Errno::AGAIN | Errno::OPNOTSUPP | Errno::IO) => {
                DeviceError::WouldWait { device: self.id }
            }
            _ => DeviceError::Read {
                device: self.id,
                segment,
                reason: error.to_string(),
            },
        })
    }

    fn release(&self, locations: &[Location]) -> Result<u64, DeviceError> {
        let mut released = 0;
        for location in locations {
            if !is_aligned(u64::from(location.bytes)) || !self.has_segment(location.segment) {
                continue;
            }
            let file = self.file(location.segment)?;
            let bytes = segment::punch(&file, u64::from(location.offset), u64::from(location.bytes))
                .map_err(|error| match Errno::from_io_error(&error) {
                    // A hole may need a block for the list of extents; compaction gives the room back later.
                    Some(Errno::NOSPC | Errno::DQUOT) => self.set_full(),
                    _ => self.io_fault("punch a hole in a segment file", &error),
                })?;
            let allocated = segment::allocated(&file).ok();
            let mut table = lock(&self.table);
            if table.active != Some(location.segment)
                && let (Some(known), Some(allocated)) =
                    (table.allocated.get_mut(&location.segment), allocated)
            {
                *known = allocated;
            }
            released += bytes;
        }
        Ok(released)
    }

    fn scan(
        &self,
        from: Option<Position>,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError> {
        let from = from.unwrap_or_default();
        let (segments, unsynced) = {
            let mut table = lock(&self.table);
            // The newest segments may have been removed. Their ids must not come back: what is written under one
            // again would lie before the place up to which the index is complete.
            table.next = table.next.max(from.segment.saturating_add(1));
            let segments: Vec<u64> = table.allocated.range(from.segment..).map(|(id, _)| *id).collect();
            (segments, table.unsynced)
        };
        let mut summary = ScanSummary::default();
        for segment in segments {
            let start = if segment == from.segment { from.offset } else { 0 };
            let payloads = if unsynced == Some(segment) {
                let file = self.file(segment)?;
                segment::drop_cached(&file).map_err(|error| self.io_fault("sync a segment file", &error))?;
                Payloads::Verified
            } else {
                Payloads::Trusted
            };
            let found = self.scan_file(segment, start, payloads, each)?;
            if unsynced == Some(segment) {
                // What was found may be in the page cache only; it counts as durable from here on.
                let file = self.file(segment)?;
                self.seal(segment, &file, found.end)?;
                lock(&self.table).unsynced = None;
            }
            summary.add(found);
        }
        Ok(summary)
    }

    fn scan_segment(
        &self,
        segment: u64,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError> {
        self.scan_file(segment, 0, Payloads::Trusted, each)
    }

    fn remove_segment(&self, segment: u64) -> Result<(), DeviceError> {
        let path = self.segments_path.join(segment::file_name(segment));
        lock(&self.files).remove(&segment);
        let removed = std::fs::remove_file(&path)
            .and_then(|()| File::open(&self.segments_path))
            .and_then(|directory| directory.sync_all());
        removed.map_err(|error| self.io_fault("remove a segment file", &error))?;
        lock(&self.table).allocated.remove(&segment);
        Ok(())
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        let table = lock(&self.table);
        table
            .allocated
            .iter()
            .map(|(&segment, &allocated)| SegmentInfo {
                segment,
                allocated,
                sealed: table.active != Some(segment),
            })
            .collect()
    }

    fn has_segment(&self, segment: u64) -> bool {
        lock(&self.table).allocated.contains_key(&segment)
    }

    fn space(&self) -> Space {
        let allocated = lock(&self.table).allocated.values().sum();
        let mut fault = lock(&self.fault);
        let free = match rustix::fs::statvfs(&self.segments_path) {
            Ok(found) => found.f_bavail * found.f_frsize,
            Err(_) => 0,
        };
        if !matches!(*fault, Some(Fault::Gone(_))) && !self.is_in_place() {
            tracing::error!(device = %self.id, path = %self.options.path.display(), "device is gone");
            *fault = Some(Fault::Gone("its directory is no longer in place".to_owned()));
        }
        let back = free > 2 * self.options.segment_bytes;
        if *fault == Some(Fault::Full) && back {
            tracing::info!(device = %self.id, path = %self.options.path.display(), "device has room again");
            *fault = None;
        }
        Space {
            capacity: self.options.capacity,
            file_system_free: free,
            allocated,
            share: self.marker_inode.0,
            fault: fault.clone(),
        }
    }

    fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes
    }
}

/// Bytes that the file system of `path` (or of the nearest directory above it) can hold.
pub(crate) fn whole_file_system(path: &Path) -> Result<u64, AgentError> {
    let there = path
        .ancestors()
        .find(|above| above.exists())
        .unwrap_or(Path::new("."));
    let found = rustix::fs::statvfs(there)
        .map_err(|error| AgentError::file("look at the file system of", path)(error.into()))?;
    Ok(found.f_blocks * found.f_frsize)
}

#[cfg(test)]
mod tests;
