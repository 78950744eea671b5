//! Requests with half a signature, and bodies whose framing nobody vouches for.

use super::Gateway;
use super::access::{anonymous, root};
use ullage_gateway::s3::checksum::{Checksum, ChecksumAlgorithm};

#[tokio::test(flavor = "multi_thread")]
async fn half_credentials_are_nobodys_and_framing_is_never_stored() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    root(
        &gateway,
        "PUT",
        "/drop",
        &[("x-amz-acl", "public-read-write")],
        "",
    )
    .await
    .expect(200);
    root(
        &gateway,
        "PUT",
        "/drop/open",
        &[("x-amz-acl", "public-read")],
        "seen",
    )
    .await
    .expect(200);
    let get =
        async |target: &str, headers: &[(&str, &str)]| anonymous(&client, "GET", target, headers, b"").await;
    assert_eq!(get("/drop/open", &[]).await.expect(200).text(), "seen");
    assert_eq!(
        get("/drop/open", &[("range", "bytes=1-2")])
            .await
            .expect(206)
            .text(),
        "ee"
    );
    for query in [
        "X-Amz-Signature=00",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Credential=a",
        "X-Amz-Expires=5",
        "X-Amz-Date=20260101T000000Z",
        "X-Amz-SignedHeaders=host",
        "X-Amz-Security-Token=t",
        "x-amz-signature=00",
        "Signature=00",
        "AWSAccessKeyId=AKROOT",
    ] {
        let answer = get(&format!("/drop/open?{query}"), &[]).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
    for header in [
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKROOT/20260101/us-east-1/s3/aws4_request",
        ),
        ("authorization", "AWS AKROOT:xyz"),
        ("authorization", ""),
        ("x-amz-security-token", "t"),
    ] {
        let answer = get("/drop/open", &[header]).await;
        assert!(
            matches!(answer.status, 400 | 403),
            "{header:?}: {}",
            answer.text()
        );
    }
    // Whoever is not known is not told which operations there are.
    for target in ["/", "/drop?replication", "/drop?policy"] {
        get(target, &[]).await.expect_error(403, "AccessDenied");
    }
    anonymous(&client, "PUT", "/other", &[], b"")
        .await
        .expect_error(403, "AccessDenied");

    let chunked = b"4\r\nbody\r\n0\r\nx-amz-checksum-crc32:lWJ9xg==\r\n\r\n";
    let put = async |headers: &[(&str, &str)], body: &[u8]| {
        anonymous(&client, "PUT", "/drop/put", headers, body).await
    };
    let streaming = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    let length = ("x-amz-decoded-content-length", "4");
    let sum = Checksum::of(ChecksumAlgorithm::Crc32, b"body").to_base64();
    let framed = String::from_utf8_lossy(chunked).replace("lWJ9xg==", &sum);
    let trailer = ("x-amz-trailer", "x-amz-checksum-crc32");
    put(&[streaming, length, trailer], framed.as_bytes())
        .await
        .expect(200);
    assert_eq!(
        root(&gateway, "GET", "/drop/put", &[], "")
            .await
            .expect(200)
            .text(),
        "body"
    );
    for headers in [
        &[("content-encoding", "aws-chunked")][..],
        &[("x-amz-trailer", "x-amz-checksum-crc32")],
        &[
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            length,
        ],
        &[
            (
                "x-amz-content-sha256",
                "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            ),
            length,
        ],
        &[("x-amz-content-sha256", "nonsense")],
        &[(
            "x-amz-content-sha256",
            "0000000000000000000000000000000000000000000000000000000000000000",
        )],
    ] {
        let answer = put(headers, framed.as_bytes()).await;
        assert_eq!(answer.status, 400, "{headers:?}: {}", answer.text());
    }
    assert_eq!(
        root(&gateway, "GET", "/drop/put", &[], "")
            .await
            .expect(200)
            .text(),
        "body"
    );
}
