//! What happens to a body that does not become visible: whatever way its request ends, also when it is simply
//! dropped. Chunks that were sent and not committed make their lease dirty (see `rooms.rs`); a blob with committed
//! slices is given up here.

use crate::session::Session;
use std::sync::Arc;
use ullage_model::ids::BlobId;

/// Gives up a building blob when dropped, unless it was finalized.
#[derive(Debug)]
pub struct AbandonOnDrop {
    session: Arc<Session>,
    blob: BlobId,
    /// Slices were committed, or may have been.
    building: bool,
}

impl AbandonOnDrop {
    /// Nothing was committed for `blob` yet.
    #[must_use]
    pub fn new(session: &Arc<Session>, blob: BlobId) -> Self {
        Self {
            session: Arc::clone(session),
            blob,
            building: false,
        }
    }

    /// A slice is about to be committed.
    pub fn building(&mut self) {
        self.building = true;
    }

    /// The blob belongs to a version or a part now.
    pub fn finalized(&mut self) {
        self.building = false;
    }
}

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        if self.building {
            self.session.abandon(self.blob);
        }
    }
}
