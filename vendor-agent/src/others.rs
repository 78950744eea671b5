//! What the metadata service says of the other services: whom it has shut out, and which directory this agent
//! has. Addresses themselves go to those who call.

use crate::sync::{Shared, lock};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use ullage_model::ids::VendorId;
use ullage_model::wire::agent::Directory;

/// The other services, as last heard.
#[derive(Default)]
pub(crate) struct Others {
    revision: AtomicU64,
    metad: Shared<Vec<String>>,
    revoked: Shared<BTreeSet<VendorId>>,
}

impl Others {
    /// Notes which directory was passed on.
    pub(crate) fn set_directory(&self, directory: Directory) {
        *lock(&self.metad) = directory.metad;
        self.revision.store(directory.revision, Ordering::Relaxed);
    }

    /// Addresses of the metadata nodes as last heard; none before that.
    pub(crate) fn metad(&self) -> Vec<String> {
        lock(&self.metad).clone()
    }

    /// Revision of the directory that was passed on last; 0 before the first.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// Notes which vendors are shut out.
    pub(crate) fn set_revoked(&self, revoked: Vec<VendorId>) {
        *lock(&self.revoked) = revoked.into_iter().collect();
    }

    /// Whether `vendor` is shut out.
    pub(crate) fn is_revoked(&self, vendor: VendorId) -> bool {
        lock(&self.revoked).contains(&vendor)
    }
}
