//! What was released: the queue of it, and the erase orders that came out of it.

use super::scan_rows;
use crate::cluster_time::ClusterTime;
use crate::fat::keys;
use crate::fat::rows::{EraseOrderRow, ReleaseItem};
use crate::ids::{CopyId, VendorId};
use crate::step::ReadRows;
use crate::store::{Column, KeyRange, Read, StoreError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::{Bound, ControlFlow};

/// Which releases no reader can still be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasePermit {
    /// Releases at log indexes below this one: every live session's reads have passed them.
    pub below_index: u64,
    /// Releases before this time: no reader is waited for any longer.
    pub released_before: ClusterTime,
}

impl ErasePermit {
    /// Of every release: there are no readers.
    pub const ALL: Self = Self {
        below_index: u64::MAX,
        released_before: ClusterTime(u64::MAX),
    };

    /// Whether what was released at log index `index`, at the time `released`, can have no reader any more.
    #[must_use]
    pub fn allows(&self, index: u64, released: ClusterTime) -> bool {
        index < self.below_index || released < self.released_before
    }
}

/// Up to `limit` erase orders of a vendor that `permit` allows, oldest release first, as (release index,
/// copy).
///
/// # Errors
/// When the store fails.
pub fn erase_orders(
    rows: &impl Read,
    vendor: VendorId,
    permit: &ErasePermit,
    limit: usize,
) -> Result<Vec<(u64, CopyId)>, StoreError> {
    erase_orders_from(rows, vendor, None, permit, limit)
}

/// As [`erase_orders`], of those from the order `first` on: who knows that none is left before it need not
/// wade through what was acknowledged.
///
/// # Errors
/// When the store fails.
pub fn erase_orders_from(
    rows: &impl Read,
    vendor: VendorId,
    first: Option<(u64, CopyId)>,
    permit: &ErasePermit,
    limit: usize,
) -> Result<Vec<(u64, CopyId)>, StoreError> {
    let mut found = Vec::new();
    let mut range = KeyRange::prefix(&vendor.0.to_be_bytes());
    if let Some((index, copy)) = first {
        range = range.from(Bound::Included(keys::erase_order(vendor, index, copy)));
    }
    scan_rows(rows, Column::EraseOrders, &range, |key, row: EraseOrderRow| {
        let (index, copy) = erase_order_of(key)?;
        // Both grow along the queue: behind the first that must wait, all must.
        if !permit.allows(index, row.released) || found.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        found.push((index, copy));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// The release index and the copy that an erase order's key names.
///
/// # Errors
/// When it is not such a key.
pub fn erase_order_of(key: &[u8]) -> Result<(u64, CopyId), StoreError> {
    let copy = keys::tail::<{ CopyId::BYTES }>(key).map(|bytes| CopyId::from_bytes(&bytes));
    let index = key
        .get(8..16)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_be_bytes);
    index
        .zip(copy)
        .ok_or_else(|| StoreError::Inconsistent("an erase order's key is not one".to_owned()))
}

/// The first `limit` items of the release queue with their keys.
///
/// # Errors
/// When the store fails.
pub fn releases(rows: &impl Read, limit: usize) -> Result<Vec<(Bytes, ReleaseItem)>, StoreError> {
    rows.rows(Column::Releases, &queued(rows)?, limit)
}

/// Whether the item at the front of the release queue may be drained. A manifest's pages say where an object's
/// bytes are, and what they refer to inline goes with them: like copies, they stay until no reader can still
/// ask for them. What waits behind one was released later, so that its copies would have to wait all the same.
///
/// # Errors
/// When the store fails.
pub fn may_drain(rows: &impl Read, permit: &ErasePermit) -> Result<bool, StoreError> {
    match releases(rows, 1)?.pop() {
        Some((key, ReleaseItem::Manifest { released, .. })) => {
            Ok(permit.allows(release_index(&key)?, released))
        }
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

/// Where the release queue begins: a scan from there wades through nothing that was drained already.
pub(super) fn queued(rows: &impl Read) -> Result<KeyRange, StoreError> {
    let drained = rows.get(Column::System, keys::DRAINED)?;
    Ok(drained.map_or_else(KeyRange::all, |key| KeyRange::all().from(Bound::Included(key))))
}

/// The release index below which nothing waits in the queue, so that no erase order of a lower one is still to
/// come; 0 if nothing was ever drained.
///
/// # Errors
/// When the store fails or the mark is not a key.
pub fn drained_index(rows: &impl Read) -> Result<u64, StoreError> {
    let drained = rows.get(Column::System, keys::DRAINED)?;
    drained.map_or(Ok(0), |key| release_index(&key))
}

/// The release index that a key of the release queue names.
///
/// # Errors
/// When it is not such a key.
pub fn release_index(key: &[u8]) -> Result<u64, StoreError> {
    let index = key
        .get(..8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_be_bytes);
    index.ok_or_else(|| StoreError::Inconsistent("a release's key is not one".to_owned()))
}
