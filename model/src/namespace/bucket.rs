//! Buckets: create and delete. Whether a name is one S3 allows is the gateway's judgement.

use crate::cluster_time::WallTime;
use crate::command::{Actor, BucketRef, Reply};
use crate::fat::cluster;
use crate::ids::{BucketId, UserId};
use crate::limits::{BUCKET_NAME_BYTES_MAX, BUCKETS_PER_USER, NAME_BYTES_MAX};
use crate::namespace::rows::{BucketAccess, BucketRow, BucketUsageRow, Quota, Share, Versioning};
use crate::namespace::{authority, document, keys};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Direction, KeyRange, Read, StoreError};
use bytes::Bytes;
use std::ops::ControlFlow;

/// A bucket to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewBucket<'a> {
    /// Its name.
    pub name: &'a str,
    /// Region named.
    pub region: &'a str,
    /// Who may reach it.
    pub access: BucketAccess,
    /// When.
    pub now: WallTime,
}

/// Makes a bucket.
///
/// # Errors
/// `BucketExists`, `TooManyBuckets`, `StaleSettings`, `Invalid`.
pub fn create<R: Read>(step: &mut Step<'_, R>, actor: Actor, new: &NewBucket<'_>) -> Result<Reply, Stop> {
    let NewBucket { name, region, .. } = *new;
    if !(1..=BUCKET_NAME_BYTES_MAX).contains(&name.len()) {
        return Err(Rejection::Invalid(format!("a bucket name of {} bytes", name.len())).into());
    }
    // A region may be left unnamed.
    if region.len() > NAME_BYTES_MAX {
        return Err(Rejection::Invalid(format!("a region of {} bytes", region.len())).into());
    }
    authority::check_actor(step, actor)?;
    if let Some(existing) = by_name(step, name)? {
        return Err(Rejection::BucketExists {
            bucket: existing.bucket,
            creator: existing.creator,
        }
        .into());
    }
    let made = made_by(step, actor.user)?;
    if made >= BUCKETS_PER_USER {
        return Err(Rejection::TooManyBuckets.into());
    }
    let bucket = BucketId(cluster::mint(step, |counters| &mut counters.bucket)?);
    let row = BucketRow {
        bucket,
        name: name.to_owned(),
        creator: actor.user,
        created: new.now,
        region: region.to_owned(),
        versioning: Versioning::Off,
        access: new.access,
        quota: Quota::default(),
        settings_version: cluster::next_settings_version(step, 0)?,
    };
    step.put(Column::Buckets, keys::bucket(bucket), &row);
    let id = Bytes::copy_from_slice(&bucket.0.to_be_bytes());
    step.put_bytes(Column::Buckets, keys::bucket_by_name(name), id);
    step.put(
        Column::Buckets,
        keys::bucket_usage(bucket),
        &BucketUsageRow::default(),
    );
    count(step, actor.user, made + 1);
    Ok(Reply::Bucket(bucket))
}

/// Sets whether the bucket keeps old versions. Once it did it can only be suspended.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `Invalid`.
pub fn set_versioning<R: Read>(
    step: &mut Step<'_, R>,
    actor: Actor,
    bucket: BucketRef,
    versioning: Versioning,
) -> Result<Reply, Stop> {
    let mut row = authority::check_bucket(step, bucket)?;
    authority::check_actor(step, actor)?;
    if versioning == Versioning::Off {
        return Err(Rejection::Invalid("versioning can be suspended, not taken away".to_owned()).into());
    }
    if row.versioning != versioning {
        row.versioning = versioning;
        row.settings_version = cluster::next_settings_version(step, row.settings_version)?;
        step.put(Column::Buckets, keys::bucket(row.bucket), &row);
    }
    Ok(Reply::Done)
}

/// Sets what a bucket may hold. What it holds already stays.
///
/// # Errors
/// `NoSuchBucket`.
pub fn set_quota<R: Read>(step: &mut Step<'_, R>, bucket: BucketId, quota: Quota) -> Result<Reply, Stop> {
    let row: Option<BucketRow> = step.row(Column::Buckets, &keys::bucket(bucket))?;
    let mut row = row.ok_or(Rejection::NoSuchBucket)?;
    if row.quota != quota {
        row.quota = quota;
        row.settings_version = cluster::next_settings_version(step, row.settings_version)?;
        step.put(Column::Buckets, keys::bucket(bucket), &row);
    }
    Ok(Reply::Done)
}

/// What buckets hold and may hold, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The sum of their usages.
    pub usage: BucketUsageRow,
    /// Buckets without a quota.
    pub without_quota: u64,
    /// Buckets that are not near theirs.
    pub within_quota: u64,
    /// Buckets that hold nine tenths of a bound of theirs, or more.
    pub near_quota: u64,
    /// Buckets that hold as much as a bound of theirs, or more.
    pub full: u64,
}

/// What buckets hold and may hold, all together: of as many as `limit`, the oldest.
///
/// # Errors
/// When the store fails.
pub fn totals(rows: &impl Read, limit: usize) -> Result<Totals, StoreError> {
    let mut totals = Totals::default();
    for (_, row) in rows.rows::<BucketRow>(Column::Buckets, &KeyRange::prefix(keys::BUCKETS), limit)? {
        let usage: BucketUsageRow = rows
            .row(Column::Buckets, &keys::bucket_usage(row.bucket))?
            .unwrap_or_default();
        totals.usage = totals.usage.plus(&usage);
        let count = match row.quota.share(&usage) {
            None => &mut totals.without_quota,
            Some(Share::Below) => &mut totals.within_quota,
            Some(Share::Near) => &mut totals.near_quota,
            Some(Share::Full) => &mut totals.full,
        };
        *count += 1;
    }
    Ok(totals)
}

/// Deletes an empty bucket: one without versions, delete markers and open uploads.
///
/// # Errors
/// `BucketNotEmpty`, `NoSuchBucket`, `StaleSettings`.
pub fn delete<R: Read>(step: &mut Step<'_, R>, actor: Actor, bucket: BucketRef) -> Result<Reply, Stop> {
    let row = authority::check_bucket(step, bucket)?;
    authority::check_actor(step, actor)?;
    let versions = KeyRange::prefix(&row.bucket.0.to_be_bytes());
    let uploads = KeyRange::prefix(&keys::uploads_in_bucket(row.bucket));
    if has_rows(step, Column::Versions, &versions)? || has_rows(step, Column::Uploads, &uploads)? {
        return Err(Rejection::BucketNotEmpty.into());
    }
    let made = made_by(step, row.creator)?
        .checked_sub(1)
        .ok_or_else(|| StoreError::Inconsistent(format!("{} made fewer buckets than none", row.creator)))?;
    step.delete(Column::Buckets, keys::bucket(row.bucket));
    step.delete(Column::Buckets, keys::bucket_by_name(&row.name));
    step.delete(Column::Buckets, keys::bucket_usage(row.bucket));
    document::delete_all(step, row.bucket)?;
    count(step, row.creator, made);
    Ok(Reply::Done)
}

/// A bucket by its name.
///
/// # Errors
/// When the store fails or the name leads nowhere.
pub fn by_name(rows: &impl Read, name: &str) -> Result<Option<BucketRow>, StoreError> {
    let Some(id) = rows.get(Column::Buckets, &keys::bucket_by_name(name))? else {
        return Ok(None);
    };
    by_index(rows, &id).map(Some)
}

/// The bucket that the value of a name's row names.
pub(crate) fn by_index(rows: &impl Read, id: &[u8]) -> Result<BucketRow, StoreError> {
    let id = BucketId(number(id)?);
    rows.row(Column::Buckets, &keys::bucket(id))?
        .ok_or_else(|| StoreError::Inconsistent(format!("a name leads to {id}, which is not there")))
}

/// Buckets that a user made and that still exist.
pub(crate) fn made_by(rows: &impl Read, user: UserId) -> Result<u64, StoreError> {
    match rows.get(Column::Buckets, &keys::bucket_count(user))? {
        Some(bytes) => number(&bytes),
        None => Ok(0),
    }
}

fn count<R: Read>(step: &mut Step<'_, R>, user: UserId, made: u64) {
    let key = keys::bucket_count(user);
    if made == 0 {
        step.delete(Column::Buckets, key);
    } else {
        step.put_bytes(Column::Buckets, key, Bytes::copy_from_slice(&made.to_be_bytes()));
    }
}

fn number(bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| StoreError::Inconsistent(format!("a number of {} bytes among buckets", bytes.len())))?;
    Ok(u64::from_be_bytes(bytes))
}

fn has_rows(rows: &impl Read, column: Column, range: &KeyRange) -> Result<bool, StoreError> {
    let mut found = false;
    rows.scan(column, range, Direction::Forward, &mut |_, _| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}
