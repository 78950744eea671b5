//! Objects made of parts, as clients read them and copy them by parts.

use super::Gateway;
use super::client::{Answer, Client};
use ullage_gateway::s3::checksum::{Checksum, ChecksumAlgorithm};

const MIB: usize = 1 << 20;

async fn buckets(gateway: &Gateway) -> Client {
    let client = gateway.client();
    for bucket in ["/from", "/goal"] {
        client.send("PUT", bucket, &[], b"").await.expect(200);
    }
    client
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}

/// Begins an upload and answers its id.
async fn begin(client: &Client, target: &str, headers: &[(&str, &str)]) -> String {
    let begun = client
        .send("POST", &format!("{target}?uploads="), headers, b"")
        .await;
    begun.expect(200).element("UploadId").expect("an id")
}

/// What a complete says of a part that was sent or copied: its ETag, and its checksum if it has one.
fn listed(part: &Answer) -> String {
    let etag = part.header("etag").map_or_else(|| etag_of(part), str::to_owned);
    let checksum = |algorithm: &str| {
        let element = format!("Checksum{algorithm}");
        let header = part.header(&format!("x-amz-checksum-{}", algorithm.to_lowercase()));
        let value = header.map(str::to_owned).or_else(|| part.element(&element))?;
        Some(format!("<{element}>{value}</{element}>"))
    };
    let checksum = ["CRC32", "CRC64NVME", "SHA256"].into_iter().find_map(checksum);
    format!("<ETag>{etag}</ETag>{}", checksum.unwrap_or_default())
}

/// Completes an upload of these parts, in order.
async fn complete(client: &Client, target: &str, upload: &str, parts: &[String]) -> Answer {
    let part =
        |(number, part): (usize, &String)| format!("<Part><PartNumber>{number}</PartNumber>{part}</Part>");
    let parts: String = (1..).zip(parts).map(part).collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let target = format!("{target}?uploadId={upload}");
    client.send("POST", &target, &[], document.as_bytes()).await
}

/// Stores `bytes` in parts of these lengths, with CRC32s if the upload's headers ask for them; answers the parts'
/// checksums.
async fn multipart(
    client: &Client,
    target: &str,
    headers: &[(&str, &str)],
    bytes: &[u8],
    lengths: &[usize],
) -> Vec<Option<String>> {
    let upload = begin(client, target, headers).await;
    let (mut at, mut parts, mut checksums) = (0, Vec::new(), Vec::new());
    for (number, length) in (1..).zip(lengths) {
        let target = format!("{target}?partNumber={number}&uploadId={upload}");
        let part = &bytes[at..at + length];
        let checksum = Checksum::of(ChecksumAlgorithm::Crc32, part).to_base64();
        let sent = [("x-amz-checksum-crc32", checksum.as_str())];
        let sent = if headers.is_empty() { &[][..] } else { &sent };
        let part = client.send("PUT", &target, sent, part).await.expect(200);
        parts.push(listed(&part));
        checksums.push(part.header("x-amz-checksum-crc32").map(str::to_owned));
        at += length;
    }
    complete(client, target, &upload, &parts).await.expect(200);
    checksums
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_read_by_its_number() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let bytes = content(11 * MIB + 7);
    let lengths = [5 * MIB, 6 * MIB, 7];
    let crc32 = [("x-amz-checksum-algorithm", "CRC32")];
    let checksums = multipart(&client, "/from/key", &crc32, &bytes, &lengths).await;
    let copied = [("x-amz-copy-source", "from/key")];
    client.send("PUT", "/goal/key", &copied, b"").await.expect(200);
    let mode = [("x-amz-checksum-mode", "ENABLED")];
    for target in ["/from/key", "/goal/key"] {
        let mut at = 0;
        for (index, length) in lengths.into_iter().enumerate() {
            let numbered = format!("{target}?partNumber={}", index + 1);
            let range = format!("bytes {at}-{}/{}", at + length - 1, bytes.len());
            let got = client.send("GET", &numbered, &mode, b"").await.expect(206);
            assert!(got.body == bytes[at..at + length]);
            let head = client.send("HEAD", &numbered, &mode, b"").await.expect(206);
            for answer in [got, head] {
                assert_eq!(answer.header("content-range"), Some(range.as_str()));
                assert_eq!(answer.header("x-amz-mp-parts-count"), Some("3"));
                assert_eq!(answer.header("x-amz-checksum-crc32"), checksums[index].as_deref());
                assert_eq!(answer.header("x-amz-checksum-type"), Some("COMPOSITE"));
                assert_eq!(answer.header("content-length"), Some(length.to_string().as_str()));
            }
            at += length;
        }
        let behind = client
            .send("GET", &format!("{target}?partNumber=4"), &[], b"")
            .await;
        behind.expect_error(416, "InvalidPartNumber");
        let told = ["PartNumberRequested", "ActualPartCount"].map(|name| behind.element(name));
        assert_eq!(told, [Some("4".to_owned()), Some("3".to_owned())]);
    }
    let both = client
        .send("GET", "/from/key?partNumber=1", &[("range", "bytes=0-1")], b"")
        .await;
    both.expect_error(400, "InvalidRequest");
    for number in ["0", "10001", "x"] {
        let wrong = client
            .send("GET", &format!("/from/key?partNumber={number}"), &[], b"")
            .await;
        wrong.expect_error(400, "InvalidArgument");
    }
    let etag = "\"other\"";
    let changed = client
        .send("GET", "/from/key?partNumber=9", &[("if-match", etag)], b"")
        .await;
    changed.expect_error(412, "PreconditionFailed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_one_piece_is_its_own_first_part() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let mode = [("x-amz-checksum-mode", "ENABLED")];
    for length in [1, 100_000] {
        let bytes = content(length);
        let stored = client.send("PUT", "/from/key", &[], &bytes).await.expect(200);
        let got = client
            .send("GET", "/from/key?partNumber=1", &mode, b"")
            .await
            .expect(206);
        assert!(got.body == bytes);
        let range = format!("bytes 0-{}/{length}", length - 1);
        assert_eq!(got.header("content-range"), Some(range.as_str()));
        assert_eq!(got.header("x-amz-mp-parts-count"), None);
        let made = stored.header("x-amz-checksum-crc64nvme");
        assert!(made.is_some() && got.header("x-amz-checksum-crc64nvme") == made);
        let behind = client.send("GET", "/from/key?partNumber=2", &[], b"").await;
        behind.expect_error(416, "InvalidPartNumber");
        assert_eq!(behind.element("ActualPartCount").as_deref(), Some("1"));
    }
    client.send("PUT", "/from/key", &[], b"").await.expect(200);
    let empty = client
        .send("GET", "/from/key?partNumber=1", &[], b"")
        .await
        .expect(200);
    assert_eq!((empty.body.len(), empty.header("content-range")), (0, None));
    multipart(&client, "/from/key", &[], b"", &[0]).await;
    let empty = client
        .send("GET", "/from/key?partNumber=1", &[], b"")
        .await
        .expect(200);
    assert_eq!(empty.header("x-amz-mp-parts-count"), Some("1"));
}

async fn attributes(client: &Client, target: &str, headers: &[(&str, &str)]) -> Answer {
    client
        .send("GET", &format!("{target}?attributes="), headers, b"")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_told_and_parts_page_by_page() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let all = (
        "x-amz-object-attributes",
        "ETag,Checksum,ObjectParts,StorageClass,ObjectSize",
    );
    let stored = client.send("PUT", "/from/plain", &[], b"hello").await.expect(200);
    let plain = attributes(&client, "/from/plain", &[all]).await.expect(200);
    let crc64 = stored.header("x-amz-checksum-crc64nvme").unwrap();
    let etag = stored.header("etag").unwrap().trim_matches('"');
    assert!(
        plain.text().ends_with(&format!(
            "<ETag>{etag}</ETag><Checksum><ChecksumCRC64NVME>{crc64}</ChecksumCRC64NVME>\
             <ChecksumType>FULL_OBJECT</ChecksumType></Checksum><StorageClass>STANDARD</StorageClass>\
             <ObjectSize>5</ObjectSize></GetObjectAttributesResponse>"
        )),
        "{}",
        plain.text()
    );
    assert!(plain.header("last-modified").is_some());
    let one = [("x-amz-object-attributes", "ObjectSize")];
    let one = attributes(&client, "/from/plain", &one).await.expect(200);
    assert_eq!(
        (one.element("ObjectSize").as_deref(), one.element("ETag")),
        (Some("5"), None)
    );

    let bytes = content(10 * MIB + 9);
    let crc32 = [("x-amz-checksum-algorithm", "CRC32")];
    let checksums = multipart(&client, "/from/key", &crc32, &bytes, &[5 * MIB, 5 * MIB, 9]).await;
    let page = [all, ("x-amz-max-parts", "2")];
    let first = attributes(&client, "/from/key", &page).await.expect(200);
    let expected: Vec<_> = checksums.iter().flatten().cloned().collect();
    assert_eq!(first.elements("PartNumber"), ["1", "2"]);
    assert_eq!(
        first.elements("Size"),
        [(5 * MIB).to_string(), (5 * MIB).to_string()]
    );
    assert_eq!(first.elements("ChecksumCRC32")[1..], expected[..2]);
    for (name, value) in [
        ("IsTruncated", "true"),
        ("MaxParts", "2"),
        ("NextPartNumberMarker", "2"),
        ("PartNumberMarker", "0"),
        ("PartsCount", "3"),
        ("ChecksumType", "COMPOSITE"),
    ] {
        assert_eq!(first.element(name).as_deref(), Some(value), "{name}");
    }
    let page = [all, ("x-amz-part-number-marker", "2")];
    let rest = attributes(&client, "/from/key", &page).await.expect(200);
    assert_eq!(rest.elements("PartNumber"), ["3"]);
    assert_eq!(rest.element("IsTruncated").as_deref(), Some("false"));
    let none = [all, ("x-amz-part-number-marker", "7")];
    let none = attributes(&client, "/from/key", &none).await.expect(200);
    assert!(none.elements("PartNumber").is_empty() && none.element("PartsCount").as_deref() == Some("3"));

    attributes(&client, "/from/none", &[all])
        .await
        .expect_error(404, "NoSuchKey");
    attributes(&client, "/from/key", &[])
        .await
        .expect_error(400, "InvalidArgument");
}

/// Copies bytes of an object into a part.
async fn copy_part(
    client: &Client,
    (target, upload, number): (&str, &str, usize),
    source: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let headers = [&[("x-amz-copy-source", source)], headers].concat();
    let target = format!("{target}?partNumber={number}&uploadId={upload}");
    client.send("PUT", &target, &headers, b"").await
}

fn etag_of(answer: &Answer) -> String {
    answer.element("ETag").expect("an ETag").replace("&quot;", "\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_copied_by_parts_and_outlive_their_source() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let bytes = content(17 * MIB + 3);
    let lengths = [6 * MIB, 5 * MIB, 6 * MIB + 3];
    // By reference, by reference with checksums that the parts must have, and into another class.
    for (headers, is_shown) in [
        (vec![], false),
        (vec![("x-amz-checksum-algorithm", "CRC32")], true),
        (
            vec![
                ("x-amz-checksum-algorithm", "SHA256"),
                ("x-amz-storage-class", "SINGLE"),
            ],
            true,
        ),
    ] {
        multipart(&client, "/from/key", &[], &bytes, &lengths).await;
        let upload = begin(&client, "/goal/copy", &headers).await;
        let mut parts = Vec::new();
        for (number, range) in [
            (1, 0..8 * MIB),
            (2, 8 * MIB..13 * MIB),
            (3, 13 * MIB..bytes.len()),
        ] {
            let range = format!("bytes={}-{}", range.start, range.end - 1);
            let range = [("x-amz-copy-source-range", range.as_str())];
            let copied = copy_part(&client, ("/goal/copy", &upload, number), "/from/key", &range).await;
            let copied = copied.expect(200);
            assert!(copied.text().contains("<CopyPartResult"), "{}", copied.text());
            let shown = copied.text().contains("<Checksum");
            assert_eq!(shown, is_shown, "{}", copied.text());
            parts.push(listed(&copied));
        }
        client.send("DELETE", "/from/key", &[], b"").await.expect(204);
        complete(&client, "/goal/copy", &upload, &parts).await.expect(200);
        let got = client.send("GET", "/goal/copy", &[], b"").await.expect(200);
        assert!(got.body == bytes, "{headers:?}");
        // Of an object that has no checksum, nothing but the number of its parts is told.
        let told = ("x-amz-object-attributes", "ObjectParts");
        let told = attributes(&client, "/goal/copy", &[told]).await.expect(200);
        assert_eq!(told.element("PartsCount").as_deref(), Some("3"));
        let sizes = if is_shown { 3 } else { 0 };
        assert_eq!(told.elements("Size").len(), sizes, "{}", told.text());
        assert_eq!(told.element("MaxParts").is_some(), is_shown, "{}", told.text());
        let second = client
            .send("GET", "/goal/copy?partNumber=2", &[], b"")
            .await
            .expect(206);
        assert!(second.body == bytes[8 * MIB..13 * MIB]);
        let middle = [("range", "bytes=8388000-8389000")];
        let middle = client.send("GET", "/goal/copy", &middle, b"").await.expect(206);
        assert!(middle.body == bytes[8_388_000..=8_389_000]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_objects_become_parts_with_what_is_known_of_them() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let (first, last) = (content(5 * MIB), b"in the FAT itself");
    let stored = client.send("PUT", "/from/first", &[], &first).await.expect(200);
    client.send("PUT", "/from/last", &[], last).await.expect(200);
    let crc64 = [("x-amz-checksum-algorithm", "CRC64NVME")];
    let upload = begin(&client, "/goal/copy", &crc64).await;
    let one = copy_part(&client, ("/goal/copy", &upload, 1), "from/first", &[])
        .await
        .expect(200);
    assert_eq!(Some(etag_of(&one).as_str()), stored.header("etag"));
    assert_eq!(
        one.element("ChecksumCRC64NVME").as_deref(),
        stored.header("x-amz-checksum-crc64nvme")
    );
    let two = copy_part(&client, ("/goal/copy", &upload, 2), "from/last", &[])
        .await
        .expect(200);
    complete(&client, "/goal/copy", &upload, &[listed(&one), listed(&two)])
        .await
        .expect(200);
    let got = client
        .send("GET", "/goal/copy", &[("x-amz-checksum-mode", "ENABLED")], b"")
        .await;
    let got = got.expect(200);
    assert!(got.body == [first.as_slice(), last].concat());
    let numbered = "/goal/copy?partNumber=1";
    let part = client
        .send("GET", numbered, &[("x-amz-checksum-mode", "ENABLED")], b"")
        .await;
    let part = part.expect(206);
    assert_eq!(
        part.header("x-amz-checksum-type"),
        None,
        "it is the whole object's"
    );
    assert_eq!(part.header("x-amz-checksum-crc64nvme"), None);
    // The full-object checksum of what was never read as a whole is right.
    let put = client.send("PUT", "/goal/same", &[], &got.body).await.expect(200);
    assert_eq!(
        got.header("x-amz-checksum-crc64nvme"),
        put.header("x-amz-checksum-crc64nvme")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_cannot_be_copied_are_refused_with_s3s_words() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let stored = client.send("PUT", "/from/key", &[], b"hello").await.expect(200);
    let etag = stored.header("etag").unwrap();
    let upload = begin(&client, "/goal/copy", &[]).await;
    let part = ("/goal/copy", upload.as_str(), 1);
    let range = |text| [("x-amz-copy-source-range", text)];
    for (headers, status, code) in [
        (range("bytes=0-5"), 400, "InvalidArgument"),
        (range("bytes=5-5"), 400, "InvalidArgument"),
        (range("bytes=-2"), 400, "InvalidArgument"),
        (range("0-2"), 400, "InvalidArgument"),
        (
            [("x-amz-copy-source-if-none-match", etag)],
            412,
            "PreconditionFailed",
        ),
        (
            [("x-amz-copy-source-if-match", "\"other\"")],
            412,
            "PreconditionFailed",
        ),
        ([("x-amz-metadata-directive", "COPY")], 501, "NotImplemented"),
    ] {
        let refused = copy_part(&client, part, "from/key", &headers).await;
        refused.expect_error(status, code);
    }
    copy_part(&client, part, "from/none", &[])
        .await
        .expect_error(404, "NoSuchKey");
    copy_part(&client, part, "nowhere/none", &[])
        .await
        .expect_error(404, "NoSuchBucket");
    let other = format!("{:032x}", 5);
    let elsewhere = ("/goal/copy", other.as_str(), 1);
    copy_part(&client, elsewhere, "from/key", &[])
        .await
        .expect_error(404, "NoSuchUpload");
    let numbered = ("/goal/copy", upload.as_str(), 10_001);
    copy_part(&client, numbered, "from/key", &[])
        .await
        .expect_error(400, "InvalidArgument");
    // What is left of a short part in the middle is S3's rule at the end.
    let mut parts = Vec::new();
    for number in [1, 2] {
        let part = ("/goal/copy", upload.as_str(), number);
        parts.push(listed(
            &copy_part(&client, part, "from/key", &range("bytes=1-3"))
                .await
                .expect(200),
        ));
    }
    let short = complete(&client, "/goal/copy", &upload, &parts).await;
    short.expect_error(400, "EntityTooSmall");
    let etag = parts[0].split('"').nth(1).expect("an ETag");
    for (name, value) in [("PartNumber", "1"), ("ProposedSize", "3"), ("ETag", etag)] {
        assert_eq!(short.element(name).as_deref(), Some(value), "{}", short.text());
    }
    let other = "0123456789abcdef0123456789abcdef";
    let wrong = [parts[0].replace(etag, other)];
    let refused = complete(&client, "/goal/copy", &upload, &wrong).await;
    refused.expect_error(400, "InvalidPart");
    for (name, value) in [("PartNumber", "1"), ("UploadId", &upload), ("ETag", other)] {
        assert_eq!(
            refused.element(name).as_deref(),
            Some(value),
            "{}",
            refused.text()
        );
    }
    complete(&client, "/goal/copy", &upload, &parts[..1])
        .await
        .expect(200);
    let got = client.send("GET", "/goal/copy", &[], b"").await.expect(200);
    assert_eq!(got.body, b"ell");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_have_their_parts_and_become_parts() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let document = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let set = client.send("PUT", "/from?versioning", &[], document.as_bytes());
    set.await.expect(200);
    let bytes = content(5 * MIB + 7);
    multipart(&client, "/from/key", &[], &bytes, &[5 * MIB, 7]).await;
    let head = client.send("HEAD", "/from/key", &[], b"").await.expect(200);
    let old = head.header("x-amz-version-id").expect("a version").to_owned();
    client.send("PUT", "/from/key", &[], b"new").await.expect(200);
    let marker = client.send("DELETE", "/from/key", &[], b"").await.expect(204);
    let marker = marker.header("x-amz-version-id").expect("a version").to_owned();

    let part = format!("/from/key?versionId={old}&partNumber=2");
    for method in ["GET", "HEAD"] {
        let got = client.send(method, &part, &[], b"").await.expect(206);
        assert_eq!(got.header("x-amz-version-id"), Some(old.as_str()));
        assert_eq!(got.header("x-amz-mp-parts-count"), Some("2"));
        assert!(method == "HEAD" || got.body == bytes[5 * MIB..]);
    }
    let wanted = [("x-amz-object-attributes", "ObjectParts,ObjectSize")];
    let attributes = async |version: &str| {
        let target = format!("/from/key?attributes&versionId={version}");
        client.send("GET", &target, &wanted, b"").await
    };
    let got = attributes(&old).await.expect(200);
    assert_eq!(got.header("x-amz-version-id"), Some(old.as_str()));
    assert_eq!(got.element("PartsCount").as_deref(), Some("2"));
    assert_eq!(got.element("ObjectSize"), Some(bytes.len().to_string()));
    attributes(&marker).await.expect_error(405, "MethodNotAllowed");
    attributes(&"0".repeat(32))
        .await
        .expect_error(404, "NoSuchVersion");
    let current = client.send("GET", "/from/key?attributes", &wanted, b"").await;
    current.expect_error(404, "NoSuchKey");

    let upload = begin(&client, "/goal/copy", &[]).await;
    let from = |version: &str| format!("from/key?versionId={version}");
    let copied = copy_part(&client, ("/goal/copy", &upload, 1), &from(&old), &[]).await;
    let copied = copied.expect(200);
    assert_eq!(copied.header("x-amz-copy-source-version-id"), Some(old.as_str()));
    let range = [("x-amz-copy-source-range", "bytes=5242878-5242883")];
    let last = copy_part(&client, ("/goal/copy", &upload, 2), &from(&old), &range).await;
    for (source, status, code) in [
        (from(&marker), 400, "InvalidRequest"),
        (from(&"0".repeat(32)), 404, "NoSuchVersion"),
        (from("abc"), 400, "InvalidArgument"),
        ("from/key".to_owned(), 404, "NoSuchKey"),
    ] {
        let refused = copy_part(&client, ("/goal/copy", &upload, 3), &source, &[]).await;
        refused.expect_error(status, code);
    }
    let parts = [listed(&copied), listed(&last.expect(200))];
    complete(&client, "/goal/copy", &upload, &parts).await.expect(200);
    client
        .send("DELETE", &format!("/from/key?versionId={old}"), &[], b"")
        .await
        .expect(204);
    let got = client.send("GET", "/goal/copy", &[], b"").await.expect(200);
    assert!(got.body == [bytes.as_slice(), &bytes[5_242_878..=5_242_883]].concat());
}
