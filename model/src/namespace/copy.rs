//! Copying an object within the FAT: the copy refers to the same bytes, which are kept until the last reference
//! goes. Nothing is read and nothing is sent.

use crate::command::{CopyObject, CopySource, Reply};
use crate::ids::{BucketId, VersionId};
use crate::namespace::rows::{Content, VersionEntry, VersionRow};
use crate::namespace::successor::Target;
use crate::namespace::{authority, blob, bounds, release, version};
use crate::rejection::Rejection;
use crate::step::{Step, Stop};
use crate::store::Read;

/// Makes a version of the target's key with the bytes of the version that the gateway read of the source, which
/// must be the current one still, unless it was asked for by its name. What the target replaces is released in the
/// same command. Source and target may be the same key: what is replaced then may be the source itself, whose
/// content goes on under other headers.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `SourceChanged`, `NoSuchKey`, `PreconditionFailed`,
/// `Invalid`, `Size`.
pub fn object<R: Read>(step: &mut Step<'_, R>, copy: &CopyObject) -> Result<Reply, Stop> {
    bounds::check_key(&copy.key)?;
    bounds::check_key(&copy.source_key)?;
    bounds::check_metadata(&copy.metadata)?;
    bounds::check_checksum(copy.checksum.as_ref())?;
    authority::check_bucket(step, copy.source)?;
    let bucket = authority::check_bucket(step, copy.target)?;
    authority::check_actor(step, copy.actor)?;
    let target = Target::find(step, &bucket, &copy.key)?;
    version::check_conditions(target.live(), &copy.conditions)?;
    let source = source(step, copy.source.bucket, &copy.source_key, copy.version)?;
    let to_itself = copy.source.bucket == bucket.bucket && copy.source_key == copy.key;
    let (content, cleared) = if to_itself && source.null && target.successor_is_null() {
        let without_content = VersionEntry::Object(Box::new(VersionRow {
            content: Content::Empty,
            ..source.clone()
        }));
        (source.content, target.clear(step, Some(&without_content))?)
    } else {
        let content = share(step, copy.source.bucket, &copy.source_key, &source)?;
        (content, target.clear_all(step)?)
    };
    let row = VersionRow {
        version: VersionId {
            order: step.at.index,
            random: copy.random,
        },
        null: bucket.versioning.writes_null(),
        creator: copy.actor.user,
        bytes: source.bytes,
        etag: source.etag,
        modified: copy.now,
        // Its bytes stay where they are, so its class does too.
        class: source.class,
        metadata: copy.metadata.clone(),
        checksum: copy.checksum.clone().or(source.checksum),
        content,
    };
    let reply = Reply::Stored {
        version: row.version,
        name: bucket.versioning.shown(row.name()),
        etag: row.etag,
        checksum: row.checksum.clone(),
    };
    cleared.put(step, row)?;
    Ok(reply)
}

/// The version to be copied.
pub(crate) fn source<R: Read>(
    step: &Step<'_, R>,
    bucket: BucketId,
    key: &str,
    source: CopySource,
) -> Result<VersionRow, Stop> {
    let id = match source {
        CopySource::Current(id) => version::live(step, bucket, key)?
            .map(|live| live.version)
            .filter(|live| *live == id)
            .ok_or(Rejection::SourceChanged)?,
        CopySource::Named(id) => id,
    };
    match version::of_id(step, bucket, key, id)? {
        Some(VersionEntry::Object(row)) => Ok(*row),
        Some(VersionEntry::DeleteMarker(_)) | None => Err(Rejection::SourceChanged.into()),
    }
}

/// What another version refers to the source's bytes by. A blob that was the source's alone gets a row, which
/// counts both from now on.
fn share<R: Read>(
    step: &mut Step<'_, R>,
    bucket: BucketId,
    key: &str,
    source: &VersionRow,
) -> Result<Content, Stop> {
    match &source.content {
        Content::Empty => {}
        Content::Single(extent) | Content::Held(extent, _) => {
            share_own(step, bucket, key, source)?;
            release::refer(step, extent.blob)?;
            return Ok(Content::Shared(extent.clone()));
        }
        Content::Shared(extent) => release::refer(step, extent.blob)?,
        Content::Manifest(manifest) => release::refer_manifest(step, *manifest)?,
    }
    Ok(source.content.clone())
}

/// If a version has a blob of its own, makes it a shared one, to which the version refers.
pub(crate) fn share_own<R: Read>(
    step: &mut Step<'_, R>,
    bucket: BucketId,
    key: &str,
    source: &VersionRow,
) -> Result<(), Stop> {
    let extent = match &source.content {
        Content::Single(extent) => extent,
        Content::Held(extent, sealed) => {
            blob::put_inline(step, extent.blob, sealed)?;
            extent
        }
        Content::Empty | Content::Manifest(_) | Content::Shared(_) => return Ok(()),
    };
    release::share(step, extent)?;
    let shared = VersionRow {
        content: Content::Shared(extent.clone()),
        ..source.clone()
    };
    version::put_back(step, bucket, key, shared)?;
    Ok(())
}
