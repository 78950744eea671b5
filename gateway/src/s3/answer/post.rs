//! The answer of PostObject.

use http::header;
use http::{HeaderValue, StatusCode};

use super::super::etag::ETag;
use super::super::form::PostSuccess;
use super::super::percent::{Slash, encode};
use super::super::xml::XmlWriter;
use super::Reply;
use super::object::StoredAnswer;

/// An object was stored by a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostAnswer {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Where it is.
    pub location: String,
    /// What PutObject answers.
    pub stored: StoredAnswer,
}

impl PostAnswer {
    /// As a reply of the kind that the form asks for.
    pub fn into_reply(self, success: &PostSuccess) -> Reply {
        let etag = self.stored.etag.clone();
        let mut reply = self.stored.clone().into_reply();
        match success {
            PostSuccess::Redirect(url) => {
                reply.status = StatusCode::SEE_OTHER;
                reply.set(header::LOCATION, &self.redirection(url, &etag));
            }
            PostSuccess::Status(status) => {
                reply.status = *status;
                reply.set(header::LOCATION, &self.location);
                if *status == StatusCode::CREATED {
                    reply
                        .headers
                        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
                    reply.body = self.document(&etag).into();
                }
            }
        }
        reply
    }

    fn document(&self, etag: &ETag) -> String {
        let mut xml = XmlWriter::new();
        xml.open("PostResponse");
        xml.text("Location", &self.location);
        xml.text("Bucket", &self.bucket);
        xml.text("Key", &self.key);
        xml.text("ETag", &etag.quoted());
        xml.close("PostResponse");
        xml.finish()
    }

    /// The address with bucket, key and ETag in its query.
    fn redirection(&self, url: &str, etag: &ETag) -> String {
        let (address, fragment) = match url.split_once('#') {
            Some((address, fragment)) => (address, format!("#{fragment}")),
            None => (url, String::new()),
        };
        let separator = if address.contains('?') { '&' } else { '?' };
        let value = |text: &str| encode(text, Slash::Encode);
        format!(
            "{address}{separator}bucket={}&key={}&etag={}{fragment}",
            value(&self.bucket),
            value(&self.key),
            value(&etag.quoted())
        )
    }
}
