//! Answers of the operations on versions, and what all answers say of the version they are about.

use super::super::checksum::{ChecksumAlgorithm, ChecksumType};
use super::super::error::{ErrorCode, S3Error};
use super::super::etag::ETag;
use super::super::time::UnixMs;
use super::super::versioning::{ListObjectVersions, VersioningStatus};
use super::super::xml::XmlWriter;
use super::list::Keys;
use super::{Owner, Reply};
use http::header::HeaderName;

const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
const SOURCE_VERSION_ID: HeaderName = HeaderName::from_static("x-amz-copy-source-version-id");
const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
/// Bytes of a listed version's elements beside its key and the owner's names: room to write without growing.
const ENTRY_BYTES: usize = 512;

impl Reply {
    /// The same, naming the version it is about, if that has a name.
    #[must_use]
    pub fn with_version(mut self, version: Option<String>) -> Self {
        if let Some(version) = version {
            self.set(VERSION_ID, &version);
        }
        self
    }

    /// The same, naming the version that was copied, if that has a name.
    #[must_use]
    pub fn with_source_version(mut self, version: Option<String>) -> Self {
        if let Some(version) = version {
            self.set(SOURCE_VERSION_ID, &version);
        }
        self
    }

    /// The same, saying whether it is about a delete marker.
    #[must_use]
    pub fn with_delete_marker(mut self, is_delete_marker: bool) -> Self {
        if is_delete_marker {
            self.set(DELETE_MARKER, "true");
        }
        self
    }
}

/// NoSuchKey because the newest of the key is a delete marker.
pub fn hidden_by_delete_marker(key: &str, version: &str) -> S3Error {
    S3Error::from(ErrorCode::NoSuchKey)
        .with("Key", key)
        .with_header("x-amz-delete-marker", "true")
        .with_header("x-amz-version-id", version)
}

/// MethodNotAllowed because the version asked for is a delete marker, which can only be deleted.
pub fn is_delete_marker(method: &'static str, version: &str, last_modified: Option<UnixMs>) -> S3Error {
    let error = S3Error::from(ErrorCode::MethodNotAllowed)
        .with("Method", method)
        .with("ResourceType", "DeleteMarker")
        .with_header("allow", "DELETE")
        .with_header("x-amz-delete-marker", "true")
        .with_header("x-amz-version-id", version);
    match last_modified {
        Some(time) => error.with_header("last-modified", time.http_date()),
        None => error,
    }
}

/// The answer of GetBucketVersioning: without a status where versioning was never switched on.
pub fn bucket_versioning(status: Option<VersioningStatus>) -> Reply {
    let mut xml = XmlWriter::new();
    xml.root("VersioningConfiguration");
    if let Some(status) = status {
        xml.text("Status", status.as_str());
    }
    xml.close("VersioningConfiguration");
    Reply::xml(xml.finish())
}

/// One version or delete marker of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionListEntry {
    /// The key.
    pub key: String,
    /// Its name.
    pub version_id: String,
    /// Whether it is the newest of its key.
    pub is_latest: bool,
    /// When it was made.
    pub last_modified: UnixMs,
    /// What it stands for; `None`: it is a delete marker.
    pub object: Option<ListedObject>,
}

/// What a listing of versions says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its ETag.
    pub etag: ETag,
    /// Its checksum's algorithm and type, if it has one.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// Its bytes.
    pub bytes: u64,
    /// Its storage class.
    pub storage_class: String,
}

/// A page of ListObjectVersions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListVersionsAnswer {
    /// Versions and delete markers: by key, those of a key newest first.
    pub entries: Vec<VersionListEntry>,
    /// Common prefixes in order.
    pub common_prefixes: Vec<String>,
    /// The bucket's owner.
    pub owner: Owner,
    /// If there is more: the key or common prefix of the last entry, and its version.
    pub next: Option<(String, Option<String>)>,
}

impl ListVersionsAnswer {
    /// As a reply to `request`.
    pub fn into_reply(self, request: &ListObjectVersions) -> Reply {
        let scope = &request.scope;
        let keys: usize = self
            .entries
            .iter()
            .map(|entry| entry.key.len() + ENTRY_BYTES)
            .sum();
        let mut xml = XmlWriter::with_capacity(1024 + keys);
        let keys = Keys {
            encode_urls: scope.encode_urls,
        };
        xml.root("ListVersionsResult");
        xml.text("Name", &scope.bucket);
        keys.text(&mut xml, "Prefix", &scope.prefix);
        keys.text(&mut xml, "KeyMarker", &request.key_marker);
        xml.text(
            "VersionIdMarker",
            request.version_id_marker.as_deref().unwrap_or_default(),
        );
        if let Some((key, version)) = &self.next {
            keys.text(&mut xml, "NextKeyMarker", key);
            if let Some(version) = version {
                xml.text("NextVersionIdMarker", version);
            }
        }
        xml.number("MaxKeys", u64::from(scope.max_keys));
        keys.scope(&mut xml, scope);
        xml.boolean("IsTruncated", self.next.is_some());
        for entry in &self.entries {
            self.write(&mut xml, &keys, entry);
        }
        for prefix in &self.common_prefixes {
            xml.open("CommonPrefixes");
            keys.text(&mut xml, "Prefix", prefix);
            xml.close("CommonPrefixes");
        }
        xml.close("ListVersionsResult");
        Reply::xml(xml.finish())
    }

    fn write(&self, xml: &mut XmlWriter, keys: &Keys, entry: &VersionListEntry) {
        let element = match entry.object {
            Some(_) => "Version",
            None => "DeleteMarker",
        };
        xml.open(element);
        keys.text(xml, "Key", &entry.key);
        xml.text("VersionId", &entry.version_id);
        xml.boolean("IsLatest", entry.is_latest);
        xml.text("LastModified", &entry.last_modified.iso8601());
        if let Some(object) = &entry.object {
            xml.text("ETag", &object.etag.quoted());
            if let Some((algorithm, kind)) = object.checksum {
                xml.text("ChecksumAlgorithm", algorithm.as_str());
                xml.text("ChecksumType", kind.as_str());
            }
            xml.number("Size", object.bytes);
            xml.text("StorageClass", &object.storage_class);
        }
        self.owner.write(xml);
        xml.close(element);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::listing::ListingScope;
    use super::super::RequestIds;
    use super::*;

    fn text(reply: &Reply) -> String {
        String::from_utf8_lossy(&reply.body).into_owned()
    }

    #[test]
    fn versions_and_delete_markers_are_written_in_one_order() {
        let entry = |version: &str, object: Option<ListedObject>| VersionListEntry {
            key: "a b".into(),
            version_id: version.into(),
            is_latest: object.is_none(),
            last_modified: UnixMs(0),
            object,
        };
        let object = ListedObject {
            etag: ETag::parse("e"),
            checksum: None,
            bytes: 7,
            storage_class: "STANDARD".into(),
        };
        let answer = ListVersionsAnswer {
            entries: vec![entry("2", None), entry("1", Some(object))],
            common_prefixes: vec!["p/".into()],
            owner: Owner {
                id: "i".into(),
                display_name: "d".into(),
            },
            next: Some(("a b".into(), Some("1".into()))),
        };
        let request = ListObjectVersions {
            scope: ListingScope {
                bucket: "buck".into(),
                prefix: String::new(),
                delimiter: Some("/".into()),
                max_keys: 3,
                encode_urls: true,
            },
            key_marker: "a".into(),
            version_id_marker: None,
        };
        let owner = "<Owner><ID>i</ID><DisplayName>d</DisplayName></Owner>";
        let time = "<LastModified>1970-01-01T00:00:00.000Z</LastModified>";
        assert_eq!(
            text(&answer.into_reply(&request)),
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                 <ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>buck</Name>\
                 <Prefix></Prefix><KeyMarker>a</KeyMarker><VersionIdMarker></VersionIdMarker>\
                 <NextKeyMarker>a%20b</NextKeyMarker><NextVersionIdMarker>1</NextVersionIdMarker>\
                 <MaxKeys>3</MaxKeys><Delimiter>/</Delimiter><EncodingType>url</EncodingType>\
                 <IsTruncated>true</IsTruncated>\
                 <DeleteMarker><Key>a%20b</Key><VersionId>2</VersionId><IsLatest>true</IsLatest>{time}{owner}\
                 </DeleteMarker>\
                 <Version><Key>a%20b</Key><VersionId>1</VersionId><IsLatest>false</IsLatest>{time}\
                 <ETag>&quot;e&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass>{owner}</Version>\
                 <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListVersionsResult>"
            )
        );
    }

    #[test]
    fn a_delete_marker_says_so_in_headers() {
        let ids = RequestIds {
            request_id: "r".into(),
            host_id: "h".into(),
        };
        let hidden = Reply::error(&hidden_by_delete_marker("k", "v"), "/b/k", &ids);
        assert_eq!(hidden.status.as_u16(), 404);
        let named = Reply::error(&is_delete_marker("GET", "v", Some(UnixMs(0))), "/b/k", &ids);
        assert_eq!(named.status.as_u16(), 405);
        assert_eq!(named.headers["allow"], "DELETE");
        assert_eq!(named.headers["last-modified"], "Thu, 01 Jan 1970 00:00:00 GMT");
        for reply in [hidden, named] {
            assert_eq!(reply.headers[DELETE_MARKER], "true");
            assert_eq!(reply.headers[VERSION_ID], "v");
        }
    }
}
