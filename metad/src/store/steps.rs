//! The instants at which a crash or a failing disk matters, so that tests can stop there. In production each
//! step is one call through an empty hook.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A point just before or after something becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Entries are about to be written to the log, unsynced.
    LogAppend,
    /// The log's write-ahead file is about to be synced. An error here is a failed sync.
    LogSync,
    /// The vote is about to be written and synced.
    VoteWrite,
    /// The vote is durable.
    VoteWritten,
    /// The purge mark is about to be written.
    PurgeWrite,
    /// It is durable.
    PurgeWritten,
    /// The tail of the log is about to be deleted.
    TruncateWrite,
    /// It is durably gone.
    TruncateWritten,
    /// A batch of changes is about to be written to the state.
    StateWrite,
    /// A checkpoint is about to be made.
    CheckpointMake,
    /// Its files exist, but nothing of it is synced yet.
    CheckpointMade,
    /// All its files and its directory are synced.
    CheckpointSynced,
    /// The first file of a snapshot has been linked into a new state directory.
    InstallLinking,
    /// All files are linked and synced.
    InstallSynced,
    /// The new state has been opened and checked.
    InstallOpened,
    /// The new pointer lies beside the old one.
    PointerWritten,
    /// The new pointer has replaced the old one, but its directory is not synced.
    PointerRenamed,
    /// The new pointer is durable.
    PointerSynced,
}

type Hook = dyn Fn(Step) -> io::Result<()> + Send + Sync;

/// A hook called at each [`Step`].
#[derive(Clone, Default)]
pub struct Steps(Option<Arc<Hook>>);

impl Steps {
    /// Calls `hook` at each step; its error is taken for the disk's.
    pub fn hooked(hook: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    /// Announces a step.
    ///
    /// # Errors
    /// The hook's.
    pub fn at(&self, step: Step) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |hook| hook(step))
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Steps(hooked)"
        } else {
            "Steps"
        })
    }
}
