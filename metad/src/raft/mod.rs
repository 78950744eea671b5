//! The replicated log and the state machine it drives: openraft on the databases of `store`. The only module
//! that names openraft; the rest of the crate sees bytes proposed, bytes answered and states to read.

mod digest;
mod flusher;
mod group;
mod hot;
mod log_store;
mod machine;
mod metrics;
mod network;
mod respond;
mod retention;
mod rounds;
mod snapshot;
mod state_machine;
mod types;

#[cfg(test)]
mod tests;

pub use digest::{DIGEST_EVERY_ENTRIES, Digest, DigestPoints};
pub(crate) use group::refused;
pub use group::{Group, GroupConfig, GroupParts, ReadIndex, Status};
pub use log_store::LogStore;
pub use machine::{Applied, Machine, ModelMachine};
pub use metrics::Metrics;
pub use respond::Room;
pub use state_machine::{RAFT_ROWS, StateMachine};
pub use types::{CommandBytes, ReplyBytes, TypeConfig};
