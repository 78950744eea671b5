//! Proposals: the only way to change the replicated state. Bounds what is in flight, in count and in bytes,
//! before Raft sees it, and tells "not appended" from "outcome unknown".
//!
//! Concurrent proposals become one append in Raft's core, which takes all that wait in its queue at once; a
//! queue of our own before it would only add a hop.

use crate::error::Error;
use crate::raft::{Group, Room, refused};
use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use ullage_model::codec::{decode, encode};
use ullage_model::command::{Command, Reply};
use ullage_model::limits::COMMAND_BYTES_MAX;

/// Bounds of proposals.
#[derive(Clone, Copy, Debug)]
pub struct ProposalLimits {
    /// Proposals in flight.
    pub count: usize,
    /// Their bytes together.
    pub bytes: usize,
    /// How long a caller waits for the answer. A proposal that takes longer stays in flight.
    pub patience: Duration,
}

impl Default for ProposalLimits {
    fn default() -> Self {
        Self {
            count: 4096,
            bytes: 32 * 1024 * 1024,
            patience: Duration::from_secs(10),
        }
    }
}

const _: () = assert!(
    COMMAND_BYTES_MAX <= 32 * 1024 * 1024,
    "one command fits the default bound"
);

/// Proposes commands to a group.
#[derive(Clone, Debug)]
pub struct Proposer {
    group: Arc<Group>,
    count: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    patience: Duration,
}

impl Proposer {
    /// Proposals to `group` within `limits`.
    #[must_use]
    pub fn new(group: Arc<Group>, limits: ProposalLimits) -> Self {
        let bytes = limits.bytes.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self {
            group,
            count: Arc::new(Semaphore::new(limits.count.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(bytes)),
            patience: limits.patience,
        }
    }

    /// Proposes `command` and waits until it is applied.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when it may have been appended, anything else when it was not.
    pub async fn propose(&self, command: &Command) -> Result<Reply, Error> {
        Ok(self.propose_indexed(command).await?.1)
    }

    /// Proposes `command` and waits until it is applied; answers with its log index too.
    ///
    /// # Errors
    /// As [`Proposer::propose`].
    pub async fn propose_indexed(&self, command: &Command) -> Result<(u64, Reply), Error> {
        let (index, reply) = self.submit(encode(command)).await?;
        // It is applied: whatever is wrong with the reply, nobody may take the command for refused.
        let reply = decode(&reply).map_err(|error| Error::OutcomeUnknown {
            reason: error.to_string(),
        })?;
        Ok((index, reply))
    }

    /// Proposes an encoded command and waits until it is applied; answers with the encoded reply.
    ///
    /// # Errors
    /// As [`Proposer::propose`]; [`Error::NoCommand`] when the bytes are none.
    pub async fn propose_bytes(&self, command: Bytes) -> Result<Bytes, Error> {
        if self.group.understands(&command) {
            Ok(self.submit(command).await?.1)
        } else {
            Err(Error::NoCommand)
        }
    }

    async fn submit(&self, command: Bytes) -> Result<(u64, Bytes), Error> {
        let room = self.admit(command.len())?;
        let answer = self.group.submit(command, room).await?;
        let unknown = |reason: &str| {
            self.group.metrics().proposals_unknown.inc();
            Error::OutcomeUnknown {
                reason: reason.to_owned(),
            }
        };
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(Ok(applied))) => Ok((applied.log_id.index, applied.data.0)),
            Ok(Ok(Err(error))) => Err(refused(error)),
            Ok(Err(_)) => Err(unknown("the group stopped before it answered")),
            Err(_) => Err(unknown("no answer in time")),
        }
    }

    /// Proposes several commands at once, in this order; answers in the same order.
    pub async fn propose_many(&self, commands: impl IntoIterator<Item = Bytes>) -> Vec<Result<Bytes, Error>> {
        let proposals = commands.into_iter().map(|command| self.propose_bytes(command));
        proposals.collect::<FuturesOrdered<_>>().collect().await
    }

    fn admit(&self, bytes: usize) -> Result<Room, Error> {
        if bytes > COMMAND_BYTES_MAX {
            return Err(Error::CommandTooLong {
                bytes,
                limit: COMMAND_BYTES_MAX,
            });
        }
        let metrics = self.group.metrics();
        let count = Arc::clone(&self.count).try_acquire_owned();
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = count.and_then(|count| {
            let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(permits)?;
            let (in_flight, in_flight_bytes) =
                (&metrics.proposals_in_flight, &metrics.proposal_bytes_in_flight);
            Ok(Room::new(
                count,
                bytes,
                in_flight.clone(),
                in_flight_bytes.clone(),
            ))
        });
        room.map_err(|_| {
            metrics.proposals_refused.inc();
            Error::Overloaded
        })
    }
}
