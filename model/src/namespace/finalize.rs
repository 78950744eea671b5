//! Making an object visible: one command, all or nothing.

use crate::command::{FinalizeObject, Reply};
use crate::ids::SessionId;
use crate::step::{Step, Stop};
use crate::store::Read;

/// Makes an object visible, or replaces it.
pub fn object<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _finalize: &FinalizeObject,
) -> Result<Reply, Stop> {
    unimplemented!()
}
