//! Changing the tags of an object that is there.

use crate::command::{Reply, SetObjectTags};
use crate::namespace::{authority, bounds, keys, version};
use crate::rejection::Rejection;
use crate::step::{Step, Stop};
use crate::store::{Column, Read};

/// Replaces all tags of a key's current version, or of the version named. Nothing else of it changes, its
/// Last-Modified neither.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchKey`, `Invalid`.
pub fn set<R: Read>(step: &mut Step<'_, R>, set: &SetObjectTags) -> Result<Reply, Stop> {
    let bucket = set.bucket.bucket;
    bounds::check_key(&set.key)?;
    bounds::check_tags(&set.tags)?;
    authority::check_bucket(step, set.bucket)?;
    authority::check_actor(step, set.actor)?;
    let live = version::live(step, bucket, &set.key)?
        .filter(|live| set.version.is_none_or(|named| named == live.version))
        .ok_or(Rejection::NoSuchKey)?;
    let mut row = version::current(step, bucket, &set.key, &live)?;
    row.metadata.tags.clone_from(&set.tags);
    step.put(
        Column::Versions,
        keys::version(bucket, &set.key, row.version),
        &row,
    );
    Ok(Reply::Changed { version: row.version })
}
