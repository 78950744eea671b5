//! The table's own sums.

use crate::store::{Read, StoreError};

/// Not written yet.
///
/// # Errors
/// See [`StoreError`].
pub fn check(_rows: &impl Read) -> Result<(), StoreError> {
    unimplemented!()
}
