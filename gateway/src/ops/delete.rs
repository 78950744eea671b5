//! DeleteObject and DeleteObjects.

use super::authorize::Need;
use super::convert::conditions;
use super::errors::undone;
use super::list::held;
use super::{Body, Call};
use crate::directory::bucket_ref;
use crate::policy::Action;
use crate::s3::Reply;
use crate::s3::answer::{DeleteObjectsAnswer, deleted};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::Result;
use crate::s3::operation::{BucketRequest, DeleteObject};
use crate::s3::request_xml::{DeleteObjectsBody, ObjectToDelete};
use crate::server::limits::DELETES_IN_FLIGHT;
use crate::store::DeleteRequest;
use futures::StreamExt as _;

/// DeleteObject. What is not there counts as deleted.
pub(super) async fn one(call: &Call<'_>, request: DeleteObject) -> Result<Reply> {
    let DeleteObject {
        bucket,
        key,
        condition,
    } = &request;
    delete(call, bucket, key, condition).await?;
    Ok(deleted())
}

/// DeleteObjects: each key for itself, many at a time. A key that the caller may not delete is an error of its own.
pub(super) async fn many(call: &Call<'_>, body: Body<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = request.bucket.as_str();
    let read = body.document_and_answer(DeleteObjectsAnswer::bytes_max);
    let (document, memory) = read.await?;
    let document = DeleteObjectsBody::parse(&document)?;
    let deletes = document.objects.into_iter().map(|object| async move {
        let ObjectToDelete { key, condition } = object;
        let outcome = delete(call, bucket, &key, &condition).await;
        (key, outcome)
    });
    let outcomes = futures::stream::iter(deletes).buffered(DELETES_IN_FLIGHT);
    let answer = DeleteObjectsAnswer {
        outcomes: outcomes.collect().await,
        quiet: document.quiet,
    };
    Ok(held(memory, answer.into_reply()))
}

async fn delete(call: &Call<'_>, bucket: &str, key: &str, condition: &WriteCondition) -> Result<()> {
    let needs = [Need::object(Action::DeleteObject, bucket, key)];
    let deleted = call.decided_needing(bucket, &needs, |actor, bucket| async move {
        let delete = DeleteRequest {
            actor,
            bucket: bucket_ref(&bucket),
            key: key.to_owned(),
            version: None,
            conditions: conditions(condition),
        };
        Ok(call.store.delete(delete).await?)
    });
    deleted.await.map_err(|error| undone(error, condition))?;
    Ok(())
}
