//! Versions as clients make, name, list and delete them.

use super::Gateway;
use super::client::{Answer, Client};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

async fn set(client: &Client, status: &str) {
    let document = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    client
        .send("PUT", "/first?versioning", &[], document.as_bytes())
        .await
        .expect(200);
    let got = client
        .send("GET", "/first?versioning", &[], b"")
        .await
        .expect(200);
    assert_eq!(got.element("Status").as_deref(), Some(status));
}

/// A bucket that keeps old versions.
async fn bucket(gateway: &Gateway) -> Client {
    let client = gateway.client();
    client.send("PUT", "/first", &[], b"").await.expect(200);
    let off = client
        .send("GET", "/first?versioning", &[], b"")
        .await
        .expect(200);
    assert_eq!(off.element("Status"), None);
    set(&client, "Enabled").await;
    client
}

fn version(answer: &Answer) -> String {
    answer.header("x-amz-version-id").expect("a version").to_owned()
}

async fn put(client: &Client, key: &str, body: &[u8]) -> String {
    let target = format!("/first/{key}");
    version(&client.send("PUT", &target, &[], body).await.expect(200))
}

async fn delete(client: &Client, target: &str) -> (Option<String>, bool) {
    let answer = client.send("DELETE", target, &[], b"").await.expect(204);
    let version = answer.header("x-amz-version-id").map(str::to_owned);
    (version, answer.header("x-amz-delete-marker") == Some("true"))
}

async fn get(client: &Client, target: &str) -> (u16, Vec<u8>, Option<String>) {
    let answer = client.send("GET", target, &[], b"").await;
    let version = answer.header("x-amz-version-id").map(str::to_owned);
    (answer.status, answer.body, version)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_write_is_a_version_that_is_read_by_its_name() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.send("PUT", "/first", &[], b"").await.expect(200);
    let before = client.send("PUT", "/first/key", &[], b"zero").await.expect(200);
    assert_eq!(before.header("x-amz-version-id"), None);
    assert_eq!(get(&client, "/first/key").await, (200, b"zero".to_vec(), None));
    set(&client, "Enabled").await;
    let large = vec![7; 300_000];
    let ids = [
        put(&client, "key", b"one").await,
        put(&client, "key", &large).await,
    ];
    let null = "null".to_owned();
    for (id, body) in [(&null, &b"zero"[..]), (&ids[0], b"one"), (&ids[1], &large)] {
        let target = format!("/first/key?versionId={id}");
        assert_eq!(
            get(&client, &target).await,
            (200, body.to_vec(), Some(id.clone()))
        );
        let head = client.send("HEAD", &target, &[], b"").await.expect(200);
        assert_eq!(version(&head), *id);
    }
    assert_eq!(
        get(&client, "/first/key").await,
        (200, large, Some(ids[1].clone()))
    );
    let unknown = "0".repeat(32);
    for (id, status, code) in [
        (unknown.as_str(), 404, "NoSuchVersion"),
        ("abc", 400, "InvalidArgument"),
        ("", 400, "InvalidArgument"),
    ] {
        for (method, tail) in [("GET", ""), ("PUT", "&tagging="), ("GET", "&tagging=")] {
            let target = format!("/first/key?versionId={id}{tail}");
            let tags = b"<Tagging><TagSet></TagSet></Tagging>";
            let body: &[u8] = if method == "PUT" { tags } else { b"" };
            client
                .send(method, &target, &[], body)
                .await
                .expect_error(status, code);
        }
    }
    let missing = client.send("GET", "/first/none?versionId=null", &[], b"").await;
    missing.expect_error(404, "NoSuchVersion");
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_markers_hide_and_give_back() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let one = put(&client, "key", b"one").await;
    let (marker, is_marker) = delete(&client, "/first/key").await;
    let marker = marker.expect("a delete marker");
    assert!(is_marker);
    for method in ["GET", "HEAD"] {
        let hidden = client.send(method, "/first/key", &[], b"").await.expect(404);
        assert_eq!(hidden.header("x-amz-delete-marker"), Some("true"));
        assert_eq!(version(&hidden), marker);
        let target = format!("/first/key?versionId={marker}");
        let named = client.send(method, &target, &[], b"").await.expect(405);
        assert_eq!(named.header("x-amz-delete-marker"), Some("true"));
        assert_eq!(named.header("allow"), Some("DELETE"));
        assert!(named.header("last-modified").is_some());
    }
    let listed = client
        .send("GET", "/first?list-type=2", &[], b"")
        .await
        .expect(200);
    assert_eq!(listed.elements("Key"), Vec::<String>::new());
    client
        .send("DELETE", "/first", &[], b"")
        .await
        .expect_error(409, "BucketNotEmpty");
    // A delete marker counts as absent.
    let absent = [("if-none-match", "*")];
    let two = client
        .send("PUT", "/first/key", &absent, b"two")
        .await
        .expect(200);
    let two = version(&two);
    client
        .send("PUT", "/first/key", &absent, b"three")
        .await
        .expect_error(412, "PreconditionFailed");
    assert_eq!(
        delete(&client, &format!("/first/key?versionId={two}")).await,
        (Some(two.clone()), false)
    );
    assert_eq!(get(&client, "/first/key").await.0, 404);
    for times in 0..2 {
        // What is not there any more is no marker, and no error.
        assert_eq!(
            delete(&client, &format!("/first/key?versionId={marker}")).await,
            (Some(marker.clone()), times == 0)
        );
        assert_eq!(
            get(&client, "/first/key").await,
            (200, b"one".to_vec(), Some(one.clone()))
        );
    }
    delete(&client, &format!("/first/key?versionId={one}")).await;
    client.send("DELETE", "/first", &[], b"").await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_buckets_replace_the_null_version_and_keep_the_others() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let one = put(&client, "key", b"one").await;
    set(&client, "Suspended").await;
    assert_eq!(put(&client, "key", b"two").await, "null");
    assert_eq!(put(&client, "key", b"three").await, "null");
    assert_eq!(
        get(&client, "/first/key").await,
        (200, b"three".to_vec(), Some("null".into()))
    );
    assert_eq!(delete(&client, "/first/key").await, (Some("null".into()), true));
    let listed = client.send("GET", "/first?versions", &[], b"").await.expect(200);
    assert_eq!(listed.elements("VersionId"), ["null".to_owned(), one.clone()]);
    assert_eq!(listed.elements("IsLatest"), ["true", "false"]);
    assert_eq!(
        delete(&client, "/first/key?versionId=null").await,
        (Some("null".into()), true)
    );
    assert_eq!(
        get(&client, "/first/key").await,
        (200, b"one".to_vec(), Some(one))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_in_pages_with_both_markers() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    for key in ["a", "a", "b%20c", "dir/x", "dir/y"] {
        put(&client, key, b"1").await;
    }
    delete(&client, "/first/b%20c").await;
    let whole = client
        .send("GET", "/first?versions&encoding-type=url", &[], b"")
        .await
        .expect(200);
    let keys = ["a", "a", "b%20c", "b%20c", "dir/x", "dir/y"];
    assert_eq!(whole.elements("Key"), keys);
    assert_eq!(whole.element("IsTruncated").as_deref(), Some("false"));
    let text = whole.text();
    let places = ["<Version>", "<DeleteMarker>"].map(|element| text.find(element));
    assert!(
        places[0] < places[1] && text.rfind("<Version>") > places[1],
        "interleaved"
    );

    for (delimiter, expected) in [("", &keys[..]), ("&delimiter=%2F", &keys[..4])] {
        let (mut found, mut prefixes, mut marker) = (Vec::new(), Vec::new(), String::new());
        loop {
            let target = format!("/first?versions&max-keys=1&encoding-type=url{delimiter}{marker}");
            let page = client.send("GET", &target, &[], b"").await.expect(200);
            found.extend(page.elements("Key"));
            prefixes.extend(page.text().split_once("<CommonPrefixes>").map(drop));
            if page.element("IsTruncated").as_deref() == Some("false") {
                break;
            }
            let key = page.element("NextKeyMarker").expect("a marker");
            marker = format!("&key-marker={}", key.replace('/', "%2F"));
            if let Some(version) = page.element("NextVersionIdMarker") {
                marker += &format!("&version-id-marker={version}");
            }
        }
        assert_eq!(found, expected);
        assert_eq!(prefixes.len(), usize::from(!delimiter.is_empty()));
    }
    for target in [
        "/first?versions&key-marker=a&version-id-marker=x",
        "/first?versions&version-id-marker=null",
    ] {
        let refused = client.send("GET", target, &[], b"").await;
        refused.expect_error(400, "InvalidArgument");
    }
    let none = client
        .send("GET", "/first?versions&max-keys=0", &[], b"")
        .await
        .expect(200);
    assert_eq!(
        (none.elements("Key").len(), none.element("IsTruncated")),
        (0, Some("false".into()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_are_copied_tagged_and_deleted_in_bulk() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let one = put(&client, "key", b"one").await;
    let two = put(&client, "key", b"two").await;
    let from = |id: &str| format!("first/key?versionId={id}");
    let copied = client
        .send("PUT", "/first/key", &[("x-amz-copy-source", &from(&one))], b"")
        .await
        .expect(200);
    assert_eq!(copied.header("x-amz-copy-source-version-id"), Some(one.as_str()));
    let three = version(&copied);
    assert_eq!(
        get(&client, "/first/key").await,
        (200, b"one".to_vec(), Some(three.clone()))
    );
    let (marker, _) = delete(&client, "/first/key").await;
    let marker = marker.expect("a delete marker");
    for (source, status, code) in [
        (from(&marker), 400, "InvalidRequest"),
        ("first/key".to_owned(), 404, "NoSuchKey"),
        (from(&"0".repeat(32)), 404, "NoSuchVersion"),
    ] {
        let headers = [("x-amz-copy-source", source.as_str())];
        let refused = client.send("PUT", "/first/copy", &headers, b"").await;
        refused.expect_error(status, code);
    }

    let tagging = format!("/first/key?versionId={two}&tagging=");
    let document = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let tagged = client.send("PUT", &tagging, &[], document).await.expect(200);
    assert_eq!(version(&tagged), two);
    let tags = client.send("GET", &tagging, &[], b"").await.expect(200);
    assert_eq!(
        (version(&tags), tags.element("Value").as_deref()),
        (two.clone(), Some("b"))
    );
    client
        .send(
            "PUT",
            &format!("/first/key?versionId={marker}&tagging="),
            &[],
            document,
        )
        .await
        .expect_error(405, "MethodNotAllowed");

    let object = |version: &str| format!("<Object><Key>key</Key><VersionId>{version}</VersionId></Object>");
    let document = format!(
        "<Delete>{}{}{}<Object><Key>new</Key></Object></Delete>",
        object(&two),
        object(&marker),
        object("abc"),
    );
    let md5 = STANDARD.encode(Md5::digest(&document));
    let answer = client
        .send(
            "POST",
            "/first?delete",
            &[("content-md5", &md5)],
            document.as_bytes(),
        )
        .await
        .expect(200);
    let deleted = answer.elements("Deleted");
    assert_eq!(deleted[0], format!("<Key>key</Key><VersionId>{two}</VersionId>"));
    assert_eq!(
        deleted[1],
        format!(
            "<Key>key</Key><VersionId>{marker}</VersionId><DeleteMarker>true</DeleteMarker>\
             <DeleteMarkerVersionId>{marker}</DeleteMarkerVersionId>"
        )
    );
    assert!(deleted[2].starts_with("<Key>new</Key><DeleteMarker>true</DeleteMarker>"));
    assert_eq!(answer.element("Code").as_deref(), Some("InvalidArgument"));
    assert_eq!(get(&client, "/first/key").await.2, Some(three));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_versioning_cannot_be_is_refused() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    for (inner, status, code) in [
        ("", 400, "IllegalVersioningConfigurationException"),
        ("<Status>Off</Status>", 400, "MalformedXML"),
        (
            "<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>",
            501,
            "NotImplemented",
        ),
    ] {
        let document = format!("<VersioningConfiguration>{inner}</VersioningConfiguration>");
        let refused = client
            .send("PUT", "/first?versioning", &[], document.as_bytes())
            .await;
        refused.expect_error(status, code);
    }
    client
        .send("GET", "/none?versioning", &[], b"")
        .await
        .expect_error(404, "NoSuchBucket");
}
