//! Deleting: of what is current, which leaves a delete marker where old versions are kept, and of one version for
//! good.

use crate::command::{DeleteObject, Reply};
use crate::ids::{BucketId, VersionId, VersionName};
use crate::namespace::rows::{BucketRow, DeleteMarkerRow, LiveRow, VersionEntry, Versioning};
use crate::namespace::successor::Target;
use crate::namespace::{authority, bounds, keys, release, usage, version};
use crate::step::{Step, Stop};
use crate::store::{Column, Read};

/// Deletes an object, or one version of it. What is removed for good is released.
///
/// Conditions are on the key's current version, whatever is named (S3 user guide, "How to perform conditional
/// deletes").
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `Invalid`, and `NoSuchKey` or `PreconditionFailed` by the conditions.
pub fn object<R: Read>(step: &mut Step<'_, R>, delete: &DeleteObject) -> Result<Reply, Stop> {
    bounds::check_key(&delete.key)?;
    let bucket = authority::check_bucket(step, delete.bucket)?;
    authority::check_actor(step, delete.actor)?;
    let target = Target::find(step, &bucket, &delete.key)?;
    version::check_conditions(target.live(), &delete.conditions)?;
    match delete.version {
        Some(name) => one_version(step, &bucket, &delete.key, name, target.live()),
        None => current(step, &bucket, target, delete),
    }
}

/// Deletes without a name.
fn current<R: Read>(
    step: &mut Step<'_, R>,
    bucket: &BucketRow,
    target: Target<'_>,
    delete: &DeleteObject,
) -> Result<Reply, Stop> {
    let existed = target.live().is_some();
    if bucket.versioning == Versioning::Off {
        if existed {
            target.clear_all(step)?.put_nothing(step)?;
        }
        return Ok(Reply::Deleted {
            existed,
            version: None,
            delete_marker: false,
        });
    }
    let marker = DeleteMarkerRow {
        version: VersionId {
            order: step.at.index,
            random: delete.random,
        },
        null: target.successor_is_null(),
        creator: delete.actor.user,
        modified: delete.now,
    };
    target.clear_all(step)?.put_delete_marker(step, marker)?;
    Ok(Reply::Deleted {
        existed,
        version: Some(marker.name()),
        delete_marker: true,
    })
}

/// Removes a version or a delete marker for good. If it was the newest, the next one takes its place.
fn one_version<R: Read>(
    step: &mut Step<'_, R>,
    of: &BucketRow,
    key: &str,
    name: VersionName,
    live: Option<&LiveRow>,
) -> Result<Reply, Stop> {
    let bucket = of.bucket;
    let found = version::named(step, bucket, key, name)?;
    let reply = Reply::Deleted {
        existed: found.is_some(),
        version: Some(name),
        delete_marker: matches!(found, Some(VersionEntry::DeleteMarker(_))),
    };
    let Some(removed) = found else { return Ok(reply) };
    let id = removed.version();
    let was_live = live.is_some_and(|live| live.version == id);
    version::remove(step, bucket, key, &removed)?;
    let (mut versions, mut delete_markers, mut bytes) = (0, 0, 0);
    match &removed {
        VersionEntry::Object(row) => {
            (versions, bytes) = (1, row.bytes);
            release::content(step, &row.content)?;
        }
        VersionEntry::DeleteMarker(_) => delete_markers = 1,
    }
    let is_live = match (was_live, live, &removed) {
        (true, ..) => {
            // Where no old versions are kept there is none, and looking for one would wade through what the key's
            // former versions left in the store.
            let next = match of.versioning {
                Versioning::Off => None,
                Versioning::Enabled | Versioning::Suspended => version::newest(step, bucket, key, Some(id))?,
            };
            let is_live = make_live(step, bucket, key, next.as_ref());
            if !is_live {
                step.delete(Column::Live, keys::live(bucket, key));
            }
            is_live
        }
        // The marker may have been the newest.
        (false, None, VersionEntry::DeleteMarker(_)) => {
            let next = version::newest(step, bucket, key, None)?;
            make_live(step, bucket, key, next.as_ref())
        }
        (false, ..) => live.is_some(),
    };
    usage::change(step, bucket, |usage| {
        usage.objects = usage.objects.checked_sub(u64::from(live.is_some()))?;
        usage.objects = usage.objects.checked_add(u64::from(is_live))?;
        usage.versions = usage.versions.checked_sub(versions)?;
        usage.delete_markers = usage.delete_markers.checked_sub(delete_markers)?;
        usage.bytes = usage.bytes.checked_sub(bytes)?;
        Some(())
    })?;
    Ok(reply)
}

/// Makes the newest of a key live, unless it is a delete marker or there is none. Answers whether it did.
fn make_live<R: Read>(
    step: &mut Step<'_, R>,
    bucket: BucketId,
    key: &str,
    newest: Option<&VersionEntry>,
) -> bool {
    let Some(VersionEntry::Object(row)) = newest else {
        return false;
    };
    step.put(Column::Live, keys::live(bucket, key), &LiveRow::from(&**row));
    true
}
