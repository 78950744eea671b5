//! Proposals: the only way to change the replicated state. Bounds what is in flight, in count and in bytes,
//! before Raft sees it, and tells "not appended" from "outcome unknown".
//!
//! Concurrent proposals become one append in Raft's core, which takes all that wait in its queue at once; a
//! queue of our own before it would only add a hop. Those that arrive together ([`Proposer::propose_together`])
//! are handed over as one message.

use crate::error::Error;
use crate::raft::{Answers, Group, Room, refused};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
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
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(Ok(applied))) => Ok((applied.log_id.index, applied.data.0)),
            Ok(Ok(Err(error))) => Err(refused(error)),
            Ok(Err(_)) => Err(self.unknown("the group stopped before it answered")),
            Err(_) => Err(self.unknown("no answer in time")),
        }
    }

    /// Proposes several encoded commands at once, in this order; answers in the same order.
    pub async fn propose_many(&self, commands: impl IntoIterator<Item = Bytes>) -> Vec<Result<Bytes, Error>> {
        let commands: Vec<Bytes> = commands.into_iter().collect();
        let understood = commands.iter().map(|command| self.group.understands(command));
        let understood: Vec<bool> = understood.collect();
        let known = commands.into_iter().zip(&understood).filter(|(_, known)| **known);
        let mut answers = self
            .propose_together(known.map(|(command, _)| command).collect())
            .await
            .into_iter();
        let of = |known: &bool| match known {
            true => answers.next().map(|answer| answer.map(|(_, reply)| reply)),
            false => None,
        };
        let answered: Vec<_> = understood.iter().map(of).collect();
        answered
            .into_iter()
            .map(|answer| answer.unwrap_or(Err(Error::NoCommand)))
            .collect()
    }

    /// Proposes commands, which are some for sure, as one message to Raft's core; answers each with its log index
    /// and the encoded reply, in their order. They take their room in order too: behind the first for which there
    /// is none, none is proposed.
    pub async fn propose_together(&self, commands: Vec<Bytes>) -> Vec<Result<(u64, Bytes), Error>> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut rooms = Vec::with_capacity(commands.len());
        let mut refused = None;
        for command in &commands {
            match self.admit(command.len()) {
                Ok(room) => rooms.push(room),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let count = commands.len();
        let admitted: Vec<Bytes> = commands.into_iter().take(rooms.len()).collect();
        if !admitted.is_empty() {
            self.together(admitted, rooms, &mut answers).await;
        }
        while answers.len() < count {
            answers.push(Err(refused.take().unwrap_or(Error::Overloaded)));
        }
        answers
    }

    async fn together(
        &self,
        commands: Vec<Bytes>,
        rooms: Vec<Room>,
        answers: &mut Vec<Result<(u64, Bytes), Error>>,
    ) {
        let count = commands.len();
        let applied = match self.group.submit_many(commands).await {
            Ok(applied) => applied,
            Err(error) => {
                let reason = error.to_string();
                let stopped = || Error::Stopped {
                    reason: reason.clone(),
                };
                answers.extend((0..count).map(|_| Err(stopped())));
                return;
            }
        };
        let mut in_flight = InFlight {
            applied,
            left: count,
            rooms,
        };
        let until = tokio::time::Instant::now() + self.patience;
        while answers.len() < count {
            match tokio::time::timeout_at(until, in_flight.next()).await {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => answers.push(Err(self.unknown("the group stopped before it answered"))),
                Err(_) => {
                    answers.extend((answers.len()..count).map(|_| Err(self.unknown("no answer in time"))));
                }
            }
        }
    }

    fn unknown(&self, reason: &str) -> Error {
        self.group.metrics().proposals_unknown.inc();
        Error::OutcomeUnknown {
            reason: reason.to_owned(),
        }
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

/// Proposals handed over together, with their room, which they keep until they are answered even if nobody waits
/// for that any more.
struct InFlight {
    applied: Answers,
    /// How many are not answered yet.
    left: usize,
    rooms: Vec<Room>,
}

impl InFlight {
    async fn next(&mut self) -> Option<Result<(u64, Bytes), Error>> {
        let answer = self.applied.next().await;
        self.left = match answer {
            Some(_) => self.left.saturating_sub(1),
            None => 0,
        };
        answer
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Where there is no runtime any more, nothing is in flight.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.left > 0 {
            let rooms = std::mem::take(&mut self.rooms);
            let mut applied = std::mem::replace(&mut self.applied, stream::empty().boxed());
            runtime.spawn(async move {
                while applied.next().await.is_some() {}
                drop(rooms);
            });
        }
    }
}
