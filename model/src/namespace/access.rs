//! Canned access control lists of buckets and of versions. What they grant is the gateways' judgement: a bucket's is
//! made under its settings version, which a change raises; a version's is read with the version.

use crate::command::{Actor, BucketRef, Reply, Seen};
use crate::fat::cluster;
use crate::ids::VersionName;
use crate::namespace::rows::{BucketAccess, BucketRow, CannedAcl};
use crate::namespace::{authority, bounds, keys, version};
use crate::step::{Step, Stop};
use crate::store::{Column, Read};

/// Changes who may reach a bucket. What holds already changes nothing.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`.
pub fn set_bucket<R: Read>(
    step: &mut Step<'_, R>,
    actor: Actor,
    bucket: BucketRef,
    access: BucketAccess,
) -> Result<Reply, Stop> {
    let row = authority::check_bucket(step, bucket)?;
    authority::check_actor(step, actor)?;
    if row.access != access {
        let changed = BucketRow {
            access,
            settings_version: cluster::next_settings_version(step, row.settings_version)?,
            ..row
        };
        step.put(Column::Buckets, keys::bucket(changed.bucket), &changed);
    }
    Ok(Reply::Done)
}

/// Changes who may reach a key's current version, or the version named.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchKey`, `NoSuchVersion`, `DeleteMarker`, `Invalid`.
pub fn set_object<R: Read>(
    step: &mut Step<'_, R>,
    (actor, bucket): (Actor, BucketRef),
    (key, version): (&str, Option<VersionName>),
    seen: Option<&Seen>,
    acl: CannedAcl,
) -> Result<Reply, Stop> {
    bounds::check_key(key)?;
    let bucket = authority::check_bucket(step, bucket)?;
    authority::check_actor(step, actor)?;
    let mut row = version::to_change(step, bucket.bucket, key, version, seen)?;
    row.metadata.acl = acl;
    let reply = Reply::Changed {
        version: row.version,
        name: bucket.versioning.shown(row.name()),
    };
    version::put_back(step, bucket.bucket, key, row)?;
    Ok(reply)
}
