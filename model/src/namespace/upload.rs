//! Multipart uploads: create, parts, abort. Completing is [`super::complete`]'s.

use crate::cluster_time::WallTime;
use crate::command::{Actor, Body, BucketRef, FinalizePart, Reply, UploadRef};
use crate::fat;
use crate::fat::cluster;
use crate::ids::{BucketId, SessionId, UploadId};
use crate::limits::{EXTENTS_PER_VERSION, PARTS_PER_UPLOAD};
use crate::namespace::rows::{
    BucketRow, ChecksumAlgorithm, ChecksumKind, Etag, Metadata, PartRow, UploadRow, UploadState,
};
use crate::namespace::{authority, bounds, finalize, keys, release, usage};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Read, StoreError};
use bytes::Bytes;

/// What `SessionCommand::CreateUpload` carries.
#[derive(Clone, Copy, Debug)]
pub struct NewUpload<'a> {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: &'a str,
    /// Random part of the upload's name.
    pub random: u64,
    /// Name of its class.
    pub class: &'a str,
    /// Headers and metadata of the object to be.
    pub metadata: &'a Metadata,
    /// Checksum of the object to be.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// When.
    pub now: WallTime,
}

/// Begins a multipart upload.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchClass`, `Invalid`, `Size`.
pub fn create<R: Read>(step: &mut Step<'_, R>, new: &NewUpload<'_>) -> Result<Reply, Stop> {
    bounds::check_key(new.key)?;
    bounds::check_metadata(new.metadata)?;
    authority::check_bucket(step, new.bucket)?;
    authority::check_actor(step, new.actor)?;
    authority::check_class(step, new.class)?;
    let upload = UploadId(cluster::mint(step, |counters| &mut counters.upload)?);
    let row = UploadRow {
        upload,
        random: new.random,
        bucket: new.bucket.bucket,
        key: new.key.to_owned(),
        creator: new.actor.user,
        initiated: new.now,
        class: new.class.to_owned(),
        metadata: new.metadata.clone(),
        checksum: new.checksum,
        generation: 0,
        part_bytes: 0,
        extents_beyond: 0,
        state: UploadState::Open,
    };
    step.put(Column::Uploads, keys::upload(upload), &row);
    let index = keys::upload_in_bucket(row.bucket, new.key, upload);
    step.put_bytes(Column::Uploads, index, Bytes::new());
    usage::change(step, row.bucket, |usage| {
        usage.uploads = usage.uploads.checked_add(1)?;
        Some(())
    })?;
    Ok(Reply::Upload(UploadRef {
        upload,
        random: new.random,
    }))
}

/// Makes an uploaded part, or replaces it. A complete that is under way has to start again.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchUpload`, `Invalid`, `Size`, `Blob`, and whatever settling refuses.
pub fn finalize_part<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    finalize: &FinalizePart,
) -> Result<Reply, Stop> {
    check_part_number(finalize.number)?;
    if !matches!(finalize.etag, Etag::Md5(_)) {
        return Err(Rejection::Invalid("a part's entity tag is the MD5 of its bytes".to_owned()).into());
    }
    if matches!(finalize.body, Body::Inline { .. }) {
        return Err(Rejection::Invalid("a part is never inlined".to_owned()).into());
    }
    bounds::check_checksum(finalize.checksum.as_ref())?;
    let bucket = authority::check_bucket(step, finalize.bucket)?;
    authority::check_actor(step, finalize.actor)?;
    let upload = open(step, finalize.bucket, &finalize.key, finalize.upload)?;
    let content = finalize::store_body(step, session, &upload.class, &finalize.body)?;
    let extent = content.extent();
    if let Some(extent) = extent {
        release::share(step, extent)?;
    }
    let part = PartRow {
        extents: extent.cloned().into_iter().collect(),
        etag: finalize.etag,
        modified: finalize.now,
        checksum: finalize.checksum.clone(),
    };
    put_part(step, &bucket, upload, (finalize.number, &part))?;
    Ok(Reply::Done)
}

/// Makes `part`, whose references to blobs are counted already, the part of this number; the one that it replaces
/// lets go of its own.
///
/// # Errors
/// `TooManyExtents`, `QuotaExceeded`.
pub(crate) fn put_part<R: Read>(
    step: &mut Step<'_, R>,
    bucket: &BucketRow,
    mut upload: UploadRow,
    (number, part): (u32, &PartRow),
) -> Result<(), Stop> {
    const BEYOND_MAX: usize = EXTENTS_PER_VERSION - PARTS_PER_UPLOAD as usize;
    let key = keys::part(upload.upload, number);
    let replaced: Option<PartRow> = step.row(Column::Uploads, &key)?;
    let replaced_bytes = replaced.as_ref().map_or(0, PartRow::bytes);
    let replaced = replaced.map(|part| part.extents).unwrap_or_default();
    for extent in &replaced {
        release::unrefer(step, extent.blob)?;
    }
    let beyond = (upload.extents_beyond as usize)
        .checked_sub(replaced.len().saturating_sub(1))
        .ok_or_else(|| {
            StoreError::Inconsistent(format!("{} has more extents than it counts", upload.upload))
        })?
        + part.extents.len().saturating_sub(1);
    upload.extents_beyond = u32::try_from(beyond)
        .ok()
        .filter(|_| beyond <= BEYOND_MAX)
        .ok_or(Rejection::TooManyExtents)?;
    upload.generation += 1;
    let counted = |sum: u64| sum.checked_sub(replaced_bytes)?.checked_add(part.bytes());
    upload.part_bytes = counted(upload.part_bytes).ok_or_else(|| {
        StoreError::Inconsistent(format!("{} has more bytes than it counts", upload.upload))
    })?;
    step.put(Column::Uploads, key, part);
    step.put(Column::Uploads, keys::upload(upload.upload), &upload);
    let (before, after) = usage::change(step, bucket.bucket, |usage| {
        usage.part_bytes = counted(usage.part_bytes)?;
        Some(())
    })?;
    usage::check_quota(bucket.quota, &before, &after)?;
    Ok(())
}

/// Whether a number is one that a part can have.
///
/// # Errors
/// `Invalid`.
pub(crate) fn check_part_number(number: u32) -> Result<(), Rejection> {
    if (1..=PARTS_PER_UPLOAD).contains(&number) {
        Ok(())
    } else {
        Err(Rejection::Invalid(format!("part number {number}")))
    }
}

/// Aborts an upload: it is gone at once, its parts and an unfinished manifest are released.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchUpload` (also for a completed one, whose object stays).
pub fn abort<R: Read>(
    step: &mut Step<'_, R>,
    actor: Actor,
    bucket: BucketRef,
    key: &str,
    upload: UploadRef,
) -> Result<Reply, Stop> {
    authority::check_bucket(step, bucket)?;
    authority::check_actor(step, actor)?;
    let row = open(step, bucket, key, upload)?;
    if let UploadState::Completing { manifest } = row.state {
        fat::release::release_manifest(step, manifest);
    }
    step.delete(Column::Uploads, keys::upload(row.upload));
    close(step, &row);
    usage::change(step, row.bucket, |usage| {
        usage.uploads = usage.uploads.checked_sub(1)?;
        usage.part_bytes = usage.part_bytes.checked_sub(row.part_bytes)?;
        Some(())
    })?;
    Ok(Reply::Done)
}

/// Takes an upload out of its bucket and releases its parts. Its own row and the bucket's usage are the caller's.
pub(crate) fn close<R: Read>(step: &mut Step<'_, R>, row: &UploadRow) {
    let index = keys::upload_in_bucket(row.bucket, &row.key, row.upload);
    step.delete(Column::Uploads, index);
    fat::release::release_upload(step, row.upload);
}

/// The upload as named: number, random part, bucket and key must all be those of one upload.
///
/// # Errors
/// When the store fails.
pub fn named(
    rows: &impl Read,
    bucket: BucketId,
    key: &str,
    named: UploadRef,
) -> Result<Option<UploadRow>, StoreError> {
    let row: Option<UploadRow> = rows.row(Column::Uploads, &keys::upload(named.upload))?;
    Ok(row.filter(|row| row.random == named.random && row.bucket == bucket && row.key == key))
}

/// The upload as named, if it is not completed.
pub(crate) fn open<R: Read>(
    step: &Step<'_, R>,
    bucket: BucketRef,
    key: &str,
    upload: UploadRef,
) -> Result<UploadRow, Stop> {
    match named(step, bucket.bucket, key, upload)? {
        Some(row) if !matches!(row.state, UploadState::Completed { .. }) => Ok(row),
        _ => Err(Rejection::NoSuchUpload.into()),
    }
}
