//! Making an object visible: one command, all or nothing.

use crate::command::{Body, FinalizeObject, Reply};
use crate::ids::{SessionId, VersionId};
use crate::namespace::blob::{self, LastChunks, Next};
use crate::namespace::rows::{Content, VersionRow};
use crate::namespace::successor::Target;
use crate::namespace::{authority, bounds, version};
use crate::rejection::Rejection;
use crate::step::{Step, Stop};
use crate::store::Read;

/// Makes a version of an object, and makes it the current one. What it replaces is released in the same command.
///
/// Beside hot rows it reads the version that is replaced, and whether a blob of its own is new; it writes the live row,
/// the version, and what the body brings. Where old versions are kept it reads the live row too.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`, `NoSuchClass`, `NoSuchKey`, `PreconditionFailed`, `Invalid`, `Size`,
/// `NotInlined`, `Blob`, and whatever settling refuses.
pub fn object<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    finalize: &FinalizeObject,
) -> Result<Reply, Stop> {
    bounds::check_key(&finalize.key)?;
    bounds::check_metadata(&finalize.metadata)?;
    bounds::check_checksum(finalize.checksum.as_ref())?;
    let bucket = authority::check_bucket(step, finalize.bucket)?;
    authority::check_actor(step, finalize.actor)?;
    authority::check_class(step, &finalize.class)?;
    let target = Target::find(step, &bucket, &finalize.key)?;
    version::check_conditions(target.live(), &finalize.conditions)?;
    let cleared = target.clear_all(step)?;
    let content = store_body(step, session, &finalize.class, &finalize.body)?;
    let row = VersionRow {
        version: VersionId {
            order: step.at.index,
            random: finalize.random,
        },
        null: bucket.versioning.writes_null(),
        creator: finalize.actor.user,
        bytes: content.extent().map_or(0, |extent| extent.bytes),
        etag: finalize.etag,
        modified: finalize.now,
        class: finalize.class.clone(),
        metadata: finalize.metadata.clone(),
        checksum: finalize.checksum.clone(),
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

/// Stores a body of `class`: what its owner's content is.
pub(crate) fn store_body<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    class: &str,
    body: &Body,
) -> Result<Content, Stop> {
    match body {
        Body::Empty => Ok(Content::Empty),
        Body::Inline {
            blob,
            plaintext_bytes,
            sealed,
            key,
        } => blob::inline(step, session, *blob, *plaintext_bytes, sealed, key),
        Body::Chunks {
            blob,
            plaintext_bytes,
            chunk_bytes,
            first,
            chunks,
            key,
            class: placed,
        } => {
            if placed.0 != class {
                let what = format!("placed as {}, asked as {class}", placed.0);
                return Err(Rejection::Invalid(what).into());
            }
            let next = Next {
                blob: *blob,
                first: *first,
                chunk_bytes: *chunk_bytes,
                chunks,
                class: placed,
            };
            let last = LastChunks {
                next,
                plaintext_bytes: *plaintext_bytes,
                key,
            };
            blob::finish(step, session, &last).map(Content::Single)
        }
    }
}
