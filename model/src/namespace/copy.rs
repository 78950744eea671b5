//! Copying an object within the FAT: the copy refers to the same bytes, which are kept until the last reference
//! goes. Nothing is read and nothing is sent.

use crate::command::{CopyObject, Reply};
use crate::ids::{BucketId, VersionId};
use crate::namespace::rows::{Content, VersionRow};
use crate::namespace::{authority, bounds, keys, release, version};
use crate::rejection::Rejection;
use crate::step::{Step, Stop};
use crate::store::{Column, Read};

/// Makes a version of the target's key with the bytes of the source's current version, which must be the one
/// that the gateway read. What the target replaces is released in the same command. Source and target may be
/// the same key: then the version is replaced by one with other headers.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `SourceChanged`, `NoSuchKey`, `PreconditionFailed`,
/// `Invalid`, `Size`.
pub fn object<R: Read>(step: &mut Step<'_, R>, copy: &CopyObject) -> Result<Reply, Stop> {
    let bucket = copy.target.bucket;
    let key = copy.key.as_str();
    bounds::check_key(key)?;
    bounds::check_key(&copy.source_key)?;
    bounds::check_metadata(&copy.metadata)?;
    authority::check_bucket(step, copy.source)?;
    authority::check_bucket(step, copy.target)?;
    authority::check_actor(step, copy.actor)?;
    let replaced = version::live(step, bucket, key)?;
    version::check_conditions(replaced.as_ref(), &copy.conditions)?;

    let source = version::live(step, copy.source.bucket, &copy.source_key)?
        .filter(|live| live.version == copy.version)
        .ok_or(Rejection::SourceChanged)?;
    let source = version::current(step, copy.source.bucket, &copy.source_key, &source)?;
    let to_itself = copy.source.bucket == bucket && copy.source_key == key;
    let content = if to_itself {
        step.delete(Column::Versions, keys::version(bucket, key, source.version));
        source.content.clone()
    } else {
        let content = share(step, copy.source.bucket, &copy.source_key, &source)?;
        if let Some(replaced) = &replaced {
            version::remove(step, bucket, key, replaced)?;
        }
        content
    };
    let row = VersionRow {
        version: VersionId {
            order: step.at.index,
            random: copy.random,
        },
        creator: copy.actor.user,
        bytes: source.bytes,
        etag: source.etag,
        modified: copy.now,
        // Its bytes stay where they are, so its class does too.
        class: source.class,
        metadata: copy.metadata.clone(),
        checksum: source.checksum,
        content,
    };
    version::write(step, bucket, key, replaced.as_ref(), &row)?;
    Ok(Reply::Stored {
        version: row.version,
        etag: row.etag,
        checksum: row.checksum,
    })
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
        Content::Single(extent) => {
            release::share(step, extent)?;
            release::refer(step, extent.blob)?;
            let shared = VersionRow {
                content: Content::Shared(extent.clone()),
                ..source.clone()
            };
            step.put(
                Column::Versions,
                keys::version(bucket, key, source.version),
                &shared,
            );
            return Ok(shared.content);
        }
        Content::Shared(extent) => release::refer(step, extent.blob)?,
        Content::Manifest(manifest) => release::refer_manifest(step, *manifest)?,
    }
    Ok(source.content.clone())
}
