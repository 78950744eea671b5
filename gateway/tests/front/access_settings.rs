//! The settings of access themselves: policies of buckets and users, lists, ownership.

use super::Gateway;
use super::access::{HARMLESS, TEAM, root, send_as, user};
use super::client::Client;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_kept_as_written_or_not_at_all_and_never_shut_root_out() {
    let gateway = Gateway::start().await;
    root(&gateway, "PUT", "/private", &[], "").await.expect(200);
    user(&gateway, "alice", json!("readwrite")).await;
    let put = async |policy: &str| root(&gateway, "PUT", "/private?policy", &[], policy).await;
    root(&gateway, "GET", "/private?policy", &[], "")
        .await
        .expect_error(404, "NoSuchBucketPolicy");
    for bad in [
        "",
        "{}",
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::other/*"}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam:::user/nobody"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::private/*"}]}"#,
        r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::private/*","Condition":{"StringEquals":{"aws:Unknown":"x"}}}]}"#,
    ] {
        put(bad).await.expect_error(400, "MalformedPolicy");
    }
    let long = HARMLESS.replace("never", &"n".repeat(21_000));
    put(&long).await.expect_error(400, "MaxMessageLengthExceeded");
    root(&gateway, "GET", "/private?policy", &[], "")
        .await
        .expect_error(404, "NoSuchBucketPolicy");

    let public = r#"{ "Statement" : [ {"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::private/*"} ] }"#;
    put(public).await.expect(204);
    let kept = root(&gateway, "GET", "/private?policy", &[], "")
        .await
        .expect(200);
    assert_eq!(
        (kept.text().as_str(), kept.header("content-type")),
        (public, Some("application/json"))
    );
    let status = root(&gateway, "GET", "/private?policyStatus", &[], "")
        .await
        .expect(200);
    assert_eq!(status.element("IsPublic").as_deref(), Some("true"));
    send_as(&gateway, "alice", "PUT", "/private/k", &[], "new")
        .await
        .expect(200);
    send_as(&gateway, "anonymous", "GET", "/private/k", &[], "")
        .await
        .expect(200);

    let shut = r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::private","arn:aws:s3:::private/*"]}]}"#;
    send_as(&gateway, "alice", "PUT", "/private?policy", &[], shut)
        .await
        .expect(204);
    for (method, target) in [
        ("GET", "/private/k"),
        ("PUT", "/private/k"),
        ("DELETE", "/private?policy"),
    ] {
        let refused = send_as(&gateway, "alice", method, target, &[], "").await;
        refused.expect_error(403, "AccessDenied");
    }
    send_as(&gateway, "anonymous", "GET", "/private/k", &[], "")
        .await
        .expect_error(403, "AccessDenied");
    root(&gateway, "GET", "/private/k", &[], "").await.expect(200);
    root(&gateway, "DELETE", "/private?policy", &[], "")
        .await
        .expect(204);
    send_as(&gateway, "alice", "GET", "/private/k", &[], "")
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_policy_changes_and_counts_at_once() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin_client();
    root(&gateway, "PUT", "/private", &[], "").await.expect(200);
    user(&gateway, "alice", json!("none")).await;
    let list = async || {
        send_as(&gateway, "alice", "GET", "/", &[], "")
            .await
            .expect(200)
            .elements("Name")
    };
    let put = async || {
        send_as(&gateway, "alice", "PUT", "/private/team/a", &[], "new")
            .await
            .status
    };
    let set = async |policy: serde_json::Value| {
        let body = json!({"user": "alice", "policy": policy}).to_string();
        admin.send("PUT", "/v1/users/policy", &[], body.as_bytes()).await
    };
    let shown = async || {
        let shown = admin.send("GET", "/v1/users/policy?user=alice", &[], b"").await;
        shown.expect(200).json()["policy"].clone()
    };
    assert_eq!((put().await, list().await), (403, Vec::<String>::new()));
    let team: serde_json::Value = serde_json::from_str(TEAM).unwrap();
    set(team.clone()).await.expect(200);
    assert_eq!((put().await, shown().await), (200, team));
    set(json!("readonly")).await.expect(200);
    assert_eq!((put().await, shown().await), (403, json!("readonly")));
    assert_eq!(list().await, ["private"]);
    set(json!({"Statement": {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::p*"}}))
        .await
        .expect(200);
    root(&gateway, "PUT", "/other", &[], "").await.expect(200);
    assert_eq!(list().await, ["private"], "those it may list");
    for bad in [
        json!("admin"),
        json!({}),
        json!(7),
        json!({"Statement": {"Effect": "Allow", "Action": "s3:Nothing", "Resource": "*"}}),
    ] {
        assert_eq!(set(bad).await.status, 400);
    }
    let body = json!({"user": "nobody", "policy": "none"}).to_string();
    assert_eq!(
        admin
            .send("PUT", "/v1/users/policy", &[], body.as_bytes())
            .await
            .status,
        404
    );
    let own = Client::new(gateway.admin, "ullage", "alice", "long enough");
    let body = json!({"user": "alice", "policy": "readwrite"}).to_string();
    assert_eq!(
        own.send("PUT", "/v1/users/policy", &[], body.as_bytes())
            .await
            .status,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_answered_and_taken_as_documents() {
    let gateway = Gateway::start().await;
    root(&gateway, "PUT", "/private", &[], "").await.expect(200);
    root(
        &gateway,
        "PUT",
        "/private/k",
        &[("x-amz-acl", "public-read")],
        "old",
    )
    .await
    .expect(200);
    let get = async |target: &str| root(&gateway, "GET", target, &[], "").await.expect(200);
    let put = async |target: &str, headers: &[(&str, &str)], body: &str| {
        root(&gateway, "PUT", target, headers, body).await
    };
    let open = get("/private/k?acl").await;
    assert_eq!(
        open.elements("Permission"),
        ["FULL_CONTROL", "READ"],
        "{}",
        open.text()
    );
    assert_eq!(
        open.element("URI").as_deref(),
        Some("http://acs.amazonaws.com/groups/global/AllUsers")
    );
    assert_eq!(get("/private?acl").await.elements("Permission"), ["FULL_CONTROL"]);
    // What is answered is taken again.
    put("/private?acl", &[], &open.text()).await.expect(200);
    assert_eq!(get("/private?acl").await.text(), open.text());
    send_as(&gateway, "anonymous", "GET", "/private", &[], "")
        .await
        .expect(200);
    put("/private?acl", &[("x-amz-acl", "private")], "")
        .await
        .expect(200);
    send_as(&gateway, "anonymous", "GET", "/private", &[], "")
        .await
        .expect_error(403, "AccessDenied");

    // Making one's own bucket again changes nothing, and says so to whoever asks for a change.
    put("/private", &[], "").await.expect(200);
    put("/private", &[("x-amz-acl", "public-read")], "")
        .await
        .expect_error(409, "BucketAlreadyOwnedByYou");
    assert_eq!(get("/private?acl").await.elements("Permission"), ["FULL_CONTROL"]);

    let other = open.text().replace("READ", "READ_ACP");
    put("/private?acl", &[], &other)
        .await
        .expect_error(501, "NotImplemented");
    put("/private?acl", &[], "<AccessControlPolicy>")
        .await
        .expect_error(400, "MalformedACLError");
    put("/private?acl", &[], "")
        .await
        .expect_error(400, "MissingSecurityHeader");
    put("/private?acl", &[("x-amz-acl", "private")], &open.text())
        .await
        .expect_error(400, "UnexpectedContent");
    put("/private?acl", &[("x-amz-acl", "mine")], "")
        .await
        .expect_error(400, "InvalidArgument");
    put("/private?acl", &[("x-amz-acl", "log-delivery-write")], "")
        .await
        .expect_error(501, "NotImplemented");
    put("/private?acl", &[("x-amz-grant-read", "id=0")], "")
        .await
        .expect_error(501, "NotImplemented");
    put("/private/absent?acl", &[("x-amz-acl", "private")], "")
        .await
        .expect_error(404, "NoSuchKey");

    // A copy's list is its own, and so is that of what replaces an object.
    put("/private/copy", &[("x-amz-copy-source", "private/k")], "")
        .await
        .expect(200);
    put("/private/k", &[], "new").await.expect(200);
    for target in ["/private/copy", "/private/k"] {
        send_as(&gateway, "anonymous", "GET", target, &[], "")
            .await
            .expect_error(403, "AccessDenied");
    }
    put("/private/k?acl", &[], &open.text()).await.expect(200);
    send_as(&gateway, "anonymous", "GET", "/private/k", &[], "")
        .await
        .expect(200);
    let upload = [("x-amz-acl", "public-read")];
    let begun = root(&gateway, "POST", "/private/parts?uploads", &upload, "")
        .await
        .expect(200);
    let id = begun.element("UploadId").unwrap();
    let part = put(&format!("/private/parts?partNumber=1&uploadId={id}"), &[], "part")
        .await
        .expect(200);
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").unwrap()
    );
    let target = format!("/private/parts?uploadId={id}");
    root(&gateway, "POST", &target, &[], &document).await.expect(200);
    send_as(&gateway, "anonymous", "GET", "/private/parts", &[], "")
        .await
        .expect(200);

    // Where lists do not count, those that grant something are refused.
    let enforced = [("x-amz-object-ownership", "BucketOwnerEnforced")];
    put("/enforced", &enforced, "").await.expect(200);
    let controls = get("/enforced?ownershipControls").await;
    assert_eq!(
        controls.element("ObjectOwnership").as_deref(),
        Some("BucketOwnerEnforced")
    );
    put("/enforced/k", &[("x-amz-acl", "public-read")], "x")
        .await
        .expect_error(400, "AccessControlListNotSupported");
    put("/enforced/k", &[("x-amz-acl", "bucket-owner-full-control")], "x")
        .await
        .expect(200);
    put("/enforced?acl", &[("x-amz-acl", "public-read")], "")
        .await
        .expect_error(400, "AccessControlListNotSupported");
    let both = [enforced[0], ("x-amz-acl", "public-read")];
    put("/both", &both, "")
        .await
        .expect_error(400, "InvalidBucketAclWithObjectOwnership");
}
