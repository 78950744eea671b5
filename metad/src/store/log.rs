//! The log database: numbered entries and three marks (vote, committed index, purge mark), as bytes. It
//! knows what is synced when, and nothing of what the bytes mean.
//!
//! Vote, truncation and purge are synced before they return; entries are durable after the next
//! [`LogDatabase::sync`]; the committed mark rides on any sync. Where it lies is the medium's business: RocksDB
//! ([`super::log_rocks`]) or its twin in memory ([`super::memory`]).

use super::log_rocks::RocksLog;
use super::memory::{MemoryDisk, MemoryLog};
use super::options::Budget;
use super::steps::{Step, Steps};
use crate::error::Error;
use bytes::Bytes;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

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

/// One change of a batch that a medium writes.
#[derive(Clone, Debug)]
pub(super) enum LogChange<'a> {
    /// An entry.
    Entry(LogEntry<'a>),
    /// A mark, by its name.
    Mark(&'static [u8], &'a [u8]),
    /// The entries from this index on go.
    Truncate(u64),
}

#[derive(Debug)]
enum Medium {
    Rocks(RocksLog),
    Memory(MemoryLog),
}

/// The log database. The first failed write or sync poisons it: it refuses every later one.
#[derive(Debug)]
pub struct LogDatabase {
    medium: Medium,
    steps: Steps,
    failed: OnceLock<String>,
}

/// A failure of the log.
pub(super) fn failed(action: &'static str, reason: impl ToString) -> Error {
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
        let medium = Medium::Rocks(RocksLog::open(path, budget)?);
        Ok(Self::on(medium, steps))
    }

    /// The log on a simulated disk.
    #[must_use]
    pub fn in_memory(disk: &MemoryDisk, steps: Steps) -> Self {
        Self::on(Medium::Memory(MemoryLog::new(disk)), steps)
    }

    fn on(medium: Medium, steps: Steps) -> Self {
        Self {
            medium,
            steps,
            failed: OnceLock::new(),
        }
    }

    /// Appends entries, unsynced, and stores a committed mark if one goes with them. They can be read when this
    /// returns.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn append<'a>(
        &self,
        entries: impl Iterator<Item = LogEntry<'a>>,
        committed: Option<&'a [u8]>,
    ) -> Result<(), Error> {
        let mark = committed.map(|mark| LogChange::Mark(COMMITTED, mark));
        let batch: Vec<LogChange<'_>> = entries.map(LogChange::Entry).chain(mark).collect();
        self.write("append to", Step::LogAppend, &batch, false)
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// When the sync fails; the log is poisoned then.
    pub fn sync(&self) -> Result<(), Error> {
        self.sync_written(self.written())
    }

    /// Whether its calls may block, see [`super::offload`].
    #[must_use]
    pub fn blocks(&self) -> bool {
        matches!(self.medium, Medium::Rocks(_))
    }

    /// How long a simulated sync takes, to be waited for between [`LogDatabase::written`] and
    /// [`LogDatabase::sync_written`]. `None` where syncing itself blocks for as long as it takes.
    #[must_use]
    pub fn sync_delay(&self) -> Option<Duration> {
        match &self.medium {
            Medium::Rocks(_) => None,
            Medium::Memory(log) => Some(log.sync_delay()),
        }
    }

    /// How far the log is written, for [`LogDatabase::sync_written`].
    #[must_use]
    pub fn written(&self) -> u64 {
        match &self.medium {
            Medium::Rocks(_) => u64::MAX,
            Medium::Memory(log) => log.written(),
        }
    }

    /// Makes durable what was written when [`LogDatabase::written`] answered `written`; maybe more.
    ///
    /// # Errors
    /// When the sync fails; the log is poisoned then.
    pub fn sync_written(&self, written: u64) -> Result<(), Error> {
        self.check()?;
        let announced = self
            .steps
            .at(Step::LogSync)
            .map_err(|error| failed("sync", error));
        self.poison(announced.and_then(|()| match &self.medium {
            Medium::Rocks(log) => log.sync(),
            Medium::Memory(log) => {
                log.synced(written);
                Ok(())
            }
        }))
    }

    /// Durably stores the vote.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn put_vote(&self, vote: &[u8]) -> Result<(), Error> {
        let batch = [LogChange::Mark(VOTE, vote)];
        self.write("write the vote to", Step::VoteWrite, &batch, true)?;
        self.after(Step::VoteWritten)
    }

    /// Stores the committed mark; the next sync makes it durable.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn put_committed(&self, committed: &[u8]) -> Result<(), Error> {
        let batch = [LogChange::Mark(COMMITTED, committed)];
        self.write("write the committed mark to", Step::LogAppend, &batch, false)
    }

    /// Durably stores `mark`, behind which entries no longer count. They are not deleted one by one: a range
    /// deletion from the first entry on would overlap all tables, so that every compaction would write the whole
    /// log again. [`LogDatabase::reclaim`] drops their tables.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn purge(&self, mark: &[u8]) -> Result<(), Error> {
        let batch = [LogChange::Mark(PURGED, mark)];
        self.write("purge", Step::PurgeWrite, &batch, true)?;
        self.after(Step::PurgeWritten)
    }

    /// Durably deletes the entries from `first` on.
    ///
    /// # Errors
    /// When the write fails; the log is poisoned then.
    pub fn truncate(&self, first: u64) -> Result<(), Error> {
        let batch = [LogChange::Truncate(first)];
        self.write("truncate", Step::TruncateWrite, &batch, true)?;
        self.after(Step::TruncateWritten)
    }

    /// Drops table files that hold only entries up to `purged`. Only a matter of space, so no failure poisons.
    ///
    /// # Errors
    /// When RocksDB cannot.
    pub fn reclaim(&self, purged: u64) -> Result<(), Error> {
        match &self.medium {
            Medium::Rocks(log) => log.reclaim(purged),
            Medium::Memory(log) => {
                log.reclaim(purged);
                Ok(())
            }
        }
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
        match &self.medium {
            Medium::Rocks(log) => log.first(),
            Medium::Memory(log) => Ok(log.first()),
        }
    }

    /// The last entry.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last(&self) -> Result<Option<(u64, Bytes)>, Error> {
        match &self.medium {
            Medium::Rocks(log) => log.last(),
            Medium::Memory(log) => Ok(log.last()),
        }
    }

    /// The entry at `index`; one behind the purge mark may still be found.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, index: u64) -> Result<Option<Bytes>, Error> {
        match &self.medium {
            Medium::Rocks(log) => log.get(index),
            Medium::Memory(log) => Ok(log.get(index)),
        }
    }

    /// The entries of `range` in order, at least one if there is one, and no more once they exceed
    /// `bytes_max` together.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn entries(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        match &self.medium {
            Medium::Rocks(log) => log.entries(range, bytes_max),
            Medium::Memory(log) => Ok(log.entries(range, bytes_max)),
        }
    }

    /// Why the log stopped, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    fn mark(&self, name: &[u8]) -> Result<Option<Bytes>, Error> {
        match &self.medium {
            Medium::Rocks(log) => log.mark(name),
            Medium::Memory(log) => Ok(log.mark(name)),
        }
    }

    fn write(
        &self,
        action: &'static str,
        step: Step,
        batch: &[LogChange<'_>],
        sync: bool,
    ) -> Result<(), Error> {
        self.check()?;
        let announced = self.steps.at(step).map_err(|error| failed(action, error));
        let written = announced.and_then(|()| match &self.medium {
            Medium::Rocks(log) => log.write(action, batch, sync),
            Medium::Memory(log) => {
                log.write(batch, sync);
                Ok(())
            }
        });
        self.poison(written)
    }

    fn after(&self, step: Step) -> Result<(), Error> {
        self.poison(self.steps.at(step).map_err(|error| failed("go on with", error)))
    }

    /// Refuses when the log has stopped.
    ///
    /// # Errors
    /// Why it did.
    pub fn check(&self) -> Result<(), Error> {
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
