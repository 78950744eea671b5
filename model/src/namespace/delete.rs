//! Deleting an object.

use crate::command::{Actor, BucketRef, Conditions, Reply};
use crate::namespace::{authority, bounds, keys, version};
use crate::step::{Step, Stop};
use crate::store::{Column, Read};

/// Deletes an object's current version and releases its content.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `Invalid`, and `NoSuchKey` or `PreconditionFailed` by the conditions.
pub fn object<R: Read>(
    step: &mut Step<'_, R>,
    actor: Actor,
    bucket: BucketRef,
    key: &str,
    conditions: &Conditions,
) -> Result<Reply, Stop> {
    bounds::check_key(key)?;
    authority::check_bucket(step, bucket)?;
    authority::check_actor(step, actor)?;
    let bucket = bucket.bucket;
    let live = version::live(step, bucket, key)?;
    version::check_conditions(live.as_ref(), conditions)?;
    let Some(live) = live else {
        return Ok(Reply::Deleted { existed: false });
    };
    version::remove(step, bucket, key, &live)?;
    step.delete(Column::Live, keys::live(bucket, key));
    version::change_usage(step, bucket, |usage| {
        usage.objects = usage.objects.checked_sub(1)?;
        usage.bytes = usage.bytes.checked_sub(live.bytes)?;
        Some(())
    })?;
    Ok(Reply::Deleted { existed: true })
}
