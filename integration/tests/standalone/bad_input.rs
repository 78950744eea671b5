//! Bad input gets the S3 error with its status, code and message, costs bounded memory, and changes
//! nothing. Sent on raw sockets, as no library would.

use std::time::Duration;

use ullage_integration::http1::{Body, Connection};
use ullage_integration::process::anonymous_bytes;
use ullage_integration::s3::{Request, Response, S3, content_md5};
use ullage_integration::sign::Credentials;
use ullage_integration::standalone::Standalone;

const BUCKET: &str = "strict";
const MIB: u64 = 1 << 20;

/// A server with one object, and the check that nothing but it is there.
struct Strict {
    standalone: Standalone,
    s3: S3,
}

impl Strict {
    async fn start() -> anyhow::Result<Self> {
        let standalone = Standalone::start_default().await?;
        let s3 = standalone.s3()?;
        s3.create_bucket(BUCKET).await?;
        s3.put(BUCKET, "kept", Body::Bytes(b"as it was")).await?;
        Ok(Self { standalone, s3 })
    }

    /// Sends bytes as they are and reads the answer; `None` if the server just closed.
    async fn raw(&self, bytes: &[u8]) -> anyhow::Result<Option<Response>> {
        let mut connection = Connection::open(self.s3.address()).await?;
        // A server that refuses early may close before all is sent.
        let _ = connection.send_raw(bytes).await;
        let answer = tokio::time::timeout(
            Duration::from_secs(30),
            connection.read_head(bytes.starts_with(b"HEAD")),
        );
        let Ok(mut head) = answer.await? else {
            return Ok(None);
        };
        let body = connection.read_body(&mut head).await?;
        Ok(Some(Response { head, body }))
    }

    /// Requires an S3 error with that status and code, complete in all its parts.
    async fn check(&self, what: &str, bytes: &[u8], status: u16, code: &str) -> anyhow::Result<()> {
        let answer = self.raw(bytes).await?;
        let answer = answer.unwrap_or_else(|| panic!("{what}: closed without an answer"));
        assert_error(what, &answer, status, code);
        Ok(())
    }

    async fn check_signed(
        &self,
        what: &str,
        request: &Request<'_>,
        body: &[u8],
        status: u16,
        code: &str,
    ) -> anyhow::Result<()> {
        let answer = self.s3.send(request, Body::Bytes(body)).await?;
        assert_error(what, &answer, status, code);
        Ok(())
    }

    async fn assert_unchanged(&self) -> anyhow::Result<()> {
        assert_eq!(self.s3.list_keys(BUCKET, "").await?, ["kept"]);
        assert_eq!(self.s3.get(BUCKET, "kept").await?.body, b"as it was");
        let buckets = self
            .s3
            .send(&Request::list_buckets(), Body::Empty)
            .await?
            .expect(200)?;
        assert_eq!(ullage_integration::s3::elements(&buckets.body, "Name"), [BUCKET]);
        Ok(())
    }
}

fn assert_error(what: &str, answer: &Response, status: u16, code: &str) {
    let have = (answer.status(), answer.element("Code").unwrap_or_default());
    assert_eq!(have, (status, code.to_owned()), "{what}: {}", answer.text());
    assert!(
        answer
            .element("Message")
            .is_some_and(|message| !message.is_empty()),
        "{what}: no message"
    );
    let id = answer.head.header("x-amz-request-id").unwrap_or_default();
    assert!(!id.is_empty(), "{what}: no request id");
    assert_eq!(
        answer.element("RequestId").as_deref(),
        Some(id),
        "{what}: the body names another request"
    );
    assert!(
        answer.head.header("x-amz-id-2").is_some(),
        "{what}: no x-amz-id-2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_http_is_refused() -> anyhow::Result<()> {
    let strict = Strict::start().await?;
    let host = strict.s3.address();
    // What is not HTTP gets 400 or a closed connection, and nothing else.
    let long_header = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    let many_headers = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(20_000));
    let long_target = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "k".repeat(1 << 20));
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"PUT /strict/smuggled HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT /strict/smuggled HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        long_header.as_bytes(),
        many_headers.as_bytes(),
        long_target.as_bytes(),
    ] {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        if let Some(answer) = strict.raw(bytes).await? {
            assert!((400..500).contains(&answer.status()) || answer.status() == 505, "{start:?}: {}", answer.status());
        }
    }
    let no_host = format!("GET /?x={host} HTTP/1.1\r\nconnection: close\r\n\r\n");
    let answer = strict.raw(no_host.as_bytes()).await?.expect("an answer");
    assert_eq!(answer.status(), 400);
    strict.assert_unchanged().await
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_the_right_signature_are_refused() -> anyhow::Result<()> {
    let strict = Strict::start().await?;
    let s3 = &strict.s3;
    let put = Request::object("PUT", BUCKET, "forged");
    let mut anonymous = s3.anonymous_head_bytes(&put, 1);
    anonymous.push(b'x');
    strict.check("anonymous", &anonymous, 403, "AccessDenied").await?;

    let root = s3.credentials().clone();
    let stranger = S3::new(
        s3.address(),
        Credentials {
            access_key: "AKIANOBODY".into(),
            secret_key: root.secret_key.clone(),
        },
    );
    assert_error(
        "unknown key",
        &stranger.send(&put, Body::Bytes(b"x")).await?,
        403,
        "InvalidAccessKeyId",
    );
    let liar = S3::new(
        s3.address(),
        Credentials {
            access_key: root.access_key,
            secret_key: "not it".into(),
        },
    );
    assert_error(
        "wrong secret",
        &liar.send(&put, Body::Bytes(b"x")).await?,
        403,
        "SignatureDoesNotMatch",
    );

    let signed = String::from_utf8(s3.head_bytes(&put, 1))?;
    let altered = |from: &str, to: &str| {
        assert!(signed.contains(from), "{from} not in {signed}");
        format!("{}x", signed.replacen(from, to, 1)).into_bytes()
    };
    strict
        .check(
            "another key",
            &altered("/forged ", "/other "),
            403,
            "SignatureDoesNotMatch",
        )
        .await?;
    strict
        .check(
            "another method",
            &altered("PUT ", "POST "),
            403,
            "SignatureDoesNotMatch",
        )
        .await?;
    let added = altered(
        "authorization:",
        "x-amz-copy-source: /strict/kept\r\nauthorization:",
    );
    let answer = strict.raw(&added).await?.expect("an answer");
    assert_eq!(
        answer.status(),
        403,
        "an unsigned x-amz- header that acts: {}",
        answer.text()
    );
    strict
        .check(
            "malformed",
            &altered("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256 nonsense"),
            400,
            "AuthorizationHeaderMalformed",
        )
        .await?;
    strict
        .check(
            "another region",
            &altered("/us-east-1/", "/eu-west-1/"),
            400,
            "AuthorizationHeaderMalformed",
        )
        .await?;
    let stamp = signed
        .lines()
        .find_map(|line| line.strip_prefix("x-amz-date: "))
        .unwrap_or_default()
        .to_owned();
    let old = format!("2001{}", &stamp[4..]);
    let answer = strict.raw(&altered(&stamp, &old)).await?.expect("an answer");
    assert_eq!(answer.status(), 403, "an old date: {}", answer.text());
    strict.assert_unchanged().await
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_ranges_and_parameters_get_their_codes() -> anyhow::Result<()> {
    let strict = Strict::start().await?;
    let object = |method, key| Request::object(method, BUCKET, key);
    let long = "k".repeat(1025);
    for (what, request, status, code) in [
        (
            "no bucket",
            Request::object("GET", "nowhere", "x"),
            404,
            "NoSuchBucket",
        ),
        (
            "no bucket to put into",
            Request::object("PUT", "nowhere", "x"),
            404,
            "NoSuchBucket",
        ),
        ("no key", object("GET", "nothing"), 404, "NoSuchKey"),
        (
            "capital letters",
            Request::object("PUT", "Capital", ""),
            400,
            "InvalidBucketName",
        ),
        (
            "a short name",
            Request::object("PUT", "ab", ""),
            400,
            "InvalidBucketName",
        ),
        (
            "an address as name",
            Request::object("PUT", "192.168.5.4", ""),
            400,
            "InvalidBucketName",
        ),
        ("a long key", object("PUT", &long), 400, "KeyTooLongError"),
        (
            "a full bucket",
            Request::object("DELETE", BUCKET, ""),
            409,
            "BucketNotEmpty",
        ),
        (
            "an unknown method",
            object("PATCH", "kept"),
            405,
            "MethodNotAllowed",
        ),
    ] {
        strict.check_signed(what, &request, b"", status, code).await?;
    }
    let listing = Request::object("GET", BUCKET, "");
    let upload = strict.s3.create_upload(BUCKET, "kept").await?;
    let part = |number| [("partNumber", number), ("uploadId", upload.as_str())];
    for (what, request, status, code) in [
        (
            "max-keys",
            listing.clone().query(&[("list-type", "2"), ("max-keys", "many")]),
            400,
            "InvalidArgument",
        ),
        (
            "max-keys below 0",
            listing.clone().query(&[("list-type", "2"), ("max-keys", "-1")]),
            400,
            "InvalidArgument",
        ),
        (
            "a made-up token",
            listing
                .clone()
                .query(&[("list-type", "2"), ("continuation-token", "\u{1}")]),
            400,
            "InvalidArgument",
        ),
        (
            "encoding",
            listing.clone().query(&[("encoding-type", "rot13")]),
            400,
            "InvalidArgument",
        ),
        (
            "part 0",
            object("PUT", "kept").query(&part("0")),
            400,
            "InvalidArgument",
        ),
        (
            "part 10001",
            object("PUT", "kept").query(&part("10001")),
            400,
            "InvalidArgument",
        ),
        (
            "no such upload",
            object("PUT", "kept").query(&[("partNumber", "1"), ("uploadId", "x")]),
            404,
            "NoSuchUpload",
        ),
        (
            "known but not offered",
            listing.clone().query(&[("metadataTable", "")]),
            501,
            "NotImplemented",
        ),
        (
            "known but not offered",
            listing.query(&[("abac", "")]),
            501,
            "NotImplemented",
        ),
    ] {
        strict.check_signed(what, &request, b"", status, code).await?;
    }
    let query = [("uploadId", upload.as_str())];
    strict
        .s3
        .send(&object("DELETE", "kept").query(&query), Body::Empty)
        .await?
        .expect(204)?;
    strict.assert_unchanged().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_what_was_said_are_refused() -> anyhow::Result<()> {
    let strict = Strict::start().await?;
    let put = Request::object("PUT", BUCKET, "wrong");
    let md5 = |value| [("content-md5", value)];
    let crc = |value| [("x-amz-checksum-crc32", value)];
    let zeros = "0".repeat(64);
    for (what, request, status, code) in [
        (
            "no MD5 at all",
            put.clone().headers(&md5("nonsense")),
            400,
            "InvalidDigest",
        ),
        (
            "another MD5",
            put.clone().headers(&md5("1B2M2Y8AsgTpgAmY7PhCfg==")),
            400,
            "BadDigest",
        ),
        (
            "no CRC32 at all",
            put.clone().headers(&crc("nonsense")),
            400,
            "InvalidRequest",
        ),
        (
            "another CRC32",
            put.clone().headers(&crc("AAAAAA==")),
            400,
            "BadDigest",
        ),
        (
            "another SHA-256",
            Request {
                payload_hash: &zeros,
                ..put.clone()
            },
            400,
            "XAmzContentSHA256Mismatch",
        ),
        (
            "no SHA-256 at all",
            Request {
                payload_hash: "nonsense",
                ..put.clone()
            },
            400,
            "InvalidArgument",
        ),
    ] {
        strict.check_signed(what, &request, b"body", status, code).await?;
    }
    // A body of several chunks whose digest is wrong: all of it was stored when that shows.
    let large = vec![7; 9 << 20];
    let request = put
        .clone()
        .headers(&[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]);
    strict
        .check_signed(
            "a large body with another MD5",
            &request,
            &large,
            400,
            "BadDigest",
        )
        .await?;

    let head = String::from_utf8(strict.s3.head_bytes(&put, 4))?;
    let no_length = head.replacen("content-length: 4\r\n", "", 1);
    strict
        .check("no length", no_length.as_bytes(), 411, "MissingContentLength")
        .await?;
    let huge = String::from_utf8(strict.s3.head_bytes(&put, 6 << 40))?;
    strict
        .check("six terabytes", huge.as_bytes(), 400, "EntityTooLarge")
        .await?;

    let mut connection = Connection::open(strict.s3.address()).await?;
    connection.send_raw(&strict.s3.head_bytes(&put, 1000)).await?;
    connection.send_raw(b"only a little").await?;
    connection.finish_sending().await?;
    if let Ok(mut head) = connection.read_head(false).await {
        let body = connection.read_body(&mut head).await?;
        assert_eq!(
            head.status,
            400,
            "a short body: {}",
            String::from_utf8_lossy(&body)
        );
    }
    strict.assert_unchanged().await
}

#[tokio::test(flavor = "multi_thread")]
async fn xml_that_is_wrong_or_hostile_is_refused() -> anyhow::Result<()> {
    let strict = Strict::start().await?;
    let delete = Request::object("POST", BUCKET, "").query(&[("delete", "")]);
    let too_many = format!(
        "<Delete>{}</Delete>",
        "<Object><Key>kept</Key></Object>".repeat(1001)
    );
    let bomb = "<!DOCTYPE x [<!ENTITY a \"kept\"><!ENTITY b \"&a;&a;&a;&a;\">]><Delete><Object><Key>&b;</Key></Object></Delete>";
    let file = "<!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><Delete><Object><Key>&f;</Key></Object></Delete>";
    let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    for (what, xml) in [
        ("nothing", ""),
        ("no XML", "what?"),
        ("cut short", "<Delete><Object><Key>kept</Key>"),
        ("another document", "<Other/>"),
        ("no object", "<Delete></Delete>"),
        ("too many", too_many.as_str()),
        ("a bomb of entities", bomb),
        ("a file as entity", file),
        ("deeply nested", deep.as_str()),
    ] {
        let md5 = content_md5(xml.as_bytes());
        let headers = [("content-md5", md5.as_str())];
        let delete = delete.clone().headers(&headers);
        strict
            .check_signed(what, &delete, xml.as_bytes(), 400, "MalformedXML")
            .await?;
    }
    let sound = b"<Delete><Object><Key>kept</Key></Object></Delete>";
    strict
        .check_signed("no digest of the body", &delete, sound, 400, "InvalidRequest")
        .await?;
    let headers = [("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    strict
        .check_signed(
            "the digest of another body",
            &delete.headers(&headers),
            sound,
            400,
            "BadDigest",
        )
        .await?;
    let upload = strict.s3.create_upload(BUCKET, "parts").await?;
    let query = [("uploadId", upload.as_str())];
    let complete = Request::object("POST", BUCKET, "parts").query(&query);
    let unknown = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"x\"</ETag></Part></CompleteMultipartUpload>";
    strict
        .check_signed(
            "a part that is not there",
            &complete,
            unknown.as_bytes(),
            400,
            "InvalidPart",
        )
        .await?;
    strict
        .check_signed(
            "no parts",
            &complete,
            b"<CompleteMultipartUpload/>",
            400,
            "MalformedXML",
        )
        .await?;
    strict
        .s3
        .send(
            &Request::object("DELETE", BUCKET, "parts").query(&query),
            Body::Empty,
        )
        .await?
        .expect(204)?;
    strict.assert_unchanged().await
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_bad_input_cost_bounded_memory() -> anyhow::Result<()> {
    let strict = Strict::start().await?;
    let pid = strict.standalone.pid()?;
    let before = anonymous_bytes(pid)?;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}", "y".repeat(100_000));
    let huge_xml = strict.s3.head_bytes(
        &Request::object("POST", BUCKET, "").query(&[("delete", "")]),
        1 << 30,
    );
    let mut held = Vec::new();
    for index in 0..200 {
        let mut connection = Connection::open(strict.s3.address()).await?;
        if index % 2 == 0 {
            let _ = connection.send_raw(head.as_bytes()).await;
        } else {
            let _ = connection.send_raw(&huge_xml).await;
            for _ in 0..64 {
                if connection.send_raw(&[b'<'; 64 << 10]).await.is_err() {
                    break;
                }
            }
        }
        held.push(connection);
    }
    let after = anonymous_bytes(pid)?;
    assert!(
        after <= before + 200 * MIB,
        "{before} bytes before, {after} with {} bad connections",
        held.len()
    );
    drop(held);
    strict.assert_unchanged().await
}
