//! Linearizable reads by read index: reads that wait at the same time share one round. A leader's round goes to a
//! quorum; a follower's goes to the leader, which shares its own round among all who ask.

use super::link::{Lane, Link};
use super::metrics::Metrics;
use super::state_machine::StateMachine;
use super::types::TypeConfig;
use super::wire::{PeerError, READ_INDEX, ReadIndexRequest};
use crate::error::Error;
use openraft::errors::{ForwardReason, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::{Raft, ReadPolicy};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use ullage_transport::client::CallError;

/// Reads that may wait for a round.
const WAITING_MAX: usize = 65_536;

/// How long a leader may take to answer a follower.
const ASK_WITHIN: Duration = Duration::from_secs(2);

type Confirmed = Result<u64, Refused>;

/// Why a round confirmed nothing: cloned to all who waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(super) enum Refused {
    #[error("this node does not lead")]
    NotLeader(Option<String>),
    #[error("the leader is not ready yet")]
    NotReady,
    #[error("{0}")]
    Unconfirmed(String),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotLeader(leader) => Self::NotLeader { leader },
            Refused::NotReady => Self::LeaderNotReady,
            Refused::Unconfirmed(reason) => Self::ReadUnconfirmed { reason },
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::NotLeader { leader } => Self::NotLeader(leader),
            Error::LeaderNotReady => Self::NotReady,
            Error::ReadUnconfirmed { reason } => Self::Unconfirmed(reason),
            other => Self::Unconfirmed(other.to_string()),
        }
    }
}

#[derive(Default)]
struct Waiting {
    reads: Vec<oneshot::Sender<Confirmed>>,
    running: bool,
}

/// The rounds of one group.
pub(super) struct Rounds {
    raft: Raft<TypeConfig, StateMachine>,
    link: Option<Link>,
    metrics: Metrics,
    waiting: Mutex<Waiting>,
}

impl Rounds {
    pub(super) fn new(
        raft: Raft<TypeConfig, StateMachine>,
        link: Option<Link>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            raft,
            link,
            metrics,
            waiting: Mutex::default(),
        })
    }

    /// The index that a read arriving now must have applied, confirmed by a quorum after this call.
    pub(super) async fn confirm(self: &Arc<Self>, patience: Duration) -> Result<u64, Error> {
        let (tell, told) = oneshot::channel();
        let start = {
            let mut waiting = self.waiting();
            if waiting.reads.len() >= WAITING_MAX {
                return Err(Error::Overloaded);
            }
            waiting.reads.push(tell);
            !std::mem::replace(&mut waiting.running, true)
        };
        if start {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.run(patience).await });
        }
        match tokio::time::timeout(patience, told).await {
            Ok(Ok(confirmed)) => confirmed.map_err(Error::from),
            Ok(Err(_)) => Err(Error::Stopped {
                reason: "the round was dropped".to_owned(),
            }),
            Err(_) => Err(Error::ReadUnconfirmed {
                reason: "no quorum answered in time".to_owned(),
            }),
        }
    }

    async fn run(&self, patience: Duration) {
        loop {
            let reads = {
                let mut waiting = self.waiting();
                if waiting.reads.is_empty() {
                    waiting.running = false;
                    return;
                }
                std::mem::take(&mut waiting.reads)
            };
            self.metrics.read_rounds.inc();
            let confirmed = self.round(patience).await;
            for read in reads {
                // A reader that has stopped waiting does not want to know.
                drop(read.send(confirmed.clone()));
            }
        }
    }

    async fn round(&self, patience: Duration) -> Confirmed {
        let own = self.raft.get_read_linearizer(ReadPolicy::ReadIndex);
        let error = match tokio::time::timeout(patience, own).await {
            Ok(Ok(linearizer)) => return Ok(linearizer.read_log_id().index()),
            Ok(Err(error)) => error,
            Err(_) => return Err(Refused::Unconfirmed("no quorum answered in time".to_owned())),
        };
        match (leader(&error), &self.link) {
            (Some((leader, address)), Some(link)) => {
                // One that is lost must not use up the patience of all who wait behind.
                ask(link, leader, &address, patience.min(ASK_WITHIN)).await
            }
            _ => Err(refused(error)),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(link: &Link, leader: u64, address: &str, patience: Duration) -> Confirmed {
    let target = link.target(leader, address, Lane::Other);
    let request = ReadIndexRequest {
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
    };
    let asked = link.call::<_, u64>(leader, &target, READ_INDEX, request, patience);
    asked.await.map_err(|error| match error {
        CallError::Application(PeerError::Refused(refused)) => refused,
        error => Refused::Unconfirmed(error.to_string()),
    })
}

type ReadError = RaftError<TypeConfig, LinearizableReadError<TypeConfig>>;

/// Who leads instead of this node, if `error` says so.
fn leader(error: &ReadError) -> Option<(u64, String)> {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))
            if forward.reason == ForwardReason::NotLeader =>
        {
            Some((forward.leader_id?, forward.leader_node.as_ref()?.addr.clone()))
        }
        _ => None,
    }
}

fn refused(error: ReadError) -> Refused {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
            let ForwardToLeader {
                leader_node, reason, ..
            } = forward;
            match reason {
                ForwardReason::NotLeader => Refused::NotLeader(leader_node.map(|node| node.addr)),
                _ => Refused::NotReady,
            }
        }
        error => Refused::Unconfirmed(error.to_string()),
    }
}
