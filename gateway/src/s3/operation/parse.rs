//! Reading what each operation asks for out of a request's head, and which body it may have.

use super::{
    BucketRequest, CompleteMultipartUpload, CreateBucket, CreateMultipartUpload, DeleteObject, ObjectRequest,
    Operation, PutBucketAcl, PutObject, PutObjectAcl, ReadObject, UploadPart, UploadRequest,
};
use crate::s3::acl::{CannedAcl, ObjectOwnership};
use crate::s3::attributes::GetObjectAttributes;
use crate::s3::body::BodyUse;
use crate::s3::checksum::{ChecksumAlgorithm, ChecksumType, ObjectChecksum};
use crate::s3::conditions::{self, ReadConditions, WriteCondition};
use crate::s3::copy::{CopyObject, UploadPartCopy};
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::head::{Head, Level};
use crate::s3::limits;
use crate::s3::list_uploads::{ListMultipartUploads, ListParts};
use crate::s3::listing::{ListBuckets, ListObjects, ListObjectsV2};
use crate::s3::metadata::{ObjectHeaders, ResponseOverrides};
use crate::s3::range::RangeRequest;
use crate::s3::route::OperationName;
use crate::s3::tagging::Tags;
use crate::s3::unset::Unset;
use crate::s3::versioning::{ListObjectVersions, version_id};

/// Whether S3 wants a Content-MD5 or a checksum of the operation's document.
pub(super) fn must_be_checked(name: OperationName) -> bool {
    matches!(
        name,
        OperationName::DeleteObjects | OperationName::PutBucketCors | OperationName::PutBucketTagging
    )
}

pub(super) fn body_use(name: OperationName) -> BodyUse {
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
        | OperationName::PutBucketEncryption
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

pub(super) fn operation(head: &Head<'_>, name: OperationName) -> Result<Operation> {
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
        OperationName::PutBucketEncryption => Operation::PutBucketEncryption(bucket_request(head)?),
        other => match Unset::of(other) {
            Some(unset) if head.level() == Level::Object => {
                Operation::UnsetOfObject(unset, object_request(head)?)
            }
            Some(unset) => Operation::UnsetOfBucket(unset, bucket_request(head)?),
            None => return Err(S3Error::operation_not_offered(other.as_str())),
        },
    })
}

/// The bucket of a request that has one.
pub(in crate::s3) fn bucket(head: &Head<'_>) -> Result<String> {
    head.bucket()
        .map(str::to_owned)
        .ok_or_else(|| ErrorCode::InvalidBucketName.into())
}

/// The key of a request that has one.
pub(in crate::s3) fn key(head: &Head<'_>) -> Result<String> {
    head.key()
        .map(str::to_owned)
        .ok_or_else(|| ErrorCode::InvalidURI.into())
}

/// PutObject, from its head.
pub(in crate::s3) fn put_object(head: &Head<'_>) -> Result<PutObject> {
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
pub(in crate::s3) fn upload_request(head: &Head<'_>) -> Result<UploadRequest> {
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
pub(in crate::s3) fn storage_class(head: &Head<'_>) -> Result<Option<String>> {
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
