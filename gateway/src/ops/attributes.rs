//! GetObjectAttributes.

use super::Call;
use super::convert::{checksum, etag, object_checksum, time};
use super::errors::s3_error;
use super::objects_read::look_at;
use super::versioning::shown;
use crate::get::FoundVersion;
use crate::limits::SOURCE_CHANGED_RETRIES;
use crate::s3::Reply;
use crate::s3::answer::{AttributesAnswer, AttributesPart, PartsPage};
use crate::s3::attributes::GetObjectAttributes;
use crate::s3::error::{ErrorCode, Result, S3Error};
use ullage_model::namespace::rows::{Content, Etag, ObjectPart, VersionRow};

/// GetObjectAttributes.
pub(super) async fn get(call: &Call<'_>, request: &GetObjectAttributes) -> Result<Reply> {
    let named = (
        request.bucket.as_str(),
        request.key.as_str(),
        request.version_id.as_deref(),
    );
    for _ in 0..=SOURCE_CHANGED_RETRIES {
        let (FoundVersion { version, name, .. }, _) = look_at(call, "GET", named, None).await?;
        let Some(parts) = parts(call, request, &version).await? else {
            // The version was replaced before its parts were asked for.
            continue;
        };
        let answer = AttributesAnswer {
            etag: etag(&version.etag),
            last_modified: time(version.modified),
            checksum: version.checksum.as_ref().and_then(object_checksum),
            parts,
            storage_class: version.class,
            bytes: version.bytes,
        };
        return Ok(answer.into_reply(request).with_version(shown(name)));
    }
    Err(S3Error::new(
        ErrorCode::OperationAborted,
        "The object kept changing while its parts were listed. Try again.",
    ))
}

/// The page of parts that is asked for: none of an object that was not made of parts. `None` if the version is gone.
async fn parts(
    call: &Call<'_>,
    request: &GetObjectAttributes,
    version: &VersionRow,
) -> Result<Option<Option<PartsPage>>> {
    if !request.wanted.parts {
        return Ok(Some(None));
    }
    let (found, of) = match (&version.content, version.etag) {
        (Content::Manifest(manifest), _) => {
            let limit = request.max_parts as usize;
            let parts = call
                .store
                .object_parts(*manifest, request.part_number_marker, limit);
            parts.await.map_err(s3_error)?
        }
        // One part without bytes.
        (Content::Empty, Etag::Multipart(..)) => {
            let part = ObjectPart {
                offset: 0,
                bytes: 0,
                checksum: None,
            };
            let is_wanted = request.part_number_marker == 0 && request.max_parts > 0;
            (is_wanted.then_some(part).into_iter().collect(), 1)
        }
        _ => return Ok(Some(None)),
    };
    if of == 0 {
        return Ok(None);
    }
    // A copy may have another checksum than what it is a copy of, whose parts it shares.
    let of_object = version.checksum.as_ref().map(|known| known.algorithm);
    let part = |part: &ObjectPart| {
        let known = part.checksum.as_ref();
        let known = known.filter(|known| Some(known.algorithm) == of_object);
        AttributesPart {
            bytes: part.bytes,
            checksum: known.and_then(checksum),
        }
    };
    let parts = of_object.map(|_| found.iter().map(part).collect());
    Ok(Some(Some(PartsPage { parts, of })))
}
