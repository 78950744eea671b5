//! The exact usage of a bucket, counted in the same command as what it counts.

use crate::ids::BucketId;
use crate::namespace::keys;
use crate::namespace::rows::{BucketUsageRow, Quota};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step};
use crate::store::{Column, Read, StoreError};

/// Changes the bucket's usage. Answers it as it was before and as it is then.
///
/// # Errors
/// When the store fails, or `change` answers `None`: the sums are wrong.
pub fn change<R: Read>(
    step: &mut Step<'_, R>,
    bucket: BucketId,
    change: impl FnOnce(&mut BucketUsageRow) -> Option<()>,
) -> Result<(BucketUsageRow, BucketUsageRow), StoreError> {
    let key = keys::bucket_usage(bucket);
    let before: BucketUsageRow = step.row(Column::Buckets, &key)?.unwrap_or_default();
    let mut usage = before;
    change(&mut usage)
        .ok_or_else(|| StoreError::Inconsistent(format!("the usage of {bucket} does not add up")))?;
    step.put(Column::Buckets, key, &usage);
    Ok((before, usage))
}

/// Whether a change keeps within a bucket's quota.
///
/// # Errors
/// `QuotaExceeded`.
pub fn check_quota(quota: Quota, before: &BucketUsageRow, after: &BucketUsageRow) -> Result<(), Rejection> {
    if quota.is_exceeded(before, after) {
        Err(Rejection::QuotaExceeded)
    } else {
        Ok(())
    }
}
