//! S3's operations on the data path: who asks, whether it may, and one file per family of what is done. The
//! only files that know both S3's words and the store's.

mod access;
mod attributes;
mod authorize;
mod bucket_documents;
mod buckets;
mod convert;
mod copied;
mod copy;
mod copy_part;
mod cors;
mod delete;
mod errors;
mod list;
mod multipart;
mod objects_read;
mod objects_write;
mod post;
mod public_access;
mod quota;
mod tagging;
mod uploads;
mod versioning;

pub(crate) use authorize::{Caller, Needs, RequestFacts};
pub(crate) use cors::{add_headers as add_cors_headers, preflight};
pub(crate) use errors::s3_error;
pub(crate) use post::{Posted, post_object};

use crate::audit::{AUDIT, AuditLine};
use crate::directory::{Bucket, User};
use crate::error::Error;
use crate::memory::{Budget, Reservation};
use crate::s3::Reply;
use crate::s3::answer::Owner;
use crate::s3::error::{ErrorCode, Result};
use crate::s3::operation::{BucketRequest, ObjectRequest};
use crate::s3::route::OperationName;
use crate::s3::unset::check_encryption;
use crate::s3::{BodyPlan, Head, Operation, S3Error};
use crate::server::{ObjectBytes, Progress, RequestBody, RootKeys, Shared};
use crate::store::Store;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use std::sync::{Arc, OnceLock};
use tracing::info;
use ullage_model::ids::UserId;
use ullage_model::namespace::rows::{ANONYMOUS_USER, BucketRow, ROOT_USER};
use ullage_model::rejection::Rejection;

/// Name of the root user, which no other may have.
pub(crate) const ROOT_NAME: &str = "root";
/// Name of callers without credentials, which no other may have.
pub(crate) const ANONYMOUS_NAME: &str = "anonymous";

/// One authenticated request, but for its operation and its body.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The gateway.
    pub(crate) shared: &'a Shared,
    /// The data path.
    pub(crate) store: &'a Store,
    /// Who asks.
    pub(crate) caller: Caller,
    /// With which key; none of an anonymous caller.
    pub(crate) access_key: Option<&'a str>,
    /// What the operation needs its caller to be allowed.
    pub(crate) needs: Needs,
    /// The bucket under whose settings that was found allowed before the body was read.
    pub(crate) admitted: OnceLock<Arc<Bucket>>,
    /// What policies may ask of the request.
    pub(crate) request: RequestFacts<'a>,
    /// Names the request in what happens behind it.
    pub(crate) request_id: u64,
    /// This gateway's region.
    pub(crate) region: &'a str,
    /// The Host that the request names, with its port, and its path as it came: for answers only.
    pub(crate) url: (&'a str, &'a str),
    /// How far it has come.
    pub(crate) progress: &'a Progress,
    /// `x-amz-expected-bucket-owner`
    pub(crate) expected_owner: Option<String>,
}

/// A request's body that nobody has looked at yet.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    /// What comes behind the head. Reading it gives the client leave to send.
    pub(crate) wire: &'a mut RequestBody,
    /// What the head says of it.
    pub(crate) plan: BodyPlan,
    /// Where it is held if it is a document.
    pub(crate) memory: &'a Budget,
}

impl Body<'_> {
    /// Reads it whole, verified.
    async fn document(self) -> Result<Bytes> {
        self.wire.document(self.plan, self.memory).await
    }

    /// Reads it whole, verified, with memory for an answer of up to `answer_bytes` of its length.
    async fn document_and_answer(self, answer_bytes: impl Fn(u64) -> u64) -> Result<(Bytes, Reservation)> {
        self.wire
            .document_and_answer(self.plan, self.memory, answer_bytes)
            .await
    }

    /// Requires that there is none, as the head said.
    async fn none(self) -> Result<()> {
        self.document().await.map(drop)
    }
}

/// What a request comes to.
pub(crate) enum Answer {
    /// A complete answer.
    Whole(Reply),
    /// A head, and an object's bytes behind it.
    Object {
        /// The head.
        reply: Reply,
        /// The first bytes, read and verified already.
        first: Bytes,
        /// The rest.
        rest: ObjectBytes,
        /// All bytes together.
        bytes: u64,
    },
}

/// Does what was asked, if the caller may.
///
/// # Errors
/// S3's.
pub(crate) async fn perform(call: &Call<'_>, body: Body<'_>, operation: Operation) -> Result<Answer> {
    call.admit().await?;
    match dispatch(call, body, operation).await {
        Err(error) => Err(naming_key(call.without_absence(error).await, call.request.head)),
        done => done,
    }
}

/// What is not there is named: by its handler, or else it is the very key of the request.
fn naming_key(error: S3Error, head: &Head<'_>) -> S3Error {
    match head.key() {
        Some(key) if error.code() == ErrorCode::NoSuchKey && error.detail("Key").is_none() => {
            error.with("Key", key)
        }
        _ => error,
    }
}

/// Without a wildcard: the compiler knows that every operation has a handler.
async fn dispatch(call: &Call<'_>, body: Body<'_>, operation: Operation) -> Result<Answer> {
    let reply = match operation {
        Operation::GetObject(request) => {
            body.none().await?;
            return objects_read::get(call, &request).await;
        }
        Operation::HeadObject(request) => {
            body.none().await?;
            objects_read::head(call, &request).await?
        }
        Operation::CopyObject(request) => {
            body.none().await?;
            copy::object(call, &request).await?
        }
        Operation::UploadPartCopy(request) => {
            body.none().await?;
            copy_part::part(call, &request).await?
        }
        Operation::GetObjectAttributes(request) => {
            body.none().await?;
            attributes::get(call, &request).await?
        }
        Operation::PutObject(request) => objects_write::put(call, body, request).await?,
        Operation::UploadPart(request) => objects_write::upload_part(call, body, &request).await?,
        Operation::DeleteObject(request) => {
            body.none().await?;
            delete::one(call, request).await?
        }
        Operation::DeleteObjects(request) => delete::many(call, body, &request).await?,
        Operation::ListObjects(request) => {
            body.none().await?;
            list::objects(call, &request).await?
        }
        Operation::ListObjectsV2(request) => {
            body.none().await?;
            list::objects_v2(call, &request).await?
        }
        Operation::ListBuckets(request) => {
            body.none().await?;
            buckets::list(call, request).await?
        }
        Operation::CreateBucket(request) => buckets::create(call, body, &request).await?,
        Operation::HeadBucket(request) => {
            body.none().await?;
            buckets::head(call, &request).await?
        }
        Operation::DeleteBucket(request) => {
            body.none().await?;
            buckets::delete(call, &request).await?
        }
        Operation::GetBucketLocation(request) => {
            body.none().await?;
            buckets::location(call, &request).await?
        }
        Operation::GetObjectTagging(request) => {
            body.none().await?;
            tagging::get(call, &request).await?
        }
        Operation::PutObjectTagging(request) => tagging::put(call, body, &request).await?,
        Operation::DeleteObjectTagging(request) => {
            body.none().await?;
            tagging::delete(call, &request).await?
        }
        Operation::GetBucketVersioning(request) => {
            body.none().await?;
            versioning::get(call, &request).await?
        }
        Operation::PutBucketVersioning(request) => versioning::put(call, body, &request).await?,
        Operation::ListObjectVersions(request) => {
            body.none().await?;
            versioning::list(call, &request).await?
        }
        Operation::CreateMultipartUpload(request) => {
            body.none().await?;
            multipart::create(call, request).await?
        }
        Operation::CompleteMultipartUpload(request) => multipart::complete(call, body, &request).await?,
        Operation::AbortMultipartUpload(request) => {
            body.none().await?;
            multipart::abort(call, &request).await?
        }
        Operation::ListMultipartUploads(request) => {
            body.none().await?;
            uploads::list(call, &request).await?
        }
        Operation::ListParts(request) => {
            body.none().await?;
            uploads::parts(call, &request).await?
        }
        Operation::GetBucketCors(request) => {
            body.none().await?;
            bucket_documents::get_cors(call, &request).await?
        }
        Operation::PutBucketCors(request) => bucket_documents::put_cors(call, body, &request).await?,
        Operation::DeleteBucketCors(request) => {
            body.none().await?;
            bucket_documents::delete_cors(call, &request).await?
        }
        Operation::GetBucketTagging(request) => {
            body.none().await?;
            bucket_documents::get_tagging(call, &request).await?
        }
        Operation::PutBucketTagging(request) => bucket_documents::put_tagging(call, body, &request).await?,
        Operation::DeleteBucketTagging(request) => {
            body.none().await?;
            bucket_documents::delete_tagging(call, &request).await?
        }
        Operation::GetBucketPolicy(request) => {
            body.none().await?;
            access::get_policy(call, &request).await?
        }
        Operation::GetBucketPolicyStatus(request) => {
            body.none().await?;
            access::get_policy_status(call, &request).await?
        }
        Operation::PutBucketPolicy(request) => access::put_policy(call, body, &request).await?,
        Operation::DeleteBucketPolicy(request) => {
            body.none().await?;
            access::delete_policy(call, &request).await?
        }
        Operation::GetBucketAcl(request) => {
            body.none().await?;
            access::get_bucket_acl(call, &request).await?
        }
        Operation::PutBucketAcl(request) => access::put_bucket_acl(call, body, &request).await?,
        Operation::GetBucketOwnershipControls(request) => {
            body.none().await?;
            access::get_ownership(call, &request).await?
        }
        Operation::PutBucketOwnershipControls(request) => access::put_ownership(call, body, &request).await?,
        Operation::DeleteBucketOwnershipControls(request) => {
            body.none().await?;
            access::delete_ownership(call, &request).await?
        }
        Operation::GetPublicAccessBlock(request) => {
            body.none().await?;
            public_access::get(call, &request).await?
        }
        Operation::PutPublicAccessBlock(request) => public_access::put(call, body, &request).await?,
        Operation::DeletePublicAccessBlock(request) => {
            body.none().await?;
            public_access::delete(call, &request).await?
        }
        Operation::GetObjectAcl(request) => {
            body.none().await?;
            access::get_object_acl(call, &request).await?
        }
        Operation::PutObjectAcl(request) => access::put_object_acl(call, body, &request).await?,
        Operation::PutBucketEncryption(BucketRequest { bucket }) => {
            check_encryption(&body.document().await?)?;
            call.bucket(&bucket).await?;
            Reply::empty(StatusCode::OK)
        }
        Operation::UnsetOfBucket(unset, BucketRequest { bucket })
        | Operation::UnsetOfObject(unset, ObjectRequest { bucket, .. }) => {
            body.none().await?;
            call.bucket(&bucket).await?;
            unset.answer(&bucket)?
        }
    };
    Ok(Answer::Whole(reply))
}

/// Whoever holds an access key.
#[derive(Debug)]
pub(crate) enum Identity<'a> {
    /// The holder of the gateway's root keys.
    Root(&'a RootKeys),
    /// A user.
    User(Arc<User>),
}

impl Identity<'_> {
    /// The secret that belongs to the access key.
    pub(crate) fn secret(&self) -> &str {
        match self {
            Self::Root(keys) => &keys.secret_key,
            Self::User(user) => &user.secret,
        }
    }

    /// Name for people.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Root(_) => ROOT_NAME,
            Self::User(user) => &user.row.name,
        }
    }

    /// Who asks, once the signature has held.
    pub(crate) fn caller(&self) -> Caller {
        match self {
            Self::Root(_) => Caller::root(),
            Self::User(user) => Caller::user(user),
        }
    }
}

/// Who holds an access key.
///
/// # Errors
/// InvalidAccessKeyId when nobody does.
pub(crate) async fn identify<'a>(
    shared: &'a Shared,
    store: &Store,
    access_key: &str,
) -> Result<Identity<'a>> {
    if access_key == shared.root.access_key {
        return Ok(Identity::Root(&shared.root));
    }
    match store.user(access_key).await {
        Ok(user) => Ok(Identity::User(user)),
        Err(Error::Rejected(Rejection::NoSuchAccessKey)) => {
            Err(S3Error::from(ErrorCode::InvalidAccessKeyId).with("AWSAccessKeyId", access_key))
        }
        Err(error) => Err(s3_error(error)),
    }
}

/// Changes a bucket, with a line of the audit log: who changed which, and what became of it. The change is on the heap,
/// as few requests are one.
async fn audited<T>(
    call: &Call<'_>,
    bucket: &str,
    operation: OperationName,
    change: BoxFuture<'_, Result<T>>,
) -> Result<T> {
    let line = AuditLine::new(|outcome| {
        info!(
            target: AUDIT,
            request_id = %format_args!("{:016X}", call.request_id),
            access_key = call.access_key.unwrap_or_default(),
            operation = operation.as_str(),
            bucket,
            outcome,
            "a change of a bucket"
        );
    });
    line.during(change, |error| error.code().as_str()).await
}

/// The canonical id of a user: what S3 calls an owner.
pub(crate) fn owner(user: UserId) -> Owner {
    Owner {
        id: format!("{:064x}", user.0),
        display_name: match user {
            ROOT_USER => ROOT_NAME.to_owned(),
            ANONYMOUS_USER => ANONYMOUS_NAME.to_owned(),
            user => user.to_string(),
        },
    }
}

fn no_such_bucket(name: &str) -> S3Error {
    S3Error::from(ErrorCode::NoSuchBucket).with("BucketName", name)
}

/// Refuses with AccessDenied if the client expects another owner of the bucket.
fn check_owner(expected: Option<&str>, bucket: &BucketRow) -> Result<()> {
    match expected {
        Some(expected) if expected != owner(bucket.creator).id => Err(ErrorCode::AccessDenied.into()),
        _ => Ok(()),
    }
}
