//! Copies that turned out damaged or lost, and lost ones that came back. Damaged ones keep their room and their place in the FAT: readers go to
//! another copy, and repair or erasure settles the rest.

use crate::command::Reply;
use crate::fat::rows::{ChunkRow, CopyPlace, CopyRow, CopyState};
use crate::fat::{keys, vendor};
use crate::ids::{CopyId, VendorId};
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
    let copies = copies.iter().map(|damaged| damaged.copy);
    turn(step, vendor, copies, CopyState::Good, CopyState::Damaged)
}

/// Marks the damaged ones of `copies` at `vendor` as good: the vendor had lost them, has them again and has
/// verified them.
///
/// # Errors
/// As [`report`].
pub fn found<R: Read>(step: &mut Step<'_, R>, vendor: VendorId, copies: &[CopyId]) -> Result<Reply, Stop> {
    let copies = copies.iter().copied();
    turn(step, vendor, copies, CopyState::Damaged, CopyState::Good)
}

fn turn<R: Read>(
    step: &mut Step<'_, R>,
    vendor: VendorId,
    copies: impl ExactSizeIterator<Item = CopyId>,
    from: CopyState,
    to: CopyState,
) -> Result<Reply, Stop> {
    vendor::require(step, vendor)?;
    if copies.len() > COPIES_PER_BATCH {
        return Err(Rejection::Invalid(format!("more than {COPIES_PER_BATCH} copies")).into());
    }
    for copy in copies {
        let index_key = keys::copy(vendor, copy);
        let Some(place) = step.row::<CopyPlace>(Column::Copies, &index_key)? else {
            continue;
        };
        let key = keys::chunk(place.blob, place.index);
        let Some(mut chunk) = step.row::<ChunkRow>(Column::Chunks, &key)? else {
            let what = format!("{copy} points to no chunk");
            return Err(StoreError::Inconsistent(what).into());
        };
        let named = |row: &&mut CopyRow| row.vendor == vendor && row.lease == copy.lease && row.state == from;
        if let Some(row) = chunk.copies.iter_mut().find(named) {
            row.state = to;
            step.put(Column::Chunks, key, &chunk);
        }
    }
    Ok(Reply::Done)
}
