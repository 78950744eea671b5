//! A look at a bucket's quota before a body is read. What counts is decided with the write; this only spares clients
//! from sending what cannot be stored.

use super::Call;
use super::errors::s3_error;
use crate::directory::Bucket;
use crate::get::ObjectName;
use crate::s3::error::{ErrorCode, Result};
use ullage_model::command::UploadRef;
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::Quota;

/// Refuses an object of `bytes` under `key` if it is plainly too much; of a body whose length is not known, the least
/// it can be is enough. Buckets without a quota are not asked about.
///
/// # Errors
/// QuotaExceeded.
pub(super) async fn check(call: &Call<'_>, bucket: &Bucket, key: &str, bytes: Option<u64>) -> Result<()> {
    if bucket.quota == Quota::default() {
        return Ok(());
    }
    let before = call.store.usage(bucket.bucket).await.map_err(s3_error)?;
    let mut after = before;
    after.bytes = after.bytes.saturating_add(bytes.unwrap_or(0));
    after.versions = after.versions.saturating_add(1);
    if !bucket.quota.is_exceeded(&before, &after) {
        return Ok(());
    }
    if bucket.versioning.writes_null() {
        // It may take the place of as much.
        let name = ObjectName {
            bucket: bucket.bucket,
            key: key.to_owned(),
            version: Some(VersionName::Null),
            request_id: call.request_id,
        };
        let replaced = call.store.head(bucket, &name).await.map_err(s3_error)?.found();
        if let Some(replaced) = replaced {
            after.bytes = after.bytes.saturating_sub(replaced.version.bytes);
            after.versions = after.versions.saturating_sub(1);
        }
    }
    refuse_beyond(bucket.quota.is_exceeded(&before, &after))
}

/// The same for a part of `bytes`.
///
/// # Errors
/// QuotaExceeded.
pub(super) async fn check_part(
    call: &Call<'_>,
    bucket: &Bucket,
    (upload, number): (UploadRef, u32),
    bytes: Option<u64>,
) -> Result<()> {
    if bucket.quota.bytes.is_none() {
        return Ok(());
    }
    let before = call.store.usage(bucket.bucket).await.map_err(s3_error)?;
    let mut after = before;
    after.part_bytes = after.part_bytes.saturating_add(bytes.unwrap_or(0));
    if !bucket.quota.is_exceeded(&before, &after) {
        return Ok(());
    }
    let parts = call.store.parts(upload, number.saturating_sub(1), 1).await;
    let (parts, _) = parts.map_err(s3_error)?;
    if let Some(replaced) = parts.iter().find(|part| part.number == number) {
        after.part_bytes = after.part_bytes.saturating_sub(replaced.bytes);
    }
    refuse_beyond(bucket.quota.is_exceeded(&before, &after))
}

fn refuse_beyond(exceeded: bool) -> Result<()> {
    if exceeded {
        Err(ErrorCode::QuotaExceeded.into())
    } else {
        Ok(())
    }
}
