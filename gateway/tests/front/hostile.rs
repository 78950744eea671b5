//! Requests that no honest client sends, and honest ones at awkward moments.

use super::Gateway;
use super::client::Client;
use std::time::Instant;

async fn strict() -> (Gateway, Client) {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.send("PUT", "/strict", &[], b"").await.expect(200);
    client
        .send("PUT", "/strict/kept", &[], b"as it was")
        .await
        .expect(200);
    (gateway, client)
}

async fn assert_unchanged(client: &Client) {
    let list = client
        .send("GET", "/strict?list-type=2", &[], b"")
        .await
        .expect(200);
    assert_eq!(list.elements("Key"), ["kept"]);
    assert_eq!(
        client
            .send("GET", "/strict/kept", &[], b"")
            .await
            .expect(200)
            .body,
        b"as it was"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn leave_to_send_is_given_after_authentication_only() {
    let (_gateway, client) = strict().await;
    let head = client.head("PUT", "/strict/kept", &[("expect", "100-continue")], 9);
    let mut honest = client.connect().await;
    honest.send(head.as_bytes()).await;
    honest.send(b"as it was").await;
    let answer = honest.answer(false).await.expect("an answer");
    assert_eq!((answer.status, answer.interim), (200, 1));

    let mut liar = client.connect().await;
    liar.send(head.replace("PUT /strict/kept", "PUT /strict/else").as_bytes())
        .await;
    let answer = liar.answer(false).await.expect("an answer");
    answer.expect_error(403, "SignatureDoesNotMatch");
    assert_eq!(answer.interim, 0);
    assert!(liar.is_closed().await);
    assert_unchanged(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_two_readers_could_understand_differently_change_nothing() {
    let (_gateway, client) = strict().await;
    let signed = client.head("PUT", "/strict/smuggled", &[], 5);
    let both = signed.replace(
        "content-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
    );
    let inner = "5\r\nhello\r\n0\r\n\r\nDELETE /strict/kept HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut smuggler = client.connect().await;
    smuggler.send((both + inner).as_bytes()).await;
    if let Some(answer) = smuggler.answer(false).await {
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        assert_eq!(
            smuggler.answer(false).await.map(|next| next.status),
            None,
            "nothing after it"
        );
    }
    let no_host = signed.replace("host: ", "x-host: ");
    let answer = client.raw(no_host.as_bytes(), false).await.expect("an answer");
    assert_eq!(answer.status, 400);
    let two_hosts = signed.replace("content-length", "host: elsewhere\r\ncontent-length");
    let answer = client.raw(two_hosts.as_bytes(), false).await.expect("an answer");
    answer.expect_error(400, "InvalidRequest");
    let no_length = signed.replace("content-length: 5\r\n", "");
    let answer = client.raw(no_length.as_bytes(), false).await.expect("an answer");
    answer.expect_error(411, "MissingContentLength");
    assert_unchanged(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_what_was_said_change_nothing() {
    let (_gateway, client) = strict().await;
    let zeros = "0".repeat(64);
    for (headers, code) in [
        (("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="), "BadDigest"),
        (("content-md5", "nonsense"), "InvalidDigest"),
        (("x-amz-checksum-crc32", "AAAAAA=="), "BadDigest"),
        (
            ("x-amz-content-sha256", zeros.as_str()),
            "XAmzContentSHA256Mismatch",
        ),
    ] {
        let answer = client.send("PUT", "/strict/kept", &[headers], b"body").await;
        answer.expect_error(400, code);
    }
    let mut short = client.connect().await;
    short
        .send(client.head("PUT", "/strict/kept", &[], 1000).as_bytes())
        .await;
    short.send(b"only a little").await;
    short.finish_sending().await;
    if let Some(answer) = short.answer(false).await {
        answer.expect_error(400, "IncompleteBody");
    }
    assert_unchanged(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_bodies_are_read_as_far_as_is_worth_it() {
    let (_gateway, client) = strict().await;
    let stranger = Client::new(client.address(), "s3", "NOBODY", "x");
    // A short one: the connection goes on.
    let mut connection = client.connect().await;
    connection
        .send(stranger.head("PUT", "/strict/x", &[], 1000).as_bytes())
        .await;
    connection.send(&[0; 1000]).await;
    let answer = connection.answer(false).await.expect("an answer");
    answer.expect_error(403, "InvalidAccessKeyId");
    assert_eq!(answer.header("connection"), None);
    connection
        .send(client.head("GET", "/strict/kept", &[], 0).as_bytes())
        .await;
    assert_eq!(
        connection.answer(false).await.expect("an answer").body,
        b"as it was"
    );
    // A long one: the answer comes though nothing of the body has been sent, and then the end.
    let mut connection = client.connect().await;
    connection
        .send(stranger.head("PUT", "/strict/x", &[], 1 << 30).as_bytes())
        .await;
    let answer = connection.answer(false).await.expect("an answer");
    answer.expect_error(403, "InvalidAccessKeyId");
    assert_eq!(answer.header("connection"), Some("close"));
    connection.send(&vec![0; 1 << 20]).await;
    connection.finish_sending().await;
    assert!(connection.is_closed().await);
    assert_unchanged(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_do_not_come_hold_bounded_memory() {
    let (_gateway, client) = strict().await;
    let target = format!("/strict/kept?uploadId={}", "0".repeat(32));
    // As many of the longest documents as there is memory for.
    let head = client.head("POST", &target, &[("expect", "100-continue")], 4 << 20);
    let mut slow = Vec::new();
    for _ in 0..16 {
        let mut connection = client.connect().await;
        connection.send(head.as_bytes()).await;
        assert!(connection.some_bytes().await.starts_with(b"HTTP/1.1 100"));
        slow.push(connection);
    }
    let refused = client.send("POST", &target, &[], b"<x/>").await;
    refused.expect_error(503, "SlowDown");
    assert_unchanged(&client).await;
    slow.pop();
    let answer = client.send("POST", &target, &[], b"<x/>").await;
    answer.expect_error(400, "MalformedXML");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_nothing_do_not_keep_others_from_reading() {
    let (_gateway, client) = strict().await;
    let body: Vec<u8> = (0..3_u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    client.send("PUT", "/strict/long", &[], &body).await.expect(200);
    // More than there is memory for, had each the least that a read begins with.
    let mut stalled = Vec::new();
    for _ in 0..400 {
        let mut connection = client.connect_narrow().await;
        connection
            .send(client.head("GET", "/strict/long", &[], 0).as_bytes())
            .await;
        stalled.push(connection);
    }
    for _ in 0..3 {
        let answer = client.send("GET", "/strict/long", &[], b"").await.expect(200);
        assert!(answer.body == body);
    }
    // One of them was only slow.
    let answer = stalled[0].answer(false).await.expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(answer.body == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_have_memory_for_their_answers_before_they_begin() {
    let (_gateway, client) = strict().await;
    let target = "/strict?delete=";
    let headers = [
        ("expect", "100-continue"),
        ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
    ];
    let head = client.head("POST", target, &headers, 2 << 20);
    // As many of the longest as there is memory for, their answers counted.
    let mut slow = Vec::new();
    for _ in 0..7 {
        let mut connection = client.connect().await;
        connection.send(head.as_bytes()).await;
        assert!(connection.some_bytes().await.starts_with(b"HTTP/1.1 100"));
        slow.push(connection);
    }
    let mut refused = client.connect().await;
    refused.send(head.as_bytes()).await;
    let refused = refused.answer(false).await.expect("an answer");
    refused.expect_error(503, "SlowDown");
    assert_eq!(refused.interim, 0);
    assert_unchanged(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slightly_too_many_headers_get_an_answer_of_s3() {
    let (_gateway, client) = strict().await;
    let names: Vec<String> = (0..150).map(|number| format!("h{number}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let answer = client.send("GET", "/strict/kept", &headers, b"").await;
    answer.expect_error(400, "RequestHeaderSectionTooLarge");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_but_not_offered_is_501_and_only_for_known_callers() {
    let (_gateway, client) = strict().await;
    client
        .send("PUT", "/strict?lifecycle=", &[], b"")
        .await
        .expect_error(501, "NotImplemented");
    client
        .send("PUT", "/strict/k?retention=", &[], b"")
        .await
        .expect_error(501, "NotImplemented");
    client
        .send("PATCH", "/strict/k", &[], b"")
        .await
        .expect_error(405, "MethodNotAllowed");
    client
        .unsigned("GET", "/strict?versions=")
        .await
        .expect_error(403, "AccessDenied");
    client
        .unsigned("PATCH", "/strict/k")
        .await
        .expect_error(403, "AccessDenied");
    let body = client.send("DELETE", "/strict/kept", &[], b"unasked").await;
    body.expect_error(400, "UnexpectedContent");
    assert_unchanged(&client).await;
}

/// Who asks and how is what the gateway sees of the connection, whatever a head says of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_heads_say_of_where_they_come_from_is_not_believed() {
    let (_gateway, client) = strict().await;
    let open_to = async |condition: &str| {
        let policy = format!(
            r#"{{"Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",
                "Resource":"arn:aws:s3:::strict/*","Condition":{condition}}}]}}"#
        );
        let put = client
            .send("PUT", "/strict?policy=", &[], policy.as_bytes())
            .await;
        put.expect(204);
    };
    let ask = async |line: &str| {
        let host = client.address();
        let head = format!("GET /strict/kept HTTP/1.1\r\nhost: {host}\r\n{line}\r\n");
        client.raw(head.as_bytes(), false).await.expect("an answer")
    };
    open_to(r#"{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}"#).await;
    for line in ["", "x-forwarded-for: 192.0.2.7\r\n"] {
        ask(line).await.expect(200);
    }
    open_to(r#"{"IpAddress":{"aws:SourceIp":"192.0.2.7"}}"#).await;
    for line in [
        "",
        "x-forwarded-for: 192.0.2.7\r\n",
        "forwarded: for=192.0.2.7\r\n",
        "x-real-ip: 192.0.2.7\r\n",
        "true-client-ip: 192.0.2.7\r\n",
    ] {
        ask(line).await.expect_error(403, "AccessDenied");
    }
    open_to(r#"{"Bool":{"aws:SecureTransport":"true"}}"#).await;
    for line in [
        "x-forwarded-proto: https\r\n",
        "forwarded: proto=https\r\n",
        "x-forwarded-ssl: on\r\n",
    ] {
        ask(line).await.expect_error(403, "AccessDenied");
    }
    let own = ask("x-ullage-release: offer\r\n").await;
    assert!((400..=501).contains(&own.status), "{}", own.text());
}

/// Begins an upload of one part; answers its id and the document that completes it.
async fn upload(client: &Client, target: &str, bytes: &[u8]) -> (String, String) {
    let begun = client.send("POST", &format!("{target}?uploads="), &[], b"").await;
    let id = begun.expect(200).element("UploadId").expect("an id");
    let part = format!("{target}?partNumber=1&uploadId={id}");
    let part = client.send("PUT", &part, &[], bytes).await.expect(200);
    let etag = part.header("etag").expect("an ETag");
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
         </CompleteMultipartUpload>"
    );
    (id, document)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_that_races_a_complete_harms_nothing() {
    const ROUNDS: usize = 16;
    let (_gateway, client) = strict().await;
    let bytes = |round: usize| vec![round as u8; 200_000];
    let (id, document) = upload(&client, "/strict/alone", &bytes(0)).await;
    let (began, named) = (Instant::now(), format!("/strict/alone?uploadId={id}"));
    client
        .send("POST", &named, &[], document.as_bytes())
        .await
        .expect(200);
    let alone = began.elapsed() * 5 / 4;
    let mut completed = Vec::new();
    for round in 0..ROUNDS {
        let target = format!("/strict/raced-{round}");
        let (id, document) = upload(&client, &target, &bytes(round)).await;
        let named = format!("{target}?uploadId={id}");
        let racer = |method: &'static str, document: String| {
            let (client, named) = (client.clone(), named.clone());
            tokio::spawn(async move { client.send(method, &named, &[], document.as_bytes()).await })
        };
        // At first the abort comes at once, in the end when a complete that nobody disturbs would be done.
        let complete = racer("POST", document);
        tokio::time::sleep(alone * round as u32 / ROUNDS as u32).await;
        let abort = racer("DELETE", String::new());
        let (complete, abort) = (complete.await.unwrap(), abort.await.unwrap());
        if complete.status == 200 {
            abort.expect_error(404, "NoSuchUpload");
            completed.push(round);
        } else {
            complete.expect_error(404, "NoSuchUpload");
            abort.expect(204);
            let gone = client.send("GET", &target, &[], b"").await;
            gone.expect_error(404, "NoSuchKey");
        }
    }
    println!("{} of {ROUNDS} completed", completed.len());
    for round in completed {
        let got = client
            .send("GET", &format!("/strict/raced-{round}"), &[], b"")
            .await;
        assert!(got.expect(200).body == bytes(round));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploads_id_is_good_for_its_own_key_alone() {
    let (_gateway, client) = strict().await;
    client.send("PUT", "/other", &[], b"").await.expect(200);
    let (id, document) = upload(&client, "/strict/own", b"part").await;
    let copy = [("x-amz-copy-source", "strict/kept")];
    for target in ["/strict/kept", "/other/own"] {
        let named = format!("{target}?uploadId={id}");
        let part = format!("{named}&partNumber=1");
        let document = document.as_bytes();
        for (method, target, headers, body) in [
            ("PUT", &part, &[][..], &b"other"[..]),
            ("PUT", &part, &copy, b""),
            ("GET", &named, &[], b""),
            ("POST", &named, &[], document),
            ("DELETE", &named, &[], b""),
        ] {
            let refused = client.send(method, target, headers, body).await;
            refused.expect_error(404, "NoSuchUpload");
        }
    }
    let named = format!("/strict/own?uploadId={id}");
    for (number, status, code) in [
        ("0", 400, "InvalidArgument"),
        ("10001", 400, "InvalidArgument"),
        ("4294967297", 400, "InvalidArgument"),
        ("+1", 400, "InvalidArgument"),
    ] {
        let part = format!("{named}&partNumber={number}");
        let refused = client.send("PUT", &part, &[], b"other").await;
        refused.expect_error(status, code);
    }
    let part = |number: u32| format!("<Part><PartNumber>{number}</PartNumber><ETag>e</ETag></Part>");
    for (parts, code) in [
        (String::new(), "MalformedXML"),
        ((1..=10_001).map(part).collect(), "MalformedXML"),
        (part(1).repeat(10_001), "InvalidPartOrder"),
        (part(1), "InvalidPart"),
    ] {
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let refused = client.send("POST", &named, &[], document.as_bytes()).await;
        refused.expect_error(400, code);
    }
    client
        .send("POST", &named, &[], document.as_bytes())
        .await
        .expect(200);
    let got = client.send("GET", "/strict/own", &[], b"").await.expect(200);
    assert_eq!(got.body, b"part");
}
