//! Cross-origin requests: the browsers' question before one, and what answers say besides. Nobody is known here
//! and nothing is changed.

use crate::directory::Bucket;
use crate::error::Error;
use crate::s3::cors::{Asked, CrossOrigin, Preflight};
use crate::s3::error::Result;
use crate::s3::names::check_bucket_name;
use crate::s3::{Endpoint, Head, Reply};
use crate::store::Store;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use ullage_model::rejection::Rejection;

/// PreflightBucket and PreflightObject.
pub(crate) async fn preflight(store: &Store, head: &Head<'_>) -> Result<Reply> {
    let preflight = Preflight::parse(head)?;
    let name = head.bucket().unwrap_or("");
    let bucket = if check_bucket_name(name).is_ok() {
        match store.directory().bucket(name).await {
            Ok(bucket) => Some(bucket),
            Err(Error::Rejected(Rejection::NoSuchBucket)) => None,
            Err(error) => return Err(super::s3_error(error)),
        }
    } else {
        None
    };
    let mut reply = Reply::empty(StatusCode::OK);
    let asked = match (&bucket, rules(bucket.as_ref())) {
        (None, _) => Asked::NoBucket,
        (Some(_), None) => Asked::NoRules,
        (Some(_), Some(rules)) => Asked::Rules(rules),
    };
    reply.headers = preflight.judge(asked)?;
    Ok(reply)
}

/// Adds to an answer what the bucket's rules say of the request's origin. Answers to those who may not know of
/// the bucket say it too: without it a browser hides the error from its page.
pub(crate) async fn add_headers(store: &Store, endpoint: &Endpoint, parts: &Parts, headers: &mut HeaderMap) {
    let Some(origin) = CrossOrigin::of(&parts.headers) else {
        return;
    };
    let Ok(head) = Head::parse(parts, endpoint) else {
        return;
    };
    let Some(name) = head.bucket().filter(|name| check_bucket_name(name).is_ok()) else {
        return;
    };
    // Whatever stands in the way of looking it up, the answer itself is given.
    let bucket = store.directory().bucket(name).await.ok();
    if let Some(rules) = rules(bucket.as_ref()) {
        rules.add_to(&origin, parts.method.as_str(), headers);
    }
}

fn rules(bucket: Option<&Arc<Bucket>>) -> Option<&crate::s3::cors::CorsRules> {
    bucket.and_then(|bucket| bucket.cors.as_ref())
}
