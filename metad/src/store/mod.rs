//! What lies on the metadata service's disk: the data directory with its marker and lock, the log database,
//! the state database with its snapshots. The only module that names RocksDB; it knows nothing of Raft.
//!
//! Each part lies on a medium: files and RocksDB, or a twin in memory for simulations.

mod directory;
mod files;
mod incoming;
mod log;
mod log_rocks;
mod memory;
mod offload;
mod options;
mod state;
mod states;
mod steps;

pub use directory::{DataDirectory, FORMAT_LEVEL, Identity, NO_CLUSTER};
pub use incoming::Incoming;
pub use log::{LogDatabase, LogEntry};
pub use memory::{DiskBehaviour, MemoryDisk};
pub use offload::offload;
pub use options::Budget;
pub use state::{StateDatabase, StateSnapshot, StateWrite};
pub use states::{OpenState, SnapshotDirectory, States};
pub use steps::{Step, Steps};
