//! Buckets for operators: what they hold, exactly, and what they may hold.

use super::Call;
use super::error::{AdminError, Result};
use super::handlers::document;
use crate::audit::{AUDIT, AuditLine};
use crate::server::limits::ADMIN_PAGE_BUCKETS;
use serde::{Deserialize, Serialize};
use tracing::info;
use ullage_model::namespace::rows::{BucketRow, BucketUsageRow, Quota, Versioning};

/// A bucket: `/v1/buckets/{}`.
#[derive(Debug, Serialize)]
pub(super) struct Bucket {
    name: String,
    region: String,
    versioning: &'static str,
    /// Keys whose current version is no delete marker.
    objects: u64,
    /// Versions, old ones among them.
    versions: u64,
    delete_markers: u64,
    /// Plaintext bytes of all versions.
    bytes: u64,
    /// Open multipart uploads.
    uploads: u64,
    /// Plaintext bytes of their parts, which are not counted in `bytes`.
    part_bytes: u64,
    /// Of `bytes` and `part_bytes` together; `null`: none.
    quota_bytes: Option<u64>,
    /// Of `versions`; `null`: none.
    quota_objects: Option<u64>,
}

/// A page of `/v1/buckets`.
#[derive(Debug, Serialize)]
pub(super) struct Buckets {
    buckets: Vec<Bucket>,
    /// Give it as `after` for what follows.
    next: Option<String>,
}

/// What an operator sets: both bounds at once, `null` being none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewQuota {
    bytes: Option<u64>,
    objects: Option<u64>,
}

impl Bucket {
    fn new(row: BucketRow, usage: BucketUsageRow) -> Self {
        Self {
            name: row.name,
            region: row.region,
            versioning: match row.versioning {
                Versioning::Off => "off",
                Versioning::Enabled => "enabled",
                Versioning::Suspended => "suspended",
            },
            objects: usage.objects,
            versions: usage.versions,
            delete_markers: usage.delete_markers,
            bytes: usage.bytes,
            uploads: usage.uploads,
            part_bytes: usage.part_bytes,
            quota_bytes: row.quota.bytes,
            quota_objects: row.quota.objects,
        }
    }
}

/// All buckets, a page at a time.
pub(super) async fn list(call: &Call) -> Result<Buckets> {
    let after = call.parameter("after").map(str::to_owned);
    let (rows, more) = call
        .store
        .buckets(String::new(), after, ADMIN_PAGE_BUCKETS)
        .await?;
    let next = rows.last().map(|row| row.name.clone()).filter(|_| more);
    let usage = call.store.usage_of(rows.iter().map(|row| row.bucket).collect());
    let shown = rows.into_iter().zip(usage.await?);
    Ok(Buckets {
        buckets: shown.map(|(row, usage)| Bucket::new(row, usage)).collect(),
        next,
    })
}

/// One bucket as it is now.
pub(super) async fn show(call: &Call, name: &str) -> Result<Bucket> {
    let row = find(call, name).await?;
    let usage = call.store.usage(row.bucket).await?;
    Ok(Bucket::new(row, usage))
}

/// Sets what a bucket may hold, and shows it as it is then.
pub(super) async fn set_quota(call: &Call, name: &str) -> Result<Bucket> {
    let NewQuota { bytes, objects } = document(call)?;
    let row = find(call, name).await?;
    // What the line of the request cannot say, because it stands in the document.
    let line = AuditLine::new(|outcome| {
        info!(target: AUDIT, user = call.name, bucket = name, ?bytes, ?objects, outcome, "a bucket's quota");
    });
    let set = async { Ok(call.store.set_quota(&row, Quota { bytes, objects }).await?) };
    line.during(set, |error: &AdminError| error.code).await?;
    show(call, name).await
}

/// The bucket of this name, whatever is cached.
async fn find(call: &Call, name: &str) -> Result<BucketRow> {
    // Of all names that begin with it, it is the first.
    let (rows, _) = call.store.buckets(name.to_owned(), None, 1).await?;
    let row = rows.into_iter().find(|row| row.name == name);
    row.ok_or_else(|| AdminError::not_found(format!("there is no bucket {name:?}")))
}
