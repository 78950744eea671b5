//! The state machine that the log drives in service: `model`'s `decide`, with the clock it has itself
//! replicated.

use crate::raft::{Applied, Machine};
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec;
use ullage_model::command::Command;
use ullage_model::decide::decide;
use ullage_model::fat::query::cluster_time;
use ullage_model::step::At;
use ullage_model::store::{Read, StoreError};

/// Decodes commands and decides them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decider;

impl Machine for Decider {
    fn apply(&self, state: &dyn Read, index: u64, command: &[u8]) -> Result<Applied, StoreError> {
        let command = codec::decode::<Command>(command)
            .map_err(|source| StoreError::Decode { column: "log", source })?;
        let cluster_time: ClusterTime = cluster_time(&state)?;
        let decision = decide(&state, At { index, cluster_time }, &command)?;
        Ok(Applied { changes: decision.changes, reply: codec::encode(&decision.reply) })
    }
}
