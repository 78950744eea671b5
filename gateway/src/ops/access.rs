//! Bucket policies, canned access control lists, object ownership: what others may do with buckets and objects. What
//! they come to is in [`super::authorize`].

use super::errors::{s3_error, undone};
use super::objects_read::look_at;
use super::versioning::{change_undone, shown as version_shown, version_name};
use super::{Body, Call, audited, bucket_documents, owner, public_access};
use crate::directory::{Bucket, bucket_ref};
use crate::policy::{Policy, PolicyError, PolicyKind};
use crate::put::PutError;
use crate::s3::Reply;
use crate::s3::acl::{self, CannedAcl};
use crate::s3::answer::{access_control_policy, bucket_policy, deleted, ownership_controls, policy_status};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::operation::{BucketRequest, ObjectRequest, PutBucketAcl, PutObjectAcl};
use crate::s3::route::OperationName;
use futures::{FutureExt as _, TryFutureExt as _};
use http::StatusCode;
use std::collections::BTreeSet;
use ullage_model::ids::UserId;
use ullage_model::namespace::rows::{self, BucketAccess, BucketDocumentKind};

const ABSENT: (BucketDocumentKind, ErrorCode) = (BucketDocumentKind::Policy, ErrorCode::NoSuchBucketPolicy);

/// GetBucketPolicy.
pub(super) async fn get_policy(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let document = bucket_documents::document(call, request, ABSENT.0, ABSENT.1).await?;
    Ok(bucket_policy(document))
}

/// GetBucketPolicyStatus.
pub(super) async fn get_policy_status(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let document = bucket_documents::document(call, request, ABSENT.0, ABSENT.1).await?;
    let policy = Policy::parse(&document, PolicyKind::Bucket(&request.bucket));
    // One that cannot be read any more denies everything, which is not public.
    Ok(policy_status(policy.is_ok_and(|policy| policy.is_public())))
}

/// PutBucketPolicy. Kept as it was written, once it is understood whole.
pub(super) async fn put_policy(call: &Call<'_>, body: Body<'_>, request: &BucketRequest) -> Result<Reply> {
    let document = body.document().await?;
    let text =
        std::str::from_utf8(&document).map_err(|_| malformed("Policies must be valid JSON in UTF-8."))?;
    let policy =
        Policy::parse(text, PolicyKind::Bucket(&request.bucket)).map_err(|error| malformed(&error))?;
    check_users(call, &policy).await?;
    let change = (OperationName::PutBucketPolicy, BucketDocumentKind::Policy);
    let check = |bucket: &Bucket| public_access::check_policy(bucket, &policy);
    bucket_documents::set_checked(call, request, change, Some(text.to_owned()), check).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// DeleteBucketPolicy.
pub(super) async fn delete_policy(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let change = (OperationName::DeleteBucketPolicy, BucketDocumentKind::Policy);
    bucket_documents::set(call, request, change, None).await?;
    Ok(deleted())
}

fn malformed(why: impl ToString) -> S3Error {
    S3Error::new(ErrorCode::MalformedPolicy, why.to_string())
}

impl From<PolicyError> for S3Error {
    fn from(error: PolicyError) -> Self {
        malformed(&error)
    }
}

/// A name that no user has is a mistake: what it was meant to grant or deny, it would not.
async fn check_users(call: &Call<'_>, policy: &Policy) -> Result<()> {
    let named: BTreeSet<String> = policy.users_named().map(str::to_owned).collect();
    let named = named.into_iter().collect();
    let unknown = call.store.without_user(named).await.map_err(s3_error)?;
    match unknown.first() {
        None => Ok(()),
        Some(name) => Err(malformed(format!(
            "Invalid principal in policy: there is no user {name:?}."
        ))),
    }
}

/// A canned list as rows keep it. What differs only in how much of its own an owner may do is the same here.
pub(super) fn row_acl(acl: Option<CannedAcl>) -> rows::CannedAcl {
    match acl {
        None | Some(CannedAcl::Private | CannedAcl::BucketOwnerRead | CannedAcl::BucketOwnerFullControl) => {
            rows::CannedAcl::Private
        }
        Some(CannedAcl::PublicRead) => rows::CannedAcl::PublicRead,
        Some(CannedAcl::PublicReadWrite) => rows::CannedAcl::PublicReadWrite,
        Some(CannedAcl::AuthenticatedRead) => rows::CannedAcl::AuthenticatedRead,
    }
}

fn canned(acl: rows::CannedAcl) -> CannedAcl {
    match acl {
        rows::CannedAcl::Private => CannedAcl::Private,
        rows::CannedAcl::PublicRead => CannedAcl::PublicRead,
        rows::CannedAcl::PublicReadWrite => CannedAcl::PublicReadWrite,
        rows::CannedAcl::AuthenticatedRead => CannedAcl::AuthenticatedRead,
    }
}

fn row_ownership(ownership: acl::ObjectOwnership) -> rows::ObjectOwnership {
    match ownership {
        acl::ObjectOwnership::ObjectWriter => rows::ObjectOwnership::ObjectWriter,
        acl::ObjectOwnership::BucketOwnerPreferred => rows::ObjectOwnership::BucketOwnerPreferred,
        acl::ObjectOwnership::BucketOwnerEnforced => rows::ObjectOwnership::BucketOwnerEnforced,
    }
}

fn ownership_of(bucket: &Bucket) -> acl::ObjectOwnership {
    match bucket.row.access.ownership {
        rows::ObjectOwnership::ObjectWriter => acl::ObjectOwnership::ObjectWriter,
        rows::ObjectOwnership::BucketOwnerPreferred => acl::ObjectOwnership::BucketOwnerPreferred,
        rows::ObjectOwnership::BucketOwnerEnforced => acl::ObjectOwnership::BucketOwnerEnforced,
    }
}

/// Who may reach a bucket that is made.
///
/// # Errors
/// InvalidBucketAclWithObjectOwnership for a list that grants something where none counts.
pub(super) fn access_of_new(
    acl: Option<CannedAcl>,
    ownership: Option<acl::ObjectOwnership>,
) -> Result<BucketAccess> {
    let access = BucketAccess {
        acl: row_acl(acl),
        ownership: ownership.map(row_ownership).unwrap_or_default(),
        block: None,
    };
    let enforced = access.ownership == rows::ObjectOwnership::BucketOwnerEnforced;
    if enforced && access.acl != rows::CannedAcl::Private {
        return Err(ErrorCode::InvalidBucketAclWithObjectOwnership.into());
    }
    Ok(access)
}

/// Refuses a list that grants something in a bucket where none counts, or where none is taken.
///
/// # Errors
/// AccessControlListNotSupported; AccessDenied.
pub(super) fn check_acl(bucket: &Bucket, acl: Option<CannedAcl>) -> Result<()> {
    let enforced = bucket.row.access.ownership == rows::ObjectOwnership::BucketOwnerEnforced;
    if enforced && acl.is_some_and(|acl| !acl.is_owners_alone()) {
        return Err(ErrorCode::AccessControlListNotSupported.into());
    }
    public_access::check_acl(bucket, acl)
}

/// GetBucketAcl.
pub(super) async fn get_bucket_acl(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = call.bucket(&request.bucket).await?;
    let acl = shown(&bucket, bucket.row.access.acl);
    Ok(access_control_policy(&owner(bucket.row.creator), acl))
}

/// A list as it is answered: where none counts, the owner alone has everything.
fn shown(bucket: &Bucket, acl: rows::CannedAcl) -> CannedAcl {
    match bucket.row.access.ownership {
        rows::ObjectOwnership::BucketOwnerEnforced => CannedAcl::Private,
        _ => canned(acl),
    }
}

/// The list that a request says by its header or its document.
async fn asked_acl(body: Body<'_>, header: Option<CannedAcl>, creator: UserId) -> Result<CannedAcl> {
    let document = body.document().await?;
    match header {
        Some(_) if !document.is_empty() => Err(ErrorCode::UnexpectedContent.into()),
        Some(acl) => Ok(acl),
        None if document.is_empty() => Err(S3Error::new(
            ErrorCode::MissingSecurityHeader,
            "Your request was missing a required header: x-amz-acl, or an AccessControlPolicy as the body.",
        )),
        None => CannedAcl::parse_document(&document, &owner(creator).id),
    }
}

/// PutBucketAcl.
pub(super) async fn put_bucket_acl(call: &Call<'_>, body: Body<'_>, request: &PutBucketAcl) -> Result<Reply> {
    let bucket = call.bucket(&request.bucket).await?;
    let asked = asked_acl(body, request.acl, bucket.row.creator).await?;
    let change = |bucket: &Bucket| {
        check_acl(bucket, Some(asked))?;
        Ok(BucketAccess {
            acl: row_acl(Some(asked)),
            ..bucket.row.access
        })
    };
    set_access(call, &request.bucket, OperationName::PutBucketAcl, change).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// GetBucketOwnershipControls.
pub(super) async fn get_ownership(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = call.bucket(&request.bucket).await?;
    Ok(ownership_controls(ownership_of(&bucket)))
}

/// PutBucketOwnershipControls. A bucket whose list grants something cannot be made one without lists.
pub(super) async fn put_ownership(call: &Call<'_>, body: Body<'_>, request: &BucketRequest) -> Result<Reply> {
    call.bucket(&request.bucket).await?;
    let ownership = row_ownership(acl::ObjectOwnership::parse_document(&body.document().await?)?);
    let change = |bucket: &Bucket| {
        let access = bucket.row.access;
        let enforced = ownership == rows::ObjectOwnership::BucketOwnerEnforced;
        if enforced && access.acl != rows::CannedAcl::Private {
            return Err(ErrorCode::InvalidBucketAclWithObjectOwnership.into());
        }
        Ok(BucketAccess { ownership, ..access })
    };
    set_access(
        call,
        &request.bucket,
        OperationName::PutBucketOwnershipControls,
        change,
    )
    .await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// DeleteBucketOwnershipControls: lists count again.
pub(super) async fn delete_ownership(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let change = |bucket: &Bucket| {
        Ok(BucketAccess {
            ownership: rows::ObjectOwnership::default(),
            ..bucket.row.access
        })
    };
    let operation = OperationName::DeleteBucketOwnershipControls;
    set_access(call, &request.bucket, operation, change).await?;
    Ok(deleted())
}

pub(super) async fn set_access(
    call: &Call<'_>,
    name: &str,
    operation: OperationName,
    change: impl Fn(&Bucket) -> Result<BucketAccess> + Send + Sync,
) -> Result<()> {
    let done = call.decided(name, |actor, bucket| {
        let access = change(&bucket).map_err(PutError::Refused);
        async move {
            let set = call.store.set_bucket_access(actor, bucket_ref(&bucket), access?);
            Ok(set.await?)
        }
    });
    let done = done.map_err(|error| undone(error, &WriteCondition::Always));
    audited(call, name, operation, done.boxed()).await
}

/// GetObjectAcl.
pub(super) async fn get_object_acl(call: &Call<'_>, request: &ObjectRequest) -> Result<Reply> {
    let (found, bucket) = look_at(call, "GET", request.named(), None).await?;
    let acl = shown(&bucket, found.version.metadata.acl);
    let reply = access_control_policy(&owner(found.version.creator), acl);
    Ok(reply.with_version(version_shown(found.name)))
}

/// PutObjectAcl.
pub(super) async fn put_object_acl(call: &Call<'_>, body: Body<'_>, request: &PutObjectAcl) -> Result<Reply> {
    let object = &request.object;
    let version_id = object.version_id.as_deref();
    let (found, _) = look_at(call, "PUT", object.named(), None).await?;
    let asked = asked_acl(body, request.acl, found.version.creator).await?;
    let name = (object.key.as_str(), version_name(version_id)?);
    let set = call.decided_change(
        &object.bucket,
        name,
        call.needs(),
        |actor, bucket, seen| async move {
            check_acl(&bucket, Some(asked)).map_err(PutError::Refused)?;
            let (who, object) = ((actor, bucket_ref(&bucket)), (name.0.to_owned(), name.1));
            let set = call.store.set_object_acl(who, object, seen, row_acl(Some(asked)));
            Ok(set.await?)
        },
    );
    let changed = set
        .await
        .map_err(|error| change_undone(error, "PUT", &object.key, version_id))?;
    Ok(Reply::empty(StatusCode::OK).with_version(version_shown(changed)))
}
