//! Whether this replica may go on: an error that means that its disk holds what was never written there, or a digest
//! that is not the majority's, sets its data directory aside for good.

use crate::error::Error;
use tokio::sync::watch;
use ullage_model::store::StoreError;

/// The first reason why this replica must not go on, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Health(watch::Sender<Option<String>>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

/// What RocksDB's errors begin with when a checksum or a structure is wrong.
const CORRUPTION: &str = "Corruption";

/// Why `error` means that the data directory is not to be trusted, if it does. A full or failing disk, and a state
/// machine that contradicts itself on every replica alike, mean no such thing.
pub(super) fn corruption(error: &Error) -> Option<String> {
    match error {
        Error::Corrupt { .. } => Some(error.to_string()),
        Error::Database { reason, .. } if reason.starts_with(CORRUPTION) => Some(error.to_string()),
        Error::Store(StoreError::Failed { reason, .. }) if reason.starts_with(CORRUPTION) => {
            Some(error.to_string())
        }
        _ => None,
    }
}

impl Health {
    /// Remembers `error` if it means corruption.
    pub(super) fn note(&self, error: &Error) {
        if let Some(reason) = corruption(error) {
            self.condemn(reason);
        }
    }

    /// This replica must not go on.
    pub(super) fn condemn(&self, reason: String) {
        self.0.send_if_modified(|condemned| {
            let first = condemned.is_none();
            if first {
                *condemned = Some(reason);
            }
            first
        });
    }

    /// Why it must not go on.
    pub(super) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Waits until it must not go on.
    pub(super) async fn condemned(&self) -> String {
        let mut watch = self.0.subscribe();
        loop {
            if let Some(reason) = watch.borrow_and_update().clone() {
                return reason;
            }
            if watch.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
