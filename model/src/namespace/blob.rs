//! Blobs on their way in: slices of a long body, committed while it uploads and invisible until finalized,
//! and the last step, which makes of a blob the extent that a version or a part owns.

use crate::command::{Reply, SliceCommand};
use crate::fat;
use crate::fat::rows::{ChunkRow, InlineRow};
use crate::ids::{BlobId, SessionId};
use crate::limits::{
    CHUNK_BYTES_MAX, CHUNKS_PER_SLICE, FRAME_BYTES, HELD_BYTES_MAX, INLINE_BYTES_MAX, PART_BYTES_MAX,
};
use crate::namespace::bounds;
use crate::namespace::keys;
use crate::namespace::rows::{BlobOwner, BlobRow, BlobStorage, Content, Extent, WrappedKey};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, KeyRange, Read, StoreError};
use crate::units::stored_bytes;
use bytes::Bytes;

/// Commits the next chunks of a long body: settles their room, owned by a building blob of `session`.
///
/// # Errors
/// `Blob` when the blob is another session's or the slice is out of order; `Invalid`, `Size`; whatever
/// settling refuses.
pub fn slice<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    slice: &SliceCommand,
) -> Result<Reply, Stop> {
    let next = Next {
        blob: slice.blob,
        first: slice.first,
        chunk_bytes: slice.chunk_bytes,
        chunks: &slice.chunks,
        class: &slice.class,
    };
    if next.chunks.is_empty() {
        return Err(Rejection::Invalid("a slice without chunks".to_owned()).into());
    }
    let (chunks, bytes) = commit(step, session, &next)?;
    let row = BlobRow {
        owner: BlobOwner::Building(session),
        references: 0,
        storage: BlobStorage::Chunks(chunks),
        bytes,
        chunk_bytes: next.chunk_bytes,
    };
    step.put(Column::Blobs, keys::building_blob(next.blob), &row);
    Ok(Reply::Done)
}

/// Gives up a building blob of `session`: its chunks are released. One that is not building any more, or
/// never was, is passed over.
///
/// # Errors
/// `Blob` when the blob is another session's.
pub fn abandon<R: Read>(step: &mut Step<'_, R>, session: SessionId, blob: BlobId) -> Result<Reply, Stop> {
    check_session(session, blob)?;
    let key = keys::building_blob(blob);
    if let Some(row) = step.row::<BlobRow>(Column::Blobs, &key)? {
        let BlobStorage::Chunks(chunks) = row.storage else {
            return Err(StoreError::Inconsistent(format!("{blob} is building inline")).into());
        };
        step.delete(Column::Blobs, key);
        fat::release::release_blob(step, blob, chunks);
    }
    Ok(Reply::Done)
}

/// Up to `limit` building blobs of `session`.
///
/// # Errors
/// When the store fails.
pub fn building_of_session(
    rows: &impl Read,
    session: SessionId,
    limit: usize,
) -> Result<Vec<BlobId>, StoreError> {
    let range = KeyRange::prefix(&keys::building_blobs(session));
    let found = rows.rows::<BlobRow>(Column::Blobs, &range, limit)?;
    found.iter().map(|(key, _)| blob_of(key)).collect()
}

/// The blob that a key of `Column::Blobs` names.
pub(crate) fn blob_of(key: &[u8]) -> Result<BlobId, StoreError> {
    let (Some(session), Some(counter)) = (
        key.get(1..9).and_then(|bytes| bytes.try_into().ok()),
        key.get(9..17).and_then(|bytes| bytes.try_into().ok()),
    ) else {
        return Err(StoreError::Inconsistent(format!(
            "a key of blobs with {} bytes",
            key.len()
        )));
    };
    Ok(BlobId {
        session: SessionId(u64::from_be_bytes(session)),
        counter: u64::from_be_bytes(counter),
    })
}

/// The last chunks of a blob, and what the whole must be.
#[derive(Debug)]
pub(crate) struct LastChunks<'a> {
    pub next: Next<'a>,
    /// Plaintext bytes of the whole blob.
    pub plaintext_bytes: u64,
    pub key: &'a WrappedKey,
}

/// Chunks that follow those committed so far.
#[derive(Debug)]
pub(crate) struct Next<'a> {
    pub blob: BlobId,
    /// The number committed so far.
    pub first: u32,
    /// Plaintext bytes of each chunk but the last of the blob.
    pub chunk_bytes: u64,
    pub chunks: &'a [ChunkRow],
    /// Class under whose rule they were placed, with the version of the rule.
    pub class: &'a (String, u64),
}

/// Ends a blob: settles its last chunks, and gives the extent of the whole. The building row, if there were
/// slices, is gone; the caller owns the blob from now on.
pub(crate) fn finish<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    last: &LastChunks<'_>,
) -> Result<Extent, Stop> {
    bounds::check_wrapped_key(last.key)?;
    let blob = last.next.blob;
    if last.next.chunks.is_empty() && last.next.first == 0 {
        return Err(Rejection::Invalid("a body of chunks without chunks".to_owned()).into());
    }
    let (chunks, bytes) = commit(step, session, &last.next)?;
    if bytes != last.plaintext_bytes {
        let what = format!("has {bytes} bytes, not {}", last.plaintext_bytes);
        return Err(Rejection::Blob(blob, what).into());
    }
    if last.next.first > 0 {
        step.delete(Column::Blobs, keys::building_blob(blob));
    }
    Ok(Extent {
        blob,
        offset: 0,
        bytes,
        blob_bytes: bytes,
        chunk_bytes: last.next.chunk_bytes,
        storage: BlobStorage::Chunks(chunks),
        key: last.key.clone(),
    })
}

/// Keeps a small blob in the FAT itself, the smallest in the row of the version: its content.
///
/// # Errors
/// `NotInlined` when the settings do not allow it: the gateway stores at vendors instead.
pub(crate) fn inline<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    blob: BlobId,
    plaintext_bytes: u64,
    sealed: &Bytes,
    key: &WrappedKey,
) -> Result<Content, Stop> {
    check_session(session, blob)?;
    bounds::check_wrapped_key(key)?;
    if plaintext_bytes == 0 || sealed.len() as u64 != stored_bytes(plaintext_bytes) {
        let what = format!("{} sealed bytes for {plaintext_bytes}", sealed.len());
        return Err(Rejection::Invalid(what).into());
    }
    let mut settings: InlineRow = step
        .row(Column::System, fat::keys::INLINE)?
        .ok_or_else(|| Rejection::NotInlined("inlining is not set up".to_owned()))?;
    let cap = settings.cap_bytes.min(INLINE_BYTES_MAX);
    if plaintext_bytes > cap {
        return Err(Rejection::NotInlined(format!("{plaintext_bytes} bytes, the cap is {cap}")).into());
    }
    settings.used_bytes = settings.used_bytes.saturating_add(plaintext_bytes);
    if settings.used_bytes > settings.budget_bytes {
        return Err(Rejection::NotInlined("the budget is used up".to_owned()).into());
    }
    step.put(Column::System, Bytes::from_static(fat::keys::INLINE), &settings);
    let extent = Extent {
        blob,
        offset: 0,
        bytes: plaintext_bytes,
        blob_bytes: plaintext_bytes,
        chunk_bytes: 0,
        storage: BlobStorage::Inline,
        key: key.clone(),
    };
    if sealed.len() <= HELD_BYTES_MAX {
        return Ok(Content::Held(extent, sealed.clone()));
    }
    put_inline(step, blob, sealed)?;
    Ok(Content::Single(extent))
}

/// Gives inlined bytes a row of their own.
///
/// # Errors
/// `Blob` when there are some of this name already.
pub(crate) fn put_inline<R: Read>(step: &mut Step<'_, R>, blob: BlobId, sealed: &Bytes) -> Result<(), Stop> {
    let row = fat::keys::blob(blob);
    if step.get(Column::Inline, &row)?.is_some() {
        return Err(Rejection::Blob(blob, "is stored already".to_owned()).into());
    }
    step.put_bytes(Column::Inline, row, sealed.clone());
    Ok(())
}

/// Settles the next chunks. Answers the blob's chunks and bytes with them.
fn commit<R: Read>(step: &mut Step<'_, R>, session: SessionId, next: &Next<'_>) -> Result<(u32, u64), Stop> {
    let blob = next.blob;
    check_session(session, blob)?;
    if next.chunks.len() > CHUNKS_PER_SLICE {
        return Err(Rejection::Invalid(format!("{} chunks at once", next.chunks.len())).into());
    }
    let before = committed(step, next)?;
    let mut bytes = before;
    for chunk in next.chunks {
        // A chunk after a short one, or longer than the others, would break the arithmetic of offsets.
        if !bytes.is_multiple_of(next.chunk_bytes) || !(1..=next.chunk_bytes).contains(&chunk.plaintext_bytes)
        {
            let what = format!("has a chunk of {} bytes out of place", chunk.plaintext_bytes);
            return Err(Rejection::Blob(blob, what).into());
        }
        bytes += chunk.plaintext_bytes;
    }
    if bytes > PART_BYTES_MAX {
        return Err(Rejection::Size(format!("{bytes} bytes, more than {PART_BYTES_MAX}")).into());
    }
    if !next.chunks.is_empty() {
        fat::settle::settle(step, session, next.class, blob, next.first, next.chunks)?;
    }
    let chunks = u32::try_from(bytes.div_ceil(next.chunk_bytes))
        .map_err(|_| Rejection::Size(format!("too many chunks of {} bytes", next.chunk_bytes)))?;
    Ok((chunks, bytes))
}

/// Plaintext bytes committed before `next`, which must begin there.
fn committed<R: Read>(step: &Step<'_, R>, next: &Next<'_>) -> Result<u64, Stop> {
    let refused = |what: String| Stop::from(Rejection::Blob(next.blob, what));
    let whole_frames = next.chunk_bytes.is_multiple_of(FRAME_BYTES);
    if !(1..=CHUNK_BYTES_MAX).contains(&next.chunk_bytes) || !whole_frames {
        return Err(Rejection::Invalid(format!("chunks of {} bytes", next.chunk_bytes)).into());
    }
    if next.first == 0 {
        // A blob's first chunk row is there from its first slice on, until it is erased.
        return match step.get(Column::Chunks, &fat::keys::chunk(next.blob, 0))? {
            None => Ok(0),
            Some(_) => Err(refused("has chunks already".to_owned())),
        };
    }
    let Some(row) = step.row::<BlobRow>(Column::Blobs, &keys::building_blob(next.blob))? else {
        return Err(refused("is not building".to_owned()));
    };
    if row.storage != BlobStorage::Chunks(next.first) {
        return Err(refused(format!(
            "goes on at {:?}, not {}",
            row.storage, next.first
        )));
    }
    if row.chunk_bytes != next.chunk_bytes {
        return Err(refused(format!(
            "has chunks of {} bytes, not {}",
            row.chunk_bytes, next.chunk_bytes
        )));
    }
    Ok(row.bytes)
}

fn check_session(session: SessionId, blob: BlobId) -> Result<(), Rejection> {
    if blob.session == session {
        Ok(())
    } else {
        Err(Rejection::Blob(blob, format!("is not {session}'s")))
    }
}
