//! The File Allocation Table, the namespace and the wire messages of Ullage as pure code: no clock, no disk,
//! no network, no randomness.

pub mod cluster_time;
pub mod codec;
pub mod command;
pub mod decide;
pub mod fat;
pub mod ids;
pub mod invariants;
pub mod limits;
pub mod namespace;
pub mod rejection;
pub mod session;
pub mod step;
pub mod store;
pub mod units;
pub mod wire;
