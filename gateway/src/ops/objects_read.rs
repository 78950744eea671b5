//! GetObject and HeadObject. What cannot be verified never leaves: if the first bytes fail, the answer is an
//! error; if later ones do, the connection breaks off.

use super::convert::{checksum, etag, object_checksum, object_headers, time};
use super::errors::{s3_error, undone};
use super::versioning::{found, shown, version_name};
use super::{Answer, Call};
use crate::get::{Object, ObjectName};
use crate::s3::Reply;
use crate::s3::answer::{ObjectInfo, PartInfo, ReadAnswer};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::operation::ReadObject;
use crate::s3::range::RangeRequest;
use futures::StreamExt as _;
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{BucketRow, VersionRow};
use ullage_model::wire::metad::{ByteRange, LocatedPart};

/// GetObject.
pub(super) async fn get(call: &Call<'_>, request: &ReadObject) -> Result<Answer> {
    // Conditions and If-Range are judged when the version is known; this says which places to ask for with it.
    let likely = match request.part_number {
        Some(number) => ByteRange::Part(number),
        None => request.range.map_or(WHOLE, wanted),
    };
    let mut object = open(call, request, "GET", likely).await?;
    let info = info(&mut object.version, object.part.as_ref());
    let (reply, range) = match info.answer(request)? {
        ReadAnswer::NotModified(reply) => (reply, None),
        ReadAnswer::Bytes(reply, range) => (reply, range),
    };
    let mut reply = reply.with_version(shown(object.version_name));
    let Some(range) = range else {
        return Ok(Answer::Whole(reply));
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

async fn open(
    call: &Call<'_>,
    request: &ReadObject,
    method: &'static str,
    likely: ByteRange,
) -> Result<Object> {
    let version_id = request.version_id.as_deref();
    let version = version_name(version_id)?;
    let object = call.decided_sight(&request.bucket, |bucket, sight| async move {
        let name = object_name(call, &bucket, &request.key, version);
        let object = call.store.open(&bucket, name, likely).await?;
        sight.check_found(object, |object| &object.version)
    });
    let object = object
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    found(object, method, &request.key, version_id)
}

/// HeadObject.
pub(super) async fn head(call: &Call<'_>, request: &ReadObject) -> Result<Reply> {
    if let Some(number) = request.part_number {
        let mut object = open(call, request, "HEAD", ByteRange::Part(number)).await?;
        let info = info(&mut object.version, object.part.as_ref());
        return head_reply(&info, request, object.version_name);
    }
    let version_id = request.version_id.as_deref();
    let version = version_name(version_id)?;
    let head = call.decided_sight(&request.bucket, |bucket, sight| async move {
        let name = object_name(call, &bucket, &request.key, version);
        let head = call.store.head(&bucket, &name).await?;
        sight.check_found(head, |answer| &answer.version)
    });
    let head = head
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    let mut answer = found(head, "HEAD", &request.key, version_id)?;
    head_reply(&info(&mut answer.version, None), request, answer.name)
}

fn head_reply(info: &ObjectInfo, request: &ReadObject, name: Option<VersionName>) -> Result<Reply> {
    match info.answer(request)? {
        ReadAnswer::NotModified(reply) | ReadAnswer::Bytes(reply, _) => Ok(reply.with_version(shown(name))),
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
pub(super) fn object_name(
    call: &Call<'_>,
    bucket: &BucketRow,
    key: &str,
    version: Option<VersionName>,
) -> ObjectName {
    ObjectName {
        bucket: bucket.bucket,
        key: key.to_owned(),
        version,
        request_id: call.request_id,
    }
}

/// What S3 says of a version. Takes its headers and its class, which reading does not need.
fn info(version: &mut VersionRow, part: Option<&LocatedPart>) -> ObjectInfo {
    ObjectInfo {
        bytes: version.bytes,
        etag: etag(&version.etag),
        last_modified: time(version.modified),
        tags: version.metadata.tags.len(),
        headers: object_headers(std::mem::take(&mut version.metadata)),
        storage_class: std::mem::take(&mut version.class),
        checksum: version.checksum.as_ref().and_then(object_checksum),
        part: part.map(|located| PartInfo {
            offset: located.part.offset,
            bytes: located.part.bytes,
            checksum: located.part.checksum.as_ref().and_then(checksum),
            of: located.of,
        }),
    }
}
