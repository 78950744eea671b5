//! Room rows while a command moves bytes between their columns: each is read once, checked at every move,
//! and written once. Every sum of the FAT changes here and nowhere else.

use super::keys;
use super::rows::RoomRow;
use crate::ids::VendorId;
use crate::step::{ReadRows, Step};
use crate::store::{Column, Read, StoreError};

/// Where bytes of a room row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody's.
    Free,
    /// Locked by a provisional FAT, not settled.
    Leased,
    /// Taken by a copy of the final FAT.
    Used,
    /// Ordered erased.
    Erasing,
}

#[derive(Debug)]
struct Held {
    vendor: VendorId,
    device_class: String,
    row: RoomRow,
}

/// The room rows one command changes.
#[derive(Debug, Default)]
pub struct Rooms {
    // A handful in the hot path (one per copy), so that a scan beats a map.
    held: Vec<Held>,
}

impl Rooms {
    /// The row of `vendor` and `device_class` as this command sees it; `None` if the vendor never had such
    /// devices.
    ///
    /// # Errors
    /// When the store fails.
    pub fn get(
        &mut self,
        rows: &impl Read,
        vendor: VendorId,
        device_class: &str,
    ) -> Result<Option<&mut RoomRow>, StoreError> {
        let known = self
            .held
            .iter()
            .position(|held| held.vendor == vendor && held.device_class == device_class);
        let at = match known {
            Some(at) => at,
            None => match rows.row::<RoomRow>(Column::Rooms, &keys::room(vendor, device_class))? {
                Some(row) => {
                    self.held.push(Held {
                        vendor,
                        device_class: device_class.to_owned(),
                        row,
                    });
                    self.held.len() - 1
                }
                None => return Ok(None),
            },
        };
        Ok(Some(&mut self.held[at].row))
    }

    /// Moves `bytes` of (`vendor`, `device_class`) from one holder to another. Who takes from
    /// [`Holder::Free`] has checked that there is enough.
    ///
    /// # Errors
    /// When the store fails, or the row does not hold what is taken from it: the table contradicts itself.
    pub fn shift(
        &mut self,
        rows: &impl Read,
        (vendor, device_class): (VendorId, &str),
        bytes: u64,
        from: Holder,
        to: Holder,
    ) -> Result<(), StoreError> {
        if bytes == 0 {
            // A device class that vanished and holds nothing has no row any more.
            return Ok(());
        }
        let contradiction = |what: &str| {
            StoreError::Inconsistent(format!(
                "{vendor} {device_class}: {bytes} bytes from {from:?} to {to:?}: {what}"
            ))
        };
        let row = self
            .get(rows, vendor, device_class)?
            .ok_or_else(|| contradiction("no room row"))?;
        if let Some(column) = column(row, from) {
            *column = column
                .checked_sub(bytes)
                .ok_or_else(|| contradiction("not held"))?;
        }
        if let Some(column) = column(row, to) {
            *column = column
                .checked_add(bytes)
                .ok_or_else(|| contradiction("too much"))?;
        }
        Ok(())
    }

    /// Writes all rows.
    pub fn write<R: Read>(self, step: &mut Step<'_, R>) {
        for held in self.held {
            step.put(
                Column::Rooms,
                keys::room(held.vendor, &held.device_class),
                &held.row,
            );
        }
    }
}

fn column(row: &mut RoomRow, holder: Holder) -> Option<&mut u64> {
    match holder {
        Holder::Free => None,
        Holder::Leased => Some(&mut row.leased),
        Holder::Used => Some(&mut row.used),
        Holder::Erasing => Some(&mut row.erasing),
    }
}
