//! Copies as clients make them.

use super::Gateway;
use super::client::{Answer, Client};
use super::metad::MetadFaults;

async fn buckets(gateway: &Gateway) -> Client {
    let client = gateway.client();
    for bucket in ["/from", "/goal"] {
        client.send("PUT", bucket, &[], b"").await.expect(200);
    }
    client
}

async fn copy(client: &Client, target: &str, source: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("x-amz-copy-source", source)], headers].concat();
    client.send("PUT", target, &headers, b"").await
}

/// The text of an element, with its quotes.
fn unescaped(answer: &Answer, name: &str) -> Option<String> {
    answer.element(name).map(|text| text.replace("&quot;", "\""))
}

async fn body(client: &Client, target: &str) -> Vec<u8> {
    client.send("GET", target, &[], b"").await.expect(200).body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_object_and_outlives_its_source() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let headers = [("content-type", "text/odd"), ("x-amz-meta-cask", "12")];
    // In the FAT itself, and at vendors.
    for length in [0, 5, 100_000, 9 << 20] {
        let bytes: Vec<u8> = (0..length).map(|at: usize| (at % 251) as u8).collect();
        let stored = client
            .send("PUT", "/from/a%20b", &headers, &bytes)
            .await
            .expect(200);
        let copied = copy(&client, "/goal/copy", "/from/a%20b", &[]).await.expect(200);
        assert_eq!(
            unescaped(&copied, "ETag"),
            stored.header("etag").map(str::to_owned)
        );
        assert!(
            copied
                .element("LastModified")
                .is_some_and(|time| time.ends_with('Z'))
        );
        assert_eq!(
            copied.element("ChecksumCRC64NVME").as_deref(),
            stored.header("x-amz-checksum-crc64nvme")
        );
        client.send("DELETE", "/from/a%20b", &[], b"").await.expect(204);
        let got = client.send("GET", "/goal/copy", &[], b"").await.expect(200);
        assert!(got.body == bytes, "{length} bytes");
        for (name, value) in headers {
            assert_eq!(got.header(name), Some(value), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_replaced_on_demand_and_to_itself_only_then() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let old = [("x-amz-meta-cask", "12"), ("content-type", "text/old")];
    client.send("PUT", "/from/key", &old, b"hello").await.expect(200);
    copy(&client, "/from/key", "from/key", &[])
        .await
        .expect_error(400, "InvalidRequest");
    let new = [
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-meta-colour", "red"),
        ("content-type", "text/new"),
    ];
    for target in ["/goal/key", "/from/key"] {
        copy(&client, target, "from/key", &new).await.expect(200);
        let got = client.send("GET", target, &[], b"").await.expect(200);
        assert_eq!(got.body, b"hello");
        assert_eq!(got.header("x-amz-meta-colour"), Some("red"));
        assert_eq!(
            (got.header("x-amz-meta-cask"), got.header("content-type")),
            (None, Some("text/new"))
        );
    }
    let list = client
        .send("GET", "/from?list-type=2", &[], b"")
        .await
        .expect(200);
    assert_eq!(list.elements("Key"), ["key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_into_another_class_moves_the_bytes() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let bytes: Vec<u8> = (0..5 << 20).map(|at: usize| (at % 241) as u8).collect();
    let stored = client.send("PUT", "/from/key", &[], &bytes).await.expect(200);
    let class = [("x-amz-storage-class", "SINGLE")];
    let before = gateway.agents.vendors().len();
    let copied = copy(&client, "/goal/key", "from/key", &class).await.expect(200);
    assert_eq!(
        unescaped(&copied, "ETag"),
        stored.header("etag").map(str::to_owned)
    );
    assert_eq!(gateway.agents.vendors().len(), before);
    client.send("DELETE", "/from/key", &[], b"").await.expect(204);
    let got = client.send("GET", "/goal/key", &[], b"").await.expect(200);
    assert!(got.body == bytes);
    assert_eq!(got.header("x-amz-storage-class"), Some("SINGLE"));
    // And back: who names no class asks for STANDARD.
    copy(
        &client,
        "/goal/key",
        "goal/key",
        &[("x-amz-metadata-directive", "REPLACE")],
    )
    .await
    .expect(200);
    let back = client.send("GET", "/goal/key", &[], b"").await.expect(200);
    assert!(back.body == bytes && back.header("x-amz-storage-class").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_checksum_that_is_asked_for() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let class = ("x-amz-storage-class", "SINGLE");
    for length in [0, 5, 5 << 20] {
        let bytes = vec![7; length];
        client.send("PUT", "/from/key", &[], &bytes).await.expect(200);
        for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"] {
            let header = format!("x-amz-checksum-{}", algorithm.to_lowercase());
            let asked = ("x-amz-checksum-algorithm", algorithm);
            for headers in [vec![asked], vec![asked, class]] {
                let copied = copy(&client, "/goal/key", "from/key", &headers).await.expect(200);
                let element = copied.element(&format!("Checksum{algorithm}"));
                assert!(element.is_some(), "{algorithm}: {}", copied.text());
                assert_eq!(copied.element("ChecksumType").as_deref(), Some("FULL_OBJECT"));
                let mode = [("x-amz-checksum-mode", "ENABLED")];
                let got = client.send("GET", "/goal/key", &mode, b"").await.expect(200);
                assert!(got.body == bytes);
                assert_eq!(got.header(&header), element.as_deref());
                // The gateway verifies what a client sends: so the value is the bytes'.
                let sent = [(header.as_str(), element.as_deref().unwrap_or_default())];
                client.send("PUT", "/goal/same", &sent, &bytes).await.expect(200);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_hold_at_both_ends() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let stored = client.send("PUT", "/from/key", &[], b"hello").await.expect(200);
    let etag = stored.header("etag").expect("an ETag").to_owned();
    for (header, value, status) in [
        ("x-amz-copy-source-if-match", etag.as_str(), 200),
        ("x-amz-copy-source-if-match", "\"other\"", 412),
        ("x-amz-copy-source-if-none-match", etag.as_str(), 412),
        ("x-amz-copy-source-if-none-match", "\"other\"", 200),
        ("if-none-match", "*", 412),
        ("if-match", etag.as_str(), 200),
        ("if-match", "\"other\"", 412),
    ] {
        let answer = copy(&client, "/goal/key", "from/key", &[(header, value)]).await;
        assert_eq!(answer.status, status, "{header}: {value}: {}", answer.text());
    }
    copy(&client, "/goal/new", "from/key", &[("if-none-match", "*")])
        .await
        .expect(200);
    assert_eq!(body(&client, "/goal/new").await, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_refused_with_s3s_words() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    client.send("PUT", "/from/key", &[], b"hello").await.expect(200);
    for (source, headers, status, code) in [
        ("from/none", &[][..], 404, "NoSuchKey"),
        ("nowhere/key", &[], 404, "NoSuchBucket"),
        ("from/key?versionId=abc", &[], 400, "InvalidArgument"),
        (
            "from/key",
            &[("x-amz-checksum-algorithm", "ADLER32")],
            400,
            "InvalidRequest",
        ),
        (
            "from/key",
            &[("x-amz-storage-class", "FROZEN")],
            400,
            "InvalidStorageClass",
        ),
        (
            "from/key",
            &[("x-amz-source-expected-bucket-owner", "somebody")],
            403,
            "AccessDenied",
        ),
        (
            "from/key",
            &[("x-amz-copy-source-server-side-encryption-customer-key", "k")],
            501,
            "NotImplemented",
        ),
    ] {
        copy(&client, "/goal/key", source, headers)
            .await
            .expect_error(status, code);
    }
    copy(&client, "/nowhere/key", "from/key", &[])
        .await
        .expect_error(404, "NoSuchBucket");
    client
        .send("GET", "/goal/key", &[], b"")
        .await
        .expect_error(404, "NoSuchKey");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_read_once_though_settings_change_meanwhile() {
    let gateway = Gateway::start().await;
    let client = buckets(&gateway).await;
    let bytes: Vec<u8> = (0..3 << 20).map(|at: usize| (at % 239) as u8).collect();
    client.send("PUT", "/from/key", &[], &bytes).await.expect(200);
    let crc32 = ("x-amz-checksum-algorithm", "CRC32");
    let begun = client.send("POST", "/goal/parts?uploads=", &[crc32], b"").await;
    let upload = begun.expect(200).element("UploadId").expect("an id");
    let part = format!("/goal/parts?partNumber=1&uploadId={upload}");
    let single = ("x-amz-storage-class", "SINGLE");
    let begun = client.send("POST", "/goal/single?uploads=", &[single], b"").await;
    let upload = begun.expect(200).element("UploadId").expect("an id");
    let moved_part = format!("/goal/single?partNumber=1&uploadId={upload}");
    let range = ("x-amz-copy-source-range", "bytes=1-3000000");
    let changing = |settings_changes| MetadFaults {
        settings_changes,
        ..MetadFaults::default()
    };
    for (target, headers) in [
        ("/goal/copy", vec![crc32]),
        ("/goal/copy", vec![single]),
        (&part, vec![range]),
        (&moved_part, vec![]),
    ] {
        let before = gateway.agents.reads();
        copy(&client, target, "from/key", &headers).await.expect(200);
        let once = gateway.agents.reads() - before;
        assert!(once > 0, "{target}: nothing is read");
        // Settings that settle, and such that do not: in neither case are bytes read for each attempt.
        for (changes, status) in [(2, 200), (1000, 409)] {
            gateway.metad.set_faults(changing(changes));
            let before = gateway.agents.reads();
            let copied = copy(&client, target, "from/key", &headers).await;
            let reads = gateway.agents.reads() - before;
            assert_eq!(copied.status, status, "{target}: {}", copied.text());
            assert!(reads < 2 * once, "{target}: {reads} reads in place of {once}");
            gateway.metad.set_faults(MetadFaults::default());
        }
    }
    assert!(body(&client, "/goal/copy").await == bytes);
}
