//! Deleting an object.

use crate::command::{Actor, BucketRef, Conditions, Reply};
use crate::step::{Step, Stop};
use crate::store::Read;

/// Deletes an object's current version.
pub fn object<R: Read>(
    _step: &mut Step<'_, R>,
    _actor: Actor,
    _bucket: BucketRef,
    _key: &str,
    _conditions: &Conditions,
) -> Result<Reply, Stop> {
    unimplemented!()
}
