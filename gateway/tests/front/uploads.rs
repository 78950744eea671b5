//! Open uploads and their parts, listed.

use super::Gateway;
use super::client::Client;

async fn begin(client: &Client, key: &str) -> String {
    let answer = client
        .send("POST", &format!("/buck/{key}?uploads"), &[], b"")
        .await
        .expect(200);
    answer.element("UploadId").expect("an id")
}

async fn bucket(gateway: &Gateway) -> Client {
    let client = gateway.client();
    client.send("PUT", "/buck", &[], b"").await.expect(200);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn open_uploads_are_listed_page_by_page() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let mut begun = Vec::new();
    for key in ["a", "b", "b", "c/1", "c/2", "d"] {
        begun.push((key.to_owned(), begin(&client, key).await));
    }
    let (mut listed, mut query) = (Vec::new(), String::from("max-uploads=2"));
    for _ in 0..5 {
        let page = client
            .send("GET", &format!("/buck?uploads&{query}"), &[], b"")
            .await
            .expect(200);
        assert_eq!(page.element("MaxUploads").as_deref(), Some("2"));
        listed.extend(page.elements("Key").into_iter().zip(page.elements("UploadId")));
        if page.element("IsTruncated").as_deref() == Some("false") {
            break;
        }
        let marker = |name| page.element(name).expect("a marker").replace('/', "%2F");
        query = format!(
            "max-uploads=2&key-marker={}&upload-id-marker={}",
            marker("NextKeyMarker"),
            marker("NextUploadIdMarker")
        );
    }
    assert_eq!(listed, begun);

    let folded = client
        .send("GET", "/buck?uploads&delimiter=%2F", &[], b"")
        .await
        .expect(200);
    assert_eq!(folded.elements("Key"), ["a", "b", "b", "d"]);
    assert!(
        folded
            .text()
            .contains("<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>")
    );
    let inside = client
        .send("GET", "/buck?uploads&prefix=c%2F&delimiter=%2F", &[], b"")
        .await
        .expect(200);
    assert_eq!(inside.elements("Key"), ["c/1", "c/2"]);
    let behind = client
        .send("GET", "/buck?uploads&key-marker=b", &[], b"")
        .await
        .expect(200);
    assert_eq!(behind.elements("Key"), ["c/1", "c/2", "d"]);

    for (key, id) in &begun {
        client
            .send("DELETE", &format!("/buck/{key}?uploadId={id}"), &[], b"")
            .await
            .expect(204);
    }
    let empty = client.send("GET", "/buck?uploads", &[], b"").await.expect(200);
    assert!(empty.elements("Key").is_empty());
    client
        .send("GET", "/nowhere?uploads", &[], b"")
        .await
        .expect_error(404, "NoSuchBucket");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_listed_with_their_checksums() {
    let gateway = Gateway::start().await;
    let client = bucket(&gateway).await;
    let headers = [
        ("x-amz-checksum-algorithm", "CRC32C"),
        ("x-amz-checksum-type", "FULL_OBJECT"),
    ];
    let begun = client
        .send("POST", "/buck/key?uploads", &headers, b"")
        .await
        .expect(200);
    let id = begun.element("UploadId").expect("an id");
    let mut etags = Vec::new();
    for number in [1, 2, 7] {
        let body = vec![b'x'; 5 << 20 | number];
        let target = format!("/buck/key?partNumber={number}&uploadId={id}");
        let part = client.send("PUT", &target, &[], &body).await.expect(200);
        etags.push(part.header("etag").expect("an ETag").to_owned());
    }
    let page = client
        .send("GET", &format!("/buck/key?uploadId={id}&max-parts=2"), &[], b"")
        .await
        .expect(200);
    assert_eq!(page.elements("PartNumber"), ["1", "2"]);
    assert_eq!(
        page.elements("Size"),
        [(5_242_880 | 1).to_string(), (5_242_880 | 2).to_string()]
    );
    assert_eq!(page.elements("ChecksumCRC32C").len(), 2);
    assert_eq!(page.element("ChecksumAlgorithm").as_deref(), Some("CRC32C"));
    assert_eq!(
        (
            page.element("IsTruncated").as_deref(),
            page.element("NextPartNumberMarker").as_deref()
        ),
        (Some("true"), Some("2"))
    );
    let rest = format!("/buck/key?uploadId={id}&part-number-marker=2");
    let rest = client.send("GET", &rest, &[], b"").await.expect(200);
    assert_eq!(rest.elements("PartNumber"), ["7"]);
    assert_eq!(
        rest.element("ETag")
            .map(|tag| tag.replace("&quot;", "\""))
            .as_ref(),
        etags.last()
    );
    assert_eq!(rest.element("IsTruncated").as_deref(), Some("false"));

    client
        .send("DELETE", &format!("/buck/key?uploadId={id}"), &[], b"")
        .await
        .expect(204);
    for id in [id.as_str(), "unheard-of"] {
        let gone = client
            .send("GET", &format!("/buck/key?uploadId={id}"), &[], b"")
            .await;
        gone.expect_error(404, "NoSuchUpload");
    }
}
