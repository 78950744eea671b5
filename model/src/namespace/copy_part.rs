//! Copying bytes of an object into a part of an upload within the FAT: the part refers to the same blobs, which are
//! kept until the last reference goes. Nothing is read and nothing is sent.

use crate::command::{CopyPart, Reply};
use crate::ids::ManifestId;
use crate::limits::{EXTENTS_PER_PART, PART_BYTES_MAX};
use crate::namespace::locate;
use crate::namespace::rows::{BlobStorage, Content, Etag, Extent, PartRow, VersionRow};
use crate::namespace::{authority, bounds, copy, release, upload};
use crate::rejection::Rejection;
use crate::step::{Step, Stop};
use crate::store::{Read, StoreError};
use std::ops::{ControlFlow, Range};

/// Makes a part, or replaces it, of bytes of the version that the gateway read of the source, which must be the current
/// one still, unless it was asked for by its name. Both must have the same class, since the bytes stay where they are.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchUpload`, `SourceChanged`, `TooManyExtents`, `Size`, `QuotaExceeded`, `Invalid`.
pub fn copy<R: Read>(step: &mut Step<'_, R>, command: &CopyPart) -> Result<Reply, Stop> {
    upload::check_part_number(command.number)?;
    if !matches!(command.etag, Etag::Md5(_)) {
        return Err(Rejection::Invalid("a part's entity tag is one digest".to_owned()).into());
    }
    bounds::check_key(&command.source_key)?;
    bounds::check_checksum(command.checksum.as_ref())?;
    authority::check_bucket(step, command.source)?;
    let target = authority::check_bucket(step, command.target)?;
    authority::check_actor(step, command.actor)?;
    let upload = upload::open(step, command.target, &command.key, command.upload)?;
    let bucket = command.source.bucket;
    let source = copy::source(step, bucket, &command.source_key, command.version)?;
    if source.class != upload.class {
        let what = format!("a part of {} in {}", source.class, upload.class);
        return Err(Rejection::Invalid(what).into());
    }
    let extents = extents(step, &source, range(&source, command)?)?;
    copy::share_own(step, bucket, &command.source_key, &source)?;
    for extent in &extents {
        release::refer(step, extent.blob)?;
    }
    let part = PartRow {
        extents,
        etag: command.etag,
        modified: command.now,
        checksum: command.checksum.clone(),
    };
    upload::put_part(step, &target, upload, (command.number, &part))?;
    Ok(Reply::Done)
}

/// The bytes that are to be copied.
fn range(source: &VersionRow, command: &CopyPart) -> Result<Range<u64>, Rejection> {
    let end = command
        .first
        .checked_add(command.bytes)
        .filter(|end| *end <= source.bytes)
        .ok_or_else(|| Rejection::Invalid("a range beyond its source".to_owned()))?;
    if command.bytes > PART_BYTES_MAX {
        return Err(Rejection::Size(format!(
            "{} bytes, more than {PART_BYTES_MAX}",
            command.bytes
        )));
    }
    if command.bytes == 0 && source.bytes > 0 {
        return Err(Rejection::Invalid("a range of no bytes".to_owned()));
    }
    Ok(command.first..end)
}

/// Extents that cover these bytes of a version.
fn extents<R: Read>(
    step: &Step<'_, R>,
    source: &VersionRow,
    wanted: Range<u64>,
) -> Result<Vec<Extent>, Stop> {
    let extents = match &source.content {
        Content::Empty => Vec::new(),
        Content::Single(extent) | Content::Shared(extent) | Content::Held(extent, _) => {
            cut(extent, 0, &wanted).into_iter().collect()
        }
        Content::Manifest(manifest) => of_manifest(step, *manifest, &wanted)?,
    };
    if extents.iter().any(|extent| extent.storage == BlobStorage::Inline) {
        return Err(Rejection::Invalid("a part is never inlined".to_owned()).into());
    }
    let bytes: u64 = extents.iter().map(|extent| extent.bytes).sum();
    if bytes != wanted.end - wanted.start {
        let what = format!("bytes of version {} are nowhere", source.version);
        return Err(StoreError::Inconsistent(what).into());
    }
    Ok(extents)
}

fn of_manifest<R: Read>(
    step: &Step<'_, R>,
    manifest: ManifestId,
    wanted: &Range<u64>,
) -> Result<Vec<Extent>, Stop> {
    let mut found = Vec::new();
    let mut too_many = false;
    locate::manifest_extents(step, manifest, wanted.start, |start, extent| {
        if start >= wanted.end {
            return Ok(ControlFlow::Break(()));
        }
        found.extend(cut(extent, start, wanted));
        too_many = found.len() > EXTENTS_PER_PART;
        Ok(if too_many {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    if too_many {
        return Err(Rejection::TooManyExtents.into());
    }
    Ok(found)
}

/// What is wanted of an extent that begins at byte `start` of the whole.
fn cut(extent: &Extent, start: u64, wanted: &Range<u64>) -> Option<Extent> {
    let first = wanted.start.max(start);
    let end = wanted.end.min(start + extent.bytes);
    (first < end).then(|| Extent {
        offset: extent.offset + (first - start),
        bytes: end - first,
        ..extent.clone()
    })
}
