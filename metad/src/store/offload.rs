//! Where blocking calls run: on a thread for them. A medium in memory does not block, and its simulation must
//! not leave the thread it is on.

use crate::error::Error;

/// Runs `work` where it may block; at once, if the medium `blocks` not at all.
///
/// # Errors
/// When it panicked, or the runtime is shutting down.
pub async fn offload<T: Send + 'static>(
    blocks: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if !blocks {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Stopped {
        reason: error.to_string(),
    })
}
