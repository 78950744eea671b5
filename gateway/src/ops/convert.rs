//! Between the words of S3 and the rows of the namespace: entity tags, checksums, headers, conditions, names
//! of uploads. Pure; decides nothing.

use crate::s3::checksum::{Checksum, ChecksumAlgorithm, ChecksumType, ObjectChecksum};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result};
use crate::s3::etag::{ETag, ETagCondition};
use crate::s3::metadata::ObjectHeaders;
use crate::s3::tagging::Tags;
use crate::s3::{S3Error, UnixMs};
use bytes::Bytes;
use ullage_model::cluster_time::WallTime;
use ullage_model::command::{Conditions, EtagMatch, UploadRef};
use ullage_model::ids::UploadId;
use ullage_model::namespace::rows;

/// The class of objects whose writers name none.
pub(crate) const DEFAULT_CLASS: &str = "STANDARD";

/// An entity tag as S3 writes it.
pub(super) fn etag(etag: &rows::Etag) -> ETag {
    ETag::parse(&etag.to_string())
}

/// A time as S3 writes it.
pub(super) fn time(time: WallTime) -> UnixMs {
    UnixMs(time.0)
}

/// The algorithm as rows name it.
pub(super) fn row_algorithm(algorithm: ChecksumAlgorithm) -> rows::ChecksumAlgorithm {
    match algorithm {
        ChecksumAlgorithm::Crc32 => rows::ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32c => rows::ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Crc64Nvme => rows::ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1 => rows::ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256 => rows::ChecksumAlgorithm::Sha256,
    }
}

/// The algorithm as S3 names it.
pub(super) fn algorithm(algorithm: rows::ChecksumAlgorithm) -> ChecksumAlgorithm {
    match algorithm {
        rows::ChecksumAlgorithm::Crc32 => ChecksumAlgorithm::Crc32,
        rows::ChecksumAlgorithm::Crc32c => ChecksumAlgorithm::Crc32c,
        rows::ChecksumAlgorithm::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
        rows::ChecksumAlgorithm::Sha1 => ChecksumAlgorithm::Sha1,
        rows::ChecksumAlgorithm::Sha256 => ChecksumAlgorithm::Sha256,
    }
}

/// The type as rows name it.
pub(super) fn row_kind(kind: ChecksumType) -> rows::ChecksumKind {
    match kind {
        ChecksumType::FullObject => rows::ChecksumKind::FullObject,
        ChecksumType::Composite => rows::ChecksumKind::Composite,
    }
}

/// The type as S3 names it.
pub(super) fn kind(kind: rows::ChecksumKind) -> ChecksumType {
    match kind {
        rows::ChecksumKind::FullObject => ChecksumType::FullObject,
        rows::ChecksumKind::Composite => ChecksumType::Composite,
    }
}

/// The checksum of all bytes of a body, as rows keep it.
pub(super) fn row_checksum(checksum: &Checksum) -> rows::Checksum {
    row_object_checksum(&ObjectChecksum::full(*checksum))
}

/// An object's checksum, as rows keep it.
pub(super) fn row_object_checksum(checksum: &ObjectChecksum) -> rows::Checksum {
    rows::Checksum {
        algorithm: row_algorithm(checksum.checksum.algorithm()),
        kind: row_kind(checksum.kind()),
        value: Bytes::copy_from_slice(checksum.checksum.bytes()),
        parts: checksum.composite_parts.unwrap_or(0),
    }
}

/// A kept checksum as S3 writes it; `None` if its value is not as long as its algorithm says.
pub(super) fn object_checksum(row: &rows::Checksum) -> Option<ObjectChecksum> {
    Some(ObjectChecksum {
        checksum: Checksum::from_bytes(algorithm(row.algorithm), &row.value)?,
        composite_parts: match row.kind {
            rows::ChecksumKind::FullObject => None,
            rows::ChecksumKind::Composite => Some(row.parts),
        },
    })
}

/// A kept checksum of bytes, not of other checksums; `None` for one of those.
pub(super) fn checksum(row: &rows::Checksum) -> Option<Checksum> {
    object_checksum(row)
        .filter(|object| object.composite_parts.is_none())
        .map(|object| object.checksum)
}

/// Headers, metadata and tags as rows keep them.
pub(super) fn row_metadata(headers: ObjectHeaders, tags: Tags) -> rows::Metadata {
    let system = [
        ("content-type", headers.content_type),
        ("cache-control", headers.cache_control),
        ("content-disposition", headers.content_disposition),
        ("content-encoding", headers.content_encoding),
        ("content-language", headers.content_language),
        ("expires", headers.expires),
    ];
    let given = system
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)));
    rows::Metadata {
        headers: given.collect(),
        user: headers.metadata.into_iter().collect(),
        tags: tags.0,
        acl: rows::CannedAcl::Private,
    }
}

/// Headers and metadata as S3 writes them. Names that this version does not know are passed over.
pub(super) fn object_headers(metadata: rows::Metadata) -> ObjectHeaders {
    let mut headers = ObjectHeaders {
        metadata: metadata.user.into_iter().collect(),
        ..ObjectHeaders::default()
    };
    for (name, value) in metadata.headers {
        let slot = match name.as_str() {
            "content-type" => &mut headers.content_type,
            "cache-control" => &mut headers.cache_control,
            "content-disposition" => &mut headers.content_disposition,
            "content-encoding" => &mut headers.content_encoding,
            "content-language" => &mut headers.content_language,
            "expires" => &mut headers.expires,
            _ => continue,
        };
        *slot = Some(value);
    }
    headers
}

/// A write's condition, to be decided with the write.
pub(super) fn conditions(condition: &WriteCondition) -> Conditions {
    match condition {
        WriteCondition::Always => Conditions::default(),
        WriteCondition::IfAbsent => Conditions {
            if_match: None,
            if_none_match: Some(EtagMatch::Any),
        },
        WriteCondition::IfMatch(tags) => Conditions {
            if_match: Some(etag_match(tags)),
            if_none_match: None,
        },
    }
}

fn etag_match(condition: &ETagCondition) -> EtagMatch {
    match condition {
        ETagCondition::Any => EtagMatch::Any,
        ETagCondition::OneOf(tags) => {
            EtagMatch::OneOf(tags.iter().map(|tag| tag.as_str().to_owned()).collect())
        }
    }
}

/// The upload's name on the wire. Its random half cannot be guessed.
pub(super) fn upload_id(upload: UploadRef) -> String {
    format!("{:016x}{:016x}", upload.upload.0, upload.random)
}

/// The inverse of [`upload_id`].
///
/// # Errors
/// NoSuchUpload for every other text.
pub(super) fn parse_upload_id(text: &str) -> Result<UploadRef> {
    let parse = || {
        let valid = text.len() == 32
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let (upload, random) = text.split_at_checked(16).filter(|_| valid)?;
        Some(UploadRef {
            upload: UploadId(u64::from_str_radix(upload, 16).ok()?),
            random: u64::from_str_radix(random, 16).ok()?,
        })
    };
    parse().ok_or_else(|| S3Error::from(ErrorCode::NoSuchUpload).with("UploadId", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_ids_survive_the_round_trip_and_nothing_else_is_one() {
        let upload = UploadRef {
            upload: UploadId(0x0001_0000_0000_002a),
            random: u64::MAX - 5,
        };
        let text = upload_id(upload);
        assert_eq!(parse_upload_id(&text), Ok(upload));
        let upper = text.to_ascii_uppercase();
        for wrong in [
            "",
            "x",
            &text[1..],
            &upper,
            &format!("{text}0"),
            "00000000000000000000000000000é0",
        ] {
            let refused = parse_upload_id(wrong).map_err(|error| error.code());
            assert_eq!(refused, Err(ErrorCode::NoSuchUpload), "{wrong}");
        }
    }

    #[test]
    fn headers_survive_the_round_trip() {
        let headers = ObjectHeaders {
            content_type: Some("text/plain".into()),
            expires: Some("never".into()),
            metadata: [("a".to_owned(), "1".to_owned())].into(),
            ..ObjectHeaders::default()
        };
        let row = row_metadata(headers.clone(), Tags::default());
        assert_eq!(object_headers(row), headers);
    }

    #[test]
    fn checksums_survive_the_round_trip() {
        for algorithm in ChecksumAlgorithm::ALL {
            for composite_parts in [None, Some(3)] {
                let checksum = ObjectChecksum {
                    checksum: Checksum::of(algorithm, b"bytes"),
                    composite_parts,
                };
                assert_eq!(object_checksum(&row_object_checksum(&checksum)), Some(checksum));
            }
        }
        let mut row = row_checksum(&Checksum::of(ChecksumAlgorithm::Crc32, b""));
        row.value = Bytes::from_static(b"too long");
        assert_eq!(object_checksum(&row), None);
    }
}
