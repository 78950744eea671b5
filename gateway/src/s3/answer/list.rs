//! Answers of ListObjects and ListObjectsV2.

use super::super::checksum::{ChecksumAlgorithm, ChecksumType};
use super::super::etag::ETag;
use super::super::listing::{ListObjects, ListObjectsV2, ListingScope};
use super::super::percent::{self, Slash};
use super::super::time::UnixMs;
use super::super::xml::XmlWriter;
use super::Reply;

/// Bytes of a listed key's elements beside the key: room to write without
/// growing.
const ENTRY_BYTES: usize = 256;

/// Who owns a bucket or object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Canonical id.
    pub id: String,
    /// Name for people.
    pub display_name: String,
}

impl Owner {
    pub(super) fn write(&self, xml: &mut XmlWriter) {
        self.write_as(xml, "Owner");
    }

    /// As an element of this name.
    pub(super) fn write_as(&self, xml: &mut XmlWriter, name: &str) {
        xml.open(name);
        xml.text("ID", &self.id);
        xml.text("DisplayName", &self.display_name);
        xml.close(name);
    }
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The key.
    pub key: String,
    /// When it was stored.
    pub last_modified: UnixMs,
    /// Its ETag.
    pub etag: ETag,
    /// Its checksum's algorithm and type, if it has one.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// Its bytes.
    pub bytes: u64,
    /// Its storage class.
    pub storage_class: String,
}

/// A page of ListObjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjectsAnswer {
    /// Objects in the order of their keys' bytes.
    pub entries: Vec<ListEntry>,
    /// Common prefixes in order.
    pub common_prefixes: Vec<String>,
    /// The bucket's owner.
    pub owner: Owner,
    /// If there is more: the last key or common prefix of this page.
    pub next_marker: Option<String>,
}

/// A page of ListObjectsV2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjectsV2Answer {
    /// Objects in the order of their keys' bytes.
    pub entries: Vec<ListEntry>,
    /// Common prefixes in order.
    pub common_prefixes: Vec<String>,
    /// The bucket's owner.
    pub owner: Owner,
    /// If there is more: the token of the next page
    /// ([`super::super::token::Position::encode`]).
    pub next: Option<String>,
}

/// Writes keys as the request wants them.
pub(super) struct Keys {
    pub(super) encode_urls: bool,
}

impl Keys {
    /// `encoding-type=url` escapes all but letters, digits, `-._~` and `/`.
    /// A space is `%20`, which every client decodes, where S3 writes `+`.
    pub(super) fn text(&self, xml: &mut XmlWriter, name: &str, text: &str) {
        if self.encode_urls {
            xml.text(name, &percent::encode(text, Slash::Keep));
        } else {
            xml.text(name, text);
        }
    }

    fn tail(&self, xml: &mut XmlWriter, entries: &[ListEntry], prefixes: &[String], owner: Option<&Owner>) {
        for entry in entries {
            xml.open("Contents");
            self.text(xml, "Key", &entry.key);
            xml.text("LastModified", &entry.last_modified.iso8601());
            xml.text("ETag", &entry.etag.quoted());
            if let Some((algorithm, kind)) = entry.checksum {
                xml.text("ChecksumAlgorithm", algorithm.as_str());
                xml.text("ChecksumType", kind.as_str());
            }
            xml.number("Size", entry.bytes);
            if let Some(owner) = owner {
                owner.write(xml);
            }
            xml.text("StorageClass", &entry.storage_class);
            xml.close("Contents");
        }
        for prefix in prefixes {
            xml.open("CommonPrefixes");
            self.text(xml, "Prefix", prefix);
            xml.close("CommonPrefixes");
        }
        xml.close("ListBucketResult");
    }

    /// Delimiter and EncodingType, where both versions have them.
    pub(super) fn scope(&self, xml: &mut XmlWriter, scope: &ListingScope) {
        if let Some(delimiter) = &scope.delimiter {
            self.text(xml, "Delimiter", delimiter);
        }
        if scope.encode_urls {
            xml.text("EncodingType", "url");
        }
    }
}

fn start(scope: &ListingScope, entries: &[ListEntry]) -> (XmlWriter, Keys) {
    let keys: usize = entries.iter().map(|entry| entry.key.len() + ENTRY_BYTES).sum();
    let mut xml = XmlWriter::with_capacity(1024 + keys);
    let writer = Keys {
        encode_urls: scope.encode_urls,
    };
    xml.root("ListBucketResult");
    xml.text("Name", &scope.bucket);
    writer.text(&mut xml, "Prefix", &scope.prefix);
    (xml, writer)
}

impl ListObjectsAnswer {
    /// As a reply to `request`.
    pub fn into_reply(self, request: &ListObjects) -> Reply {
        let scope = &request.scope;
        let (mut xml, keys) = start(scope, &self.entries);
        keys.text(&mut xml, "Marker", &request.marker);
        // S3 names the next marker only where a client cannot guess it.
        if let Some(marker) = self.next_marker.as_ref().filter(|_| scope.delimiter.is_some()) {
            keys.text(&mut xml, "NextMarker", marker);
        }
        xml.number("MaxKeys", u64::from(scope.max_keys));
        keys.scope(&mut xml, scope);
        xml.boolean("IsTruncated", self.next_marker.is_some());
        keys.tail(&mut xml, &self.entries, &self.common_prefixes, Some(&self.owner));
        Reply::xml(xml.finish())
    }
}

impl ListObjectsV2Answer {
    /// As a reply to `request`.
    pub fn into_reply(self, request: &ListObjectsV2) -> Reply {
        let scope = &request.scope;
        let (mut xml, keys) = start(scope, &self.entries);
        if let Some(start_after) = &request.start_after {
            keys.text(&mut xml, "StartAfter", start_after);
        }
        if let Some(token) = &request.continuation_token {
            xml.text("ContinuationToken", token);
        }
        if let Some(token) = &self.next {
            xml.text("NextContinuationToken", token);
        }
        xml.number(
            "KeyCount",
            (self.entries.len() + self.common_prefixes.len()) as u64,
        );
        xml.number("MaxKeys", u64::from(scope.max_keys));
        keys.scope(&mut xml, scope);
        xml.boolean("IsTruncated", self.next.is_some());
        let owner = request.fetch_owner.then_some(&self.owner);
        keys.tail(&mut xml, &self.entries, &self.common_prefixes, owner);
        Reply::xml(xml.finish())
    }
}
