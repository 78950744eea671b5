//! Operations on buckets.

use super::access::access_of_new;
use super::authorize::{Need, Said};
use super::errors::{s3_error, undone};
use super::list::{held, memory};
use super::{Body, Call, audited, owner};
use crate::directory::bucket_ref;
use crate::error::Error;
use crate::policy::Action;
use crate::put::PutError;
use crate::s3::Reply;
use crate::s3::answer::{
    BucketEntry, ListBucketsAnswer, bucket_created, bucket_location, deleted, head_bucket,
};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::limits::LIST_BUCKETS_MAX;
use crate::s3::listing::ListBuckets;
use crate::s3::operation::{BucketRequest, CreateBucket};
use crate::s3::request_xml::CreateBucketBody;
use crate::s3::route::OperationName;
use crate::s3::token::Position;
use crate::server::limits::{BUCKETS_JUDGED_AT_ONCE, LISTED_BYTES};
use futures::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use ullage_model::namespace::rows::{BucketAccess, BucketRow};
use ullage_model::rejection::Rejection;

/// The region in which making one's own bucket again succeeds.
const LENIENT_REGION: &str = "us-east-1";
/// Buckets that one page looks at for a caller who may not see all: then it ends, however few it has.
const LOOKED_AT_MAX: usize = 1000;

/// ListBuckets. All users are one account, so whoever may list its buckets sees all of them; others see those that
/// they may list the objects of.
pub(super) async fn list(call: &Call<'_>, request: ListBuckets) -> Result<Reply> {
    let all = call.may_see_all_buckets()?;
    let most = request.max_buckets.unwrap_or(LIST_BUCKETS_MAX);
    let memory = memory(call, most, LISTED_BYTES.1).await?;
    let limit = most as usize;
    let prefix = request.prefix.clone().unwrap_or_default();
    let mut after = request.after.map(|position| position.text().to_owned());
    let mut buckets = Vec::new();
    let (mut more, mut looked_at) = (true, 0);
    while more && buckets.len() < limit && looked_at < LOOKED_AT_MAX.max(limit) {
        let page = call
            .store
            .buckets(prefix.clone(), after.take(), limit - buckets.len())
            .await;
        let (rows, is_more) = page.map_err(s3_error)?;
        looked_at += rows.len();
        after = rows.last().map(|row| row.name.clone());
        more = is_more && after.is_some();
        let asked = request.bucket_region.as_deref();
        let wanted = rows
            .into_iter()
            .filter(|row| asked.is_none_or(|region| region == row.region));
        let wanted = if all {
            wanted.collect()
        } else {
            listable(call, wanted.collect()).await?
        };
        buckets.extend(wanted.into_iter().map(|row| BucketEntry {
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

/// Those of `rows` that the caller may list, in their order.
async fn listable(call: &Call<'_>, rows: Vec<BucketRow>) -> Result<Vec<BucketRow>> {
    let judged = rows.into_iter().map(|row| async move {
        match call.may_list(&row.name).await {
            Ok(true) => Ok(Some(row)),
            Ok(false) => Ok(None),
            // It was deleted since it was listed.
            Err(error) if error.code() == ErrorCode::NoSuchBucket => Ok(None),
            Err(error) => Err(error),
        }
    });
    let judged = futures::stream::iter(judged).buffered(BUCKETS_JUDGED_AT_ONCE);
    let judged: Vec<Option<BucketRow>> = judged.try_collect().await?;
    Ok(judged.into_iter().flatten().collect())
}

/// CreateBucket.
pub(super) async fn create(call: &Call<'_>, body: Body<'_>, request: &CreateBucket) -> Result<Reply> {
    call.require_identity()?;
    let access = access_of_new(request.acl, request.ownership)?;
    let document = CreateBucketBody::parse(&body.document().await?)?;
    document.check_region(call.region)?;
    let made = make(call, request, document.location_constraint, access);
    audited(call, &request.bucket, OperationName::CreateBucket, made.boxed()).await
}

async fn make(
    call: &Call<'_>,
    request: &CreateBucket,
    location: Option<String>,
    access: BucketAccess,
) -> Result<Reply> {
    let name = &request.bucket;
    let needs = needs_of_new(request, location);
    let made = call.decided_without_bucket(&needs, |actor| async move {
        Ok(call.store.create_bucket(actor, name, call.region, access).await?)
    });
    match made.await {
        Ok(_) => Ok(bucket_created(name)),
        Err(PutError::Failed(Error::Rejected(Rejection::BucketExists { creator, .. }))) => {
            if creator != call.caller.actor.user {
                Err(S3Error::from(ErrorCode::BucketAlreadyExists).with("BucketName", name))
            } else if call.region == LENIENT_REGION && request.acl.is_none() && request.ownership.is_none() {
                Ok(bucket_created(name))
            } else {
                Err(S3Error::from(ErrorCode::BucketAlreadyOwnedByYou).with("BucketName", name))
            }
        }
        Err(error) => Err(undone(error, &WriteCondition::Always)),
    }
}

/// What making a bucket needs: more where more is asked for with it.
fn needs_of_new(request: &CreateBucket, location: Option<String>) -> Vec<Need> {
    let mut actions = vec![Action::CreateBucket];
    if request.acl.is_some() {
        actions.push(Action::PutBucketAcl);
    }
    if request.ownership.is_some() {
        actions.push(Action::PutBucketOwnershipControls);
    }
    let said = Said {
        location,
        ..Said::default()
    };
    let needs = actions
        .into_iter()
        .map(|action| Need::bucket(action, &request.bucket).saying(said.clone()));
    needs.collect()
}

/// HeadBucket.
pub(super) async fn head(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = call.bucket(&request.bucket).await?;
    Ok(head_bucket(&bucket.region))
}

/// DeleteBucket.
pub(super) async fn delete(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let done = call.decided(&request.bucket, |actor, bucket| async move {
        Ok(call.store.delete_bucket(actor, bucket_ref(&bucket)).await?)
    });
    let done = done.map_err(|error| match error {
        PutError::Failed(Error::Rejected(Rejection::BucketNotEmpty)) => {
            S3Error::from(ErrorCode::BucketNotEmpty).with("BucketName", &request.bucket)
        }
        error => undone(error, &WriteCondition::Always),
    });
    audited(call, &request.bucket, OperationName::DeleteBucket, done.boxed()).await?;
    Ok(deleted())
}

/// GetBucketLocation.
pub(super) async fn location(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = call.bucket(&request.bucket).await?;
    Ok(bucket_location(&bucket.region))
}
