//! Vendors, their room by device class, and the copies that lie there.

use super::{id_at_end, select};
use crate::fat::keys;
use crate::fat::rows::{CopyPlace, RoomRow, VendorRow, VendorState};
use crate::ids::{CopyId, VendorId};
use crate::limits::LIST_SCAN_ROWS_MAX;
use crate::step::ReadRows;
use crate::store::{Column, KeyRange, Read, StoreError};
use crate::wire::chunk::PublicKey;
use bytes::Bytes;
use std::ops::Bound;

/// A vendor with its room by device class.
pub type VendorWithRooms = (VendorRow, Vec<(String, RoomRow)>);

/// The vendor's row.
///
/// # Errors
/// When the store fails.
pub fn vendor(rows: &impl Read, vendor: VendorId) -> Result<Option<VendorRow>, StoreError> {
    rows.row(Column::Vendors, &keys::vendor(vendor))
}

/// All vendors by id.
///
/// # Errors
/// When the store fails.
pub fn vendor_rows(rows: &impl Read) -> Result<Vec<VendorRow>, StoreError> {
    select(
        rows,
        Column::Vendors,
        &KeyRange::prefix(b"i"),
        usize::MAX,
        |_: &VendorRow| true,
    )
}

/// The vendor with this public key.
///
/// # Errors
/// When the store fails.
pub fn vendor_by_key(rows: &impl Read, key: &PublicKey) -> Result<Option<VendorRow>, StoreError> {
    let Some(id) = rows.get(Column::Vendors, &keys::vendor_by_key(key))? else {
        return Ok(None);
    };
    vendor(rows, VendorId(id_at_end(&id)?))
}

/// Vendors that were shut out.
///
/// # Errors
/// When the store fails.
pub fn revoked(rows: &impl Read) -> Result<Vec<VendorId>, StoreError> {
    let revoked = select(
        rows,
        Column::Vendors,
        &KeyRange::prefix(b"i"),
        usize::MAX,
        |row: &VendorRow| row.state == VendorState::Revoked,
    )?;
    Ok(revoked.into_iter().map(|row| row.vendor).collect())
}

/// Copies of a vendor in the order of their names from behind `after`, at most `limit` (and
/// `limits::LIST_SCAN_ROWS_MAX`), and whether there are more: `Query::Copies`.
///
/// # Errors
/// When the store fails.
pub fn copies(
    rows: &impl Read,
    vendor: VendorId,
    after: Option<CopyId>,
    limit: usize,
) -> Result<(Vec<(CopyId, CopyPlace)>, bool), StoreError> {
    let limit = limit.min(LIST_SCAN_ROWS_MAX);
    if limit == 0 {
        return Ok((Vec::new(), false));
    }
    let mut range = KeyRange::prefix(&vendor.0.to_be_bytes());
    if let Some(after) = after {
        range = range.from(Bound::Excluded(keys::copy(vendor, after)));
    }
    let mut found: Vec<(Bytes, CopyPlace)> = rows.rows(Column::Copies, &range, limit + 1)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let named = found.into_iter().map(|(key, place)| {
        let name = keys::tail(&key)
            .ok_or_else(|| StoreError::Inconsistent("a key of copies is too short".to_owned()))?;
        Ok((CopyId::from_bytes(&name), place))
    });
    Ok((named.collect::<Result<_, StoreError>>()?, more))
}

/// All vendors with their room by device class: `Query::Vendors`.
///
/// # Errors
/// When the store fails.
pub fn vendors(rows: &impl Read) -> Result<Vec<VendorWithRooms>, StoreError> {
    let found = vendor_rows(rows)?.into_iter();
    found
        .map(|row| rooms(rows, row.vendor).map(|rooms| (row, rooms)))
        .collect()
}

/// Room of a vendor by device class.
///
/// # Errors
/// When the store fails.
pub fn rooms(rows: &impl Read, vendor: VendorId) -> Result<Vec<(String, RoomRow)>, StoreError> {
    let prefix = vendor.0.to_be_bytes();
    let found = rows.rows::<RoomRow>(Column::Rooms, &KeyRange::prefix(&prefix), usize::MAX)?;
    let named = |(key, row): (Bytes, RoomRow)| match std::str::from_utf8(&key[prefix.len()..]) {
        Ok(device_class) => Ok((device_class.to_owned(), row)),
        Err(_) => Err(StoreError::Inconsistent("a device class is not text".to_owned())),
    };
    found.into_iter().map(named).collect()
}
