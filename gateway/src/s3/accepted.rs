//! What each operation accepts beside its own fields. Whatever acts in S3
//! and is not read by the operation is refused here, so that nothing is
//! accepted and ignored.

use super::checksum::ChecksumAlgorithm;
use super::error::{ErrorCode, Result, S3Error};
use super::head::Head;
use super::route::{OperationName, Route};
use super::unset::Unset;

/// Parameters of query authentication; read by [`super::sigv4`].
const AUTHENTICATION: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
];

/// `x-amz-…` fields that every request may have. Request-payer concerns only
/// buckets whose requesters pay, and there are none; the last two carry
/// nothing that acts.
const COMMON: [&str; 7] = [
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
    "x-amz-expected-bucket-owner",
    "x-amz-request-payer",
    "x-amz-user-agent",
    "x-amz-cf-id",
];

/// The version of the S3 API, the only one that there is: SDKs whose clients are made for a version of it
/// name it in `x-amz-api-version` (aws-sdk-cpp, which pyarrow is built on).
const API_VERSION: &str = "2006-03-01";

/// Parameters that act on some operation but choose none.
const ACTING: [&str; 3] = ["versionId", "partNumber", "uploadId"];

/// Refuses parameters and headers that act and are not offered.
///
/// # Errors
/// NotImplemented naming the field; InvalidArgument for parameters that the
/// operation does not have.
pub(super) fn check(head: &Head<'_>, operation: OperationName) -> Result<()> {
    for (name, value) in head.query() {
        check_parameter(operation, name, value)?;
    }
    for (name, value) in head.headers() {
        let name = name.as_str();
        if name.starts_with("x-amz-") {
            let value = std::str::from_utf8(value.as_bytes())
                .map_err(|_| S3Error::argument(name, "", "The header is not UTF-8"))?;
            check_amz(operation, name, value.trim())?;
        } else if name.starts_with("x-ullage-") || (name == "content-range" && writes_bytes(operation)) {
            return Err(S3Error::header_not_offered(name));
        }
    }
    Ok(())
}

fn check_parameter(operation: OperationName, name: &str, value: &str) -> Result<()> {
    if parameters(operation).contains(&name) || AUTHENTICATION.contains(&name) || name == "x-id" {
        return Ok(());
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("x-amz-") {
        return check_amz(operation, &lower, value);
    }
    if ACTING.contains(&name) || Route::is_distinguishing(name) || lower.starts_with("x-ullage-") {
        return Err(S3Error::parameter_not_offered(name));
    }
    // S3 leaves parameters that begin with `x-` to its callers ("custom
    // access log information"), and reads of objects ignore strange ones.
    if lower.starts_with("x-") || is_read(operation) {
        return Ok(());
    }
    Err(S3Error::argument(
        name,
        value,
        "The operation does not have this parameter",
    ))
}

fn parameters(operation: OperationName) -> &'static [&'static str] {
    match operation {
        OperationName::ListBuckets => &["prefix", "max-buckets", "continuation-token", "bucket-region"],
        OperationName::GetBucketLocation => &["location"],
        OperationName::ListObjects => &["prefix", "delimiter", "marker", "max-keys", "encoding-type"],
        OperationName::ListObjectsV2 => &[
            "list-type",
            "prefix",
            "delimiter",
            "continuation-token",
            "start-after",
            "max-keys",
            "encoding-type",
            "fetch-owner",
        ],
        OperationName::ListMultipartUploads => &[
            "uploads",
            "prefix",
            "delimiter",
            "key-marker",
            "upload-id-marker",
            "max-uploads",
            "encoding-type",
        ],
        OperationName::ListParts => &["uploadId", "part-number-marker", "max-parts"],
        OperationName::DeleteObjects => &["delete"],
        OperationName::GetBucketCors | OperationName::PutBucketCors | OperationName::DeleteBucketCors => {
            &["cors"]
        }
        OperationName::GetBucketVersioning | OperationName::PutBucketVersioning => &["versioning"],
        OperationName::ListObjectVersions => &[
            "versions",
            "prefix",
            "delimiter",
            "key-marker",
            "version-id-marker",
            "max-keys",
            "encoding-type",
        ],
        OperationName::DeleteObject => &["versionId"],
        OperationName::GetObjectTagging
        | OperationName::PutObjectTagging
        | OperationName::DeleteObjectTagging => &["tagging", "versionId"],
        OperationName::GetBucketTagging
        | OperationName::PutBucketTagging
        | OperationName::DeleteBucketTagging => &["tagging"],
        OperationName::GetObject | OperationName::HeadObject => &[
            "versionId",
            "response-content-type",
            "response-cache-control",
            "response-content-disposition",
            "response-content-encoding",
            "response-content-language",
            "response-expires",
            "partNumber",
        ],
        OperationName::GetBucketPolicy
        | OperationName::PutBucketPolicy
        | OperationName::DeleteBucketPolicy => &["policy"],
        OperationName::GetBucketPolicyStatus => &["policyStatus"],
        OperationName::GetBucketAcl | OperationName::PutBucketAcl => &["acl"],
        OperationName::GetObjectAcl | OperationName::PutObjectAcl => &["acl", "versionId"],
        OperationName::GetBucketOwnershipControls
        | OperationName::PutBucketOwnershipControls
        | OperationName::DeleteBucketOwnershipControls => &["ownershipControls"],
        OperationName::GetPublicAccessBlock
        | OperationName::PutPublicAccessBlock
        | OperationName::DeletePublicAccessBlock => &["publicAccessBlock"],
        OperationName::GetObjectAttributes => &["attributes", "versionId"],
        OperationName::CreateMultipartUpload => &["uploads"],
        OperationName::UploadPart | OperationName::UploadPartCopy => &["partNumber", "uploadId"],
        OperationName::CompleteMultipartUpload | OperationName::AbortMultipartUpload => &["uploadId"],
        OperationName::PutBucketEncryption => &["encryption"],
        other => Unset::of(other).map_or(&[], Unset::parameters),
    }
}

fn check_amz(operation: OperationName, name: &str, value: &str) -> Result<()> {
    if COMMON.contains(&name) || (name == "x-amz-api-version" && value == API_VERSION) {
        return Ok(());
    }
    let creates = matches!(
        operation,
        OperationName::PutObject | OperationName::CopyObject | OperationName::CreateMultipartUpload
    );
    let copies_object = operation == OperationName::CopyObject;
    let copies_part = operation == OperationName::UploadPartCopy;
    let copies = copies_object || copies_part;
    let has_checksummed_body = writes_bytes(operation)
        || matches!(
            operation,
            OperationName::DeleteObjects
                | OperationName::CreateBucket
                | OperationName::PutObjectTagging
                | OperationName::PutBucketTagging
                | OperationName::PutBucketVersioning
                | OperationName::PutBucketCors
                | OperationName::PutBucketPolicy
                | OperationName::PutBucketAcl
                | OperationName::PutObjectAcl
                | OperationName::PutBucketEncryption
                | OperationName::PutBucketOwnershipControls
                | OperationName::PutPublicAccessBlock
        );
    let completes = operation == OperationName::CompleteMultipartUpload;
    let makes_bucket = operation == OperationName::CreateBucket;
    let accepted = match name {
        "x-amz-acl" => {
            let sets = matches!(
                operation,
                OperationName::PutBucketAcl | OperationName::PutObjectAcl
            );
            creates || makes_bucket || sets
        }
        "x-amz-storage-class" => creates,
        "x-amz-server-side-encryption" => creates && encryption(value)?,
        "x-amz-bucket-object-lock-enabled" => makes_bucket && value.eq_ignore_ascii_case("false"),
        "x-amz-object-ownership" => makes_bucket,
        "x-amz-checksum-mode" => is_read(operation),
        "x-amz-checksum-algorithm" => copies_object || operation == OperationName::CreateMultipartUpload,
        "x-amz-checksum-type" => completes || operation == OperationName::CreateMultipartUpload,
        "x-amz-copy-source"
        | "x-amz-copy-source-if-match"
        | "x-amz-copy-source-if-none-match"
        | "x-amz-copy-source-if-modified-since"
        | "x-amz-copy-source-if-unmodified-since"
        | "x-amz-source-expected-bucket-owner" => copies,
        "x-amz-copy-source-range" => copies_part,
        "x-amz-tagging-directive" => copies_object,
        // s3fs says it of every object whose metadata changed, copied or not: they come with the request.
        "x-amz-metadata-directive" => copies_object || (creates && value == "REPLACE"),
        "x-amz-object-attributes" | "x-amz-max-parts" | "x-amz-part-number-marker" => {
            operation == OperationName::GetObjectAttributes
        }
        "x-amz-tagging" => creates,
        "x-amz-mp-object-size" => completes,
        "x-amz-sdk-checksum-algorithm" => has_checksummed_body,
        "x-amz-decoded-content-length" => has_checksummed_body || completes,
        "x-amz-trailer" => has_checksummed_body,
        _ if name.starts_with("x-amz-meta-") => creates,
        _ if ChecksumAlgorithm::of_header(name).is_some() => has_checksummed_body || completes,
        _ => false,
    };
    if accepted {
        Ok(())
    } else {
        Err(S3Error::header_not_offered(name))
    }
}

/// AES256 is what Ullage always does; keys of a KMS are not offered.
fn encryption(value: &str) -> Result<bool> {
    match value {
        "AES256" => Ok(true),
        "aws:kms" | "aws:kms:dsse" | "aws:fsx" => Ok(false),
        _ => Err(S3Error::argument(
            "x-amz-server-side-encryption",
            value,
            ErrorCode::InvalidEncryptionAlgorithmError.default_message(),
        )),
    }
}

fn writes_bytes(operation: OperationName) -> bool {
    matches!(operation, OperationName::PutObject | OperationName::UploadPart)
}

fn is_read(operation: OperationName) -> bool {
    matches!(operation, OperationName::GetObject | OperationName::HeadObject)
}
