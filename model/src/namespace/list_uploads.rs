//! Listing open uploads: as objects are listed ([`super::list`]), but several may have one key.

use crate::ids::UploadId;
use crate::limits::LIST_PAGE_KEYS_MAX;
use crate::namespace::keys;
use crate::namespace::list::{behind, common_prefix};
use crate::namespace::rows::UploadRow;
use crate::step::ReadRows;
use crate::store::{Column, Direction, KeyRange, Read, StoreError};
use crate::wire::metad::{UploadsReply, UploadsRequest};
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// Lists the open uploads of a bucket in the order of their keys, those of one key in the order in which they were
/// begun. At most `limit` entries and one row beyond are looked at, two reads for each.
///
/// # Errors
/// When the store fails or an index row leads nowhere.
pub fn list(rows: &impl Read, request: &UploadsRequest) -> Result<UploadsReply, StoreError> {
    let limit = request.limit.min(LIST_PAGE_KEYS_MAX);
    let mut reply = UploadsReply::default();
    if limit == 0 {
        return Ok(reply);
    }
    let whole = KeyRange::prefix(&keys::uploads_with_prefix(request.bucket, &request.prefix));
    let mut last = None;
    let mut next = start(request);
    while let Some(bound) = next.take() {
        let Some(row) = first(rows, whole.clone().from(bound))? else {
            break;
        };
        if reply.uploads.len() + reply.common_prefixes.len() == limit {
            reply.next = last;
            break;
        }
        match common_prefix(&request.prefix, &request.delimiter, &row.key) {
            Some(common) => {
                let common = common.to_owned();
                next = behind(&keys::uploads_with_prefix(request.bucket, &common));
                last = Some((common.clone(), None));
                reply.common_prefixes.push(common);
            }
            None => {
                let index = keys::upload_in_bucket(request.bucket, &row.key, row.upload);
                next = Some(Bound::Excluded(index));
                last = Some((row.key.clone(), Some(row.upload)));
                reply.uploads.push(row);
            }
        }
    }
    Ok(reply)
}

/// Where to begin; `None` if nothing can come after.
fn start(request: &UploadsRequest) -> Option<Bound<Bytes>> {
    let bucket = request.bucket;
    let first = keys::uploads_with_prefix(bucket, &request.prefix);
    let Some((key, upload)) = &request.after else {
        return Some(Bound::Included(first));
    };
    if let Some(common) = common_prefix(&request.prefix, &request.delimiter, key) {
        return behind(&keys::uploads_with_prefix(bucket, common));
    }
    if key.as_str() < request.prefix.as_str() {
        return Some(Bound::Included(first));
    }
    let upload = upload.unwrap_or(UploadId(u64::MAX));
    Some(Bound::Excluded(keys::upload_in_bucket(bucket, key, upload)))
}

/// The upload of the first index row in `range`.
fn first(rows: &impl Read, range: KeyRange) -> Result<Option<UploadRow>, StoreError> {
    let mut found = None;
    rows.scan(Column::Uploads, &range, Direction::Forward, &mut |key, _| {
        found = Some(crate::fat::keys::tail::<8>(key));
        ControlFlow::Break(())
    })?;
    let lost = || StoreError::Inconsistent("an index row of uploads leads nowhere".to_owned());
    let Some(id) = found else { return Ok(None) };
    let upload = UploadId(u64::from_be_bytes(id.ok_or_else(lost)?));
    let row: Option<UploadRow> = rows.row(Column::Uploads, &keys::upload(upload))?;
    row.ok_or_else(lost).map(Some)
}
