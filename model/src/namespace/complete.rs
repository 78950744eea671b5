//! Completing a multipart upload: a manifest built in slices, each with references of its own to the parts'
//! blobs, then turned into a version in one command.
//!
//! The upload's `generation` is what a complete was begun under: a part that comes meanwhile raises it, and
//! the complete starts again. The manifest left behind is dropped by the next complete or by the abort.

use crate::cluster_time::ClusterTime;
use crate::command::{CompleteSlice, CompleteUpload, ListedPart, Reply};
use crate::fat;
use crate::fat::cluster;
use crate::ids::{ManifestId, VersionId};
use crate::limits::{
    EXTENTS_PER_PAGE, EXTENTS_PER_VERSION, OBJECT_BYTES_MAX, PART_BYTES_MIN, PARTS_PER_UPLOAD,
};
use crate::namespace::rows::{
    Checksum, Content, Extent, ManifestBuilding, ManifestPage, ManifestParts, ManifestRow, ObjectPart,
    PartRow, UploadRow, UploadState, VersionRow,
};
use crate::namespace::successor::Target;
use crate::namespace::{authority, bounds, keys, release, upload, version};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Read};
use bytes::Bytes;

/// Adds the next listed parts to the manifest that a complete is building: all of them, or as many as a page of
/// extents has room for, but at least one. The answer says how many.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchUpload`, `PartsChanged`, `InvalidPart`, `InvalidPartOrder`,
/// `PartTooSmall`, `Size`, `Invalid`.
pub fn slice<R: Read>(step: &mut Step<'_, R>, slice: &CompleteSlice) -> Result<Reply, Stop> {
    authority::check_bucket(step, slice.bucket)?;
    authority::check_actor(step, slice.actor)?;
    let mut upload =
        upload::named(step, slice.bucket.bucket, &slice.key, slice.upload)?.ok_or(Rejection::NoSuchUpload)?;
    if let UploadState::Completed {
        version,
        name,
        etag,
        checksum,
        ..
    } = upload.state
    {
        return Ok(Reply::AlreadyCompleted {
            version,
            name,
            etag,
            checksum,
        });
    }
    if !(1..=EXTENTS_PER_PAGE).contains(&slice.parts.len()) {
        return Err(Rejection::Invalid(format!("{} parts at once", slice.parts.len())).into());
    }
    let (manifest, mut row, mut building) = match slice.manifest {
        None => begin(step, &mut upload)?,
        Some(manifest) => resume(step, &upload, manifest)?,
    };
    if building.closed {
        return Err(Rejection::Invalid("parts after the last ones".to_owned()).into());
    }
    let mut extents = Vec::with_capacity(slice.parts.len());
    let mut known = Vec::with_capacity(slice.parts.len());
    let mut parts = Vec::with_capacity(slice.parts.len());
    let page_start = row.bytes;
    for (index, listed) in slice.parts.iter().enumerate() {
        let may_be_short = slice.last && index + 1 == slice.parts.len();
        let part = check_part(step, &upload, building.last_part, listed, may_be_short)?;
        if index > 0 && extents.len() + part.extents.len() > EXTENTS_PER_PAGE {
            break;
        }
        building.last_part = listed.number;
        let bytes = part.bytes();
        parts.push(ObjectPart {
            offset: row.bytes,
            bytes,
            checksum: part.checksum.clone(),
        });
        known.push((part.etag, part.checksum, bytes));
        row.bytes = row.bytes.saturating_add(bytes);
        for extent in part.extents {
            release::refer(step, extent.blob)?;
            extents.push(extent);
        }
    }
    building.closed = slice.last && known.len() == slice.parts.len();
    row.building = Some(building);
    add_pages(step, manifest, &mut row, page_start, &extents)?;
    add_parts(step, manifest, &mut row, parts)?;
    step.put(Column::Manifests, keys::manifest(manifest), &row);
    Ok(Reply::Manifest {
        manifest,
        parts: known,
    })
}

/// Begins a manifest; one left by an earlier complete is released.
fn begin<R: Read>(
    step: &mut Step<'_, R>,
    upload: &mut UploadRow,
) -> Result<(ManifestId, ManifestRow, ManifestBuilding), Stop> {
    if let UploadState::Completing { manifest } = upload.state {
        fat::release::release_manifest(step, manifest);
    }
    let manifest = ManifestId(cluster::mint(step, |counters| &mut counters.manifest)?);
    upload.state = UploadState::Completing { manifest };
    step.put(Column::Uploads, keys::upload(upload.upload), upload);
    let building = ManifestBuilding {
        upload: upload.upload,
        generation: upload.generation,
        last_part: 0,
        closed: false,
    };
    let row = ManifestRow {
        references: 0,
        extents: 0,
        parts: 0,
        bytes: 0,
        building: Some(building),
    };
    Ok((manifest, row, building))
}

/// The manifest that this upload's complete is building, if no part has come since it was begun.
fn resume<R: Read>(
    step: &Step<'_, R>,
    upload: &UploadRow,
    manifest: ManifestId,
) -> Result<(ManifestId, ManifestRow, ManifestBuilding), Stop> {
    if upload.state != (UploadState::Completing { manifest }) {
        return Err(Rejection::PartsChanged.into());
    }
    let row: Option<ManifestRow> = step.row(Column::Manifests, &keys::manifest(manifest))?;
    let building = row.as_ref().and_then(|row| row.building);
    match (row, building) {
        (Some(row), Some(building))
            if building.upload == upload.upload && building.generation == upload.generation =>
        {
            Ok((manifest, row, building))
        }
        _ => Err(Rejection::PartsChanged.into()),
    }
}

/// The part as listed: after `last_part`, there, the same, and large enough.
fn check_part<R: Read>(
    step: &Step<'_, R>,
    upload: &UploadRow,
    last_part: u32,
    listed: &ListedPart,
    may_be_short: bool,
) -> Result<PartRow, Stop> {
    let number = listed.number;
    if number <= last_part {
        return Err(Rejection::InvalidPartOrder.into());
    }
    if number > PARTS_PER_UPLOAD {
        return Err(Rejection::InvalidPart(number).into());
    }
    let part: PartRow = step
        .row(Column::Uploads, &keys::part(upload.upload, number))?
        .ok_or(Rejection::InvalidPart(number))?;
    let same_checksum = |wanted| {
        part.checksum
            .as_ref()
            .is_some_and(|checksum: &Checksum| checksum.value == wanted)
    };
    if part.etag != listed.etag || !listed.checksum.as_ref().is_none_or(same_checksum) {
        return Err(Rejection::InvalidPart(number).into());
    }
    let bytes = part.bytes();
    if bytes < PART_BYTES_MIN && !may_be_short {
        return Err(Rejection::PartTooSmall { number, bytes }.into());
    }
    Ok(part)
}

/// Writes the slice's extents as pages of which the first begins at `page_start`, and counts them.
fn add_pages<R: Read>(
    step: &mut Step<'_, R>,
    manifest: ManifestId,
    row: &mut ManifestRow,
    mut page_start: u64,
    extents: &[Extent],
) -> Result<(), Stop> {
    if row.bytes > OBJECT_BYTES_MAX {
        return Err(Rejection::Size(format!("{} bytes, more than {OBJECT_BYTES_MAX}", row.bytes)).into());
    }
    let total = row.extents as usize + extents.len();
    if total > EXTENTS_PER_VERSION {
        return Err(Rejection::Size(format!("{total} extents, more than {EXTENTS_PER_VERSION}")).into());
    }
    row.extents = u32::try_from(total).map_err(|_| Rejection::Size(format!("{total} extents")))?;
    for page in extents.chunks(EXTENTS_PER_PAGE) {
        let key = keys::manifest_page(manifest, page_start);
        let extents = page.to_vec();
        step.put(Column::Manifests, key, &ManifestPage { extents });
        page_start += page.iter().map(|extent| extent.bytes).sum::<u64>();
    }
    Ok(())
}

/// Writes where the slice's parts are, and counts them.
fn add_parts<R: Read>(
    step: &mut Step<'_, R>,
    manifest: ManifestId,
    row: &mut ManifestRow,
    parts: Vec<ObjectPart>,
) -> Result<(), Stop> {
    let key = keys::manifest_parts(manifest, row.parts + 1);
    // At most `limits::PARTS_PER_UPLOAD`: each has a greater number than the one before.
    row.parts += u32::try_from(parts.len()).map_err(|_| Rejection::Size("too many parts".to_owned()))?;
    step.put(Column::Manifests, key, &ManifestParts { parts });
    Ok(())
}

/// Turns a finished manifest into an object version. Of an upload that is completed already it answers the
/// same again.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchUpload`, `PartsChanged`, `NoSuchKey`, `PreconditionFailed`,
/// `Size`, `QuotaExceeded`, `Invalid`.
pub fn complete<R: Read>(step: &mut Step<'_, R>, complete: &CompleteUpload) -> Result<Reply, Stop> {
    let bucket = complete.bucket.bucket;
    let key = complete.key.as_str();
    bounds::check_checksum(complete.checksum.as_ref())?;
    let bucket_row = authority::check_bucket(step, complete.bucket)?;
    authority::check_actor(step, complete.actor)?;
    let mut upload = upload::named(step, bucket, key, complete.upload)?.ok_or(Rejection::NoSuchUpload)?;
    if let UploadState::Completed {
        version,
        name,
        etag,
        checksum,
        ..
    } = upload.state
    {
        return Ok(Reply::Stored {
            version,
            name,
            etag,
            checksum,
        });
    }
    let (manifest, row, building) = resume(step, &upload, complete.manifest)?;
    if !building.closed {
        return Err(Rejection::Invalid("the last parts have not come".to_owned()).into());
    }
    if complete
        .expected_bytes
        .is_some_and(|expected| expected != row.bytes)
    {
        return Err(Rejection::Size(format!("{} bytes, not as many as said", row.bytes)).into());
    }
    let target = Target::find(step, &bucket_row, key)?;
    version::check_conditions(target.live(), &complete.conditions)?;
    let cleared = target.clear_all(step)?.closing(&upload);
    let new = VersionRow {
        version: VersionId {
            order: step.at.index,
            random: complete.random,
        },
        null: bucket_row.versioning.writes_null(),
        creator: upload.creator,
        bytes: row.bytes,
        etag: complete.etag,
        modified: complete.now,
        class: upload.class.clone(),
        metadata: std::mem::take(&mut upload.metadata),
        checksum: complete.checksum.clone(),
        content: own(step, manifest, row),
    };
    let name = bucket_row.versioning.shown(new.name());
    let (version, etag, checksum) = (new.version, new.etag, new.checksum.clone());
    cleared.put(step, new)?;
    let at = step.at.cluster_time;
    upload.state = UploadState::Completed {
        version,
        name,
        etag,
        checksum: checksum.clone(),
        at,
    };
    finish(step, &upload, at);
    Ok(Reply::Stored {
        version,
        name,
        etag,
        checksum,
    })
}

/// Makes the manifest the version's; one without extents is not kept.
fn own<R: Read>(step: &mut Step<'_, R>, manifest: ManifestId, mut row: ManifestRow) -> Content {
    let key = keys::manifest(manifest);
    if row.extents == 0 {
        // Of one part without bytes: every other one but the last must have some.
        step.delete(Column::Manifests, keys::manifest_parts(manifest, 1));
        step.delete(Column::Manifests, key);
        return Content::Empty;
    }
    row.references = 1;
    row.building = None;
    step.put(Column::Manifests, key, &row);
    Content::Manifest(manifest)
}

/// Keeps the upload's row as the memory of its completion at `at`. Metadata went with the version.
fn finish<R: Read>(step: &mut Step<'_, R>, upload: &UploadRow, at: ClusterTime) {
    step.put(Column::Uploads, keys::upload(upload.upload), upload);
    let index = keys::completed_upload(at, upload.upload);
    step.put_bytes(Column::Uploads, index, Bytes::new());
    upload::close(step, upload);
}
