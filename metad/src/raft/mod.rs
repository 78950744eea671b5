//! The replicated log and the state machine it drives: openraft on the databases of `store`. The only module
//! that names openraft; the rest of the crate sees bytes proposed, bytes answered and states to read.

mod append_stream;
mod comparison;
mod config;
mod core;
mod digest;
mod duties;
mod flusher;
mod formation;
mod group;
mod hand_over;
mod health;
mod hot;
mod link;
mod log_store;
mod machine;
mod membership;
mod metrics;
mod network;
mod peer_api;
mod recent;
mod respond;
mod retention;
mod rounds;
mod runtime;
mod snapshot;
mod snapshot_receiver;
mod snapshot_sender;
mod state_machine;
mod status;
mod types;
mod wire;

#[cfg(test)]
mod tests;

pub use config::{GroupConfig, GroupParts, Peers};
pub use digest::{DIGEST_EVERY_ENTRIES, Digest, DigestPoints};
pub(crate) use group::{Answers, refused};
pub use group::{Group, ReadIndex};
pub use log_store::LogStore;
pub use machine::{Applied, Machine, ModelMachine};
pub use metrics::Metrics;
pub use peer_api::peer_api;
pub use respond::Room;
pub use runtime::Runtime;
pub use state_machine::{RAFT_ROWS, StateMachine};
pub use status::{Leadership, Status};
pub use types::{CommandBytes, ReplyBytes, TypeConfig};
pub use wire::ROUTES as PEER_ROUTES;
