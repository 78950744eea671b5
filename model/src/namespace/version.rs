//! The versions of a key as they are: the live one, named ones, the newest, conditions. What changes them is in
//! [`super::successor`] and [`super::delete`].
//!
//! A key's versions and delete markers are rows, newest first. The newest is live, unless it is a delete marker. At
//! most one of them is `null`: the live one, as its row says, or the one that a row of its own leads to. So every
//! one of them is found by looking at one or two rows, however many there are.

use crate::command::{Conditions, EtagMatch, Seen};
use crate::ids::{BucketId, VersionId, VersionName};
use crate::namespace::keys::{self, VersionKey};
use crate::namespace::rows::{Etag, LiveRow, VersionEntry, VersionRow};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Stop, decode_row};
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
    match entry(rows, bucket, key, live.version)? {
        Some(VersionEntry::Object(version)) => Ok(*version),
        _ => Err(StoreError::Inconsistent(format!(
            "{bucket} has no version {}",
            live.version
        ))),
    }
}

/// The version or delete marker of this id, whatever clients call it.
///
/// # Errors
/// When the store fails.
pub fn entry(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    version: VersionId,
) -> Result<Option<VersionEntry>, StoreError> {
    rows.row(Column::Versions, &keys::version(bucket, key, version))
}

/// The version or delete marker that clients know by this name. `live` is the key's live row.
///
/// # Errors
/// When the store fails or the key's rows contradict each other.
pub fn named(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    name: VersionName,
    live: Option<&LiveRow>,
) -> Result<Option<VersionEntry>, StoreError> {
    match name {
        VersionName::Id(version) => Ok(entry(rows, bucket, key, version)?.filter(|entry| !entry.is_null())),
        VersionName::Null => match null(rows, bucket, key, live)? {
            Some(version) => entry(rows, bucket, key, version)?
                .ok_or_else(|| StoreError::Inconsistent(format!("{bucket} has no null version {version}")))
                .map(Some),
            None => Ok(None),
        },
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
    let live = live(rows, bucket, key)?;
    let found = match name {
        None => {
            let live = live.ok_or(Rejection::NoSuchKey)?;
            current(rows, bucket, key, &live)?
        }
        Some(name) => match named(rows, bucket, key, name, live.as_ref())? {
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

/// The id of the key's `null` version or delete marker. `live` is the key's live row.
///
/// # Errors
/// When the store fails or the row that leads to it is malformed.
pub fn null(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    live: Option<&LiveRow>,
) -> Result<Option<VersionId>, StoreError> {
    if let Some(live) = live.filter(|live| live.null) {
        return Ok(Some(live.version));
    }
    let Some(row) = rows.get(Column::Versions, &keys::null_version(bucket, key))? else {
        return Ok(None);
    };
    keys::parse_version_id(&row)
        .ok_or_else(|| StoreError::Inconsistent("a row leads to no null version".to_owned()))
        .map(Some)
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
        end: Bound::Excluded(keys::null_version(bucket, key)),
    };
    let mut found = None;
    rows.scan(Column::Versions, &range, Direction::Forward, &mut |_, value| {
        found = Some(decode_row(Column::Versions, value));
        ControlFlow::Break(())
    })?;
    found.transpose()
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
            Some(VersionKey { version: None, .. }) => Ok(ControlFlow::Continue(())),
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
