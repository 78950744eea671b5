//! The routing table against the API reference's list of actions.

use std::collections::BTreeMap;

use super::super::head::Endpoint;
use super::super::head::tests::parts;
use super::*;

/// "Actions" of Amazon S3 in its API reference (not of S3 Control, Outposts,
/// Tables or Vectors), without the four deprecated aliases.
const API: &str = "AbortMultipartUpload CompleteMultipartUpload CopyObject CreateBucket \
    CreateBucketMetadataConfiguration CreateBucketMetadataTableConfiguration CreateMultipartUpload CreateSession \
    DeleteBucket DeleteBucketAnalyticsConfiguration DeleteBucketCors DeleteBucketEncryption \
    DeleteBucketIntelligentTieringConfiguration DeleteBucketInventoryConfiguration DeleteBucketLifecycle \
    DeleteBucketMetadataConfiguration DeleteBucketMetadataTableConfiguration DeleteBucketMetricsConfiguration \
    DeleteBucketOwnershipControls DeleteBucketPolicy DeleteBucketReplication DeleteBucketTagging \
    DeleteBucketWebsite DeleteObject DeleteObjects DeleteObjectTagging DeletePublicAccessBlock GetBucketAbac \
    GetBucketAccelerateConfiguration GetBucketAcl GetBucketAnalyticsConfiguration GetBucketCors \
    GetBucketEncryption GetBucketIntelligentTieringConfiguration GetBucketInventoryConfiguration \
    GetBucketLifecycleConfiguration GetBucketLocation GetBucketLogging GetBucketMetadataConfiguration \
    GetBucketMetadataTableConfiguration GetBucketMetricsConfiguration GetBucketNotificationConfiguration \
    GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus GetBucketReplication \
    GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite GetObject GetObjectAcl \
    GetObjectAttributes GetObjectLegalHold GetObjectLockConfiguration GetObjectRetention GetObjectTagging \
    GetObjectTorrent GetPublicAccessBlock HeadBucket HeadObject ListBucketAnalyticsConfigurations \
    ListBucketIntelligentTieringConfigurations ListBucketInventoryConfigurations \
    ListBucketMetricsConfigurations ListBuckets ListDirectoryBuckets ListMultipartUploads ListObjects \
    ListObjectsV2 ListObjectVersions ListParts PutBucketAbac PutBucketAccelerateConfiguration PutBucketAcl \
    PutBucketAnalyticsConfiguration PutBucketCors PutBucketEncryption PutBucketIntelligentTieringConfiguration \
    PutBucketInventoryConfiguration PutBucketLifecycleConfiguration PutBucketLogging \
    PutBucketMetricsConfiguration PutBucketNotificationConfiguration PutBucketOwnershipControls \
    PutBucketPolicy PutBucketReplication PutBucketRequestPayment PutBucketTagging PutBucketVersioning \
    PutBucketWebsite PutObject PutObjectAcl PutObjectLegalHold PutObjectLockConfiguration PutObjectRetention \
    PutObjectTagging PutPublicAccessBlock RenameObject RestoreObject SelectObjectContent \
    UpdateBucketMetadataInventoryTableConfiguration UpdateBucketMetadataJournalTableConfiguration \
    UpdateObjectEncryption UploadPart UploadPartCopy WriteGetObjectResponse \
    DeleteObjectAnnotation GetObjectAnnotation ListObjectAnnotations PutObjectAnnotation";

/// Requests of S3 that the list of actions does not name: browser forms and
/// CORS preflight.
const BESIDE_THE_LIST: &str = "PostObject PreflightBucket PreflightObject";

const OFFERED: &str = "ListBuckets CreateBucket HeadBucket DeleteBucket GetBucketLocation PutObject CopyObject GetObject \
    HeadObject DeleteObject DeleteObjects ListObjects ListObjectsV2 CreateMultipartUpload UploadPart \
    GetBucketCors PutBucketCors DeleteBucketCors PostObject PreflightBucket PreflightObject \
    GetBucketVersioning PutBucketVersioning ListObjectVersions \
    GetBucketTagging PutBucketTagging DeleteBucketTagging GetObjectTagging PutObjectTagging DeleteObjectTagging \
    GetBucketPolicy PutBucketPolicy DeleteBucketPolicy GetBucketPolicyStatus GetBucketAcl PutBucketAcl GetObjectAcl \
    PutObjectAcl GetBucketOwnershipControls PutBucketOwnershipControls DeleteBucketOwnershipControls \
    GetObjectAttributes UploadPartCopy GetPublicAccessBlock PutPublicAccessBlock DeletePublicAccessBlock \
    CompleteMultipartUpload AbortMultipartUpload ListMultipartUploads ListParts PutBucketEncryption \
    GetBucketAccelerateConfiguration GetBucketEncryption GetBucketLifecycleConfiguration GetBucketLogging \
    GetBucketNotificationConfiguration GetObjectLockConfiguration GetBucketReplication \
    GetBucketRequestPayment GetBucketWebsite GetBucketAnalyticsConfiguration \
    GetBucketIntelligentTieringConfiguration GetBucketInventoryConfiguration GetBucketMetricsConfiguration \
    ListBucketAnalyticsConfigurations ListBucketIntelligentTieringConfigurations \
    ListBucketInventoryConfigurations ListBucketMetricsConfigurations GetObjectLegalHold GetObjectRetention \
    DeleteBucketEncryption DeleteBucketLifecycle DeleteBucketReplication DeleteBucketWebsite";

#[test]
fn every_operation_of_the_reference_stands_in_the_table_once() {
    let mut seen = BTreeMap::new();
    for route in ROUTES {
        *seen.entry(route.operation.as_str()).or_insert(0) += 1;
    }
    let expected: BTreeMap<&str, i32> = API
        .split_whitespace()
        .chain(BESIDE_THE_LIST.split_whitespace())
        .map(|name| (name, 1))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn exactly_the_promised_operations_are_offered() {
    let mut offered: Vec<&str> = ROUTES
        .iter()
        .filter(|r| r.offered)
        .map(|r| r.operation.as_str())
        .collect();
    let mut expected: Vec<&str> = OFFERED.split_whitespace().collect();
    offered.sort_unstable();
    expected.sort_unstable();
    assert_eq!(offered, expected);
}

/// The smallest request that a row describes.
fn smallest(route: &Route) -> http::request::Parts {
    let path = match route.level {
        Level::Service => "/",
        Level::Bucket => "/bucket",
        Level::Object => "/bucket/key",
    };
    let query: Vec<String> = route
        .parameters
        .iter()
        .map(|(name, value)| value.map_or((*name).to_owned(), |value| format!("{name}={value}")))
        .collect();
    let method = format!("{:?}", route.method).to_uppercase();
    let headers: Vec<(&str, &str)> = route.header.iter().map(|name| (*name, "x")).collect();
    parts(&method, &format!("{path}?{}", query.join("&")), &headers)
}

#[test]
fn no_row_hides_another() {
    for row in ROUTES {
        let parts = smallest(row);
        let endpoint = Endpoint::default();
        let head = Head::parse(&parts, &endpoint).unwrap();
        assert_eq!(route(&head).unwrap().operation, row.operation);
    }
}

fn check(method: &str, target: &str, headers: &[(&str, &str)], expected: &str) {
    let parts = parts(method, target, headers);
    let endpoint = Endpoint::default();
    let head = Head::parse(&parts, &endpoint).unwrap();
    let got = match route(&head).and_then(Route::require_offered) {
        Ok(operation) => operation.as_str().to_owned(),
        Err(error) => format!(
            "{} {}",
            error.status().as_u16(),
            error.detail("Operation").unwrap_or("-")
        ),
    };
    assert_eq!(got, expected, "{method} {target}");
}

#[test]
fn requests_of_clients_find_their_operation() {
    check("GET", "/?x-id=ListBuckets", &[], "ListBuckets");
    check("GET", "/b?list-type=2&prefix=policy", &[], "ListObjectsV2");
    check("GET", "/b?prefix=a&delimiter=/", &[], "ListObjects");
    check("GET", "/b?policy", &[], "GetBucketPolicy");
    check("GET", "/b?policy=&list-type=2", &[], "GetBucketPolicy");
    check("GET", "/b?uploads", &[], "ListMultipartUploads");
    check("PUT", "/b/k", &[("x-amz-copy-source", "/a/b")], "CopyObject");
    check("PUT", "/b/k?X-Amz-Copy-Source=/a/b", &[], "CopyObject");
    check(
        "PUT",
        "/b/k?partNumber=1&uploadId=u",
        &[("x-amz-copy-source", "/a/b")],
        "UploadPartCopy",
    );
    check("PUT", "/b/k?partNumber=1&uploadId=u", &[], "UploadPart");
    check("POST", "/b/k?uploads=", &[], "CreateMultipartUpload");
    check("POST", "/b?delete", &[], "DeleteObjects");
    check(
        "POST",
        "/b",
        &[("content-type", "multipart/form-data")],
        "PostObject",
    );
    check("OPTIONS", "/b/k", &[], "PreflightObject");
    check("PATCH", "/b/k", &[], "405 -");
    check("POST", "/b/k", &[], "405 -");
    check("DELETE", "/", &[], "405 -");
    check("BREW", "/b", &[], "405 -");
}
