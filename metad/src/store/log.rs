//! The log database: numbered entries and three marks (vote, committed index, purge mark), as bytes. It
//! knows what is synced when, and nothing of what the bytes mean.
//!
//! Entries lie under their index, big-endian. Vote, truncation and purge are synced before they return;
//! entries are durable after the next [`LogDatabase::sync`]; the committed mark rides on any sync.

use super::options::{self, Budget, MARKS_COLUMN};
use super::steps::{Step, Steps};
use crate::error::Error;
use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, IteratorMode, ReadOptions, WriteBatch, WriteOptions};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";

/// One entry to append: its encoding in two parts, so that a payload is not copied to prefix a header.
#[derive(Clone, Debug)]
pub struct LogEntry<'a> {
    /// Its index.
    pub index: u64,
    /// The head of its encoding.
    pub header: &'a [u8],
    /// The rest of it.
    pub payload: &'a [u8],
}

/// The log database. The first failed write or sync poisons it: it refuses every later one.
pub struct LogDatabase {
    db: DB,
    steps: Steps,
    failed: OnceLock<String>,
}

impl std::fmt::Debug for LogDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogDatabase")
            .field("path", &self.db.path())
            .finish_non_exhaustive()
    }
}

fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn index(key: &[u8]) -> Result<u64, Error> {
    let bytes = key
        .try_into()
        .map_err(|_| failed("read", format!("a key of {} bytes", key.len())))?;
    Ok(u64::from_be_bytes(bytes))
}

fn failed(action: &'static str, reason: impl ToString) -> Error {
    Error::Database {
        database: "log",
        action,
        reason: reason.to_string(),
    }
}

impl LogDatabase {
    /// Opens or makes the database in `path`.
    ///
    /// # Errors
    /// When RocksDB cannot open it.
    pub fn open(path: &Path, budget: &Budget, steps: Steps) -> Result<Self, Error> {
        let columns = options::log_columns(budget);
        let db = DB::open_cf_descriptors(&options::log(budget), path, columns)
            .map_err(|error| failed("open", error))?;
        super::files::make_directory(path)?;
        Ok(Self {
            db,
            steps,
            failed: OnceLock::new(),
        })
    }

    /// Appends entries, unsynced. They can be read when this returns.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn append<'a>(&self, entries: impl Iterator<Item = LogEntry<'a>>) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let mut value = Vec::new();
        for entry in entries {
            value.clear();
            value.extend_from_slice(entry.header);
            value.extend_from_slice(entry.payload);
            batch.put(key(entry.index), &value);
        }
        self.write("append to", Step::LogAppend, batch, false)
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// When the sync fails; the log is poisoned then.
    pub fn sync(&self) -> Result<(), Error> {
        self.check()?;
        let synced = self
            .steps
            .at(Step::LogSync)
            .map_err(|error| failed("sync", error));
        self.poison(synced.and_then(|()| self.db.flush_wal(true).map_err(|error| failed("sync", error))))
    }

    /// Durably stores the vote.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn put_vote(&self, vote: &[u8]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.marks()?, VOTE, vote);
        self.write("write the vote to", Step::VoteWrite, batch, true)?;
        self.after(Step::VoteWritten)
    }

    /// Stores the committed mark; the next sync makes it durable.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn put_committed(&self, committed: &[u8]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.marks()?, COMMITTED, committed);
        self.write("write the committed mark to", Step::LogAppend, batch, false)
    }

    /// Durably stores `mark`, behind which entries no longer count. They are not deleted one by one: a range
    /// deletion from the first entry on would overlap all tables, so that every compaction would write the whole
    /// log again. [`LogDatabase::reclaim`] drops their tables.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn purge(&self, mark: &[u8]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.marks()?, PURGED, mark);
        self.write("purge", Step::PurgeWrite, batch, true)?;
        self.after(Step::PurgeWritten)
    }

    /// Durably deletes the entries from `first` on.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn truncate(&self, first: u64) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.delete_range(key(first), key(u64::MAX));
        self.write("truncate", Step::TruncateWrite, batch, true)?;
        self.after(Step::TruncateWritten)
    }

    /// Drops table files that hold only entries up to `purged`. Only a matter of space, so no failure poisons.
    ///
    /// # Errors
    /// When RocksDB cannot.
    pub fn reclaim(&self, purged: u64) -> Result<(), Error> {
        self.db
            .delete_file_in_range(key(0), key(purged))
            .map_err(|error| failed("reclaim", error))
    }

    /// The stored vote.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn vote(&self) -> Result<Option<Bytes>, Error> {
        self.mark(VOTE)
    }

    /// The stored committed mark.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn committed(&self) -> Result<Option<Bytes>, Error> {
        self.mark(COMMITTED)
    }

    /// The stored purge mark.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn purged(&self) -> Result<Option<Bytes>, Error> {
        self.mark(PURGED)
    }

    /// Index of the first entry, which may be one behind the purge mark.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn first(&self) -> Result<Option<u64>, Error> {
        let mut entries = self.db.iterator(IteratorMode::Start);
        let Some(entry) = entries.next() else {
            return Ok(None);
        };
        let (key, _) = entry.map_err(|error| failed("read", error))?;
        index(&key).map(Some)
    }

    /// The last entry.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last(&self) -> Result<Option<(u64, Bytes)>, Error> {
        let mut entries = self.db.iterator(IteratorMode::End);
        let Some(entry) = entries.next() else {
            return Ok(None);
        };
        let (key, value) = entry.map_err(|error| failed("read", error))?;
        Ok(Some((index(&key)?, Bytes::from(value))))
    }

    /// The entry at `index`; one behind the purge mark may still be found.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, index: u64) -> Result<Option<Bytes>, Error> {
        let found = self.db.get(key(index)).map_err(|error| failed("read", error))?;
        Ok(found.map(Bytes::from))
    }

    /// The entries of `range` in order, at least one if there is one, and no more once they exceed
    /// `bytes_max` together.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn entries(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, Error> {
        let mut found = Vec::new();
        if range.is_empty() {
            return Ok(found);
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(key(range.start));
        options.set_iterate_upper_bound(key(range.end));
        options.set_auto_readahead_size(true);
        let mut bytes = 0;
        for entry in self.db.iterator_opt(IteratorMode::Start, options) {
            let (key, value) = entry.map_err(|error| failed("read", error))?;
            bytes += value.len();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push((index(&key)?, Bytes::from(value)));
        }
        Ok(found)
    }

    /// Why the log stopped, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    fn marks(&self) -> Result<&ColumnFamily, Error> {
        self.db
            .cf_handle(MARKS_COLUMN)
            .ok_or_else(|| failed("use", "it has no marks"))
    }

    fn mark(&self, name: &[u8]) -> Result<Option<Bytes>, Error> {
        let found = self
            .db
            .get_cf(self.marks()?, name)
            .map_err(|error| failed("read", error))?;
        Ok(found.map(Bytes::from))
    }

    fn write(&self, action: &'static str, step: Step, batch: WriteBatch, sync: bool) -> Result<(), Error> {
        self.check()?;
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let announced = self.steps.at(step).map_err(|error| failed(action, error));
        let written = announced.and_then(|()| {
            self.db
                .write_opt(batch, &options)
                .map_err(|error| failed(action, error))
        });
        self.poison(written)
    }

    fn after(&self, step: Step) -> Result<(), Error> {
        self.poison(self.steps.at(step).map_err(|error| failed("go on with", error)))
    }

    fn check(&self) -> Result<(), Error> {
        match self.failed.get() {
            Some(reason) => Err(Error::Poisoned {
                database: "log",
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    fn poison(&self, done: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &done {
            self.failed.get_or_init(|| error.to_string());
        }
        done
    }
}
