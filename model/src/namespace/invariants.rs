//! What must hold between the namespace's rows after every command.

use crate::store::{Read, StoreError};

/// Checks the whole namespace. Reads everything: for tests and the simulator.
///
/// # Errors
/// When the store fails, or [`StoreError::Inconsistent`] with what does not hold.
pub fn check(_rows: &impl Read) -> Result<(), StoreError> {
    unimplemented!()
}
