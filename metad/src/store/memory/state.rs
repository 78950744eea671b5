//! The state and its snapshots in memory.

use super::MemoryDisk;
use crate::store::StateWrite;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use ullage_model::store::{Change, Column, Direction, KeyRange, Memory, Read, StoreError, Visit};

/// A state at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Image {
    rows: Memory,
    raft: BTreeMap<String, Bytes>,
}

/// A row of an image as it travels: column name (or none for Raft's own rows), key, value.
type Travelling = (Option<String>, Vec<u8>, Vec<u8>);

impl Image {
    /// One of Raft's own rows.
    pub(in crate::store) fn raft_row(&self, name: &str) -> Option<Bytes> {
        self.raft.get(name).cloned()
    }

    fn apply(&mut self, write: &StateWrite) {
        self.rows.apply(write.changes.iter().cloned());
        for (name, row) in &write.raft {
            self.raft.insert((*name).to_owned(), row.clone());
        }
    }

    /// Everything, as bytes.
    pub(in crate::store) fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        let mut all: Vec<Travelling> = Vec::new();
        for (name, row) in &self.raft {
            all.push((None, name.as_bytes().to_vec(), row.to_vec()));
        }
        for column in Column::ALL {
            let name = Some(column.name().to_owned());
            self.rows
                .scan(column, &KeyRange::all(), Direction::Forward, &mut |key, row| {
                    all.push((name.clone(), key.to_vec(), row.to_vec()));
                    ControlFlow::Continue(())
                })?;
        }
        postcard::to_stdvec(&all).map_err(|error| damaged(&error.to_string()))
    }

    /// The inverse of [`Image::to_bytes`].
    pub(in crate::store) fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let all: Vec<Travelling> =
            postcard::from_bytes(bytes).map_err(|error| damaged(&error.to_string()))?;
        let mut image = Self::default();
        for (column, key, row) in all {
            let Some(name) = column else {
                let name = String::from_utf8(key).map_err(|error| damaged(&error.to_string()))?;
                image.raft.insert(name, Bytes::from(row));
                continue;
            };
            let column = Column::ALL.into_iter().find(|column| column.name() == name);
            let column = column.ok_or_else(|| damaged("it has an unknown column"))?;
            image.rows.apply([Change {
                column,
                key: Bytes::from(key),
                value: Some(Bytes::from(row)),
            }]);
        }
        Ok(image)
    }
}

fn damaged(reason: &str) -> StoreError {
    StoreError::Failed {
        column: "a snapshot",
        reason: reason.to_owned(),
    }
}

/// The state of a disk, as a crash would leave it.
#[derive(Debug, Default)]
pub(super) struct StateDisk {
    flushed: Arc<Image>,
    snapshot: Option<Arc<Image>>,
    /// Which handle's state this is: what an older one still writes is of no account.
    handle: u64,
}

impl StateDisk {
    /// What a node sees beyond what is here lies in its handle, which counts no more.
    pub(super) fn crash(&mut self) {
        self.handle += 1;
    }
}

/// A node's handle on the state of its disk. A replaced state goes on being readable through its handle.
#[derive(Debug)]
pub(in crate::store) struct MemoryState {
    disk: MemoryDisk,
    handle: u64,
    live: Mutex<Arc<Image>>,
}

impl MemoryState {
    /// The state as the last flush left it.
    pub(in crate::store) fn open(disk: &MemoryDisk) -> Self {
        let mut locked = disk.lock();
        locked.state.handle += 1;
        Self {
            disk: disk.clone(),
            handle: locked.state.handle,
            live: Mutex::new(Arc::clone(&locked.state.flushed)),
        }
    }

    /// The durable snapshot.
    pub(in crate::store) fn snapshot(disk: &MemoryDisk) -> Option<Arc<Image>> {
        disk.lock().state.snapshot.clone()
    }

    /// Makes `snapshot` the durable one.
    pub(in crate::store) fn publish(disk: &MemoryDisk, snapshot: &Arc<Image>) {
        disk.lock().state.snapshot = Some(Arc::clone(snapshot));
    }

    /// Replaces state and snapshot in one durable step.
    pub(in crate::store) fn install(disk: &MemoryDisk, snapshot: &Arc<Image>) -> Self {
        {
            let mut disk = disk.lock();
            disk.state.snapshot = Some(Arc::clone(snapshot));
            disk.state.flushed = Arc::clone(snapshot);
        }
        Self::open(disk)
    }

    /// The state at this instant.
    pub(in crate::store) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes a batch, all of it or nothing. It is durable when something flushes.
    pub(in crate::store) fn write(&self, write: &StateWrite) {
        Arc::make_mut(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner)).apply(write);
        let flushes = {
            let mut disk = self.disk.lock();
            let one_in = disk.behaviour.flush_one_in;
            one_in > 0 && disk.draw().is_multiple_of(one_in)
        };
        if flushes {
            self.flush();
        }
    }

    /// Makes everything written so far durable.
    pub(in crate::store) fn flush(&self) {
        let image = self.image();
        let mut disk = self.disk.lock();
        if disk.state.handle == self.handle {
            disk.state.flushed = image;
        }
    }
}

impl Read for Image {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.rows.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.rows.scan(column, range, direction, visit)
    }
}
