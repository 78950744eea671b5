//! The versions of a key as they are: the live one, named ones, the newest, conditions. What changes them is in
//! [`super::successor`] and [`super::delete`].
//!
//! A key's versions and delete markers are rows, newest first. The newest is live, unless it is a delete marker. At
//! most one of them is `null`, and the last row of the key is it, or leads to it: while a bucket keeps no old versions,
//! a key has this one row, which each version writes over. So every version is found by looking at one or two rows,
//! however many there are.

use crate::command::{Conditions, EtagMatch, Seen};
use crate::ids::{BucketId, VersionId, VersionName};
use crate::namespace::keys::{self, VersionKey};
use crate::namespace::rows::{Etag, LiveRow, NullRow, VersionEntry, VersionRow};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop, decode_row};
use crate::store::{Column, Direction, KeyRange, Read, StoreError};
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// The live row of a key.
///
/// # Errors
/// When the store fails.
pub fn live(rows: &impl Read, bucket: BucketId, key: &str) -> Result<Option<LiveRow>, StoreError> {
    rows.row(Column::Live, &keys::live(bucket, key))
}

/// The only version of a key in a bucket that never kept old ones.
///
/// # Errors
/// When the store fails or the key's rows contradict each other.
pub fn only(rows: &impl Read, bucket: BucketId, key: &str) -> Result<Option<Box<VersionRow>>, StoreError> {
    match null_row(rows, bucket, key)? {
        None => Ok(None),
        Some(NullRow::Here(version)) => Ok(Some(version)),
        Some(NullRow::At(version)) => Err(StoreError::Inconsistent(format!(
            "{bucket} keeps no old versions, but has {version} among some"
        ))),
    }
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
    let found = if live.null {
        null(rows, bucket, key)?
    } else {
        entry(rows, bucket, key, live.version)?
    };
    match found {
        Some(VersionEntry::Object(version)) if version.version == live.version => Ok(*version),
        _ => Err(StoreError::Inconsistent(format!(
            "{bucket} has no version {}",
            live.version
        ))),
    }
}

/// The version or delete marker of this id, whatever clients call it.
///
/// # Errors
/// When the store fails or the key's rows contradict each other.
pub fn of_id(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    version: VersionId,
) -> Result<Option<VersionEntry>, StoreError> {
    match entry(rows, bucket, key, version)? {
        Some(entry) => Ok(Some(entry)),
        None => Ok(null(rows, bucket, key)?.filter(|null| null.version() == version)),
    }
}

/// The version or delete marker of this id among those that are newest first.
fn entry(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    version: VersionId,
) -> Result<Option<VersionEntry>, StoreError> {
    rows.row(Column::Versions, &keys::version(bucket, key, version))
}

/// The version or delete marker that clients know by this name.
///
/// # Errors
/// When the store fails or the key's rows contradict each other.
pub fn named(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    name: VersionName,
) -> Result<Option<VersionEntry>, StoreError> {
    match name {
        VersionName::Id(version) => Ok(entry(rows, bucket, key, version)?.filter(|entry| !entry.is_null())),
        VersionName::Null => null(rows, bucket, key),
    }
}

/// The version of an object that a command changes in place: the current one, or the one named.
///
/// # Errors
/// `NoSuchKey` when none is current, `NoSuchVersion` when the one named is not there, `DeleteMarker` when it is one;
/// `StaleSettings` when it is not as the gateway saw it.
pub fn to_change(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    name: Option<VersionName>,
    seen: Option<&Seen>,
) -> Result<VersionRow, Stop> {
    let found = match name {
        None => {
            let live = live(rows, bucket, key)?.ok_or(Rejection::NoSuchKey)?;
            current(rows, bucket, key, &live)?
        }
        Some(name) => match named(rows, bucket, key, name)? {
            Some(VersionEntry::Object(version)) => *version,
            Some(VersionEntry::DeleteMarker(_)) => return Err(Rejection::DeleteMarker.into()),
            None => return Err(Rejection::NoSuchVersion.into()),
        },
    };
    let is_as_seen = |seen: &Seen| seen.version == found.version && seen.tags == found.metadata.tags;
    if !seen.is_none_or(is_as_seen) {
        return Err(Rejection::StaleSettings.into());
    }
    Ok(found)
}

/// The last row of a key: its `null` version, or where that version or delete marker is.
///
/// # Errors
/// When the store fails.
pub fn null_row(rows: &impl Read, bucket: BucketId, key: &str) -> Result<Option<NullRow>, StoreError> {
    rows.row(Column::Versions, &keys::null_version(bucket, key))
}

/// The key's `null` version or delete marker.
///
/// # Errors
/// When the store fails or the key's rows contradict each other.
pub fn null(rows: &impl Read, bucket: BucketId, key: &str) -> Result<Option<VersionEntry>, StoreError> {
    match null_row(rows, bucket, key)? {
        None => Ok(None),
        Some(NullRow::Here(version)) => Ok(Some(VersionEntry::Object(version))),
        Some(NullRow::At(version)) => entry(rows, bucket, key, version)?
            .ok_or_else(|| StoreError::Inconsistent(format!("{bucket} has no null version {version}")))
            .map(Some),
    }
}

/// Writes a version that is there, and has changed, in its place.
///
/// # Errors
/// When the store fails.
pub fn put_back<R: Read>(
    step: &mut Step<'_, R>,
    bucket: BucketId,
    key: &str,
    row: VersionRow,
) -> Result<(), StoreError> {
    let is_last = row.null && matches!(null_row(step, bucket, key)?, Some(NullRow::Here(_)));
    let (id, row) = (row.version, Box::new(row));
    if is_last {
        let row_key = keys::null_version(bucket, key);
        step.put(Column::Versions, row_key, &NullRow::Here(row));
    } else {
        let row_key = keys::version(bucket, key, id);
        step.put(Column::Versions, row_key, &VersionEntry::Object(row));
    }
    Ok(())
}

/// Deletes the rows of a version or delete marker that is there.
///
/// # Errors
/// When the store fails.
pub fn remove<R: Read>(
    step: &mut Step<'_, R>,
    bucket: BucketId,
    key: &str,
    removed: &VersionEntry,
) -> Result<(), StoreError> {
    let is_last = removed.is_null() && matches!(null_row(step, bucket, key)?, Some(NullRow::Here(_)));
    if !is_last {
        step.delete(Column::Versions, keys::version(bucket, key, removed.version()));
    }
    if removed.is_null() {
        step.delete(Column::Versions, keys::null_version(bucket, key));
    }
    Ok(())
}

/// The newest version or delete marker of a key, or the newest of those older than `than`.
///
/// # Errors
/// When the store fails.
pub fn newest(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    than: Option<VersionId>,
) -> Result<Option<VersionEntry>, StoreError> {
    let start = match than {
        Some(than) => Bound::Excluded(keys::version(bucket, key, than)),
        None => Bound::Included(Bytes::from(keys::versions(bucket, key))),
    };
    let range = KeyRange {
        start,
        end: Bound::Included(keys::null_version(bucket, key)),
    };
    let mut found = None;
    scan(rows, &range, |_, entry| {
        found = Some(entry);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Visits the versions and delete markers of `range` in order until `visit` breaks. What `range` holds beside them,
/// where `null` versions are, is passed over.
///
/// # Errors
/// When the store fails, a row does not decode, or `visit` fails.
pub fn scan(
    rows: &impl Read,
    range: &KeyRange,
    mut visit: impl FnMut(VersionKey, VersionEntry) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let mut failed = None;
    rows.scan(Column::Versions, range, Direction::Forward, &mut |key, value| {
        let visited = match keys::parse_version(key) {
            Some(key) if key.version.is_none() => match decode_row(Column::Versions, value) {
                Ok(NullRow::Here(version)) => visit(key, VersionEntry::Object(version)),
                Ok(NullRow::At(_)) => Ok(ControlFlow::Continue(())),
                Err(error) => Err(error),
            },
            Some(key) => decode_row(Column::Versions, value).and_then(|entry| visit(key, entry)),
            None => Err(StoreError::Inconsistent(
                "a key of versions is malformed".to_owned(),
            )),
        };
        visited.unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map_or(Ok(()), Err)
}

/// Checks S3's preconditions against the current version. A key whose newest row is a delete marker has none.
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
