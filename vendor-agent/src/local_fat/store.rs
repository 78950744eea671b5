//! Where the index's rows lie: an ordered map from keys to rows, on disk in a RocksDB or, for simulations, in
//! memory. What the rows mean is not known here.

use super::{IndexMemory, LookupError};
use crate::device::Wait;
use crate::error::AgentError;
use crate::local_fat::rows::COPY_PREFIX;
use crate::sync::{Shared, lock};
use rocksdb::{BlockBasedOptions, DB, Options, ReadOptions, ReadTier, SliceTransform, WriteBatch};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Which store an index gets.
#[derive(Clone, Default)]
pub enum IndexHome {
    /// A RocksDB in the agent's data directory, with memory of its own.
    #[default]
    OnDisk,
    /// A RocksDB in the agent's data directory, with memory that the process shares.
    Sharing(IndexMemory),
    /// In memory.
    InMemory(MemoryIndex),
}

/// An index in memory that outlives the agent which uses it, as a disk would. Clones share.
#[derive(Clone, Default)]
pub struct MemoryIndex(Arc<Shared<MemoryRows>>);

#[derive(Default)]
struct MemoryRows {
    live: Rows,
    flushed: Rows,
}

impl MemoryIndex {
    /// Loses what was not flushed, as a crash does. The segments bring it back.
    pub fn crash(&self) {
        let mut rows = lock(&self.0);
        rows.live = rows.flushed.clone();
    }
}

/// Changes that are made together or not at all.
#[derive(Default)]
pub(super) struct Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Batch {
    pub(super) fn put(&mut self, key: impl AsRef<[u8]>, row: impl Into<Vec<u8>>) {
        self.0.push((key.as_ref().to_vec(), Some(row.into())));
    }

    pub(super) fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.0.push((key.as_ref().to_vec(), None));
    }
}

/// Which rows are walked, and whether that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// All from the key on. May wait for the medium.
    Ordered,
    /// Those that share the key's prefix of a copy.
    Copy(Wait),
}

/// The rows.
pub(super) enum Store {
    Rocks(DB),
    Memory(MemoryIndex),
}

impl Store {
    /// Opens the RocksDB at `path`, or begins a new one; a corrupt one is thrown away, because the segments
    /// rebuild it.
    pub(super) fn on_disk(path: &Path, memory: &IndexMemory) -> Result<Self, AgentError> {
        let options = options(memory);
        match DB::open(&options, path) {
            Ok(db) => Ok(Self::Rocks(db)),
            Err(error) if error.kind() == rocksdb::ErrorKind::Corruption => {
                tracing::warn!(path = %path.display(), %error, "index of the local FAT is damaged; rebuilding it");
                std::fs::remove_dir_all(path).map_err(AgentError::file("remove", path))?;
                Ok(Self::Rocks(DB::open(&options, path)?))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, AgentError> {
        match self {
            Self::Rocks(db) => Ok(db.get(key)?),
            Self::Memory(memory) => Ok(lock(&memory.0).live.get(key).cloned()),
        }
    }

    /// Shows rows in the order of their keys, from `from` on, until `each` says that it has seen enough.
    pub(super) fn walk(
        &self,
        from: &[u8],
        walk: Walk,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, LookupError>,
    ) -> Result<(), LookupError> {
        let prefix = match walk {
            Walk::Ordered => &[],
            Walk::Copy(_) => from.get(..COPY_PREFIX).unwrap_or(from),
        };
        match self {
            Self::Rocks(db) => {
                let mut iterator = db.raw_iterator_opt(read_options(walk));
                iterator.seek(from);
                while let Some((key, row)) = iterator.item() {
                    if !key.starts_with(prefix) || !each(key, row)? {
                        break;
                    }
                    iterator.next();
                }
                Ok(iterator.status()?)
            }
            Self::Memory(memory) => {
                let rows = lock(&memory.0);
                for (key, row) in rows.live.range(from.to_vec()..) {
                    if !key.starts_with(prefix) || !each(key, row)? {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// Makes all changes of a batch. They survive a crash of the machine from the next flush on.
    pub(super) fn write(&self, batch: Batch) -> Result<(), AgentError> {
        match self {
            Self::Rocks(db) => {
                let mut changes = WriteBatch::default();
                for (key, row) in batch.0 {
                    match row {
                        Some(row) => changes.put(key, row),
                        None => changes.delete(key),
                    }
                }
                Ok(db.write_without_wal(changes)?)
            }
            Self::Memory(memory) => {
                let mut rows = lock(&memory.0);
                for (key, row) in batch.0 {
                    match row {
                        Some(row) => rows.live.insert(key, row),
                        None => rows.live.remove(&key),
                    };
                }
                Ok(())
            }
        }
    }

    pub(super) fn flush(&self) -> Result<(), AgentError> {
        match self {
            Self::Rocks(db) => Ok(db.flush()?),
            Self::Memory(memory) => {
                let mut rows = lock(&memory.0);
                rows.flushed = rows.live.clone();
                Ok(())
            }
        }
    }
}

fn options(memory: &IndexMemory) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&memory.cache);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(COPY_PREFIX));
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_write_buffer_manager(&memory.write_buffers);
    options.set_write_buffer_size(16 * 1024 * 1024);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(2);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options
}

fn read_options(walk: Walk) -> ReadOptions {
    let mut options = ReadOptions::default();
    match walk {
        Walk::Ordered => options.set_total_order_seek(true),
        Walk::Copy(wait) => {
            options.set_prefix_same_as_start(true);
            if wait == Wait::Never {
                options.set_read_tier(ReadTier::BlockCache);
            }
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::{Batch, IndexMemory, MemoryIndex, Store, Walk};
    use crate::device::Wait;

    fn keys(store: &Store, from: &[u8], walk: Walk) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        store
            .walk(from, walk, |key, _| {
                keys.push(key.to_vec());
                Ok(keys.len() < 3)
            })
            .unwrap();
        keys
    }

    #[test]
    fn both_stores_answer_alike() {
        let home = tempfile::tempdir().unwrap();
        let stores = [
            Store::on_disk(home.path(), &IndexMemory::new(1 << 20)).unwrap(),
            Store::Memory(MemoryIndex::default()),
        ];
        let key = |copy: u8, tail: u8| [vec![b'c'; 20], vec![copy, tail]].concat();
        for store in &stores {
            let mut batch = Batch::default();
            for copy in 1..4 {
                batch.put(key(copy, 1), [copy]);
                batch.put(key(copy, 2), []);
            }
            batch.delete(key(2, 2));
            store.write(batch).unwrap();
        }
        let shown = |store: &Store| {
            (
                store.get(&key(1, 1)).unwrap(),
                store.get(&key(2, 2)).unwrap(),
                keys(store, &key(1, 2), Walk::Ordered),
                keys(store, &key(2, 0)[..21], Walk::Copy(Wait::ForMedium)),
                keys(store, &key(3, 0)[..21], Walk::Copy(Wait::Never)),
                keys(store, b"d", Walk::Ordered),
            )
        };
        assert_eq!(shown(&stores[0]), shown(&stores[1]));
        assert_eq!(shown(&stores[1]).2, [key(1, 2), key(2, 1), key(3, 1)]);
        assert_eq!(shown(&stores[1]).3, [key(2, 1)]);
    }

    #[test]
    fn a_crash_takes_what_was_not_flushed() {
        let memory = MemoryIndex::default();
        let store = Store::Memory(memory.clone());
        let put = |key: &[u8]| {
            let mut batch = Batch::default();
            batch.put(key, []);
            store.write(batch).unwrap();
        };
        put(b"a");
        store.flush().unwrap();
        put(b"b");
        memory.crash();
        assert_eq!(keys(&store, b"", Walk::Ordered), [b"a"]);
    }
}
