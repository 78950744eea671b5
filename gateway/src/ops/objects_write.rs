//! Operations that bring bytes: PutObject and UploadPart. The body is decoded and verified while the data path
//! pulls it; what it becomes is said after its last byte, so that a wrong digest changes nothing.

use super::access::{check_acl, row_acl};
use super::convert::{
    DEFAULT_CLASS, algorithm, conditions, etag, kind, object_checksum, row_checksum, row_metadata,
};
use super::errors::undone;
use super::multipart::open_upload;
use super::versioning::shown;
use super::{Body, Call, quota};
use crate::directory::{Bucket, bucket_ref};
use crate::put::Upload;
use crate::put::finalize::{ObjectFinish, PartFinish};
use crate::put::plan::PutRequest;
use crate::s3::acl::CannedAcl;
use crate::s3::answer::{StoredAnswer, WrittenPart};
use crate::s3::body::BodyDigests;
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::operation::{PutObject, UploadPart};
use crate::s3::{BodyPlan, Reply, WantedDigests};
use crate::server::{ByteSource, DecodedBody, RequestBody};
use bytes::Bytes;
use std::sync::Arc;
use ullage_model::command::{Actor, UploadRef};
use ullage_model::namespace::rows::{Etag, Metadata};

/// The checksum that is made when the client sends none, as S3 does.
pub(super) const DEFAULT_CHECKSUM: ChecksumAlgorithm = ChecksumAlgorithm::Crc64Nvme;

/// PutObject.
pub(super) async fn put(call: &Call<'_>, body: Body<'_>, request: PutObject) -> Result<Reply> {
    let (answer, version) = store_object(call, (body.wire, body.plan), request).await?;
    Ok(answer.into_reply().with_version(version))
}

/// Stores the bytes that come from `source` as an object. With the answer comes its version, if that has a name.
pub(super) async fn store_object<S: ByteSource>(
    call: &Call<'_>,
    (source, plan): (&mut S, BodyPlan),
    request: PutObject,
) -> Result<(StoredAnswer, Option<String>)> {
    let bucket = call.bucket(&request.bucket).await?;
    check_acl(&bucket, request.acl)?;
    // A condition that does not hold is to be heard of first.
    if matches!(request.condition, WriteCondition::Always) {
        quota::check(call, &bucket, &request.key, plan.decoded_length()).await?;
    }
    let put_request = PutRequest {
        class: request.storage_class.unwrap_or_else(|| DEFAULT_CLASS.to_owned()),
        bytes: plan.decoded_length(),
        request_id: call.request_id,
    };
    let wanted = WantedDigests {
        md5: true,
        checksum: Some(DEFAULT_CHECKSUM),
    };
    let mut upload = ObjectUpload {
        call,
        body: DecodedBody::new(source, plan, wanted),
        actor: call.caller.actor,
        bucket,
        acl: request.acl,
        key: request.key,
        condition: request.condition,
        metadata: Metadata {
            acl: row_acl(request.acl),
            ..row_metadata(request.headers, request.tags)
        },
    };
    let stored = call.store.put(&put_request, &mut upload).await;
    let stored = stored.map_err(|error| undone(error, &upload.condition))?;
    let answer = StoredAnswer {
        etag: etag(&stored.etag),
        checksum: stored
            .checksum
            .as_ref()
            .and_then(object_checksum)
            .map(|object| object.checksum),
    };
    Ok((answer, shown(stored.version)))
}

/// UploadPart.
pub(super) async fn upload_part(call: &Call<'_>, body: Body<'_>, request: &UploadPart) -> Result<Reply> {
    let bucket = call.bucket(&request.upload.bucket).await?;
    let (upload_ref, row) = open_upload(call, &bucket, &request.upload).await?;
    let of_upload = row.checksum.map(|(named, _)| algorithm(named));
    let checksum = row.checksum.map(|(named, of)| (algorithm(named), kind(of)));
    body.plan.check_upload_checksum(checksum)?;
    let part = (upload_ref, request.part_number);
    quota::check_part(call, &bucket, part, body.plan.decoded_length()).await?;
    // A checksum that nobody asked for is made for the whole object's sake, and not shown.
    let is_shown = of_upload.or(body.plan.promised_checksum().algorithm()).is_some();
    let put_request = PutRequest {
        class: row.class,
        bytes: body.plan.decoded_length(),
        request_id: call.request_id,
    };
    let wanted = WantedDigests {
        md5: true,
        checksum: Some(of_upload.unwrap_or(DEFAULT_CHECKSUM)),
    };
    let mut upload = PartUpload {
        call,
        body: DecodedBody::new(body.wire, body.plan, wanted),
        actor: call.caller.actor,
        bucket,
        key: request.upload.key.clone(),
        upload: upload_ref,
        number: request.part_number,
    };
    let stored = call.store.put(&put_request, &mut upload).await;
    let stored = stored.map_err(|error| undone(error, &WriteCondition::Always))?;
    let checksum = stored.checksum.filter(|_| is_shown);
    let answer = WrittenPart {
        etag: etag(&stored.etag),
        checksum: checksum
            .as_ref()
            .and_then(object_checksum)
            .map(|object| object.checksum),
    };
    Ok(answer.into_reply())
}

fn md5_of(digests: &BodyDigests) -> Result<Etag> {
    digests
        .md5
        .map(Etag::Md5)
        .ok_or_else(|| ErrorCode::InternalError.into())
}

/// A body on its way to become an object.
struct ObjectUpload<'a, S> {
    call: &'a Call<'a>,
    body: DecodedBody<'a, S>,
    actor: Actor,
    bucket: Arc<Bucket>,
    acl: Option<CannedAcl>,
    key: String,
    condition: WriteCondition,
    metadata: Metadata,
}

impl<S: ByteSource> Upload for ObjectUpload<'_, S> {
    type Finish = ObjectFinish;
    type Refusal = S3Error;

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.body.next().await
    }

    async fn finish(&mut self, stale: bool) -> Result<ObjectFinish> {
        let digests = self.body.digests()?;
        if stale {
            let (caller, bucket) = self.call.decide_anew(&self.bucket.name).await?;
            check_acl(&bucket, self.acl)?;
            (self.actor, self.bucket) = (caller.actor, bucket);
        }
        Ok(ObjectFinish {
            actor: self.actor,
            bucket: bucket_ref(&self.bucket),
            key: self.key.clone(),
            conditions: conditions(&self.condition),
            etag: md5_of(&digests)?,
            checksum: digests.checksum.as_ref().map(row_checksum),
            metadata: self.metadata.clone(),
        })
    }
}

/// A body on its way to become a part.
struct PartUpload<'a> {
    call: &'a Call<'a>,
    body: DecodedBody<'a, RequestBody>,
    actor: Actor,
    bucket: Arc<Bucket>,
    key: String,
    upload: UploadRef,
    number: u32,
}

impl Upload for PartUpload<'_> {
    type Finish = PartFinish;
    type Refusal = S3Error;

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.body.next().await
    }

    async fn finish(&mut self, stale: bool) -> Result<PartFinish> {
        let digests = self.body.digests()?;
        if stale {
            let (caller, bucket) = self.call.decide_anew(&self.bucket.name).await?;
            (self.actor, self.bucket) = (caller.actor, bucket);
        }
        Ok(PartFinish {
            actor: self.actor,
            bucket: bucket_ref(&self.bucket),
            key: self.key.clone(),
            upload: self.upload,
            number: self.number,
            etag: md5_of(&digests)?,
            checksum: digests.checksum.as_ref().map(row_checksum),
        })
    }
}
