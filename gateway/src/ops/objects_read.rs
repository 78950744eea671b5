//! GetObject and HeadObject. What cannot be verified never leaves: if the first bytes fail, the answer is an
//! error; if later ones do, the connection breaks off.

use super::convert::{checksum, etag, object_checksum, object_headers, time};
use super::errors::{s3_error, undone};
use super::versioning::{found, shown, version_name};
use super::{Answer, Call};
use crate::directory::Bucket;
use crate::get::{FoundVersion, ObjectName};
use crate::s3::Reply;
use crate::s3::answer::{ObjectInfo, PartInfo, ReadAnswer};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::operation::ReadObject;
use crate::s3::range::RangeRequest;
use futures::StreamExt as _;
use std::sync::Arc;
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{BucketRow, Content, VersionRow};
use ullage_model::wire::metad::{ByteRange, LocatedPart};

/// GetObject.
pub(super) async fn get(call: &Call<'_>, request: &ReadObject) -> Result<Answer> {
    // Conditions and If-Range are judged when the version is known; this says which places to ask for with it.
    let likely = match request.part_number {
        Some(number) => ByteRange::Part(number),
        None => request.range.map_or(WHOLE, wanted),
    };
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
    let mut object = found(object, "GET", &request.key, version_id)?;
    let info = info(&mut object.version, object.part.as_ref());
    let answer = match info.answer(request) {
        Ok(answer) => answer,
        Err(error) => return Err(with_part_count(call, error, &object.version).await),
    };
    let (reply, range) = match answer {
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

/// HeadObject.
pub(super) async fn head(call: &Call<'_>, request: &ReadObject) -> Result<Reply> {
    let named = (
        request.bucket.as_str(),
        request.key.as_str(),
        request.version_id.as_deref(),
    );
    let (mut found, _) = look_at(call, "HEAD", named, request.part_number).await?;
    match info(&mut found.version, found.part.as_ref()).answer(request) {
        Ok(ReadAnswer::NotModified(reply) | ReadAnswer::Bytes(reply, _)) => {
            Ok(reply.with_version(shown(found.name)))
        }
        Err(error) => Err(with_part_count(call, error, &found.version).await),
    }
}

/// An error that is about a part that is not there also tells how many there are.
async fn with_part_count(call: &Call<'_>, error: S3Error, version: &VersionRow) -> S3Error {
    if error.code() != ErrorCode::InvalidPartNumber {
        return error;
    }
    let count = match &version.content {
        Content::Manifest(manifest) => match call.store.object_parts(*manifest, 0, 1).await {
            Ok((_, count)) => count,
            Err(other) => return s3_error(other),
        },
        Content::Empty | Content::Single(_) | Content::Shared(_) | Content::Held(..) => 1,
    };
    error.with("ActualPartCount", count.to_string())
}

/// Looks at an object, or at the version named, if the caller may do with it what the operation needs; and at its part
/// of this number. With it comes the bucket under whose settings that was judged.
///
/// # Errors
/// NoSuchBucket, NoSuchKey, NoSuchVersion, AccessDenied; MethodNotAllowed for a delete marker that is named; or what
/// looking up fails with.
pub(super) async fn look_at(
    call: &Call<'_>,
    method: &'static str,
    (bucket, key, version_id): (&str, &str, Option<&str>),
    part: Option<u32>,
) -> Result<(FoundVersion, Arc<Bucket>)> {
    let version = version_name(version_id)?;
    let looked = call.decided_sight(bucket, |bucket, sight| async move {
        let name = object_name(call, &bucket, key, version);
        let head = call.store.head_with_part(&bucket, &name, part).await?;
        Ok((sight.check_found(head, |found| &found.version)?, bucket))
    });
    let (lookup, bucket) = looked
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    Ok((found(lookup, method, key, version_id)?, bucket))
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
