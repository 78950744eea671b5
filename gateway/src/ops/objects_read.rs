//! GetObject and HeadObject. What cannot be verified never leaves: if the first bytes fail, the answer is an
//! error; if later ones do, the connection breaks off.

use super::convert::{etag, object_checksum, object_headers, time};
use super::errors::{s3_error, undone};
use super::{Answer, Call};
use crate::get::ObjectName;
use crate::s3::Reply;
use crate::s3::answer::{ObjectInfo, ReadAnswer};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::operation::ReadObject;
use crate::s3::range::RangeRequest;
use futures::StreamExt as _;
use ullage_model::namespace::rows::{BucketRow, VersionRow};
use ullage_model::wire::metad::ByteRange;

/// GetObject.
pub(super) async fn get(call: &Call<'_>, request: &ReadObject) -> Result<Answer> {
    // Conditions and If-Range are judged when the version is known; this says which places to ask for with it.
    let likely = request.range.map_or(WHOLE, wanted);
    let object = call.decided_sight(&request.bucket, |bucket, sight| async move {
        let name = object_name(call, &bucket, &request.key);
        let object = call.store.open(&bucket, name, likely).await?;
        sight.check_found(object, |object| &object.version)
    });
    let object = object
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    let mut object = object.found().ok_or_else(|| no_such_key(&request.key))?;
    let info = info(&mut object.version);
    let (mut reply, range) = match info.answer(request)? {
        ReadAnswer::NotModified(reply) | ReadAnswer::Bytes(reply, None) => return Ok(Answer::Whole(reply)),
        ReadAnswer::Bytes(reply, Some(range)) => (reply, range),
    };
    let mut bytes = object.read(range.start, range.length);
    let first = bytes.next().await.map_err(s3_error)?.unwrap_or_default();
    if bytes.remaining() == 0 && first.len() as u64 == range.length {
        reply.body = first;
        return Ok(Answer::Whole(reply));
    }
    Ok(Answer::Object {
        reply,
        first,
        rest: bytes.into_stream().boxed(),
        bytes: range.length,
    })
}

/// HeadObject.
pub(super) async fn head(call: &Call<'_>, request: &ReadObject) -> Result<Reply> {
    let version = call.decided_sight(&request.bucket, |bucket, sight| async move {
        let name = object_name(call, &bucket, &request.key);
        let version = call.store.head(&bucket, &name).await?;
        sight.check_found(version, |answer| &answer.version)
    });
    let version = version
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    let mut version = version.found().ok_or_else(|| no_such_key(&request.key))?.version;
    match info(&mut version).answer(request)? {
        ReadAnswer::NotModified(reply) | ReadAnswer::Bytes(reply, _) => Ok(reply),
    }
}

/// All bytes of an object.
pub(super) const WHOLE: ByteRange = ByteRange::From {
    first: 0,
    bytes: u64::MAX,
};

fn wanted(range: RangeRequest) -> ByteRange {
    match range {
        RangeRequest::Between(first, last) => ByteRange::From {
            first,
            bytes: (last - first).saturating_add(1),
        },
        RangeRequest::From(first) => ByteRange::From {
            first,
            bytes: u64::MAX,
        },
        RangeRequest::Last(bytes) => ByteRange::Last(bytes),
    }
}

pub(super) fn no_such_key(key: &str) -> S3Error {
    S3Error::from(ErrorCode::NoSuchKey).with("Key", key)
}

/// Names an object for the data path.
pub(super) fn object_name(call: &Call<'_>, bucket: &BucketRow, key: &str) -> ObjectName {
    ObjectName {
        bucket: bucket.bucket,
        key: key.to_owned(),
        version: None,
        request_id: call.request_id,
    }
}

/// What S3 says of a version. Takes its headers and its class, which reading does not need.
fn info(version: &mut VersionRow) -> ObjectInfo {
    ObjectInfo {
        bytes: version.bytes,
        etag: etag(&version.etag),
        last_modified: time(version.modified),
        tags: version.metadata.tags.len(),
        headers: object_headers(std::mem::take(&mut version.metadata)),
        storage_class: std::mem::take(&mut version.class),
        checksum: version.checksum.as_ref().and_then(object_checksum),
    }
}
