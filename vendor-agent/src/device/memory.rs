//! A device in memory that fails when told to: for tests and simulation. It keeps the same records as the
//! directory device.

use super::record::{HEADER_BYTES, Record, is_aligned, place};
use super::scan::{Payloads, ScanSummary, Scanned, Source, walk};
use super::{Device, DeviceError, Durable, Fault, Location, Position, Purpose, SegmentInfo, Space, Wait};
use crate::sync::{Shared, lock};
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use ullage_model::ids::DeviceId;
use ullage_model::limits::BLOCK_BYTES;

/// Faults to come.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The next batch writes only this many bytes, then the device is poisoned.
    pub tear_after: Option<usize>,
    /// Batches fail as if the medium had no room.
    pub full: bool,
    /// Batches of upkeep fail so, too: the medium has no byte left.
    pub no_room: bool,
    /// The next batch fails and poisons the device, with nothing written.
    pub fail_write: bool,
    /// Everything fails as if the device had been pulled.
    pub gone: bool,
}

struct Segment {
    bytes: Vec<u8>,
    released: u64,
}

struct State {
    segments: BTreeMap<u64, Segment>,
    active: Option<u64>,
    next: u64,
    poisoned: Option<String>,
    faults: Faults,
}

/// A device in memory.
pub struct MemoryDevice {
    id: DeviceId,
    capacity: u64,
    segment_bytes: u64,
    state: Shared<State>,
}

impl MemoryDevice {
    /// An empty device.
    #[must_use]
    pub fn new(id: DeviceId, capacity: u64, segment_bytes: u64) -> Self {
        let state = State {
            segments: BTreeMap::new(),
            active: None,
            next: 1,
            poisoned: None,
            faults: Faults::default(),
        };
        Self {
            id,
            capacity,
            segment_bytes,
            state: Shared::new(state),
        }
    }

    /// Sets the faults to come.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    /// The device as a restart finds it: no faults, nothing poisoned, no segment being written.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let state = lock(&self.state);
        let segments = state
            .segments
            .iter()
            .map(|(id, segment)| {
                (
                    *id,
                    Segment {
                        bytes: segment.bytes.clone(),
                        released: segment.released,
                    },
                )
            })
            .collect();
        let fresh = State {
            segments,
            active: None,
            next: state.next,
            poisoned: None,
            faults: Faults::default(),
        };
        Self {
            id: self.id,
            capacity: self.capacity,
            segment_bytes: self.segment_bytes,
            state: Shared::new(fresh),
        }
    }

    /// Changes one stored byte. Returns whether there was one.
    pub fn flip(&self, segment: u64, offset: usize) -> bool {
        let mut state = lock(&self.state);
        let byte = state
            .segments
            .get_mut(&segment)
            .and_then(|segment| segment.bytes.get_mut(offset));
        byte.is_some_and(|byte| {
            *byte ^= 0x10;
            true
        })
    }

    fn write(&self, state: &mut State, records: &[Record]) -> Result<Durable, DeviceError> {
        let mut locations = Vec::with_capacity(records.len());
        let mut left = state.faults.tear_after.take();
        let mut end = Position::default();
        for record in records {
            let payload = record.payload().concat();
            let bytes = (HEADER_BYTES + payload.len()) as u64;
            let used = state
                .active
                .and_then(|id| state.segments.get(&id))
                .map(|segment| segment.bytes.len() as u64);
            let fits =
                used.is_some_and(|used| place(used, bytes).1 <= self.segment_bytes.max(bytes + BLOCK_BYTES));
            if !fits {
                state.active = Some(state.next);
                state.segments.insert(
                    state.next,
                    Segment {
                        bytes: Vec::new(),
                        released: 0,
                    },
                );
                state.next += 1;
            }
            let Some(id) = state.active else { continue };
            let Some(segment) = state.segments.get_mut(&id) else {
                continue;
            };
            let (offset, finish) = place(segment.bytes.len() as u64, bytes);
            let mut written = vec![0; usize::try_from(offset).unwrap_or(0) - segment.bytes.len()];
            written.extend_from_slice(&record.header(id, u32::try_from(payload.len()).unwrap_or(u32::MAX)));
            written.extend_from_slice(&payload);
            written.resize(usize::try_from(finish).unwrap_or(0) - segment.bytes.len(), 0);
            if let Some(left) = &mut left {
                if *left < written.len() {
                    segment.bytes.extend_from_slice(&written[..*left]);
                    let reason = "torn".to_owned();
                    state.poisoned = Some(reason.clone());
                    return Err(DeviceError::Poisoned {
                        device: self.id,
                        reason,
                    });
                }
                *left -= written.len();
            }
            segment.bytes.extend_from_slice(&written);
            locations.push(Location {
                segment: id,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            });
            end = Position {
                segment: id,
                offset: finish,
            };
        }
        Ok(Durable { locations, end })
    }

    fn walk_segment(
        &self,
        segment: u64,
        from: u64,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError> {
        let bytes = lock(&self.state)
            .segments
            .get(&segment)
            .map(|found| found.bytes.clone());
        let bytes = bytes.ok_or_else(|| self.missing(segment))?;
        walk(&MemorySource(&bytes), segment, from, Payloads::Verified, each)
    }

    fn missing(&self, segment: u64) -> DeviceError {
        DeviceError::Read {
            device: self.id,
            segment,
            reason: "no such segment or offset".to_owned(),
        }
    }

    fn gone(&self) -> DeviceError {
        DeviceError::Gone {
            device: self.id,
            reason: "told to be".to_owned(),
        }
    }
}

struct MemorySource<'a>(&'a [u8]);

impl Source for MemorySource<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let bytes = buffer.len().min(self.0.len() - start);
        buffer[..bytes].copy_from_slice(&self.0[start..start + bytes]);
        Ok(bytes)
    }
}

impl Device for MemoryDevice {
    fn id(&self) -> DeviceId {
        self.id
    }

    fn put_batch(&self, records: &[Record], purpose: Purpose) -> Result<Durable, DeviceError> {
        let mut state = lock(&self.state);
        if state.faults.gone {
            return Err(self.gone());
        }
        if let Some(reason) = &state.poisoned {
            return Err(DeviceError::Poisoned {
                device: self.id,
                reason: reason.clone(),
            });
        }
        if state.faults.fail_write {
            let reason = "told to fail".to_owned();
            state.poisoned = Some(reason.clone());
            return Err(DeviceError::Poisoned {
                device: self.id,
                reason,
            });
        }
        if state.faults.no_room {
            return Err(DeviceError::Full { device: self.id });
        }
        let used: u64 = state
            .segments
            .values()
            .map(|segment| segment.bytes.len() as u64)
            .sum();
        if purpose == Purpose::Store && (state.faults.full || used + self.segment_bytes > self.capacity) {
            return Err(DeviceError::Full { device: self.id });
        }
        self.write(&mut state, records)
    }

    fn read_into(
        &self,
        segment: u64,
        offset: u64,
        into: &mut [IoSliceMut<'_>],
        _: Wait,
    ) -> Result<(), DeviceError> {
        let state = lock(&self.state);
        if state.faults.gone {
            return Err(self.gone());
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes: usize = into.iter().map(|slice| slice.len()).sum();
        let found = state
            .segments
            .get(&segment)
            .and_then(|segment| segment.bytes.get(start..start.checked_add(bytes)?));
        let mut found = found.ok_or_else(|| self.missing(segment))?;
        for slice in into {
            let (bytes, rest) = found.split_at(slice.len());
            slice.copy_from_slice(bytes);
            found = rest;
        }
        Ok(())
    }

    fn release(&self, locations: &[Location]) -> Result<u64, DeviceError> {
        let mut state = lock(&self.state);
        let mut released = 0;
        for location in locations
            .iter()
            .filter(|location| is_aligned(u64::from(location.bytes)))
        {
            let Some(segment) = state.segments.get_mut(&location.segment) else {
                continue;
            };
            let start = location.offset as usize + usize::try_from(BLOCK_BYTES).unwrap_or(4096);
            let end = (location.offset as usize + location.bytes as usize).min(segment.bytes.len());
            if start < end {
                segment.bytes[start..end].fill(0);
                released += (end - start) as u64;
                segment.released += (end - start) as u64;
            }
        }
        Ok(released)
    }

    fn scan(
        &self,
        from: Option<Position>,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError> {
        let from = from.unwrap_or_default();
        let segments: Vec<u64> = lock(&self.state)
            .segments
            .range(from.segment..)
            .map(|(id, _)| *id)
            .collect();
        let mut summary = ScanSummary::default();
        for segment in segments {
            let start = if segment == from.segment { from.offset } else { 0 };
            summary.add(self.walk_segment(segment, start, each)?);
        }
        Ok(summary)
    }

    fn scan_segment(
        &self,
        segment: u64,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError> {
        self.walk_segment(segment, 0, each)
    }

    fn remove_segment(&self, segment: u64) -> Result<(), DeviceError> {
        let mut state = lock(&self.state);
        if state.faults.gone {
            return Err(self.gone());
        }
        state.segments.remove(&segment);
        Ok(())
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        let state = lock(&self.state);
        state
            .segments
            .iter()
            .map(|(&segment, found)| SegmentInfo {
                segment,
                allocated: found.bytes.len() as u64 - found.released.min(found.bytes.len() as u64),
                sealed: state.active != Some(segment),
            })
            .collect()
    }

    fn has_segment(&self, segment: u64) -> bool {
        lock(&self.state).segments.contains_key(&segment)
    }

    fn space(&self) -> Space {
        let allocated = self.segments().iter().map(|segment| segment.allocated).sum();
        let state = lock(&self.state);
        let fault = if state.faults.gone {
            Some(Fault::Gone("told to be".to_owned()))
        } else if let Some(reason) = &state.poisoned {
            Some(Fault::Poisoned(reason.clone()))
        } else {
            (state.faults.full || state.faults.no_room).then_some(Fault::Full)
        };
        Space {
            capacity: self.capacity,
            file_system_free: self.capacity.saturating_sub(allocated),
            allocated,
            share: u64::MAX - u64::from(self.id.0),
            fault,
        }
    }

    fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }
}
