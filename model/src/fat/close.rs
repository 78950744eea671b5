//! The end of provisional FATs: recall, shrink, return, expiry, and the vendors' confirmations that make the
//! unsettled room free again.

use crate::cluster_time::ClusterTime;
use crate::command::Reply;
use crate::fat::allocate::open_lease;
use crate::fat::room::{Holder, Rooms};
use crate::fat::rows::{LeaseRow, LeaseState, LeaseVendorRow};
use crate::fat::{keys, query};
use crate::ids::{LeaseId, SessionId, VendorId};
use crate::limits::{ROWS_PER_TICK, VENDORS_PER_LEASE};
use crate::rejection::Rejection;
use crate::session;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Read, StoreError};

/// Asks the lease's session to give back what it has not granted. A lease that is closing or closed needs no
/// asking.
///
/// # Errors
/// When the store fails.
pub fn recall<R: Read>(step: &mut Step<'_, R>, lease: LeaseId) -> Result<Reply, Stop> {
    if let Some(mut row) = query::lease(step, lease)?
        && row.state == LeaseState::Open
        && !row.recalled
    {
        row.recalled = true;
        put(step, &row);
    }
    Ok(Reply::Done)
}

/// Sets a lease to closing because it is due: its deadline passed, or its session does not live.
///
/// # Errors
/// Refused when it is not due; its session may have renewed it since the leader looked.
pub fn expire<R: Read>(step: &mut Step<'_, R>, lease: LeaseId) -> Result<Reply, Stop> {
    let Some(row) = query::lease(step, lease)? else {
        return Ok(Reply::Done);
    };
    if row.deadline > step.at.cluster_time && session::is_live(step, row.session)? {
        return Err(Rejection::Invalid(format!("{lease} is not due")).into());
    }
    set_closing(step, row);
    Ok(Reply::Done)
}

/// Takes a vendor's word that it has persisted the close of a lease and refuses chunks under it from now on:
/// what it did not settle there is free. With the last vendor's word the lease's rows go.
///
/// # Errors
/// Refused when the lease is open, or does not name the vendor.
pub fn confirm<R: Read>(step: &mut Step<'_, R>, lease: LeaseId, vendor: VendorId) -> Result<Reply, Stop> {
    let Some(row) = query::lease(step, lease)? else {
        return Ok(Reply::Done);
    };
    if row.state == LeaseState::Open {
        return Err(Rejection::Invalid(format!("{lease} is open")).into());
    }
    let key = keys::lease_vendor(lease, vendor);
    let Some(mut leased) = step.row::<LeaseVendorRow>(Column::Leases, &key)? else {
        return Err(Rejection::Invalid(format!("{lease} does not name {vendor}")).into());
    };
    if leased.confirmed {
        return Ok(Reply::Done);
    }
    leased.confirmed = true;
    free(step, vendor, &leased.device_class, unsettled(&leased)?)?;
    step.put(Column::Leases, key, &leased);
    let rows = query::lease_rows(step, lease)?;
    if rows.iter().all(|(_, row)| row.confirmed) {
        for (vendor, _) in rows {
            step.delete(Column::Leases, keys::lease_vendor(lease, vendor));
        }
        step.delete(Column::Leases, keys::lease(lease));
    }
    Ok(Reply::Done)
}

/// Gives back room for which no grant was passed on: free at once.
///
/// # Errors
/// Refused when the lease is not open or not this session's, or has not so much unsettled room.
pub fn shrink<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    lease: LeaseId,
    rows: &[(VendorId, u64)],
) -> Result<Reply, Stop> {
    open_lease(step, session, lease)?;
    if rows.len() > VENDORS_PER_LEASE {
        return Err(Rejection::Invalid(format!("more than {VENDORS_PER_LEASE} rows")).into());
    }
    for &(vendor, bytes) in rows {
        let key = keys::lease_vendor(lease, vendor);
        let row = step.row::<LeaseVendorRow>(Column::Leases, &key)?;
        let Some(mut row) = row.filter(|row| row.locked.saturating_sub(row.settled) >= bytes) else {
            let asked = bytes;
            return Err(Rejection::LeaseExceeded { lease, vendor, asked }.into());
        };
        row.locked -= bytes;
        free(step, vendor, &row.device_class, bytes)?;
        step.put(Column::Leases, key, &row);
    }
    Ok(Reply::Done)
}

/// Returns a lease: closing from now on.
///
/// # Errors
/// Refused when it is not open or not this session's.
pub fn give_back<R: Read>(step: &mut Step<'_, R>, session: SessionId, lease: LeaseId) -> Result<Reply, Stop> {
    let row = open_lease(step, session, lease)?;
    set_closing(step, row);
    Ok(Reply::Done)
}

/// Sets open leases whose deadline has passed at `now` to closing, a bounded number.
pub(crate) fn close_overdue<R: Read>(step: &mut Step<'_, R>, now: ClusterTime) -> Result<(), Stop> {
    let due = |row: &LeaseRow| row.deadline <= now;
    for row in query::open_leases(step, due, ROWS_PER_TICK)? {
        set_closing(step, row);
    }
    Ok(())
}

/// Sets a session's open leases to closing, a bounded number; whether there are more.
pub(crate) fn close_of_session<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    limit: usize,
) -> Result<bool, Stop> {
    let rows = query::open_leases(step, |row| row.session == session, limit + 1)?;
    let more = rows.len() > limit;
    for row in rows.into_iter().take(limit) {
        set_closing(step, row);
    }
    Ok(more)
}

fn set_closing<R: Read>(step: &mut Step<'_, R>, mut row: LeaseRow) {
    if row.state != LeaseState::Closing {
        row.state = LeaseState::Closing;
        put(step, &row);
    }
}

fn put<R: Read>(step: &mut Step<'_, R>, row: &LeaseRow) {
    step.put(Column::Leases, keys::lease(row.lease), row);
}

fn free<R: Read>(
    step: &mut Step<'_, R>,
    vendor: VendorId,
    device_class: &str,
    bytes: u64,
) -> Result<(), StoreError> {
    let mut rooms = Rooms::default();
    rooms.shift(step, (vendor, device_class), bytes, Holder::Leased, Holder::Free)?;
    rooms.write(step);
    Ok(())
}

fn unsettled(row: &LeaseVendorRow) -> Result<u64, StoreError> {
    let contradiction = || StoreError::Inconsistent("a lease settled more than it locked".to_owned());
    row.locked.checked_sub(row.settled).ok_or_else(contradiction)
}
