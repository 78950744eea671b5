//! Leases: who holds which room until when, which are closed, and what becomes of copies under closed ones.

use super::{cluster, counters, id_at_end, select};
use crate::fat::keys;
use crate::fat::rows::{LeaseRow, LeaseState, LeaseVendorRow};
use crate::ids::{CopyId, Epoch, LeaseId, SessionId, VendorId};
use crate::step::ReadRows;
use crate::store::{Column, KeyRange, Read, StoreError};
use crate::wire::agent::{ClosedLeases, JudgeReply, JudgeRequest, Judgement};

/// A lease with its rows by vendor.
pub type LeaseWithRows = (LeaseRow, Vec<(VendorId, LeaseVendorRow)>);

/// The lease's row.
///
/// # Errors
/// When the store fails.
pub fn lease(rows: &impl Read, lease: LeaseId) -> Result<Option<LeaseRow>, StoreError> {
    rows.row(Column::Leases, &keys::lease(lease))
}

/// The lease's rows by vendor.
///
/// # Errors
/// When the store fails.
pub fn lease_rows(rows: &impl Read, lease: LeaseId) -> Result<Vec<(VendorId, LeaseVendorRow)>, StoreError> {
    let range = KeyRange::prefix(&keys::lease_vendors(lease));
    let found = rows.rows::<LeaseVendorRow>(Column::Leases, &range, usize::MAX)?;
    found
        .into_iter()
        .map(|(key, row)| Ok((VendorId(id_at_end(&key)?), row)))
        .collect()
}

/// Open and closing leases with their rows: `Query::Leases`.
///
/// # Errors
/// When the store fails.
pub fn leases(rows: &impl Read) -> Result<Vec<LeaseWithRows>, StoreError> {
    let found = lease_heads(rows, |_| true, usize::MAX)?.into_iter();
    found
        .map(|row| lease_rows(rows, row.lease).map(|rows| (row, rows)))
        .collect()
}

/// Up to `limit` open leases that `keep` holds for.
///
/// # Errors
/// When the store fails.
pub fn open_leases(
    rows: &impl Read,
    keep: impl Fn(&LeaseRow) -> bool,
    limit: usize,
) -> Result<Vec<LeaseRow>, StoreError> {
    lease_heads(rows, |row| row.state == LeaseState::Open && keep(row), limit)
}

/// Open leases of a session.
///
/// # Errors
/// When the store fails.
pub fn session_leases(rows: &impl Read, session: SessionId) -> Result<Vec<LeaseRow>, StoreError> {
    open_leases(rows, |row| row.session == session, usize::MAX)
}

/// Open and closing leases of a session, as far as `limit`.
///
/// # Errors
/// When the store fails.
pub fn count_session_leases(rows: &impl Read, session: SessionId, limit: usize) -> Result<usize, StoreError> {
    Ok(lease_heads(rows, |row| row.session == session, limit)?.len())
}

/// Open leases that hold unsettled room, and whether their sessions were asked to give it back already.
///
/// # Errors
/// When the store fails.
pub fn recallable_leases(rows: &impl Read) -> Result<Vec<(LeaseId, bool)>, StoreError> {
    let mut found = Vec::new();
    for row in open_leases(rows, |_| true, usize::MAX)? {
        let unsettled = |(_, row): &(VendorId, LeaseVendorRow)| row.locked > row.settled;
        if lease_rows(rows, row.lease)?.iter().any(unsettled) {
            found.push((row.lease, row.recalled));
        }
    }
    Ok(found)
}

/// Which leases are closed, in the form that agents keep.
///
/// # Errors
/// When the store fails.
pub fn closed_leases(rows: &impl Read) -> Result<ClosedLeases, StoreError> {
    let open = open_leases(rows, |_| true, usize::MAX)?
        .into_iter()
        .map(|row| row.lease)
        .collect();
    let (epoch, counters) = (cluster(rows)?.map(|row| row.epoch), counters(rows)?);
    let next = counters.map_or(0, |counters| counters.lease);
    Ok(ClosedLeases {
        mark: LeaseId(epoch.unwrap_or_default().id(next)),
        open,
    })
}

/// Up to `limit` closing leases that name `vendor`, whose confirmation is still to come.
///
/// # Errors
/// When the store fails.
pub fn leases_to_confirm(
    rows: &impl Read,
    vendor: VendorId,
    limit: usize,
) -> Result<Vec<LeaseId>, StoreError> {
    let mut found = Vec::new();
    for row in lease_heads(rows, |row| row.state == LeaseState::Closing, usize::MAX)? {
        if found.len() >= limit {
            break;
        }
        let key = keys::lease_vendor(row.lease, vendor);
        if rows
            .row::<LeaseVendorRow>(Column::Leases, &key)?
            .is_some_and(|row| !row.confirmed)
        {
            found.push(row.lease);
        }
    }
    Ok(found)
}

/// What to do with copies of leases that the asking vendor holds closed. Only a copy of this epoch whose
/// lease is closed and which the FAT does not name may be erased.
///
/// # Errors
/// When the store fails.
pub fn judge(rows: &impl Read, request: &JudgeRequest) -> Result<JudgeReply, StoreError> {
    let epoch = cluster(rows)?.map(|row| row.epoch);
    let closed = closed_leases(rows)?;
    let judge = |copy: &CopyId| {
        let key = keys::copy(request.vendor, *copy);
        Ok(if rows.get(Column::Copies, &key)?.is_some() {
            Judgement::Keep
        } else if Some(Epoch::of(copy.lease.0)) == epoch && closed.is_closed(copy.lease) {
            Judgement::Erase
        } else {
            Judgement::Undecided
        })
    };
    let judgements: Result<Vec<Judgement>, StoreError> = request.copies.iter().map(judge).collect();
    Ok(JudgeReply {
        judgements: judgements?,
    })
}

fn lease_heads(
    rows: &impl Read,
    keep: impl Fn(&LeaseRow) -> bool,
    limit: usize,
) -> Result<Vec<LeaseRow>, StoreError> {
    select(rows, Column::Leases, &KeyRange::prefix(b"l"), limit, keep)
}
