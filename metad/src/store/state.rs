//! The state database: one column family per column of the replicated state and one for Raft's own rows,
//! written without a write-ahead file and flushed together. Reads come from the database as it is or from a
//! snapshot of it; both are `model`'s `Read`.

use super::memory::{Image, MemoryState};
use super::options::{self, Budget, RAFT_COLUMN};
use super::steps::{Step, Steps};
use crate::error::Error;
use bytes::Bytes;
use rocksdb::{
    ColumnFamily, DB, DBAccess, DBRawIteratorWithThreadMode, FlushOptions, ReadOptions, Snapshot, WriteBatch,
    WriteOptions, checkpoint::Checkpoint, properties,
};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use ullage_model::store::{Change, Column, Direction, KeyRange, Read, StoreError, Visit};

/// Most bytes a forward scan reads ahead.
const READAHEAD_BYTES: usize = 256 * 1024;
/// Deletions of which a column's memtable may consist: about a millisecond of scanning.
const DELETIONS_IN_MEMORY_MAX: u64 = 4096;
/// Deletions that it may hold among rows that were written: some ten times as long.
const DELETIONS_AMONG_ROWS_MAX: u64 = 32_768;

/// The state database.
pub struct StateDatabase {
    medium: Medium,
    steps: Steps,
    failed: OnceLock<String>,
    /// The first thing that was read and never written.
    corrupt: OnceLock<String>,
}

/// Where the state lies: in RocksDB, or in the twin of it that simulations use.
enum Medium {
    Rocks(DB),
    Memory(MemoryState),
}

impl std::fmt::Debug for StateDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("StateDatabase");
        match &self.medium {
            Medium::Rocks(db) => shown.field("path", &db.path()),
            Medium::Memory(_) => shown.field("path", &"memory"),
        };
        shown.finish_non_exhaustive()
    }
}

/// What one applied batch writes.
#[derive(Debug, Default)]
pub struct StateWrite {
    /// Rows of the replicated state, each once.
    pub changes: Vec<Change>,
    /// Raft's own rows, by name.
    pub raft: Vec<(&'static str, Bytes)>,
}

fn failed(action: &'static str, reason: impl ToString) -> Error {
    Error::Database {
        database: "state",
        action,
        reason: reason.to_string(),
    }
}

impl StateDatabase {
    /// Opens or makes the database in `path`.
    ///
    /// # Errors
    /// When RocksDB cannot open it.
    pub(super) fn open(path: &Path, budget: &Budget, steps: Steps) -> Result<Self, Error> {
        let columns = options::state_columns(budget);
        let db = DB::open_cf_descriptors(&options::state(budget), path, columns)
            .map_err(|error| failed("open", error))?;
        Ok(Self {
            medium: Medium::Rocks(db),
            steps,
            failed: OnceLock::new(),
            corrupt: OnceLock::new(),
        })
    }

    /// The state on a simulated disk.
    pub(super) fn in_memory(state: MemoryState, steps: Steps) -> Self {
        Self {
            medium: Medium::Memory(state),
            steps,
            failed: OnceLock::new(),
            corrupt: OnceLock::new(),
        }
    }

    /// The state at this instant, if it lies in memory.
    pub(super) fn image(&self) -> Option<Arc<Image>> {
        match &self.medium {
            Medium::Rocks(_) => None,
            Medium::Memory(state) => Some(state.image()),
        }
    }

    /// Reads Raft's rows out of a checkpoint without writing to it.
    pub(super) fn peek(
        path: &Path,
        budget: &Budget,
        names: &[&'static str],
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let columns = options::state_columns(budget);
        let db = DB::open_cf_descriptors_read_only(&options::state(budget), path, columns, false)
            .map_err(|error| failed("read a checkpoint of", error))?;
        let family = db
            .cf_handle(RAFT_COLUMN)
            .ok_or_else(|| failed("read a checkpoint of", "no raft rows"))?;
        let get = |name: &&'static str| {
            db.get_cf(family, name)
                .map(|row| row.map(Bytes::from))
                .map_err(|error| failed("read", error))
        };
        names.iter().map(get).collect()
    }

    /// Writes one batch, all of it or nothing, without a write-ahead file.
    ///
    /// # Errors
    /// When it fails; the state is poisoned then.
    pub fn write(&self, write: &StateWrite) -> Result<(), Error> {
        if let Some(reason) = self.failed.get() {
            return Err(Error::Poisoned {
                database: "state",
                reason: reason.clone(),
            });
        }
        let done = self.try_write(write);
        if let Err(error) = &done {
            self.failed.get_or_init(|| error.to_string());
        }
        done
    }

    fn try_write(&self, write: &StateWrite) -> Result<(), Error> {
        self.steps
            .at(Step::StateWrite)
            .map_err(|error| failed("write", error))?;
        let db = match &self.medium {
            Medium::Rocks(db) => db,
            Medium::Memory(state) => {
                state.write(write);
                return Ok(());
            }
        };
        let mut batch = WriteBatch::default();
        for Change { column, key, value } in &write.changes {
            let family = family(db, column.name())?;
            match value {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
        }
        let raft = family(db, RAFT_COLUMN)?;
        for (name, value) in &write.raft {
            batch.put_cf(raft, name, value);
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        db.write_opt(batch, &options)
            .map_err(|error| failed("write", error))
    }

    /// One of Raft's own rows.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn raft_row(&self, name: &'static str) -> Result<Option<Bytes>, Error> {
        let db = match &self.medium {
            Medium::Rocks(db) => db,
            Medium::Memory(state) => return Ok(state.image().raft_row(name)),
        };
        let found = db
            .get_cf(family(db, RAFT_COLUMN)?, name)
            .map_err(|error| failed("read", error))?;
        Ok(found.map(Bytes::from))
    }

    /// Brings everything written so far to disk, all columns together. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When it fails.
    pub fn flush(&self) -> Result<(), Error> {
        let db = match &self.medium {
            Medium::Rocks(db) => db,
            Medium::Memory(state) => {
                state.flush();
                return Ok(());
            }
        };
        let mut families = vec![family(db, RAFT_COLUMN)?];
        for column in Column::ALL {
            families.push(family(db, column.name())?);
        }
        let mut options = FlushOptions::default();
        options.set_wait(true);
        db.flush_cfs_opt(&families, &options)
            .map_err(|error| failed("flush", error))
    }

    /// Flushes if any column has so many deletions in memory that scans would wade through them; on disk the
    /// density of deletions has them compacted away. To be called every now and then. Returns whether it
    /// flushed.
    ///
    /// # Errors
    /// When it fails.
    pub fn tidy(&self) -> Result<bool, Error> {
        let Medium::Rocks(db) = &self.medium else {
            return Ok(false);
        };
        for column in Column::ALL
            .into_iter()
            .filter(|column| options::is_scanned(*column))
        {
            let family = family(db, column.name())?;
            let property = |name| {
                let value = db.property_int_value_cf(family, name);
                value
                    .map(Option::unwrap_or_default)
                    .map_err(|error| failed("inspect", error))
            };
            let deletions = property(properties::NUM_DELETES_ACTIVE_MEM_TABLE)?;
            let entries = property(properties::NUM_ENTRIES_ACTIVE_MEM_TABLE)?;
            // What is overwritten all the time has a deletion for each row: flushing for their sake would write
            // the same rows over and over.
            let nothing_else = deletions > entries - entries / 4;
            if deletions >= DELETIONS_AMONG_ROWS_MAX || (deletions >= DELETIONS_IN_MEMORY_MAX && nothing_else)
            {
                self.flush()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a checkpoint in `path`, which must not exist: flushes, then links.
    pub(super) fn checkpoint(&self, path: &Path) -> Result<(), Error> {
        let Medium::Rocks(db) = &self.medium else {
            return Err(failed("checkpoint", "it lies in memory"));
        };
        let checkpoint = Checkpoint::new(db).map_err(|error| failed("checkpoint", error))?;
        checkpoint
            .create_checkpoint(path)
            .map_err(|error| failed("checkpoint", error))
    }

    /// The first thing that a reader found corrupt, if any did.
    #[must_use]
    pub fn corruption(&self) -> Option<&str> {
        self.corrupt.get().map(String::as_str)
    }

    /// The state at this instant, however it changes afterwards. Holds back space while it lives.
    #[must_use]
    pub fn snapshot(&self) -> StateSnapshot<'_> {
        match &self.medium {
            Medium::Rocks(db) => StateSnapshot(View::Rocks {
                db,
                snapshot: db.snapshot(),
                corrupt: &self.corrupt,
            }),
            Medium::Memory(state) => StateSnapshot(View::Memory(state.image())),
        }
    }
}

fn family<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, Error> {
    db.cf_handle(name)
        .ok_or_else(|| failed("use", format!("it has no column {name}")))
}

fn read_family(db: &DB, column: Column) -> Result<&ColumnFamily, StoreError> {
    db.cf_handle(column.name())
        .ok_or_else(|| unreadable(column, "there is no such column"))
}

/// A consistent view of the state. Reads of several rows that must agree come from one of these.
pub struct StateSnapshot<'a>(View<'a>);

enum View<'a> {
    Rocks {
        db: &'a DB,
        snapshot: Snapshot<'a>,
        corrupt: &'a OnceLock<String>,
    },
    Memory(Arc<Image>),
}

impl std::fmt::Debug for StateSnapshot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("StateSnapshot");
        if let View::Rocks { snapshot, .. } = &self.0 {
            shown.field("sequence", &snapshot.sequence_number());
        }
        shown.finish_non_exhaustive()
    }
}

impl StateSnapshot<'_> {
    /// One of Raft's own rows as of the snapshot.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn raft_row(&self, name: &'static str) -> Result<Option<Bytes>, Error> {
        match &self.0 {
            View::Rocks { db, snapshot, .. } => {
                let found = snapshot.get_cf(family(db, RAFT_COLUMN)?, name);
                Ok(found.map_err(|error| failed("read", error))?.map(Bytes::from))
            }
            View::Memory(image) => Ok(image.raft_row(name)),
        }
    }
}

fn unreadable(column: Column, reason: impl ToString) -> StoreError {
    StoreError::Failed {
        column: column.name(),
        reason: reason.to_string(),
    }
}

/// [`unreadable`], remembering what is corrupt.
fn unread(corrupt: &OnceLock<String>, column: Column, error: &rocksdb::Error) -> StoreError {
    if error.kind() == rocksdb::ErrorKind::Corruption {
        corrupt.get_or_init(|| error.to_string());
    }
    unreadable(column, error)
}

impl Read for StateDatabase {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match &self.medium {
            Medium::Rocks(db) => {
                let found = db.get_cf(read_family(db, column)?, key);
                let found = found.map_err(|error| unread(&self.corrupt, column, &error))?;
                Ok(found.map(Bytes::from))
            }
            Medium::Memory(state) => state.image().get(column, key),
        }
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        match &self.medium {
            Medium::Rocks(db) => {
                let options = bounded(range, direction);
                let rows = db.raw_iterator_cf_opt(read_family(db, column)?, options);
                let scanned = scan(rows, range, direction, visit);
                scanned.map_err(|error| unread(&self.corrupt, column, &error))
            }
            Medium::Memory(state) => state.image().scan(column, range, direction, visit),
        }
    }
}

impl Read for StateSnapshot<'_> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match &self.0 {
            View::Rocks {
                db,
                snapshot,
                corrupt,
            } => {
                let found = snapshot.get_cf(read_family(db, column)?, key);
                let found = found.map_err(|error| unread(corrupt, column, &error))?;
                Ok(found.map(Bytes::from))
            }
            View::Memory(image) => image.get(column, key),
        }
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        match &self.0 {
            View::Rocks {
                db,
                snapshot,
                corrupt,
            } => {
                let options = bounded(range, direction);
                let rows = snapshot.raw_iterator_cf_opt(read_family(db, column)?, options);
                let scanned = scan(rows, range, direction, visit);
                scanned.map_err(|error| unread(corrupt, column, &error))
            }
            View::Memory(image) => image.scan(column, range, direction, visit),
        }
    }
}

/// Read options whose bounds hold exactly the keys of `range`. The key that follows a key in byte order is
/// that key with a zero byte behind it.
fn bounded(range: &KeyRange, direction: Direction) -> ReadOptions {
    let behind = |key: &Bytes| [key.as_ref(), &[0]].concat();
    let mut options = ReadOptions::default();
    match &range.start {
        Bound::Included(key) => options.set_iterate_lower_bound(key.as_ref()),
        Bound::Excluded(key) => options.set_iterate_lower_bound(behind(key)),
        Bound::Unbounded => (),
    }
    match &range.end {
        Bound::Included(key) => options.set_iterate_upper_bound(behind(key)),
        Bound::Excluded(key) => options.set_iterate_upper_bound(key.as_ref()),
        Bound::Unbounded => (),
    }
    if direction == Direction::Forward {
        // Grows with the scan up to RocksDB's limit and stops at the upper bound.
        options.set_auto_readahead_size(true);
    } else {
        options.set_readahead_size(READAHEAD_BYTES);
    }
    options
}

fn scan<D: DBAccess>(
    mut rows: DBRawIteratorWithThreadMode<'_, D>,
    range: &KeyRange,
    direction: Direction,
    visit: &mut Visit<'_>,
) -> Result<(), rocksdb::Error> {
    debug_assert!(!range.is_empty(), "an empty range has no bounds");
    match direction {
        Direction::Forward => rows.seek_to_first(),
        Direction::Backward => rows.seek_to_last(),
    }
    while let Some((key, value)) = rows.item() {
        if visit(key, value).is_break() {
            return Ok(());
        }
        match direction {
            Direction::Forward => rows.next(),
            Direction::Backward => rows.prev(),
        }
    }
    rows.status()
}
