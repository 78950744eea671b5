//! Copies by reference: a read of one key and a write of another, at one instant.

use super::{Client, PATIENCE, ROOT, conditions, etag_of, known, put_ended};
use crate::linearizability::{Action, Condition};
use rand::Rng;
use ullage_gateway::directory::bucket_ref;
use ullage_gateway::error::Error;
use ullage_gateway::get::{Lookup, ObjectName};
use ullage_gateway::store::CopyRequest;
use ullage_model::command::CopySource;
use ullage_model::namespace::rows::BucketRow;
use ullage_model::rejection::Rejection;

impl Client {
    /// Copies what is under `from` to `to`, in a third of all cases only if nothing is there.
    ///
    /// # Panics
    /// When the answer names other bytes than those of the version that was copied.
    pub(super) async fn copy(&mut self, bucket: &BucketRow, from: &str, to: &str) {
        if from == to {
            return;
        }
        let name = ObjectName {
            bucket: bucket.bucket,
            key: from.to_owned(),
            version: None,
            request_id: self.history.instant(),
        };
        let looked_up = tokio::time::timeout(PATIENCE, self.store.head(bucket, &name)).await;
        let Ok(Ok(Lookup::Found(source))) = looked_up else {
            return;
        };
        let value = known(from, &source.version.etag);
        let condition = match self.random.random_range(0..3) {
            0 => Condition::IfAbsent,
            _ => Condition::Always,
        };
        let write = |done| Action::Write {
            value,
            condition,
            done,
        };
        let begun = self.history.begin(self.number, to, write(None));
        let called = self.history.instant();
        let copy = self.store.copy(CopyRequest {
            actor: ROOT,
            source: bucket_ref(bucket),
            source_key: from.to_owned(),
            version: CopySource::Current(source.version.version),
            target: bucket_ref(bucket),
            key: to.to_owned(),
            conditions: conditions(condition),
            metadata: source.version.metadata,
            checksum: None,
        });
        let Ok(copied) = tokio::time::timeout(PATIENCE, copy).await else {
            return;
        };
        if copied == Err(Error::Rejected(Rejection::SourceChanged)) {
            return self.history.never(&begun);
        }
        if let Ok(copied) = &copied {
            assert_eq!(
                copied.etag,
                etag_of(value),
                "{from} was copied to {to} as something else"
            );
            self.history.read(self.number, from, called, Some(value));
        }
        let copied = copied.map(drop);
        self.answer(&begun, put_ended(&copied).map(|done| write(Some(done))), &copied);
    }
}
