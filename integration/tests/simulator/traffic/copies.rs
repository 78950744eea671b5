//! Copies by reference: of an object as a whole, a read of one key and a write of another at one instant; and into a
//! part of an upload, a read at one instant and a write at a later one.

use super::{Client, PATIENCE, ROOT, conditions, etag_of, known, md5_of, put_ended};
use crate::linearizability::{Action, Condition, Value};
use rand::Rng;
use ullage_gateway::directory::bucket_ref;
use ullage_gateway::error::Error;
use ullage_gateway::get::{Lookup, ObjectName};
use ullage_gateway::store::{CopyPartRequest, CopyRequest};
use ullage_model::command::CopySource;
use ullage_model::namespace::rows::{BucketRow, Etag, VersionRow};
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
        let way = Way {
            bucket,
            from,
            to,
            value,
            condition,
        };
        let in_parts = self.random.random_bool(0.3);
        let copying = async {
            match in_parts {
                true => self.copy_in_parts(&way, &source.version, called).await,
                false => self.copy_whole(&way, source.version, called).await,
            }
        };
        let Ok(copied) = tokio::time::timeout(PATIENCE, copying).await else {
            return;
        };
        if copied == Err(Error::Rejected(Rejection::SourceChanged)) {
            return self.history.never(&begun);
        }
        self.answer(&begun, put_ended(&copied).map(|done| write(Some(done))), &copied);
    }

    async fn copy_whole(&self, way: &Way<'_>, source: VersionRow, called: u64) -> Result<(), Error> {
        let copy = self.store.copy(CopyRequest {
            actor: ROOT,
            source: bucket_ref(way.bucket),
            source_key: way.from.to_owned(),
            version: CopySource::Current(source.version),
            target: bucket_ref(way.bucket),
            key: way.to.to_owned(),
            conditions: conditions(way.condition),
            metadata: source.metadata,
            checksum: None,
        });
        let copied = copy.await?;
        assert_eq!(
            copied.etag,
            etag_of(way.value),
            "{} became something else",
            way.from
        );
        self.history.read(self.number, way.from, called, Some(way.value));
        Ok(())
    }

    async fn copy_in_parts(&self, way: &Way<'_>, source: &VersionRow, called: u64) -> Result<(), Error> {
        let upload = self.create_upload(way.bucket, way.to).await?;
        let copy = self.store.copy_part(CopyPartRequest {
            actor: ROOT,
            source: bucket_ref(way.bucket),
            source_key: way.from.to_owned(),
            version: CopySource::Current(source.version),
            first: 0,
            bytes: source.bytes,
            target: bucket_ref(way.bucket),
            key: way.to.to_owned(),
            upload,
            number: 1,
            etag: Etag::Md5(md5_of(way.value)),
            checksum: None,
        });
        copy.await?;
        self.history.read(self.number, way.from, called, Some(way.value));
        self.complete(way.bucket, way.to, upload, 1, way.value, way.condition)
            .await
    }
}

/// What is copied where.
struct Way<'a> {
    bucket: &'a BucketRow,
    from: &'a str,
    to: &'a str,
    value: Value,
    condition: Condition,
}
