//! What keeps out the public, whatever lists and policies say; and lists of single versions.

use super::Gateway;
use super::access::{root, send_as, user};
use serde_json::json;

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
    "Action":"s3:GetObject","Resource":"arn:aws:s3:::open/policy/*"}]}"#;

/// The same for callers at one address, which is not public.
const TIED: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
    "Action":"s3:GetObject","Resource":"arn:aws:s3:::open/policy/*",
    "Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.1/32"}}}]}"#;

const TARGET: &str = "/open?publicAccessBlock";
const PUBLIC_READ: [(&str, &str); 1] = [("x-amz-acl", "public-read")];

fn block(settings: &[&str]) -> String {
    let settings = settings.iter().map(|name| format!("<{name}>true</{name}>"));
    format!(
        "<PublicAccessBlockConfiguration>{}</PublicAccessBlockConfiguration>",
        settings.collect::<String>()
    )
}

/// A bucket whose list lets everybody list it, with an object whose list lets everybody read it, and a policy that
/// lets everybody read another.
async fn open() -> Gateway {
    let gateway = Gateway::start().await;
    user(&gateway, "writer", json!("readwrite")).await;
    user(&gateway, "none", json!("none")).await;
    root(&gateway, "PUT", "/open", &PUBLIC_READ, "").await.expect(200);
    root(&gateway, "PUT", "/open/shown", &PUBLIC_READ, "x")
        .await
        .expect(200);
    root(&gateway, "PUT", "/open/policy/a", &[], "x")
        .await
        .expect(200);
    root(&gateway, "PUT", "/open?policy", &[], POLICY)
        .await
        .expect(204);
    gateway
}

/// Status of listing the bucket, of reading what a list opens, and of reading what the policy opens.
async fn reads(gateway: &Gateway, who: &str) -> [u16; 3] {
    let status = async |target| send_as(gateway, who, "GET", target, &[], "").await.status;
    [
        status("/open").await,
        status("/open/shown").await,
        status("/open/policy/a").await,
    ]
}

async fn set(gateway: &Gateway, settings: &[&str]) {
    root(gateway, "PUT", TARGET, &[], &block(settings))
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_or_restricted_does_not_count() {
    let gateway = open().await;
    let absent = root(&gateway, "GET", TARGET, &[], "").await;
    absent.expect_error(404, "NoSuchPublicAccessBlockConfiguration");
    for who in ["writer", "none", "anonymous"] {
        assert_eq!(reads(&gateway, who).await, [200; 3], "{who}");
    }

    set(&gateway, &["IgnorePublicAcls"]).await;
    assert_eq!(reads(&gateway, "writer").await, [200; 3]);
    for who in ["none", "anonymous"] {
        assert_eq!(reads(&gateway, who).await, [403, 403, 200], "{who}");
    }
    // It may be said still, and is kept.
    root(&gateway, "PUT", "/open?acl", &PUBLIC_READ, "")
        .await
        .expect(200);
    let shown = root(&gateway, "GET", "/open?acl", &[], "").await.expect(200);
    assert_eq!(shown.elements("Permission"), ["FULL_CONTROL", "READ"]);

    // Users are let in by a public policy, strangers are not.
    set(&gateway, &["RestrictPublicBuckets"]).await;
    assert_eq!(reads(&gateway, "none").await, [200; 3]);
    assert_eq!(reads(&gateway, "anonymous").await, [200, 200, 403]);
    let status = root(&gateway, "GET", "/open?policyStatus", &[], "")
        .await
        .expect(200);
    assert_eq!(status.element("IsPublic").as_deref(), Some("true"));
    root(&gateway, "PUT", "/open?policy", &[], TIED).await.expect(204);
    let status = root(&gateway, "GET", "/open?policyStatus", &[], "")
        .await
        .expect(200);
    assert_eq!(status.element("IsPublic").as_deref(), Some("false"));
    assert_eq!(reads(&gateway, "anonymous").await, [200; 3], "it is not public");
    root(&gateway, "PUT", "/open?policy", &[], POLICY)
        .await
        .expect(204);

    // The settings of ownership and those of the public do not undo each other.
    set(&gateway, &["IgnorePublicAcls", "RestrictPublicBuckets"]).await;
    root(&gateway, "DELETE", "/open?ownershipControls", &[], "")
        .await
        .expect(204);
    root(&gateway, "PUT", "/open?acl", &PUBLIC_READ, "")
        .await
        .expect(200);
    assert_eq!(reads(&gateway, "anonymous").await, [403; 3]);
    let shown = root(&gateway, "GET", TARGET, &[], "").await.expect(200);
    let said = [
        "BlockPublicAcls",
        "IgnorePublicAcls",
        "BlockPublicPolicy",
        "RestrictPublicBuckets",
    ]
    .map(|name| shown.element(name).unwrap_or_default());
    assert_eq!(said, ["false", "true", "false", "true"], "{}", shown.text());

    root(&gateway, "DELETE", TARGET, &[], "").await.expect(204);
    assert_eq!(reads(&gateway, "anonymous").await, [200; 3]);
    gateway.metad.check_invariants();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_blocked_is_not_taken() {
    let gateway = open().await;
    let put = async |target: &str, headers: &[(&str, &str)], body: &str| {
        root(&gateway, "PUT", target, headers, body).await
    };
    let public = root(&gateway, "GET", "/open/shown?acl", &[], "")
        .await
        .expect(200)
        .text();
    set(&gateway, &["BlockPublicAcls"]).await;
    let copy = [PUBLIC_READ[0], ("x-amz-copy-source", "/open/shown")];
    for (target, headers, body) in [
        ("/open?acl", &PUBLIC_READ[..], ""),
        ("/open?acl", &[("x-amz-acl", "authenticated-read")], ""),
        ("/open?acl", &[], public.as_str()),
        ("/open/shown?acl", &PUBLIC_READ[..], ""),
        ("/open/shown?acl", &[], public.as_str()),
        ("/open/new", &PUBLIC_READ[..], "x"),
        ("/open/new", &copy[..], ""),
        ("/open/shown", &[("x-amz-acl", "public-read-write")], "y"),
    ] {
        put(target, headers, body).await.expect_error(403, "AccessDenied");
    }
    root(&gateway, "POST", "/open/new?uploads", &PUBLIC_READ, "")
        .await
        .expect_error(403, "AccessDenied");
    put("/open/new", &[], "x").await.expect(200);
    put("/open/new?acl", &[("x-amz-acl", "private")], "")
        .await
        .expect(200);
    put("/open/new", &[("x-amz-acl", "bucket-owner-full-control")], "x")
        .await
        .expect(200);
    assert_eq!(
        reads(&gateway, "anonymous").await,
        [200; 3],
        "what was said counts"
    );
    put("/open?policy", &[], POLICY).await.expect(204);

    set(&gateway, &["BlockPublicPolicy"]).await;
    put("/open?acl", &PUBLIC_READ, "").await.expect(200);
    put("/open?policy", &[], POLICY)
        .await
        .expect_error(403, "AccessDenied");
    assert_eq!(reads(&gateway, "anonymous").await, [200; 3]);
    put("/open?policy", &[], TIED).await.expect(204);
    put("/open?policy", &[], POLICY)
        .await
        .expect_error(403, "AccessDenied");
    put(TARGET, &[], "<PublicAccessBlockConfiguration>")
        .await
        .expect_error(400, "MalformedXML");
    put("/none-such?publicAccessBlock", &[], &block(&[]))
        .await
        .expect_error(404, "NoSuchBucket");

    // Whose it is to say.
    for (method, body) in [("GET", ""), ("PUT", block(&[]).as_str()), ("DELETE", "")] {
        for who in ["none", "anonymous"] {
            let refused = send_as(&gateway, who, method, TARGET, &[], body).await;
            refused.expect_error(403, "AccessDenied");
        }
    }
    let shown = send_as(&gateway, "writer", "GET", TARGET, &[], "")
        .await
        .expect(200);
    assert_eq!(shown.element("BlockPublicPolicy").as_deref(), Some("true"));
    send_as(&gateway, "writer", "PUT", TARGET, &[], &block(&[]))
        .await
        .expect(200);
    put("/open?policy", &[], POLICY).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_those_of_versions() {
    let gateway = open().await;
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    root(&gateway, "PUT", "/open?versioning", &[], versioning)
        .await
        .expect(200);
    let mut versions = Vec::new();
    for body in ["old", "new"] {
        let made = root(&gateway, "PUT", "/open/v", &[], body).await.expect(200);
        versions.push(made.header("x-amz-version-id").expect("a version").to_owned());
    }
    let (old, new) = (&versions[0], &versions[1]);
    let list = async |version: &str| {
        let target = format!("/open/v?acl&versionId={version}");
        let shown = root(&gateway, "GET", &target, &[], "").await.expect(200);
        assert_eq!(shown.header("x-amz-version-id"), Some(version));
        shown.elements("Permission").len()
    };
    let target = format!("/open/v?acl&versionId={old}");
    let changed = root(&gateway, "PUT", &target, &PUBLIC_READ, "").await.expect(200);
    assert_eq!(changed.header("x-amz-version-id"), Some(old.as_str()));
    assert_eq!((list(old).await, list(new).await), (2, 1));
    let read = async |target: &str| {
        send_as(&gateway, "anonymous", "GET", target, &[], "")
            .await
            .status
    };
    assert_eq!(read("/open/v").await, 403);
    assert_eq!(read(&format!("/open/v?versionId={old}")).await, 200);
    assert_eq!(read(&format!("/open/v?versionId={new}")).await, 403);
    // Without a version it is the current one.
    root(&gateway, "PUT", "/open/v?acl", &PUBLIC_READ, "")
        .await
        .expect(200);
    assert_eq!((list(old).await, list(new).await), (2, 2));

    let other = format!("/open/v?acl&versionId={}", old.replace('0', "1"));
    let null = "/open/v?acl&versionId=null";
    for target in [other.as_str(), null] {
        for method in ["GET", "PUT"] {
            let absent = root(
                &gateway,
                method,
                target,
                &PUBLIC_READ[..usize::from(method == "PUT")],
                "",
            )
            .await;
            absent.expect_error(404, "NoSuchVersion");
        }
    }
    root(&gateway, "GET", "/open/v?acl&versionId=what", &[], "")
        .await
        .expect_error(400, "InvalidArgument");
    let marker = root(&gateway, "DELETE", "/open/v", &[], "").await.expect(204);
    let marker = marker.header("x-amz-version-id").expect("a version").to_owned();
    let target = format!("/open/v?acl&versionId={marker}");
    root(&gateway, "GET", &target, &[], "")
        .await
        .expect_error(405, "MethodNotAllowed");
    root(&gateway, "PUT", &target, &PUBLIC_READ, "")
        .await
        .expect_error(405, "MethodNotAllowed");
    root(&gateway, "GET", "/open/v?acl", &[], "")
        .await
        .expect_error(404, "NoSuchKey");
    root(&gateway, "PUT", "/open/v?acl", &PUBLIC_READ, "")
        .await
        .expect_error(404, "NoSuchKey");
}
