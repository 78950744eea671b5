//! What a bucket that keeps old versions must hold when all is over: one version of every write, and a delete marker of
//! every delete.

use super::{Client, PATIENCE, known};
use crate::linearizability::{Action, Value};
use std::collections::BTreeMap;
use ullage_gateway::error::Error;
use ullage_model::ids::VersionName;
use ullage_model::limits::LIST_PAGE_KEYS_MAX;
use ullage_model::namespace::rows::BucketRow;
use ullage_model::wire::metad::{ListedVersion, VersionsRequest};

/// The bytes of one in so many versions are read.
const READ_ONE_IN: u64 = 4;

/// What is listed of one key.
#[derive(Debug, Default)]
struct Kept {
    /// How often each value is there, and the name of its last version.
    values: BTreeMap<Value, (usize, Option<VersionName>)>,
    delete_markers: usize,
}

/// How often something was done: surely, and at most.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    surely: usize,
    at_most: usize,
}

impl Times {
    fn count(&mut self, done: Option<bool>, in_time: bool) {
        self.surely += usize::from(done == Some(true) && in_time);
        self.at_most += usize::from(done != Some(false));
    }

    fn allows(self, found: usize) -> bool {
        (self.surely..=self.at_most).contains(&found)
    }
}

impl Client {
    /// Looks whether every write is there once, old ones too; answers whether it could be seen.
    ///
    /// # Panics
    /// When a version is missing, is there twice, or has other bytes.
    pub async fn check_versions(&self, bucket: &BucketRow) -> bool {
        let called = self.history.instant();
        let Ok(Ok(kept)) = tokio::time::timeout(PATIENCE, self.list_versions(bucket)).await else {
            return false;
        };
        for key in self.history.keys() {
            let nothing = Kept::default();
            let kept = kept.get(&key).unwrap_or(&nothing);
            self.compare(&key, kept, called);
            for (value, (_, name)) in &kept.values {
                if value.is_multiple_of(READ_ONE_IN) && !self.get(bucket, &key, *name).await {
                    return false;
                }
            }
        }
        true
    }

    /// Last operations may be under way still when the listing is `called`.
    fn compare(&self, key: &str, kept: &Kept, called: u64) {
        let mut writes: BTreeMap<Value, Times> = BTreeMap::new();
        let mut deletes = Times::default();
        for operation in self.history.operations(key) {
            let in_time = operation.answered < called;
            match operation.action {
                Action::Write { value, done, .. } => writes.entry(value).or_default().count(done, in_time),
                // Every answered delete leaves a marker, whether there was something or not.
                Action::Delete { existed } => deletes.count(existed.map(|_| true), in_time),
                Action::Read(_) | Action::Nothing => {}
            }
        }
        for (value, times) in &writes {
            let found = kept.values.get(value).map_or(0, |(found, _)| *found);
            assert!(
                times.allows(found),
                "{key}: {found} versions of value {value}, written {times:?}"
            );
        }
        let markers = kept.delete_markers;
        assert!(
            deletes.allows(markers),
            "{key}: {markers} delete markers, deleted {deletes:?}"
        );
    }

    async fn list_versions(&self, bucket: &BucketRow) -> Result<BTreeMap<String, Kept>, Error> {
        let mut keys: BTreeMap<String, Kept> = BTreeMap::new();
        let mut after = None;
        loop {
            let request = VersionsRequest {
                bucket: bucket.bucket,
                prefix: String::new(),
                delimiter: String::new(),
                after,
                limit: LIST_PAGE_KEYS_MAX,
            };
            let page = self.store.versions(bucket, request).await?;
            for (key, _, version) in page.versions {
                let kept = keys.entry(key.clone()).or_default();
                match version {
                    ListedVersion::Object(row) => {
                        let found = kept.values.entry(known(&key, &row.etag)).or_default();
                        *found = (found.0 + 1, Some(row.name()));
                    }
                    ListedVersion::DeleteMarker(_) => kept.delete_markers += 1,
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }
}
