//! ListMultipartUploads and ListParts.

use super::convert::{algorithm, etag, kind, object_checksum, parse_upload_id, time, upload_id};
use super::errors::{s3_error, undone};
use super::list::{held, memory};
use super::multipart::open_upload;
use super::{Call, owner};
use crate::s3::Reply;
use crate::s3::answer::{ListPartsAnswer, ListUploadsAnswer, PartEntry, UploadEntry};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::Result;
use crate::s3::list_uploads::{ListMultipartUploads, ListParts};
use crate::server::limits::LISTED_BYTES;
use ullage_model::command::UploadRef;
use ullage_model::namespace::rows::UploadRow;
use ullage_model::wire::metad::{UploadedPart, UploadsRequest};

/// ListMultipartUploads.
pub(super) async fn list(call: &Call<'_>, request: &ListMultipartUploads) -> Result<Reply> {
    let memory = memory(call, request.max_uploads, LISTED_BYTES.0).await?;
    let after = match &request.upload_id_marker {
        _ if request.key_marker.is_empty() => None,
        None => Some((request.key_marker.clone(), None)),
        Some(marker) => Some((request.key_marker.clone(), Some(parse_upload_id(marker)?.upload))),
    };
    let page = call.decided(&request.bucket, |_, bucket| {
        let asked = UploadsRequest {
            bucket: bucket.bucket,
            prefix: request.prefix.clone(),
            delimiter: request.delimiter.clone().unwrap_or_default(),
            after: after.clone(),
            limit: request.max_uploads as usize,
        };
        async move { Ok(call.store.uploads(&bucket, asked).await?) }
    });
    let page = page
        .await
        .map_err(|error| undone(error, &WriteCondition::Always))?;
    let random = page.uploads.last().map_or(0, |row| row.random);
    let answer = ListUploadsAnswer {
        next: page.next.map(|(key, upload)| {
            // The page ends with this very upload, so its random half is known.
            let name = upload.map(|upload| upload_id(UploadRef { upload, random }));
            (key, name)
        }),
        uploads: page.uploads.into_iter().map(entry).collect(),
        common_prefixes: page.common_prefixes,
    };
    Ok(held(memory, answer.into_reply(request)))
}

fn entry(row: UploadRow) -> UploadEntry {
    UploadEntry {
        upload_id: upload_id(UploadRef {
            upload: row.upload,
            random: row.random,
        }),
        key: row.key,
        initiated: time(row.initiated),
        owner: owner(row.creator),
        storage_class: row.class,
        checksum: row.checksum.map(|(named, of)| (algorithm(named), kind(of))),
    }
}

/// ListParts.
pub(super) async fn parts(call: &Call<'_>, request: &ListParts) -> Result<Reply> {
    let memory = memory(call, request.max_parts, LISTED_BYTES.0).await?;
    let bucket = call.bucket(&request.upload.bucket).await?;
    let (upload, row) = open_upload(call, &bucket, &request.upload).await?;
    let limit = request.max_parts as usize;
    let parts = call.store.parts(upload, request.part_number_marker, limit).await;
    let (parts, more) = parts.map_err(s3_error)?;
    let is_shown = row.checksum.is_some();
    let answer = ListPartsAnswer {
        parts: parts.into_iter().map(|part| part_entry(part, is_shown)).collect(),
        more: more && limit > 0,
        owner: owner(row.creator),
        storage_class: row.class,
        checksum: row.checksum.map(|(named, of)| (algorithm(named), kind(of))),
    };
    Ok(held(memory, answer.into_reply(request)))
}

fn part_entry(part: UploadedPart, is_shown: bool) -> PartEntry {
    let checksum = part.checksum.filter(|_| is_shown);
    PartEntry {
        number: part.number,
        etag: etag(&part.etag),
        last_modified: time(part.modified),
        bytes: part.bytes,
        checksum: checksum
            .as_ref()
            .and_then(object_checksum)
            .map(|object| object.checksum),
    }
}
