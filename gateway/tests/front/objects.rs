//! Buckets, objects, listings and deletes as clients use them.

use super::Gateway;
use super::client::Client;
use super::metad::MetadFaults;

async fn bucket(gateway: &Gateway) -> Client {
    let client = gateway.client();
    client.send("PUT", "/first", &[], b"").await.expect(200);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_come_back_with_their_headers() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let headers = [
        ("content-type", "text/odd"),
        ("x-amz-meta-cask", "12"),
        ("x-amz-storage-class", "SINGLE"),
    ];
    let stored = client
        .send("PUT", "/first/a%20b", &headers, b"hello")
        .await
        .expect(200);
    assert_eq!(
        stored.header("etag"),
        Some("\"5d41402abc4b2a76b9719d911017c592\"")
    );
    assert_eq!(stored.header("x-amz-server-side-encryption"), Some("AES256"));
    assert!(
        stored.header("x-amz-checksum-crc64nvme").is_some(),
        "made when none is sent"
    );

    let got = client
        .send("GET", "/first/a%20b", &[("x-amz-checksum-mode", "ENABLED")], b"")
        .await
        .expect(200);
    assert_eq!(got.body, b"hello");
    for (name, value) in [
        ("content-type", "text/odd"),
        ("x-amz-meta-cask", "12"),
        ("x-amz-storage-class", "SINGLE"),
        ("accept-ranges", "bytes"),
        ("content-length", "5"),
    ] {
        assert_eq!(got.header(name), Some(value), "{name}");
    }
    assert_eq!(
        got.header("x-amz-checksum-crc64nvme"),
        stored.header("x-amz-checksum-crc64nvme")
    );
    let head = client.send("HEAD", "/first/a%20b", &[], b"").await.expect(200);
    assert_eq!((head.header("content-length"), head.body.len()), (Some("5"), 0));

    let part = client
        .send("GET", "/first/a%20b", &[("range", "bytes=1-3")], b"")
        .await
        .expect(206);
    assert_eq!(
        (part.body.as_slice(), part.header("content-range")),
        (&b"ell"[..], Some("bytes 1-3/5"))
    );
    let beyond = client
        .send("GET", "/first/a%20b", &[("range", "bytes=9-")], b"")
        .await;
    beyond.expect_error(416, "InvalidRange");
    let etag = stored.header("etag").expect("an ETag").to_owned();
    let same = client
        .send("GET", "/first/a%20b", &[("if-none-match", &etag)], b"")
        .await
        .expect(304);
    assert_eq!((same.header("etag"), same.body.len()), (Some(etag.as_str()), 0));
    let other = [("if-range", "\"other\""), ("range", "bytes=1-3")];
    assert_eq!(
        client
            .send("GET", "/first/a%20b", &other, b"")
            .await
            .expect(200)
            .body,
        b"hello"
    );

    client
        .send("GET", "/first/none", &[], b"")
        .await
        .expect_error(404, "NoSuchKey");
    client
        .send("GET", "/nowhere/none", &[], b"")
        .await
        .expect_error(404, "NoSuchBucket");
    let class = [("x-amz-storage-class", "FROZEN")];
    client
        .send("PUT", "/first/x", &class, b"1")
        .await
        .expect_error(400, "InvalidStorageClass");
    client.send("PUT", "/first/empty", &[], b"").await.expect(200);
    assert!(
        client
            .send("GET", "/first/empty", &[], b"")
            .await
            .expect(200)
            .body
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_reached_as_virtual_hosts_too() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let virtual_host = client.at_host("first.s3.test");
    virtual_host.send("PUT", "/a/b", &[], b"hello").await.expect(200);
    assert_eq!(
        client.send("GET", "/first/a/b", &[], b"").await.expect(200).body,
        b"hello"
    );
    let list = virtual_host
        .send("GET", "/?list-type=2", &[], b"")
        .await
        .expect(200);
    assert_eq!(list.elements("Key"), ["a/b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_made_though_settings_change_meanwhile() {
    let gateway = Gateway::start().await;
    let stale = |stale_creates| MetadFaults {
        stale_creates,
        ..MetadFaults::default()
    };
    gateway.metad.set_faults(stale(2));
    let client = gateway.client();
    client.send("PUT", "/settled", &[], b"").await.expect(200);
    gateway.metad.set_faults(stale(1000));
    let never = client.send("PUT", "/unsettled", &[], b"").await;
    never.expect_error(409, "OperationAborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditional_writes_are_decided_with_the_write() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let absent = [("if-none-match", "*")];
    client
        .send("PUT", "/first/once", &absent, b"one")
        .await
        .expect(200);
    let late = client.send("PUT", "/first/once", &absent, b"two").await;
    late.expect_error(412, "PreconditionFailed");
    assert_eq!(late.element("Condition").as_deref(), Some("If-None-Match"));
    let other = [("if-match", "\"00000000000000000000000000000000\"")];
    client
        .send("PUT", "/first/once", &other, b"two")
        .await
        .expect_error(412, "PreconditionFailed");
    let missing = client.send("PUT", "/first/missing", &other, b"two").await;
    missing.expect_error(404, "NoSuchKey");
    assert_eq!(missing.element("Key").as_deref(), Some("missing"));
    client
        .send("DELETE", "/first/once", &other, b"")
        .await
        .expect_error(412, "PreconditionFailed");
    assert_eq!(
        client.send("GET", "/first/once", &[], b"").await.expect(200).body,
        b"one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_made_listed_and_removed() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    client.send("PUT", "/first", &[], b"").await.expect(200);
    client.send("PUT", "/second", &[], b"").await.expect(200);
    let elsewhere = b"<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint></CreateBucketConfiguration>";
    let refused = client.send("PUT", "/third", &[], elsewhere).await;
    refused.expect_error(400, "InvalidLocationConstraint");
    let all = client.send("GET", "/", &[], b"").await.expect(200);
    assert_eq!(all.elements("Name"), ["first", "second"]);
    let page = client.send("GET", "/?max-buckets=1", &[], b"").await.expect(200);
    assert_eq!(page.elements("Name"), ["first"]);
    let token = page.element("ContinuationToken").expect("a token");
    let page = client
        .send(
            "GET",
            &format!("/?continuation-token={token}&max-buckets=1"),
            &[],
            b"",
        )
        .await;
    assert_eq!(page.expect(200).elements("Name"), ["second"]);
    let head = client.send("HEAD", "/first", &[], b"").await.expect(200);
    assert_eq!(head.header("x-amz-bucket-region"), Some(super::REGION));
    let owner = [("x-amz-expected-bucket-owner", "123456789012")];
    assert_eq!(client.send("HEAD", "/first", &owner, b"").await.status, 403);
    client.send("PUT", "/first/kept", &[], b"x").await.expect(200);
    let kept = client.send("DELETE", "/first", &[], b"").await;
    kept.expect_error(409, "BucketNotEmpty");
    assert_eq!(kept.element("BucketName").as_deref(), Some("first"));
    client.send("DELETE", "/second", &[], b"").await.expect(204);
    client
        .send("DELETE", "/second", &[], b"")
        .await
        .expect_error(404, "NoSuchBucket");
    client
        .send("GET", "/second?list-type=2", &[], b"")
        .await
        .expect_error(404, "NoSuchBucket");
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_page_and_fold_and_deletes_show() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    for key in ["a/1", "a/2", "b", "c/1", "d"] {
        client
            .send("PUT", &format!("/first/{key}"), &[], b"x")
            .await
            .expect(200);
    }
    let (mut keys, mut prefixes, mut token) = (Vec::new(), Vec::new(), None::<String>);
    for _ in 0..10 {
        let mut target = String::from("/first?");
        if let Some(token) = &token {
            target += &format!("continuation-token={token}&");
        }
        target += "delimiter=%2F&list-type=2&max-keys=1";
        let page = client.send("GET", &target, &[], b"").await.expect(200);
        assert_eq!(page.element("KeyCount").as_deref(), Some("1"));
        keys.extend(page.elements("Key"));
        prefixes.extend(
            page.elements("Prefix")
                .into_iter()
                .filter(|prefix| !prefix.is_empty()),
        );
        token = page.element("NextContinuationToken");
        assert_eq!(
            page.element("IsTruncated").as_deref(),
            Some(if token.is_some() { "true" } else { "false" })
        );
        if token.is_none() {
            break;
        }
    }
    assert_eq!(
        (keys, prefixes),
        (vec!["b".into(), "d".into()], vec!["a/".to_owned(), "c/".into()])
    );
    let none = client
        .send("GET", "/first?list-type=2&max-keys=0", &[], b"")
        .await
        .expect(200);
    assert_eq!(
        (none.elements("Key").len(), none.element("IsTruncated").as_deref()),
        (0, Some("false"))
    );
    let old = client
        .send("GET", "/first?delimiter=%2F&max-keys=2", &[], b"")
        .await
        .expect(200);
    assert_eq!(old.element("NextMarker").as_deref(), Some("b"));

    let document = b"<Delete><Object><Key>a/1</Key></Object><Object><Key>none</Key></Object>\
        <Object><Key>b</Key><ETag>\"00\"</ETag></Object></Delete>";
    let checksum = [("x-amz-checksum-crc32", crc32(document))];
    let checksum = [(checksum[0].0, checksum[0].1.as_str())];
    let deleted = client
        .send("POST", "/first?delete=", &checksum, document)
        .await
        .expect(200);
    assert_eq!(deleted.elements("Key"), ["a/1", "none", "b"]);
    assert_eq!(deleted.elements("Code"), ["PreconditionFailed"]);
    client.send("DELETE", "/first/d", &[], b"").await.expect(204);
    client.send("DELETE", "/first/d", &[], b"").await.expect(204);
    let left = client
        .send("GET", "/first?list-type=2", &[], b"")
        .await
        .expect(200);
    assert_eq!(left.elements("Key"), ["a/2", "b", "c/1"]);
}

fn crc32(bytes: &[u8]) -> String {
    use ullage_gateway::s3::checksum::{Checksum, ChecksumAlgorithm};
    Checksum::of(ChecksumAlgorithm::Crc32, bytes).to_base64()
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_begun_completed_and_given_up() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let begun = client
        .send("POST", "/first/parts?uploads=", &[], b"")
        .await
        .expect(200);
    let upload = begun.element("UploadId").expect("an upload");
    assert_eq!(upload.len(), 32);
    let part = client
        .send(
            "PUT",
            &format!("/first/parts?partNumber=1&uploadId={upload}"),
            &[],
            b"",
        )
        .await;
    let etag = part.expect(200).header("etag").expect("an ETag").to_owned();
    let target = format!("/first/parts?uploadId={upload}");
    let document = |etag: &str| {
        format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        )
    };
    let unknown = client
        .send("POST", &target, &[], document("\"x\"").as_bytes())
        .await;
    unknown.expect_error(400, "InvalidPart");
    let size = [("x-amz-mp-object-size", "7")];
    let wrong = client
        .send("POST", &target, &size, document(&etag).as_bytes())
        .await;
    wrong.expect_error(400, "InvalidRequest");
    let done = client
        .send("POST", &target, &[], document(&etag).as_bytes())
        .await
        .expect(200);
    assert!(
        done.element("ETag").is_some_and(|etag| etag.contains("-1")),
        "{}",
        done.text()
    );
    let at = |host: &str| Some(format!("http://{host}/first/parts"));
    assert_eq!(done.element("Location"), at(&gateway.s3.to_string()));
    let again = client
        .send("POST", &target, &[], document(&etag).as_bytes())
        .await
        .expect(200);
    assert_eq!(again.element("ETag"), done.element("ETag"));
    client
        .send("DELETE", &target, &[], b"")
        .await
        .expect_error(404, "NoSuchUpload");
    assert_eq!(client.send("GET", "/first/parts", &[], b"").await.status, 200);

    let begun = client
        .send("POST", "/first/given-up?uploads=", &[], b"")
        .await
        .expect(200);
    let target = format!(
        "/first/given-up?uploadId={}",
        begun.element("UploadId").expect("an upload")
    );
    client.send("DELETE", &target, &[], b"").await.expect(204);
    client
        .send("DELETE", &target, &[], b"")
        .await
        .expect_error(404, "NoSuchUpload");
    let guessed = client
        .send("DELETE", "/first/given-up?uploadId=1", &[], b"")
        .await;
    guessed.expect_error(404, "NoSuchUpload");
}

const MIB: usize = 1 << 20;

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 7 % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_many_chunks_and_parts_come_back() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let body = content(9 * MIB + 77);
    client.send("PUT", "/first/large", &[], &body).await.expect(200);
    assert!(
        client
            .send("GET", "/first/large", &[], b"")
            .await
            .expect(200)
            .body
            == body
    );
    let range = [("range", "bytes=1048570-5242890")];
    let part = client.send("GET", "/first/large", &range, b"").await.expect(206);
    assert!(part.body == body[1_048_570..=5_242_890]);

    let algorithm = [("x-amz-checksum-algorithm", "CRC32")];
    let begun = client
        .send("POST", "/first/parts?uploads=", &algorithm, b"")
        .await
        .expect(200);
    let upload = begun.element("UploadId").expect("an upload");
    let mut listed = String::new();
    for (index, part) in body.chunks(5 * MIB).enumerate() {
        let number = index + 1;
        let target = format!("/first/parts?partNumber={number}&uploadId={upload}");
        let checksum = crc32(part);
        let sent = [("x-amz-checksum-crc32", checksum.as_str())];
        let stored = client.send("PUT", &target, &sent, part).await.expect(200);
        let etag = stored.header("etag").expect("an ETag");
        assert_eq!(stored.header("x-amz-checksum-crc32"), Some(checksum.as_str()));
        listed += &format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumCRC32>{checksum}</ChecksumCRC32></Part>"
        );
    }
    let document = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
    let target = format!("/first/parts?uploadId={upload}");
    let size = [("x-amz-mp-object-size", "9437261")];
    let done = client
        .send("POST", &target, &size, document.as_bytes())
        .await
        .expect(200);
    assert_eq!(done.element("ChecksumType").as_deref(), Some("COMPOSITE"));
    assert!(
        done.element("ChecksumCRC32")
            .is_some_and(|value| value.ends_with("-2")),
        "{}",
        done.text()
    );
    let got = client
        .send("GET", "/first/parts", &[("x-amz-checksum-mode", "ENABLED")], b"")
        .await
        .expect(200);
    assert!(got.body == body);
    assert_eq!(
        got.header("x-amz-checksum-crc32"),
        done.element("ChecksumCRC32").as_deref()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_verify_is_an_error_or_a_cut_connection_and_never_a_short_answer() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let body = content(64 * MIB);
    client.send("PUT", "/first/large", &[], &body).await.expect(200);
    client
        .send("PUT", "/first/one-frame", &[], &body[..10_000])
        .await
        .expect(200);
    let mut connection = client.connect().await;
    connection
        .send(client.head("GET", "/first/large", &[], 0).as_bytes())
        .await;
    let mut received = connection.some_bytes().await;
    for vendor in gateway.agents.vendors() {
        gateway.agents.damage_all(vendor);
    }
    received.extend(connection.rest().await);
    let text = String::from_utf8_lossy(&received[..received.len().min(2000)]).into_owned();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let start = received
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head")
        + 4;
    let sent = &received[start..];
    assert!(sent.len() < body.len(), "{} bytes came", sent.len());
    assert!(*sent == body[..sent.len()], "all that came was right");
    let none = client.send("GET", "/first/one-frame", &[], b"").await;
    none.expect_error(500, "InternalError");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_leave_to_send_nothing_begins_anew() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let expect = [("expect", "100-continue")];
    let mut connection = client.connect().await;
    let head = client.head("PUT", "/first/full", &expect, 4);
    connection.send(head.as_bytes()).await;
    assert_eq!(connection.some_bytes().await, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.send(b"four").await;
    let stored = connection.answer(false).await.expect("an answer").expect(200);
    assert_eq!(
        stored.header("connection"),
        None,
        "with leave the connection is used again"
    );
    let head = client.head("PUT", "/first/empty", &expect, 0);
    connection.send(head.as_bytes()).await;
    let stored = connection.answer(false).await.expect("an answer").expect(200);
    assert_eq!((stored.interim, stored.header("connection")), (0, Some("close")));
    assert!(connection.is_closed().await);
}
