//! Operations on buckets.

use super::errors::{s3_error, undone};
use super::list::{held, memory};
use super::{Body, Call, audit, owner};
use crate::directory::bucket_ref;
use crate::error::Error;
use crate::put::PutError;
use crate::s3::Reply;
use crate::s3::answer::{
    BucketEntry, ListBucketsAnswer, bucket_created, bucket_location, deleted, head_bucket,
};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::limits::LIST_BUCKETS_MAX;
use crate::s3::listing::ListBuckets;
use crate::s3::operation::BucketRequest;
use crate::s3::request_xml::CreateBucketBody;
use crate::s3::route::OperationName;
use crate::s3::token::Position;
use crate::server::limits::LISTED_BYTES;
use ullage_model::rejection::Rejection;

/// The region in which making one's own bucket again succeeds.
const LENIENT_REGION: &str = "us-east-1";

/// ListBuckets. There is one realm of users, so everybody who may list sees all buckets.
pub(super) async fn list(call: &Call<'_>, request: ListBuckets) -> Result<Reply> {
    let most = request.max_buckets.unwrap_or(LIST_BUCKETS_MAX);
    let memory = memory(call, most, LISTED_BYTES.1).await?;
    let limit = most as usize;
    let prefix = request.prefix.clone().unwrap_or_default();
    let mut after = request.after.map(|position| position.text().to_owned());
    let mut buckets = Vec::new();
    let mut more = true;
    while more && buckets.len() < limit {
        let page = call
            .store
            .buckets(prefix.clone(), after.take(), limit - buckets.len())
            .await;
        let (rows, is_more) = page.map_err(s3_error)?;
        after = rows.last().map(|row| row.name.clone());
        more = is_more && after.is_some();
        let asked = request.bucket_region.as_deref();
        let wanted = rows
            .into_iter()
            .filter(|row| asked.is_none_or(|region| region == row.region));
        buckets.extend(wanted.map(|row| BucketEntry {
            created: super::convert::time(row.created),
            region: request.max_buckets.is_some().then_some(row.region),
            name: row.name,
        }));
    }
    let next = after
        .filter(|_| more)
        .map(|name| Position::AfterKey(name).encode());
    let answer = ListBucketsAnswer {
        owner: owner(call.caller.actor.user),
        buckets,
        next,
        prefix: request.prefix,
    };
    Ok(held(memory, answer.into_reply()))
}

/// CreateBucket.
pub(super) async fn create(call: &Call<'_>, body: Body<'_>, request: &BucketRequest) -> Result<Reply> {
    let document = CreateBucketBody::parse(&body.document().await?)?;
    document.check_region(call.region)?;
    let name = &request.bucket;
    audit(call, name, OperationName::CreateBucket);
    let made = call.decided_without_bucket(|actor| async move {
        Ok(call.store.create_bucket(actor, name, call.region).await?)
    });
    match made.await {
        Ok(_) => Ok(bucket_created(name)),
        Err(PutError::Failed(Error::Rejected(Rejection::BucketExists { creator, .. }))) => {
            if creator != call.caller.actor.user {
                Err(S3Error::from(ErrorCode::BucketAlreadyExists).with("BucketName", name))
            } else if call.region == LENIENT_REGION {
                Ok(bucket_created(name))
            } else {
                Err(S3Error::from(ErrorCode::BucketAlreadyOwnedByYou).with("BucketName", name))
            }
        }
        Err(error) => Err(undone(error, &WriteCondition::Always)),
    }
}

/// HeadBucket.
pub(super) async fn head(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = call.bucket(&request.bucket).await?;
    Ok(head_bucket(&bucket.region))
}

/// DeleteBucket.
pub(super) async fn delete(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    audit(call, &request.bucket, OperationName::DeleteBucket);
    let done = call.decided(&request.bucket, |actor, bucket| async move {
        Ok(call.store.delete_bucket(actor, bucket_ref(&bucket)).await?)
    });
    done.await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    Ok(deleted())
}

/// GetBucketLocation.
pub(super) async fn location(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = call.bucket(&request.bucket).await?;
    Ok(bucket_location(&bucket.region))
}
