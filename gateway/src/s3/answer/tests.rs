//! Documents and heads as S3 writes them.

use http::Method;

use super::super::checksum::{Checksum, ChecksumAlgorithm, ChecksumType, ObjectChecksum};
use super::super::error::{ErrorCode, S3Error};
use super::super::etag::ETag;
use super::super::metadata::ObjectHeaders;
use super::super::operation::{Operation, ReadObject};
use super::super::range::RangeRequest;
use super::super::testing::request;
use super::super::time::UnixMs;
use super::*;

fn ids() -> RequestIds {
    RequestIds {
        request_id: "REQ".into(),
        host_id: "HOST".into(),
    }
}

fn owner() -> Owner {
    Owner {
        id: "ID1".into(),
        display_name: "me".into(),
    }
}

/// The document without declaration and namespace.
fn document(reply: &Reply) -> String {
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    let text = text
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
        .unwrap();
    text.replacen(" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"", "", 1)
}

fn entry(key: &str) -> ListEntry {
    ListEntry {
        key: key.into(),
        last_modified: UnixMs(1_445_412_480_123),
        etag: ETag::parse("e"),
        checksum: Some((ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject)),
        bytes: 7,
        storage_class: "STANDARD".into(),
    }
}

const ENTRY: &str = "<LastModified>2015-10-21T07:28:00.123Z</LastModified><ETag>&quot;e&quot;</ETag>\
    <ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>7</Size>";
const OWNER: &str = "<Owner><ID>ID1</ID><DisplayName>me</DisplayName></Owner>";

#[test]
fn second_version_of_the_listing() {
    let target = "/buck?list-type=2&prefix=a&delimiter=%2F&encoding-type=url&start-after=a%20a&max-keys=2";
    let Operation::ListObjectsV2(list) = request("GET", target, &[]).unwrap().operation else {
        panic!("not a listing")
    };
    let page = ListObjectsV2Answer {
        entries: vec![entry("a b+")],
        common_prefixes: vec!["a/".into()],
        owner: owner(),
        next: Some("TOKEN".into()),
    };
    assert_eq!(
        document(&page.into_reply(&list)),
        format!(
            "<ListBucketResult><Name>buck</Name><Prefix>a</Prefix><StartAfter>a%20a</StartAfter>\
             <NextContinuationToken>TOKEN</NextContinuationToken><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys>\
             <Delimiter>/</Delimiter><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
             <Contents><Key>a%20b%2B</Key>{ENTRY}<StorageClass>STANDARD</StorageClass></Contents>\
             <CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes></ListBucketResult>"
        )
    );
}

#[test]
fn first_version_of_the_listing() {
    let Operation::ListObjects(list) = request("GET", "/buck?marker=m", &[]).unwrap().operation else {
        panic!("not a listing")
    };
    let page = ListObjectsAnswer {
        entries: vec![entry("a\u{1}&")],
        common_prefixes: Vec::new(),
        owner: owner(),
        next_marker: Some("a\u{1}&".into()),
    };
    assert_eq!(
        document(&page.into_reply(&list)),
        format!(
            "<ListBucketResult><Name>buck</Name><Prefix></Prefix><Marker>m</Marker><MaxKeys>1000</MaxKeys>\
             <IsTruncated>true</IsTruncated><Contents><Key>a&#x1;&amp;</Key>{ENTRY}{OWNER}\
             <StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
        )
    );
}

#[test]
fn buckets() {
    let created = UnixMs(1_445_412_480_000);
    let buckets = vec![BucketEntry {
        name: "b1".into(),
        created,
        region: Some("r".into()),
    }];
    let answer = ListBucketsAnswer {
        owner: owner(),
        buckets,
        next: Some("T".into()),
        prefix: Some("b".into()),
    };
    assert_eq!(
        document(&answer.into_reply()),
        format!(
            "<ListAllMyBucketsResult>{OWNER}<Buckets><Bucket><Name>b1</Name>\
             <CreationDate>2015-10-21T07:28:00.000Z</CreationDate><BucketRegion>r</BucketRegion></Bucket></Buckets>\
             <ContinuationToken>T</ContinuationToken><Prefix>b</Prefix></ListAllMyBucketsResult>"
        )
    );
    assert_eq!(
        document(&bucket_location("us-east-1")),
        "<LocationConstraint></LocationConstraint>"
    );
    assert_eq!(
        document(&bucket_location("eu")),
        "<LocationConstraint>eu</LocationConstraint>"
    );
    assert_eq!(bucket_created("b1").headers["location"], "/b1");
    assert_eq!(head_bucket("eu").headers["x-amz-bucket-region"], "eu");
}

#[test]
fn multipart_documents() {
    let initiate = InitiateAnswer {
        bucket: "b".into(),
        key: "k<".into(),
        upload_id: "u".into(),
        checksum: Some((ChecksumAlgorithm::Crc32, ChecksumType::Composite)),
    }
    .into_reply();
    assert_eq!(
        document(&initiate),
        "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k&lt;</Key><UploadId>u</UploadId>\
         </InitiateMultipartUploadResult>"
    );
    assert_eq!(initiate.headers["x-amz-checksum-algorithm"], "CRC32");
    let parts = [(Checksum::of(ChecksumAlgorithm::Crc32, b"a"), 1)];
    let complete = CompleteAnswer {
        location: CompleteAnswer::location("a.test:9000", "/b/%6B%2f+\u{e9}"),
        bucket: "b".into(),
        key: "k".into(),
        etag: ETag::parse("e-1"),
        checksum: ObjectChecksum::of_parts(ChecksumType::Composite, &parts),
    };
    let value = complete.checksum.unwrap().value();
    assert!(value.ends_with("-1"));
    assert_eq!(
        document(&complete.into_reply()),
        format!(
            "<CompleteMultipartUploadResult><Location>http://a.test:9000/b/k/%2B%C3%A9</Location><Bucket>b</Bucket><Key>k</Key>\
             <ETag>&quot;e-1&quot;</ETag><ChecksumCRC32>{value}</ChecksumCRC32>\
             <ChecksumType>COMPOSITE</ChecksumType></CompleteMultipartUploadResult>"
        )
    );
}

#[test]
fn a_page_without_parts_has_no_marker_to_go_on_from() {
    let Operation::ListParts(list) = request("GET", "/buck/k?uploadId=U&part-number-marker=5", &[])
        .unwrap()
        .operation
    else {
        panic!("not a listing of parts")
    };
    let part = |number| PartEntry {
        number,
        etag: ETag::parse("e"),
        last_modified: UnixMs(0),
        bytes: 1,
        checksum: None,
    };
    for (parts, next) in [(vec![part(6), part(9)], 9), (Vec::new(), 0)] {
        let page = ListPartsAnswer {
            parts,
            more: false,
            owner: owner(),
            storage_class: "STANDARD".into(),
            checksum: None,
        };
        let document = document(&page.into_reply(&list));
        let markers = format!(
            "<PartNumberMarker>5</PartNumberMarker><NextPartNumberMarker>{next}</NextPartNumberMarker>"
        );
        assert!(document.contains(&markers), "{document}");
    }
}

#[test]
fn delete_results_are_quiet_if_asked() {
    let one = |key: &str, version: Option<&str>, outcome| DeleteOutcome {
        key: key.into(),
        version_id: version.map(str::to_owned),
        outcome,
    };
    let marker = |version: &str| DeletedVersion {
        version_id: Some(version.into()),
        delete_marker: true,
    };
    let outcomes = vec![
        one("a", None, Ok(DeletedVersion::default())),
        one("m", None, Ok(marker("1"))),
        one("g", Some("2"), Ok(marker("2"))),
        one("b", Some("3"), Err(S3Error::from(ErrorCode::AccessDenied))),
    ];
    let error = "<Error><Key>b</Key><VersionId>3</VersionId><Code>AccessDenied</Code>\
                 <Message>Access Denied</Message></Error>";
    let succeeded = "<Deleted><Key>a</Key></Deleted>\
                     <Deleted><Key>m</Key><DeleteMarker>true</DeleteMarker>\
                     <DeleteMarkerVersionId>1</DeleteMarkerVersionId></Deleted>\
                     <Deleted><Key>g</Key><VersionId>2</VersionId><DeleteMarker>true</DeleteMarker>\
                     <DeleteMarkerVersionId>2</DeleteMarkerVersionId></Deleted>";
    for (quiet, deleted) in [(false, succeeded), (true, "")] {
        let answer = DeleteObjectsAnswer {
            outcomes: outcomes.clone(),
            quiet,
        };
        assert_eq!(
            document(&answer.into_reply()),
            format!("<DeleteResult>{deleted}{error}</DeleteResult>")
        );
    }
}

#[test]
fn answers_without_body_have_none() {
    let error = S3Error::from(ErrorCode::NoSuchKey);
    let get = Reply::error(&error, "/b/k", &ids()).into_http(&Method::GET, &ids());
    assert!(!get.body().is_empty());
    let head = Reply::error(&error, "/b/k", &ids()).into_http(&Method::HEAD, &ids());
    assert!(head.body().is_empty());
    let not_modified = Reply::error(&ErrorCode::NotModified.into(), "/b/k", &ids());
    for response in [
        get,
        head,
        not_modified.into_http(&Method::GET, &ids()),
        deleted().into_http(&Method::DELETE, &ids()),
    ] {
        assert_eq!(response.headers()["x-amz-request-id"], "REQ");
        assert_eq!(response.headers()["x-amz-id-2"], "HOST");
        if matches!(response.status().as_u16(), 204 | 304) {
            assert!(response.body().is_empty() && !response.headers().contains_key("content-type"));
        }
    }
}

#[test]
fn errors_carry_their_headers() {
    let range = RangeRequest::From(9).resolve(5).unwrap_err();
    assert_eq!(
        Reply::error(&range, "/", &ids()).headers["content-range"],
        "bytes */5"
    );
    let slow = Reply::error(&ErrorCode::SlowDown.into(), "/", &ids());
    assert_eq!(
        (
            slow.status.as_u16(),
            slow.headers["retry-after"].to_str().unwrap()
        ),
        (503, "1")
    );
    assert_eq!(
        Reply::error(&ErrorCode::InsufficientStorage.into(), "/", &ids())
            .status
            .as_u16(),
        507
    );
}

fn read(headers: &[(&str, &str)]) -> ReadObject {
    match request("GET", "/buck/k", headers).unwrap().operation {
        Operation::GetObject(read) => read,
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_are_answered_as_asked() {
    let info = ObjectInfo {
        bytes: 10,
        etag: ETag::parse("e"),
        last_modified: UnixMs(1_445_412_480_123),
        headers: ObjectHeaders {
            cache_control: Some("private".into()),
            ..ObjectHeaders::default()
        },
        tags: 2,
        storage_class: "COLD".into(),
        checksum: Some(ObjectChecksum::full(Checksum::of(ChecksumAlgorithm::Crc32, b""))),
        part: None,
    };
    let mode = ("x-amz-checksum-mode", "ENABLED");
    let Ok(ReadAnswer::Bytes(whole, Some(range))) = info.answer(&read(&[mode])) else {
        panic!("no bytes")
    };
    assert_eq!((whole.status.as_u16(), range.start, range.length), (200, 0, 10));
    for (name, value) in [
        ("content-length", "10"),
        ("content-type", "binary/octet-stream"),
        ("accept-ranges", "bytes"),
        ("etag", "\"e\""),
        ("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-storage-class", "COLD"),
        ("x-amz-tagging-count", "2"),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-checksum-type", "FULL_OBJECT"),
        ("cache-control", "private"),
    ] {
        assert_eq!(whole.headers[name], value, "{name}");
    }
    let Ok(ReadAnswer::Bytes(part, Some(range))) = info.answer(&read(&[mode, ("range", "bytes=8-20")]))
    else {
        panic!("no bytes")
    };
    assert_eq!((part.status.as_u16(), range.start, range.length), (206, 8, 2));
    assert_eq!(part.headers["content-range"], "bytes 8-9/10");
    assert!(!part.headers.contains_key("x-amz-checksum-crc32"));
    let stale = [("range", "bytes=8-20"), ("if-range", "\"old\"")];
    assert!(matches!(info.answer(&read(&stale)), Ok(ReadAnswer::Bytes(reply, _)) if reply.status == 200));
    let Ok(ReadAnswer::NotModified(reply)) = info.answer(&read(&[("if-none-match", "\"e\"")])) else {
        panic!("not a 304")
    };
    assert_eq!(
        (
            reply.headers["etag"].to_str().unwrap(),
            reply.headers["cache-control"].to_str().unwrap()
        ),
        ("\"e\"", "private")
    );
    let code = |headers: &[(&str, &str)]| info.answer(&read(headers)).err().map(|e| e.code());
    assert_eq!(code(&[("range", "bytes=10-")]), Some(ErrorCode::InvalidRange));
    assert_eq!(code(&[("if-match", "x")]), Some(ErrorCode::PreconditionFailed));
    let empty = ObjectInfo {
        bytes: 0,
        tags: 0,
        ..info
    };
    let Ok(ReadAnswer::Bytes(reply, None)) = empty.answer(&read(&[])) else {
        panic!("not empty")
    };
    assert_eq!(reply.headers["content-length"], "0");
    assert!(!reply.headers.contains_key("x-amz-tagging-count"));
}
