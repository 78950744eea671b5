//! Release: the way of a copy out of the FAT. What lost its last reference joins the queue, keyed by the log
//! index at which that happened; the drain turns copies into erase orders; a vendor's acknowledgement takes
//! the copy out of its chunk row and frees the room. Where FAT and namespace meet on the way out.

use crate::command::Reply;
use crate::fat::room::{Holder, Rooms};
use crate::fat::rows::{ChunkRow, CopyPlace, CopyState, EraseOrderRow, ReleaseItem};
use crate::fat::{keys, query, vendor};
use crate::ids::{BlobId, CopyId, ManifestId, UploadId, VendorId};
use crate::limits::{CHUNKS_PER_DRAIN, COPIES_PER_BATCH};
use crate::namespace;
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, KeyRange, Read, StoreError};
use crate::units::room;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Queues all `chunks` chunks of a blob that nothing refers to any more. Never to be undone.
pub fn release_blob<R: Read>(step: &mut Step<'_, R>, blob: BlobId, chunks: u32) {
    let released = step.at.cluster_time;
    release(
        step,
        &ReleaseItem::Blob {
            blob,
            chunks,
            next: 0,
            released,
        },
    );
}

/// Queues a manifest that nothing refers to any more; its pages follow in the drain.
pub fn release_manifest<R: Read>(step: &mut Step<'_, R>, manifest: ManifestId) {
    let released = step.at.cluster_time;
    release(step, &ReleaseItem::Manifest { manifest, released });
}

/// Queues what belongs to a completed or aborted upload.
pub fn release_upload<R: Read>(step: &mut Step<'_, R>, upload: UploadId) {
    let released = step.at.cluster_time;
    release(step, &ReleaseItem::Upload { upload, released });
}

fn release<R: Read>(step: &mut Step<'_, R>, item: &ReleaseItem) {
    let number = step.next_release_number();
    step.put(Column::Releases, keys::release(step.at.index, number), item);
}

/// One bounded step from the front of the queue: up to [`CHUNKS_PER_DRAIN`] chunks of blobs, or one page of a
/// manifest or upload. Nothing, if what is at the front may have readers that `permit` does not rule out.
///
/// # Errors
/// When the store fails.
pub fn drain<R: Read>(step: &mut Step<'_, R>, permit: &query::ErasePermit) -> Result<Reply, Stop> {
    if !query::may_drain(step, permit)? {
        return Ok(Reply::Progress { more: false });
    }
    let items = query::releases(step, CHUNKS_PER_DRAIN)?;
    let mut rooms = Rooms::default();
    let mut budget = CHUNKS_PER_DRAIN;
    let mut drained = None;
    for (at, (key, item)) in items.into_iter().enumerate() {
        let finished = match item {
            ReleaseItem::Blob { .. } => drain_blob(step, &mut rooms, &key, item, &mut budget)?,
            // A page may change as many rows as a command may: it goes alone.
            ReleaseItem::Manifest { .. } | ReleaseItem::Upload { .. } if at > 0 => {
                drained = Some(key);
                break;
            }
            ReleaseItem::Manifest { manifest, .. } => {
                budget = 0;
                !namespace::release::drain_manifest_page(step, manifest)?
            }
            ReleaseItem::Upload { upload, .. } => {
                budget = 0;
                !namespace::release::drain_upload_page(step, upload)?
            }
        };
        drained = Some(key.clone());
        if finished {
            step.delete(Column::Releases, key);
        }
        if budget == 0 {
            break;
        }
    }
    if let Some(key) = drained {
        step.put_bytes(Column::System, Bytes::from_static(keys::DRAINED), key);
    }
    rooms.write(step);
    Ok(Reply::Progress {
        more: query::may_drain(step, permit)?,
    })
}

/// Orders the erase of the next chunks of a blob; whether it was the last of them.
fn drain_blob<R: Read>(
    step: &mut Step<'_, R>,
    rooms: &mut Rooms,
    key: &Bytes,
    item: ReleaseItem,
    budget: &mut usize,
) -> Result<bool, Stop> {
    let ReleaseItem::Blob {
        blob,
        chunks,
        next,
        released,
    } = item
    else {
        return Ok(false);
    };
    // A blob without chunks costs a step too, so that a run of them is bounded.
    *budget -= 1;
    if chunks == 0 {
        namespace::release::blob_gone(step, blob)?;
        return Ok(true);
    }
    let index = query::release_index(key)?;
    let batch = u32::try_from(*budget + 1).unwrap_or(u32::MAX);
    let past = next.saturating_add(batch).min(chunks);
    for chunk in next..past {
        order_erase(step, rooms, (index, released), CopyPlace { blob, index: chunk })?;
    }
    *budget = (*budget + 1).saturating_sub(past.abs_diff(next) as usize);
    if past == chunks {
        return Ok(true);
    }
    let rest = ReleaseItem::Blob {
        blob,
        chunks,
        next: past,
        released,
    };
    step.put(Column::Releases, key.clone(), &rest);
    Ok(false)
}

fn order_erase<R: Read>(
    step: &mut Step<'_, R>,
    rooms: &mut Rooms,
    (index, released): (u64, crate::cluster_time::ClusterTime),
    place: CopyPlace,
) -> Result<(), Stop> {
    let key = keys::chunk(place.blob, place.index);
    let Some(mut chunk) = step.row::<ChunkRow>(Column::Chunks, &key)? else {
        return Err(missing(place).into());
    };
    let (id, plaintext_bytes) = (chunk.chunk, chunk.plaintext_bytes);
    for copy in chunk
        .copies
        .iter_mut()
        .filter(|copy| copy.state != CopyState::Erasing)
    {
        copy.state = CopyState::Erasing;
        let bytes = room(plaintext_bytes, copy.pieces);
        rooms.shift(
            step,
            (copy.vendor, &copy.device_class),
            bytes,
            Holder::Used,
            Holder::Erasing,
        )?;
        let order = EraseOrderRow {
            room: bytes,
            device_class: copy.device_class.clone(),
            place,
            released,
        };
        let name = CopyId {
            chunk: id,
            lease: copy.lease,
        };
        step.put(
            Column::EraseOrders,
            keys::erase_order(copy.vendor, index, name),
            &order,
        );
    }
    step.put(Column::Chunks, key, &chunk);
    Ok(())
}

/// Takes a vendor's word that copies are erased, durably: their room is free, and with its last copy a chunk
/// is gone. Orders acknowledged already are passed over.
///
/// # Errors
/// Refused when there is no such vendor, or more than [`COPIES_PER_BATCH`] copies are named.
pub fn acknowledge<R: Read>(
    step: &mut Step<'_, R>,
    vendor: VendorId,
    copies: &[(u64, CopyId)],
) -> Result<Reply, Stop> {
    vendor::require(step, vendor)?;
    if copies.len() > COPIES_PER_BATCH {
        return Err(Rejection::Invalid(format!("more than {COPIES_PER_BATCH} copies")).into());
    }
    let mut rooms = Rooms::default();
    let mut shrunk: BTreeMap<BlobId, u32> = BTreeMap::new();
    for &(index, copy) in copies {
        let key = keys::erase_order(vendor, index, copy);
        let Some(order) = step.row::<EraseOrderRow>(Column::EraseOrders, &key)? else {
            continue;
        };
        step.delete(Column::EraseOrders, key);
        step.delete(Column::Copies, keys::copy(vendor, copy));
        let from = (vendor, order.device_class.as_str());
        rooms.shift(step, from, order.room, Holder::Erasing, Holder::Free)?;
        if take_out(step, vendor, copy, order.place)? {
            let last = shrunk.entry(order.place.blob).or_default();
            *last = order.place.index.max(*last);
        }
    }
    rooms.write(step);
    for (blob, last) in shrunk {
        if !has_chunks(step, blob, last)? {
            namespace::release::blob_gone(step, blob)?;
        }
    }
    Ok(Reply::Done)
}

/// Whether a blob has chunk rows left. Those behind `last`, the last one just deleted, are looked for first:
/// erasing goes from front to back, and what lies before would be waded through again and again.
fn has_chunks<R: Read>(step: &Step<'_, R>, blob: BlobId, last: u32) -> Result<bool, StoreError> {
    let all = KeyRange::prefix(&blob.to_bytes());
    let behind = all.clone().from(Bound::Excluded(keys::chunk(blob, last)));
    for range in [behind, all] {
        if !step.rows::<ChunkRow>(Column::Chunks, &range, 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes a copy out of its chunk row; whether the row went with it.
fn take_out<R: Read>(
    step: &mut Step<'_, R>,
    vendor: VendorId,
    copy: CopyId,
    place: CopyPlace,
) -> Result<bool, Stop> {
    let key = keys::chunk(place.blob, place.index);
    let Some(mut chunk) = step.row::<ChunkRow>(Column::Chunks, &key)? else {
        return Err(missing(place).into());
    };
    chunk
        .copies
        .retain(|row| row.vendor != vendor || row.lease != copy.lease);
    if chunk.copies.is_empty() {
        step.delete(Column::Chunks, key);
        return Ok(true);
    }
    step.put(Column::Chunks, key, &chunk);
    Ok(false)
}

fn missing(place: CopyPlace) -> StoreError {
    StoreError::Inconsistent(format!("{} has no chunk {}", place.blob, place.index))
}
