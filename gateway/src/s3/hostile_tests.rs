//! What hostile clients send once they can sign: heads that say anything, and documents that are nearly right. Nothing
//! makes the layer panic, and no document becomes more than it was sent as.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::acl::{CannedAcl, ObjectOwnership};
use super::body::BodyUse;
use super::cors::CorsRules;
use super::error::ErrorCode;
use super::head::Endpoint;
use super::limits;
use super::percent::{Slash, encode};
use super::request_xml::{CompleteBody, CreateBucketBody, DeleteObjectsBody};
use super::tagging::Tags;
use super::testing::{signed, understand};
use super::versioning::VersioningStatus;

/// Parameters that choose an operation or say something to one.
const PARAMETERS: [&str; 34] = [
    "acl",
    "attributes",
    "continuation-token",
    "cors",
    "delete",
    "delimiter",
    "encoding-type",
    "key-marker",
    "list-type",
    "location",
    "max-keys",
    "max-parts",
    "max-uploads",
    "ownershipControls",
    "part-number-marker",
    "partNumber",
    "policy",
    "policyStatus",
    "prefix",
    "replication",
    "response-content-type",
    "response-expires",
    "start-after",
    "tagging",
    "upload-id-marker",
    "uploadId",
    "uploads",
    "version-id-marker",
    "versionId",
    "versioning",
    "versions",
    "website",
    "x-amz-meta-a",
    "x-ullage-release",
];

/// Headers that some operation reads.
const HEADERS: [&str; 33] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "x-amz-acl",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-mode",
    "x-amz-checksum-type",
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-range",
    "x-amz-decoded-content-length",
    "x-amz-expected-bucket-owner",
    "x-amz-metadata-directive",
    "x-amz-mp-object-size",
    "x-amz-object-attributes",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-tagging-directive",
    "x-amz-trailer",
    "x-ullage-release",
];

/// Words that mean something somewhere.
const WORDS: [&str; 30] = [
    "",
    "*",
    "0",
    "1",
    "-1",
    "10001",
    "18446744073709551616",
    "0x10",
    "true",
    "url",
    "/buck/k",
    "/buck/k?versionId=null",
    "buck/%",
    "%2e%2e%2f",
    "bytes=0-",
    "bytes=-0",
    "bytes=18446744073709551615-18446744073709551615",
    "\"etag\", W/\"weak\"",
    "\"",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    "Wed, 99 Oct 99999 07:28:00 GMT",
    "aws-chunked",
    "AAAAAA==",
    "CRC32",
    "COMPOSITE",
    "REPLACE",
    "public-read",
    "a=b&a=b",
    "x-amz-checksum-crc32",
    "ETag,ObjectParts",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(&WORDS[..]).prop_map(str::to_owned),
        1 => "[!-~]([ !-~]{0,30}[!-~])?",
    ]
}

fn target() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        Just("/".to_owned()),
        Just("/buck".to_owned()),
        Just("/buck/k".to_owned()),
        "/[a-z.A-Z-]{1,8}/[a-z%/.]{0,9}".prop_map(|path| path.replace('%', "%25")),
    ];
    let parameters = vec((select(&PARAMETERS[..]), value()), 0..4);
    (path, parameters).prop_map(|(path, parameters)| {
        let said = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value, Slash::Encode)));
        format!("{path}?{}", said.collect::<Vec<_>>().join("&"))
    })
}

fn headers() -> impl Strategy<Value = BTreeMap<&'static str, String>> {
    btree_map(
        select(&HEADERS[..]),
        value().prop_filter("an empty header", |value| !value.is_empty()),
        0..5,
    )
}

/// Documents as clients send them, and what reads them: how many bytes of text came out.
type Document = (&'static str, fn(&[u8]) -> super::Result<usize>);
const DOCUMENTS: [Document; 8] = [
    (
        "<Delete><Object><Key>a</Key><VersionId>null</VersionId></Object><Object><Key>b</Key></Object>\
         <Quiet>true</Quiet></Delete>",
        |document| {
            let body = DeleteObjectsBody::parse(document)?;
            assert!((1..=limits::DELETE_KEYS_MAX).contains(&body.objects.len()));
            Ok(body.objects.iter().map(|object| object.key.len()).sum())
        },
    ),
    (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag>\
         <ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part><Part><ETag>b</ETag><PartNumber>2</PartNumber></Part>\
         </CompleteMultipartUpload>",
        |document| {
            let body = CompleteBody::parse(document)?;
            assert!(
                body.parts
                    .is_sorted_by(|one, next| one.part_number < next.part_number)
            );
            assert!((1..=limits::PARTS_MAX as usize).contains(&body.parts.len()));
            Ok(body.parts.len())
        },
    ),
    (
        "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag><Tag><Key>c</Key><Value/></Tag></TagSet></Tagging>",
        |document| {
            let Tags(tags) = Tags::parse_document(document, limits::OBJECT_TAGS_MAX)?;
            assert!(tags.len() <= limits::OBJECT_TAGS_MAX);
            Ok(tags.iter().map(|(key, value)| key.len() + value.len()).sum())
        },
    ),
    (
        "<CORSConfiguration><CORSRule><AllowedOrigin>http://*.x</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
         <AllowedHeader>*</AllowedHeader><MaxAgeSeconds>9</MaxAgeSeconds></CORSRule></CORSConfiguration>",
        |document| {
            let rules = CorsRules::parse(document)?;
            assert_eq!(CorsRules::parse(rules.to_xml().as_bytes()).as_ref(), Ok(&rules));
            Ok(0)
        },
    ),
    (
        "<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList><Grant><Grantee \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"><ID>me</ID></Grantee>\
         <Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>",
        |document| CannedAcl::parse_document(document, "me").map(|_| 0),
    ),
    (
        "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>",
        |document| ObjectOwnership::parse_document(document).map(|_| 0),
    ),
    (
        "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        |document| VersioningStatus::parse_document(document).map(|_| 0),
    ),
    (
        "<CreateBucketConfiguration><LocationConstraint>eu-west-7</LocationConstraint></CreateBucketConfiguration>",
        |document| CreateBucketBody::parse(document).map(|_| 0),
    ),
];

/// What parsers of XML stumble over.
const SPLINTERS: [&[u8]; 16] = [
    b"<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]>",
    b"&b;",
    b"&#x10ffff;",
    b"&#0;",
    b"&amp;",
    b"<![CDATA[<Key>]]>",
    b"<!-- -- -->",
    b"<?xml version=\"1.1\" encoding=\"utf-16\"?>",
    b"<Key>",
    b"</Key>",
    b"<Part/>",
    b"<Object><Key>z</Key></Object>",
    b" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"",
    b"\xff\xfe",
    b"\0",
    b"<",
];

/// A change: what is done, where, how far, and with which splinter.
type Change = (u8, usize, usize, usize);

fn change(document: &mut Vec<u8>, (what, at, far, splinter): Change) {
    let at = at % (document.len() + 1);
    let end = (at + far % 40).min(document.len());
    match what {
        0 if at < document.len() => document[at] ^= 1 << (far % 8),
        0 | 1 => drop(document.drain(at..end)),
        2 => document.truncate(at),
        3 => {
            let again = document[at..end].to_vec();
            document.splice(at..at, again.repeat(1 + far % 3));
        }
        _ => drop(document.splice(at..at, SPLINTERS[splinter % SPLINTERS.len()].iter().copied())),
    }
}

#[test]
fn documents_as_clients_send_them_are_read() {
    for (document, read) in DOCUMENTS {
        assert!(read(document.as_bytes()).is_ok(), "{document}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A signature covers what was sent, whatever that is; and no document is let in that has no bound.
    #[test]
    fn signed_heads_say_anything(
        method in select(&["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS"][..]),
        target in target(),
        headers in headers(),
    ) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match understand(&signed(method, &target, &headers, None), &Endpoint::default()) {
            Err(error) => {
                let wrong = [ErrorCode::SignatureDoesNotMatch, ErrorCode::InternalError];
                prop_assert!(!wrong.contains(&error.code()), "{error:?}");
            }
            Ok(request) => {
                let bound = match request.body_use {
                    BodyUse::Document { bytes_max, .. } => bytes_max,
                    _ => limits::PUT_BYTES_MAX,
                };
                prop_assert!(request.body.bytes_max() <= bound, "{request:?}");
            }
        }
    }

    #[test]
    fn documents_that_are_nearly_right_become_no_more_than_they_are(
        which in 0..DOCUMENTS.len(),
        changes in vec((0..6u8, any::<usize>(), any::<usize>(), any::<usize>()), 1..6),
    ) {
        let (document, read) = DOCUMENTS[which];
        let mut document = document.as_bytes().to_vec();
        for made in changes {
            change(&mut document, made);
        }
        if let Ok(bytes) = read(&document) {
            prop_assert!(bytes <= document.len());
        }
    }
}
