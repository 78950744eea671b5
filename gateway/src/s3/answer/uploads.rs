//! Answers of ListMultipartUploads and ListParts.

use super::super::checksum::{Checksum, ChecksumAlgorithm, ChecksumType};
use super::super::etag::ETag;
use super::super::list_uploads::{ListMultipartUploads, ListParts};
use super::super::time::UnixMs;
use super::super::xml::XmlWriter;
use super::Reply;
use super::list::{Keys, Owner};

/// An open upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadEntry {
    /// The key.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// When it was begun.
    pub initiated: UnixMs,
    /// Who began it, and will own the object.
    pub owner: Owner,
    /// The class of the object to be.
    pub storage_class: String,
    /// The checksum of the object to be, if one was asked for.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// A page of ListMultipartUploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListUploadsAnswer {
    /// The uploads, by key and then by age.
    pub uploads: Vec<UploadEntry>,
    /// Common prefixes in order.
    pub common_prefixes: Vec<String>,
    /// If there is more: the key (or common prefix) and the upload that this page ends with.
    pub next: Option<(String, Option<String>)>,
}

impl ListUploadsAnswer {
    /// As a reply to `request`.
    pub fn into_reply(self, request: &ListMultipartUploads) -> Reply {
        let keys = Keys {
            encode_urls: request.encode_urls,
        };
        let mut xml = XmlWriter::with_capacity(1024 + self.uploads.len() * 640);
        xml.root("ListMultipartUploadsResult");
        xml.text("Bucket", &request.bucket);
        keys.text(&mut xml, "KeyMarker", &request.key_marker);
        xml.text(
            "UploadIdMarker",
            request.upload_id_marker.as_deref().unwrap_or(""),
        );
        if let Some((key, _)) = &self.next {
            keys.text(&mut xml, "NextKeyMarker", key);
        }
        keys.text(&mut xml, "Prefix", &request.prefix);
        if let Some(delimiter) = &request.delimiter {
            keys.text(&mut xml, "Delimiter", delimiter);
        }
        if let Some((_, upload)) = &self.next {
            xml.text("NextUploadIdMarker", upload.as_deref().unwrap_or(""));
        }
        xml.number("MaxUploads", u64::from(request.max_uploads));
        xml.boolean("IsTruncated", self.next.is_some());
        for upload in &self.uploads {
            xml.open("Upload");
            if let Some((algorithm, kind)) = upload.checksum {
                xml.text("ChecksumAlgorithm", algorithm.as_str());
                xml.text("ChecksumType", kind.as_str());
            }
            xml.text("Initiated", &upload.initiated.iso8601());
            upload.owner.write_as(&mut xml, "Initiator");
            keys.text(&mut xml, "Key", &upload.key);
            upload.owner.write(&mut xml);
            xml.text("StorageClass", &upload.storage_class);
            xml.text("UploadId", &upload.upload_id);
            xml.close("Upload");
        }
        for prefix in &self.common_prefixes {
            xml.open("CommonPrefixes");
            keys.text(&mut xml, "Prefix", prefix);
            xml.close("CommonPrefixes");
        }
        if request.encode_urls {
            xml.text("EncodingType", "url");
        }
        xml.close("ListMultipartUploadsResult");
        Reply::xml(xml.finish())
    }
}

/// A stored part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartEntry {
    /// Its number.
    pub number: u32,
    /// Its ETag.
    pub etag: ETag,
    /// When it was stored.
    pub last_modified: UnixMs,
    /// Its bytes.
    pub bytes: u64,
    /// Its checksum, if the upload asked for one.
    pub checksum: Option<Checksum>,
}

/// A page of ListParts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPartsAnswer {
    /// The parts in order.
    pub parts: Vec<PartEntry>,
    /// Whether there are more.
    pub more: bool,
    /// Who began the upload.
    pub owner: Owner,
    /// The class of the object to be.
    pub storage_class: String,
    /// The checksum of the object to be, if one was asked for.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

impl ListPartsAnswer {
    /// As a reply to `request`.
    pub fn into_reply(self, request: &ListParts) -> Reply {
        let mut xml = XmlWriter::with_capacity(1024 + self.parts.len() * 256);
        xml.root("ListPartsResult");
        xml.text("Bucket", &request.upload.bucket);
        xml.text("Key", &request.upload.key);
        xml.text("UploadId", &request.upload.upload_id);
        xml.number("PartNumberMarker", u64::from(request.part_number_marker));
        // 0 where nothing follows the marker, as in S3.
        let next = self.parts.last().map_or(0, |part| part.number);
        xml.number("NextPartNumberMarker", u64::from(next));
        xml.number("MaxParts", u64::from(request.max_parts));
        xml.boolean("IsTruncated", self.more);
        for part in &self.parts {
            xml.open("Part");
            if let Some(checksum) = &part.checksum {
                xml.text(checksum.algorithm().element(), &checksum.to_base64());
            }
            xml.text("ETag", &part.etag.quoted());
            xml.text("LastModified", &part.last_modified.iso8601());
            xml.number("PartNumber", u64::from(part.number));
            xml.number("Size", part.bytes);
            xml.close("Part");
        }
        self.owner.write_as(&mut xml, "Initiator");
        self.owner.write(&mut xml);
        xml.text("StorageClass", &self.storage_class);
        if let Some((algorithm, kind)) = self.checksum {
            xml.text("ChecksumAlgorithm", algorithm.as_str());
            xml.text("ChecksumType", kind.as_str());
        }
        xml.close("ListPartsResult");
        Reply::xml(xml.finish())
    }
}
