//! From one segment to the next: room taken, the full one cut and synced, then the new one's name. Which records
//! go where is the device's.

use super::{DirectoryDevice, SEGMENT_BYTES_MIN};
use crate::device::segment::{self, Batch, Writable};
use crate::device::{DeviceError, Purpose};
use crate::sync::lock;
use rustix::io::Errno;
use std::fs::File;
use std::path::PathBuf;

/// A segment that has its room but not yet its name.
pub(super) struct Prepared {
    path: PathBuf,
    active: Active,
}

/// The segment being written.
pub(super) struct Active {
    pub(super) segment: u64,
    pub(super) to: Writable,
    /// Bytes it may take.
    pub(super) bytes: u64,
    /// Where the next record goes.
    pub(super) at: u64,
}

impl DirectoryDevice {
    /// Bytes of the active segment that only upkeep may use, so that a full device can still be emptied.
    pub(super) fn reserved_tail(&self) -> u64 {
        (self.options.segment_bytes / 16).min(SEGMENT_BYTES_MIN)
    }

    /// Takes the room of the next segment, large enough for a record of `needed` bytes.
    pub(super) fn prepare_segment(&self, purpose: Purpose, needed: u64) -> Result<Prepared, DeviceError> {
        let least =
            (needed + self.reserved_tail() + 4096).max(SEGMENT_BYTES_MIN.min(self.options.segment_bytes));
        let mut bytes = self.options.segment_bytes.max(least);
        let (segment, allocated) = {
            let mut table = lock(&self.table);
            let segment = table.next;
            table.next += 1;
            (segment, table.allocated.values().sum::<u64>())
        };
        // Compaction needs a segment to write to before it can give one back.
        let reserve = if purpose == Purpose::Store {
            self.options.segment_bytes
        } else {
            0
        };
        if allocated + bytes + reserve > self.options.capacity {
            return Err(DeviceError::Full { device: self.id });
        }
        let path = self
            .segments_path
            .join(segment::file_name(segment))
            .with_extension("tmp");
        let to = loop {
            match segment::create(&path, bytes) {
                Ok(to) => break to,
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::NOSPC | Errno::DQUOT) if purpose == Purpose::Upkeep && bytes > least => {
                        bytes = (bytes / 2).max(least);
                    }
                    Some(Errno::NOSPC | Errno::DQUOT) => return Err(self.set_full()),
                    _ => return Err(self.io_fault("make a segment file", &error)),
                },
            }
        };
        let active = Active {
            segment,
            to,
            bytes,
            at: 0,
        };
        Ok(Prepared { path, active })
    }

    /// Gives the next segment its name, durably.
    fn open_segment(&self, prepared: Prepared) -> Result<Active, DeviceError> {
        let Prepared { path, active } = prepared;
        let named = std::fs::rename(&path, path.with_extension("seg"))
            .and_then(|()| File::open(&self.segments_path))
            .and_then(|directory| directory.sync_all());
        named.map_err(|error| self.io_fault("name a segment file", &error))?;
        self.remember(active.segment, &active.to.file);
        let mut table = lock(&self.table);
        table.allocated.insert(active.segment, active.bytes);
        table.active = Some(active.segment);
        Ok(active)
    }

    /// Makes the next segment the one being written, after the present one is complete on the medium.
    pub(super) fn roll(
        &self,
        slot: &mut Option<Active>,
        batch: Option<Batch>,
        at: u64,
        next: Prepared,
    ) -> Result<(), DeviceError> {
        if let Some(full) = slot.as_mut() {
            let complete = batch.map_or(Ok(()), |batch| self.flush(full, batch));
            let complete = complete.and_then(|()| self.seal(full.segment, &full.to.file, at));
            if let Err(error) = complete {
                // What was reserved must not stay behind; if it does, the next start removes it.
                let _ = std::fs::remove_file(&next.path);
                return Err(error);
            }
        }
        *slot = Some(self.open_segment(next)?);
        Ok(())
    }

    /// Cuts `segment` behind its last record, durably, so that what was not used is given back.
    pub(super) fn seal(&self, segment: u64, file: &File, end: u64) -> Result<(), DeviceError> {
        let sealed = file
            .set_len(end)
            .and_then(|()| file.sync_all())
            .and_then(|()| segment::allocated(file));
        let allocated = sealed.map_err(|error| self.io_fault("seal a segment file", &error))?;
        let mut table = lock(&self.table);
        table.allocated.insert(segment, allocated);
        if table.active == Some(segment) {
            table.active = None;
        }
        Ok(())
    }
}
