//! Giving content back: what a version, part or manifest referred to, and the steps of the release drain
//! that are the namespace's. A count that reached 0 stays there: what is queued is never revived.

use crate::cluster_time::ClusterTime;
use crate::fat;
use crate::fat::rows::InlineRow;
use crate::ids::{BlobId, ManifestId, UploadId};
use crate::limits::{
    COMPLETED_UPLOAD_KEPT_MS, EXTENTS_PER_PAGE, PARTS_ROWS_PER_DRAIN, REFERENCES_MAX, ROWS_PER_TICK,
};
use crate::namespace::keys;
use crate::namespace::rows::{
    BlobOwner, BlobRow, BlobStorage, Content, Extent, ManifestPage, ManifestParts, ManifestRow, PartRow,
    UploadRow, UploadState,
};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Direction, KeyRange, Read, StoreError};
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// Lets go of a version's content.
///
/// # Errors
/// When the store fails or rows contradict each other.
pub fn content<R: Read>(step: &mut Step<'_, R>, content: &Content) -> Result<(), StoreError> {
    match content {
        Content::Empty => Ok(()),
        Content::Single(extent) => match extent.storage {
            BlobStorage::Inline => delete_inline(step, extent.blob, extent.blob_bytes),
            BlobStorage::Chunks(chunks) => {
                fat::release::release_blob(step, extent.blob, chunks);
                Ok(())
            }
        },
        Content::Manifest(manifest) => unrefer_manifest(step, *manifest),
        Content::Shared(extent) => unrefer(step, extent.blob),
        Content::Held(extent, _) => uncount_inline(step, extent.blob_bytes),
    }
}

/// Makes a blob that was just finished a shared one, with one reference.
pub(crate) fn share<R: Read>(step: &mut Step<'_, R>, extent: &Extent) -> Result<(), Stop> {
    let key = keys::shared_blob(extent.blob);
    if step.get(Column::Blobs, &key)?.is_some() {
        return Err(Rejection::Blob(extent.blob, "is stored already".to_owned()).into());
    }
    let row = BlobRow {
        owner: BlobOwner::Shared,
        references: 1,
        storage: extent.storage,
        bytes: extent.blob_bytes,
        chunk_bytes: extent.chunk_bytes,
    };
    step.put(Column::Blobs, key, &row);
    Ok(())
}

/// One reference more.
fn one_more(references: u32) -> Result<u32, Rejection> {
    match references {
        REFERENCES_MAX => Err(Rejection::TooManyReferences),
        references => Ok(references + 1),
    }
}

/// Adds a reference to a shared blob, which must have one.
///
/// # Errors
/// `TooManyReferences`; or when the store fails or the blob has none.
pub(crate) fn refer<R: Read>(step: &mut Step<'_, R>, blob: BlobId) -> Result<(), Stop> {
    let mut row = shared(step, blob)?;
    row.references = one_more(row.references)?;
    step.put(Column::Blobs, keys::shared_blob(blob), &row);
    Ok(())
}

/// Takes a reference from a shared blob; the last one releases it. Its row stays, with no references, until
/// the last chunk row is gone.
pub(crate) fn unrefer<R: Read>(step: &mut Step<'_, R>, blob: BlobId) -> Result<(), StoreError> {
    let mut row = shared(step, blob)?;
    row.references -= 1;
    let key = keys::shared_blob(blob);
    match row.storage {
        BlobStorage::Inline if row.references == 0 => {
            step.delete(Column::Blobs, key);
            return delete_inline(step, blob, row.bytes);
        }
        BlobStorage::Chunks(chunks) if row.references == 0 => fat::release::release_blob(step, blob, chunks),
        BlobStorage::Inline | BlobStorage::Chunks(_) => {}
    }
    step.put(Column::Blobs, key, &row);
    Ok(())
}

/// The row of a shared blob that has references.
fn shared<R: Read>(step: &Step<'_, R>, blob: BlobId) -> Result<BlobRow, StoreError> {
    step.row::<BlobRow>(Column::Blobs, &keys::shared_blob(blob))?
        .filter(|row| row.references > 0)
        .ok_or_else(|| StoreError::Inconsistent(format!("{blob} is referred to but has no references")))
}

/// Adds a reference to a manifest, which must have one.
///
/// # Errors
/// `TooManyReferences`; or when the store fails or the manifest has none.
pub(crate) fn refer_manifest<R: Read>(step: &mut Step<'_, R>, manifest: ManifestId) -> Result<(), Stop> {
    let mut row = referred_manifest(step, manifest)?;
    row.references = one_more(row.references)?;
    step.put(Column::Manifests, keys::manifest(manifest), &row);
    Ok(())
}

/// The row of a manifest that has references.
fn referred_manifest<R: Read>(step: &Step<'_, R>, manifest: ManifestId) -> Result<ManifestRow, StoreError> {
    step.row::<ManifestRow>(Column::Manifests, &keys::manifest(manifest))?
        .filter(|row| row.references > 0)
        .ok_or_else(|| StoreError::Inconsistent(format!("{manifest} is referred to but has no references")))
}

fn unrefer_manifest<R: Read>(step: &mut Step<'_, R>, manifest: ManifestId) -> Result<(), StoreError> {
    let mut row = referred_manifest(step, manifest)?;
    row.references -= 1;
    step.put(Column::Manifests, keys::manifest(manifest), &row);
    if row.references == 0 {
        fat::release::release_manifest(step, manifest);
    }
    Ok(())
}

/// Deletes inlined bytes at once, in the command that took the last reference.
fn delete_inline<R: Read>(
    step: &mut Step<'_, R>,
    blob: BlobId,
    plaintext_bytes: u64,
) -> Result<(), StoreError> {
    step.delete(Column::Inline, fat::keys::blob(blob));
    uncount_inline(step, plaintext_bytes)
}

/// Gives the room of inlined bytes back.
fn uncount_inline<R: Read>(step: &mut Step<'_, R>, plaintext_bytes: u64) -> Result<(), StoreError> {
    let mut settings: InlineRow = step
        .row(Column::System, fat::keys::INLINE)?
        .ok_or_else(|| StoreError::Inconsistent("bytes are inlined, but none can be".to_owned()))?;
    settings.used_bytes = settings
        .used_bytes
        .checked_sub(plaintext_bytes)
        .ok_or_else(|| StoreError::Inconsistent("more is inlined than is counted".to_owned()))?;
    step.put(Column::System, Bytes::from_static(fat::keys::INLINE), &settings);
    Ok(())
}

/// One bounded step of draining a released manifest: takes a page of its extents, whose blobs lose a
/// reference each, then where its parts were, and at the end the manifest's own row. Answers whether there is more to
/// do.
///
/// # Errors
/// When the store fails or rows contradict each other.
pub fn drain_manifest_page<R: Read>(step: &mut Step<'_, R>, manifest: ManifestId) -> Result<bool, Stop> {
    let range = KeyRange::prefix(&keys::manifest_pages(manifest));
    let pages: Vec<(Bytes, ManifestPage)> = step.rows(Column::Manifests, &range, 2)?;
    let more = pages.len() > 1;
    if let Some((key, page)) = pages.into_iter().next() {
        for extent in &page.extents {
            unrefer(step, extent.blob)?;
        }
        step.delete(Column::Manifests, key);
    }
    if more {
        return Ok(true);
    }
    let range = KeyRange::prefix(&keys::manifest_all_parts(manifest));
    let mut parts: Vec<(Bytes, ManifestParts)> =
        step.rows(Column::Manifests, &range, PARTS_ROWS_PER_DRAIN + 1)?;
    let more = parts.len() > PARTS_ROWS_PER_DRAIN;
    parts.truncate(PARTS_ROWS_PER_DRAIN);
    for (key, _) in parts {
        step.delete(Column::Manifests, key);
    }
    if !more {
        step.delete(Column::Manifests, keys::manifest(manifest));
    }
    Ok(more)
}

/// One bounded step of draining a completed or aborted upload: takes some of its parts, whose blobs lose a
/// reference each. The row of a completed upload stays until it is forgotten. Answers whether there is more
/// to do.
///
/// # Errors
/// When the store fails or rows contradict each other.
pub fn drain_upload_page<R: Read>(step: &mut Step<'_, R>, upload: UploadId) -> Result<bool, Stop> {
    let range = KeyRange::prefix(&keys::parts(upload));
    let mut parts: Vec<(Bytes, PartRow)> = step.rows(Column::Uploads, &range, EXTENTS_PER_PAGE + 1)?;
    let mut more = parts.len() > EXTENTS_PER_PAGE;
    parts.truncate(EXTENTS_PER_PAGE);
    let mut unreferred = 0;
    for (key, part) in parts {
        if unreferred >= EXTENTS_PER_PAGE {
            more = true;
            break;
        }
        for extent in &part.extents {
            unrefer(step, extent.blob)?;
        }
        unreferred += part.extents.len();
        step.delete(Column::Uploads, key);
    }
    if !more {
        let key = keys::upload(upload);
        let row: Option<UploadRow> = step.row(Column::Uploads, &key)?;
        if row.is_some_and(|row| !matches!(row.state, UploadState::Completed { .. })) {
            step.delete(Column::Uploads, key);
        }
    }
    Ok(more)
}

/// The last chunk row of a released blob is gone: so is its own row, if it had one.
///
/// # Errors
/// When the store fails or the blob is referred to.
pub fn blob_gone<R: Read>(step: &mut Step<'_, R>, blob: BlobId) -> Result<(), Stop> {
    let key = keys::shared_blob(blob);
    if let Some(row) = step.row::<BlobRow>(Column::Blobs, &key)? {
        if row.references > 0 {
            return Err(StoreError::Inconsistent(format!("{blob} is referred to, but erased")).into());
        }
        step.delete(Column::Blobs, key);
    }
    Ok(())
}

/// Forgets up to `limits::ROWS_PER_TICK` / 2 uploads, of two rows each, that were completed
/// `limits::COMPLETED_UPLOAD_KEPT_MS` before `now` or earlier.
///
/// # Errors
/// When the store fails or a key is malformed.
pub fn forget_completed<R: Read>(step: &mut Step<'_, R>, now: ClusterTime) -> Result<(), Stop> {
    let Some(until) = now.0.checked_sub(COMPLETED_UPLOAD_KEPT_MS) else {
        return Ok(());
    };
    let first = keys::completed_upload(ClusterTime(0), UploadId(0));
    let behind = keys::completed_upload(ClusterTime(until.saturating_add(1)), UploadId(0));
    let range = KeyRange {
        start: Bound::Included(first),
        end: Bound::Excluded(behind),
    };
    let mut due = Vec::new();
    step.scan(Column::Uploads, &range, Direction::Forward, &mut |key, _| {
        due.push(Bytes::copy_from_slice(key));
        if due.len() == ROWS_PER_TICK / 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    for key in due {
        let upload = fat::keys::tail::<8>(&key)
            .map(|id| UploadId(u64::from_be_bytes(id)))
            .ok_or_else(|| StoreError::Inconsistent("a key of uploads is too short".to_owned()))?;
        step.delete(Column::Uploads, keys::upload(upload));
        step.delete(Column::Uploads, key);
    }
    Ok(())
}
