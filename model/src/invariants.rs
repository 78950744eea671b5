//! What must hold after every command, of the whole table. For tests and the simulator; nothing here changes
//! anything.

use crate::store::{Read, StoreError};
use crate::{fat, namespace};

/// Checks the sums of the FAT and the references of the namespace. Reads everything.
///
/// # Errors
/// When the store fails, or [`StoreError::Inconsistent`] with what does not hold.
pub fn check(rows: &impl Read) -> Result<(), StoreError> {
    fat::invariants::check(rows)?;
    namespace::invariants::check(rows)
}
