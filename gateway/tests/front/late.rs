//! Answers that begin before it is known what they say, because clients do not wait for ever.

use super::Gateway;
use super::client::{Answer, Client};
use super::metad::MetadFaults;
use std::time::Duration;

/// How long clients wait for a sign of life.
const PATIENCE: Duration = Duration::from_millis(25);
/// How long each call to the metadata service takes, where it is slow.
const SLOW: Duration = Duration::from_millis(150);

async fn slow(gateway: &Gateway, slow: Duration) {
    gateway.metad.set_faults(MetadFaults {
        slow,
        ..MetadFaults::default()
    });
}

/// Requires that the answer began early, with signs of life before its document.
#[track_caller]
fn expect_late(answer: Answer) -> Answer {
    let answer = answer.expect(200);
    let text = answer.text();
    let behind = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let document = behind.expect("a declaration").trim_start();
    let spaces = behind.map_or(0, |behind| behind.len() - document.len());
    assert!(spaces > 0, "{text:?}");
    assert!(
        document.starts_with('<') && !document.starts_with("<?"),
        "{text:?}"
    );
    assert_eq!(answer.header("content-type"), Some("application/xml"));
    assert_eq!(answer.header("x-amz-server-side-encryption"), Some("AES256"));
    assert!(answer.header("x-amz-request-id").is_some());
    assert_eq!(answer.header("connection"), Some("close"));
    answer
}

/// An upload with one part: its target, and the document that completes it.
async fn upload(client: &Client) -> (String, String) {
    let begun = client
        .send("POST", "/goal/whole?uploads=", &[], b"")
        .await
        .expect(200);
    let upload = begun.element("UploadId").expect("an id");
    let target = format!("/goal/whole?uploadId={upload}");
    let part = client
        .send("PUT", &format!("{target}&partNumber=1"), &[], b"hello")
        .await
        .expect(200);
    let etag = part.header("etag").expect("an ETag").to_owned();
    let listed = format!("<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>");
    let document = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
    (target, document)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_long_for_a_document_is_kept_alive() {
    let gateway = Gateway::start_with(PATIENCE).await;
    let client = gateway.client();
    for bucket in ["/from", "/goal"] {
        client.send("PUT", bucket, &[], b"").await.expect(200);
    }
    let bytes = vec![7; 100_000];
    client.send("PUT", "/from/key", &[], &bytes).await.expect(200);
    let (target, document) = upload(&client).await;
    let part = format!("{target}&partNumber=2");
    let source = ("x-amz-copy-source", "from/key");
    let absent = ("if-none-match", "*");

    slow(&gateway, SLOW).await;
    // Nothing was begun yet: there is no such source.
    let nowhere = [("x-amz-copy-source", "from/nowhere")];
    let refused = client.send("PUT", "/goal/copy", &nowhere, b"").await;
    refused.expect_error(404, "NoSuchKey");
    let class = ("x-amz-storage-class", "SINGLE");
    for headers in [vec![source], vec![source, class]] {
        let copied = expect_late(client.send("PUT", "/goal/copy", &headers, b"").await);
        assert!(copied.text().contains("<CopyObjectResult "), "{}", copied.text());
        assert!(copied.element("ETag").is_some());
    }
    let copied = expect_late(client.send("PUT", &part, &[source], b"").await);
    assert!(copied.text().contains("<CopyPartResult "), "{}", copied.text());

    // A failure stands in the document.
    let failed = expect_late(client.send("PUT", "/goal/copy", &[source, absent], b"").await);
    assert_eq!(failed.element("Code").as_deref(), Some("PreconditionFailed"));
    assert_eq!(
        failed.element("RequestId").as_deref(),
        failed.header("x-amz-request-id")
    );
    let wrong = document.replace("<PartNumber>1<", "<PartNumber>7<");
    let failed = expect_late(client.send("POST", &target, &[], wrong.as_bytes()).await);
    assert_eq!(failed.element("Code").as_deref(), Some("InvalidPart"));
    let completed = expect_late(client.send("POST", &target, &[], document.as_bytes()).await);
    assert_eq!(completed.element("Key").as_deref(), Some("whole"));

    slow(&gateway, Duration::ZERO).await;
    for (target, length) in [("/goal/copy", bytes.len()), ("/goal/whole", 5)] {
        let got = client.send("GET", target, &[], b"").await.expect(200);
        assert_eq!(got.body.len(), length);
    }
    // Each counts with the status that it came to.
    let metrics = gateway.admin_client().unsigned("GET", "/metrics").await.text();
    for (operation, status, count) in [
        ("CopyObject", "200", 2),
        ("CopyObject", "404", 1),
        ("CopyObject", "412", 1),
        ("UploadPartCopy", "200", 1),
        ("CompleteMultipartUpload", "400", 1),
        ("CompleteMultipartUpload", "200", 1),
    ] {
        let counted = metrics.lines().any(|line| {
            [operation, &format!("\"{status}\"")]
                .iter()
                .all(|part| line.contains(part))
                && line.contains("requests_total")
                && line.ends_with(&format!(" {count}"))
        });
        assert!(counted, "{operation} {status} {count}: {metrics}");
    }
}
