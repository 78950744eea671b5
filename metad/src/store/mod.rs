//! What lies on the metadata service's disk: the data directory with its marker and lock, the log database,
//! the state database with its snapshots. The only module that names RocksDB; it knows nothing of Raft.

mod directory;
mod files;
mod log;
mod options;
mod state;
mod states;
mod steps;

pub use directory::{DataDirectory, FORMAT_LEVEL, Identity};
pub use log::{LogDatabase, LogEntry};
pub use options::Budget;
pub use state::{StateDatabase, StateSnapshot, StateWrite};
pub use states::{OpenState, SnapshotDirectory, States};
pub use steps::{Step, Steps};
