//! Requests that are nearly right: good ones with bytes changed, lines doubled and headers slipped in, as long as
//! there is time. None may make the gateway panic or fail, and what is refused changes nothing.

use super::client::Client;
use super::forms::{self, FOREVER, Form};
use super::random::Random;
use super::{Gateway, REGION, SECRET_KEY};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use ullage_gateway::s3::checksum::{Checksum, ChecksumAlgorithm};

/// How long is tried.
const TRIED_FOR: Duration = Duration::from_secs(8);
/// How long the gateway may take until it has answered and closed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// How long is waited for an answer before the connection is ended.
const HEARD_WITHIN: Duration = Duration::from_millis(200);
/// The object that is there, and what it holds.
const KEPT: (&str, &[u8]) = ("/mutations/kept", b"as it was");
/// Panics in the gateway's own code, in this process.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// A PUT in signed chunks.
const SIGNED_CHUNKS: u64 = 10;
/// A form.
const FORM: u64 = 11;
/// Requests from this number on have a document in their body.
const WITH_DOCUMENT: u64 = 12;
/// Documents of S3, and where they belong.
const DOCUMENTS: [(&str, &str, &str); 5] = [
    (
        "POST",
        "/mutations?delete=",
        "<Delete><Object><Key>kept</Key></Object></Delete>",
    ),
    (
        "PUT",
        "/mutations/kept?tagging=",
        "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
    ),
    (
        "PUT",
        "/mutations?cors=",
        "<CORSConfiguration><CORSRule><AllowedOrigin>http://*.x</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
          </CORSRule></CORSConfiguration>",
    ),
    (
        "POST",
        "/mutations/new?uploadId=UPLOAD",
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>ETAG</ETag></Part>\
          </CompleteMultipartUpload>",
    ),
    (
        "PUT",
        "/mutations?policy=",
        r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:Get*","Resource":"arn:aws:s3:::mutations/x*",
          "Condition":{"StringLike":{"aws:username":["a*","${aws:username}"]}}}]}"#,
    ),
];

/// What a mutation slips in: lines of a head, and bytes that parsers stumble over.
const TOKENS: [&[u8]; 24] = [
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: identity, chunked\r\n",
    b"content-length: 0\r\n",
    b"content-length: 18446744073709551616\r\n",
    b"content-length: -1\r\n",
    b"content-encoding: aws-chunked\r\n",
    b"expect: 100-continue\r\n",
    b"host: elsewhere\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"range: bytes=18446744073709551615-\r\n",
    b"x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n",
    b"x-amz-copy-source: /mutations/kept\r\n",
    b"x-amz-decoded-content-length: 99999999999\r\n",
    b"x-amz-date: 20260101T000000Z\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"%00",
    b"%",
    b"ffffffffffffffff;chunk-signature=0\r\n",
    b"<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>",
    b"&#x10ffff;&#0;",
    b"\xff\xfe",
];

/// Whom the requests are sent to, and the upload that is open there: its id, and the ETag of its only part.
struct Store {
    client: Client,
    upload: String,
    etag: String,
}

impl Store {
    async fn new(client: Client) -> Self {
        client.send("PUT", "/mutations", &[], b"").await.expect(200);
        let mut store = Self {
            client,
            upload: String::new(),
            etag: String::new(),
        };
        store.restore().await;
        store
    }

    /// Puts back what a request that was done has changed.
    async fn restore(&mut self) {
        let client = &self.client;
        client.send("PUT", KEPT.0, &[], KEPT.1).await.expect(200);
        let (open, _) = self.target("/mutations/new?uploadId=UPLOAD", "");
        if self.upload.is_empty() || client.send("GET", &open, &[], b"").await.status != 200 {
            let begun = client.send("POST", "/mutations/new?uploads=", &[], b"").await;
            self.upload = begun.expect(200).element("UploadId").expect("an id");
        }
        let (part, _) = self.target("/mutations/new?partNumber=1&uploadId=UPLOAD", "");
        let part = self.client.send("PUT", &part, &[], b"part").await.expect(200);
        part.header("etag").expect("an ETag").clone_into(&mut self.etag);
    }

    /// A target and a document about the upload.
    fn target(&self, target: &str, document: &str) -> (String, String) {
        let named = |text: &str| text.replace("UPLOAD", &self.upload).replace("ETAG", &self.etag);
        (named(target), named(document))
    }

    /// A good request, signed now; with `random`, one whose body was changed before its digest was made, so that it
    /// gets as far as whoever reads the body.
    fn request(&self, which: u64, random: Option<&Random>) -> Vec<u8> {
        match which {
            SIGNED_CHUNKS => signed_chunks(&self.client, random),
            FORM => {
                let conditions =
                    r#"{"bucket": "mutations"}, ["starts-with", "$key", "ne"], {"acl": "private"}"#;
                let form = Form::signed(SECRET_KEY, FOREVER, conditions);
                let mut body = form.with("key", "new").with("acl", "private").body();
                if let Some(random) = random {
                    mutate(random, &mut body);
                }
                forms::request(&self.client, "/mutations", &[], &body)
            }
            _ => self.signed(which, random),
        }
    }

    fn signed(&self, which: u64, random: Option<&Random>) -> Vec<u8> {
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let chunked = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
        let streaming = [
            ("content-encoding", "aws-chunked"),
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", "5"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        let copy = [("x-amz-copy-source", "/mutations/kept")];
        let part = "/mutations/new?partNumber=2&uploadId=UPLOAD";
        let (method, target, headers, body): (_, _, &[(&str, &str)], &str) = match which {
            0 => ("PUT", "/mutations/new", &[], "hello"),
            1 => ("PUT", KEPT.0, &[("x-amz-content-sha256", sha256)], "hello"),
            2 | 3 => ("PUT", KEPT.0, &streaming, chunked),
            4 => ("PUT", "/mutations/copy", &copy, ""),
            5 => ("DELETE", KEPT.0, &[], ""),
            6 => ("POST", "/mutations/new?uploads=", &[], ""),
            7 => (
                "GET",
                "/mutations?list-type=2&prefix=k",
                &[("range", "bytes=0-3")],
                "",
            ),
            8 => ("PUT", part, &copy, ""),
            9 => ("PUT", part, &[], "hello"),
            document => {
                let (method, target, body) = DOCUMENTS[(document % DOCUMENTS.len() as u64) as usize];
                (method, target, &[], body)
            }
        };
        let (target, body) = self.target(target, body);
        let mut body = body.into_bytes();
        if let Some(random) = random.filter(|_| !body.is_empty()) {
            mutate(random, &mut body);
        }
        let crc32 = Checksum::of(ChecksumAlgorithm::Crc32, &body).to_base64();
        let mut headers = headers.to_vec();
        // That of a complete is the object's.
        if which >= WITH_DOCUMENT && !target.contains("uploadId") {
            headers.push(("x-amz-checksum-crc32", &crc32));
        }
        let mut bytes = self
            .client
            .head(method, &target, &headers, body.len())
            .into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }
}

/// A PUT in signed chunks, of which the frames are changed after they were signed.
fn signed_chunks(client: &Client, random: Option<&Random>) -> Vec<u8> {
    let streaming = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("x-amz-decoded-content-length", "5"),
    ];
    let head = client.head("PUT", KEPT.0, &streaming, 0);
    let behind = |mark: &str| head.split_once(mark).map_or("", |(_, rest)| rest);
    let date = behind("x-amz-date: ").get(..16).expect("a date").to_owned();
    let mut previous = behind("Signature=").get(..64).expect("a signature").to_owned();
    let key = generate_signing_key(SECRET_KEY, SystemTime::now(), REGION, "s3");
    let sha256 = |bytes: &[u8]| {
        let digest = Checksum::of(ChecksumAlgorithm::Sha256, bytes);
        let digits = digest.bytes().iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>()
    };
    let mut body = Vec::new();
    for chunk in [&b"hello"[..], b""] {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{}/{REGION}/s3/aws4_request\n{previous}\n{}\n{}",
            &date[..8],
            sha256(b""),
            sha256(chunk)
        );
        previous = calculate_signature(&key, text.as_bytes());
        body.extend_from_slice(format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    if let Some(random) = random {
        mutate(random, &mut body);
    }
    let head = head.replace("content-length: 0", &format!("content-length: {}", body.len()));
    [head.as_bytes(), &body].concat()
}

/// Changes a request in one way.
fn mutate(random: &Random, bytes: &mut Vec<u8>) {
    let at = |length: usize| random.below(length as u64) as usize;
    let place = at(bytes.len());
    match random.below(8) {
        0 => bytes[place] ^= 1 << random.below(8),
        1 => bytes[place] = random.below(256) as u8,
        2 => {
            let end = bytes.len().min(place + 1 + at(12));
            bytes.drain(place..end);
        }
        3 => bytes.truncate(place),
        4 => {
            let again = bytes[place..bytes.len().min(place + 1 + at(200))].to_vec();
            let to = at(bytes.len());
            bytes.splice(to..to, again);
        }
        5 => {
            let token = TOKENS[at(TOKENS.len())];
            bytes.splice(place..place, token.iter().copied());
        }
        _ => {
            // At the end of a line, where a header would be.
            let ends = bytes.windows(2).enumerate().filter(|(_, pair)| *pair == b"\r\n");
            let ends: Vec<usize> = ends.map(|(end, _)| end + 2).collect();
            let line = ends.get(at(ends.len())).copied().unwrap_or(place);
            let token = TOKENS[at(TOKENS.len())];
            bytes.splice(line..line, token.iter().copied());
        }
    }
    if bytes.is_empty() {
        bytes.push(b'\n');
    }
}

/// The statuses of all answers to these bytes.
async fn statuses(client: &Client, bytes: &[u8]) -> Vec<u16> {
    let mut connection = client.connect().await;
    connection.send(bytes).await;
    // Who ends the connection at once wants no answer. One who waits for more gets none before that.
    let first = tokio::time::timeout(HEARD_WITHIN, connection.read());
    let mut answers = first.await.unwrap_or_default();
    connection.finish_sending().await;
    let rest = tokio::time::timeout(ANSWERED_WITHIN, connection.rest());
    answers.extend(rest.await.expect("the gateway answers and closes"));
    let text = String::from_utf8_lossy(&answers);
    let heads = text.split("HTTP/1.1 ").skip(1);
    let found = heads.filter_map(|head| head.get(..3)?.parse().ok());
    found.filter(|status| *status >= 200).collect()
}

/// Everything that the requests could have changed.
#[derive(Debug, PartialEq, Eq)]
struct State {
    keys: Vec<String>,
    kept: Vec<u8>,
    uploads: Vec<String>,
    parts: Vec<String>,
    tags: Vec<String>,
    rules: Vec<String>,
    policy: String,
}

async fn state(store: &Store) -> State {
    let get = async |target: &str| store.client.send("GET", target, &[], b"").await;
    let (parts, _) = store.target("/mutations/new?uploadId=UPLOAD", "");
    let (keys, kept, uploads, parts, tags, rules, policy) = tokio::join!(
        get("/mutations?list-type=2"),
        get(KEPT.0),
        get("/mutations?uploads="),
        get(&parts),
        get("/mutations/kept?tagging="),
        get("/mutations?cors="),
        get("/mutations?policy="),
    );
    State {
        keys: keys.expect(200).elements("Key"),
        kept: kept.body,
        uploads: uploads.expect(200).elements("UploadId"),
        parts: parts.elements("ETag"),
        tags: tags.elements("Value"),
        rules: rules.elements("AllowedOrigin"),
        policy: if policy.status == 200 {
            policy.text()
        } else {
            String::new()
        },
    }
}

fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let own = |file: &str| file.contains("src/") && !file.contains("tests/");
        if info.location().is_some_and(|location| own(location.file())) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_nearly_right_change_nothing_when_they_are_refused() {
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let given = std::env::var("ULLAGE_TEST_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or(drawn);
    println!("ULLAGE_TEST_SEED={seed}");
    count_panics();
    let random = Random::new(seed);
    let gateway = Gateway::start().await;
    let mut store = Store::new(gateway.client()).await;
    for good in 0..WITH_DOCUMENT + DOCUMENTS.len() as u64 {
        let answer = store.client.raw(&store.request(good, None), false).await;
        let answer = answer.expect("an answer");
        assert!(answer.status < 300, "{good} as it should be: {}", answer.text());
        store.restore().await;
    }
    let mut before = state(&store).await;
    let (until, mut refused, mut done) = (Instant::now() + TRIED_FOR, 0, 0);
    while Instant::now() < until {
        let deep = random.percent(50);
        let which = random.below(WITH_DOCUMENT + 2 * DOCUMENTS.len() as u64);
        let mut bytes = store.request(which, deep.then_some(&random));
        for _ in 0..if deep { 0 } else { 1 + random.below(3) } {
            mutate(&random, &mut bytes);
        }
        let statuses = statuses(&store.client, &bytes).await;
        let sent = || format!("{statuses:?} to {}", bytes.escape_ascii());
        assert!(!statuses.contains(&500), "{}", sent());
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "a panic at {}", sent());
        let after = state(&store).await;
        if statuses.iter().any(|status| *status < 300) {
            // What was changed did not matter to the request; it was done as it was signed.
            done += 1;
            store.restore().await;
            before = state(&store).await;
        } else {
            refused += 1;
            assert_eq!(after, before, "{}", sent());
        }
    }
    println!("{refused} refused, {done} done");
    assert!(refused > 20 && done > 0, "{refused} refused, {done} done");
}
