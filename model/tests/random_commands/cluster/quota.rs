//! What the bucket may hold: whatever is written, it never holds more, but for what was there when the quota was set.

use super::Cluster;
use ullage_model::command::{Reply, SessionCommand};
use ullage_model::namespace::keys;
use ullage_model::namespace::rows::{BucketUsageRow, Quota};
use ullage_model::step::ReadRows;
use ullage_model::store::Column;

/// What the bucket may hold by now at most: its quota, or what was beyond it and has not gone yet.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    quota: Quota,
    bytes: u64,
    versions: u64,
}

impl Cluster {
    pub(super) fn set_quota(&mut self, at: usize, quota: Quota) {
        let bucket = self.bucket.bucket;
        if self.submit(at, SessionCommand::SetBucketQuota { bucket, quota }) != Reply::Done {
            return;
        }
        self.bucket = self.bucket_ref(bucket);
        let held = self.usage();
        self.bounds = Bounds {
            quota,
            bytes: held.held_bytes(),
            versions: held.versions,
        };
    }

    /// What is beyond the quota only becomes less.
    pub(super) fn keep_within_quota(&mut self) {
        let (held, bounds) = (self.usage(), &mut self.bounds);
        let keep = |quota: Option<u64>, held: u64, beyond: &mut u64| {
            if let Some(quota) = quota {
                assert!(held <= quota.max(*beyond), "{held} of {quota}, or {beyond}");
                *beyond = held;
            }
        };
        keep(bounds.quota.bytes, held.held_bytes(), &mut bounds.bytes);
        keep(bounds.quota.objects, held.versions, &mut bounds.versions);
    }

    fn usage(&self) -> BucketUsageRow {
        let key = keys::bucket_usage(self.bucket.bucket);
        self.world
            .rows
            .row(Column::Buckets, &key)
            .unwrap()
            .unwrap_or_default()
    }
}
