//! The decoder against the streaming examples of the S3 API reference, cut
//! into pieces of every size, and against bodies that lie.

mod random;

use super::super::head::Endpoint;
use super::super::head::tests::parts;
use super::super::md5::md5;
use super::super::sigv4::{Credential, Realm, SigningKeys};
use super::super::time::UnixMs;
use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Authenticates the head of a request and plans its body, as a server does.
fn plan(headers: &[(&str, &str)], body_use: BodyUse) -> Result<BodyPlan> {
    let parts = parts("PUT", "/examplebucket/chunkObject.txt", headers);
    let endpoint = Endpoint::default();
    let head = Head::parse(&parts, &endpoint)?;
    let now = UnixMs::parse_amz_date("20130524T000000Z").unwrap();
    let realm = Realm {
        region: "us-east-1",
        service: "s3",
    };
    let credential = Credential::parse(&head, realm, now)?;
    let authenticated = credential.verify(SECRET, &SigningKeys::new())?;
    BodyPlan::new(&head, &authenticated, body_use)
}

/// As [`plan`], signing `headers` (sorted here) for this test.
fn signed_plan(headers: &[(&str, &str)], body_use: BodyUse) -> Result<BodyPlan> {
    let mut all = vec![("host", "localhost:9000"), ("x-amz-date", "20130524T000000Z")];
    all.extend_from_slice(headers);
    if !headers.iter().any(|(name, _)| *name == "x-amz-content-sha256") {
        all.push(("x-amz-content-sha256", "UNSIGNED-PAYLOAD"));
    }
    all.sort_unstable();
    let signed: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let payload = all
        .iter()
        .find(|(name, _)| *name == "x-amz-content-sha256")
        .unwrap()
        .1;
    let lines: String = all
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let canonical = format!(
        "PUT\n/examplebucket/chunkObject.txt\n\n{lines}\n{}\n{payload}",
        signed.join(";")
    );
    let scope = "20130524/us-east-1/s3/aws4_request";
    let digest = hex::encode(super::super::sha256::sha256(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n20130524T000000Z\n{scope}\n{digest}");
    let day = UnixMs::parse_amz_date("20130524T000000Z")
        .unwrap()
        .to_system_time();
    let key = aws_sigv4::sign::v4::generate_signing_key(SECRET, day, "us-east-1", "s3");
    let signature = aws_sigv4::sign::v4::calculate_signature(key, text.as_bytes());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKID/{scope}, SignedHeaders={}, Signature={signature}",
        signed.join(";")
    );
    all.push(("authorization", &authorization));
    plan(&all, body_use)
}

/// Decodes `body` cut at `cuts`.
fn decode(
    plan: BodyPlan,
    wanted: WantedDigests,
    body: &[u8],
    cuts: &[usize],
) -> Result<(Vec<u8>, BodyDigests)> {
    let mut decoder = BodyDecoder::new(plan, wanted);
    let body = Bytes::copy_from_slice(body);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    cuts.extend([0, body.len()]);
    cuts.sort_unstable();
    let mut out = Vec::new();
    for window in cuts.windows(2) {
        decoder.push(body.slice(window[0]..window[1]), &mut out)?;
    }
    Ok((out.concat(), decoder.finish()?))
}

fn example_headers(signature: &'static str, trailer: bool) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("host", "s3.amazonaws.com".to_owned()),
        ("x-amz-date", "20130524T000000Z".to_owned()),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY".to_owned()),
        ("x-amz-decoded-content-length", "66560".to_owned()),
        ("content-encoding", "aws-chunked".to_owned()),
    ];
    let (payload, signed) = if trailer {
        headers.push(("x-amz-trailer", "x-amz-checksum-crc32c".to_owned()));
        (
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
             x-amz-storage-class;x-amz-trailer",
        )
    } else {
        headers.push(("content-length", "66824".to_owned()));
        (
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
             x-amz-decoded-content-length;x-amz-storage-class",
        )
    };
    headers.push(("x-amz-content-sha256", payload.to_owned()));
    headers.push((
        "authorization",
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders={signed},Signature={signature}"
        ),
    ));
    headers
}

const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
const TRAILER_SEED: &str = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
const CHUNKS: [&str; 3] = [
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
];
const TRAILER_CHUNKS: [&str; 3] = [
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
];
const TRAILER: &str = "x-amz-checksum-crc32c:sOO8/Q==\r\n\
    x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n";

fn example_plan(trailer: bool) -> Result<BodyPlan> {
    let headers = example_headers(if trailer { TRAILER_SEED } else { SEED }, trailer);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    plan(&headers, BodyUse::Object)
}

fn example_body(signatures: [&str; 3], end: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (size, signature) in [65_536, 1024, 0].into_iter().zip(signatures) {
        body.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
        if size > 0 {
            body.extend(std::iter::repeat_n(b'a', size));
            body.extend_from_slice(b"\r\n");
        }
    }
    body.extend_from_slice(end.as_bytes());
    body
}

fn check_example(trailer: bool, body: &[u8], expected: std::result::Result<(), ErrorCode>) {
    let plan = example_plan(trailer).unwrap();
    let got = decode(
        plan,
        WantedDigests {
            md5: true,
            checksum: None,
        },
        body,
        &[100, 65_700, 66_000],
    );
    match (got, expected) {
        (Ok((data, digests)), Ok(())) => {
            assert_eq!(data, vec![b'a'; 66_560]);
            assert_eq!(digests.md5, Some(md5(&data)));
        }
        (got, expected) => assert_eq!(got.map(|_| ()).map_err(|e| e.code()), expected),
    }
}

#[test]
fn streaming_example_of_the_reference() {
    check_example(false, &example_body(CHUNKS, "\r\n"), Ok(()));
    check_example(false, &example_body(CHUNKS, ""), Ok(()));
    assert_eq!(example_body(CHUNKS, "\r\n").len(), 66_824);
}

#[test]
fn streaming_example_with_trailer() {
    check_example(true, &example_body(TRAILER_CHUNKS, TRAILER), Ok(()));
    // As the reference prints it: a bare line feed and an empty line.
    let printed = TRAILER.replacen("==\r\n", "==\n\r\n", 1);
    check_example(true, &example_body(TRAILER_CHUNKS, &printed), Ok(()));
}

#[test]
fn a_tampered_stream_is_refused() {
    let good = example_body(CHUNKS, "\r\n");
    let mut flipped = good.clone();
    flipped[30_000] = b'b';
    check_example(false, &flipped, Err(ErrorCode::SignatureDoesNotMatch));
    let mut swapped = CHUNKS;
    swapped.swap(0, 1);
    check_example(
        false,
        &example_body(swapped, "\r\n"),
        Err(ErrorCode::SignatureDoesNotMatch),
    );
    check_example(false, &good[..good.len() - 100], Err(ErrorCode::IncompleteBody));
    check_example(false, &good[..66_000], Err(ErrorCode::IncompleteBody));
    check_example(
        false,
        &example_body(CHUNKS, "x-a:b\r\n\r\n"),
        Err(ErrorCode::MalformedTrailerError),
    );
    check_example(
        false,
        &example_body(CHUNKS, "\r\nx"),
        Err(ErrorCode::InvalidRequest),
    );
}

#[test]
fn a_tampered_trailer_is_refused() {
    let check =
        |end: &str, code: ErrorCode| check_example(true, &example_body(TRAILER_CHUNKS, end), Err(code));
    check("\r\n", ErrorCode::MalformedTrailerError);
    check("", ErrorCode::MalformedTrailerError);
    check(
        &TRAILER.replace("sOO8/Q==", "sOO8/A=="),
        ErrorCode::SignatureDoesNotMatch,
    );
    check(&TRAILER.replace("d81f", "d81e"), ErrorCode::SignatureDoesNotMatch);
    check(
        &TRAILER.replace("crc32c", "crc32"),
        ErrorCode::MalformedTrailerError,
    );
    check(
        TRAILER.split_inclusive("\r\n").next().unwrap(),
        ErrorCode::MalformedTrailerError,
    );
    check(
        &format!("{}{TRAILER}", "x-amz-checksum-crc32c:sOO8/Q==\r\n"),
        ErrorCode::MalformedTrailerError,
    );
    check(
        &"x".repeat(limits::TRAILER_BYTES_MAX + 10),
        ErrorCode::InvalidRequest,
    );
    check(
        &"\r\n".repeat(limits::TRAILER_LINES_MAX + 1),
        ErrorCode::MalformedTrailerError,
    );
}

/// What today's SDKs send: unsigned chunks and a checksum in the trailer.
fn unsigned_plan(length: usize, algorithm: ChecksumAlgorithm) -> BodyPlan {
    signed_plan(
        &[
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", &length.to_string()),
            ("x-amz-sdk-checksum-algorithm", algorithm.as_str()),
            ("x-amz-trailer", algorithm.header()),
            ("content-encoding", "aws-chunked"),
        ],
        BodyUse::Object,
    )
    .unwrap()
}

fn unsigned_body(data: &[u8], chunk: usize, algorithm: ChecksumAlgorithm) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in data.chunks(chunk.max(1)) {
        body.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    let checksum = Checksum::of(algorithm, data).to_base64();
    body.extend_from_slice(format!("0\r\n{}:{checksum}\r\n\r\n", algorithm.header()).as_bytes());
    body
}

#[test]
fn unsigned_trailers_are_compared() {
    for algorithm in ChecksumAlgorithm::ALL {
        let body = unsigned_body(b"hello world", 4, algorithm);
        let (data, digests) = decode(
            unsigned_plan(11, algorithm),
            WantedDigests::default(),
            &body,
            &[3, 9],
        )
        .unwrap();
        assert_eq!(data, b"hello world");
        assert_eq!(digests.checksum, Some(Checksum::of(algorithm, b"hello world")));
        assert_eq!(digests.md5, None);
        let mut wrong = body.clone();
        wrong[3] = b'j';
        let got = decode(
            unsigned_plan(11, algorithm),
            WantedDigests::default(),
            &wrong,
            &[],
        );
        assert_eq!(got.map_err(|e| e.code()), Err(ErrorCode::BadDigest));
        for length in [10, 12] {
            let got = decode(
                unsigned_plan(length, algorithm),
                WantedDigests::default(),
                &body,
                &[],
            );
            assert_eq!(got.map_err(|e| e.code()), Err(ErrorCode::IncompleteBody));
        }
    }
}

#[test]
fn broken_framing_is_refused() {
    let check = |body: &str, code: ErrorCode| {
        let got = decode(
            unsigned_plan(5, ChecksumAlgorithm::Crc32),
            WantedDigests::default(),
            body.as_bytes(),
            &[],
        );
        assert_eq!(got.map(|_| ()).map_err(|e| e.code()), Err(code), "{body:?}");
    };
    check("", ErrorCode::IncompleteBody);
    check("5", ErrorCode::IncompleteBody);
    check("5\r\nhel", ErrorCode::IncompleteBody);
    check("6\r\nhello!", ErrorCode::IncompleteBody);
    check("ffffffffffffffff\r\nhello", ErrorCode::IncompleteBody);
    check("5\r\nhello\r\n0\r\n\r\n", ErrorCode::MalformedTrailerError);
    for body in [
        "\r\n",
        "x\r\n",
        "+5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\r\n",
        "00000000000000005\r\nhello",
        "5;chunk-signature=0\r\nhello\r\n",
        "5\r\nhelloXY0\r\n",
        "5\r\nhello\n0\r\n",
    ] {
        check(body, ErrorCode::InvalidRequest);
    }
    check(
        &"1".repeat(limits::CHUNK_LINE_BYTES_MAX + 1),
        ErrorCode::InvalidRequest,
    );
}

fn check_plan(headers: &[(&str, &str)], body_use: BodyUse, expected: std::result::Result<(), ErrorCode>) {
    let got = signed_plan(headers, body_use);
    assert_eq!(
        got.map(|_| ()).map_err(|e| e.code()),
        expected,
        "{headers:?} {body_use:?}"
    );
}

#[test]
fn heads_that_cannot_be_met_are_refused_beforehand() {
    use ErrorCode::{
        EntityTooLarge, InvalidArgument, InvalidDigest, InvalidRequest, MaxMessageLengthExceeded,
        MissingContentLength, UnexpectedContent,
    };
    let object = BodyUse::Object;
    let document = BodyUse::Document {
        bytes_max: 10,
        checksummed: true,
    };
    check_plan(&[], object, Err(MissingContentLength));
    check_plan(
        &[("transfer-encoding", "chunked")],
        object,
        Err(MissingContentLength),
    );
    check_plan(&[("transfer-encoding", "chunked")], document, Ok(()));
    check_plan(&[("content-length", "5368709120")], object, Ok(()));
    check_plan(&[("content-length", "5368709121")], object, Err(EntityTooLarge));
    check_plan(
        &[("content-length", "11")],
        document,
        Err(MaxMessageLengthExceeded),
    );
    check_plan(&[("content-length", "1")], BodyUse::None, Err(UnexpectedContent));
    check_plan(&[("content-length", "0")], BodyUse::None, Ok(()));
    let length = ("content-length", "1");
    check_plan(&[length, ("content-md5", "AAAA")], object, Err(InvalidDigest));
    check_plan(
        &[length, ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")],
        object,
        Ok(()),
    );
    check_plan(
        &[length, ("x-amz-checksum-crc32", "AAAA")],
        object,
        Err(InvalidRequest),
    );
    let crc = ("x-amz-checksum-crc32", "AAAAAA==");
    check_plan(
        &[length, crc, ("x-amz-checksum-crc32c", "AAAAAA==")],
        object,
        Err(InvalidRequest),
    );
    check_plan(
        &[length, crc, ("x-amz-sdk-checksum-algorithm", "SHA1")],
        object,
        Err(InvalidRequest),
    );
    check_plan(
        &[length, crc, ("x-amz-sdk-checksum-algorithm", "crc32")],
        object,
        Ok(()),
    );
    check_plan(
        &[length, ("x-amz-sdk-checksum-algorithm", "CRC32")],
        object,
        Err(InvalidRequest),
    );
    check_plan(
        &[length, ("x-amz-trailer", "x-amz-checksum-crc32")],
        object,
        Err(InvalidRequest),
    );
    check_plan(
        &[length, ("content-encoding", "gzip,aws-chunked")],
        object,
        Err(InvalidRequest),
    );
    check_plan(
        &[length, ("x-amz-decoded-content-length", "2")],
        object,
        Err(InvalidRequest),
    );
    let unsigned = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    check_plan(&[length, unsigned], object, Err(MissingContentLength));
    check_plan(
        &[length, unsigned, ("x-amz-decoded-content-length", "-1")],
        object,
        Err(InvalidArgument),
    );
    let decoded = ("x-amz-decoded-content-length", "1");
    check_plan(
        &[unsigned, decoded, ("x-amz-trailer", "x-other")],
        object,
        Err(InvalidRequest),
    );
    let crc_trailer = ("x-amz-trailer", "x-amz-checksum-crc32");
    check_plan(
        &[unsigned, decoded, crc, crc_trailer],
        object,
        Err(InvalidRequest),
    );
    check_plan(&[unsigned, decoded, crc_trailer], object, Ok(()));
}

/// Decodes `data` as a plain body announced by `headers`.
fn check_plain(headers: &[(&str, &str)], data: &[u8], expected: std::result::Result<BodyDigests, ErrorCode>) {
    let got = signed_plan(headers, BodyUse::Object)
        .and_then(|plan| decode(plan, WantedDigests::default(), data, &[2]));
    assert_eq!(
        got.map(|(_, digests)| digests).map_err(|e| e.code()),
        expected,
        "{headers:?}"
    );
}

#[test]
fn plain_bodies_are_held_to_their_heads() {
    let none = BodyDigests {
        bytes: 5,
        md5: None,
        checksum: None,
    };
    let length = ("content-length", "5");
    check_plain(&[length], b"hello", Ok(none));
    check_plain(&[length], b"hell", Err(ErrorCode::IncompleteBody));
    check_plain(&[length], b"hello!", Err(ErrorCode::IncompleteBody));
    let sha = hex::encode(super::super::sha256::sha256(b"hello"));
    check_plain(&[length, ("x-amz-content-sha256", &sha)], b"hello", Ok(none));
    check_plain(
        &[length, ("x-amz-content-sha256", &sha)],
        b"jello",
        Err(ErrorCode::XAmzContentSHA256Mismatch),
    );
    let digest = BASE64.encode(md5(b"hello"));
    let with_md5 = BodyDigests {
        md5: Some(md5(b"hello")),
        ..none
    };
    check_plain(&[length, ("content-md5", &digest)], b"hello", Ok(with_md5));
    check_plain(
        &[length, ("content-md5", &digest)],
        b"jello",
        Err(ErrorCode::BadDigest),
    );
    let checksum = Checksum::of(ChecksumAlgorithm::Sha256, b"hello");
    let value = checksum.to_base64();
    let both = [
        length,
        ("x-amz-content-sha256", sha.as_str()),
        ("x-amz-checksum-sha256", value.as_str()),
    ];
    check_plain(
        &both,
        b"hello",
        Ok(BodyDigests {
            checksum: Some(checksum),
            ..none
        }),
    );
    check_plain(
        &[length, ("x-amz-checksum-sha256", &value)],
        b"jello",
        Err(ErrorCode::BadDigest),
    );
}

#[test]
fn digests_are_made_when_wanted() {
    let plan = signed_plan(&[("content-length", "5")], BodyUse::Object).unwrap();
    let wanted = WantedDigests {
        md5: true,
        checksum: Some(ChecksumAlgorithm::Crc64Nvme),
    };
    let (_, digests) = decode(plan, wanted, b"hello", &[]).unwrap();
    assert_eq!(digests.md5, Some(md5(b"hello")));
    assert_eq!(
        digests.checksum,
        Some(Checksum::of(ChecksumAlgorithm::Crc64Nvme, b"hello"))
    );
}

#[test]
fn parts_keep_to_the_checksum_of_their_upload() {
    use ChecksumAlgorithm::{Crc32, Sha1};
    use ChecksumType::{Composite, FullObject};
    let with = [("content-length", "5"), ("x-amz-checksum-crc32", "AAAAAA==")];
    let allowed = |headers: &[(&str, &str)], upload| {
        let plan = signed_plan(headers, BodyUse::Object).unwrap();
        plan.check_upload_checksum(upload).map_err(|error| error.code())
    };
    let refused = Err(ErrorCode::InvalidRequest);
    for (upload, sent, missing) in [
        (None, Ok(()), Ok(())),
        (Some((Crc32, FullObject)), Ok(()), Ok(())),
        (Some((Crc32, Composite)), Ok(()), refused),
        (Some((Sha1, Composite)), refused, refused),
    ] {
        assert_eq!(allowed(&with, upload), sent, "{upload:?}");
        assert_eq!(allowed(&with[..1], upload), missing, "{upload:?}");
    }
}

#[test]
fn a_body_where_none_belongs_is_refused_when_it_comes() {
    let plan = signed_plan(&[], BodyUse::None).unwrap();
    let got = decode(plan, WantedDigests::default(), b"x", &[]);
    assert_eq!(got.map_err(|e| e.code()), Err(ErrorCode::UnexpectedContent));
}

#[test]
fn documents_of_unknown_length_are_bounded() {
    let document = BodyUse::Document {
        bytes_max: 4,
        checksummed: true,
    };
    let plan = signed_plan(&[("transfer-encoding", "chunked")], document).unwrap();
    let got = decode(plan, WantedDigests::default(), b"hello", &[2]);
    assert_eq!(
        got.map_err(|e| e.code()),
        Err(ErrorCode::MaxMessageLengthExceeded)
    );
}

#[test]
fn small_signed_chunks_are_refused_but_for_the_last() {
    let plan = example_plan(false).unwrap();
    let mut signer = plan.signer.clone().unwrap();
    let mut decoder = BodyDecoder::new(plan, WantedDigests::default());
    // The first chunk is small and wrongly signed: its signature comes first.
    let body = format!("1;chunk-signature={}\r\na", "0".repeat(64));
    let got = decoder.push(Bytes::from(body), &mut Vec::new());
    assert_eq!(got.map_err(|e| e.code()), Err(ErrorCode::SignatureDoesNotMatch));
    // A failed body stays failed.
    assert!(decoder.push(Bytes::from_static(b"x"), &mut Vec::new()).is_err());
    assert!(decoder.finish().is_err());
    assert!(signer.verify_chunk(&[0; 32], b"short").is_err());
}
