//! Buckets: create and delete.

use crate::cluster_time::WallTime;
use crate::command::{Actor, BucketRef, Reply};
use crate::step::{Step, Stop};
use crate::store::Read;

/// Makes a bucket.
pub fn create<R: Read>(
    _step: &mut Step<'_, R>,
    _actor: Actor,
    _name: &str,
    _region: &str,
    _now: WallTime,
) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Deletes an empty bucket.
pub fn delete<R: Read>(_step: &mut Step<'_, R>, _actor: Actor, _bucket: BucketRef) -> Result<Reply, Stop> {
    unimplemented!()
}
