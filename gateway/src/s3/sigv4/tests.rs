//! Known signatures: the examples of the S3 API reference ("Signature
//! Calculations for the Authorization Header", "Authenticating Requests:
//! Using Query Parameters"), and every way to be refused.

use super::super::head::Endpoint;
use super::super::head::tests::parts;
use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HOST: &str = "examplebucket.s3.amazonaws.com";
const REALM: Realm<'_> = Realm {
    region: "us-east-1",
    service: "s3",
};

fn now() -> UnixMs {
    UnixMs::parse_amz_date("20130524T000000Z").unwrap()
}

fn authenticate_at(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    now: UnixMs,
) -> Result<Authenticated> {
    let parts = parts(method, target, headers);
    let endpoint = Endpoint::new(["s3.amazonaws.com"]);
    let head = Head::parse(&parts, &endpoint)?;
    let credential = Credential::parse(&head, REALM, now)?;
    assert_eq!(credential.access_key(), "AKIAIOSFODNN7EXAMPLE");
    credential.verify(SECRET, &SigningKeys::new())
}

fn authorization(signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={signed_headers},Signature={signature}"
    )
}

const GET_SIGNED: &str = "host;range;x-amz-content-sha256;x-amz-date";
const GET_SIGNATURE: &str = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";

/// The reference's GET example with fields changed; `("", _)` adds nothing,
/// an empty value removes the header.
fn get_with(changes: &[(&str, &str)], signed: &str, signature: &str) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = [
        ("host", HOST),
        ("authorization", &authorization(signed, signature)),
        ("range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY),
        ("x-amz-date", "20130524T000000Z"),
    ]
    .iter()
    .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
    .collect();
    for (name, value) in changes {
        headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            headers.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    headers
}

fn check_get(target: &str, headers: &[(String, String)], expected: std::result::Result<(), ErrorCode>) {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let got = authenticate_at("GET", target, &headers, now());
    assert_eq!(
        got.map(|_| ()).map_err(|e| e.code()),
        expected,
        "{target} {headers:?}"
    );
}

#[test]
fn get_object_example() {
    check_get("/test.txt", &get_with(&[], GET_SIGNED, GET_SIGNATURE), Ok(()));
    // Two ways to write one key have one signature.
    check_get("/test%2Etxt", &get_with(&[], GET_SIGNED, GET_SIGNATURE), Ok(()));
    // White space around and within values does not count.
    check_get(
        "/test.txt",
        &get_with(&[("range", "  bytes=0-9 ")], GET_SIGNED, GET_SIGNATURE),
        Ok(()),
    );
}

#[test]
fn put_object_example() {
    let signed = "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class";
    let signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
    let digest = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let headers = [
        ("host", HOST),
        ("authorization", &authorization(signed, signature)),
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        ("x-amz-content-sha256", digest),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ];
    let got = authenticate_at("PUT", "/test$file.text", &headers, now()).unwrap();
    assert!(matches!(got.payload(), Payload::Sha256(sha256) if hex::encode(sha256) == digest));
}

#[test]
fn query_examples() {
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let lifecycle = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
    check_get(
        "/?lifecycle",
        &get_with(&[("range", "")], signed, lifecycle),
        Ok(()),
    );
    let list = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
    check_get(
        "/?max-keys=2&prefix=J",
        &get_with(&[("range", "")], signed, list),
        Ok(()),
    );
    check_get(
        "/?prefix=J&max-keys=2",
        &get_with(&[("range", "")], signed, list),
        Ok(()),
    );
    check_get(
        "/?prefix=J&max-keys=3",
        &get_with(&[("range", "")], signed, list),
        Err(ErrorCode::SignatureDoesNotMatch),
    );
}

#[test]
fn what_was_not_signed_is_refused() {
    let mismatch = Err(ErrorCode::SignatureDoesNotMatch);
    let good = || get_with(&[], GET_SIGNED, GET_SIGNATURE);
    check_get("/test2.txt", &good(), mismatch);
    check_get("/test.txt?versions", &good(), mismatch);
    check_get(
        "/test.txt",
        &get_with(&[("range", "bytes=0-8")], GET_SIGNED, GET_SIGNATURE),
        mismatch,
    );
    check_get("/test.txt", &get_with(&[], GET_SIGNED, &"0".repeat(64)), mismatch);
    let denied = Err(ErrorCode::AccessDenied);
    for name in [
        "x-amz-copy-source",
        "x-amz-acl",
        "x-amz-meta-a",
        "x-amz-security-tokenx",
    ] {
        check_get(
            "/test.txt",
            &get_with(&[(name, "v")], GET_SIGNED, GET_SIGNATURE),
            denied,
        );
    }
    check_get(
        "/test.txt",
        &get_with(&[("x-amz-user-agent", "v")], GET_SIGNED, GET_SIGNATURE),
        Ok(()),
    );
}

#[test]
fn claims_out_of_form_are_refused() {
    let malformed = Err(ErrorCode::AuthorizationHeaderMalformed);
    let claim = |text: &str| get_with(&[("authorization", text)], GET_SIGNED, GET_SIGNATURE);
    let good = authorization(GET_SIGNED, GET_SIGNATURE);
    for (from, to) in [
        ("20130524/", "20130525/"),
        ("us-east-1", "eu-west-1"),
        ("/s3/", "/ullage/"),
        ("aws4_request", "aws5_request"),
        ("20130524/", "2013052x/"),
        ("SignedHeaders=host;", "SignedHeaders="),
        ("host;range", "range;host"),
        ("host;range", "host;host"),
        ("host;range", "Host;range"),
        ("Signature=f0", "Signature=F0"),
        ("Signature=f0", "Signature="),
        ("Credential=", "Credentials="),
        ("SignedHeaders=", "Credential="),
    ] {
        check_get("/test.txt", &claim(&good.replacen(from, to, 1)), malformed);
    }
    check_get("/test.txt", &claim("AWS4-HMAC-SHA256 "), malformed);
    check_get(
        "/test.txt",
        &claim("AWS AKID:c2ln"),
        Err(ErrorCode::InvalidRequest),
    );
    check_get(
        "/test.txt",
        &claim("AWS4-ECDSA-P256-SHA256 Credential=x"),
        Err(ErrorCode::InvalidRequest),
    );
    check_get("/test.txt", &claim("Basic dTpw"), Err(ErrorCode::InvalidArgument));
    check_get("/test.txt", &claim(""), Err(ErrorCode::AccessDenied));
    check_get(
        "/test.txt?AWSAccessKeyId=a&Signature=b&Expires=9",
        &claim(""),
        Err(ErrorCode::InvalidRequest),
    );
    check_get(
        "/test.txt?X-Amz-Signature=a",
        &claim(&good),
        Err(ErrorCode::InvalidArgument),
    );
    check_get(
        "/test.txt?Signature=a",
        &claim(&good),
        Err(ErrorCode::InvalidArgument),
    );
    let payload = |text: &str| get_with(&[("x-amz-content-sha256", text)], GET_SIGNED, GET_SIGNATURE);
    check_get("/test.txt", &payload(""), Err(ErrorCode::InvalidRequest));
    check_get("/test.txt", &payload("abc"), Err(ErrorCode::InvalidArgument));
    let token = get_with(&[("x-amz-security-token", "t")], GET_SIGNED, GET_SIGNATURE);
    check_get("/test.txt", &token, Err(ErrorCode::InvalidToken));
}

#[test]
fn requests_out_of_time_are_refused() {
    let date = |text: &str| get_with(&[("x-amz-date", text)], GET_SIGNED, GET_SIGNATURE);
    for (text, expected) in [
        ("20130524T001500Z", ErrorCode::SignatureDoesNotMatch),
        ("20130524T001501Z", ErrorCode::RequestTimeTooSkewed),
        ("20130523T234459Z", ErrorCode::RequestTimeTooSkewed),
        ("20130524", ErrorCode::AccessDenied),
        ("", ErrorCode::AccessDenied),
    ] {
        check_get("/test.txt", &date(text), Err(expected));
    }
}

const PRESIGNED: &str = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
    &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
    &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
    &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";

fn check_presigned(
    target: &str,
    headers: &[(&str, &str)],
    seconds: u64,
    expected: std::result::Result<(), ErrorCode>,
) {
    let mut headers = headers.to_vec();
    headers.push(("host", HOST));
    let now = UnixMs::from_seconds(now().seconds() + seconds);
    let got = authenticate_at("GET", target, &headers, now);
    assert_eq!(
        got.map(|_| ()).map_err(|e| e.code()),
        expected,
        "{target} {headers:?} {seconds}"
    );
}

#[test]
fn presigned_example_and_its_life() {
    check_presigned(PRESIGNED, &[], 0, Ok(()));
    check_presigned(PRESIGNED, &[], 86_400, Ok(()));
    check_presigned(PRESIGNED, &[], 86_401, Err(ErrorCode::AccessDenied));
    let early = PRESIGNED.replace("20130524T000000Z", "20130524T001501Z");
    check_presigned(&early, &[], 0, Err(ErrorCode::AccessDenied));
    let malformed = Err(ErrorCode::AuthorizationQueryParametersError);
    for (from, to) in [
        ("Expires=86400", "Expires=0"),
        ("Expires=86400", "Expires=604801"),
        ("Expires=86400", "Expires=-1"),
        ("&X-Amz-Expires=86400", ""),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        ("Headers=host", "Headers=range"),
        ("&X-Amz-Signature=", "&Y="),
        ("20130524T000000Z", "20130525T000000Z"),
    ] {
        let target = PRESIGNED.replace(from, to);
        let seconds = if to.contains("0525") { 86_400 } else { 0 };
        check_presigned(&target, &[], seconds, malformed);
    }
}

#[test]
fn presigned_urls_cannot_be_added_to() {
    let mismatch = Err(ErrorCode::SignatureDoesNotMatch);
    for added in [
        "&versionId=1",
        "&x-amz-copy-source=/a/b",
        "&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD",
    ] {
        check_presigned(&format!("{PRESIGNED}{added}"), &[], 0, mismatch);
    }
    for header in ["x-amz-copy-source", "x-amz-content-sha256", "x-amz-acl"] {
        check_presigned(
            PRESIGNED,
            &[(header, "UNSIGNED-PAYLOAD")],
            0,
            Err(ErrorCode::AccessDenied),
        );
    }
    check_presigned(
        &format!("{PRESIGNED}&X-Amz-Date=20130524T000000Z"),
        &[],
        0,
        Err(ErrorCode::InvalidArgument),
    );
    check_presigned(
        PRESIGNED,
        &[("authorization", &authorization(GET_SIGNED, GET_SIGNATURE))],
        0,
        Err(ErrorCode::InvalidArgument),
    );
    check_presigned(
        &format!("{PRESIGNED}&X-Amz-Security-Token=t"),
        &[],
        0,
        Err(ErrorCode::InvalidToken),
    );
}

#[test]
fn a_streaming_payload_type_does_not_skip_the_query_signature() {
    let streaming = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    check_presigned(
        PRESIGNED,
        &[("x-amz-content-sha256", streaming)],
        0,
        Err(ErrorCode::AccessDenied),
    );
    let listed = PRESIGNED.replace("SignedHeaders=host", "SignedHeaders=host;x-amz-content-sha256");
    check_presigned(
        &listed,
        &[("x-amz-content-sha256", streaming)],
        0,
        Err(ErrorCode::SignatureDoesNotMatch),
    );
    let moved = format!("{PRESIGNED}&X-Amz-Content-Sha256={streaming}");
    check_presigned(&moved, &[], 0, Err(ErrorCode::SignatureDoesNotMatch));
    let anonymous = [("x-amz-content-sha256", streaming)];
    check_presigned("/test.txt", &anonymous, 0, Err(ErrorCode::AccessDenied));
}

#[test]
fn a_mismatch_shows_what_was_signed_but_no_secret() {
    let headers = get_with(&[("range", "bytes=1-9")], GET_SIGNED, GET_SIGNATURE);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let error = authenticate_at("GET", "/test.txt", &headers, now()).unwrap_err();
    assert!(
        error
            .detail("CanonicalRequest")
            .is_some_and(|text| text.contains("range:bytes=1-9"))
    );
    assert!(!error.to_xml("/", "r", "h").contains(SECRET));
}
