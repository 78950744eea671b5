//! Answers of the operations on buckets.

use http::StatusCode;
use http::header::{self, HeaderName};

use super::super::time::UnixMs;
use super::super::xml::XmlWriter;
use super::{Owner, Reply};

/// One bucket of ListBuckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketEntry {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: UnixMs,
    /// Its region; S3 names it in paged listings only.
    pub region: Option<String>,
}

/// The answer of ListBuckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListBucketsAnswer {
    /// Whose buckets.
    pub owner: Owner,
    /// In the order of their names.
    pub buckets: Vec<BucketEntry>,
    /// The token of the next page, if there is one.
    pub next: Option<String>,
    /// As asked for.
    pub prefix: Option<String>,
}

impl ListBucketsAnswer {
    /// As a reply.
    pub fn into_reply(self) -> Reply {
        let mut xml = XmlWriter::with_capacity(512 + self.buckets.len() * 160);
        xml.root("ListAllMyBucketsResult");
        self.owner.write(&mut xml);
        xml.open("Buckets");
        for bucket in &self.buckets {
            xml.open("Bucket");
            xml.text("Name", &bucket.name);
            xml.text("CreationDate", &bucket.created.iso8601());
            if let Some(region) = &bucket.region {
                xml.text("BucketRegion", region);
            }
            xml.close("Bucket");
        }
        xml.close("Buckets");
        if let Some(token) = &self.next {
            xml.text("ContinuationToken", token);
        }
        if let Some(prefix) = &self.prefix {
            xml.text("Prefix", prefix);
        }
        xml.close("ListAllMyBucketsResult");
        Reply::xml(xml.finish())
    }
}

/// CreateBucket succeeded.
pub fn bucket_created(bucket: &str) -> Reply {
    let mut reply = Reply::empty(StatusCode::OK);
    reply.set(header::LOCATION, &format!("/{bucket}"));
    reply
}

/// HeadBucket found the bucket.
pub fn head_bucket(region: &str) -> Reply {
    let mut reply = Reply::empty(StatusCode::OK);
    reply.set(HeaderName::from_static("x-amz-bucket-region"), region);
    reply.set(HeaderName::from_static("x-amz-access-point-alias"), "false");
    reply.set(header::CONTENT_TYPE, "application/xml");
    reply
}

/// GetBucketLocation. S3 answers an empty element for us-east-1.
pub fn bucket_location(region: &str) -> Reply {
    let mut xml = XmlWriter::new();
    xml.root("LocationConstraint");
    if region != "us-east-1" {
        xml.content(region);
    }
    xml.close("LocationConstraint");
    Reply::xml(xml.finish())
}

/// DeleteBucket, DeleteObject or AbortMultipartUpload succeeded.
pub fn deleted() -> Reply {
    Reply::empty(StatusCode::NO_CONTENT)
}
