//! Pure questions about the FAT: what services, people and transitions ask of its rows. Nothing here changes
//! anything; whether the state asked is fresh enough is the caller's matter.

use crate::cluster_time::ClusterTime;
use crate::codec::Versioned;
use crate::fat::keys;
use crate::fat::rows::{
    ClassRow, ClusterRow, CopyPlace, CountersRow, EraseOrderRow, InlineRow, InviteRow, LeaseRow, LeaseState,
    LeaseVendorRow, MemberRow, ReleaseItem, RoomRow, SessionRow, SessionState, VendorRow, VendorState,
};
use crate::ids::{CopyId, Digest, Epoch, KekId, LeaseId, SessionId, VendorId};
use crate::limits::{BACKLOG_COUNTED_MAX, LIST_SCAN_ROWS_MAX};
use crate::step::{ReadRows, decode_row};
use crate::store::{Column, Direction, KeyRange, Read, StoreError};
use crate::wire::agent::{ClosedLeases, Directory, JudgeReply, JudgeRequest, Judgement};
use crate::wire::chunk::PublicKey;
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// A lease with its rows by vendor.
pub type LeaseWithRows = (LeaseRow, Vec<(VendorId, LeaseVendorRow)>);
/// A vendor with its room by device class.
pub type VendorWithRooms = (VendorRow, Vec<(String, RoomRow)>);

/// The cluster's row; `None` before it is initialised.
///
/// # Errors
/// When the store fails.
pub fn cluster(rows: &impl Read) -> Result<Option<ClusterRow>, StoreError> {
    rows.row(Column::System, keys::CLUSTER)
}

/// Cluster time as applied; 0 before the cluster is initialised.
///
/// # Errors
/// When the store fails.
pub fn cluster_time(rows: &impl Read) -> Result<ClusterTime, StoreError> {
    Ok(rows.row(Column::System, keys::CLUSTER_TIME)?.unwrap_or_default())
}

/// Id counters; `None` before the cluster is initialised.
///
/// # Errors
/// When the store fails.
pub fn counters(rows: &impl Read) -> Result<Option<CountersRow>, StoreError> {
    rows.row(Column::System, keys::COUNTERS)
}

/// Inlining; off before the cluster is initialised.
///
/// # Errors
/// When the store fails.
pub fn inline(rows: &impl Read) -> Result<InlineRow, StoreError> {
    let off = InlineRow {
        cap_bytes: 0,
        budget_bytes: 0,
        used_bytes: 0,
    };
    Ok(rows.row(Column::System, keys::INLINE)?.unwrap_or(off))
}

/// The check value of a KEK, if it is registered.
///
/// # Errors
/// When the store fails.
pub fn kek_value(rows: &impl Read, kek: KekId) -> Result<Option<Bytes>, StoreError> {
    rows.get(Column::System, &keys::kek_check(kek))
}

/// All registered KEKs: a gateway that comes with another one holds the wrong key.
///
/// # Errors
/// When the store fails.
pub fn keks(rows: &impl Read) -> Result<Vec<KekId>, StoreError> {
    let mut found = Vec::new();
    rows.scan(
        Column::System,
        &KeyRange::prefix(keys::KEK_CHECK),
        Direction::Forward,
        &mut |key, _| {
            found.extend(keys::tail::<8>(key).map(|id| KekId(u64::from_be_bytes(id))));
            ControlFlow::Continue(())
        },
    )?;
    Ok(found)
}

/// The metadata nodes that have told of themselves, those that left lately among them.
///
/// # Errors
/// When the store fails.
pub fn members(rows: &impl Read) -> Result<Vec<MemberRow>, StoreError> {
    select(
        rows,
        Column::System,
        &KeyRange::prefix(keys::MEMBERS),
        usize::MAX,
        |_: &MemberRow| true,
    )
}

/// The row of a metadata node.
///
/// # Errors
/// When the store fails.
pub fn member(rows: &impl Read, node: u64) -> Result<Option<MemberRow>, StoreError> {
    rows.row(Column::System, &keys::member(node))
}

/// Keys whose grants are good: of all metadata nodes, and of those that left while their grants run.
///
/// # Errors
/// When the store fails.
pub fn issuers(rows: &impl Read) -> Result<Vec<PublicKey>, StoreError> {
    Ok(members(rows)?.into_iter().map(|row| row.issuer).collect())
}

/// The invitation with this digest of its secret.
///
/// # Errors
/// When the store fails.
pub fn invite(rows: &impl Read, secret: &Digest) -> Result<Option<InviteRow>, StoreError> {
    rows.row(Column::System, &keys::invite(secret))
}

/// Up to `limit` invitations that `keep` holds for, with their keys.
///
/// # Errors
/// When the store fails.
pub fn invites(
    rows: &impl Read,
    keep: impl Fn(&InviteRow) -> bool,
    limit: usize,
) -> Result<Vec<(Bytes, InviteRow)>, StoreError> {
    let all: Vec<(Bytes, InviteRow)> =
        rows.rows(Column::System, &KeyRange::prefix(keys::INVITES), usize::MAX)?;
    Ok(all.into_iter().filter(|(_, row)| keep(row)).take(limit).collect())
}

/// The class of this name.
///
/// # Errors
/// When the store fails.
pub fn class(rows: &impl Read, name: &str) -> Result<Option<ClassRow>, StoreError> {
    rows.row(Column::Classes, name.as_bytes())
}

/// All classes by name.
///
/// # Errors
/// When the store fails.
pub fn classes(rows: &impl Read) -> Result<Vec<ClassRow>, StoreError> {
    select(
        rows,
        Column::Classes,
        &KeyRange::all(),
        usize::MAX,
        |_: &ClassRow| true,
    )
}

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

/// Where vendors and metadata nodes are reached.
///
/// # Errors
/// When the store fails.
pub fn directory(rows: &impl Read) -> Result<Directory, StoreError> {
    let vendors = vendor_rows(rows)?
        .into_iter()
        .filter(|row| row.state != VendorState::Revoked && !row.characteristics.address.is_empty())
        .map(|row| (row.vendor, row.characteristics.address));
    let nodes = members(rows)?
        .into_iter()
        .filter(|row| row.left.is_none() && !row.address.is_empty())
        .map(|row| row.address);
    Ok(Directory::new(vendors.collect(), nodes.collect()))
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

/// The session's row.
///
/// # Errors
/// When the store fails.
pub fn session(rows: &impl Read, session: SessionId) -> Result<Option<SessionRow>, StoreError> {
    rows.row(Column::Sessions, &session.0.to_be_bytes())
}

/// All sessions that have rows, live and ended.
///
/// # Errors
/// When the store fails.
pub fn sessions(rows: &impl Read) -> Result<Vec<SessionRow>, StoreError> {
    select(
        rows,
        Column::Sessions,
        &KeyRange::all(),
        usize::MAX,
        |_: &SessionRow| true,
    )
}

/// Whether there are at least so many sessions, live and ended.
///
/// # Errors
/// When the store fails.
pub fn has_sessions(rows: &impl Read, number: usize) -> Result<bool, StoreError> {
    let number = number as u64;
    Ok(count(rows, Column::Sessions, &KeyRange::all(), number)? >= number)
}

/// Number of live sessions, that is of gateways.
///
/// # Errors
/// When the store fails.
pub fn live_sessions(rows: &impl Read) -> Result<u64, StoreError> {
    let live = |row: &&SessionRow| row.state == SessionState::Live;
    Ok(sessions(rows)?.iter().filter(live).map(|_| 1).sum())
}

/// The log index that every live session's reads have passed, as far as the FAT knows (a leader knows more):
/// copies released below it have no reader. `u64::MAX` without live sessions.
///
/// # Errors
/// When the store fails.
pub fn safe_erase_index(rows: &impl Read) -> Result<u64, StoreError> {
    let live = |row: &SessionRow| row.state == SessionState::Live;
    let observed = sessions(rows)?
        .into_iter()
        .filter(live)
        .map(|row| row.observed_index);
    Ok(observed.min().unwrap_or(u64::MAX))
}

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

/// Which releases no reader can still be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasePermit {
    /// Releases at log indexes below this one: every live session's reads have passed them.
    pub below_index: u64,
    /// Releases before this time: no reader is waited for any longer.
    pub released_before: ClusterTime,
}

impl ErasePermit {
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

/// Whether anything waits in the release queue.
///
/// # Errors
/// When the store fails.
pub fn has_releases(rows: &impl Read) -> Result<bool, StoreError> {
    Ok(count(rows, Column::Releases, &queued(rows)?, 1)? > 0)
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
fn queued(rows: &impl Read) -> Result<KeyRange, StoreError> {
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

/// Numbers for status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Live sessions.
    pub live_sessions: u64,
    /// Open and closing leases.
    pub leases: u64,
    /// Erase orders not acknowledged, counted up to the bound asked.
    pub erase_orders: u64,
    /// Releases not drained, counted up to the bound asked.
    pub releases: u64,
}

/// Counts what status shows; backlogs up to `most`, at most `limits::BACKLOG_COUNTED_MAX`.
///
/// # Errors
/// When the store fails.
pub fn counts(rows: &impl Read, most: u64) -> Result<Counts, StoreError> {
    let most = most.min(BACKLOG_COUNTED_MAX);
    Ok(Counts {
        live_sessions: live_sessions(rows)?,
        leases: count(rows, Column::Leases, &KeyRange::prefix(b"l"), u64::MAX)?,
        erase_orders: count(rows, Column::EraseOrders, &KeyRange::all(), most)?,
        releases: count(rows, Column::Releases, &queued(rows)?, most)?,
    })
}

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

fn lease_heads(
    rows: &impl Read,
    keep: impl Fn(&LeaseRow) -> bool,
    limit: usize,
) -> Result<Vec<LeaseRow>, StoreError> {
    select(rows, Column::Leases, &KeyRange::prefix(b"l"), limit, keep)
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
