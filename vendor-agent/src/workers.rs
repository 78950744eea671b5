//! Where work goes that may wait for a medium or keep a processor busy: threads of its own in a process that
//! serves, tasks of the caller's runtime in a simulation, where time and order must be the runtime's.

use crate::error::AgentError;
use std::thread::JoinHandle;
use std::time::Duration;

/// How the agent does work that may block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// Threads for what runs always (lanes, keepers, the signer), the runtime's blocking threads for the rest.
    #[default]
    Threads,
    /// Tasks of the runtime; what blocks is done at once where it is asked for. For media that never wait.
    Tasks {
        /// How long a group of records takes to become durable, by the runtime's clock. A crash in that time
        /// loses what was not yet durable, or only the word of it.
        flush: Duration,
    },
}

/// Work that goes on until it is told to end.
pub(crate) enum Worker {
    Thread(String, JoinHandle<()>),
    Task(String, tokio::task::JoinHandle<()>),
}

impl Workers {
    /// Starts `work`. On a thread it has a runtime of its own with a timer and nothing else.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub(crate) fn start(
        self,
        name: String,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Worker, AgentError> {
        if matches!(self, Self::Tasks { .. }) {
            return Ok(Worker::Task(name, tokio::spawn(work)));
        }
        let failed = |name: &str| {
            let name = name.to_owned();
            move |source| AgentError::Thread { name, source }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(failed(&name))?;
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || runtime.block_on(work))
            .map_err(failed(&name))?;
        Ok(Worker::Thread(name, thread))
    }

    /// Does `work` where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AgentError> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| AgentError::Index(format!("a blocking task did not end: {error}"))),
            Self::Tasks { .. } => Ok(work()),
        }
    }

    /// How long a group takes to become durable on media that do not wait by themselves.
    pub(crate) fn flush(self) -> Option<Duration> {
        match self {
            Self::Threads => None,
            Self::Tasks { flush } => Some(flush),
        }
    }
}

impl Worker {
    /// Waits for a thread to end. Blocks. A task ends by itself: whoever may not wait for it goes on.
    pub(crate) fn join(self) {
        match self {
            Self::Thread(name, thread) => {
                if thread.join().is_err() {
                    tracing::error!(name, "a worker's thread panicked");
                }
            }
            Self::Task(..) => {}
        }
    }

    /// Waits for a task to end; gives a thread back, for which a thread must wait.
    pub(crate) async fn joined(self) -> Option<Self> {
        match self {
            Self::Task(name, task) => {
                if task.await.is_err_and(|error| error.is_panic()) {
                    tracing::error!(name, "a worker's task panicked");
                }
                None
            }
            thread => Some(thread),
        }
    }
}
