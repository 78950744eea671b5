//! What keeps out the public, whatever lists and policies say: GetPublicAccessBlock, PutPublicAccessBlock,
//! DeletePublicAccessBlock, and what the settings refuse. What they keep from counting is in [`super::authorize`].

use super::access::set_access;
use super::{Body, Call};
use crate::directory::Bucket;
use crate::policy::Policy;
use crate::s3::Reply;
use crate::s3::acl::CannedAcl;
use crate::s3::answer::deleted;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::operation::BucketRequest;
use crate::s3::public_access::PublicAccessBlock;
use crate::s3::route::OperationName;
use http::StatusCode;
use ullage_model::namespace::rows::{self, BucketAccess};

/// GetPublicAccessBlock.
pub(super) async fn get(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = call.bucket(&request.bucket).await?;
    let block = bucket.row.access.block.ok_or_else(|| {
        S3Error::from(ErrorCode::NoSuchPublicAccessBlockConfiguration).with("BucketName", &request.bucket)
    })?;
    let shown = PublicAccessBlock {
        block_public_acls: block.block_public_acls,
        ignore_public_acls: block.ignore_public_acls,
        block_public_policy: block.block_public_policy,
        restrict_public_buckets: block.restrict_public_buckets,
    };
    Ok(Reply::xml(shown.to_xml()))
}

/// PutPublicAccessBlock.
pub(super) async fn put(call: &Call<'_>, body: Body<'_>, request: &BucketRequest) -> Result<Reply> {
    let asked = PublicAccessBlock::parse_document(&body.document().await?)?;
    let block = rows::PublicAccessBlock {
        block_public_acls: asked.block_public_acls,
        ignore_public_acls: asked.ignore_public_acls,
        block_public_policy: asked.block_public_policy,
        restrict_public_buckets: asked.restrict_public_buckets,
    };
    set(call, request, OperationName::PutPublicAccessBlock, Some(block)).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// DeletePublicAccessBlock.
pub(super) async fn delete(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    set(call, request, OperationName::DeletePublicAccessBlock, None).await?;
    Ok(deleted())
}

async fn set(
    call: &Call<'_>,
    request: &BucketRequest,
    operation: OperationName,
    block: Option<rows::PublicAccessBlock>,
) -> Result<()> {
    let change = |bucket: &Bucket| {
        let access = bucket.row.access;
        Ok(BucketAccess { block, ..access })
    };
    set_access(call, &request.bucket, operation, change).await
}

fn block(bucket: &Bucket) -> rows::PublicAccessBlock {
    bucket.row.access.block.unwrap_or_default()
}

fn denied(why: &'static str) -> S3Error {
    S3Error::new(ErrorCode::AccessDenied, why)
}

/// Refuses a list that grants something to everybody, or to everybody with an access key, where none is taken.
///
/// # Errors
/// AccessDenied.
pub(super) fn check_acl(bucket: &Bucket, acl: Option<CannedAcl>) -> Result<()> {
    if block(bucket).block_public_acls && acl.is_some_and(|acl| !acl.is_owners_alone()) {
        return Err(denied(
            "Access Denied: public access control lists are prevented by the BlockPublicAcls setting of this bucket.",
        ));
    }
    Ok(())
}

/// Refuses a policy that lets in everybody where none is taken.
///
/// # Errors
/// AccessDenied.
pub(super) fn check_policy(bucket: &Bucket, policy: &Policy) -> Result<()> {
    if block(bucket).block_public_policy && policy.is_public() {
        return Err(denied(
            "Access Denied: public policies are prevented by the BlockPublicPolicy setting of this bucket.",
        ));
    }
    Ok(())
}
