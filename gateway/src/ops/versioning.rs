//! Versions: which one a client means, what it is told when that is not there, whether a bucket keeps old ones, and
//! ListObjectVersions.

use super::convert::{algorithm, etag, kind, time};
use super::errors::undone;
use super::list::{held, memory};
use super::objects_read::no_such_key;
use super::{Body, Call, audited, owner};
use crate::directory::bucket_ref;
use crate::error::Error;
use crate::get::Lookup;
use crate::put::PutError;
use crate::s3::Reply;
use crate::s3::answer::{
    ListVersionsAnswer, ListedObject, VersionListEntry, bucket_versioning, hidden_by_delete_marker,
    is_delete_marker,
};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::operation::BucketRequest;
use crate::s3::route::OperationName;
use crate::s3::versioning::{ListObjectVersions, VersioningStatus, invalid_version_id};
use crate::server::limits::LISTED_BYTES;
use futures::{FutureExt as _, TryFutureExt as _};
use http::StatusCode;
use std::sync::Arc;
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::Versioning;
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{ListedVersion, VersionsRequest};

/// The version that a client names, if it names one.
///
/// # Errors
/// InvalidArgument for what names no version, whatever there is.
pub(super) fn version_name(text: Option<&str>) -> Result<Option<VersionName>> {
    let parse = |text| VersionName::parse(text).ok_or_else(|| invalid_version_id(text));
    text.map(parse).transpose()
}

/// A version's name as clients are told it.
pub(super) fn shown(name: Option<VersionName>) -> Option<String> {
    name.map(|name| name.to_string())
}

/// What was found under a key, or under the version named.
///
/// # Errors
/// NoSuchKey or NoSuchVersion; MethodNotAllowed when the version named is a delete marker.
pub(super) fn found<T>(
    lookup: Lookup<T>,
    method: &'static str,
    key: &str,
    version_id: Option<&str>,
) -> Result<T> {
    match (lookup, version_id) {
        (Lookup::Found(found), _) => Ok(found),
        (Lookup::Nothing, None) => Err(no_such_key(key)),
        (Lookup::Nothing, Some(version_id)) => Err(no_such_version(key, version_id)),
        (Lookup::DeleteMarker(row), None) => Err(hidden_by_delete_marker(key, &row.name().to_string())),
        (Lookup::DeleteMarker(row), Some(version_id)) => {
            Err(is_delete_marker(method, version_id, Some(time(row.modified))))
        }
    }
}

pub(super) fn no_such_version(key: &str, version_id: &str) -> S3Error {
    S3Error::from(ErrorCode::NoSuchVersion)
        .with("Key", key)
        .with("VersionId", version_id)
}

/// The answer to a change of an object or of the version named that was not made.
pub(super) fn change_undone(
    error: PutError<S3Error>,
    method: &'static str,
    key: &str,
    version_id: Option<&str>,
) -> S3Error {
    match (error, version_id) {
        (PutError::Failed(Error::Rejected(Rejection::NoSuchKey)), _) => no_such_key(key),
        (PutError::Failed(Error::Rejected(Rejection::NoSuchVersion)), Some(version_id)) => {
            no_such_version(key, version_id)
        }
        (PutError::Failed(Error::Rejected(Rejection::DeleteMarker)), Some(version_id)) => {
            is_delete_marker(method, version_id, None)
        }
        (error, _) => undone(error, &WriteCondition::Always),
    }
}

/// GetBucketVersioning.
pub(super) async fn get(call: &Call<'_>, request: &BucketRequest) -> Result<Reply> {
    let bucket = call.bucket(&request.bucket).await?;
    // What is cached may be older than what another gateway has set.
    let confirmed = call.store.directory().confirm_bucket(&bucket).await;
    let bucket = match confirmed {
        Ok(()) => call.bucket(&request.bucket).await?,
        Err(error) => return Err(undone(error.into(), &WriteCondition::Always)),
    };
    Ok(bucket_versioning(match bucket.versioning {
        Versioning::Off => None,
        Versioning::Enabled => Some(VersioningStatus::Enabled),
        Versioning::Suspended => Some(VersioningStatus::Suspended),
    }))
}

/// PutBucketVersioning.
pub(super) async fn put(call: &Call<'_>, body: Body<'_>, request: &BucketRequest) -> Result<Reply> {
    let versioning = match VersioningStatus::parse_document(&body.document().await?)? {
        VersioningStatus::Enabled => Versioning::Enabled,
        VersioningStatus::Suspended => Versioning::Suspended,
    };
    let done = call.decided(&request.bucket, |actor, bucket| async move {
        let set = call.store.set_versioning(actor, bucket_ref(&bucket), versioning);
        Ok(set.await?)
    });
    let done = done.map_err(|error| undone(error, &WriteCondition::Always));
    audited(
        call,
        &request.bucket,
        OperationName::PutBucketVersioning,
        done.boxed(),
    )
    .await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// ListObjectVersions.
pub(super) async fn list(call: &Call<'_>, request: &ListObjectVersions) -> Result<Reply> {
    let scope = &request.scope;
    let marker = version_name(request.version_id_marker.as_deref())?;
    let memory = memory(call, scope.max_keys, LISTED_BYTES.0).await?;
    let page = call.decided(&scope.bucket, |_, bucket| async move {
        let after = Some(request.key_marker.clone()).filter(|key| !key.is_empty());
        let query = VersionsRequest {
            bucket: bucket.bucket,
            prefix: scope.prefix.clone(),
            delimiter: scope.delimiter.clone().unwrap_or_default(),
            after: after.map(|key| (key, marker)),
            limit: scope.max_keys as usize,
        };
        let page = call.store.versions(&bucket, query).await?;
        Ok((Arc::clone(&bucket), page))
    });
    let (bucket, page) = page
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    let answer = ListVersionsAnswer {
        entries: page.versions.into_iter().map(entry).collect(),
        common_prefixes: page.common_prefixes,
        owner: owner(bucket.creator),
        next: page.next.map(|(key, version)| (key, shown(version))),
    };
    Ok(held(memory, answer.into_reply(request)))
}

fn entry((key, is_latest, listed): (String, bool, ListedVersion)) -> VersionListEntry {
    let (name, modified, object) = match listed {
        ListedVersion::Object(row) => {
            let object = ListedObject {
                etag: etag(&row.etag),
                checksum: row.checksum.map(|(named, of)| (algorithm(named), kind(of))),
                bytes: row.bytes,
                storage_class: row.class.clone(),
            };
            (row.name(), row.modified, Some(object))
        }
        ListedVersion::DeleteMarker(row) => (row.name(), row.modified, None),
    };
    VersionListEntry {
        key,
        version_id: name.to_string(),
        is_latest,
        last_modified: time(modified),
        object,
    }
}
