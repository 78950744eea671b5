//! Settling: room of a lease becomes room of copies, and chunks enter the final FAT. This is where FAT and
//! namespace meet on the way in; it lies on the path of every PUT, so that each row is read once and nothing
//! is scanned.

use crate::fat::room::{Holder, Rooms};
use crate::fat::rows::{ChunkRow, ClassRow, CopyPlace, CopyRow, LeaseVendorRow, VendorRow};
use crate::fat::{allocate, class, keys, placement, vendor};
use crate::ids::{BlobId, LeaseId, SessionId, VendorId};
use crate::limits::CHUNKS_PER_SLICE;
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Read};
use crate::units::room;

/// Commits `chunks` as those of `blob` from index `first` on, under the rule `class` (name, settings
/// version): checks every copy's placement and lease, moves its room from leased to used, and writes the
/// chunk rows.
///
/// # Errors
/// Refused when the class has changed, a chunk or its placement breaks the rule, or a lease is closed or has
/// too little left.
pub fn settle<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    class: &(String, u64),
    blob: BlobId,
    first: u32,
    chunks: &[ChunkRow],
) -> Result<(), Stop> {
    let class = class::current(step, class)?;
    let past = u32::try_from(chunks.len())
        .ok()
        .and_then(|chunks| first.checked_add(chunks));
    if chunks.len() > CHUNKS_PER_SLICE || past.is_none() {
        return Err(Rejection::Invalid(format!("more than {CHUNKS_PER_SLICE} chunks at once")).into());
    }
    let mut settling = Settling::default();
    for (chunk, index) in chunks.iter().zip(first..) {
        placement::check_chunk(&class, chunk)?;
        settling.check_vendors(step, &class, chunk)?;
        for copy in &chunk.copies {
            let place = CopyPlace { blob, index };
            settling.copy(step, (session, &class), chunk, copy, place)?;
        }
        step.put(Column::Chunks, keys::chunk(blob, index), chunk);
    }
    settling.write(step);
    Ok(())
}

/// What the copies of one command have in common: few leases, few vendors. Small vectors, because a scan of a
/// handful beats a map.
#[derive(Default)]
struct Settling {
    open: Vec<LeaseId>,
    leased: Vec<(LeaseId, VendorId, LeaseVendorRow)>,
    rooms: Rooms,
    vendors: Vec<VendorRow>,
}

impl Settling {
    fn copy<R: Read>(
        &mut self,
        step: &mut Step<'_, R>,
        (session, class): (SessionId, &ClassRow),
        chunk: &ChunkRow,
        copy: &CopyRow,
        place: CopyPlace,
    ) -> Result<(), Stop> {
        self.check_lease(step, session, class, copy.lease)?;
        let asked = room(chunk.plaintext_bytes, copy.pieces);
        let exceeded = Rejection::LeaseExceeded {
            lease: copy.lease,
            vendor: copy.vendor,
            asked,
        };
        let Some(leased) = self.leased(step, copy)? else {
            return Err(exceeded.into());
        };
        if leased.device_class != copy.device_class {
            let (lease, device_class, vendor) = (copy.lease, &copy.device_class, copy.vendor);
            return Err(placement::refused(
                class,
                format_args!("{lease} has no {device_class:?} room at {vendor}"),
            )
            .into());
        }
        if leased.locked.saturating_sub(leased.settled) < asked {
            return Err(exceeded.into());
        }
        leased.settled += asked;
        let room = (copy.vendor, copy.device_class.as_str());
        self.rooms
            .shift(step, room, asked, Holder::Leased, Holder::Used)?;
        let key = keys::copy(copy.vendor, chunk.copy_id(copy));
        if step.get(Column::Copies, &key)?.is_some() {
            return Err(Rejection::Invalid(format!("{} exists already", chunk.copy_id(copy))).into());
        }
        step.put(Column::Copies, key, &place);
        Ok(())
    }

    fn check_lease<R: Read>(
        &mut self,
        step: &Step<'_, R>,
        session: SessionId,
        class: &ClassRow,
        lease: LeaseId,
    ) -> Result<(), Stop> {
        if self.open.contains(&lease) {
            return Ok(());
        }
        let row = allocate::open_lease(step, session, lease)?;
        if row.class != class.name {
            let made_for = &row.class;
            return Err(placement::refused(class, format_args!("{lease} was made for {made_for}")).into());
        }
        self.open.push(lease);
        Ok(())
    }

    fn leased<R: Read>(
        &mut self,
        step: &Step<'_, R>,
        copy: &CopyRow,
    ) -> Result<Option<&mut LeaseVendorRow>, Stop> {
        let same = |(lease, vendor, _): &(LeaseId, VendorId, LeaseVendorRow)| {
            *lease == copy.lease && *vendor == copy.vendor
        };
        let at = match self.leased.iter().position(same) {
            Some(at) => at,
            None => {
                let key = keys::lease_vendor(copy.lease, copy.vendor);
                let Some(row) = step.row(Column::Leases, &key)? else {
                    return Ok(None);
                };
                self.leased.push((copy.lease, copy.vendor, row));
                self.leased.len() - 1
            }
        };
        Ok(Some(&mut self.leased[at].2))
    }

    fn check_vendors<R: Read>(
        &mut self,
        step: &Step<'_, R>,
        class: &ClassRow,
        chunk: &ChunkRow,
    ) -> Result<(), Stop> {
        for copy in &chunk.copies {
            if !self.vendors.iter().any(|row| row.vendor == copy.vendor) {
                self.vendors.push(vendor::require(step, copy.vendor)?);
            }
        }
        let here = |row: &&VendorRow| chunk.copies.iter().any(|copy| copy.vendor == row.vendor);
        placement::check_vendors(class, self.vendors.iter().filter(here))?;
        Ok(())
    }

    fn write<R: Read>(self, step: &mut Step<'_, R>) {
        for (lease, vendor, row) in &self.leased {
            step.put(Column::Leases, keys::lease_vendor(*lease, *vendor), row);
        }
        self.rooms.write(step);
    }
}
