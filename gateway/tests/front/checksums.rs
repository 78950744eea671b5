//! Checksums of every kind: sent, made, kept, shown.

use super::Gateway;
use super::client::{Answer, Client};
use base64::Engine as _;
use ullage_gateway::s3::checksum::{Checksum, ChecksumAlgorithm};

const MIB: usize = 1 << 20;
const ALGORITHMS: [&str; 5] = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];
const SHOWN: [(&str, &str); 1] = [("x-amz-checksum-mode", "ENABLED")];

async fn bucket(gateway: &Gateway) -> Client {
    let client = gateway.client();
    client.send("PUT", "/first", &[], b"").await.expect(200);
    client
}

fn header(algorithm: &str) -> String {
    format!("x-amz-checksum-{}", algorithm.to_lowercase())
}

fn checksum_of(algorithm: &str, bytes: &[u8]) -> String {
    let algorithm = ChecksumAlgorithm::parse(algorithm).expect("an algorithm");
    Checksum::of(algorithm, bytes).to_base64()
}

fn decode(text: &String) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("base64")
}

fn shown<'a>(answer: &'a Answer, algorithm: &str) -> (Option<&'a str>, Option<&'a str>) {
    (
        answer.header(&header(algorithm)),
        answer.header("x-amz-checksum-type"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sent_checksum_is_verified_kept_and_shown() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    for algorithm in ALGORITHMS {
        let right = checksum_of(algorithm, b"hello");
        let wrong = checksum_of(algorithm, b"other");
        let name = header(algorithm);
        let refused = client
            .send("PUT", "/first/key", &[(name.as_str(), &wrong)], b"hello")
            .await;
        refused.expect_error(400, "BadDigest");
        let refused = client
            .send("PUT", "/first/key", &[(name.as_str(), "AAAA")], b"hello")
            .await;
        refused.expect_error(400, "InvalidRequest");
        let stored = client
            .send("PUT", "/first/key", &[(name.as_str(), &right)], b"hello")
            .await;
        assert_eq!(
            shown(&stored.expect(200), algorithm),
            (Some(right.as_str()), Some("FULL_OBJECT"))
        );
        for method in ["GET", "HEAD"] {
            let read = client.send(method, "/first/key", &SHOWN, b"").await.expect(200);
            assert_eq!(
                shown(&read, algorithm),
                (Some(right.as_str()), Some("FULL_OBJECT")),
                "{method}"
            );
            let silent = client.send(method, "/first/key", &[], b"").await.expect(200);
            assert_eq!(shown(&silent, algorithm), (None, None));
        }
        let list = client
            .send("GET", "/first?list-type=2&prefix=key", &[], b"")
            .await
            .expect(200);
        assert_eq!(list.element("ChecksumAlgorithm").as_deref(), Some(algorithm));
        assert_eq!(list.element("ChecksumType").as_deref(), Some("FULL_OBJECT"));
    }
}

/// A checksum behind the last byte of a body whose chunks nobody signed, as SDKs send it.
#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_behind_the_body_is_as_good_as_one_before_it() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    for algorithm in ALGORITHMS {
        let right = checksum_of(algorithm, b"hello");
        let wrong = checksum_of(algorithm, b"other");
        let name = header(algorithm);
        let send = async |promised: &str, trailer: &str, value: &str| {
            let body = format!("5\r\nhello\r\n0\r\n{trailer}:{value}\r\n\r\n");
            let headers = [
                ("content-encoding", "aws-chunked"),
                ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                ("x-amz-decoded-content-length", "5"),
                ("x-amz-trailer", promised),
            ];
            client.send("PUT", "/first/key", &headers, body.as_bytes()).await
        };
        client.send("DELETE", "/first/key", &[], b"").await.expect(204);
        send(&name, &name, &wrong).await.expect_error(400, "BadDigest");
        // What was promised comes, and nothing else.
        let other = if algorithm == "CRC32" {
            "x-amz-checksum-sha1"
        } else {
            "x-amz-checksum-crc32"
        };
        let broken = send(&name, other, &right).await;
        assert_eq!(broken.status, 400, "{}", broken.text());
        let broken = send("x-amz-meta-checksum", "x-amz-meta-checksum", &right).await;
        assert!((400..=501).contains(&broken.status), "{}", broken.text());
        client
            .send("GET", "/first/key", &[], b"")
            .await
            .expect_error(404, "NoSuchKey");
        send(&name, &name, &right).await.expect(200);
        let read = client.send("GET", "/first/key", &SHOWN, b"").await.expect(200);
        assert_eq!(read.body, b"hello");
        assert_eq!(
            shown(&read, algorithm),
            (Some(right.as_str()), Some("FULL_OBJECT"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_asked_for_checksums_take_no_others_and_none_less() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let asked = [
        ("x-amz-checksum-algorithm", "SHA256"),
        ("x-amz-checksum-type", "COMPOSITE"),
    ];
    let begun = client.send("POST", "/first/whole?uploads=", &asked, b"").await;
    let begun = begun.expect(200);
    assert_eq!(begun.header("x-amz-checksum-algorithm"), Some("SHA256"));
    assert_eq!(begun.header("x-amz-checksum-type"), Some("COMPOSITE"));
    let upload = begun.element("UploadId").expect("an id");
    let right = checksum_of("SHA256", b"hello");
    let wrong = checksum_of("SHA256", b"other");
    let other = checksum_of("CRC32", b"hello");
    let part = |number: u32| format!("/first/whole?partNumber={number}&uploadId={upload}");
    let send =
        async |number, headers: &[(&str, &str)]| client.send("PUT", &part(number), headers, b"hello").await;
    let refused = send(1, &[("x-amz-checksum-sha256", &wrong)]).await;
    refused.expect_error(400, "BadDigest");
    let refused = send(1, &[("x-amz-checksum-crc32", &other)]).await;
    refused.expect_error(400, "InvalidRequest");
    let missing = send(1, &[]).await;
    missing.expect_error(400, "InvalidRequest");
    assert!(missing.text().contains(
        "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: null"
    ));
    let sent = send(1, &[("x-amz-checksum-sha256", &right)]).await.expect(200);
    send(2, &[("x-amz-checksum-sha256", &right)]).await.expect(200);
    let etag = sent.header("etag").expect("an ETag");

    let whole = format!("/first/whole?uploadId={upload}");
    let complete = async |parts: &[(u32, &str)], headers: &[(&str, &str)]| {
        let part = |(number, checksum): &(u32, &str)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{checksum}</Part>")
        };
        let parts: String = parts.iter().map(part).collect();
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        client.send("POST", &whole, headers, document.as_bytes()).await
    };
    let sha256 = |value: &str| format!("<ChecksumSHA256>{value}</ChecksumSHA256>");
    let crc32 = format!("<ChecksumCRC32>{other}</ChecksumCRC32>");
    let of_part = right;
    let (right, wrong) = (sha256(&of_part), sha256(&wrong));
    let missing = complete(&[(1, "")], &[]).await;
    missing.expect_error(400, "InvalidRequest");
    assert!(missing.text().contains(
        "The upload was created using a sha256 checksum. The complete request must include the checksum for each \
         part. It was missing for part 1 in the request."
    ));
    for (parts, headers, code) in [
        (&[(1, wrong.as_str())][..], &[][..], "InvalidPart"),
        (&[(1, &crc32)], &[], "InvalidPart"),
        (
            &[(1, "<ChecksumSHA256>AAAA</ChecksumSHA256>")],
            &[],
            "InvalidRequest",
        ),
        (&[(2, &right)], &[], "InvalidPartOrder"),
        (&[(1, &right), (3, &right)], &[], "InvalidPartOrder"),
        (&[(1, &right), (2, &right)], &[], "EntityTooSmall"),
        (
            &[(1, &right)],
            &[("x-amz-checksum-type", "FULL_OBJECT")],
            "InvalidRequest",
        ),
        (&[(1, &right)], &[("x-amz-mp-object-size", "6")], "InvalidRequest"),
    ] {
        complete(parts, headers).await.expect_error(400, code);
    }
    client
        .send("GET", "/first/whole", &[], b"")
        .await
        .expect_error(404, "NoSuchKey");
    complete(&[(1, &right)], &[("x-amz-mp-object-size", "5")])
        .await
        .expect(200);
    let wanted = [("x-amz-object-attributes", "Checksum,ObjectParts")];
    let told = client
        .send("GET", "/first/whole?attributes=", &wanted, b"")
        .await
        .expect(200);
    assert_eq!(told.element("ChecksumType").as_deref(), Some("COMPOSITE"));
    let checksums = told.elements("ChecksumSHA256");
    assert_eq!(checksums.len(), 2, "{}", told.text());
    // Here, and only here, S3 leaves out how many parts there are.
    assert_eq!(checksums[0], checksum_of("SHA256", &decode(&of_part)));
    assert_eq!(checksums[1], of_part);
}

/// Stores two parts and completes the upload, once with a wrong checksum and then with the right one; answers the
/// parts' checksums.
async fn multipart(
    client: &Client,
    (algorithm, kind): (&str, &str),
    parts: &[Vec<u8>],
    (wrong, right): (&str, &str),
) -> Vec<String> {
    let asked = [
        ("x-amz-checksum-algorithm", algorithm),
        ("x-amz-checksum-type", kind),
    ];
    let begun = client
        .send("POST", "/first/whole?uploads=", &asked, b"")
        .await
        .expect(200);
    let upload = begun.element("UploadId").expect("an id");
    let (mut document, mut checksums) = (String::new(), Vec::new());
    for (number, bytes) in (1..).zip(parts) {
        let target = format!("/first/whole?partNumber={number}&uploadId={upload}");
        let sent = checksum_of(algorithm, bytes);
        let sent = [(header(algorithm), sent)];
        let sent = sent
            .each_ref()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        // Where the object's checksum is made of all bytes, that of a part may be left to the store.
        let sent = if kind == "COMPOSITE" { &sent[..] } else { &[] };
        let part = client.send("PUT", &target, sent, bytes).await.expect(200);
        let checksum = part
            .header(&header(algorithm))
            .expect("the upload's algorithm")
            .to_owned();
        let etag = part.header("etag").expect("an ETag");
        document += &format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>\
             <Checksum{algorithm}>{checksum}</Checksum{algorithm}></Part>"
        );
        checksums.push(checksum);
    }
    let document = format!("<CompleteMultipartUpload>{document}</CompleteMultipartUpload>");
    let name = header(algorithm);
    let target = format!("/first/whole?uploadId={upload}");
    let complete = async |claimed: &str| {
        let claims = [(name.as_str(), claimed), ("x-amz-checksum-type", kind)];
        client.send("POST", &target, &claims, document.as_bytes()).await
    };
    complete(wrong).await.expect_error(400, "BadDigest");
    let made = complete(right).await.expect(200);
    assert_eq!(
        made.element(&format!("Checksum{algorithm}")).as_deref(),
        Some(right)
    );
    let read = client.send("HEAD", "/first/whole", &SHOWN, b"").await.expect(200);
    assert_eq!(shown(&read, algorithm), (Some(right), Some(kind)));
    checksums
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_of_parts_become_that_of_the_object() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let parts = [vec![7; 5 * MIB], vec![9; 1000]];
    let whole = parts.concat();
    for (algorithm, full, composite) in [
        ("CRC32", true, true),
        ("CRC32C", true, true),
        ("CRC64NVME", true, false),
        ("SHA1", false, true),
        ("SHA256", false, true),
    ] {
        let wrong = checksum_of(algorithm, b"other");
        if full {
            let claims = (wrong.as_str(), &*checksum_of(algorithm, &whole));
            multipart(&client, (algorithm, "FULL_OBJECT"), &parts, claims).await;
        }
        let asked = [
            ("x-amz-checksum-algorithm", algorithm),
            ("x-amz-checksum-type", "COMPOSITE"),
        ];
        if !composite {
            let refused = client.send("POST", "/first/whole?uploads=", &asked, b"").await;
            refused.expect_error(400, "InvalidRequest");
            continue;
        }
        let of_parts = [
            checksum_of(algorithm, &parts[0]),
            checksum_of(algorithm, &parts[1]),
        ];
        let joined: Vec<u8> = of_parts.iter().flat_map(decode).collect();
        let expected = format!("{}-2", checksum_of(algorithm, &joined));
        let claims = (&*format!("{wrong}-2"), expected.as_str());
        let sent = multipart(&client, (algorithm, "COMPOSITE"), &parts, claims).await;
        assert_eq!(sent, of_parts);
    }
}
