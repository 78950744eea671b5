//! Documents of a bucket's settings: set, read, deleted, gone with the bucket.

use super::Gateway;
use super::client::{Answer, Client};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

async fn put(client: &Client, target: &str, document: &str) -> Answer {
    let md5 = STANDARD.encode(Md5::digest(document));
    let headers = [("content-md5", md5.as_str())];
    client.send("PUT", target, &headers, document.as_bytes()).await
}

fn tagging(tags: impl IntoIterator<Item = (String, String)>) -> String {
    let tags = tags
        .into_iter()
        .map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>"));
    format!("<Tagging><TagSet>{}</TagSet></Tagging>", tags.collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_a_bucket_live_and_go_with_it() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let target = "/first?tagging";
    client
        .send("GET", target, &[], b"")
        .await
        .expect_error(404, "NoSuchBucket");
    client.send("PUT", "/first", &[], b"").await.expect(200);
    client
        .send("GET", target, &[], b"")
        .await
        .expect_error(404, "NoSuchTagSet");
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let document = tagging([pair("cask", "12"), pair("place", "cellar 2")]);
    put(&client, target, &document).await.expect(204);
    let read = client.send("GET", target, &[], b"").await.expect(200);
    assert_eq!(read.header("content-type"), Some("application/xml"));
    assert_eq!(read.elements("Key"), ["cask", "place"]);
    assert_eq!(read.elements("Value"), ["12", "cellar 2"]);
    // The settings have changed under what the gateway knew: writes go on.
    client.send("PUT", "/first/key", &[], b"1").await.expect(200);

    let unchecked = client.send("PUT", target, &[], document.as_bytes()).await;
    unchecked.expect_error(400, "InvalidRequest");
    let many = |count: usize| tagging((0..count).map(|n| (format!("key {n}"), String::new())));
    put(&client, target, &many(51))
        .await
        .expect_error(400, "BadRequest");
    let bad = tagging([pair("aws:cask", "12")]);
    put(&client, target, &bad).await.expect_error(400, "InvalidTag");
    put(&client, target, "<Tagging>")
        .await
        .expect_error(400, "MalformedXML");
    let still = client.send("GET", target, &[], b"").await.expect(200);
    assert_eq!(still.elements("Key"), ["cask", "place"]);
    put(&client, target, &many(50)).await.expect(204);
    let all = client.send("GET", target, &[], b"").await.expect(200);
    assert_eq!(all.elements("Key").len(), 50);
    // The longest that S3 allows, in the longest characters there are.
    let longest = (0..50).map(|n| {
        let key = format!("{n:02}{}", "𠀀".repeat(126));
        (key, "𠀀".repeat(256))
    });
    put(&client, target, &tagging(longest)).await.expect(204);

    for _ in 0..2 {
        client.send("DELETE", target, &[], b"").await.expect(204);
    }
    client
        .send("GET", target, &[], b"")
        .await
        .expect_error(404, "NoSuchTagSet");
    put(&client, target, &document).await.expect(204);
    client.send("DELETE", "/first/key", &[], b"").await.expect(204);
    client.send("DELETE", "/first", &[], b"").await.expect(204);
    client.send("PUT", "/first", &[], b"").await.expect(200);
    client
        .send("GET", target, &[], b"")
        .await
        .expect_error(404, "NoSuchTagSet");
    gateway.metad.check_invariants();
}

const RULES: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://*.test</AllowedOrigin>\
    <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader>\
    <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>";

/// Asks without a signature whether a page may send a request.
async fn preflight(gateway: &Gateway, target: &str, fields: &[(&str, &str)]) -> Answer {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "OPTIONS {target} HTTP/1.1\r\nhost: {}\r\n{fields}\r\n",
        gateway.s3
    );
    let answer = gateway.client().raw(head.as_bytes(), false).await;
    answer.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_do_what_the_rules_allow() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.send("PUT", "/first", &[], b"").await.expect(200);
    let absent = client.send("GET", "/first?cors", &[], b"").await;
    absent.expect_error(404, "NoSuchCORSConfiguration");
    let origin = ("origin", "https://page.test");
    let get = ("access-control-request-method", "GET");
    for target in ["/first/key", "/nowhere/key"] {
        let refused = preflight(&gateway, target, &[origin, get]).await;
        refused.expect_error(403, "AccessForbidden");
        assert_eq!(refused.element("ResourceType").as_deref(), Some("BUCKET"));
        assert_eq!(refused.element("Method").as_deref(), Some("GET"));
    }
    let untouched = client.send("GET", "/first/none", &[origin], b"").await;
    assert_eq!((untouched.status, untouched.header("vary")), (404, None));

    put(&client, "/first?cors", "<CORSConfiguration/>")
        .await
        .expect_error(400, "MalformedXML");
    put(&client, "/first?cors", RULES).await.expect(200);
    let read = client.send("GET", "/first?cors", &[], b"").await.expect(200);
    assert_eq!(read.elements("AllowedMethod"), ["GET", "PUT"]);
    assert_eq!(read.element("MaxAgeSeconds").as_deref(), Some("60"));

    let put_asked = ("access-control-request-method", "PUT");
    let headers = ("access-control-request-headers", "X-Amz-Date");
    let allowed = preflight(
        &gateway,
        "/first/key?X-Amz-Signature=0",
        &[origin, put_asked, headers],
    )
    .await;
    for (name, value) in [
        ("access-control-allow-origin", "https://page.test"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-amz-date"),
        ("access-control-expose-headers", "ETag"),
        ("access-control-max-age", "60"),
    ] {
        assert_eq!(allowed.header(name), Some(value), "{name}");
    }
    assert_eq!(
        (allowed.status, allowed.header("content-length")),
        (200, Some("0"))
    );
    preflight(&gateway, "/first", &[origin, get]).await.expect(200);
    let delete = ("access-control-request-method", "DELETE");
    let other = ("origin", "https://page.example");
    for fields in [[origin, delete], [other, get]] {
        let refused = preflight(&gateway, "/first", &fields).await;
        refused.expect_error(403, "AccessForbidden");
        assert_eq!(refused.header("access-control-allow-origin"), None);
    }
    preflight(&gateway, "/first", &[get])
        .await
        .expect_error(400, "BadRequest");

    // Answers say it too, well or not, to whoever asks.
    let stored = client
        .send("PUT", "/first/key", &[origin], b"1")
        .await
        .expect(200);
    let missing = client.send("GET", "/first/none", &[origin], b"").await;
    missing.expect_error(404, "NoSuchKey");
    let unsigned = format!(
        "GET /first/key HTTP/1.1\r\nhost: {}\r\norigin: https://page.test\r\n\r\n",
        gateway.s3
    );
    let unknown = client.raw(unsigned.as_bytes(), false).await.expect("an answer");
    unknown.expect_error(403, "AccessDenied");
    for answer in [&stored, &missing, &unknown] {
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://page.test"));
        assert_eq!(answer.header("access-control-expose-headers"), Some("ETag"));
        assert!(
            answer
                .header("vary")
                .is_some_and(|vary| vary.starts_with("Origin"))
        );
    }
    let strange = client.send("GET", "/first/key", &[other], b"").await.expect(200);
    assert_eq!(strange.header("access-control-allow-origin"), None);
    assert!(strange.header("vary").is_some());
    let plain = client.send("GET", "/first/key", &[], b"").await.expect(200);
    assert_eq!(
        (plain.header("access-control-allow-origin"), plain.header("vary")),
        (None, None)
    );

    client.send("DELETE", "/first?cors", &[], b"").await.expect(204);
    let again = client.send("GET", "/first/key", &[origin], b"").await.expect(200);
    assert_eq!(again.header("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_set_by_an_operator_holds_and_usage_is_exact() {
    let gateway = Gateway::start().await;
    let (client, admin) = (gateway.client(), gateway.admin_client());
    client.send("PUT", "/first", &[], b"").await.expect(200);
    client.send("PUT", "/second", &[], b"").await.expect(200);
    let set = async |bucket: &str, quota: &str| {
        let target = format!("/v1/buckets/{bucket}/quota");
        admin.send("PUT", &target, &[], quota.as_bytes()).await
    };
    assert_eq!(set("none-such", "{\"bytes\": 1}").await.status, 404);
    assert_eq!(set("first", "{\"byte\": 1}").await.status, 400);
    let shown = set("first", "{\"bytes\": 20, \"objects\": 3}")
        .await
        .expect(200)
        .json();
    assert_eq!(
        (shown["quota_bytes"].as_u64(), shown["quota_objects"].as_u64()),
        (Some(20), Some(3))
    );

    client.send("PUT", "/first/a", &[], &[b'a'; 15]).await.expect(200);
    let full = client.send("PUT", "/first/b", &[], &[b'b'; 6]).await;
    full.expect_error(403, "QuotaExceeded");
    let absent = [("if-none-match", "*")];
    let held = client.send("PUT", "/first/a", &absent, &[b'b'; 6]).await;
    held.expect_error(412, "PreconditionFailed");
    client.send("PUT", "/first/b", &[], &[b'b'; 5]).await.expect(200);
    client.send("PUT", "/first/a", &[], &[b'c'; 15]).await.expect(200);
    let copied = [("x-amz-copy-source", "/first/a")];
    let copy = client.send("PUT", "/first/c", &copied, b"").await;
    copy.expect_error(403, "QuotaExceeded");
    let upload = client
        .send("POST", "/first/c?uploads", &[], b"")
        .await
        .expect(200);
    let id = upload.element("UploadId").expect("an upload");
    let part = format!("/first/c?partNumber=1&uploadId={id}");
    let full = client.send("PUT", &part, &[], b"x").await;
    full.expect_error(403, "QuotaExceeded");
    client.send("DELETE", "/first/b", &[], b"").await.expect(204);
    client.send("PUT", &part, &[], b"12345").await.expect(200);
    client.send("PUT", &part, &[], b"54321").await.expect(200);
    client
        .send("PUT", "/first/b", &[], b"b")
        .await
        .expect_error(403, "QuotaExceeded");
    let copied = [
        ("x-amz-copy-source", "/first/a"),
        ("x-amz-copy-source-range", "bytes=0-5"),
    ];
    client
        .send("PUT", &part, &copied, b"")
        .await
        .expect_error(403, "QuotaExceeded");
    client
        .send("PUT", "/second/free", &[], &[0; 100])
        .await
        .expect(200);

    let listed = admin
        .send("GET", "/v1/buckets", &[], b"")
        .await
        .expect(200)
        .json();
    let facts = |at: usize, name: &str| listed["buckets"][at][name].clone();
    assert_eq!(
        (facts(0, "name"), facts(1, "name")),
        ("first".into(), "second".into())
    );
    assert_eq!(
        (facts(0, "bytes"), facts(0, "versions"), facts(0, "uploads")),
        (15.into(), 1.into(), 1.into())
    );
    assert_eq!(facts(0, "part_bytes"), 5);
    assert_eq!(
        (facts(1, "bytes"), facts(1, "quota_bytes")),
        (100.into(), serde_json::Value::Null)
    );
    let stranger = gateway.client().send("GET", "/v1/buckets", &[], b"").await;
    assert_ne!(stranger.status, 200);

    // A client that waits for leave is refused before it sends.
    let mut connection = client.connect().await;
    let head = client.head("PUT", "/first/large", &[("expect", "100-continue")], 1000);
    connection.send(head.as_bytes()).await;
    let refused = connection.answer(false).await.expect("an answer");
    refused.expect_error(403, "QuotaExceeded");
    assert_eq!(refused.interim, 0, "leave to send was given");

    set("first", "{}").await.expect(200);
    client
        .send("PUT", "/first/large", &[], &[0; 1000])
        .await
        .expect(200);
    assert_eq!(
        admin.send("GET", "/v1/buckets/none-such", &[], b"").await.status,
        404
    );
    gateway.metad.check_invariants();
}
