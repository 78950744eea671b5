//! Objects that come in parts: uploads that are completed, parts sent again, and uploads that are given up.

use super::{BUCKET, CLASS, Client, PATIENCE, ROOT, conditions, etag_of, failed, md5_of};
use crate::linearizability::{Condition, Value};
use rand::Rng;
use std::convert::Infallible;
use ullage_gateway::directory::bucket_ref;
use ullage_gateway::error::Error;
use ullage_gateway::put::finalize::PartFinish;
use ullage_gateway::store::{CompleteRequest, NewUpload};
use ullage_model::command::{ListedPart, UploadRef};
use ullage_model::namespace::rows::{BucketRow, Etag, Metadata};

/// Whether a value is stored in parts: every fifth.
pub(super) fn comes_in_parts(value: Value) -> bool {
    value.is_multiple_of(5)
}

impl Client {
    /// Stores `value` by an upload of one part (the last one may be short), which comes twice now and then.
    pub(super) async fn put_in_parts(
        &self,
        bucket: &BucketRow,
        key: &str,
        value: Value,
        condition: Condition,
    ) -> Result<(), Error> {
        let upload = self.create_upload(bucket, key).await?;
        let number = u32::try_from(value % 7).unwrap_or(0) + 1;
        if value.is_multiple_of(3) {
            let replaced = self.history.fresh_value();
            self.put_part(bucket, key, upload, number, replaced).await?;
        }
        self.put_part(bucket, key, upload, number, value).await?;
        self.complete(bucket, key, upload, number, value, condition).await
    }

    /// Completes an upload whose only part is `value`.
    pub(super) async fn complete(
        &self,
        bucket: &BucketRow,
        key: &str,
        upload: UploadRef,
        number: u32,
        value: Value,
        condition: Condition,
    ) -> Result<(), Error> {
        let request = CompleteRequest {
            actor: ROOT,
            bucket: bucket_ref(bucket),
            key: key.to_owned(),
            upload,
            parts: vec![ListedPart {
                number,
                etag: Etag::Md5(md5_of(value)),
                checksum: None,
            }],
            conditions: conditions(condition),
            expected_bytes: None,
        };
        let combine = |_: &[_]| Ok::<_, Infallible>((etag_of(value), None));
        let completed = self.store.complete_upload(&request, combine).await;
        completed.map(drop).map_err(failed)
    }

    /// Begins an upload, sends a part, and aborts it, or forgets it. Nobody ever reads any of it.
    pub(super) async fn begin_and_give_up(&mut self, bucket: &BucketRow, key: &str) {
        let aborts = self.random.random_bool(0.7);
        let giving_up = async {
            let upload = self.create_upload(bucket, key).await?;
            let value = self.history.fresh_value();
            self.put_part(bucket, key, upload, 1, value).await?;
            match aborts {
                true => {
                    let bucket = bucket_ref(bucket);
                    self.store
                        .abort_upload(ROOT, bucket, key.to_owned(), upload)
                        .await
                }
                false => Ok(()),
            }
        };
        if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, giving_up).await {
            tracing::debug!(client = self.number, BUCKET, key, %error, "an upload was not given up in order");
        }
    }

    pub(super) async fn create_upload(&self, bucket: &BucketRow, key: &str) -> Result<UploadRef, Error> {
        let new = NewUpload {
            actor: ROOT,
            bucket: bucket_ref(bucket),
            key: key.to_owned(),
            class: CLASS.to_owned(),
            metadata: Metadata::default(),
            checksum: None,
        };
        self.store.create_upload(new).await
    }

    async fn put_part(
        &self,
        bucket: &BucketRow,
        key: &str,
        upload: UploadRef,
        number: u32,
        value: Value,
    ) -> Result<(), Error> {
        let finish = PartFinish {
            actor: ROOT,
            bucket: bucket_ref(bucket),
            key: key.to_owned(),
            upload,
            number,
            etag: Etag::Md5(md5_of(value)),
            checksum: None,
        };
        self.send(value, finish).await.map(drop)
    }
}
