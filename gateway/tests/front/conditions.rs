//! Conditions: one table of operations, conditions and answers.

use super::Gateway;
use super::client::{Answer, Client};

const LONG_AGO: &str = "Wed, 21 Oct 2015 07:28:00 GMT";
const FAR_OFF: &str = "Fri, 21 Oct 2095 07:28:00 GMT";

/// What a request does with the key.
#[derive(Clone, Copy, Debug)]
enum Does {
    Get,
    Head,
    Put,
    CopyTo,
    CopyFrom,
    PartFrom,
    Complete,
    Delete,
}

/// Operations, conditions, status where the key is `hello`, status where there is no key.
type Row<'a> = (&'a [Does], &'a [(&'a str, &'a str)], u16, u16);

async fn act(client: &Client, does: Does, key: &str, headers: &[(&str, &str)]) -> Answer {
    let target = format!("/first/{key}");
    match does {
        Does::Get => client.send("GET", &target, headers, b"").await,
        Does::Head => client.send("HEAD", &target, headers, b"").await,
        Does::Put => client.send("PUT", &target, headers, b"hello").await,
        Does::Delete => client.send("DELETE", &target, headers, b"").await,
        Does::CopyTo => {
            let headers = [&[("x-amz-copy-source", "first/other")], headers].concat();
            client.send("PUT", &target, &headers, b"").await
        }
        Does::CopyFrom => copy(client, key, "/first/goal", headers).await,
        Does::PartFrom => {
            let begun = client.send("POST", "/first/goal?uploads=", &[], b"").await;
            let upload = begun.expect(200).element("UploadId").expect("an id");
            let part = format!("/first/goal?partNumber=1&uploadId={upload}");
            let answer = copy(client, key, &part, headers).await;
            let listed = client
                .send("GET", &format!("/first/goal?uploadId={upload}"), &[], b"")
                .await;
            let parts = usize::from(answer.status == 200);
            assert_eq!(listed.expect(200).elements("Part").len(), parts, "{headers:?}");
            answer
        }
        Does::Complete => {
            let begun = client
                .send("POST", &format!("{target}?uploads="), &[], b"")
                .await
                .expect(200);
            let upload = begun.element("UploadId").expect("an id");
            let part = format!("{target}?partNumber=1&uploadId={upload}");
            let part = client.send("PUT", &part, &[], b"hello").await.expect(200);
            let document = format!(
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
                 </CompleteMultipartUpload>",
                part.header("etag").expect("an ETag")
            );
            let whole = format!("{target}?uploadId={upload}");
            let answer = client.send("POST", &whole, headers, document.as_bytes()).await;
            if answer.status != 200 {
                client.send("DELETE", &whole, &[], b"").await.expect(204);
            }
            answer
        }
    }
}

/// Copies the key, under conditions on it.
async fn copy(client: &Client, key: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let source = format!("first/{key}");
    let named = headers
        .iter()
        .map(|(name, value)| (format!("x-amz-copy-source-{name}"), *value));
    let named: Vec<_> = named.collect();
    let mut all = vec![("x-amz-copy-source", source.as_str())];
    all.extend(named.iter().map(|(name, value)| (name.as_str(), *value)));
    client.send("PUT", target, &all, b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_keeps_the_conditions_that_it_has() {
    use Does::{Complete, CopyFrom, CopyTo, Delete, Get, Head, PartFrom, Put};
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.send("PUT", "/first", &[], b"").await.expect(200);
    client
        .send("PUT", "/first/other", &[], b"other")
        .await
        .expect(200);
    let etag = "\"5d41402abc4b2a76b9719d911017c592\"";
    let bare = "5d41402abc4b2a76b9719d911017c592";
    let weak = "W/\"5d41402abc4b2a76b9719d911017c592\"";
    let list = "\"a\", \"5d41402abc4b2a76b9719d911017c592\"";
    let (reads, writes) = ([Get, Head].as_slice(), [Put, CopyTo, Complete].as_slice());
    let copies = [CopyFrom, PartFrom].as_slice();
    let deletes = [Delete].as_slice();
    let table: &[Row<'_>] = &[
        (reads, &[("if-match", etag)], 200, 404),
        (reads, &[("if-match", bare)], 200, 404),
        (reads, &[("if-match", list)], 200, 404),
        (reads, &[("if-match", "*")], 200, 404),
        (reads, &[("if-match", weak)], 412, 404),
        (reads, &[("if-match", "\"a\"")], 412, 404),
        (reads, &[("if-none-match", etag)], 304, 404),
        (reads, &[("if-none-match", weak)], 304, 404),
        (reads, &[("if-none-match", list)], 304, 404),
        (reads, &[("if-none-match", "*")], 304, 404),
        (reads, &[("if-none-match", "\"a\"")], 200, 404),
        (reads, &[("if-modified-since", LONG_AGO)], 200, 404),
        (reads, &[("if-modified-since", FAR_OFF)], 304, 404),
        (reads, &[("if-unmodified-since", LONG_AGO)], 412, 404),
        (reads, &[("if-unmodified-since", FAR_OFF)], 200, 404),
        (
            reads,
            &[("if-match", etag), ("if-unmodified-since", LONG_AGO)],
            200,
            404,
        ),
        (
            reads,
            &[("if-none-match", "\"a\""), ("if-modified-since", FAR_OFF)],
            200,
            404,
        ),
        (reads, &[("if-match", "\"a\""), ("if-none-match", etag)], 412, 404),
        (copies, &[("if-match", list)], 200, 404),
        (copies, &[("if-match", "\"a\"")], 412, 404),
        (copies, &[("if-none-match", list)], 412, 404),
        (copies, &[("if-none-match", "\"a\"")], 200, 404),
        (copies, &[("if-modified-since", FAR_OFF)], 412, 404),
        (copies, &[("if-modified-since", LONG_AGO)], 200, 404),
        (copies, &[("if-unmodified-since", LONG_AGO)], 412, 404),
        (
            copies,
            &[("if-match", etag), ("if-unmodified-since", LONG_AGO)],
            200,
            404,
        ),
        (
            copies,
            &[("if-none-match", etag), ("if-modified-since", LONG_AGO)],
            412,
            404,
        ),
        (writes, &[("if-match", etag)], 200, 404),
        (writes, &[("if-match", list)], 200, 404),
        (writes, &[("if-match", "*")], 200, 404),
        (writes, &[("if-match", "\"a\"")], 412, 404),
        (writes, &[("if-none-match", "*")], 412, 200),
        // Of If-None-Match, writes have `*` only, and no dates: S3 answers so too.
        (writes, &[("if-none-match", etag)], 501, 501),
        (writes, &[("if-modified-since", LONG_AGO)], 501, 501),
        (deletes, &[("if-match", list)], 204, 404),
        (deletes, &[("if-match", "*")], 204, 404),
        (deletes, &[("if-match", "\"a\"")], 412, 404),
        (deletes, &[("if-none-match", "*")], 501, 501),
        (deletes, &[("x-amz-if-match-size", "5")], 501, 501),
        (
            deletes,
            &[("x-amz-if-match-last-modified-time", LONG_AGO)],
            501,
            501,
        ),
    ];
    for (operations, headers, there, absent) in table {
        for does in *operations {
            client.send("PUT", "/first/key", &[], b"hello").await.expect(200);
            let answer = act(&client, *does, "key", headers).await;
            assert_eq!(answer.status, *there, "{does:?} {headers:?}: {}", answer.text());
            if *there >= 400 {
                let kept = client.send("GET", "/first/key", &[], b"").await.expect(200);
                assert_eq!(kept.body, b"hello", "{does:?} {headers:?} changed something");
            }
            client.send("DELETE", "/first/none", &[], b"").await.expect(204);
            let answer = act(&client, *does, "none", headers).await;
            assert_eq!(
                answer.status,
                *absent,
                "{does:?} {headers:?} of nothing: {}",
                answer.text()
            );
        }
    }
}
