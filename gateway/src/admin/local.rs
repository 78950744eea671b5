//! What the admin API asks of vendors themselves: their own tables. Implemented by whoever reaches the agents.

use futures::future::BoxFuture;
use std::fmt;
use ullage_model::ids::{CopyId, DeviceId, VendorId};

/// One copy as its vendor lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCopy {
    /// The copy.
    pub copy: CopyId,
    /// Plaintext bytes of its chunk.
    pub plaintext_bytes: u64,
    /// Devices of its pieces, in the order of the pieces.
    pub devices: Vec<DeviceId>,
    /// Every piece is there.
    pub complete: bool,
}

/// A page of a vendor's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalCopies {
    /// Copies that are there; those erased are left out.
    pub copies: Vec<LocalCopy>,
    /// Where to go on, if there may be more.
    pub next: Option<CopyId>,
}

/// Why a vendor's table cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalFatError {
    /// This gateway cannot ask that vendor, or there is no such vendor.
    #[error("{0} cannot be asked from here")]
    Unreachable(VendorId),
    /// The vendor could not answer.
    #[error("{0}")]
    Failed(String),
}

/// The vendors' own tables.
pub trait LocalFats: Send + Sync + fmt::Debug {
    /// A vendor's copies in the order of their names from behind `after`, of at most `limit` entries looked at.
    fn copies(
        &self,
        vendor: VendorId,
        after: Option<CopyId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<LocalCopies, LocalFatError>>;

    /// Where a vendor's devices are (directories), as far as that is known here.
    fn device_paths(&self, vendor: VendorId) -> BoxFuture<'_, Vec<(DeviceId, String)>>;
}
