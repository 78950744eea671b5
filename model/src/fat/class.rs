//! Classes: named placement rules.

use crate::command::Reply;
use crate::fat::rows::ClassRow;
use crate::step::{Step, Stop};
use crate::store::Read;

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn set<R: Read>(_step: &mut Step<'_, R>, _class: &ClassRow) -> Result<Reply, Stop> {
    unimplemented!()
}
