//! Answers to gateways' questions, each from one consistent state. Where an object's bytes are is
//! [`super::locate`]'s, listing [`super::list`]'s, and the FAT answers for itself.

use crate::fat;
use crate::ids::{BucketId, UserId, VersionId, VersionName};
use crate::limits::{LIST_PAGE_KEYS_MAX, LIST_SCAN_ROWS_MAX};
use crate::namespace::keys::{self, VersionKey};
use crate::namespace::rows::{
    AccessKeyRow, BucketRow, BucketUsageRow, PartRow, UploadRow, UploadState, UserRow, VersionEntry,
    VersionRow, Versioning,
};
use crate::namespace::{
    bucket, document, list, list_uploads, list_versions, locate, parts, upload, user, version,
};
use crate::step::ReadRows;
use crate::store::{Column, Direction, KeyRange, Read, StoreError, after_prefix};
use crate::wire::metad::{
    Answer, BucketSettings, ByteRange, Found, ObjectAnswer, PageSize, Query, UploadedPart, UserObjectsAfter,
};
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// Answers `query`.
///
/// # Errors
/// When the store fails or its rows contradict each other.
pub fn answer(rows: &impl Read, query: &Query) -> Result<Answer, StoreError> {
    Ok(match query {
        Query::AccessKey(access_key) => Answer::AccessKey(access_key_row(rows, access_key)?),
        Query::Bucket(name) => Answer::Bucket(bucket_settings(rows, name)?),
        Query::BucketDocument { bucket, kind } => {
            Answer::BucketDocument(document::get(rows, *bucket, *kind)?)
        }
        Query::Buckets { prefix, after, limit } => {
            let (found, more) = buckets(rows, prefix, after.as_deref(), *limit)?;
            Answer::Buckets(found, more)
        }
        Query::Object {
            bucket,
            key,
            version,
            range,
        } => Answer::Object(object(rows, *bucket, key, *version, *range)?),
        Query::Locate {
            source,
            offset,
            bytes,
        } => Answer::Located(locate::source(rows, source, *offset, *bytes)?),
        Query::List(request) => Answer::List(list::list(rows, request)?),
        Query::Upload { bucket, key, upload } => Answer::Upload(upload::named(rows, *bucket, key, *upload)?),
        Query::Parts { upload, after, limit } => {
            let upload_row: Option<UploadRow> = rows.row(Column::Uploads, &keys::upload(upload.upload))?;
            let (found, more) = match upload_row {
                Some(row) if row.random == upload.random => upload_parts(rows, &row, *after, *limit)?,
                _ => (Vec::new(), false),
            };
            Answer::Parts(found, more)
        }
        Query::Uploads(request) => Answer::Uploads(list_uploads::list(rows, request)?),
        Query::Versions(request) => Answer::Versions(list_versions::list(rows, request)?),
        Query::ObjectParts {
            manifest,
            after,
            limit,
        } => {
            let (found, count) = parts::page(rows, *manifest, *after, *limit)?;
            Answer::ObjectParts(found, count)
        }
        Query::UsersNamed(names) => Answer::UsersNamed(users_named(rows, names)?),
        Query::Users => Answer::Users(users(rows)?),
        Query::AccessKeys => Answer::AccessKeys(access_keys(rows)?),
        Query::Leases => Answer::Leases(fat::query::leases(rows)?),
        Query::Vendors => Answer::Vendors(fat::query::vendors(rows)?),
        Query::Classes => Answer::Classes(fat::query::classes(rows)?),
        Query::Usage(buckets) => Answer::Usage(usage(rows, buckets)?),
        Query::UserObjects { user, after, limit } => user_objects(rows, *user, after.as_ref(), *limit)?,
        Query::Copies { vendor, after, limit } => {
            let (found, more) = fat::query::copies(rows, *vendor, *after, *limit)?;
            Answer::Copies(found, more)
        }
    })
}

fn bucket_settings(rows: &impl Read, name: &str) -> Result<Option<BucketSettings>, StoreError> {
    let Some(row) = bucket::by_name(rows, name)? else {
        return Ok(None);
    };
    let documents = document::judged_by(rows, row.bucket)?;
    Ok(Some(BucketSettings { row, documents }))
}

fn access_key_row(rows: &impl Read, access_key: &str) -> Result<Option<(AccessKeyRow, UserRow)>, StoreError> {
    let Some(row) = rows.row::<AccessKeyRow>(Column::Users, &keys::access_key(access_key))? else {
        return Ok(None);
    };
    let user = user::by_id(rows, row.user)?;
    Ok(Some((row, user)))
}

/// The current version of a key or the one named, with the first page of where its bytes are.
///
/// # Errors
/// When the store fails or bytes of a version are nowhere.
pub fn object(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    name: Option<VersionName>,
    range: Option<(ByteRange, PageSize)>,
) -> Result<Found, StoreError> {
    let entry = match name {
        Some(name) => version::named(rows, bucket, key, name)?,
        None => newest(rows, bucket, key)?,
    };
    let version = match entry {
        None => return Ok(Found::Nothing),
        Some(VersionEntry::DeleteMarker(marker)) => return Ok(Found::DeleteMarker(marker)),
        Some(VersionEntry::Object(version)) => *version,
    };
    let (spans, part) = match range {
        Some((range, page)) => locate::version(rows, &version, range, page)?,
        None => (Vec::new(), None),
    };
    let version = version.without_bytes();
    Ok(Found::Object(Box::new(ObjectAnswer { version, spans, part })))
}

/// The newest version or delete marker of a key.
fn newest(rows: &impl Read, bucket: BucketId, key: &str) -> Result<Option<VersionEntry>, StoreError> {
    let row: Option<BucketRow> = rows.row(Column::Buckets, &keys::bucket(bucket))?;
    if row.map(|row| row.versioning).unwrap_or_default() == Versioning::Off {
        return Ok(version::only(rows, bucket, key)?.map(VersionEntry::Object));
    }
    match version::live(rows, bucket, key)? {
        Some(live) => {
            let current = version::current(rows, bucket, key, &live)?;
            Ok(Some(VersionEntry::Object(Box::new(current))))
        }
        None => version::newest(rows, bucket, key, None),
    }
}

/// Buckets by name from behind `after`, at most `limit` (and `limits::LIST_SCAN_ROWS_MAX`), and whether
/// there are more.
fn buckets(
    rows: &impl Read,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<BucketRow>, bool), StoreError> {
    let limit = limit.min(LIST_SCAN_ROWS_MAX);
    let mut range = KeyRange::prefix(&keys::bucket_by_name(prefix));
    if let Some(after) = after.filter(|after| *after >= prefix) {
        range = range.from(Bound::Excluded(keys::bucket_by_name(after)));
    }
    let mut ids = Vec::new();
    rows.scan(Column::Buckets, &range, Direction::Forward, &mut |_, id| {
        ids.push(Bytes::copy_from_slice(id));
        if ids.len() > limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    let more = limit > 0 && ids.len() > limit;
    ids.truncate(limit);
    let found = ids.iter().map(|id| bucket::by_index(rows, id));
    Ok((found.collect::<Result<_, _>>()?, more))
}

/// Parts of an upload that is not completed, behind number `after`, at most `limit` (and
/// `limits::LIST_SCAN_ROWS_MAX`), and whether there are more.
fn upload_parts(
    rows: &impl Read,
    upload: &UploadRow,
    after: u32,
    limit: usize,
) -> Result<(Vec<UploadedPart>, bool), StoreError> {
    let limit = limit.min(LIST_SCAN_ROWS_MAX);
    if limit == 0 || matches!(upload.state, UploadState::Completed { .. }) {
        return Ok((Vec::new(), false));
    }
    let range =
        KeyRange::prefix(&keys::parts(upload.upload)).from(Bound::Excluded(keys::part(upload.upload, after)));
    let mut found: Vec<(Bytes, PartRow)> = rows.rows(Column::Uploads, &range, limit + 1)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let numbered = found.into_iter().map(|(key, row)| {
        let number = fat::keys::tail::<4>(&key)
            .ok_or_else(|| StoreError::Inconsistent("a key of parts is too short".to_owned()))?;
        Ok(UploadedPart {
            number: u32::from_be_bytes(number),
            bytes: row.bytes(),
            etag: row.etag,
            modified: row.modified,
            checksum: row.checksum,
        })
    });
    Ok((numbered.collect::<Result<_, StoreError>>()?, more))
}

fn usage(rows: &impl Read, buckets: &[BucketId]) -> Result<Vec<BucketUsageRow>, StoreError> {
    let of = |bucket: &BucketId| {
        let row = rows.row(Column::Buckets, &keys::bucket_usage(*bucket))?;
        Ok(row.unwrap_or_default())
    };
    buckets.iter().take(LIST_PAGE_KEYS_MAX).map(of).collect()
}

fn users_named(rows: &impl Read, names: &[String]) -> Result<Vec<bool>, StoreError> {
    let is_known = |name: &String| Ok(rows.get(Column::Users, &keys::user_by_name(name))?.is_some());
    names.iter().take(LIST_PAGE_KEYS_MAX).map(is_known).collect()
}

fn users(rows: &impl Read) -> Result<Vec<UserRow>, StoreError> {
    let found = rows.rows(Column::Users, &KeyRange::prefix(b"i"), usize::MAX)?;
    Ok(found.into_iter().map(|(_, row)| row).collect())
}

fn access_keys(rows: &impl Read) -> Result<Vec<(String, UserId)>, StoreError> {
    let found: Vec<(Bytes, AccessKeyRow)> = rows.rows(Column::Users, &KeyRange::prefix(b"k"), usize::MAX)?;
    let named = found
        .into_iter()
        .map(|(key, row)| Ok((text(&key, 1)?.to_owned(), row.user)));
    named.collect()
}

/// Versions that `user` stored, old ones among them, bucket by bucket in the order of names. Looks at no more than
/// `limit` (and `limits::LIST_SCAN_ROWS_MAX`) versions and delete markers, and each bucket counts as one.
fn user_objects(
    rows: &impl Read,
    user: UserId,
    after: Option<&UserObjectsAfter>,
    limit: usize,
) -> Result<Answer, StoreError> {
    let mut left = limit.clamp(1, LIST_SCAN_ROWS_MAX);
    let mut found = Vec::new();
    let mut name = after.map_or_else(String::new, |(bucket, _)| bucket.clone());
    let mut within = after.and_then(|(_, within)| within.clone());
    let mut resumed = after.map(|(bucket, _)| bucket.clone());
    loop {
        let Some(bucket) = bucket_from(rows, &name)? else {
            return Ok(Answer::UserObjects(found, None));
        };
        if resumed.take().is_some_and(|resumed| resumed != bucket.name) {
            within = None;
        }
        if let Some(last) = objects_of(rows, user, &bucket, within.take(), &mut left, &mut found)? {
            return Ok(Answer::UserObjects(found, Some((bucket.name, last))));
        }
        // The next name in byte order: this one with a NUL behind it.
        name = bucket.name + "\0";
        left = left.saturating_sub(1);
        if left == 0 {
            return Ok(Answer::UserObjects(found, Some((name, None))));
        }
    }
}

/// The first bucket whose name is not below `name`.
fn bucket_from(rows: &impl Read, name: &str) -> Result<Option<BucketRow>, StoreError> {
    let range = KeyRange {
        start: Bound::Included(keys::bucket_by_name(name)),
        end: after_prefix(b"n").map_or(Bound::Unbounded, Bound::Excluded),
    };
    let mut id = None;
    rows.scan(Column::Buckets, &range, Direction::Forward, &mut |_, value| {
        id = Some(Bytes::copy_from_slice(value));
        ControlFlow::Break(())
    })?;
    id.map(|id| bucket::by_index(rows, &id)).transpose()
}

/// Adds the versions that `user` stored in `bucket` while `left` rows may be looked at. If there may be more, answers
/// the one looked at last; none if it was none.
fn objects_of(
    rows: &impl Read,
    user: UserId,
    bucket: &BucketRow,
    after: Option<(String, VersionId)>,
    left: &mut usize,
    found: &mut Vec<(String, String, VersionRow)>,
) -> Result<Option<Option<(String, VersionId)>>, StoreError> {
    let mut range = KeyRange::prefix(&bucket.bucket.0.to_be_bytes());
    if let Some((key, version)) = &after {
        range = range.from(Bound::Excluded(keys::version(bucket.bucket, key, *version)));
    }
    let mut last = after;
    let mut more = false;
    version::scan(rows, &range, |VersionKey { key, .. }, entry| {
        // A `null` version that stands behind all others is not behind its id.
        let is_after = |(last_key, last): &(String, _)| *last_key == key && *last == entry.version();
        if last.as_ref().is_some_and(is_after) {
            return Ok(ControlFlow::Continue(()));
        }
        if *left == 0 {
            more = true;
            return Ok(ControlFlow::Break(()));
        }
        *left -= 1;
        last = Some((key.clone(), entry.version()));
        if let VersionEntry::Object(version) = entry
            && version.creator == user
        {
            found.push((bucket.name.clone(), key, version.without_bytes()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(more.then_some(last))
}

/// The text in a row's key from byte `at` on.
fn text(key: &[u8], at: usize) -> Result<&str, StoreError> {
    key.get(at..)
        .and_then(|text| std::str::from_utf8(text).ok())
        .ok_or_else(|| StoreError::Inconsistent("a key is not UTF-8".to_owned()))
}
