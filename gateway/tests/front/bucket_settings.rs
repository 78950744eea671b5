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
