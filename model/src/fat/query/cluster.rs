//! The cluster itself: its rows, its members, its keys, its classes, and numbers for status.

use super::release::queued;
use super::{count, live_sessions, select, vendor_rows};
use crate::cluster_time::ClusterTime;
use crate::fat::keys;
use crate::fat::rows::{ClassRow, ClusterRow, CountersRow, InlineRow, InviteRow, MemberRow, VendorState};
use crate::ids::{Digest, KekId};
use crate::limits::BACKLOG_COUNTED_MAX;
use crate::step::ReadRows;
use crate::store::{Column, Direction, KeyRange, Read, StoreError};
use crate::wire::agent::Directory;
use crate::wire::chunk::PublicKey;
use bytes::Bytes;
use std::ops::ControlFlow;

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
