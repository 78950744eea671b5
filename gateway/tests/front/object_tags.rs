//! Policies that ask for the tags of the object that a request is about.

use super::Gateway;
use super::access::{Headers, check_matrix, root, user};
use serde_json::json;

/// What is tagged `grape=merlot` everybody reads, and the user `none` may give it tags, if it stays merlot; what is
/// tagged `locked=yes` nobody but root reaches.
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Principal":"*","Resource":"arn:aws:s3:::tagged/*",
     "Action":["s3:GetObject","s3:GetObjectVersion","s3:GetObjectTagging","s3:GetObjectAcl","s3:GetObjectAttributes"],
     "Condition":{"StringEquals":{"s3:ExistingObjectTag/grape":"merlot"}}},
    {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/none"},
     "Action":["s3:PutObjectTagging","s3:PutObjectVersionTagging"],"Resource":"arn:aws:s3:::tagged/*",
     "Condition":{"StringEquals":{"s3:ExistingObjectTag/grape":"merlot","s3:RequestObjectTag/grape":"merlot"}}},
    {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/none"},
     "Action":["s3:DeleteObjectTagging","s3:PutObjectAcl"],"Resource":"arn:aws:s3:::tagged/*",
     "Condition":{"Null":{"s3:ExistingObjectTag/grape":"true"}}},
    {"Effect":"Deny","Principal":"*","Action":["s3:Get*","s3:PutObject*","s3:DeleteObject*"],
     "Resource":"arn:aws:s3:::tagged/*","Condition":{"StringEquals":{"s3:ExistingObjectTag/locked":"yes"}}}]}"#;

const MERLOT: &str = "<Tagging><TagSet><Tag><Key>grape</Key><Value>merlot</Value></Tag></TagSet></Tagging>";
const SHIRAZ: &str = "<Tagging><TagSet><Tag><Key>grape</Key><Value>shiraz</Value></Tag></TagSet></Tagging>";

const PRINCIPALS: [&str; 4] = ["root", "writer", "none", "anonymous"];

const SIZE: Headers = &[("x-amz-object-attributes", "ObjectSize")];
const PRIVATE: Headers = &[("x-amz-acl", "private")];
const OF_LOCKED: Headers = &[("x-amz-copy-source", "tagged/locked")];
const OF_RED: Headers = &[("x-amz-copy-source", "tagged/red")];
const OF_WHITE: Headers = &[("x-amz-copy-source", "tagged/white")];

/// Method, target (`{red}` and `{locked}` are versions), headers, body; and per principal: `+` done, `-` AccessDenied,
/// `0` not found.
const MATRIX: &[(&str, &str, Headers, &str, &str)] = &[
    ("GET", "/tagged/red", &[], "", "++++"),
    ("HEAD", "/tagged/red", &[], "", "++++"),
    ("GET", "/tagged/red?tagging", &[], "", "++++"),
    ("GET", "/tagged/red?acl", &[], "", "++++"),
    ("GET", "/tagged/red?attributes", SIZE, "", "++++"),
    ("GET", "/tagged/red?versionId={red}", &[], "", "++++"),
    // Versioned reads of tags and of lists are other actions.
    ("GET", "/tagged/red?tagging&versionId={red}", &[], "", "++--"),
    ("GET", "/tagged/red?acl&versionId={red}", &[], "", "++--"),
    ("GET", "/tagged/white", &[], "", "++--"),
    ("GET", "/tagged/white?tagging", &[], "", "++--"),
    ("GET", "/tagged/bare", &[], "", "++--"),
    ("GET", "/tagged/absent", &[], "", "00--"),
    ("GET", "/tagged/absent?acl", &[], "", "00--"),
    ("PUT", "/tagged/absent?tagging", &[], MERLOT, "00--"),
    ("DELETE", "/tagged/absent?tagging", &[], "", "00--"),
    // Its list would let everybody read it.
    ("GET", "/tagged/locked", &[], "", "+---"),
    ("HEAD", "/tagged/locked", &[], "", "+---"),
    ("GET", "/tagged/locked?tagging", &[], "", "+---"),
    ("GET", "/tagged/locked?acl", &[], "", "+---"),
    ("GET", "/tagged/locked?attributes", SIZE, "", "+---"),
    ("PUT", "/tagged/locked?acl", PRIVATE, "", "+---"),
    // Both what is there and what comes.
    ("PUT", "/tagged/red?tagging", &[], MERLOT, "+++-"),
    ("PUT", "/tagged/red?tagging&versionId={red}", &[], MERLOT, "+++-"),
    ("PUT", "/tagged/white?tagging", &[], MERLOT, "++--"),
    ("DELETE", "/tagged/white?tagging", &[], "", "++--"),
    ("PUT", "/tagged/bare?acl", PRIVATE, "", "+++-"),
    ("PUT", "/tagged/bare?acl&versionId={bare}", PRIVATE, "", "++--"),
    ("DELETE", "/tagged/bare?tagging", &[], "", "+++-"),
    ("DELETE", "/tagged/red?tagging", &[], "", "++--"),
    ("GET", "/tagged/red", &[], "", "++--"),
    ("PUT", "/tagged/red?tagging", &[], MERLOT, "++--"),
    ("PUT", "/tagged/red?tagging", &[], SHIRAZ, "++--"),
    // Copies read their source, and its tags if they come along.
    ("PUT", "/tagged/copy", OF_WHITE, "", "++--"),
    ("PUT", "/tagged/copy", OF_LOCKED, "", "+---"),
    ("PUT", "/open/copy", OF_RED, "", "++--"),
    ("PUT", "/open/copy", OF_LOCKED, "", "+---"),
    // What replaces an object has no tags before.
    ("PUT", "/tagged/locked", &[], "new", "++--"),
    ("GET", "/tagged/locked", &[], "", "++--"),
    ("GET", "/tagged/locked?versionId={locked}", &[], "", "+---"),
    (
        "DELETE",
        "/tagged/locked?tagging&versionId={locked}",
        &[],
        "",
        "+---",
    ),
    // Now it is not locked any more; its list was made private above.
    ("GET", "/tagged/locked?versionId={locked}", &[], "", "++--"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_policies_say_of_tags_holds_of_the_version_that_is_served() {
    let gateway = Gateway::start().await;
    user(&gateway, "writer", json!("readwrite")).await;
    user(&gateway, "none", json!("none")).await;
    for bucket in ["/tagged", "/open"] {
        root(&gateway, "PUT", bucket, &[], "").await.expect(200);
    }
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    root(&gateway, "PUT", "/tagged?versioning", &[], versioning)
        .await
        .expect(200);
    let mut versions = Vec::new();
    for (key, tags, acl) in [
        ("red", "grape=merlot", "private"),
        ("white", "grape=riesling", "private"),
        ("locked", "grape=merlot&locked=yes", "public-read"),
        ("bare", "", "private"),
    ] {
        let headers = [("x-amz-tagging", tags), ("x-amz-acl", acl)];
        let made = root(&gateway, "PUT", &format!("/tagged/{key}"), &headers, "old").await;
        let version = made
            .expect(200)
            .header("x-amz-version-id")
            .expect("a version")
            .to_owned();
        versions.push((format!("{{{key}}}"), version));
    }
    root(&gateway, "PUT", "/tagged?policy", &[], POLICY)
        .await
        .expect(204);

    let fill = |target: &str, _: &str| {
        let target = target.to_owned();
        versions
            .iter()
            .fold(target, |target, (name, version)| target.replace(name, version))
    };
    // Root last: what it may do, it may undo for the others.
    let principals: Vec<(usize, &str)> = PRINCIPALS.into_iter().enumerate().rev().collect();
    check_matrix(&gateway, MATRIX, &principals, fill).await;
    gateway.metad.check_invariants();
}
