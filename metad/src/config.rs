//! Settings of the metadata service.

use std::path::PathBuf;

/// Settings of one metadata node.
#[derive(Clone, Debug)]
pub struct MetadConfig {
    /// Data directory: log, state, snapshots, this node's grant key.
    pub data: PathBuf,
    /// Block cache shared by its databases, in bytes.
    pub cache_bytes: usize,
    /// Bound on memtables of its databases, in bytes.
    pub write_buffer_bytes: usize,
    /// Copies that the class `STANDARD` asks for when this node makes a new cluster.
    pub first_copies: u32,
    /// Longest inlined object when this node makes a new cluster, in bytes; 0 = off.
    pub first_inline_bytes: u64,
    /// Most bytes inlined in all when this node makes a new cluster.
    pub first_inline_budget_bytes: u64,
    /// How often agents are asked to report, in ms.
    pub heartbeat_ms: u64,
    /// Silence after which a vendor gets no new room locked, in ms.
    pub stale_ms: u64,
    /// Silence after which a vendor counts as dead, in ms. A new leader waits this long before it declares
    /// anybody dead.
    pub dead_ms: u64,
    /// Interval of cluster-time ticks, in ms.
    pub tick_ms: u64,
    /// Bytes that must stay free on the file system of `data`, at most an eighth of it; below, writes are
    /// refused and deletes go on. 0 = never refuse.
    pub free_mark_bytes: u64,
    /// Bytes of a file that is given up when the file system is nearly full all the same, so that deletes can
    /// go on; at most a 32nd of it. 0 = none.
    pub ballast_bytes: u64,
}

impl MetadConfig {
    /// Defaults for a node in `data`.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            cache_bytes: 64 * 1024 * 1024,
            write_buffer_bytes: 64 * 1024 * 1024,
            first_copies: 2,
            first_inline_bytes: ullage_model::limits::INLINE_BYTES_DEFAULT,
            first_inline_budget_bytes: 16 * 1024 * 1024 * 1024,
            heartbeat_ms: 1_000,
            stale_ms: 5_000,
            dead_ms: 60_000,
            tick_ms: 1_000,
            free_mark_bytes: 256 * 1024 * 1024,
            ballast_bytes: 64 * 1024 * 1024,
        }
    }
}
