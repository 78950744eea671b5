//! Group commit: one sync of the log for all appends that wait, then their completions in order.
//!
//! While a sync runs, further appends queue up; the next sync is for all of them together. Where syncs are quick, a task
//! of the runtime syncs: to put a thread to sleep and to wake it takes longer than that, twice for each sync. Where they are
//! not, or have not been lately, a thread of its own does, so that no worker of the runtime stands still with the disk.
//! Where syncs are simulated, a task waits for as long as they take.

use super::metrics::Metrics;
use super::types::TypeConfig;
use crate::error::Error;
use crate::store::LogDatabase;
use openraft::storage::IOFlushed;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// A sync that takes longer is not quick.
const QUICK: Duration = Duration::from_millis(1);
/// Quick syncs in a row after which the next ones are taken to be quick too.
const QUICK_BEFORE: u32 = 16;

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
    /// Held by whoever syncs, from before it takes what waits until that is completed: completions keep their order.
    syncing: Mutex<()>,
    /// Quick syncs in a row, up to [`QUICK_BEFORE`].
    quick: AtomicU32,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_quick(&self) -> bool {
        self.quick.load(Ordering::Relaxed) >= QUICK_BEFORE
    }

    /// Waits for appends; `false` once closed and empty.
    fn wait(&self) -> bool {
        let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
        let queue = self
            .changed
            .wait_while(self.queue(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        !queue.waiting.is_empty()
    }

    /// [`Shared::wait`] for a task.
    async fn noticed(&self) -> bool {
        loop {
            {
                let queue = self.queue();
                if !queue.waiting.is_empty() || queue.closed {
                    return !queue.waiting.is_empty();
                }
            }
            self.noticed.notified().await;
        }
    }

    fn take(&self) -> Vec<Completion> {
        std::mem::take(&mut self.queue().waiting)
    }

    fn close(&self) {
        self.queue().closed = true;
        self.changed.notify_one();
        self.noticed.notify_one();
    }

    /// Syncs `log` for all that waits, unless somebody is at it, who then takes what came meanwhile.
    fn try_sync(&self, log: &Weak<LogDatabase>, metrics: &Metrics) -> bool {
        let _syncing = match self.syncing.try_lock() {
            Ok(syncing) => syncing,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if let Some(log) = log.upgrade() {
            self.sync(&log, metrics);
        }
        true
    }

    /// Syncs `log` for all that waits. Called with `syncing` held.
    fn sync(&self, log: &LogDatabase, metrics: &Metrics) {
        let waiting = self.take();
        if waiting.is_empty() {
            return;
        }
        let started = Instant::now();
        let synced = log.sync();
        let took = started.elapsed();
        let quick = match took <= QUICK {
            true => self.quick.load(Ordering::Relaxed).saturating_add(1),
            false => 0,
        };
        self.quick.store(quick.min(QUICK_BEFORE), Ordering::Relaxed);
        complete(metrics, took, &synced, waiting);
    }
}

/// Who syncs.
enum Syncer {
    /// A thread, and a task while syncs are quick.
    Real(Option<JoinHandle<()>>),
    /// A task that waits.
    Simulated,
}

/// The queue and who works on it. Dropping it completes what waits.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    syncer: Syncer,
    /// Whether there is a task that can sync.
    has_task: bool,
}

impl Flusher {
    pub(super) fn start(log: &Arc<LogDatabase>, metrics: Metrics) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        if log.sync_delay().is_some() {
            tokio::spawn(flush_simulated(Arc::clone(&shared), Arc::clone(log), metrics));
            return Ok(Self {
                shared,
                syncer: Syncer::Simulated,
                has_task: true,
            });
        }
        let runtime = Handle::try_current().ok();
        let has_task = runtime.is_some();
        if let Some(runtime) = runtime {
            runtime.spawn(flush_here(
                Arc::clone(&shared),
                Arc::downgrade(log),
                metrics.clone(),
            ));
        }
        let (theirs, log) = (Arc::clone(&shared), Arc::clone(log));
        let run = move || {
            while theirs.wait() {
                let _syncing = theirs.syncing.lock().unwrap_or_else(PoisonError::into_inner);
                theirs.sync(&log, &metrics);
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
            syncer: Syncer::Real(Some(thread)),
            has_task,
        })
    }

    /// Queues the completion of an append whose entries are written. Completions are called in the order of
    /// these calls, each after a sync that began later than its call.
    pub(super) fn push(&self, completion: Completion) {
        self.shared.queue().waiting.push(completion);
        let by_task = matches!(self.syncer, Syncer::Simulated) || (self.has_task && self.shared.is_quick());
        if by_task {
            self.shared.noticed.notify_one();
        } else {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.close();
        if let Syncer::Real(thread) = &mut self.syncer
            && let Some(thread) = thread.take()
        {
            if thread.join().is_err() {
                tracing::error!("the thread that syncs the Raft log panicked");
            }
            // The task may be at it, and holds on to the database for so long.
            drop(self.shared.syncing.lock());
        }
    }
}

/// Syncs here while that is quick.
async fn flush_here(shared: Arc<Shared>, log: Weak<LogDatabase>, metrics: Metrics) {
    while shared.noticed().await {
        // Whatever was woken together with this task goes first, such as the requests to other members.
        tokio::task::yield_now().await;
        if !shared.try_sync(&log, &metrics) {
            if shared.queue().closed {
                return;
            }
            shared.noticed.notified().await;
        }
    }
}

/// Syncs take as long as the medium says, and make durable what was written when they began.
async fn flush_simulated(shared: Arc<Shared>, log: Arc<LogDatabase>, metrics: Metrics) {
    while shared.noticed().await {
        let waiting = shared.take();
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
