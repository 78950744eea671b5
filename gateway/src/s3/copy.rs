//! CopyObject as a client writes it: where from, under which conditions, with whose headers.

use super::acl::CannedAcl;
use super::checksum::ChecksumAlgorithm;
use super::conditions::{ReadConditions, ReadVerdict, WriteCondition};
use super::error::{ErrorCode, Result, S3Error};
use super::etag::{ETag, ETagCondition};
use super::head::Head;
use super::limits::PUT_BYTES_MAX;
use super::metadata::ObjectHeaders;
use super::names::check_bucket_name;
use super::operation::{UploadRequest, bucket, key, parse_part_number, storage_class, upload_request};
use super::percent;
use super::range::{ByteRange, number};
use super::tagging::Tags;
use super::time::UnixMs;
use super::versioning::check_version_id;

/// CopyObject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyObject {
    /// What is copied.
    pub source: CopySource,
    /// The bucket of the copy.
    pub bucket: String,
    /// The key of the copy.
    pub key: String,
    /// The copy's headers and metadata, if they are not the source's (`x-amz-metadata-directive: REPLACE`).
    pub headers: Option<ObjectHeaders>,
    /// The copy's tags, if they are not the source's (`x-amz-tagging-directive: REPLACE`).
    pub tags: Option<Tags>,
    /// The copy's `x-amz-acl`; the source's list never comes along.
    pub acl: Option<CannedAcl>,
    /// `x-amz-storage-class` as sent.
    pub storage_class: Option<String>,
    /// To be decided together with the write.
    pub condition: WriteCondition,
    /// The checksum that the copy shall have, if one was asked for.
    pub checksum: Option<ChecksumAlgorithm>,
}

/// UploadPartCopy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadPartCopy {
    /// What is copied.
    pub source: CopySource,
    /// Which bytes of it, first and last; all of them if none are named.
    pub range: Option<(u64, u64)>,
    /// The upload.
    pub upload: UploadRequest,
    /// 1 to 10,000.
    pub part_number: u32,
}

/// The source of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopySource {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// `?versionId=` behind the key; without it the current version is meant.
    pub version_id: Option<String>,
    /// `x-amz-copy-source-if-…`
    pub conditions: ReadConditions,
    /// `x-amz-source-expected-bucket-owner`
    pub expected_owner: Option<String>,
}

impl CopyObject {
    /// Reads the request.
    ///
    /// # Errors
    /// InvalidArgument for a source that is none, or a directive that S3 does not have; InvalidRequest for a copy
    /// to itself that changes nothing.
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        let copy = Self {
            source: CopySource::parse(head)?,
            bucket: bucket(head)?,
            key: key(head)?,
            headers: if replaces(head, "x-amz-metadata-directive", "Unknown metadata directive.")? {
                Some(ObjectHeaders::parse(head)?)
            } else {
                None
            },
            tags: if replaces(head, "x-amz-tagging-directive", "Unknown tagging directive.")? {
                Some(Tags::parse_header(head)?)
            } else {
                None
            },
            acl: CannedAcl::parse_header(head)?,
            storage_class: storage_class(head)?,
            condition: WriteCondition::parse(head)?,
            checksum: head
                .amz("x-amz-checksum-algorithm")?
                .map(ChecksumAlgorithm::parse)
                .transpose()?,
        };
        let to_itself = (&copy.source.bucket, &copy.source.key) == (&copy.bucket, &copy.key);
        let changes = copy.headers.is_some()
            || copy.storage_class.is_some()
            || head.amz("x-amz-server-side-encryption")?.is_some();
        // Naming a version brings an old one back.
        if to_itself && !changes && copy.source.version_id.is_none() {
            return Err(S3Error::new(
                ErrorCode::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes.",
            ));
        }
        Ok(copy)
    }
}

const RANGE: &str = "x-amz-copy-source-range";

impl UploadPartCopy {
    /// Reads the request.
    ///
    /// # Errors
    /// InvalidArgument for a source that is none, a range that is none, or a part number out of bounds.
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        super::conditions::refuse_all(head)?;
        let range = match head.amz(RANGE)? {
            None => None,
            Some(text) => Some(first_and_last(text).ok_or_else(|| {
                S3Error::argument(
                    RANGE,
                    text,
                    "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last \
                     are the zero-based offsets of the first and last bytes to copy",
                )
            })?),
        };
        Ok(Self {
            source: CopySource::parse(head)?,
            range,
            upload: upload_request(head)?,
            part_number: parse_part_number(head.parameter("partNumber")?.unwrap_or(""))?,
        })
    }

    /// The bytes to be copied of a source of `source_bytes`; their number is 0 only if it has none.
    ///
    /// # Errors
    /// InvalidArgument for a range that is not in the source, InvalidRequest for more than a part may have.
    pub fn resolve(&self, source_bytes: u64) -> Result<ByteRange> {
        let wanted = match self.range {
            None => ByteRange {
                start: 0,
                length: source_bytes,
            },
            Some((first, last)) if last < source_bytes => ByteRange {
                start: first,
                length: last - first + 1,
            },
            Some((first, last)) => {
                return Err(S3Error::argument(
                    RANGE,
                    &format!("bytes={first}-{last}"),
                    format!("Range specified is not valid for source object of size: {source_bytes}"),
                ));
            }
        };
        check_length(wanted.length)?;
        Ok(wanted)
    }
}

/// `bytes=first-last` to the letter: what Range forgives, this does not.
fn first_and_last(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

impl CopySource {
    /// Reads `x-amz-copy-source` and what belongs to it. The header is percent-encoded; a slash in front is no
    /// matter.
    ///
    /// # Errors
    /// InvalidArgument, InvalidBucketName.
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        const NAME: &str = "x-amz-copy-source";
        let text = head.amz(NAME)?.unwrap_or("");
        let wrong = || {
            S3Error::argument(
                NAME,
                text,
                "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            )
        };
        // A question mark of the key's own is sent as %3F.
        let (path, version) = match text.split_once("?versionId=") {
            Some((path, version)) => (path, Some(version)),
            None => (text, None),
        };
        let version = version
            .map(|version| percent::decode_path(version).ok_or_else(wrong))
            .transpose()?;
        let path = percent::decode_path(path).ok_or_else(wrong)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = path.split_once('/').ok_or_else(wrong)?;
        check_bucket_name(bucket)?;
        if key.is_empty() || key.len() > super::limits::KEY_BYTES_MAX {
            return Err(wrong());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: version
                .map(|version| check_version_id(&version).map(str::to_owned))
                .transpose()?,
            conditions: conditions(head)?,
            expected_owner: head.amz("x-amz-source-expected-bucket-owner")?.map(str::to_owned),
        })
    }

    /// Judges the conditions on the source.
    ///
    /// # Errors
    /// PreconditionFailed: a copy has no "not modified".
    pub fn judge(&self, etag: &ETag, last_modified: UnixMs) -> Result<()> {
        let conditions = &self.conditions;
        match conditions.evaluate(etag, last_modified) {
            ReadVerdict::Proceed => Ok(()),
            ReadVerdict::PreconditionFailed("If-Match") => {
                Err(S3Error::precondition("x-amz-copy-source-If-Match"))
            }
            ReadVerdict::PreconditionFailed(_) => {
                Err(S3Error::precondition("x-amz-copy-source-If-Unmodified-Since"))
            }
            ReadVerdict::NotModified if conditions.if_none_match.is_some() => {
                Err(S3Error::precondition("x-amz-copy-source-If-None-Match"))
            }
            ReadVerdict::NotModified => Err(S3Error::precondition("x-amz-copy-source-If-Modified-Since")),
        }
    }
}

/// Refuses to copy more bytes at once than one body may have.
///
/// # Errors
/// InvalidRequest.
pub fn check_length(bytes: u64) -> Result<()> {
    if bytes <= PUT_BYTES_MAX {
        return Ok(());
    }
    Err(S3Error::new(
        ErrorCode::InvalidRequest,
        format!(
            "The specified copy source is larger than the maximum allowable size for a copy source: {PUT_BYTES_MAX}"
        ),
    ))
}

/// Whether a directive says `REPLACE`; without one it is `COPY`.
fn replaces(head: &Head<'_>, name: &'static str, unknown: &'static str) -> Result<bool> {
    match head.amz(name)? {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => Err(S3Error::argument(name, other, unknown)),
    }
}

fn conditions(head: &Head<'_>) -> Result<ReadConditions> {
    let etags = |name: &'static str, keep_weak| -> Result<Option<ETagCondition>> {
        head.amz(name)?
            .map(|text| ETagCondition::parse(name, text, keep_weak))
            .transpose()
    };
    let date = |name: &'static str| -> Result<Option<UnixMs>> {
        let Some(text) = head.amz(name)? else {
            return Ok(None);
        };
        let date = UnixMs::parse_http_date(text);
        date.map(Some)
            .ok_or_else(|| S3Error::argument(name, text, "The date is not in the form of HTTP."))
    };
    Ok(ReadConditions {
        if_match: etags("x-amz-copy-source-if-match", false)?,
        if_none_match: etags("x-amz-copy-source-if-none-match", true)?,
        if_modified_since: date("x-amz-copy-source-if-modified-since")?,
        if_unmodified_since: date("x-amz-copy-source-if-unmodified-since")?,
        if_range: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::operation::Operation;
    use super::super::testing::request;
    use super::*;

    fn copy(target: &str, headers: &[(&str, &str)]) -> Result<CopyObject> {
        request("PUT", target, headers).map(|request| match request.operation {
            Operation::CopyObject(copy) => copy,
            other => panic!("{other:?} is no copy"),
        })
    }

    #[test]
    fn dates_of_conditions_must_be_dates() {
        let date = |text| {
            let headers = [
                ("x-amz-copy-source", "from/key"),
                ("x-amz-copy-source-if-unmodified-since", text),
            ];
            copy("/buck/to", &headers).map(drop).map_err(|error| error.code())
        };
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Ok(()));
        assert_eq!(date("2026-11-23T00:00:00Z"), Err(ErrorCode::InvalidArgument));
    }

    fn part(headers: &[(&str, &str)]) -> std::result::Result<UploadPartCopy, ErrorCode> {
        let headers = [&[("x-amz-copy-source", "from/key")], headers].concat();
        request("PUT", "/buck/to?partNumber=3&uploadId=up", &headers)
            .map(|request| match request.operation {
                Operation::UploadPartCopy(part) => part,
                other => panic!("{other:?} is no copy of a part"),
            })
            .map_err(|error| error.code())
    }

    #[test]
    fn parts_are_copied_whole_or_in_a_range() {
        let whole = part(&[]).unwrap();
        assert_eq!((whole.range, whole.part_number), (None, 3));
        assert_eq!(
            (whole.source.key.as_str(), whole.upload.key.as_str()),
            ("key", "to")
        );
        let resolved = |part: &UploadPartCopy, bytes| {
            part.resolve(bytes)
                .map(|range| (range.start, range.length))
                .map_err(|error| error.code())
        };
        assert_eq!(resolved(&whole, 0), Ok((0, 0)));
        assert_eq!(resolved(&whole, 5 << 30), Ok((0, 5 << 30)));
        assert_eq!(resolved(&whole, (5 << 30) + 1), Err(ErrorCode::InvalidRequest));
        let some = part(&[(RANGE, "bytes=10-19")]).unwrap();
        assert_eq!(resolved(&some, 20), Ok((10, 10)));
        assert_eq!(resolved(&some, 19), Err(ErrorCode::InvalidArgument));
        for wrong in [
            "bytes=10-",
            "bytes=-10",
            "10-19",
            "bytes=19-10",
            "bytes=1-2,4-5",
            "bytes=a-b",
            "Bytes = 1 - 5",
            "Bytes=1-5",
            "bytes=1 -5",
            "",
        ] {
            assert_eq!(
                part(&[(RANGE, wrong)]),
                Err(ErrorCode::InvalidArgument),
                "{wrong}"
            );
        }
        assert_eq!(part(&[("x-amz-meta-a", "b")]), Err(ErrorCode::NotImplemented));
        assert_eq!(part(&[("if-match", "b")]), Err(ErrorCode::NotImplemented));
    }

    fn source(text: &str) -> std::result::Result<(String, String), ErrorCode> {
        copy("/buck/to", &[("x-amz-copy-source", text)])
            .map(|copy| (copy.source.bucket, copy.source.key))
            .map_err(|error| error.code())
    }

    #[test]
    fn sources_are_read_with_and_without_a_slash_and_decoded_once() {
        let named = |key: &str| Ok(("from".to_owned(), key.to_owned()));
        assert_eq!(source("from/a/b"), named("a/b"));
        assert_eq!(source("/from/a%20b"), named("a b"));
        assert_eq!(source("from/a%252Fb"), named("a%2Fb"));
        assert_eq!(source("from%2Fkey"), named("key"));
        assert_eq!(source("from/a+b"), named("a+b"));
        assert_eq!(source("from/x%3FversionId=y"), named("x?versionId=y"));
        assert_eq!(source("from/key?versionId=null"), named("key"));
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for (text, code) in [
            ("", ErrorCode::InvalidArgument),
            ("from", ErrorCode::InvalidArgument),
            ("from/", ErrorCode::InvalidArgument),
            ("from/%zz", ErrorCode::InvalidArgument),
            ("F/key", ErrorCode::InvalidBucketName),
            ("from/key?versionId=", ErrorCode::InvalidArgument),
        ] {
            assert_eq!(source(text), Err(code), "{text:?}");
        }
    }

    #[test]
    fn headers_are_the_sources_unless_replaced() {
        let from = ("x-amz-copy-source", "from/key");
        let given = ("x-amz-meta-colour", "red");
        assert_eq!(copy("/buck/to", &[from, given]).unwrap().headers, None);
        let replace = ("x-amz-metadata-directive", "REPLACE");
        let headers = copy("/buck/to", &[from, given, replace])
            .unwrap()
            .headers
            .unwrap();
        assert_eq!(headers.metadata.get("colour").map(String::as_str), Some("red"));
        let strange = copy("/buck/to", &[from, ("x-amz-metadata-directive", "MERGE")]);
        assert_eq!(
            strange.map_err(|error| error.code()),
            Err(ErrorCode::InvalidArgument)
        );
    }

    #[test]
    fn a_copy_to_itself_must_change_something() {
        let from = ("x-amz-copy-source", "buck/a%2Fb");
        let refused = copy("/buck/a/b", &[from]).map_err(|error| error.code());
        assert_eq!(refused, Err(ErrorCode::InvalidRequest));
        for change in [
            ("x-amz-metadata-directive", "REPLACE"),
            ("x-amz-storage-class", "COLD"),
            ("x-amz-server-side-encryption", "AES256"),
        ] {
            assert!(copy("/buck/a/b", &[from, change]).is_ok(), "{change:?}");
        }
    }

    #[test]
    fn conditions_on_the_source_are_judged_and_named() {
        let judged = |name: &'static str, value: &str| {
            let headers = [("x-amz-copy-source", "from/key"), (name, value)];
            let copy = copy("/buck/to", &headers).unwrap();
            let verdict = copy.source.judge(&ETag::parse("a"), UnixMs(1_445_412_480_500));
            verdict.map_err(|error| error.detail("Condition").map(str::to_owned))
        };
        let failed = |name: &str| Err(Some(name.to_owned()));
        assert_eq!(judged("x-amz-copy-source-if-match", "\"a\""), Ok(()));
        assert_eq!(
            judged("x-amz-copy-source-if-match", "\"b\""),
            failed("x-amz-copy-source-If-Match")
        );
        assert_eq!(
            judged("x-amz-copy-source-if-none-match", "\"a\""),
            failed("x-amz-copy-source-If-None-Match")
        );
        assert_eq!(
            judged(
                "x-amz-copy-source-if-modified-since",
                "Wed, 21 Oct 2015 07:28:00 GMT"
            ),
            failed("x-amz-copy-source-If-Modified-Since")
        );
        assert_eq!(
            judged(
                "x-amz-copy-source-if-unmodified-since",
                "Wed, 21 Oct 2015 07:27:59 GMT"
            ),
            failed("x-amz-copy-source-If-Unmodified-Since")
        );
    }
}
