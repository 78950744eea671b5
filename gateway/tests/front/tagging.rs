//! Tags of objects as clients set and see them.

use super::Gateway;
use super::client::{Answer, Client};

const TAGGING: &str = "/first/key?tagging=";

async fn bucket(gateway: &Gateway) -> Client {
    let client = gateway.client();
    client.send("PUT", "/first", &[], b"").await.expect(200);
    client
}

fn document(tags: &[(&str, &str)]) -> String {
    let tag = |(key, value): &(&str, &str)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
    let tags: String = tags.iter().map(tag).collect();
    format!("<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>{tags}</TagSet></Tagging>")
}

async fn put(client: &Client, tags: &[(&str, &str)]) -> Answer {
    client.send("PUT", TAGGING, &[], document(tags).as_bytes()).await
}

async fn check(client: &Client, key: &str, expected: &[(&str, &str)]) {
    let answer = client
        .send("GET", &format!("/first/{key}?tagging="), &[], b"")
        .await;
    let answer = answer.expect(200);
    let keys = answer.elements("Key");
    let values = answer.elements("Value");
    let got: Vec<(&str, &str)> = keys
        .iter()
        .zip(&values)
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(got, expected);
    let count = (!expected.is_empty()).then(|| expected.len().to_string());
    for method in ["GET", "HEAD"] {
        let read = client
            .send(method, &format!("/first/{key}"), &[], b"")
            .await
            .expect(200);
        assert_eq!(
            read.header("x-amz-tagging-count"),
            count.as_deref(),
            "{method} {key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_with_the_object_and_are_replaced_and_taken_away() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let tagged = [("x-amz-tagging", "colour=dark%20red&empty=")];
    client
        .send("PUT", "/first/key", &tagged, b"hello")
        .await
        .expect(200);
    check(&client, "key", &[("colour", "dark red"), ("empty", "")]).await;

    let before = client.send("HEAD", "/first/key", &[], b"").await.expect(200);
    let replaced = put(&client, &[("cask", "12")]).await.expect(200);
    assert!(replaced.body.is_empty());
    check(&client, "key", &[("cask", "12")]).await;
    let after = client.send("HEAD", "/first/key", &[], b"").await.expect(200);
    for same in ["last-modified", "etag", "content-length"] {
        assert_eq!(after.header(same), before.header(same), "{same}");
    }

    client.send("DELETE", TAGGING, &[], b"").await.expect(204);
    check(&client, "key", &[]).await;
    // Another PUT has other tags: none.
    put(&client, &[("cask", "12")]).await.expect(200);
    client.send("PUT", "/first/key", &[], b"hello").await.expect(200);
    check(&client, "key", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_and_uploads_have_the_tags_that_were_asked_for() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let tagged = [("x-amz-tagging", "a=1"), ("x-amz-meta-m", "n")];
    client
        .send("PUT", "/first/key", &tagged, b"hello")
        .await
        .expect(200);
    let source = ("x-amz-copy-source", "first/key");
    let replace = ("x-amz-tagging-directive", "REPLACE");
    let tags = ("x-amz-tagging", "b=2");
    let class = ("x-amz-storage-class", "SINGLE");
    for (headers, expected) in [
        (vec![source], [("a", "1")].as_slice()),
        (vec![source, ("x-amz-tagging-directive", "COPY")], &[("a", "1")]),
        (
            vec![source, ("x-amz-metadata-directive", "REPLACE")],
            &[("a", "1")],
        ),
        (vec![source, replace, tags], &[("b", "2")]),
        (vec![source, replace], &[]),
        (vec![source, replace, tags, class], &[("b", "2")]),
        (vec![source, class], &[("a", "1")]),
    ] {
        client.send("PUT", "/first/copy", &headers, b"").await.expect(200);
        check(&client, "copy", expected).await;
    }
    let unknown = [source, ("x-amz-tagging-directive", "MERGE")];
    let refused = client.send("PUT", "/first/copy", &unknown, b"").await;
    refused.expect_error(400, "InvalidArgument");

    let begun = client
        .send("POST", "/first/parts?uploads=", &[tags], b"")
        .await
        .expect(200);
    let upload = begun.element("UploadId").unwrap();
    let target = format!("/first/parts?partNumber=1&uploadId={upload}");
    let part = client.send("PUT", &target, &[], b"bytes").await.expect(200);
    let complete = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").unwrap()
    );
    let target = format!("/first/parts?uploadId={upload}");
    client
        .send("POST", &target, &[], complete.as_bytes())
        .await
        .expect(200);
    check(&client, "parts", &[("b", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_break_the_rules_change_nothing() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    client.send("PUT", "/first/key", &[], b"hello").await.expect(200);
    put(&client, &[("kept", "1")]).await.expect(200);
    let names: Vec<String> = (0..11).map(|number| format!("k{number}")).collect();
    let eleven: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    put(&client, &eleven).await.expect_error(400, "BadRequest");
    put(&client, &[("a", "1"), ("a", "2")])
        .await
        .expect_error(400, "InvalidTag");
    put(&client, &[("a#", "1")]).await.expect_error(400, "InvalidTag");
    put(&client, &[("aws:a", "1")])
        .await
        .expect_error(400, "InvalidTag");
    put(&client, &[(&"k".repeat(129), "1")])
        .await
        .expect_error(400, "InvalidTag");
    put(&client, &[("k", &"v".repeat(257))])
        .await
        .expect_error(400, "InvalidTag");
    let malformed = client.send("PUT", TAGGING, &[], b"<Tagging/>").await;
    malformed.expect_error(400, "MalformedXML");
    let empty = client.send("PUT", TAGGING, &[], b"").await;
    empty.expect_error(400, "MalformedXML");
    let wrong = [("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    let other = document(&[("other", "1")]);
    let damaged = client.send("PUT", TAGGING, &wrong, other.as_bytes()).await;
    damaged.expect_error(400, "BadDigest");
    let wrong = [("x-amz-checksum-crc32", "AAAAAA==")];
    let damaged = client.send("PUT", TAGGING, &wrong, other.as_bytes()).await;
    damaged.expect_error(400, "BadDigest");
    let twice = [("x-amz-tagging", "a=1&a=2")];
    let refused = client.send("PUT", "/first/key", &twice, b"new").await;
    refused.expect_error(400, "InvalidArgument");
    check(&client, "key", &[("kept", "1")]).await;

    for method in ["GET", "PUT", "DELETE"] {
        let body = if method == "PUT" { other.as_bytes() } else { b"" };
        let missing = client.send(method, "/first/none?tagging=", &[], body).await;
        missing.expect_error(404, "NoSuchKey");
        let missing = client.send(method, "/nowhere/none?tagging=", &[], body).await;
        missing.expect_error(404, "NoSuchBucket");
    }
}
