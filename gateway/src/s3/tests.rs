//! The layer as a server uses it, from a signed request to its answer, with
//! aws-sigv4 as the client.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::answer::{ObjectInfo, ReadAnswer, StoredAnswer};
use super::body::{BodyDecoder, WantedDigests};
use super::checksum::{Checksum, ChecksumAlgorithm, ObjectChecksum};
use super::error::ErrorCode;
use super::etag::ETag;
use super::head::{Endpoint, Head};
use super::operation::{Operation, Request};
use super::percent::{self, Slash};
use super::request_xml::DeleteObjectsBody;
use super::sigv4::Authenticated;
use super::testing::{now, request, signed, understand};

fn receive(request: Request, wire: &[u8]) -> super::Result<(Vec<u8>, super::body::BodyDigests)> {
    let wanted = WantedDigests {
        md5: true,
        checksum: Some(ChecksumAlgorithm::Crc64Nvme),
    };
    let mut decoder = BodyDecoder::new(request.body, wanted);
    let mut out = Vec::new();
    decoder.push(Bytes::copy_from_slice(wire), &mut out)?;
    Ok((out.concat(), decoder.finish()?))
}

#[test]
fn put_and_get() {
    let put = request(
        "PUT",
        "/buck/k",
        &[("content-length", "5"), ("content-type", "text/plain")],
    )
    .unwrap();
    let Operation::PutObject(operation) = put.operation.clone() else {
        panic!("not a PutObject")
    };
    let (bytes, digests) = receive(put, b"hello").unwrap();
    assert_eq!(bytes, b"hello");
    let etag = ETag::of_md5(&digests.md5.unwrap());
    let stored = StoredAnswer {
        etag: etag.clone(),
        checksum: digests.checksum,
    }
    .into_reply();
    assert_eq!(stored.headers["etag"], "\"5d41402abc4b2a76b9719d911017c592\"");
    let expected = Checksum::of(ChecksumAlgorithm::Crc64Nvme, b"hello").to_base64();
    assert_eq!(stored.headers["x-amz-checksum-crc64nvme"], expected);

    let info = ObjectInfo {
        bytes: 5,
        etag,
        last_modified: now(),
        headers: operation.headers,
        tags: 0,
        storage_class: "STANDARD".into(),
        checksum: digests.checksum.map(ObjectChecksum::full),
        part: None,
    };
    let get = request("GET", "/buck/k", &[("range", "bytes=1-")]).unwrap();
    let Operation::GetObject(read) = get.operation else {
        panic!("not a GetObject")
    };
    let Ok(ReadAnswer::Bytes(reply, Some(range))) = info.answer(&read) else {
        panic!("no bytes")
    };
    assert_eq!((range.start, range.length, reply.status.as_u16()), (1, 4, 206));
    assert_eq!(reply.headers["content-range"], "bytes 1-4/5");
    assert_eq!(reply.headers["content-type"], "text/plain");
}

#[test]
fn a_document_is_read_after_it_was_verified() {
    let document = b"<Delete><Object><Key>a&#x1;b</Key></Object><Quiet>true</Quiet></Delete>";
    let checksum = Checksum::of(ChecksumAlgorithm::Crc32, document).to_base64();
    let length = document.len().to_string();
    let headers = [
        ("content-length", length.as_str()),
        ("x-amz-checksum-crc32", checksum.as_str()),
    ];
    let (body, _) = receive(request("POST", "/buck?delete", &headers).unwrap(), document).unwrap();
    let delete = DeleteObjectsBody::parse(&body).unwrap();
    assert_eq!(delete.objects[0].key, "a\u{1}b");
    let mut tampered = document.to_vec();
    tampered[23] = b'z';
    let got = receive(request("POST", "/buck?delete", &headers).unwrap(), &tampered);
    assert_eq!(got.map_err(|e| e.code()), Err(ErrorCode::BadDigest));
}

#[test]
fn presigned_urls_of_the_sdk_are_understood() {
    let week = Some(Duration::from_secs(604_800));
    let parts = signed("GET", "/buck/a%20b/%C3%A9?response-content-type=a%2Fb", &[], week);
    let request = understand(&parts, &Endpoint::default()).unwrap();
    assert!(matches!(request.operation, Operation::GetObject(read) if read.key == "a b/é"));
}

#[test]
fn virtual_hosts_are_signed_as_they_are_sent() {
    let parts = signed("GET", "/k", &[("host", "buck.s3.example.org")], None);
    let request = understand(&parts, &Endpoint::new(["s3.example.org"])).unwrap();
    assert!(
        matches!(request.operation, Operation::GetObject(read) if read.bucket == "buck" && read.key == "k")
    );
}

#[test]
fn anonymous_callers_are_refused_whatever_they_send() {
    for headers in [
        &[][..],
        &[("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")],
    ] {
        let parts = super::head::tests::parts("PUT", "/buck/k", headers);
        let got = understand(&parts, &Endpoint::default());
        assert_eq!(
            got.map(|_| ()).map_err(|e| e.code()),
            Err(ErrorCode::AccessDenied)
        );
    }
}

#[test]
fn only_signed_requests_choose_the_answers_headers() {
    let overridden = |target: &str| {
        let parts = super::head::tests::parts("GET", target, &[]);
        let head = Head::parse(&parts, &Endpoint::default())?;
        let route = super::route::route(&head)?;
        Request::parse(&head, route, &Authenticated::anonymous(&head)?).map(drop)
    };
    assert_eq!(overridden("/buck/k"), Ok(()));
    let refused = overridden("/buck/k?response-content-type=text%2Fhtml").map_err(|error| error.code());
    assert_eq!(refused, Err(ErrorCode::InvalidRequest));
}

proptest! {
    /// Any key and any query signed by another implementation verify here.
    #[test]
    fn foreign_signatures_verify(
        key in "[a-z%/+ ~*'()=&?#é€\u{1}.-]{1,30}",
        prefix in "[a-z%/+ ~*'()=&?#é.-]{0,20}",
        value in "[!-~]([ !-~]{0,20}[!-~])?",
        presigned in any::<bool>(),
    ) {
        let target = format!(
            "/buck/{}?x-note={}&x-b",
            percent::encode(&key, Slash::Keep),
            percent::encode(&prefix, Slash::Encode)
        );
        let life = presigned.then_some(Duration::from_secs(60));
        let parts = signed("PUT", &target, &[("content-length", "0"), ("x-amz-meta-note", &value)], life);
        let request = understand(&parts, &Endpoint::default());
        match request.map(|request| request.operation) {
            Ok(Operation::PutObject(put)) => {
                prop_assert_eq!(put.key, key);
                prop_assert_eq!(put.headers.metadata.get("note"), Some(&value));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// No target and no headers make the layer panic.
    #[test]
    fn strange_requests_do_not_panic(
        method in prop_oneof![Just("GET"), Just("PUT"), Just("POST"), Just("DELETE"), Just("HEAD")],
        target in "/[a-z%/0-9]{0,20}\\?[a-zA-Z%&=/0-9-]{0,60}",
        authorization in "(AWS4-HMAC-SHA256 )?[A-Za-z=,;/0-9 -]{0,60}",
        range in "[ -~]{0,30}",
    ) {
        let headers =
            [("authorization", authorization.as_str()), ("range", &range), ("if-match", &range), ("x-amz-date", &range)];
        let parts = super::head::tests::parts(method, &target, &headers);
        let endpoint = Endpoint::default();
        prop_assert!(understand(&parts, &endpoint).is_err());
        let parts = super::head::tests::parts(method, &target, &[("range", &range), ("if-match", &range)]);
        if let Ok(head) = Head::parse(&parts, &endpoint) {
            let _ = super::route::route(&head);
            let _ = super::conditions::ReadConditions::parse(&head);
            let _ = super::conditions::WriteCondition::parse(&head);
        }
    }
}
