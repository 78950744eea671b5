//! How the databases use memory and disk. Nothing here touches a file.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, DataBlockIndexType,
    LogLevel, Options, WriteBufferManager,
};
use ullage_model::store::Column;

/// Memtable of the log: switched (and flushed to a table) at this size.
const LOG_WRITE_BUFFER_BYTES: usize = 16 * 1024 * 1024;
/// Memtable of each state column; the shared write-buffer manager bounds their sum.
const STATE_WRITE_BUFFER_BYTES: usize = 32 * 1024 * 1024;
/// Levels of a column's tables.
const LEVELS: usize = 7;
/// A memtable's allocation unit: small, because each of some twenty columns holds at least one.
const ARENA_BYTES: usize = 128 * 1024;
/// Inline payloads from this size on go to blob files: below it a pointer would cost as much.
const MIN_BLOB_BYTES: u64 = 512;
/// A blob file is closed at this size.
const BLOB_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Keys of a block for each place in its table of hashes.
const BLOCK_HASH_RATIO: f64 = 0.75;
/// Part of a memtable's size that its filter takes: some ten bits for each of half a million keys.
const MEMTABLE_FILTER_RATIO: f64 = 0.02;
/// Of this many neighbouring entries of a table …
const DELETION_WINDOW_ENTRIES: usize = 4096;
/// … so many deletions mark the table for compaction, so that scans do not wade through tombstones.
const DELETION_TRIGGER_ENTRIES: usize = 3072;
/// So does this share of deletions in a whole table. Rows that are overwritten leave a deletion each: half of a table.
const DELETION_RATIO: f64 = 0.75;
/// A table that nothing else compacted is compacted after this long.
const PERIODIC_COMPACTION_SECONDS: u64 = 24 * 3600;
/// The column family that holds Raft's own rows in the state database.
pub(super) const RAFT_COLUMN: &str = "raft";
/// The column family that holds vote, committed index and purge mark in the log database.
pub(super) const MARKS_COLUMN: &str = "marks";

/// Memory that all databases of one process share.
#[derive(Clone)]
pub struct Budget {
    cache: Cache,
    write_buffers: WriteBufferManager,
    recent_bytes: usize,
}

impl Budget {
    /// A block cache and a bound on memtables, in bytes, and no room for recent rows.
    #[must_use]
    pub fn new(cache_bytes: usize, write_buffer_bytes: usize) -> Self {
        Self::shared(
            Cache::new_hyper_clock_cache(cache_bytes, 0),
            WriteBufferManager::new_write_buffer_manager(write_buffer_bytes, false),
        )
    }

    /// Shares what another service of this process has made.
    #[must_use]
    pub fn shared(cache: Cache, write_buffers: WriteBufferManager) -> Self {
        Self {
            cache,
            write_buffers,
            recent_bytes: 0,
        }
    }

    /// The same, and `bytes` for rows that were written lately.
    #[must_use]
    pub fn with_recent_rows(self, bytes: usize) -> Self {
        Self {
            recent_bytes: bytes,
            ..self
        }
    }

    /// Bytes of rows written lately that may be kept in memory.
    #[must_use]
    pub fn recent_bytes(&self) -> usize {
        self.recent_bytes
    }

    /// Bytes now held by memtables.
    #[must_use]
    pub fn write_buffer_bytes(&self) -> usize {
        self.write_buffers.get_usage()
    }

    /// Bytes now held by cached blocks.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.cache.get_usage()
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget")
            .field("cache_bytes", &self.cache_bytes())
            .field("write_buffer_bytes", &self.write_buffer_bytes())
            .finish()
    }
}

fn database(budget: &Budget) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_manager(&budget.write_buffers);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_skip_stats_update_on_db_open(true);
    options.set_bytes_per_sync(1024 * 1024);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(1024 * 1024);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Tables that are asked for ranges of keys.
fn tables(budget: &Budget) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&budget.cache);
    blocks.set_block_size(8 * 1024);
    blocks.set_format_version(5);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks
}

fn column(budget: &Budget, write_buffer_bytes: usize) -> Options {
    let mut blocks = tables(budget);
    blocks.set_bloom_filter(10.0, false);
    // Rows are asked for one by one: a table of hashes in each block spares most of its binary search.
    blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    blocks.set_data_block_hash_ratio(BLOCK_HASH_RATIO);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    // What was just flushed is soon written again, and read most.
    let mut levels = [DBCompressionType::Lz4; LEVELS];
    levels[0] = DBCompressionType::None;
    options.set_compression_per_level(&levels);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_write_buffer_size(write_buffer_bytes);
    options.set_max_write_buffer_number(4);
    options.set_arena_block_size(ARENA_BYTES);
    options.set_target_file_size_base(32 * 1024 * 1024);
    options
}

/// Options of the log database.
pub(super) fn log(budget: &Budget) -> Options {
    let mut options = database(budget);
    // Replays what is intact up to the first damaged record: behind the last sync a power cut leaves anything.
    // Files are not recycled: behind the end of a recycled one lies old data, which cannot be told from damage
    // in the middle, and RocksDB's own notes speak of a hole found with this recovery mode. Measured with 64
    // clients and then 1 in interleaved rounds, it made no difference beyond the noise.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(LOG_WAL_BYTES_MAX);
    // A closed write-ahead file that is missing or shorter than when it was synced is found at opening.
    options.set_track_and_verify_wals_in_manifest(true);
    options
}

/// Column families of the log database.
pub(super) fn log_columns(budget: &Budget) -> Vec<ColumnFamilyDescriptor> {
    let mut entries = column(budget, LOG_WRITE_BUFFER_BYTES);
    // They are read in order, and by an index that is there: neither filters nor hashes would be of use.
    entries.set_block_based_table_factory(&tables(budget));
    // Entries come in order, so that their tables move down as they are; what is large in them is sealed.
    entries.set_compression_per_level(&[DBCompressionType::None; LEVELS]);
    // The marks keep their column's memtable alive, and with it old write-ahead files: bounded by size.
    let marks = column(budget, 1024 * 1024);
    vec![
        ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, entries),
        ColumnFamilyDescriptor::new(MARKS_COLUMN, marks),
    ]
}

/// Greatest sum of write-ahead files of the log before the column that holds the oldest is flushed.
const LOG_WAL_BYTES_MAX: u64 = 4 * LOG_WRITE_BUFFER_BYTES as u64;

/// Options of the state database.
pub(super) fn state(budget: &Budget) -> Options {
    let mut options = database(budget);
    // There is no write-ahead file: the columns must reach the disk together.
    options.set_atomic_flush(true);
    options
}

/// Whether scans go over a column where rows were deleted. Inlined payloads are only asked for by their name, and
/// outcomes are forgotten from a mark on.
pub(super) fn is_scanned(column: Column) -> bool {
    !matches!(column, Column::Inline | Column::Outcomes)
}

/// Column families of the state database.
pub(super) fn state_columns(budget: &Budget) -> Vec<ColumnFamilyDescriptor> {
    let mut columns = vec![
        ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, column(budget, 1024 * 1024)),
        ColumnFamilyDescriptor::new(RAFT_COLUMN, column(budget, 1024 * 1024)),
    ];
    columns.extend(Column::ALL.into_iter().map(|name| {
        let mut options = column(budget, STATE_WRITE_BUFFER_BYTES);
        if is_scanned(name) {
            options.add_compact_on_deletion_collector_factory(
                DELETION_WINDOW_ENTRIES,
                DELETION_TRIGGER_ENTRIES,
                DELETION_RATIO,
            );
        }
        options.set_periodic_compaction_seconds(PERIODIC_COMPACTION_SECONDS);
        // Nearly every command asks these for a row that is not there.
        if matches!(
            name,
            Column::Outcomes | Column::Live | Column::Blobs | Column::Inline
        ) {
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER_RATIO);
        }
        if name == Column::Inline {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(MIN_BLOB_BYTES);
            options.set_blob_file_size(BLOB_FILE_BYTES);
            options.set_enable_blob_gc(true);
            options.set_blob_gc_age_cutoff(0.25);
            options.set_blob_gc_force_threshold(0.5);
        }
        ColumnFamilyDescriptor::new(name.name(), options)
    }));
    columns
}
