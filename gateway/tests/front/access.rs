//! Who may do what: operations by principals by resources, with what must come of each written down by hand.

use super::Gateway;
use super::client::{Answer, Client};
use serde_json::json;
use ullage_gateway::s3::checksum::{Checksum, ChecksumAlgorithm};

/// A policy for one prefix: all of it, and listing it.
pub(super) const TEAM: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::private/team/*"},
    {"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::private",
     "Condition":{"StringLike":{"s3:prefix":"team/*"}}}]}"#;

/// Everybody reads `public/`, and stores in `inbox/` with a list that gives the owner everything; nobody but root
/// reaches `secret/`; the user `none` lists `public/`.
const RULED: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Sid":"read","Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::ruled/public/*"},
    {"Sid":"no","Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::ruled/secret/*"},
    {"Sid":"inbox","Effect":"Allow","Principal":"*","Action":["s3:PutObject","s3:PutObjectAcl"],
     "Resource":"arn:aws:s3:::ruled/inbox/*",
     "Condition":{"StringEquals":{"s3:x-amz-acl":"bucket-owner-full-control"}}},
    {"Sid":"list","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/none"},
     "Action":"s3:ListBucket","Resource":"arn:aws:s3:::ruled","Condition":{"StringEquals":{"s3:prefix":"public/"}}}]}"#;

/// A policy that concerns nothing that is there.
pub(super) const HARMLESS: &str = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::private/never"}}"#;

/// Settings that keep out nobody.
const BLOCK: &str = "<PublicAccessBlockConfiguration></PublicAccessBlockConfiguration>";

const TAGS: &str = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
const TAGS_MD5: (&str, &str) = ("content-md5", "EbdZDxVT2OADmYhaGBi6mA==");

/// Who asks, in the order of the columns of [`MATRIX`].
const PRINCIPALS: [&str; 6] = ["root", "writer", "reader", "team", "none", "anonymous"];

/// Headers of a request in a matrix.
pub type Headers = &'static [(&'static str, &'static str)];

const SIZE: Headers = &[("x-amz-object-attributes", "ObjectSize")];

const ACL: Headers = &[("x-amz-acl", "bucket-owner-full-control")];

/// Method, target (`{}` is the principal, `{upload}` an upload to `/private/team/parts`), headers, body; and per
/// principal: `+` done, `-` AccessDenied, `0` not found, `4` InvalidRequest.
const MATRIX: &[(&str, &str, Headers, &str, &str)] = &[
    // A private bucket.
    ("HEAD", "/private", &[], "", "+++---"),
    ("GET", "/private?location", &[], "", "+++---"),
    ("GET", "/private", &[], "", "+++---"),
    ("GET", "/private?prefix=team/", &[], "", "++++--"),
    ("GET", "/private?list-type=2&prefix=team/a", &[], "", "++++--"),
    ("GET", "/private?list-type=2&prefix=t", &[], "", "+++---"),
    ("GET", "/private?uploads", &[], "", "+++---"),
    ("GET", "/private?policy", &[], "", "000---"),
    ("GET", "/private?policyStatus", &[], "", "000---"),
    ("GET", "/private?acl", &[], "", "+++---"),
    ("GET", "/private?ownershipControls", &[], "", "+++---"),
    ("GET", "/private?publicAccessBlock", &[], "", "000---"),
    ("PUT", "/private?publicAccessBlock", &[], BLOCK, "++----"),
    ("GET", "/private?publicAccessBlock", &[], "", "+++---"),
    ("DELETE", "/private?publicAccessBlock", &[], "", "++----"),
    ("GET", "/private?tagging", &[], "", "000---"),
    ("GET", "/private?cors", &[], "", "000---"),
    ("PUT", "/private?policy", &[], HARMLESS, "++----"),
    ("GET", "/private?policy", &[], "", "+++---"),
    ("DELETE", "/private?policy", &[], "", "++----"),
    ("PUT", "/private?acl", &[("x-amz-acl", "private")], "", "++----"),
    ("PUT", "/private?tagging", &[TAGS_MD5], TAGS, "++----"),
    ("DELETE", "/private?tagging", &[], "", "++----"),
    ("DELETE", "/private?cors", &[], "", "++----"),
    ("DELETE", "/private?ownershipControls", &[], "", "++----"),
    ("PUT", "/made-{}", &[], "", "++----"),
    ("DELETE", "/made-{}", &[], "", "++0000"),
    // Its objects.
    ("GET", "/private/plain", &[], "", "+++---"),
    ("HEAD", "/private/plain", &[], "", "+++---"),
    ("GET", "/private/plain?tagging", &[], "", "+++---"),
    ("GET", "/private/plain?acl", &[], "", "+++---"),
    ("GET", "/private/plain?attributes", SIZE, "", "+++---"),
    ("GET", "/private/team/a?attributes", SIZE, "", "++++--"),
    ("GET", "/private/team/absent?attributes", SIZE, "", "000---"),
    ("GET", "/private/open", &[], "", "++++++"),
    (
        "GET",
        "/private/open?response-content-type=text/html",
        &[],
        "",
        "+++++4",
    ),
    (
        "HEAD",
        "/private/open?response-content-type=text/html",
        &[],
        "",
        "+++++4",
    ),
    // A list lets read, and nothing more.
    ("GET", "/private/open?attributes", SIZE, "", "+++---"),
    ("HEAD", "/private/open", &[], "", "++++++"),
    ("GET", "/private/open?acl", &[], "", "+++---"),
    ("GET", "/private/authenticated", &[], "", "+++++-"),
    ("GET", "/private/team/a", &[], "", "++++--"),
    ("GET", "/private/absent", &[], "", "000---"),
    ("HEAD", "/private/absent", &[], "", "000---"),
    ("GET", "/private/team/absent", &[], "", "000---"),
    ("GET", "/private/team/absent?tagging", &[], "", "000---"),
    ("GET", "/private/team/absent?acl", &[], "", "000---"),
    ("PUT", "/private/team/absent?tagging", &[TAGS_MD5], TAGS, "00----"),
    (
        "PUT",
        "/private/team/absent?acl",
        &[("x-amz-acl", "private")],
        "",
        "00----",
    ),
    ("PUT", "/private/new", &[], "new", "++----"),
    ("PUT", "/private/team/new", &[], "new", "++-+--"),
    (
        "PUT",
        "/private/team/new",
        &[("x-amz-acl", "public-read")],
        "new",
        "++-+--",
    ),
    (
        "PUT",
        "/private/team/new?acl",
        &[("x-amz-acl", "private")],
        "",
        "++-+--",
    ),
    ("PUT", "/private/team/new?tagging", &[TAGS_MD5], TAGS, "++-+--"),
    ("DELETE", "/private/team/new?tagging", &[], "", "++-+--"),
    ("POST", "/private/new?uploads", &[], "", "++----"),
    ("POST", "/private/team/new?uploads", &[], "", "++-+--"),
    ("DELETE", "/private/team/new", &[], "", "++-+--"),
    ("DELETE", "/private/new", &[], "", "++----"),
    // Copies: both ends count.
    (
        "PUT",
        "/private/copy",
        &[("x-amz-copy-source", "private/plain")],
        "",
        "++----",
    ),
    (
        "PUT",
        "/private/team/copy",
        &[("x-amz-copy-source", "private/plain")],
        "",
        "++----",
    ),
    (
        "PUT",
        "/private/team/copy",
        &[("x-amz-copy-source", "private/team/a")],
        "",
        "++-+--",
    ),
    (
        "PUT",
        "/private/team/copy",
        &[("x-amz-copy-source", "private/open")],
        "",
        "++-+--",
    ),
    (
        "PUT",
        "/private/team/copy",
        &[("x-amz-copy-source", "ruled/public/a")],
        "",
        "++-+--",
    ),
    (
        "PUT",
        "/private/team/copy",
        &[("x-amz-copy-source", "ruled/secret/a")],
        "",
        "+-----",
    ),
    (
        "PUT",
        "/private/team/copy",
        &[("x-amz-copy-source", "/ruled/s%65cret%2Fa")],
        "",
        "+-----",
    ),
    (
        "PUT",
        "/private/team/copy",
        &[("x-amz-copy-source", "private/absent")],
        "",
        "00----",
    ),
    (
        "PUT",
        "/private/new",
        &[("x-amz-copy-source", "private/team/a")],
        "",
        "++----",
    ),
    // Parts that are copies: the same.
    (
        "PUT",
        "/private/team/parts?partNumber=1&uploadId={upload}",
        &[("x-amz-copy-source", "private/team/a")],
        "",
        "++-+--",
    ),
    (
        "PUT",
        "/private/team/parts?partNumber=1&uploadId={upload}",
        &[("x-amz-copy-source", "private/plain")],
        "",
        "++----",
    ),
    (
        "PUT",
        "/private/team/parts?partNumber=1&uploadId={upload}",
        &[("x-amz-copy-source", "private/open")],
        "",
        "++-+--",
    ),
    (
        "PUT",
        "/private/team/parts?partNumber=1&uploadId={upload}",
        &[("x-amz-copy-source", "ruled/public/a")],
        "",
        "++-+--",
    ),
    (
        "PUT",
        "/private/team/parts?partNumber=1&uploadId={upload}",
        &[("x-amz-copy-source", "ruled/secret/a")],
        "",
        "+-----",
    ),
    (
        "PUT",
        "/private/team/parts?partNumber=1&uploadId={upload}",
        &[("x-amz-copy-source", "private/absent")],
        "",
        "00----",
    ),
    (
        "PUT",
        "/private/new?partNumber=1&uploadId={upload}",
        &[("x-amz-copy-source", "private/team/a")],
        "",
        "00----",
    ),
    // A bucket whose keys everybody may list: its objects are their own matter.
    ("GET", "/shown", &[], "", "++++++"),
    ("HEAD", "/shown", &[], "", "++++++"),
    ("GET", "/shown?location", &[], "", "+++---"),
    ("GET", "/shown/plain", &[], "", "+++---"),
    ("GET", "/shown/absent", &[], "", "000000"),
    ("PUT", "/shown/new", &[], "new", "++----"),
    // A bucket that everybody may fill.
    ("PUT", "/drop/{}", &[], "new", "++++++"),
    ("PUT", "/drop/{}", ACL, "new", "++----"),
    ("GET", "/drop/{}", &[], "", "+++---"),
    ("GET", "/drop", &[], "", "++++++"),
    ("DELETE", "/drop/{}", &[], "", "++++++"),
    // A bucket without lists, whatever its objects say.
    ("GET", "/enforced/open", &[], "", "+++---"),
    // A bucket with a policy.
    ("GET", "/ruled/public/a", &[], "", "++++++"),
    ("GET", "/ruled/public/absent", &[], "", "000---"),
    ("GET", "/ruled/public/a?attributes", SIZE, "", "+++---"),
    ("GET", "/ruled/secret/a?attributes", SIZE, "", "+-----"),
    ("GET", "/ruled/secret/a", &[], "", "+-----"),
    ("HEAD", "/ruled/secret/a", &[], "", "+-----"),
    ("GET", "/ruled/secret/absent", &[], "", "0-----"),
    ("GET", "/ruled?prefix=public/", &[], "", "+++-+-"),
    ("GET", "/ruled?prefix=public/a", &[], "", "+++---"),
    ("PUT", "/ruled/inbox/a", &[], "new", "++----"),
    ("PUT", "/ruled/inbox/a", ACL, "new", "++++++"),
    ("PUT", "/ruled/secret/new", &[], "new", "+-----"),
    ("PUT", "/ruled/secret/new", ACL, "new", "+-----"),
    ("DELETE", "/ruled/secret/a", &[], "", "+-----"),
];

pub(super) async fn send_as(
    gateway: &Gateway,
    who: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    if who == "anonymous" {
        return anonymous(&gateway.client(), method, target, headers, body.as_bytes()).await;
    }
    let client = match who {
        "root" => gateway.client(),
        user => Client::new(gateway.s3, "s3", user, "long enough"),
    };
    client.send(method, target, headers, body.as_bytes()).await
}

/// Sends a request without credentials.
pub(super) async fn anonymous(
    client: &Client,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
        client.address(),
        body.len()
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    let bytes = [request.as_bytes(), body].concat();
    client.raw(&bytes, method == "HEAD").await.expect("an answer")
}

pub(super) async fn user(gateway: &Gateway, name: &str, policy: serde_json::Value) {
    let new = json!({"name": name, "access_key": name, "secret_key": "long enough", "policy": policy});
    let made = gateway.admin_client();
    made.send("POST", "/v1/users", &[], new.to_string().as_bytes())
        .await
        .expect(200);
}

pub(super) async fn root(
    gateway: &Gateway,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    send_as(gateway, "root", method, target, headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_what_the_matrix_says_and_nothing_else() {
    let gateway = Gateway::start().await;
    for (name, policy) in [
        ("writer", json!("readwrite")),
        ("reader", json!("readonly")),
        ("team", serde_json::from_str(TEAM).unwrap()),
        ("none", json!("none")),
    ] {
        user(&gateway, name, policy).await;
    }
    for (bucket, acl) in [
        ("private", "private"),
        ("shown", "public-read"),
        ("drop", "public-read-write"),
        ("ruled", "private"),
        ("enforced", "private"),
    ] {
        let target = format!("/{bucket}");
        root(&gateway, "PUT", &target, &[("x-amz-acl", acl)], "")
            .await
            .expect(200);
    }
    for (target, acl) in [
        ("/private/plain", "private"),
        ("/private/open", "public-read"),
        ("/private/authenticated", "authenticated-read"),
        ("/private/team/a", "bucket-owner-read"),
        ("/shown/plain", "private"),
        ("/enforced/open", "public-read"),
        ("/ruled/public/a", "private"),
        ("/ruled/secret/a", "private"),
    ] {
        root(&gateway, "PUT", target, &[("x-amz-acl", acl)], "old")
            .await
            .expect(200);
    }
    let enforced = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";
    root(&gateway, "PUT", "/enforced?ownershipControls", &[], enforced)
        .await
        .expect(200);
    root(&gateway, "PUT", "/ruled?policy", &[], RULED)
        .await
        .expect(204);
    let begun = root(&gateway, "POST", "/private/team/parts?uploads", &[], "").await;
    let upload = begun.expect(200).element("UploadId").expect("an upload");

    let fill = |target: &str, who: &str| target.replace("{}", who).replace("{upload}", &upload);
    let principals: Vec<(usize, &str)> = PRINCIPALS.into_iter().enumerate().collect();
    check_matrix(&gateway, MATRIX, &principals, fill).await;
}

/// Sends each request of a matrix as each principal, and compares how it ends with what stands at the principal's place.
/// Method, target (filled in by `fill`), headers, body; and per principal: `+` done, `-` AccessDenied, `0` not found,
/// `4` InvalidRequest.
pub async fn check_matrix(
    gateway: &Gateway,
    matrix: &[(&str, &str, Headers, &str, &str)],
    principals: &[(usize, &str)],
    fill: impl Fn(&str, &str) -> String,
) {
    let mut wrong = Vec::new();
    for (method, target, headers, body, expected) in matrix {
        assert_eq!(expected.len(), principals.len(), "{target}");
        for (place, who) in principals {
            let answer = send_as(gateway, who, method, &fill(target, who), headers, body).await;
            let code = answer.element("Code");
            let is = |wanted: &str| *method == "HEAD" || code.as_deref() == Some(wanted);
            let got = match answer.status {
                200..300 => '+',
                403 if is("AccessDenied") => '-',
                404 => '0',
                400 if is("InvalidRequest") => '4',
                _ => '!',
            };
            if expected.chars().nth(*place) != Some(got) {
                wrong.push(format!(
                    "{who}: {method} {target} {headers:?}: {got} of {expected}: {} {}",
                    answer.status,
                    answer.text()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_of_many_is_judged_for_itself() {
    let gateway = Gateway::start().await;
    root(&gateway, "PUT", "/private", &[], "").await.expect(200);
    user(&gateway, "team", serde_json::from_str(TEAM).unwrap()).await;
    let keys = ["team/a", "b", "team/c", "d"];
    for key in keys {
        root(&gateway, "PUT", &format!("/private/{key}"), &[], "old")
            .await
            .expect(200);
    }
    let objects: String = keys
        .iter()
        .map(|key| format!("<Object><Key>{key}</Key></Object>"))
        .collect();
    let document = format!("<Delete>{objects}</Delete>");
    let sum = Checksum::of(ChecksumAlgorithm::Crc32, document.as_bytes()).to_base64();
    let headers = [("x-amz-checksum-crc32", sum.as_str())];
    let answer = send_as(&gateway, "team", "POST", "/private?delete", &headers, &document)
        .await
        .expect(200);
    let keys_in = |element: &str| {
        let parts = answer.elements(element);
        let key = |part: &String| {
            part.split("<Key>")
                .nth(1)?
                .split("</Key>")
                .next()
                .map(str::to_owned)
        };
        parts.iter().filter_map(key).collect::<Vec<_>>()
    };
    assert_eq!(keys_in("Deleted"), ["team/a", "team/c"], "{}", answer.text());
    assert_eq!(keys_in("Error"), ["b", "d"], "{}", answer.text());
    assert_eq!(answer.elements("Code"), ["AccessDenied", "AccessDenied"]);
    for (key, status) in [("team/a", 404), ("b", 200), ("team/c", 404), ("d", 200)] {
        root(&gateway, "GET", &format!("/private/{key}"), &[], "")
            .await
            .expect(status);
    }
    let answer = send_as(
        &gateway,
        "anonymous",
        "POST",
        "/private?delete",
        &headers,
        &document,
    )
    .await
    .expect(200);
    assert_eq!(answer.elements("Code").len(), 4, "{}", answer.text());
    root(&gateway, "GET", "/private/b", &[], "").await.expect(200);
}

/// Before a document is read, and memory for it and its answer taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_said_to_be_so_before_its_document_is_read() {
    let gateway = Gateway::start().await;
    const MD5: (&str, &str) = ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    for (method, target) in [("POST", "/absent?delete"), ("PUT", "/absent/k?tagging")] {
        for who in ["root", "anonymous"] {
            let answer = send_as(&gateway, who, method, target, &[MD5], "no document").await;
            answer.expect_error(404, "NoSuchBucket");
        }
    }
}
