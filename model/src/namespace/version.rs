//! The current version of a key: conditions on it, its rows, and the bucket's exact usage.

use crate::command::{Conditions, EtagMatch};
use crate::ids::BucketId;
use crate::namespace::rows::{BucketUsageRow, Etag, LiveRow, VersionRow};
use crate::namespace::{keys, release};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step};
use crate::store::{Column, Read, StoreError};

/// The live row of a key.
///
/// # Errors
/// When the store fails.
pub fn live(rows: &impl Read, bucket: BucketId, key: &str) -> Result<Option<LiveRow>, StoreError> {
    rows.row(Column::Live, &keys::live(bucket, key))
}

/// The version that a live row stands for.
///
/// # Errors
/// When the store fails or the version is not there.
pub fn current(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    live: &LiveRow,
) -> Result<VersionRow, StoreError> {
    rows.row(Column::Versions, &keys::version(bucket, key, live.version))?
        .ok_or_else(|| StoreError::Inconsistent(format!("{bucket} has no version {}", live.version)))
}

/// Checks S3's preconditions against the current version.
///
/// # Errors
/// `NoSuchKey` where a match is asked of a key that is not there, else `PreconditionFailed`.
pub fn check_conditions(live: Option<&LiveRow>, conditions: &Conditions) -> Result<(), Rejection> {
    if let Some(wanted) = &conditions.if_match {
        let live = live.ok_or(Rejection::NoSuchKey)?;
        if !matches(wanted, live.etag) {
            return Err(Rejection::PreconditionFailed);
        }
    }
    match (&conditions.if_none_match, live) {
        (Some(unwanted), Some(live)) if matches(unwanted, live.etag) => Err(Rejection::PreconditionFailed),
        _ => Ok(()),
    }
}

fn matches(wanted: &EtagMatch, etag: Etag) -> bool {
    match wanted {
        EtagMatch::Any => true,
        EtagMatch::OneOf(etags) => {
            let etag = etag.to_string();
            etags.contains(&etag)
        }
    }
}

/// Makes `version` the key's current one in place of `replaced`, whose content the caller has let go by
/// [`remove`], and counts both.
///
/// # Errors
/// When the store fails or the usage does not add up.
pub fn write<R: Read>(
    step: &mut Step<'_, R>,
    bucket: BucketId,
    key: &str,
    replaced: Option<&LiveRow>,
    version: &VersionRow,
) -> Result<(), StoreError> {
    let row = LiveRow {
        version: version.version,
        bytes: version.bytes,
        etag: version.etag,
        modified: version.modified,
        class: version.class.clone(),
        checksum: version
            .checksum
            .as_ref()
            .map(|checksum| (checksum.algorithm, checksum.kind)),
        creator: version.creator,
    };
    step.put(Column::Live, keys::live(bucket, key), &row);
    step.put(
        Column::Versions,
        keys::version(bucket, key, version.version),
        version,
    );
    change_usage(step, bucket, |usage| {
        match replaced {
            Some(replaced) => usage.bytes = usage.bytes.checked_sub(replaced.bytes)?,
            None => usage.objects = usage.objects.checked_add(1)?,
        }
        usage.bytes = usage.bytes.checked_add(version.bytes)?;
        Some(())
    })
}

/// Deletes the version that `live` stands for and lets its content go. The live row and the usage are the
/// caller's.
///
/// # Errors
/// When the store fails or rows contradict each other.
pub fn remove<R: Read>(
    step: &mut Step<'_, R>,
    bucket: BucketId,
    key: &str,
    live: &LiveRow,
) -> Result<(), StoreError> {
    let version = current(step, bucket, key, live)?;
    step.delete(Column::Versions, keys::version(bucket, key, live.version));
    release::content(step, &version.content)
}

/// Changes the bucket's usage.
///
/// # Errors
/// When the store fails, or `change` answers `None`: the sums are wrong.
pub fn change_usage<R: Read>(
    step: &mut Step<'_, R>,
    bucket: BucketId,
    change: impl FnOnce(&mut BucketUsageRow) -> Option<()>,
) -> Result<(), StoreError> {
    let key = keys::bucket_usage(bucket);
    let mut usage: BucketUsageRow = step.row(Column::Buckets, &key)?.unwrap_or_default();
    change(&mut usage)
        .ok_or_else(|| StoreError::Inconsistent(format!("the usage of {bucket} does not add up")))?;
    step.put(Column::Buckets, key, &usage);
    Ok(())
}
