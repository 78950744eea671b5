//! Typed answers to bytes and headers: S3's element order, its namespace,
//! its headers. Every answer passes through [`Reply::into_http`], which adds
//! the ids and leaves out bodies where HTTP has none.

mod access;
mod attributes;
mod bucket;
mod late;
mod list;
mod multipart;
mod object;
mod post;
mod tagging;
mod uploads;
mod versions;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

pub use access::{access_control_policy, bucket_policy, ownership_controls, policy_status};
pub use attributes::{AttributesAnswer, AttributesPart, PartsPage};
pub use bucket::{BucketEntry, ListBucketsAnswer, bucket_created, bucket_location, deleted, head_bucket};
pub use late::{LATE_DOCUMENT, STILL_AT_IT};
pub use list::{ListEntry, ListObjectsAnswer, ListObjectsV2Answer, Owner};
pub use multipart::{CompleteAnswer, InitiateAnswer};
pub use object::{
    CopyAnswer, DeleteObjectsAnswer, DeleteOutcome, DeletedVersion, ObjectInfo, PartInfo, ReadAnswer,
    StoredAnswer, WrittenPart,
};
pub use post::PostAnswer;
pub use tagging::{tagging, tagging_document};
pub use versions::{
    ListVersionsAnswer, ListedObject, VersionListEntry, bucket_versioning, hidden_by_delete_marker,
    is_delete_marker,
};

pub use uploads::{ListPartsAnswer, ListUploadsAnswer, PartEntry, UploadEntry};

use super::error::{ErrorCode, S3Error};

/// The ids of one request, in every answer and every log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestIds {
    /// `x-amz-request-id`
    pub request_id: String,
    /// `x-amz-id-2`: which gateway answered.
    pub host_id: String,
}

/// An answer: complete, or complete but for an object's bytes.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// All headers but the ids.
    pub headers: HeaderMap,
    /// The document, if there is one. An object's bytes are not in here: the
    /// server streams them after [`Reply::into_http`].
    pub body: Bytes,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");
const XML: HeaderValue = HeaderValue::from_static("application/xml");
/// Seconds after which a caller told to slow down may try again.
const RETRY_AFTER_SECONDS: &str = "1";

impl Reply {
    /// An answer without body.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// 200 with a document.
    pub fn xml(document: String) -> Self {
        let mut reply = Self::empty(StatusCode::OK);
        reply.headers.insert(header::CONTENT_TYPE, XML);
        reply.body = document.into();
        reply
    }

    /// An error's answer. `resource` is the path as it came.
    pub fn error(error: &S3Error, resource: &str, ids: &RequestIds) -> Self {
        let mut reply = Self::xml(error.to_xml(resource, &ids.request_id, &ids.host_id));
        reply.status = error.status();
        for (name, value) in error.headers() {
            reply.set(HeaderName::from_static(name), value);
        }
        match error.code() {
            ErrorCode::InvalidRange => {
                if let Some(bytes) = error.detail("ActualObjectSize") {
                    reply.set(header::CONTENT_RANGE, &format!("bytes */{bytes}"));
                }
            }
            ErrorCode::SlowDown | ErrorCode::ServiceUnavailable => {
                reply.set(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            ErrorCode::AuthorizationHeaderMalformed => {
                // Clients that guessed the region learn it from this header.
                if let Some(region) = error.detail("Region") {
                    reply.set(HeaderName::from_static("x-amz-bucket-region"), region);
                }
            }
            _ => {}
        }
        reply
    }

    /// Sets a header; a value that cannot stand in one is left out, which no
    /// value made by this layer is.
    pub(super) fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.insert(name, value);
        }
    }

    /// The HTTP answer: with the ids, and without a body for HEAD, 204 and
    /// 304. `method` is the request's.
    pub fn into_http(mut self, method: &Method, ids: &RequestIds) -> Response<Bytes> {
        self.set(REQUEST_ID, &ids.request_id);
        self.set(HOST_ID, &ids.host_id);
        let bodiless = *method == Method::HEAD
            || self.status == StatusCode::NO_CONTENT
            || self.status == StatusCode::NOT_MODIFIED;
        if bodiless {
            self.body = Bytes::new();
        }
        if self.status == StatusCode::NO_CONTENT || self.status == StatusCode::NOT_MODIFIED {
            self.headers.remove(header::CONTENT_TYPE);
            self.headers.remove(header::CONTENT_LENGTH);
        }
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

#[cfg(test)]
mod tests;
