//! Copies that turned out damaged or lost.

use crate::command::Reply;
use crate::ids::VendorId;
use crate::step::{Step, Stop};
use crate::store::Read;
use crate::wire::agent::DamagedCopy;

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn report<R: Read>(
    _step: &mut Step<'_, R>,
    _vendor: VendorId,
    _copies: &[DamagedCopy],
) -> Result<Reply, Stop> {
    unimplemented!()
}
