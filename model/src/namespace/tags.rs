//! Changing the tags of an object that is there.

use crate::command::{Reply, SetObjectTags};
use crate::namespace::{authority, bounds, version};
use crate::step::{Step, Stop};
use crate::store::Read;

/// Replaces all tags of a key's current version, or of the version named. Nothing else of it changes, its
/// Last-Modified neither.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchKey`, `NoSuchVersion`, `DeleteMarker`, `Invalid`.
pub fn set<R: Read>(step: &mut Step<'_, R>, set: &SetObjectTags) -> Result<Reply, Stop> {
    bounds::check_key(&set.key)?;
    bounds::check_tags(&set.tags)?;
    let bucket = authority::check_bucket(step, set.bucket)?;
    authority::check_actor(step, set.actor)?;
    let mut row = version::to_change(step, bucket.bucket, &set.key, set.version, set.seen.as_ref())?;
    row.metadata.tags.clone_from(&set.tags);
    let reply = Reply::Changed {
        version: row.version,
        name: bucket.versioning.shown(row.name()),
    };
    version::put_back(step, bucket.bucket, &set.key, row)?;
    Ok(reply)
}
