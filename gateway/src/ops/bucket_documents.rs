//! Operations on the documents of a bucket's settings: what was set is what is answered, as it was written then.

use super::errors::undone;
use super::{Body, Call, audited};
use crate::directory::{Bucket, bucket_ref};
use crate::put::PutError;
use crate::s3::Reply;
use crate::s3::answer::{deleted, tagging_document};
use crate::s3::conditions::WriteCondition;
use crate::s3::cors::CorsRules;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::limits::BUCKET_TAGS_MAX;
use crate::s3::operation::BucketRequest;
use crate::s3::route::OperationName;
use crate::s3::tagging::Tags;
use futures::{FutureExt as _, TryFutureExt as _};
use http::StatusCode;
use ullage_model::namespace::rows::BucketDocumentKind;

/// GetBucketCors.
pub(super) async fn get_cors(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let absent = ErrorCode::NoSuchCORSConfiguration;
    get(call, request, BucketDocumentKind::Cors, absent).await
}

/// PutBucketCors.
pub(super) async fn put_cors(call: &Call<'_>, body: Body<'_>, request: &BucketRequest) -> Result<Reply> {
    let rules = CorsRules::parse(&body.document().await?)?.to_xml();
    let kind = BucketDocumentKind::Cors;
    set(call, request, (OperationName::PutBucketCors, kind), Some(rules)).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// DeleteBucketCors.
pub(super) async fn delete_cors(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let kind = BucketDocumentKind::Cors;
    set(call, request, (OperationName::DeleteBucketCors, kind), None).await?;
    Ok(deleted())
}

/// GetBucketTagging.
pub(super) async fn get_tagging(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    get(
        call,
        request,
        BucketDocumentKind::Tagging,
        ErrorCode::NoSuchTagSet,
    )
    .await
}

/// PutBucketTagging. A set without tags is none.
pub(super) async fn put_tagging(call: &Call<'_>, body: Body<'_>, request: &BucketRequest) -> Result<Reply> {
    let tags = Tags::parse_document(&body.document().await?, BUCKET_TAGS_MAX)?;
    let document = (!tags.0.is_empty()).then(|| tagging_document(&tags));
    let kind = BucketDocumentKind::Tagging;
    set(call, request, (OperationName::PutBucketTagging, kind), document).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// DeleteBucketTagging.
pub(super) async fn delete_tagging(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let kind = BucketDocumentKind::Tagging;
    set(call, request, (OperationName::DeleteBucketTagging, kind), None).await?;
    Ok(deleted())
}

async fn get(
    call: &Call<'_>,
    request: &BucketRequest,
    kind: BucketDocumentKind,
    absent: ErrorCode,
) -> Result<Reply> {
    document(call, request, kind, absent).await.map(Reply::xml)
}

/// A document as it was set.
///
/// # Errors
/// `absent` if there is none.
pub(super) async fn document(
    call: &Call<'_>,
    request: &BucketRequest,
    kind: BucketDocumentKind,
    absent: ErrorCode,
) -> Result<String> {
    let name = &request.bucket;
    let found = call.decided(name, |_, bucket| async move {
        Ok(call.store.bucket_document(&bucket, kind).await?)
    });
    let found = found
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    found.ok_or_else(|| S3Error::from(absent).with("BucketName", name))
}

/// Sets or deletes a document that was verified.
pub(super) async fn set(
    call: &Call<'_>,
    request: &BucketRequest,
    change: (OperationName, BucketDocumentKind),
    document: Option<String>,
) -> Result<()> {
    set_checked(call, request, change, document, |_| Ok(())).await
}

/// As [`set`], if `check` finds nothing against it under the bucket's settings.
pub(super) async fn set_checked(
    call: &Call<'_>,
    request: &BucketRequest,
    (operation, kind): (OperationName, BucketDocumentKind),
    document: Option<String>,
    check: impl Fn(&Bucket) -> Result<()> + Send + Sync,
) -> Result<()> {
    let name = &request.bucket;
    let (document, check) = (&document, &check);
    let done = call.decided(name, |actor, bucket| async move {
        check(&bucket).map_err(PutError::Refused)?;
        let set = call
            .store
            .set_bucket_document(actor, bucket_ref(&bucket), kind, document.clone());
        Ok(set.await?)
    });
    let done = done.map_err(|error| undone(error, &WriteCondition::Always));
    audited(call, name, operation, done.boxed()).await
}
