//! The File Allocation Table, the namespace and the wire messages of Ullage as pure code: no clock, no disk,
//! no network, no randomness.

pub mod cluster_time;
pub mod codec;
pub mod ids;
pub mod limits;
pub mod store;
pub mod units;
pub mod wire;
