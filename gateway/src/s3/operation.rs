//! The typed requests of the operations offered, and how they are read from
//! a request's head. Reading needs an [`Authenticated`]: nobody gets an
//! operation without a signature that held. Documents in bodies are read by
//! [`super::request_xml`] once the body has been verified.

mod parse;

use super::accepted;
use super::acl::{CannedAcl, ObjectOwnership};
use super::attributes::GetObjectAttributes;
use super::body::{BodyPlan, BodyUse};
use super::checksum::{ChecksumAlgorithm, ChecksumType, ObjectChecksum};
use super::conditions::{ReadConditions, WriteCondition};
use super::copy::{CopyObject, UploadPartCopy};
use super::error::{ErrorCode, Result, S3Error};
use super::head::{Head, Level};
use super::list_uploads::{ListMultipartUploads, ListParts};
use super::listing::{ListBuckets, ListObjects, ListObjectsV2};
use super::metadata::{ObjectHeaders, ResponseOverrides};
use super::names::check_bucket_name;
use super::range::RangeRequest;
use super::route::{OperationName, Route};
use super::sigv4::Authenticated;
use super::tagging::Tags;
use super::unset::Unset;
use super::versioning::ListObjectVersions;
use parse::{body_use, must_be_checked, operation};

pub use parse::parse_part_number;
pub(super) use parse::{bucket, key, put_object, storage_class, upload_request};

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
    /// Asks for encryption as it is anyway; its body is read by [`super::unset::check_encryption`].
    PutBucketEncryption(BucketRequest),
    /// About a feature of a bucket that was never set.
    UnsetOfBucket(&'static Unset, BucketRequest),
    /// About a feature of an object that was never set.
    UnsetOfObject(&'static Unset, ObjectRequest),
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
            Self::PutBucketEncryption(_) => OperationName::PutBucketEncryption,
            Self::UnsetOfBucket(unset, _) | Self::UnsetOfObject(unset, _) => unset.name,
        }
    }
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
