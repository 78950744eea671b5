//! Linearizable reads by read index: reads that wait at the same time share one round to a quorum.

use super::metrics::Metrics;
use super::state_machine::StateMachine;
use super::types::TypeConfig;
use crate::error::Error;
use openraft::errors::{ForwardReason, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::{Raft, ReadPolicy};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Reads that may wait for a round.
const WAITING_MAX: usize = 65_536;

type Confirmed = Result<u64, Refused>;

/// Why a round confirmed nothing: cloned to all who waited.
#[derive(Clone, Debug)]
enum Refused {
    NotLeader(Option<String>),
    NotReady,
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

#[derive(Default)]
struct Waiting {
    reads: Vec<oneshot::Sender<Confirmed>>,
    running: bool,
}

/// The rounds of one group.
pub(super) struct Rounds {
    raft: Raft<TypeConfig, StateMachine>,
    metrics: Metrics,
    waiting: Mutex<Waiting>,
}

impl Rounds {
    pub(super) fn new(raft: Raft<TypeConfig, StateMachine>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            raft,
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
            let round = tokio::time::timeout(patience, self.raft.get_read_linearizer(ReadPolicy::ReadIndex));
            let confirmed = match round.await {
                Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
                Ok(Err(error)) => Err(refused(error)),
                Err(_) => Err(Refused::Unconfirmed("no quorum answered in time".to_owned())),
            };
            for read in reads {
                // A reader that has stopped waiting does not want to know.
                drop(read.send(confirmed.clone()));
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(error: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> Refused {
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
