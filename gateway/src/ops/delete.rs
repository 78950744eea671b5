//! DeleteObject and DeleteObjects.

use super::authorize::{DELETE, Need};
use super::convert::conditions;
use super::errors::undone;
use super::list::held;
use super::versioning::{shown, version_name};
use super::{Body, Call};
use crate::directory::bucket_ref;
use crate::s3::Reply;
use crate::s3::answer::{DeleteObjectsAnswer, DeleteOutcome, DeletedVersion, deleted};
use crate::s3::error::Result;
use crate::s3::operation::{BucketRequest, DeleteObject};
use crate::s3::request_xml::{DeleteObjectsBody, ObjectToDelete};
use crate::server::limits::DELETES_IN_FLIGHT;
use crate::store::DeleteRequest;
use futures::StreamExt as _;

/// DeleteObject. What is not there counts as deleted.
pub(super) async fn one(call: &Call<'_>, request: DeleteObject) -> Result<Reply> {
    let object = ObjectToDelete {
        key: request.key,
        version_id: request.version_id,
        condition: request.condition,
    };
    let done = delete(call, &request.bucket, &object).await?;
    Ok(deleted()
        .with_version(done.version_id)
        .with_delete_marker(done.delete_marker))
}

/// DeleteObjects: each key for itself, many at a time. A key that the caller may not delete is an error of its own.
pub(super) async fn many(call: &Call<'_>, body: Body<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = request.bucket.as_str();
    call.require_bucket(bucket).await?;
    let read = body.document_and_answer(DeleteObjectsAnswer::bytes_max);
    let (document, memory) = read.await?;
    let document = DeleteObjectsBody::parse(&document)?;
    let deletes = document.objects.into_iter().map(|object| async move {
        let outcome = delete(call, bucket, &object).await;
        DeleteOutcome {
            key: object.key,
            version_id: object.version_id,
            outcome,
        }
    });
    let outcomes = futures::stream::iter(deletes).buffered(DELETES_IN_FLIGHT);
    let answer = DeleteObjectsAnswer {
        outcomes: outcomes.collect().await,
        quiet: document.quiet,
    };
    Ok(held(memory, answer.into_reply()))
}

async fn delete(call: &Call<'_>, bucket: &str, object: &ObjectToDelete) -> Result<DeletedVersion> {
    let version_id = object.version_id.as_deref();
    let version = version_name(version_id)?;
    let needs = [Need::version(DELETE, bucket, &object.key, version_id)];
    let deleted = call.decided_needing(bucket, &needs, |actor, bucket| async move {
        let delete = DeleteRequest {
            actor,
            bucket: bucket_ref(&bucket),
            key: object.key.clone(),
            version,
            conditions: conditions(&object.condition),
        };
        Ok(call.store.delete(delete).await?)
    });
    let deleted = deleted.await.map_err(|error| undone(error, &object.condition))?;
    Ok(DeletedVersion {
        version_id: shown(deleted.version),
        delete_marker: deleted.delete_marker,
    })
}
