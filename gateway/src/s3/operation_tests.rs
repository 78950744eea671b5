//! Requests as clients send them, and what becomes of each field.

use super::super::error::ErrorCode;
use super::super::etag::{ETag, ETagCondition};
use super::super::testing::request;
use super::super::token::Position;
use super::*;

fn understood(method: &str, target: &str, headers: &[(&str, &str)]) -> Operation {
    match request(method, target, headers) {
        Ok(request) => request.operation,
        Err(error) => panic!("{method} {target} {headers:?}: {error}"),
    }
}

fn check_refused(method: &str, target: &str, headers: &[(&str, &str)], code: ErrorCode) {
    let got = request(method, target, headers)
        .map(|request| request.operation)
        .map_err(|e| e.code());
    assert_eq!(got, Err(code), "{method} {target} {headers:?}");
}

fn upload() -> UploadRequest {
    UploadRequest {
        bucket: "buck".into(),
        key: "a/b".into(),
        upload_id: "up+1".into(),
    }
}

#[test]
fn put_object_reads_all_its_fields() {
    let request = request(
        "PUT",
        "/buck/a%20b?x-id=PutObject",
        &[
            ("content-length", "5"),
            ("content-type", "text/plain"),
            ("x-amz-meta-colour", "blue"),
            ("x-amz-storage-class", "COLD"),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-acl", "private"),
            ("if-none-match", "*"),
            ("x-amz-expected-bucket-owner", "me"),
            ("x-amz-user-agent", "sdk"),
        ],
    )
    .unwrap();
    let Operation::PutObject(put) = request.operation else {
        panic!("not a PutObject")
    };
    assert_eq!((put.bucket.as_str(), put.key.as_str()), ("buck", "a b"));
    assert_eq!(put.headers.content_type.as_deref(), Some("text/plain"));
    assert_eq!(
        put.headers.metadata.get("colour").map(String::as_str),
        Some("blue")
    );
    assert_eq!(put.storage_class.as_deref(), Some("COLD"));
    assert_eq!(put.condition, WriteCondition::IfAbsent);
    assert_eq!(request.expected_bucket_owner.as_deref(), Some("me"));
    assert_eq!(request.body.decoded_length(), Some(5));
    assert_eq!(request.body_use, BodyUse::Object);
}

#[test]
fn what_acts_and_is_not_offered_is_refused() {
    let length = ("content-length", "0");
    for (name, value) in [
        ("x-amz-acl", "aws-exec-read"),
        ("x-amz-grant-read", "id=1"),
        ("x-amz-website-redirect-location", "/x"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "k"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-write-offset-bytes", "0"),
        ("x-amz-mfa", "1"),
        ("x-amz-never-heard-of", "1"),
        ("x-ullage-release", "offer"),
        ("content-range", "bytes 0-1/2"),
        ("if-modified-since", "Wed, 21 Oct 2015 07:28:00 GMT"),
    ] {
        check_refused(
            "PUT",
            "/buck/k",
            &[length, (name, value)],
            ErrorCode::NotImplemented,
        );
    }
    check_refused(
        "PUT",
        "/buck/k",
        &[length, ("x-amz-server-side-encryption", "x")],
        ErrorCode::InvalidArgument,
    );
    check_refused(
        "PUT",
        "/buck/k",
        &[length, ("x-amz-storage-class", "")],
        ErrorCode::InvalidStorageClass,
    );
    for target in [
        "/buck/k?versionId=1",
        "/buck/k?uploadId=1",
        "/buck/k?partNumber=1",
        "/buck/k?uploads",
        "/buck/k?x-ullage-release",
    ] {
        check_refused("PUT", target, &[length], ErrorCode::NotImplemented);
    }
    check_refused("PUT", "/buck/k?strange=1", &[length], ErrorCode::InvalidArgument);
    understood("PUT", "/buck/k?x-trace=1", &[length]);
    check_refused("PUT", "/buck?strange", &[], ErrorCode::InvalidArgument);
    check_refused("GET", "/buck?strange", &[], ErrorCode::InvalidArgument);
    understood("GET", "/buck/k?strange=1", &[]);
    check_refused("GET", "/buck/k?uploads", &[], ErrorCode::NotImplemented);
    check_refused("HEAD", "/buck/k?uploads", &[], ErrorCode::NotImplemented);
    check_refused(
        "GET",
        "/buck/k",
        &[("x-amz-meta-a", "b")],
        ErrorCode::NotImplemented,
    );
    check_refused(
        "DELETE",
        "/buck/k",
        &[("if-none-match", "*")],
        ErrorCode::NotImplemented,
    );
    check_refused(
        "DELETE",
        "/buck/k",
        &[("x-amz-bypass-governance-retention", "true")],
        ErrorCode::NotImplemented,
    );
    check_refused("DELETE", "/buck", &[("if-match", "a")], ErrorCode::NotImplemented);
    check_refused("GET", "/buck/k?torrent", &[], ErrorCode::NotImplemented);
    check_refused("GET", "/BUCK/k", &[], ErrorCode::InvalidBucketName);
    check_refused("PUT", "/buck/k", &[], ErrorCode::MissingContentLength);
    check_refused(
        "GET",
        "/buck/k",
        &[("content-length", "3")],
        ErrorCode::UnexpectedContent,
    );
}

#[test]
fn get_object_reads_all_its_fields() {
    let operation = understood(
        "GET",
        "/buck/k?response-content-type=text%2Fhtml&x-id=GetObject",
        &[
            ("range", "bytes=-5"),
            ("if-match", "\"e\""),
            ("x-amz-checksum-mode", "ENABLED"),
            ("x-amz-request-payer", "requester"),
        ],
    );
    let Operation::GetObject(read) = operation else {
        panic!("not a GetObject")
    };
    assert_eq!(read.range, Some(RangeRequest::Last(5)));
    assert_eq!(
        read.conditions.if_match,
        Some(ETagCondition::OneOf(vec![ETag::parse("e")]))
    );
    assert_eq!(read.overrides.content_type.as_deref(), Some("text/html"));
    assert!(read.checksum_mode);
    let operation = understood("HEAD", "/buck/k", &[("range", "bytes=1-2,4-5")]);
    assert!(matches!(
        operation,
        Operation::HeadObject(ReadObject {
            range: None,
            checksum_mode: false,
            ..
        })
    ));
    check_refused(
        "GET",
        "/buck/k",
        &[("x-amz-checksum-mode", "MAYBE")],
        ErrorCode::InvalidArgument,
    );
}

#[test]
fn buckets() {
    let buck = || BucketRequest {
        bucket: "buck".into(),
    };
    let acl = [
        ("x-amz-acl", "private"),
        ("x-amz-object-ownership", "BucketOwnerEnforced"),
    ];
    let made = CreateBucket {
        bucket: "buck".into(),
        acl: Some(CannedAcl::Private),
        ownership: Some(ObjectOwnership::BucketOwnerEnforced),
    };
    assert_eq!(understood("PUT", "/buck", &acl), Operation::CreateBucket(made));
    assert_eq!(understood("HEAD", "/buck/", &[]), Operation::HeadBucket(buck()));
    assert_eq!(
        understood("DELETE", "/buck", &[]),
        Operation::DeleteBucket(buck())
    );
    assert_eq!(
        understood("GET", "/buck?location", &[]),
        Operation::GetBucketLocation(buck())
    );
    check_refused(
        "PUT",
        "/buck",
        &[("x-amz-bucket-object-lock-enabled", "true")],
        ErrorCode::NotImplemented,
    );
    check_refused(
        "PUT",
        "/buck",
        &[("x-amz-object-ownership", "Mine")],
        ErrorCode::InvalidArgument,
    );
    let list = ListBuckets {
        prefix: None,
        max_buckets: None,
        after: None,
        bucket_region: None,
    };
    assert_eq!(understood("GET", "/", &[]), Operation::ListBuckets(list.clone()));
    let after = Position::AfterKey("b".into());
    let target = format!("/?prefix=a&max-buckets=5&continuation-token={}", after.encode());
    let paged = ListBuckets {
        prefix: Some("a".into()),
        max_buckets: Some(5),
        after: Some(after),
        ..list
    };
    assert_eq!(understood("GET", &target, &[]), Operation::ListBuckets(paged));
    check_refused("GET", "/?max-buckets=0", &[], ErrorCode::InvalidArgument);
    check_refused("GET", "/?max-buckets=10001", &[], ErrorCode::InvalidArgument);
}

#[test]
fn listings() {
    let token = Position::AfterPrefix("p/".into());
    let target = format!(
        "/buck?list-type=2&prefix=p%2F&delimiter=%2F&max-keys=2000&encoding-type=url&fetch-owner=true\
         &start-after=p%2Fa&continuation-token={}",
        token.encode()
    );
    let Operation::ListObjectsV2(list) = understood("GET", &target, &[]) else {
        panic!("not a listing")
    };
    assert_eq!(list.after, Some(token));
    assert_eq!(list.start_after.as_deref(), Some("p/a"));
    assert!(list.fetch_owner && list.scope.encode_urls);
    assert_eq!(list.scope.max_keys, 1000);
    assert_eq!(
        (list.scope.prefix.as_str(), list.scope.delimiter.as_deref()),
        ("p/", Some("/"))
    );
    let Operation::ListObjects(list) = understood("GET", "/buck?max-keys=0&marker=m&delimiter=", &[]) else {
        panic!("not a listing")
    };
    assert_eq!(
        (list.scope.max_keys, list.marker.as_str(), list.scope.delimiter),
        (0, "m", None)
    );
    for target in [
        "/buck?max-keys=-1",
        "/buck?max-keys=x",
        "/buck?max-keys=2147483648",
        "/buck?encoding-type=base64",
        "/buck?list-type=2&continuation-token=",
        "/buck?list-type=2&continuation-token=nonsense",
        "/buck?list-type=2&fetch-owner=maybe",
        "/buck?list-type=2&marker=a",
        "/buck?prefix=a&prefix=b",
    ] {
        check_refused("GET", target, &[], ErrorCode::InvalidArgument);
    }
    check_refused("GET", "/buck?list-type=1", &[], ErrorCode::NotImplemented);
}

#[test]
fn multipart_uploads() {
    let create = |headers: &[(&str, &str)]| match request("POST", "/buck/k?uploads", headers) {
        Ok(Request {
            operation: Operation::CreateMultipartUpload(create),
            ..
        }) => Ok(create.checksum),
        other => Err(other.map(|_| ()).map_err(|e| e.code())),
    };
    use {ChecksumAlgorithm as A, ChecksumType as T};
    let algorithm = |name| ("x-amz-checksum-algorithm", name);
    let kind = |name| ("x-amz-checksum-type", name);
    assert_eq!(create(&[]), Ok(None));
    assert_eq!(
        create(&[algorithm("CRC64NVME")]),
        Ok(Some((A::Crc64Nvme, T::FullObject)))
    );
    assert_eq!(create(&[algorithm("CRC32")]), Ok(Some((A::Crc32, T::Composite))));
    assert_eq!(
        create(&[algorithm("CRC32"), kind("FULL_OBJECT")]),
        Ok(Some((A::Crc32, T::FullObject)))
    );
    let refused = Err(Err(ErrorCode::InvalidRequest));
    assert_eq!(create(&[algorithm("SHA256"), kind("FULL_OBJECT")]), refused);
    assert_eq!(create(&[algorithm("CRC64NVME"), kind("COMPOSITE")]), refused);
    assert_eq!(create(&[kind("COMPOSITE")]), refused);
    assert_eq!(create(&[algorithm("MD6")]), refused);

    let part = understood(
        "PUT",
        "/buck/a/b?partNumber=10000&uploadId=up%2B1",
        &[("content-length", "1")],
    );
    assert_eq!(
        part,
        Operation::UploadPart(UploadPart {
            upload: upload(),
            part_number: 10_000
        })
    );
    for number in ["0", "10001", "+1", "x", ""] {
        let target = format!("/buck/a/b?partNumber={number}&uploadId=u");
        check_refused(
            "PUT",
            &target,
            &[("content-length", "1")],
            ErrorCode::InvalidArgument,
        );
    }
    check_refused("DELETE", "/buck/a/b?uploadId=", &[], ErrorCode::NoSuchUpload);
    assert_eq!(
        understood("DELETE", "/buck/a/b?uploadId=up%2B1", &[]),
        Operation::AbortMultipartUpload(upload())
    );
}

#[test]
fn the_checksum_of_complete_is_the_objects_not_the_documents() {
    let request = request(
        "POST",
        "/buck/a/b?uploadId=up%2B1",
        &[
            ("content-length", "100"),
            ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
            ("x-amz-checksum-type", "FULL_OBJECT"),
            ("x-amz-mp-object-size", "12"),
            ("if-match", "\"e\""),
        ],
    )
    .unwrap();
    assert!(!request.body.has_integrity_check());
    let Operation::CompleteMultipartUpload(complete) = request.operation else {
        panic!("not a Complete")
    };
    assert_eq!(complete.upload, upload());
    assert_eq!(
        complete.checksum.map(|c| c.value()).as_deref(),
        Some("AAAAAAAAAAA=")
    );
    assert_eq!(complete.checksum_type, Some(ChecksumType::FullObject));
    assert_eq!(complete.object_bytes, Some(12));
    assert_eq!(
        complete.condition,
        WriteCondition::IfMatch(ETagCondition::OneOf(vec![ETag::parse("e")]))
    );
}

#[test]
fn metadata_that_comes_with_a_new_object_may_be_called_so() {
    let length = ("content-length", "0");
    for (method, target) in [("PUT", "/buck/k"), ("POST", "/buck/k?uploads")] {
        understood(method, target, &[length, ("x-amz-metadata-directive", "REPLACE")]);
        check_refused(
            method,
            target,
            &[length, ("x-amz-metadata-directive", "COPY")],
            ErrorCode::NotImplemented,
        );
    }
}

#[test]
fn the_version_of_the_api_may_be_named() {
    understood("HEAD", "/buck", &[("x-amz-api-version", "2006-03-01")]);
    check_refused(
        "HEAD",
        "/buck",
        &[("x-amz-api-version", "2030-01-01")],
        ErrorCode::NotImplemented,
    );
}

#[test]
fn delete_objects_needs_a_digest_of_its_document() {
    let length = ("content-length", "10");
    check_refused("POST", "/buck?delete", &[length], ErrorCode::InvalidRequest);
    for check in [
        ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("x-amz-checksum-crc32", "AAAAAA=="),
    ] {
        understood("POST", "/buck?delete", &[length, check]);
    }
    let trailer = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "10"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ];
    understood("POST", "/buck?delete", &trailer);
    let large = ("content-length", "2097153");
    check_refused(
        "POST",
        "/buck?delete",
        &[large, trailer[2]],
        ErrorCode::MaxMessageLengthExceeded,
    );
}

#[test]
fn calls_of_an_account_are_another_services() {
    let account = ("x-amz-account-id", "123456789012");
    for method in ["GET", "PUT", "DELETE"] {
        let refused = request(method, "/v20180820/configuration/publicAccessBlock", &[account]).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NotImplemented, "{method}");
        assert_eq!(refused.detail("Header"), Some("x-amz-account-id"), "{method}");
    }
}
