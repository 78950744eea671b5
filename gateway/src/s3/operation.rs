//! The typed requests of the operations offered, and how they are read from
//! a request's head. Reading needs an [`Authenticated`]: nobody gets an
//! operation without a signature that held. Documents in bodies are read by
//! [`super::request_xml`] once the body has been verified.

use super::accepted;
use super::acl::{CannedAcl, ObjectOwnership};
use super::attributes::GetObjectAttributes;
use super::body::{BodyPlan, BodyUse};
use super::checksum::{ChecksumAlgorithm, ChecksumType, ObjectChecksum};
use super::conditions::{self, ReadConditions, WriteCondition};
use super::copy::{CopyObject, UploadPartCopy};
use super::error::{ErrorCode, Result, S3Error};
use super::head::{Head, Level};
use super::limits;
use super::list_uploads::{ListMultipartUploads, ListParts};
use super::listing::{ListBuckets, ListObjects, ListObjectsV2};
use super::metadata::{ObjectHeaders, ResponseOverrides};
use super::names::check_bucket_name;
use super::range::RangeRequest;
use super::route::{OperationName, Route};
use super::sigv4::Authenticated;
use super::tagging::Tags;
use super::versioning::{ListObjectVersions, version_id};

/// A request, understood.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// `x-amz-expected-bucket-owner`: refuse with AccessDenied if the bucket
    /// has another owner.
    pub expected_bucket_owner: Option<String>,
    /// What the head says of the body.
    pub body: BodyPlan,
    /// What the operation does with the body.
    pub body_use: BodyUse,
}

/// An operation that is offered, with all it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Lists the caller's buckets.
    ListBuckets(ListBuckets),
    /// Makes a bucket; its body is [`super::request_xml::CreateBucketBody`].
    CreateBucket(CreateBucket),
    /// Whether a bucket exists and may be seen.
    HeadBucket(BucketRequest),
    /// Removes an empty bucket.
    DeleteBucket(BucketRequest),
    /// Where a bucket lives.
    GetBucketLocation(BucketRequest),
    /// Lists objects, first version of the operation.
    ListObjects(ListObjects),
    /// Lists objects, second version.
    ListObjectsV2(ListObjectsV2),
    /// Stores an object.
    PutObject(PutObject),
    /// Stores a copy of an object.
    CopyObject(CopyObject),
    /// Reads an object or a range of it.
    GetObject(ReadObject),
    /// As GetObject, without the bytes.
    HeadObject(ReadObject),
    /// Deletes an object.
    DeleteObject(DeleteObject),
    /// Deletes up to 1000 objects; its body is [`super::request_xml::DeleteObjectsBody`].
    DeleteObjects(BucketRequest),
    /// Tells the tags of an object.
    GetObjectTagging(ObjectRequest),
    /// Replaces the tags of an object; its body is [`Tags::parse_document`].
    PutObjectTagging(ObjectRequest),
    /// Takes all tags from an object.
    DeleteObjectTagging(ObjectRequest),
    /// Whether a bucket keeps old versions.
    GetBucketVersioning(BucketRequest),
    /// Sets that; its body is [`super::versioning::VersioningStatus::parse_document`].
    PutBucketVersioning(BucketRequest),
    /// Lists versions and delete markers.
    ListObjectVersions(ListObjectVersions),
    /// Starts a multipart upload.
    CreateMultipartUpload(CreateMultipartUpload),
    /// Stores a part.
    UploadPart(UploadPart),
    /// Makes a part of an object's bytes.
    UploadPartCopy(UploadPartCopy),
    /// Tells an object's size, checksum and parts.
    GetObjectAttributes(GetObjectAttributes),
    /// Makes an object of parts; its body is [`super::request_xml::CompleteBody`].
    CompleteMultipartUpload(CompleteMultipartUpload),
    /// Gives an upload up.
    AbortMultipartUpload(UploadRequest),
    /// Lists open uploads.
    ListMultipartUploads(ListMultipartUploads),
    /// Lists the parts of an open upload.
    ListParts(ListParts),
    /// Reads a bucket's CORS rules.
    GetBucketCors(BucketRequest),
    /// Replaces a bucket's CORS rules; its body is [`super::cors::CorsRules`].
    PutBucketCors(BucketRequest),
    /// Removes a bucket's CORS rules.
    DeleteBucketCors(BucketRequest),
    /// Reads a bucket's tags.
    GetBucketTagging(BucketRequest),
    /// Replaces a bucket's tags; its body is [`super::tagging::Tags`].
    PutBucketTagging(BucketRequest),
    /// Removes a bucket's tags.
    DeleteBucketTagging(BucketRequest),
    /// Reads a bucket's policy.
    GetBucketPolicy(BucketRequest),
    /// Whether a bucket's policy lets in the public.
    GetBucketPolicyStatus(BucketRequest),
    /// Replaces a bucket's policy; its body is the policy.
    PutBucketPolicy(BucketRequest),
    /// Removes a bucket's policy.
    DeleteBucketPolicy(BucketRequest),
    /// Reads a bucket's access control list.
    GetBucketAcl(BucketRequest),
    /// Replaces a bucket's access control list; its body may be an [`super::acl`] document.
    PutBucketAcl(PutBucketAcl),
    /// Whether lists count in a bucket.
    GetBucketOwnershipControls(BucketRequest),
    /// Changes whether lists count in a bucket; its body is an [`super::acl::ObjectOwnership`].
    PutBucketOwnershipControls(BucketRequest),
    /// Lists count again.
    DeleteBucketOwnershipControls(BucketRequest),
    /// Reads what keeps out the public.
    GetPublicAccessBlock(BucketRequest),
    /// Replaces that; its body is [`super::public_access::PublicAccessBlock`].
    PutPublicAccessBlock(BucketRequest),
    /// Nothing keeps out the public any more but lists and policies.
    DeletePublicAccessBlock(BucketRequest),
    /// Reads an object's access control list.
    GetObjectAcl(ObjectRequest),
    /// Replaces an object's access control list; its body may be an [`super::acl`] document.
    PutObjectAcl(PutObjectAcl),
}

/// Of a bucket, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRequest {
    /// The bucket.
    pub bucket: String,
}

/// Of an object or one of its versions, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRequest {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// `versionId`; without it the current version is meant.
    pub version_id: Option<String>,
}

impl ObjectRequest {
    /// Bucket, key, and version if one is named.
    pub fn named(&self) -> (&str, &str, Option<&str>) {
        (&self.bucket, &self.key, self.version_id.as_deref())
    }
}

/// CreateBucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateBucket {
    /// The bucket.
    pub bucket: String,
    /// `x-amz-acl`
    pub acl: Option<CannedAcl>,
    /// `x-amz-object-ownership`
    pub ownership: Option<ObjectOwnership>,
}

/// PutBucketAcl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBucketAcl {
    /// The bucket.
    pub bucket: String,
    /// `x-amz-acl`, if the list is not in the body.
    pub acl: Option<CannedAcl>,
}

/// PutObjectAcl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutObjectAcl {
    /// The object.
    pub object: ObjectRequest,
    /// `x-amz-acl`, if the list is not in the body.
    pub acl: Option<CannedAcl>,
}

/// PutObject. Length and checksum are the [`BodyPlan`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// System headers and user metadata.
    pub headers: ObjectHeaders,
    /// `x-amz-tagging`
    pub tags: Tags,
    /// `x-amz-acl`
    pub acl: Option<CannedAcl>,
    /// `x-amz-storage-class` as sent: a class of the FAT, or InvalidStorageClass.
    pub storage_class: Option<String>,
    /// To be decided together with the write.
    pub condition: WriteCondition,
}

/// GetObject and HeadObject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// `versionId`; without it the current version is meant.
    pub version_id: Option<String>,
    /// To be decided when ETag and time are known.
    pub conditions: ReadConditions,
    /// One range, or the whole object.
    pub range: Option<RangeRequest>,
    /// `partNumber`: this part of the object; not together with a range.
    pub part_number: Option<u32>,
    /// `response-…`
    pub overrides: ResponseOverrides,
    /// `x-amz-checksum-mode: ENABLED`
    pub checksum_mode: bool,
}

/// DeleteObject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// `versionId`: this version is removed for good.
    pub version_id: Option<String>,
    /// To be decided together with the delete.
    pub condition: WriteCondition,
}

/// CreateMultipartUpload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateMultipartUpload {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// System headers and user metadata of the object to be.
    pub headers: ObjectHeaders,
    /// Its tags.
    pub tags: Tags,
    /// Its `x-amz-acl`.
    pub acl: Option<CannedAcl>,
    /// As in [`PutObject`].
    pub storage_class: Option<String>,
    /// The checksum that parts and object shall have, if one was asked for.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// Of one upload, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRequest {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// As CreateMultipartUpload gave it; opaque here.
    pub upload_id: String,
}

/// UploadPart. Length and checksum are the [`BodyPlan`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadPart {
    /// The upload.
    pub upload: UploadRequest,
    /// 1 to 10,000.
    pub part_number: u32,
}

/// CompleteMultipartUpload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteMultipartUpload {
    /// The upload.
    pub upload: UploadRequest,
    /// To be decided together with the write.
    pub condition: WriteCondition,
    /// The object's checksum as the client knows it, to be compared.
    pub checksum: Option<ObjectChecksum>,
    /// The type the client expects, to be compared with the upload's.
    pub checksum_type: Option<ChecksumType>,
    /// `x-amz-mp-object-size`: the sum of all parts, to be compared.
    pub object_bytes: Option<u64>,
}

impl Request {
    /// Reads the operation that `route` found from the head.
    ///
    /// # Errors
    /// NotImplemented for operations, headers and parameters that are not
    /// offered; InvalidArgument and its kin for what cannot be read;
    /// InvalidBucketName; the errors of [`BodyPlan::new`].
    pub fn parse(head: &Head<'_>, route: &Route, authenticated: &Authenticated) -> Result<Self> {
        let name = route.require_offered()?;
        accepted::check(head, name)?;
        if head.level() != Level::Service {
            check_bucket_name(head.bucket().unwrap_or(""))?;
        }
        let body_use = body_use(name);
        let body = BodyPlan::new(head, authenticated, body_use)?;
        if must_be_checked(name) && !body.has_integrity_check() {
            return Err(S3Error::new(
                ErrorCode::InvalidRequest,
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            ));
        }
        let operation = operation(head, name)?;
        if let Operation::GetObject(read) | Operation::HeadObject(read) = &operation
            && read.overrides != ResponseOverrides::default()
            && authenticated.access_key().is_none()
        {
            return Err(S3Error::new(
                ErrorCode::InvalidRequest,
                "Request specific response headers cannot be used for anonymous GET requests.",
            ));
        }
        Ok(Self {
            operation,
            expected_bucket_owner: head.amz("x-amz-expected-bucket-owner")?.map(str::to_owned),
            body,
            body_use,
        })
    }
}

impl Operation {
    /// Its name in the API reference: the label of metrics and log lines.
    pub fn name(&self) -> OperationName {
        match self {
            Self::ListBuckets(_) => OperationName::ListBuckets,
            Self::CreateBucket(_) => OperationName::CreateBucket,
            Self::HeadBucket(_) => OperationName::HeadBucket,
            Self::DeleteBucket(_) => OperationName::DeleteBucket,
            Self::GetBucketLocation(_) => OperationName::GetBucketLocation,
            Self::ListObjects(_) => OperationName::ListObjects,
            Self::ListObjectsV2(_) => OperationName::ListObjectsV2,
            Self::PutObject(_) => OperationName::PutObject,
            Self::CopyObject(_) => OperationName::CopyObject,
            Self::GetObject(_) => OperationName::GetObject,
            Self::HeadObject(_) => OperationName::HeadObject,
            Self::DeleteObject(_) => OperationName::DeleteObject,
            Self::DeleteObjects(_) => OperationName::DeleteObjects,
            Self::GetObjectTagging(_) => OperationName::GetObjectTagging,
            Self::PutObjectTagging(_) => OperationName::PutObjectTagging,
            Self::DeleteObjectTagging(_) => OperationName::DeleteObjectTagging,
            Self::GetBucketVersioning(_) => OperationName::GetBucketVersioning,
            Self::PutBucketVersioning(_) => OperationName::PutBucketVersioning,
            Self::ListObjectVersions(_) => OperationName::ListObjectVersions,
            Self::CreateMultipartUpload(_) => OperationName::CreateMultipartUpload,
            Self::UploadPart(_) => OperationName::UploadPart,
            Self::UploadPartCopy(_) => OperationName::UploadPartCopy,
            Self::GetObjectAttributes(_) => OperationName::GetObjectAttributes,
            Self::CompleteMultipartUpload(_) => OperationName::CompleteMultipartUpload,
            Self::AbortMultipartUpload(_) => OperationName::AbortMultipartUpload,
            Self::ListMultipartUploads(_) => OperationName::ListMultipartUploads,
            Self::ListParts(_) => OperationName::ListParts,
            Self::GetBucketCors(_) => OperationName::GetBucketCors,
            Self::PutBucketCors(_) => OperationName::PutBucketCors,
            Self::DeleteBucketCors(_) => OperationName::DeleteBucketCors,
            Self::GetBucketTagging(_) => OperationName::GetBucketTagging,
            Self::PutBucketTagging(_) => OperationName::PutBucketTagging,
            Self::DeleteBucketTagging(_) => OperationName::DeleteBucketTagging,
            Self::PutObjectAcl(_) => OperationName::PutObjectAcl,
            Self::GetObjectAcl(_) => OperationName::GetObjectAcl,
            Self::DeleteBucketOwnershipControls(_) => OperationName::DeleteBucketOwnershipControls,
            Self::PutBucketOwnershipControls(_) => OperationName::PutBucketOwnershipControls,
            Self::GetBucketOwnershipControls(_) => OperationName::GetBucketOwnershipControls,
            Self::GetPublicAccessBlock(_) => OperationName::GetPublicAccessBlock,
            Self::PutPublicAccessBlock(_) => OperationName::PutPublicAccessBlock,
            Self::DeletePublicAccessBlock(_) => OperationName::DeletePublicAccessBlock,
            Self::PutBucketAcl(_) => OperationName::PutBucketAcl,
            Self::GetBucketAcl(_) => OperationName::GetBucketAcl,
            Self::DeleteBucketPolicy(_) => OperationName::DeleteBucketPolicy,
            Self::PutBucketPolicy(_) => OperationName::PutBucketPolicy,
            Self::GetBucketPolicyStatus(_) => OperationName::GetBucketPolicyStatus,
            Self::GetBucketPolicy(_) => OperationName::GetBucketPolicy,
        }
    }
}

/// Whether S3 wants a Content-MD5 or a checksum of the operation's document.
fn must_be_checked(name: OperationName) -> bool {
    matches!(
        name,
        OperationName::DeleteObjects | OperationName::PutBucketCors | OperationName::PutBucketTagging
    )
}

fn body_use(name: OperationName) -> BodyUse {
    match name {
        OperationName::PutObject | OperationName::UploadPart => BodyUse::Object,
        OperationName::CreateBucket => BodyUse::Document {
            bytes_max: limits::CREATE_BUCKET_BODY_MAX,
            checksummed: true,
        },
        OperationName::PutBucketVersioning => BodyUse::Document {
            bytes_max: limits::VERSIONING_BODY_MAX,
            checksummed: true,
        },
        OperationName::DeleteObjects => BodyUse::Document {
            bytes_max: limits::DELETE_OBJECTS_BODY_MAX,
            checksummed: true,
        },
        OperationName::PutBucketCors => BodyUse::Document {
            bytes_max: limits::CORS_BODY_MAX,
            checksummed: true,
        },
        OperationName::PutObjectTagging | OperationName::PutBucketTagging => BodyUse::Document {
            bytes_max: limits::TAGGING_BODY_MAX,
            checksummed: true,
        },
        OperationName::PutBucketPolicy => BodyUse::Document {
            bytes_max: limits::BUCKET_POLICY_BYTES_MAX,
            checksummed: true,
        },
        OperationName::PutBucketAcl
        | OperationName::PutObjectAcl
        | OperationName::PutBucketOwnershipControls
        | OperationName::PutPublicAccessBlock => BodyUse::Document {
            bytes_max: limits::ACL_BODY_MAX,
            checksummed: true,
        },
        OperationName::CompleteMultipartUpload => BodyUse::Document {
            bytes_max: limits::COMPLETE_BODY_MAX,
            checksummed: false,
        },
        _ => BodyUse::None,
    }
}

fn operation(head: &Head<'_>, name: OperationName) -> Result<Operation> {
    let without_conditions = || conditions::refuse_all(head);
    Ok(match name {
        OperationName::ListBuckets => Operation::ListBuckets(ListBuckets::parse(head)?),
        OperationName::CreateBucket => Operation::CreateBucket(create_bucket(head)?),
        OperationName::HeadBucket => Operation::HeadBucket(bucket_request(head)?),
        OperationName::DeleteBucket => Operation::DeleteBucket(bucket_request(head)?),
        OperationName::GetBucketLocation => Operation::GetBucketLocation(bucket_request(head)?),
        OperationName::DeleteObjects => Operation::DeleteObjects(bucket_request(head)?),
        OperationName::GetBucketVersioning => Operation::GetBucketVersioning(bucket_request(head)?),
        OperationName::PutBucketVersioning => Operation::PutBucketVersioning(bucket_request(head)?),
        OperationName::ListObjectVersions => Operation::ListObjectVersions(ListObjectVersions::parse(head)?),
        OperationName::ListObjects => Operation::ListObjects(ListObjects::parse(head)?),
        OperationName::ListObjectsV2 => Operation::ListObjectsV2(ListObjectsV2::parse(head)?),
        OperationName::PutObject => Operation::PutObject(put_object(head)?),
        OperationName::CopyObject => Operation::CopyObject(CopyObject::parse(head)?),
        OperationName::GetObject => Operation::GetObject(read_object(head)?),
        OperationName::HeadObject => Operation::HeadObject(read_object(head)?),
        OperationName::DeleteObject => Operation::DeleteObject(DeleteObject {
            bucket: bucket(head)?,
            key: key(head)?,
            version_id: version_id(head)?,
            condition: WriteCondition::parse_delete(head)?,
        }),
        OperationName::UploadPartCopy => Operation::UploadPartCopy(UploadPartCopy::parse(head)?),
        OperationName::GetObjectAttributes => {
            Operation::GetObjectAttributes(GetObjectAttributes::parse(head)?)
        }
        OperationName::GetObjectTagging => Operation::GetObjectTagging(object_request(head)?),
        OperationName::PutObjectTagging => Operation::PutObjectTagging(object_request(head)?),
        OperationName::DeleteObjectTagging => Operation::DeleteObjectTagging(object_request(head)?),
        OperationName::CreateMultipartUpload => {
            without_conditions()?;
            Operation::CreateMultipartUpload(CreateMultipartUpload {
                bucket: bucket(head)?,
                key: key(head)?,
                headers: ObjectHeaders::parse(head)?,
                tags: Tags::parse_header(head)?,
                acl: CannedAcl::parse_header(head)?,
                storage_class: storage_class(head)?,
                checksum: upload_checksum(head)?,
            })
        }
        OperationName::UploadPart => {
            without_conditions()?;
            Operation::UploadPart(UploadPart {
                upload: upload_request(head)?,
                part_number: parse_part_number(head.parameter("partNumber")?.unwrap_or(""))?,
            })
        }
        OperationName::CompleteMultipartUpload => Operation::CompleteMultipartUpload(complete(head)?),
        OperationName::AbortMultipartUpload => {
            without_conditions()?;
            Operation::AbortMultipartUpload(upload_request(head)?)
        }
        OperationName::ListMultipartUploads => {
            Operation::ListMultipartUploads(ListMultipartUploads::parse(head)?)
        }
        OperationName::ListParts => Operation::ListParts(ListParts::parse(head)?),
        OperationName::GetBucketCors => Operation::GetBucketCors(bucket_request(head)?),
        OperationName::PutBucketCors => Operation::PutBucketCors(bucket_request(head)?),
        OperationName::DeleteBucketCors => Operation::DeleteBucketCors(bucket_request(head)?),
        OperationName::GetBucketTagging => Operation::GetBucketTagging(bucket_request(head)?),
        OperationName::PutBucketTagging => Operation::PutBucketTagging(bucket_request(head)?),
        OperationName::DeleteBucketTagging => Operation::DeleteBucketTagging(bucket_request(head)?),
        OperationName::GetBucketPolicy => Operation::GetBucketPolicy(bucket_request(head)?),
        OperationName::GetBucketPolicyStatus => Operation::GetBucketPolicyStatus(bucket_request(head)?),
        OperationName::PutBucketPolicy => Operation::PutBucketPolicy(bucket_request(head)?),
        OperationName::DeleteBucketPolicy => Operation::DeleteBucketPolicy(bucket_request(head)?),
        OperationName::GetBucketAcl => Operation::GetBucketAcl(bucket_request(head)?),
        OperationName::PutBucketAcl => Operation::PutBucketAcl(put_bucket_acl(head)?),
        OperationName::GetBucketOwnershipControls => {
            Operation::GetBucketOwnershipControls(bucket_request(head)?)
        }
        OperationName::PutBucketOwnershipControls => {
            Operation::PutBucketOwnershipControls(bucket_request(head)?)
        }
        OperationName::DeleteBucketOwnershipControls => {
            Operation::DeleteBucketOwnershipControls(bucket_request(head)?)
        }
        OperationName::GetPublicAccessBlock => Operation::GetPublicAccessBlock(bucket_request(head)?),
        OperationName::PutPublicAccessBlock => Operation::PutPublicAccessBlock(bucket_request(head)?),
        OperationName::DeletePublicAccessBlock => Operation::DeletePublicAccessBlock(bucket_request(head)?),
        OperationName::GetObjectAcl => Operation::GetObjectAcl(object_request(head)?),
        OperationName::PutObjectAcl => Operation::PutObjectAcl(put_object_acl(head)?),
        other => return Err(S3Error::operation_not_offered(other.as_str())),
    })
}

/// The bucket of a request that has one.
pub(super) fn bucket(head: &Head<'_>) -> Result<String> {
    head.bucket()
        .map(str::to_owned)
        .ok_or_else(|| ErrorCode::InvalidBucketName.into())
}

/// The key of a request that has one.
pub(super) fn key(head: &Head<'_>) -> Result<String> {
    head.key()
        .map(str::to_owned)
        .ok_or_else(|| ErrorCode::InvalidURI.into())
}

/// PutObject, from its head.
pub(super) fn put_object(head: &Head<'_>) -> Result<PutObject> {
    Ok(PutObject {
        bucket: bucket(head)?,
        key: key(head)?,
        headers: ObjectHeaders::parse(head)?,
        tags: Tags::parse_header(head)?,
        acl: CannedAcl::parse_header(head)?,
        storage_class: storage_class(head)?,
        condition: WriteCondition::parse(head)?,
    })
}

fn bucket_request(head: &Head<'_>) -> Result<BucketRequest> {
    conditions::refuse_all(head)?;
    Ok(BucketRequest {
        bucket: bucket(head)?,
    })
}

fn object_request(head: &Head<'_>) -> Result<ObjectRequest> {
    conditions::refuse_all(head)?;
    Ok(ObjectRequest {
        bucket: bucket(head)?,
        key: key(head)?,
        version_id: version_id(head)?,
    })
}

fn create_bucket(head: &Head<'_>) -> Result<CreateBucket> {
    conditions::refuse_all(head)?;
    Ok(CreateBucket {
        bucket: bucket(head)?,
        acl: CannedAcl::parse_header(head)?,
        ownership: ObjectOwnership::parse_header(head)?,
    })
}

fn put_bucket_acl(head: &Head<'_>) -> Result<PutBucketAcl> {
    conditions::refuse_all(head)?;
    Ok(PutBucketAcl {
        bucket: bucket(head)?,
        acl: CannedAcl::parse_header(head)?,
    })
}

fn put_object_acl(head: &Head<'_>) -> Result<PutObjectAcl> {
    Ok(PutObjectAcl {
        object: object_request(head)?,
        acl: CannedAcl::parse_header(head)?,
    })
}

/// The upload of a request that has one.
pub(super) fn upload_request(head: &Head<'_>) -> Result<UploadRequest> {
    let upload_id = head.parameter("uploadId")?.unwrap_or("");
    if upload_id.is_empty() || upload_id.len() > limits::UPLOAD_ID_BYTES_MAX {
        return Err(ErrorCode::NoSuchUpload.into());
    }
    Ok(UploadRequest {
        bucket: bucket(head)?,
        key: key(head)?,
        upload_id: upload_id.to_owned(),
    })
}

fn read_object(head: &Head<'_>) -> Result<ReadObject> {
    let checksum_mode = match head.amz("x-amz-checksum-mode")? {
        None => false,
        Some(mode) if mode.eq_ignore_ascii_case("ENABLED") => true,
        Some(mode) => {
            return Err(S3Error::argument(
                "x-amz-checksum-mode",
                mode,
                "Only ENABLED is a checksum mode",
            ));
        }
    };
    let part_number = head.parameter("partNumber")?.map(parse_part_number).transpose()?;
    let range = head.header("range")?;
    if part_number.is_some() && range.is_some() {
        return Err(S3Error::new(
            ErrorCode::InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter",
        ));
    }
    Ok(ReadObject {
        bucket: bucket(head)?,
        key: key(head)?,
        version_id: version_id(head)?,
        conditions: ReadConditions::parse(head)?,
        range: range.and_then(RangeRequest::parse),
        part_number,
        overrides: ResponseOverrides::parse(head)?,
        checksum_mode,
    })
}

fn complete(head: &Head<'_>) -> Result<CompleteMultipartUpload> {
    let mut checksum = None;
    for algorithm in ChecksumAlgorithm::ALL {
        if let Some(text) = head.amz(algorithm.header())?
            && checksum
                .replace(ObjectChecksum::parse(algorithm, text)?)
                .is_some()
        {
            return Err(S3Error::new(
                ErrorCode::InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
    }
    let object_bytes = match head.amz("x-amz-mp-object-size")? {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            S3Error::argument("x-amz-mp-object-size", text, "The object size is not a number")
        })?),
    };
    Ok(CompleteMultipartUpload {
        upload: upload_request(head)?,
        condition: WriteCondition::parse(head)?,
        checksum,
        checksum_type: head
            .amz("x-amz-checksum-type")?
            .map(ChecksumType::parse)
            .transpose()?,
        object_bytes,
    })
}

fn upload_checksum(head: &Head<'_>) -> Result<Option<(ChecksumAlgorithm, ChecksumType)>> {
    let algorithm = match head.amz("x-amz-checksum-algorithm")? {
        Some(text) => Some(ChecksumAlgorithm::parse(text)?),
        None => None,
    };
    let kind = head
        .amz("x-amz-checksum-type")?
        .map(ChecksumType::parse)
        .transpose()?;
    match (algorithm, kind) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(S3Error::new(
            ErrorCode::InvalidRequest,
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
        )),
        (Some(algorithm), kind) => {
            let kind = kind.unwrap_or(algorithm.default_type());
            if !algorithm.allows(kind) {
                let message = format!(
                    "The {} checksum type cannot be used with the {} checksum algorithm.",
                    kind.as_str(),
                    algorithm.as_str().to_ascii_lowercase()
                );
                return Err(S3Error::new(ErrorCode::InvalidRequest, message));
            }
            Ok(Some((algorithm, kind)))
        }
    }
}

/// `x-amz-storage-class`, which may be that of a class.
pub(super) fn storage_class(head: &Head<'_>) -> Result<Option<String>> {
    match head.amz("x-amz-storage-class")? {
        Some(class) if class.is_empty() || class.len() > limits::STORAGE_CLASS_BYTES_MAX => {
            Err(S3Error::from(ErrorCode::InvalidStorageClass).with("StorageClassRequested", class))
        }
        class => Ok(class.map(str::to_owned)),
    }
}

/// A part number: 1 to 10,000.
///
/// # Errors
/// InvalidArgument with S3's message.
pub fn parse_part_number(text: &str) -> Result<u32> {
    let number = text
        .parse()
        .ok()
        .filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    number
        .filter(|number| (1..=limits::PARTS_MAX).contains(number))
        .ok_or_else(|| {
            S3Error::argument(
                "partNumber",
                text,
                "Part number must be an integer between 1 and 10000, inclusive",
            )
        })
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
