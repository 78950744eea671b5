//! Answers of CreateMultipartUpload and CompleteMultipartUpload. UploadPart's
//! is [`super::WrittenPart`].

use http::HeaderName;

use super::super::checksum::{ChecksumAlgorithm, ChecksumType, ObjectChecksum};
use super::super::etag::ETag;
use super::super::percent;
use super::super::xml::XmlWriter;
use super::Reply;
use super::object::ENCRYPTION;

/// The answer of CreateMultipartUpload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiateAnswer {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload's id.
    pub upload_id: String,
    /// The checksum that parts and object will have, if one was asked for.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

impl InitiateAnswer {
    /// As a reply.
    pub fn into_reply(self) -> Reply {
        let mut xml = XmlWriter::new();
        xml.root("InitiateMultipartUploadResult");
        xml.text("Bucket", &self.bucket);
        xml.text("Key", &self.key);
        xml.text("UploadId", &self.upload_id);
        xml.close("InitiateMultipartUploadResult");
        let mut reply = Reply::xml(xml.finish());
        reply.headers.insert(ENCRYPTION.0, ENCRYPTION.1);
        if let Some((algorithm, kind)) = self.checksum {
            reply.set(
                HeaderName::from_static("x-amz-checksum-algorithm"),
                algorithm.as_str(),
            );
            reply.set(HeaderName::from_static("x-amz-checksum-type"), kind.as_str());
        }
        reply
    }
}

/// The answer of CompleteMultipartUpload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteAnswer {
    /// The object's URL.
    pub location: String,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The object's ETag.
    pub etag: ETag,
    /// The object's checksum, if it has one.
    pub checksum: Option<ObjectChecksum>,
}

impl CompleteAnswer {
    /// The object's URL: where the request went, at `host` with the percent-encoded `path`, without its query. In
    /// either style that is what names the object.
    pub fn location(host: &str, path: &str) -> String {
        let path = percent::decode_path(path).unwrap_or_default();
        format!("http://{host}{}", percent::encode(&path, percent::Slash::Keep))
    }

    /// The URL of `key` in the bucket where the request went, in either style.
    pub fn location_in(host: &str, path: &str, key: &str) -> String {
        let bucket = Self::location(host, path);
        let key = percent::encode(key, percent::Slash::Keep);
        format!("{}/{key}", bucket.trim_end_matches('/'))
    }

    /// As a reply.
    pub fn into_reply(self) -> Reply {
        let mut xml = XmlWriter::new();
        xml.root("CompleteMultipartUploadResult");
        xml.text("Location", &self.location);
        xml.text("Bucket", &self.bucket);
        xml.text("Key", &self.key);
        xml.text("ETag", &self.etag.quoted());
        if let Some(checksum) = &self.checksum {
            xml.text(checksum.checksum.algorithm().element(), &checksum.value());
            xml.text("ChecksumType", checksum.kind().as_str());
        }
        xml.close("CompleteMultipartUploadResult");
        let mut reply = Reply::xml(xml.finish());
        reply.headers.insert(ENCRYPTION.0, ENCRYPTION.1);
        reply
    }
}
