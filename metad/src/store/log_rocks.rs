//! The log in RocksDB: entries under their index, big-endian, and marks in a column family of their own.

use super::log::{LogChange, failed};
use super::options::{self, Budget, MARKS_COLUMN};
use crate::error::Error;
use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, IteratorMode, ReadOptions, WriteBatch, WriteOptions};
use std::ops::Range;
use std::path::Path;

/// The log in RocksDB.
pub(super) struct RocksLog(DB);

impl std::fmt::Debug for RocksLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RocksLog").field(&self.0.path()).finish()
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

impl RocksLog {
    pub(super) fn open(path: &Path, budget: &Budget) -> Result<Self, Error> {
        let columns = options::log_columns(budget);
        let db = DB::open_cf_descriptors(&options::log(budget), path, columns)
            .map_err(|error| failed("open", error))?;
        super::files::make_directory(path)?;
        Ok(Self(db))
    }

    /// Writes a batch, all of it or nothing; with `sync`, it and all before it are durable then.
    pub(super) fn write(
        &self,
        action: &'static str,
        changes: &[LogChange<'_>],
        sync: bool,
    ) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let mut value = Vec::new();
        for change in changes {
            match change {
                LogChange::Entry(entry) => {
                    value.clear();
                    value.extend_from_slice(entry.header);
                    value.extend_from_slice(entry.payload);
                    batch.put(key(entry.index), &value);
                }
                LogChange::Mark(name, mark) => batch.put_cf(self.marks()?, name, mark),
                LogChange::Truncate(first) => batch.delete_range(key(*first), key(u64::MAX)),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.0
            .write_opt(batch, &options)
            .map_err(|error| failed(action, error))
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        self.0.flush_wal(true).map_err(|error| failed("sync", error))
    }

    pub(super) fn reclaim(&self, purged: u64) -> Result<(), Error> {
        self.0
            .delete_file_in_range(key(0), key(purged))
            .map_err(|error| failed("reclaim", error))
    }

    pub(super) fn first(&self) -> Result<Option<u64>, Error> {
        let Some(entry) = self.0.iterator(IteratorMode::Start).next() else {
            return Ok(None);
        };
        let (key, _) = entry.map_err(|error| failed("read", error))?;
        index(&key).map(Some)
    }

    pub(super) fn last(&self) -> Result<Option<(u64, Bytes)>, Error> {
        let Some(entry) = self.0.iterator(IteratorMode::End).next() else {
            return Ok(None);
        };
        let (key, value) = entry.map_err(|error| failed("read", error))?;
        Ok(Some((index(&key)?, Bytes::from(value))))
    }

    pub(super) fn get(&self, index: u64) -> Result<Option<Bytes>, Error> {
        let found = self.0.get(key(index)).map_err(|error| failed("read", error))?;
        Ok(found.map(Bytes::from))
    }

    pub(super) fn entries(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, Error> {
        let mut found = Vec::new();
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(key(range.start));
        options.set_iterate_upper_bound(key(range.end));
        options.set_auto_readahead_size(true);
        let mut bytes = 0;
        for entry in self.0.iterator_opt(IteratorMode::Start, options) {
            let (key, value) = entry.map_err(|error| failed("read", error))?;
            bytes += value.len();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push((index(&key)?, Bytes::from(value)));
        }
        Ok(found)
    }

    pub(super) fn mark(&self, name: &[u8]) -> Result<Option<Bytes>, Error> {
        let found = self
            .0
            .get_cf(self.marks()?, name)
            .map_err(|error| failed("read", error))?;
        Ok(found.map(Bytes::from))
    }

    fn marks(&self) -> Result<&ColumnFamily, Error> {
        self.0
            .cf_handle(MARKS_COLUMN)
            .ok_or_else(|| failed("use", "it has no marks"))
    }
}
