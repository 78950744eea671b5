//! Group commit: one thread that syncs the log for all appends that wait, then completes them in order. Where syncs
//! are simulated, a task does.
//!
//! While a sync runs, further appends queue up; the next sync is for all of them together.

use super::metrics::Metrics;
use super::types::TypeConfig;
use crate::error::Error;
use crate::store::LogDatabase;
use openraft::storage::IOFlushed;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

type Completion = IOFlushed<TypeConfig>;

#[derive(Default)]
struct Queue {
    waiting: Vec<Completion>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the thread.
    changed: Condvar,
    /// Wakes the task.
    noticed: Notify,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for appends; all that wait, oldest first, or `None` once closed and empty.
    fn take(&self) -> Option<Vec<Completion>> {
        let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
        let mut queue = self
            .changed
            .wait_while(self.queue(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        let waiting = std::mem::take(&mut queue.waiting);
        (!waiting.is_empty()).then_some(waiting)
    }

    /// [`Shared::take`] for a task.
    async fn taken(&self) -> Option<Vec<Completion>> {
        loop {
            {
                let mut queue = self.queue();
                if !queue.waiting.is_empty() {
                    return Some(std::mem::take(&mut queue.waiting));
                }
                if queue.closed {
                    return None;
                }
            }
            self.noticed.notified().await;
        }
    }

    fn changed(&self) {
        self.changed.notify_one();
        self.noticed.notify_one();
    }
}

/// The thread and its queue. Dropping it completes what waits, then ends the thread.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start(log: Arc<LogDatabase>, metrics: Metrics) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        if log.sync_delay().is_some() {
            tokio::spawn(flush_simulated(theirs, log, metrics));
            return Ok(Self { shared, thread: None });
        }
        let run = move || {
            while let Some(waiting) = theirs.take() {
                let started = Instant::now();
                let synced = log.sync();
                complete(&metrics, started.elapsed(), &synced, waiting);
            }
        };
        let thread = std::thread::Builder::new()
            .name("raft-log-sync".to_owned())
            .spawn(run);
        let thread = thread.map_err(|error| Error::Stopped {
            reason: error.to_string(),
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Queues the completion of an append whose entries are written. Completions are called in the order of
    /// these calls, each after a sync that began later than its call.
    pub(super) fn push(&self, completion: Completion) {
        self.shared.queue().waiting.push(completion);
        self.shared.changed();
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.changed();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that syncs the Raft log panicked");
        }
    }
}

/// Syncs take as long as the medium says, and make durable what was written when they began.
async fn flush_simulated(shared: Arc<Shared>, log: Arc<LogDatabase>, metrics: Metrics) {
    while let Some(waiting) = shared.taken().await {
        let (written, delay) = (log.written(), log.sync_delay().unwrap_or_default());
        tokio::time::sleep(delay).await;
        complete(&metrics, delay, &log.sync_written(written), waiting);
    }
}

fn complete(metrics: &Metrics, took: Duration, synced: &Result<(), Error>, waiting: Vec<Completion>) {
    metrics.syncs.inc();
    metrics.sync_seconds.observe(took.as_secs_f64());
    metrics
        .sync_appends
        .observe(f64::from(u32::try_from(waiting.len()).unwrap_or(u32::MAX)));
    if let Err(error) = synced {
        tracing::error!(%error, "the Raft log cannot be synced: this node stops");
    }
    for completion in waiting {
        let result = match synced {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        completion.io_completed(result);
    }
}
