//! Answers of the operations on objects.

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::super::checksum::{Checksum, ChecksumType, ObjectChecksum};
use super::super::conditions::ReadVerdict;
use super::super::error::{ErrorCode, Result, S3Error};
use super::super::etag::ETag;
use super::super::limits::{DELETE_KEYS_MAX, KEY_BYTES_MAX, VERSION_ID_BYTES_MAX};
use super::super::metadata::{ObjectHeaders, ResponseOverrides};
use super::super::operation::ReadObject;
use super::super::range::ByteRange;
use super::super::time::UnixMs;
use super::super::xml::XmlWriter;
use super::Reply;

/// Ullage always encrypts, and says so on every answer about an object.
pub(super) const ENCRYPTION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-amz-server-side-encryption"),
    HeaderValue::from_static("AES256"),
);
const CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");
const PARTS_COUNT: HeaderName = HeaderName::from_static("x-amz-mp-parts-count");
const TAGGING_COUNT: HeaderName = HeaderName::from_static("x-amz-tagging-count");
const STORAGE_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");
/// The class that S3 does not name in answers.
const STANDARD: &str = "STANDARD";

/// What the table knows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its bytes.
    pub bytes: u64,
    /// Its ETag.
    pub etag: ETag,
    /// When it was stored.
    pub last_modified: UnixMs,
    /// System headers and user metadata.
    pub headers: ObjectHeaders,
    /// How many tags it has.
    pub tags: usize,
    /// Its storage class.
    pub storage_class: String,
    /// Its checksum, if it has one.
    pub checksum: Option<ObjectChecksum>,
    /// The part that was asked for, if there is one.
    pub part: Option<PartInfo>,
}

/// What the table knows of a part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its first byte in the object.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its checksum, if it has one.
    pub checksum: Option<Checksum>,
    /// How many parts the object has; `None` if it was not made of parts, and this is all of it.
    pub of: Option<u32>,
}

/// How a read is to be answered: decided before any byte is fetched.
#[derive(Clone, Debug)]
pub enum ReadAnswer {
    /// 200 or 206: stream these bytes after the head (GetObject), or send
    /// the head alone (HeadObject). `None`: the object is empty.
    Bytes(Reply, Option<ByteRange>),
    /// 304, complete.
    NotModified(Reply),
}

impl ObjectInfo {
    /// Decides conditions and range, and makes the answer's head.
    ///
    /// # Errors
    /// PreconditionFailed and InvalidRange.
    pub fn answer(&self, request: &ReadObject) -> Result<ReadAnswer> {
        match request.conditions.evaluate(&self.etag, self.last_modified) {
            ReadVerdict::PreconditionFailed(condition) => return Err(S3Error::precondition(condition)),
            ReadVerdict::NotModified => {
                let mut reply = Reply::empty(StatusCode::NOT_MODIFIED);
                self.write_validators(&mut reply);
                // RFC 9110, section 15.4.5: what a 200 would have said to caches.
                let mut all = HeaderMap::new();
                self.headers.write_to(&mut all, &ResponseOverrides::default());
                for name in [header::CACHE_CONTROL, header::EXPIRES] {
                    if let Some(value) = all.remove(&name) {
                        reply.headers.insert(name, value);
                    }
                }
                return Ok(ReadAnswer::NotModified(reply));
            }
            ReadVerdict::Proceed => {}
        }
        let selected = self.selected(request)?;
        let whole = (self.bytes > 0).then_some(ByteRange {
            start: 0,
            length: self.bytes,
        });
        let range = match selected {
            Some(selected) => Some(selected).filter(|range| range.length > 0),
            None => whole,
        };
        let status = if range.is_some() && selected.is_some() {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        };
        let mut reply = Reply::empty(status);
        self.write_validators(&mut reply);
        self.headers.write_to(&mut reply.headers, &request.overrides);
        reply
            .headers
            .insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        reply.headers.insert(
            header::CONTENT_LENGTH,
            range.map_or(0, |range| range.length).into(),
        );
        if let Some(range) = range.filter(|_| selected.is_some()) {
            reply.set(header::CONTENT_RANGE, &range.content_range(self.bytes));
        }
        if let Some(of) = self.part.and_then(|part| part.of) {
            reply.headers.insert(PARTS_COUNT, of.into());
        }
        reply.headers.insert(ENCRYPTION.0, ENCRYPTION.1);
        if self.storage_class != STANDARD {
            reply.set(STORAGE_CLASS, &self.storage_class);
        }
        if self.tags > 0 {
            reply.headers.insert(TAGGING_COUNT, self.tags.into());
        }
        if request.checksum_mode {
            self.write_checksum_of(selected, &mut reply);
        }
        Ok(ReadAnswer::Bytes(reply, range))
    }

    /// The bytes that the request selects, if it does: a range, or a part, which may be empty.
    fn selected(&self, request: &ReadObject) -> Result<Option<ByteRange>> {
        if let Some(number) = request.part_number {
            let part = self.part.ok_or_else(|| {
                S3Error::from(ErrorCode::InvalidPartNumber).with("PartNumberRequested", number.to_string())
            })?;
            return Ok(Some(ByteRange {
                start: part.offset,
                length: part.bytes,
            }));
        }
        let holds = request.conditions.range_holds(&self.etag, self.last_modified);
        let range = request.range.filter(|_| holds);
        range.map(|range| range.resolve(self.bytes)).transpose()
    }

    /// The checksum of the bytes that are sent: the object's with all of it; a part's with a part, where the object's is
    /// made of its parts'. With a range, and with a part of an object whose checksum is that of all its bytes, there is
    /// none: clients that verify would find the object's wrong.
    fn write_checksum_of(&self, selected: Option<ByteRange>, reply: &mut Reply) {
        match (self.part, selected) {
            (
                Some(PartInfo {
                    of: Some(_),
                    checksum,
                    ..
                }),
                _,
            ) => {
                let kind = ChecksumType::Composite;
                let whole = self.checksum.filter(|whole| whole.kind() == kind);
                let algorithm = whole.map(|whole| whole.checksum.algorithm());
                if let Some(checksum) = checksum.filter(|part| Some(part.algorithm()) == algorithm) {
                    write_checksum(reply, Some(&ObjectChecksum::full(checksum)));
                    reply.set(CHECKSUM_TYPE, kind.as_str());
                }
            }
            (Some(_), _) | (None, None) => write_checksum(reply, self.checksum.as_ref()),
            (None, Some(_)) => {}
        }
    }

    fn write_validators(&self, reply: &mut Reply) {
        reply.set(header::LAST_MODIFIED, &self.last_modified.http_date());
        reply.set(header::ETAG, &self.etag.quoted());
    }
}

fn write_checksum(reply: &mut Reply, checksum: Option<&ObjectChecksum>) {
    if let Some(checksum) = checksum {
        reply.set(
            HeaderName::from_static(checksum.checksum.algorithm().header()),
            &checksum.value(),
        );
        reply.set(CHECKSUM_TYPE, checksum.kind().as_str());
    }
}

/// The answer of PutObject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The object's ETag.
    pub etag: ETag,
    /// The object's checksum.
    pub checksum: Option<Checksum>,
}

impl StoredAnswer {
    /// As a reply.
    pub fn into_reply(self) -> Reply {
        let mut reply = Reply::empty(StatusCode::OK);
        reply.set(header::ETAG, &self.etag.quoted());
        reply.headers.insert(ENCRYPTION.0, ENCRYPTION.1);
        write_checksum(&mut reply, self.checksum.map(ObjectChecksum::full).as_ref());
        reply
    }
}

/// The answer of CopyObject and of UploadPartCopy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyAnswer {
    /// The copy's ETag.
    pub etag: ETag,
    /// When it was made.
    pub last_modified: UnixMs,
    /// Its checksum, if it has one.
    pub checksum: Option<ObjectChecksum>,
}

impl CopyAnswer {
    /// As the reply of CopyObject.
    pub fn into_reply(self) -> Reply {
        self.reply("CopyObjectResult", true)
    }

    /// As the reply of UploadPartCopy: a part's checksum has no type.
    pub fn into_part_reply(self) -> Reply {
        self.reply("CopyPartResult", false)
    }

    fn reply(self, root: &str, with_type: bool) -> Reply {
        let mut xml = XmlWriter::new();
        xml.root(root);
        xml.text("ETag", &self.etag.quoted());
        xml.text("LastModified", &self.last_modified.iso8601());
        if let Some(checksum) = &self.checksum {
            if with_type {
                xml.text("ChecksumType", checksum.kind().as_str());
            }
            xml.text(checksum.checksum.algorithm().element(), &checksum.value());
        }
        xml.close(root);
        let mut reply = Reply::xml(xml.finish());
        reply.headers.insert(ENCRYPTION.0, ENCRYPTION.1);
        reply
    }
}

/// The answer of UploadPart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenPart {
    /// The part's ETag.
    pub etag: ETag,
    /// The part's checksum, if the client or the upload asked for one.
    pub checksum: Option<Checksum>,
}

impl WrittenPart {
    /// As a reply: like an object's, but a part's checksum has no type.
    pub fn into_reply(self) -> Reply {
        let mut reply = StoredAnswer {
            etag: self.etag,
            checksum: self.checksum,
        }
        .into_reply();
        reply.headers.remove(CHECKSUM_TYPE);
        reply
    }
}

/// What became of one key of DeleteObjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOutcome {
    /// The key.
    pub key: String,
    /// The version asked for.
    pub version_id: Option<String>,
    /// What was deleted, or why not.
    pub outcome: Result<DeletedVersion>,
}

/// What a delete made or removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedVersion {
    /// The delete marker that was made, or the version that was removed, if it has a name.
    pub version_id: Option<String>,
    /// It is a delete marker.
    pub delete_marker: bool,
}

/// The answer of DeleteObjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteObjectsAnswer {
    /// One outcome for each key, in the order asked.
    pub outcomes: Vec<DeleteOutcome>,
    /// Leave out what succeeded.
    pub quiet: bool,
}

impl DeleteObjectsAnswer {
    /// Bytes of the answer to a document of `document` bytes at most: a byte of a key or of a version's name is at most
    /// six when it is escaped, and every key has an element around it there and an error with its message here.
    pub fn bytes_max(document: u64) -> u64 {
        const ESCAPED: u64 = 6;
        const ERROR_BYTES: u64 = 512;
        const ELEMENT_BYTES_MIN: u64 = "<Object><Key></Key></Object>".len() as u64;
        let keys = (document / ELEMENT_BYTES_MIN).min(DELETE_KEYS_MAX as u64);
        let escaped = ESCAPED * document.min(keys * (KEY_BYTES_MAX + VERSION_ID_BYTES_MAX) as u64);
        ERROR_BYTES * (keys + 1) + escaped
    }

    /// As a reply.
    pub fn into_reply(self) -> Reply {
        let mut xml = XmlWriter::with_capacity(256 + self.outcomes.len() * 128);
        xml.root("DeleteResult");
        for one in &self.outcomes {
            let named = |xml: &mut XmlWriter| {
                xml.text("Key", &one.key);
                if let Some(version) = &one.version_id {
                    xml.text("VersionId", version);
                }
            };
            match &one.outcome {
                Ok(_) if self.quiet => {}
                Ok(deleted) => {
                    xml.open("Deleted");
                    named(&mut xml);
                    if deleted.delete_marker {
                        xml.boolean("DeleteMarker", true);
                        if let Some(version) = &deleted.version_id {
                            xml.text("DeleteMarkerVersionId", version);
                        }
                    }
                    xml.close("Deleted");
                }
                Err(error) => {
                    xml.open("Error");
                    named(&mut xml);
                    xml.text("Code", error.code().as_str());
                    xml.text("Message", error.message());
                    xml.close("Error");
                }
            }
        }
        xml.close("DeleteResult");
        Reply::xml(xml.finish())
    }
}
