//! Pure questions about the FAT: what services, people and transitions ask of its rows. Nothing here changes
//! anything; whether the state asked is fresh enough is the caller's matter.

mod cluster;
mod leases;
mod release;
mod sessions;
mod vendors;

pub use cluster::{
    Counts, class, classes, cluster, cluster_time, counters, counts, directory, inline, invite, invites,
    issuers, kek_value, keks, member, members,
};
pub use leases::{
    LeaseWithRows, closed_leases, count_session_leases, judge, lease, lease_rows, leases, leases_to_confirm,
    open_leases, recallable_leases, session_leases,
};
pub use release::{
    ErasePermit, drained_index, erase_order_of, erase_orders, erase_orders_from, may_drain, release_index,
    releases,
};
pub use sessions::{has_sessions, live_sessions, safe_erase_index, session, sessions};
pub use vendors::{VendorWithRooms, copies, revoked, rooms, vendor, vendor_by_key, vendor_rows, vendors};

use crate::codec::Versioned;
use crate::fat::keys;
use crate::step::decode_row;
use crate::store::{Column, Direction, KeyRange, Read, StoreError};
use std::ops::ControlFlow;

fn count(rows: &impl Read, column: Column, range: &KeyRange, most: u64) -> Result<u64, StoreError> {
    let mut counted = 0;
    rows.scan(column, range, Direction::Forward, &mut |_, _| {
        counted += 1;
        if counted >= most {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(counted)
}

/// Up to `limit` rows of `range` that `keep` holds for.
fn select<T: Versioned>(
    rows: &impl Read,
    column: Column,
    range: &KeyRange,
    limit: usize,
    keep: impl Fn(&T) -> bool,
) -> Result<Vec<T>, StoreError> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    scan_rows(rows, column, range, |_, row: T| {
        if keep(&row) {
            found.push(row);
        }
        Ok(if found.len() >= limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(found)
}

/// Visits the decoded rows of `range` until `visit` breaks or fails.
pub(crate) fn scan_rows<T: Versioned>(
    rows: &impl Read,
    column: Column,
    range: &KeyRange,
    mut visit: impl FnMut(&[u8], T) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let mut failed = None;
    rows.scan(
        column,
        range,
        Direction::Forward,
        &mut |key, value| match decode_row(column, value).and_then(|row| visit(key, row)) {
            Ok(flow) => flow,
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    failed.map_or(Ok(()), Err)
}

fn id_at_end(key: &[u8]) -> Result<u64, StoreError> {
    let not_a_key = || StoreError::Inconsistent("a key does not end in an id".to_owned());
    keys::tail::<8>(key).map(u64::from_be_bytes).ok_or_else(not_a_key)
}
