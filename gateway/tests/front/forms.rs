//! Objects that forms bring: who signed the form, what its policy allows, and how success is answered.

use super::client::{Answer, Client};
use super::{ACCESS_KEY, Gateway, REGION, SECRET_KEY};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::time::SystemTime;

const BOUNDARY: &str = "----ullage-tests";
pub(super) const FOREVER: &str = "2099-01-01T00:00:00.000Z";

/// A form being filled in.
#[derive(Clone)]
pub(super) struct Form {
    fields: Vec<(String, String)>,
    file: Vec<u8>,
    filename: String,
}

/// `20261123T143211Z`
fn amz_date() -> String {
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    ullage_gateway::s3::UnixMs::from_seconds(seconds).amz_date()
}

impl Form {
    /// A signed form whose policy has these conditions besides those on the fields of the signature.
    pub(super) fn signed(secret: &str, expiration: &str, conditions: &str) -> Self {
        Self::signed_by((ACCESS_KEY, secret), expiration, conditions)
    }

    fn signed_by((access_key, secret): (&str, &str), expiration: &str, conditions: &str) -> Self {
        let date = amz_date();
        let credential = format!("{access_key}/{}/{REGION}/s3/aws4_request", &date[..8]);
        let policy = format!(
            r#"{{"expiration": "{expiration}", "conditions": [{conditions},
                {{"x-amz-algorithm": "AWS4-HMAC-SHA256"}}, {{"x-amz-credential": "{credential}"}},
                {{"x-amz-date": "{date}"}}]}}"#
        );
        let policy = STANDARD.encode(policy);
        let key = generate_signing_key(secret, SystemTime::now(), REGION, "s3");
        let signature = calculate_signature(key, policy.as_bytes());
        Self::unsigned()
            .with("x-amz-algorithm", "AWS4-HMAC-SHA256")
            .with("x-amz-credential", &credential)
            .with("x-amz-date", &date)
            .with("policy", &policy)
            .with("x-amz-signature", &signature)
    }

    fn unsigned() -> Self {
        Self {
            fields: Vec::new(),
            file: b"hello".to_vec(),
            filename: "f.txt".to_owned(),
        }
    }

    /// A form for any key in `first`, and these conditions besides.
    fn to_first(conditions: &str) -> Self {
        let any_key = r#"{"bucket": "first"}, ["starts-with", "$key", ""]"#;
        Self::signed(SECRET_KEY, FOREVER, &format!("{any_key}{conditions}"))
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn with_file(mut self, filename: &str, file: &[u8]) -> Self {
        (self.filename, self.file) = (filename.to_owned(), file.to_vec());
        self
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            let part =
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\n\
             Content-Type: text/odd\r\n\r\n",
            self.filename
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&self.file);
        // Fields behind the file are not looked at.
        let tail = format!(
            "\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nGo\r\n--{BOUNDARY}--\r\n"
        );
        body.extend_from_slice(tail.as_bytes());
        body
    }

    async fn post(&self, gateway: &Gateway, target: &str) -> Answer {
        post(&gateway.client(), target, &[], &self.body()).await
    }
}

async fn post(client: &Client, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let bytes = request(client, target, headers, body);
    client.raw(&bytes, false).await.expect("an answer")
}

/// A request that brings a form.
pub(super) fn request(client: &Client, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\n{headers}\r\n",
        client.address(),
        body.len()
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

async fn start() -> (Gateway, Client) {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.send("PUT", "/first", &[], b"").await.expect(200);
    client.send("PUT", "/second", &[], b"").await.expect(200);
    (gateway, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_store_what_they_say() {
    let (gateway, client) = start().await;
    let conditions = r#", ["starts-with", "$Content-Type", "text/"], ["starts-with", "$x-amz-meta-cask", ""],
        {"acl": "private"}, ["starts-with", "$success_action_status", ""], ["starts-with", "$tagging", ""]"#;
    let form = Form::to_first(conditions)
        .with("key", "user/${filename}")
        .with("Content-Type", "text/odd")
        .with("x-amz-meta-cask", "12 of ${filename}")
        .with("acl", "private")
        .with(
            "tagging",
            "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
        )
        .with("x-ignore-this", "1")
        .with("success_action_status", "201")
        .with_file("C:\\dir\\a b.txt", b"hello\r\n--not the end");
    let created = form.post(&gateway, "/first").await.expect(201);
    assert_eq!(created.element("Bucket").as_deref(), Some("first"));
    assert_eq!(created.element("Key").as_deref(), Some("user/a b.txt"));
    let location = format!("http://{}/first/user/a%20b.txt", gateway.s3);
    assert_eq!(created.element("Location"), Some(location.clone()));
    assert_eq!(created.header("location"), Some(location.as_str()));
    let got = client
        .send("GET", "/first/user/a%20b.txt", &[], b"")
        .await
        .expect(200);
    assert_eq!(got.body, b"hello\r\n--not the end");
    assert_eq!(got.header("etag"), created.header("etag"));
    assert_eq!(got.header("content-type"), Some("text/odd"));
    assert_eq!(got.header("x-amz-meta-cask"), Some("12 of a b.txt"));
    assert_eq!(got.header("x-amz-tagging-count"), Some("1"));

    // Large enough for chunks at vendors, with a line break at every place a border may fall.
    let large: Vec<u8> = (0..3_000_000_u32)
        .map(|n| if n % 61 == 0 { b'\r' } else { n as u8 })
        .collect();
    let form = Form::to_first("").with("key", "large").with_file("large", &large);
    let stored = form.post(&gateway, "/first").await.expect(204);
    assert!(stored.header("etag").is_some());
    assert_eq!(
        client
            .send("GET", "/first/large", &[], b"")
            .await
            .expect(200)
            .body,
        large
    );

    let redirect = r#", ["starts-with", "$success_action_redirect", ""]"#;
    let form = Form::to_first(redirect)
        .with("key", "a&b")
        .with("success_action_redirect", "https://page.test/done?x=1#top");
    let sent = form.post(&gateway, "/first").await.expect(303);
    assert_eq!(
        sent.header("location"),
        Some(
            "https://page.test/done?x=1&bucket=first&key=a%26b&etag=%225d41402abc4b2a76b9719d911017c592%22#top"
        )
    );
    let form = Form::to_first(redirect)
        .with("key", "k")
        .with("success_action_redirect", "javascript:x");
    assert_eq!(
        form.post(&gateway, "/first").await.expect(204).header("etag"),
        sent.header("etag")
    );
    gateway.metad.check_invariants();
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_may_do_what_their_signers_said_and_no_more() {
    let (gateway, client) = start().await;
    let key = |form: Form| form.with("key", "k");
    let denied = |form: Form, target: &'static str| (form, target, 403, "AccessDenied");
    let any_key = r#"["starts-with", "$key", ""]"#;
    let cases = [
        // A policy is for the bucket that it names.
        denied(key(Form::to_first("")), "/second"),
        denied(key(Form::to_first("")).with("bucket", "first"), "/second"),
        denied(key(Form::signed(SECRET_KEY, FOREVER, any_key)), "/first"),
        denied(key(Form::to_first("")).with("acl", "private"), "/first"),
        denied(key(Form::to_first(r#", {"key": "other"}"#)), "/first"),
        denied(
            key(Form::signed(
                SECRET_KEY,
                "2020-01-01T00:00:00Z",
                r#"{"bucket": "first"}, {"key": "k"}"#,
            )),
            "/first",
        ),
        (
            key(Form::signed(
                "another secret",
                FOREVER,
                r#"{"bucket": "first"}, {"key": "k"}"#,
            )),
            "/first",
            403,
            "SignatureDoesNotMatch",
        ),
        (Form::to_first(""), "/first", 400, "InvalidArgument"),
        (key(key(Form::to_first(""))), "/first", 400, "InvalidArgument"),
        (
            key(Form::to_first("")).with("x-amz-security-token", "t"),
            "/first",
            400,
            "InvalidToken",
        ),
        (
            key(Form::to_first(r#", {"x-amz-storage-class": "FROZEN"}"#))
                .with("x-amz-storage-class", "FROZEN"),
            "/first",
            400,
            "InvalidStorageClass",
        ),
        (
            key(Form::to_first(r#", {"x-amz-website-redirect-location": "/"}"#))
                .with("x-amz-website-redirect-location", "/"),
            "/first",
            501,
            "NotImplemented",
        ),
        (
            key(Form::to_first(r#", ["content-length-range", 6, 9]"#)),
            "/first",
            400,
            "EntityTooSmall",
        ),
        (
            key(Form::to_first(r#", ["content-length-range", 0, 4]"#)),
            "/first",
            400,
            "EntityTooLarge",
        ),
        (
            key(Form::to_first(r#", {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}"#))
                .with("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="),
            "/first",
            400,
            "BadDigest",
        ),
        (
            key(Form::to_first("")).with("x-ignore-long", &"x".repeat(30_000)),
            "/first",
            400,
            "MaxPostPreDataLengthExceeded",
        ),
        (key(Form::to_first("")), "/third-bucket", 403, "AccessDenied"),
    ];
    for (number, (form, target, status, code)) in cases.into_iter().enumerate() {
        println!("case {number}");
        form.post(&gateway, target).await.expect_error(status, code);
    }
    key(Form::unsigned())
        .post(&gateway, "/first")
        .await
        .expect_error(403, "AccessDenied");
    let mut half_signed = key(Form::to_first(""));
    half_signed.fields.retain(|(name, _)| name != "policy");
    half_signed
        .post(&gateway, "/first")
        .await
        .expect_error(400, "InvalidArgument");

    let good = key(Form::to_first("")).body();
    let refused = post(&client, "/first", &[("x-amz-acl", "public-read")], &good).await;
    refused.expect_error(501, "NotImplemented");
    for acts in [
        ("if-none-match", "*"),
        ("if-match", "*"),
        ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("content-range", "bytes 0-1/2"),
        ("x-amz-content-sha256", &"0".repeat(64)),
    ] {
        let refused = post(&client, "/first", &[acts], &good).await;
        refused.expect_error(501, "NotImplemented");
    }
    let refused = post(
        &client,
        "/first",
        &[("authorization", "AWS4-HMAC-SHA256 x")],
        &good,
    )
    .await;
    refused.expect_error(400, "InvalidArgument");
    let credential = "/first?X-Amz-Credential=a&X-Amz-Signature=b";
    for form in [&good, &key(Form::unsigned()).body()] {
        let refused = post(&client, credential, &[], form).await;
        refused.expect_error(400, "AuthorizationQueryParametersError");
    }
    let refused = post(&client, "/first", &[("x-amz-security-token", "t")], &good).await;
    refused.expect_error(403, "AccessDenied");
    let owner = [("x-amz-expected-bucket-owner", "210987654321")];
    let refused = post(&client, "/first", &owner, &good).await;
    refused.expect_error(403, "AccessDenied");
    let no_form = client.send("POST", "/first", &[], b"x").await;
    no_form.expect_error(412, "PreconditionFailed");
    // The file ends where the form says, and not where the bytes do.
    for cut in [good.len() - 120, 200, 10] {
        let answer = post(&client, "/first", &[], &good[..cut]).await;
        answer.expect_error(400, "IncompleteBody");
    }
    let endless = vec![b'x'; 100_000];
    post(&client, "/first", &[], &endless)
        .await
        .expect_error(400, "MaxPostPreDataLengthExceeded");

    for bucket in ["first", "second"] {
        let list = client
            .send("GET", &format!("/{bucket}?list-type=2"), &[], b"")
            .await
            .expect(200);
        assert_eq!(
            list.elements("Key"),
            Vec::<String>::new(),
            "nothing was stored in {bucket}"
        );
    }
    key(Form::to_first("")).post(&gateway, "/first").await.expect(204);
    gateway.metad.check_invariants();
}

/// Everybody fills `inbox/` with objects whose list gives the owner everything, and `page/` from one page; no form
/// fills `closed/`.
const RULED: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Principal":"*","Action":["s3:PutObject","s3:PutObjectAcl"],
     "Resource":"arn:aws:s3:::first/inbox/*",
     "Condition":{"StringEquals":{"s3:x-amz-acl":"bucket-owner-full-control"}}},
    {"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::first/page/*",
     "Condition":{"StringLike":{"aws:Referer":"https://page.test/*"}}},
    {"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::first/team/closed/*",
     "Condition":{"StringEquals":{"s3:authType":"POST"}}}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn forms_are_judged_by_policies_as_puts_are() {
    let (gateway, client) = start().await;
    let team = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::first/team/*"}});
    let user = json!({"name": "team", "access_key": "team", "secret_key": "long enough", "policy": team});
    let made = gateway.admin_client();
    made.send("POST", "/v1/users", &[], user.to_string().as_bytes())
        .await
        .expect(200);
    client
        .send("PUT", "/first?policy", &[], RULED.as_bytes())
        .await
        .expect(204);
    let any_key = r#"{"bucket": "first"}, ["starts-with", "$key", ""], ["starts-with", "$acl", ""],
        ["starts-with", "$x-amz-acl", ""]"#;
    let of_team = || Form::signed_by(("team", "long enough"), FOREVER, any_key);
    let full_control = "bucket-owner-full-control";

    let mut stored = Vec::new();
    for (who, form) in [("team", of_team()), ("nobody", Form::unsigned())] {
        for (allowed, key, acl) in [
            (who == "team", "team/k", None),
            // The user's own policy does not say that it may set lists.
            (false, "team/k", Some(("acl", full_control))),
            (false, "team/closed/k", None),
            (false, "k", None),
            (false, "inbox/none", None),
            (true, "inbox/acl", Some(("acl", full_control))),
            (true, "inbox/x-amz-acl", Some(("x-amz-acl", full_control))),
            (false, "inbox/public", Some(("acl", "public-read"))),
        ] {
            println!("{who}: {key} {acl:?}");
            let key = format!("{key}-{who}");
            let form = form.clone().with("key", &key);
            let form = match acl {
                Some((name, acl)) => form.with(name, acl),
                None => form,
            };
            let answer = form.post(&gateway, "/first").await;
            if allowed {
                answer.expect(204);
                stored.push(key);
            } else {
                answer.expect_error(403, "AccessDenied");
            }
        }
    }
    // Where a form comes from is its request's word, and not its fields'.
    let body = Form::unsigned()
        .with("key", "page/k")
        .with("referer", "https://page.test/form")
        .body();
    post(&client, "/first", &[], &body)
        .await
        .expect_error(403, "AccessDenied");
    let referer = [("referer", "https://page.test/form")];
    post(&client, "/first", &referer, &body).await.expect(204);
    stored.push("page/k".to_owned());

    stored.sort();
    let list = client
        .send("GET", "/first?list-type=2", &[], b"")
        .await
        .expect(200);
    assert_eq!(list.elements("Key"), stored);
    // In a bucket that keeps versions, the answer names the one that was made.
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    client
        .send("PUT", "/second?versioning", &[], enabled.as_bytes())
        .await
        .expect(200);
    let form = Form::signed(SECRET_KEY, FOREVER, r#"{"bucket": "second"}, {"key": "k"}"#);
    let made = form.with("key", "k").post(&gateway, "/second").await.expect(204);
    let got = client.send("GET", "/second/k", &[], b"").await.expect(200);
    assert!(made.header("x-amz-version-id").is_some());
    assert_eq!(got.header("x-amz-version-id"), made.header("x-amz-version-id"));

    // Where everybody may store, so may a form of nobody's.
    let open = [("x-amz-acl", "public-read-write")];
    client.send("PUT", "/drop", &open, b"").await.expect(200);
    Form::unsigned()
        .with("key", "k")
        .post(&gateway, "/drop")
        .await
        .expect(204);
    gateway.metad.check_invariants();
}
