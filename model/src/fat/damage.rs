//! Copies that turned out damaged or lost. They keep their room and their place in the FAT: readers go to
//! another copy, and repair or erasure settles the rest.

use crate::command::Reply;
use crate::fat::rows::{ChunkRow, CopyPlace, CopyState};
use crate::fat::{keys, vendor};
use crate::ids::VendorId;
use crate::limits::COPIES_PER_BATCH;
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Read, StoreError};
use crate::wire::agent::DamagedCopy;

/// Marks the good ones of `copies` at `vendor` as damaged. A copy that the FAT does not name there (any more)
/// is passed over.
///
/// # Errors
/// Refused when there is no such vendor, or more than [`COPIES_PER_BATCH`] copies are named.
pub fn report<R: Read>(
    step: &mut Step<'_, R>,
    vendor: VendorId,
    copies: &[DamagedCopy],
) -> Result<Reply, Stop> {
    vendor::require(step, vendor)?;
    if copies.len() > COPIES_PER_BATCH {
        return Err(Rejection::Invalid(format!("more than {COPIES_PER_BATCH} copies")).into());
    }
    for damaged in copies {
        let index_key = keys::copy(vendor, damaged.copy);
        let Some(place) = step.row::<CopyPlace>(Column::Copies, &index_key)? else {
            continue;
        };
        let key = keys::chunk(place.blob, place.index);
        let Some(mut chunk) = step.row::<ChunkRow>(Column::Chunks, &key)? else {
            let what = format!("{} points to no chunk", damaged.copy);
            return Err(StoreError::Inconsistent(what).into());
        };
        let named = |copy: &&mut crate::fat::rows::CopyRow| {
            copy.vendor == vendor && copy.lease == damaged.copy.lease && copy.state == CopyState::Good
        };
        if let Some(copy) = chunk.copies.iter_mut().find(named) {
            copy.state = CopyState::Damaged;
            step.put(Column::Chunks, key, &chunk);
        }
    }
    Ok(Reply::Done)
}
