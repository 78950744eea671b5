//! Provisional FATs: locking room and moving the deadline. Which vendors are named is the leader's choice, see
//! [`super::choice::choose_rows`]; here it is checked.

use crate::cluster_time::ClusterTime;
use crate::command::Reply;
use crate::fat::room::{Holder, Rooms};
use crate::fat::rows::{ClassRow, LeaseRow, LeaseState, LeaseVendorRow, RoomRow, VendorRow};
use crate::fat::{cluster, keys, placement, query, vendor};
use crate::ids::{LeaseId, SessionId, VendorId};
use crate::limits::{LEASE_MS_MAX, LEASES_PER_SESSION, VENDORS_PER_LEASE};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Read};

/// Locks room for `session`: nobody else can use those bytes until the lease is closed.
///
/// # Errors
/// Refused when the class or a vendor is not there, the rows do not fit the class, or a vendor's free room
/// does not reach.
pub fn allocate<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    class: &str,
    rows: &[(VendorId, String, u64)],
    duration_ms: u64,
) -> Result<Reply, Stop> {
    let class = query::class(step, class)?.ok_or_else(|| Rejection::NoSuchClass(class.to_owned()))?;
    let deadline = deadline(step.at.cluster_time, duration_ms)?;
    if rows.len() > VENDORS_PER_LEASE {
        return Err(Rejection::Placement(format!("more than {VENDORS_PER_LEASE} vendors")).into());
    }
    if query::count_session_leases(step, session, LEASES_PER_SESSION)? >= LEASES_PER_SESSION {
        return Err(Rejection::Invalid(format!("more than {LEASES_PER_SESSION} leases")).into());
    }
    let mut vendors: Vec<VendorRow> = Vec::with_capacity(rows.len());
    let mut rooms = Rooms::default();
    for row in rows {
        if vendors.iter().any(|vendor| vendor.vendor == row.0) {
            return Err(Rejection::Placement(format!("{} is named twice", row.0)).into());
        }
        vendors.push(lock(step, &mut rooms, &class, row)?);
    }
    placement::check_spread(&class, &vendors)?;
    rooms.write(step);
    let lease = LeaseId(cluster::mint(step, |counters| &mut counters.lease)?);
    for (vendor, device_class, bytes) in rows {
        let row = LeaseVendorRow {
            device_class: device_class.clone(),
            locked: *bytes,
            settled: 0,
            confirmed: false,
        };
        step.put(Column::Leases, keys::lease_vendor(lease, *vendor), &row);
    }
    let row = LeaseRow {
        lease,
        session,
        class: class.name,
        deadline,
        state: LeaseState::Open,
        recalled: false,
    };
    step.put(Column::Leases, keys::lease(lease), &row);
    Ok(Reply::Lease { lease, deadline })
}

/// Moves a lease's deadline; never to an earlier time.
///
/// # Errors
/// Refused when the lease is not open or not this session's.
pub fn renew<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    lease: LeaseId,
    duration_ms: u64,
) -> Result<Reply, Stop> {
    let mut row = open_lease(step, session, lease)?;
    row.deadline = row.deadline.max(deadline(step.at.cluster_time, duration_ms)?);
    step.put(Column::Leases, keys::lease(lease), &row);
    Ok(Reply::Deadline(row.deadline))
}

/// The lease's row, if it is open and `session`'s.
///
/// # Errors
/// Refused otherwise.
pub fn open_lease(rows: &impl Read, session: SessionId, lease: LeaseId) -> Result<LeaseRow, Stop> {
    rows.row::<LeaseRow>(Column::Leases, &keys::lease(lease))?
        .filter(|row| row.session == session && row.state == LeaseState::Open)
        .ok_or_else(|| Rejection::LeaseClosed(lease).into())
}

fn lock<R: Read>(
    step: &Step<'_, R>,
    rooms: &mut Rooms,
    class: &ClassRow,
    (id, device_class, bytes): &(VendorId, String, u64),
) -> Result<VendorRow, Stop> {
    let row = vendor::require(step, *id)?;
    placement::check_row(class, &row, device_class)?;
    let free = rooms
        .get(step, *id, device_class)?
        .map_or(0, |room: &mut RoomRow| room.free());
    if *bytes == 0 || *bytes > free {
        return Err(Rejection::NoRoom {
            vendor: *id,
            free,
            asked: *bytes,
        }
        .into());
    }
    rooms.shift(step, (*id, device_class), *bytes, Holder::Free, Holder::Leased)?;
    Ok(row)
}

fn deadline(now: ClusterTime, duration_ms: u64) -> Result<ClusterTime, Rejection> {
    if !(1..=LEASE_MS_MAX).contains(&duration_ms) {
        return Err(Rejection::Invalid(format!(
            "a lease lives 1 to {LEASE_MS_MAX} ms, not {duration_ms}"
        )));
    }
    Ok(now.plus(duration_ms))
}
