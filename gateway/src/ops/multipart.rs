//! Multipart uploads but for the parts' bytes: begin, complete, give up.

use super::access::{check_acl, row_acl};
use super::convert::{
    DEFAULT_CLASS, algorithm, conditions, etag, kind, object_checksum, parse_upload_id, row_algorithm,
    row_kind, row_metadata, row_object_checksum, upload_id,
};
use super::errors::{s3_error, undone};
use super::versioning::shown;
use super::{Body, Call};
use crate::directory::{Bucket, bucket_ref};
use crate::error::Error;
use crate::put::PutError;
use crate::s3::Reply;
use crate::s3::answer::{CompleteAnswer, InitiateAnswer, deleted};
use crate::s3::checksum::{ChecksumType, ObjectChecksum};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::md5::md5;
use crate::s3::operation::{CompleteMultipartUpload, CreateMultipartUpload, UploadRequest};
use crate::s3::request_xml::{CompleteBody, CompletedPart};
use crate::store::{CompleteRequest, NewUpload, PartFacts};
use bytes::Bytes;
use ullage_model::command::{ListedPart, UploadRef};
use ullage_model::namespace::rows::{self, Etag, Metadata, UploadRow, UploadState};
use ullage_model::rejection::Rejection;

/// CreateMultipartUpload.
pub(super) async fn create(call: &Call<'_>, request: CreateMultipartUpload) -> Result<Reply> {
    let class = request.storage_class.unwrap_or_else(|| DEFAULT_CLASS.to_owned());
    if !call.store.view().classes.contains_key(&class) {
        return Err(S3Error::from(ErrorCode::InvalidStorageClass).with("StorageClassRequested", class));
    }
    let metadata = Metadata {
        acl: row_acl(request.acl),
        ..row_metadata(request.headers, request.tags)
    };
    let checksum = request
        .checksum
        .map(|(named, of)| (row_algorithm(named), row_kind(of)));
    let made = call.decided(&request.bucket, |actor, bucket| {
        let checked = check_acl(&bucket, request.acl).map_err(PutError::Refused);
        let new = NewUpload {
            actor,
            bucket: bucket_ref(&bucket),
            key: request.key.clone(),
            class: class.clone(),
            metadata: metadata.clone(),
            checksum,
        };
        async move {
            checked?;
            Ok(call.store.create_upload(new).await?)
        }
    });
    let made = made
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    let answer = InitiateAnswer {
        upload_id: upload_id(made),
        bucket: request.bucket,
        key: request.key,
        checksum: request.checksum,
    };
    Ok(answer.into_reply())
}

/// AbortMultipartUpload.
pub(super) async fn abort(call: &Call<'_>, request: &UploadRequest) -> Result<Reply> {
    let aborted = call.decided(&request.bucket, |actor, bucket| async move {
        let upload = parse_upload_id(&request.upload_id).map_err(PutError::Refused)?;
        let key = request.key.clone();
        Ok(call
            .store
            .abort_upload(actor, bucket_ref(&bucket), key, upload)
            .await?)
    });
    aborted
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    Ok(deleted())
}

/// CompleteMultipartUpload.
pub(super) async fn complete(
    call: &Call<'_>,
    body: Body<'_>,
    request: &CompleteMultipartUpload,
) -> Result<Reply> {
    let UploadRequest {
        bucket,
        key,
        upload_id,
    } = &request.upload;
    let bucket_row = call.bucket(bucket).await?;
    let upload = parse_upload_id(upload_id)?;
    let document = CompleteBody::parse(&body.document().await?)?;
    let row = find_upload(call, &bucket_row, (key, upload), upload_id).await?;
    check_type(&row, request.checksum_type)?;
    let parts = document.parts.iter().map(|part| listed(&row, upload_id, part));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    check_composite(&row, &document.parts)?;
    call.progress.takes_long();
    let completed = call.decided(bucket, |actor, bucket| {
        let complete = CompleteRequest {
            actor,
            bucket: bucket_ref(&bucket),
            key: key.clone(),
            upload,
            parts: parts.clone(),
            conditions: conditions(&request.condition),
            expected_bytes: request.object_bytes,
        };
        let row = &row;
        async move {
            let whole = |parts: &[PartFacts]| whole_of(row, request, parts);
            call.store.complete_upload(&complete, whole).await
        }
    });
    let completed = completed.await.map_err(|error| match error {
        PutError::Failed(Error::Rejected(refused)) => of_part(refused, upload_id, &document.parts, request),
        other => undone(other, &request.condition),
    })?;
    let answer = CompleteAnswer {
        location: CompleteAnswer::location(call.url.0, call.url.1),
        bucket: bucket.clone(),
        key: key.clone(),
        etag: etag(&completed.etag),
        checksum: completed.checksum.as_ref().and_then(object_checksum),
    };
    Ok(answer.into_reply().with_version(shown(completed.version)))
}

/// The upload that parts may be added to.
///
/// # Errors
/// NoSuchUpload when there is none, or it was completed; or what looking it up fails with.
pub(super) async fn open_upload(
    call: &Call<'_>,
    bucket: &Bucket,
    request: &UploadRequest,
) -> Result<(UploadRef, UploadRow)> {
    let UploadRequest { key, upload_id, .. } = request;
    let upload = parse_upload_id(upload_id)?;
    let row = find_upload(call, bucket, (key, upload), upload_id).await?;
    match row.state {
        UploadState::Completed { .. } => Err(no_such_upload(upload_id)),
        _ => Ok((upload, row)),
    }
}

/// The upload, completed or not.
async fn find_upload(
    call: &Call<'_>,
    bucket: &Bucket,
    (key, upload): (&str, UploadRef),
    upload_id: &str,
) -> Result<UploadRow> {
    let row = call.store.upload(bucket.bucket, key.to_owned(), upload).await;
    row.map_err(s3_error)?.ok_or_else(|| no_such_upload(upload_id))
}

fn no_such_upload(upload_id: &str) -> S3Error {
    S3Error::from(ErrorCode::NoSuchUpload).with("UploadId", upload_id)
}

fn check_type(row: &UploadRow, expected: Option<ChecksumType>) -> Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    match row.checksum.map(|(_, of)| kind(of)) {
        Some(of_upload) if of_upload != expected => Err(S3Error::new(
            ErrorCode::InvalidRequest,
            format!(
                "The upload was created using the {} checksum mode. The complete request must use the same \
                 checksum mode.",
                of_upload.as_str()
            ),
        )),
        _ => Ok(()),
    }
}

/// A checksum of the parts' checksums is of parts 1 to the last, each of which the client names with its own (Amazon S3
/// API reference, "CompletedPart").
fn check_composite(row: &UploadRow, parts: &[CompletedPart]) -> Result<()> {
    let Some((of_upload, rows::ChecksumKind::Composite)) = row.checksum else {
        return Ok(());
    };
    if let Some(part) = parts.iter().find(|part| part.checksum.is_none()) {
        let name = algorithm(of_upload).as_str().to_ascii_lowercase();
        let message = format!(
            "The upload was created using a {name} checksum. The complete request must include the checksum for \
             each part. It was missing for part {} in the request.",
            part.part_number
        );
        return Err(S3Error::new(ErrorCode::InvalidRequest, message));
    }
    match (1..).zip(parts).all(|(number, part)| part.part_number == number) {
        true => Ok(()),
        false => Err(ErrorCode::InvalidPartOrder.into()),
    }
}

/// A part as the client lists it. An ETag that no part can have names no part.
fn listed(row: &UploadRow, upload_id: &str, part: &CompletedPart) -> Result<ListedPart> {
    let no_such_part = || no_such_part(upload_id, part);
    if let (Some((of_upload, _)), Some(checksum)) = (row.checksum, &part.checksum)
        && algorithm(of_upload) != checksum.algorithm()
    {
        return Err(no_such_part());
    }
    Ok(ListedPart {
        number: part.part_number,
        etag: part.etag.md5().map(Etag::Md5).ok_or_else(no_such_part)?,
        checksum: part
            .checksum
            .as_ref()
            .map(|checksum| Bytes::copy_from_slice(checksum.bytes())),
    })
}

fn no_such_part(upload_id: &str, part: &CompletedPart) -> S3Error {
    S3Error::from(ErrorCode::InvalidPart)
        .with("UploadId", upload_id)
        .with("PartNumber", part.part_number.to_string())
        .with("ETag", part.etag.as_str())
}

/// The answer to a refusal: one that is about a part names it as the client listed it.
fn of_part(
    refused: Rejection,
    upload_id: &str,
    parts: &[CompletedPart],
    request: &CompleteMultipartUpload,
) -> S3Error {
    let listed = |number| parts.iter().find(|part| part.part_number == number);
    match refused {
        Rejection::InvalidPart(number) => match listed(number) {
            Some(part) => no_such_part(upload_id, part),
            None => s3_error(Error::Rejected(refused)),
        },
        Rejection::PartTooSmall { number, .. } => {
            let error = undone(Error::Rejected(refused).into(), &request.condition);
            match listed(number) {
                Some(part) => error.with("ETag", part.etag.as_str()),
                None => error,
            }
        }
        _ => undone(Error::Rejected(refused).into(), &request.condition),
    }
}

/// Entity tag and checksum of the whole, from its parts' (entity tag, checksum, bytes).
///
/// # Errors
/// BadDigest when the client knows another checksum.
fn whole_of(
    row: &UploadRow,
    request: &CompleteMultipartUpload,
    parts: &[PartFacts],
) -> Result<(Etag, Option<rows::Checksum>)> {
    let digest = |(Etag::Md5(digest) | Etag::Multipart(digest, _), ..): &PartFacts| *digest;
    let digests: Vec<u8> = parts.iter().flat_map(digest).collect();
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let of_parts: Option<Vec<_>> = parts
        .iter()
        .map(|(_, checksum, bytes)| Some((object_checksum(checksum.as_ref()?)?.checksum, *bytes)))
        .collect();
    let of = row.checksum.map_or(ChecksumType::FullObject, |(_, of)| kind(of));
    let checksum = of_parts.and_then(|parts| ObjectChecksum::of_parts(of, &parts));
    match (&request.checksum, &checksum) {
        (Some(claimed), Some(made)) if made.agrees_with(claimed) => {}
        (Some(claimed), _) => {
            let name = claimed.checksum.algorithm().as_str().to_ascii_lowercase();
            return Err(S3Error::new(
                ErrorCode::BadDigest,
                format!("The {name} you specified did not match the calculated checksum."),
            ));
        }
        (None, _) => {}
    }
    Ok((
        Etag::Multipart(md5(&digests), count),
        checksum.as_ref().map(row_object_checksum),
    ))
}
