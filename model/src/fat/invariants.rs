//! The table's own sums and references: what must hold after every command. Reads everything; for tests and
//! the simulator.

use crate::fat::query::{self, scan_rows};
use crate::fat::rows::{
    ChunkRow, CopyPlace, CopyState, EraseOrderRow, LeaseState, ReleaseItem, RoomRow, VendorRow,
};
use crate::fat::{keys, vendor};
use crate::ids::{BlobId, CopyId, SessionId, VendorId};
use crate::limits::{INVITES_MAX, MEMBERS_MAX, SESSION_WINDOW};
use crate::namespace;
use crate::namespace::rows::{BlobOwner, BlobRow, BlobStorage, Content, VersionEntry};
use crate::session::OutcomeRow;
use crate::step::ReadRows;
use crate::store::{Column, KeyRange, Read, StoreError};
use crate::units::room;
use crate::wire::enrol::INVITE_MS_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

type Checked = Result<(), StoreError>;
type Rooms = BTreeMap<(VendorId, String), RoomRow>;

/// Checks the whole FAT.
///
/// # Errors
/// When the store fails, or [`StoreError::Inconsistent`] with what does not hold.
pub fn check(rows: &impl Read) -> Checked {
    let mut sums = Rooms::new();
    check_members(rows)?;
    check_vendors(rows, &mut sums)?;
    check_leases(rows, &mut sums)?;
    let chunks = check_chunks(rows, &mut sums)?;
    check_copies(rows, &chunks)?;
    check_orders(rows, &mut sums, &chunks)?;
    check_sums(rows, &sums)?;
    check_owners(rows, &chunks)?;
    check_queue(rows)?;
    check_outcomes(rows)
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(StoreError::Inconsistent(what()))
    }
}

fn each<T: crate::codec::Versioned>(
    rows: &impl Read,
    column: Column,
    range: &KeyRange,
    mut visit: impl FnMut(&[u8], T) -> Checked,
) -> Checked {
    scan_rows(rows, column, range, |key, row| {
        visit(key, row).map(ControlFlow::Continue)
    })
}

/// Metadata nodes and invitations: bounded, each under its own key; nobody left or is invited in the future.
fn check_members(rows: &impl Read) -> Checked {
    let now = query::cluster_time(rows)?;
    let members = query::members(rows)?;
    ensure(members.len() <= MEMBERS_MAX, || {
        format!("{} members", members.len())
    })?;
    for row in members {
        let node = row.node;
        let found = query::member(rows, node)?;
        ensure(found.as_ref() == Some(&row), || {
            format!("node {node:016x} is at another's key")
        })?;
        ensure(row.left.is_none_or(|left| left <= now), || {
            format!("node {node:016x} is to leave in the future")
        })?;
    }
    let invites = query::invites(rows, |_| true, INVITES_MAX + 1)?;
    ensure(invites.len() <= INVITES_MAX, || {
        format!("more than {INVITES_MAX} invitations")
    })?;
    for (_, row) in invites {
        ensure(row.expires <= now.plus(INVITE_MS_MAX), || {
            "an invitation lives too long".to_owned()
        })?;
    }
    Ok(())
}

/// Vendors, their indexes, and the capacity their devices make.
fn check_vendors(rows: &impl Read, sums: &mut Rooms) -> Checked {
    let mut vendors = 0;
    each(
        rows,
        Column::Vendors,
        &KeyRange::prefix(b"i"),
        |_, row: VendorRow| {
            vendors += 1;
            for key in [
                keys::vendor_by_key(&row.public_key),
                keys::vendor_by_name(&row.name),
            ] {
                let indexed = rows.get(Column::Vendors, &key)?;
                ensure(
                    indexed.as_deref() == Some(&row.vendor.0.to_be_bytes()[..]),
                    || format!("{} is not indexed", row.vendor),
                )?;
            }
            for (device_class, capacity) in vendor::capacities(&row.devices) {
                if capacity > 0 {
                    sums.entry((row.vendor, device_class.to_owned()))
                        .or_default()
                        .capacity = capacity;
                }
            }
            Ok(())
        },
    )?;
    for index in [b"k", b"n"] {
        let indexed = count(rows, Column::Vendors, index)?;
        ensure(indexed == vendors, || {
            format!("{vendors} vendors, {indexed} of them indexed")
        })?;
    }
    Ok(())
}

fn count(rows: &impl Read, column: Column, prefix: &[u8]) -> Result<usize, StoreError> {
    let mut counted = 0;
    rows.scan(
        column,
        &KeyRange::prefix(prefix),
        crate::store::Direction::Forward,
        &mut |_, _| {
            counted += 1;
            ControlFlow::Continue(())
        },
    )?;
    Ok(counted)
}

/// Leases, their rows and sessions; adds what they hold.
fn check_leases(rows: &impl Read, sums: &mut Rooms) -> Checked {
    let mark = query::closed_leases(rows)?.mark;
    let mut vendor_rows = 0;
    for (lease, held) in query::leases(rows)? {
        let id = lease.lease;
        ensure(id < mark, || format!("{id} was never minted"))?;
        ensure(!held.is_empty(), || format!("{id} names nobody"))?;
        let all_confirmed = held.iter().all(|(_, row)| row.confirmed);
        ensure(!all_confirmed, || {
            format!("{id} is confirmed by all and still there")
        })?;
        if lease.state == LeaseState::Open {
            let confirmed = held.iter().any(|(_, row)| row.confirmed);
            ensure(!confirmed, || format!("{id} is open and confirmed"))?;
            let session = query::session(rows, lease.session)?;
            ensure(session.is_some(), || {
                format!("{id} is open and its session forgotten")
            })?;
        }
        for (vendor, row) in held {
            vendor_rows += 1;
            ensure(row.settled <= row.locked, || {
                format!("{id} settled too much at {vendor}")
            })?;
            if !row.confirmed && row.locked > row.settled {
                sums.entry((vendor, row.device_class)).or_default().leased += row.locked - row.settled;
            }
        }
    }
    let all = count(rows, Column::Leases, b"v")?;
    ensure(all == vendor_rows, || {
        format!("{all} rows of leases, {vendor_rows} of known ones")
    })
}

/// Chunk rows by place; adds what their copies use.
fn check_chunks(rows: &impl Read, sums: &mut Rooms) -> Result<BTreeMap<(BlobId, u32), ChunkRow>, StoreError> {
    let mut chunks = BTreeMap::new();
    each(rows, Column::Chunks, &KeyRange::all(), |key, chunk: ChunkRow| {
        let place = chunk_place(key)?;
        ensure(!chunk.copies.is_empty(), || {
            format!("{} has no copies", chunk.chunk)
        })?;
        let vendors: BTreeSet<VendorId> = chunk.copies.iter().map(|copy| copy.vendor).collect();
        ensure(vendors.len() == chunk.copies.len(), || {
            format!("{} twice at a vendor", chunk.chunk)
        })?;
        for copy in chunk
            .copies
            .iter()
            .filter(|copy| copy.state != CopyState::Erasing)
        {
            let bytes = room(chunk.plaintext_bytes, copy.pieces);
            sums.entry((copy.vendor, copy.device_class.clone()))
                .or_default()
                .used += bytes;
        }
        chunks.insert(place, chunk);
        Ok(())
    })?;
    Ok(chunks)
}

fn chunk_place(key: &[u8]) -> Result<(BlobId, u32), StoreError> {
    let number = |range: std::ops::Range<usize>| key.get(range).and_then(|bytes| bytes.try_into().ok());
    match (number(0..8), number(8..16), keys::tail::<4>(key)) {
        (Some(session), Some(counter), Some(index)) if key.len() == 20 => {
            let session = SessionId(u64::from_be_bytes(session));
            let counter = u64::from_be_bytes(counter);
            Ok((BlobId { session, counter }, u32::from_be_bytes(index)))
        }
        _ => Err(StoreError::Inconsistent("a chunk's key is not one".to_owned())),
    }
}

/// The copies index says what the chunk rows say, no more and no less.
fn check_copies(rows: &impl Read, chunks: &BTreeMap<(BlobId, u32), ChunkRow>) -> Checked {
    let mut copies = 0;
    for (&(blob, index), chunk) in chunks {
        for copy in &chunk.copies {
            copies += 1;
            let name = chunk.copy_id(copy);
            let place = rows.row::<CopyPlace>(Column::Copies, &keys::copy(copy.vendor, name))?;
            let expected = Some(CopyPlace { blob, index });
            ensure(place == expected, || {
                format!("{name} at {}: indexed as {place:?}", copy.vendor)
            })?;
        }
    }
    let indexed = count(rows, Column::Copies, b"")?;
    ensure(indexed == copies, || {
        format!("{indexed} copies indexed, {copies} in chunk rows")
    })
}

/// Erase orders are those copies that are being erased; adds the room they hold.
fn check_orders(rows: &impl Read, sums: &mut Rooms, chunks: &BTreeMap<(BlobId, u32), ChunkRow>) -> Checked {
    let mut ordered: BTreeSet<(VendorId, CopyId)> = BTreeSet::new();
    each(
        rows,
        Column::EraseOrders,
        &KeyRange::all(),
        |key, order: EraseOrderRow| {
            let (_, name) = query::erase_order_of(key)?;
            let id = key
                .get(..8)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u64::from_be_bytes);
            let vendor = VendorId(id.unwrap_or_default());
            ensure(ordered.insert((vendor, name)), || {
                format!("{name} is ordered erased twice")
            })?;
            let chunk = chunks.get(&(order.place.blob, order.place.index));
            let bytes = chunk.and_then(|chunk| {
                let erasing = |copy: &&crate::fat::rows::CopyRow| {
                    copy.vendor == vendor && chunk.copy_id(copy) == name && copy.state == CopyState::Erasing
                };
                let copy = chunk.copies.iter().find(erasing)?;
                Some((
                    copy.device_class.clone(),
                    room(chunk.plaintext_bytes, copy.pieces),
                ))
            });
            let said = Some((order.device_class.clone(), order.room));
            ensure(bytes == said, || {
                format!("{name} is ordered erased at {vendor}, but the chunk has {bytes:?}")
            })?;
            sums.entry((vendor, order.device_class)).or_default().erasing += order.room;
            Ok(())
        },
    )?;
    let erasing = chunks.values().flat_map(|chunk| &chunk.copies);
    let erasing = erasing.filter(|copy| copy.state == CopyState::Erasing).count();
    ensure(erasing == ordered.len(), || {
        format!("{erasing} copies erasing, {} orders", ordered.len())
    })
}

/// Room rows hold exactly what leases, copies and erase orders add up to.
fn check_sums(rows: &impl Read, sums: &Rooms) -> Checked {
    let mut found = Rooms::new();
    for row in query::vendor_rows(rows)? {
        for (device_class, room) in query::rooms(rows, row.vendor)? {
            if room != RoomRow::default() {
                found.insert((row.vendor, device_class), room);
            }
        }
    }
    ensure(&found == sums, || {
        format!("rooms are {found:?}, their parts add up to {sums:?}")
    })
}

/// Chunks of a blob that something owns: from the first to behind the last.
struct Owned {
    owner: &'static str,
    first: u32,
    past: u32,
    released: bool,
}

/// Every chunk row that is not wholly being erased has exactly one owner, which has all its chunks; nothing
/// is both released and referred to.
fn check_owners(rows: &impl Read, chunks: &BTreeMap<(BlobId, u32), ChunkRow>) -> Checked {
    let owners = owners(rows)?;
    for (blob, owned) in &owners {
        for index in owned.first..owned.past {
            let whole = chunks
                .get(&(*blob, index))
                .is_some_and(|chunk| chunk.copies.iter().all(|copy| copy.state != CopyState::Erasing));
            ensure(whole, || format!("{blob} ({}) lacks chunk {index}", owned.owner))?;
        }
    }
    for (&(blob, index), chunk) in chunks {
        let erasing = chunk.copies.iter().all(|copy| copy.state == CopyState::Erasing);
        let owned = owners
            .get(&blob)
            .filter(|owned| (owned.first..owned.past).contains(&index));
        ensure(erasing != owned.is_some(), || {
            format!("{blob} chunk {index} is nobody's")
        })?;
        let kept = owners.get(&blob).is_some_and(|owned| !owned.released);
        ensure(!(erasing && kept), || {
            format!("{blob} is referred to and being erased")
        })?;
    }
    Ok(())
}

fn owners(rows: &impl Read) -> Result<BTreeMap<BlobId, Owned>, StoreError> {
    let mut owners: BTreeMap<BlobId, Owned> = BTreeMap::new();
    let mut own = |blob: BlobId, owned: Owned| {
        let owner = owned.owner;
        let other = owners.insert(blob, owned);
        ensure(other.is_none(), || {
            format!(
                "{blob} belongs to a {owner} and to a {}",
                other.map_or("", |other| other.owner)
            )
        })
    };
    each(
        rows,
        Column::Releases,
        &KeyRange::all(),
        |_, item: ReleaseItem| match item {
            ReleaseItem::Blob {
                blob, chunks, next, ..
            } => own(
                blob,
                Owned {
                    owner: "release",
                    first: next,
                    past: chunks,
                    released: true,
                },
            ),
            ReleaseItem::Manifest { .. } | ReleaseItem::Upload { .. } => Ok(()),
        },
    )?;
    namespace::version::scan(rows, &KeyRange::all(), |_, entry| {
        if let VersionEntry::Object(row) = entry
            && let Content::Single(extent) = row.content
            && let BlobStorage::Chunks(past) = extent.storage
        {
            let owned = Owned {
                owner: "version",
                first: 0,
                past,
                released: false,
            };
            own(extent.blob, owned)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    each(rows, Column::Blobs, &KeyRange::all(), |key, row: BlobRow| {
        let owner = match row.owner {
            BlobOwner::Building(_) => "session",
            BlobOwner::Shared if row.references == 0 => return Ok(()),
            BlobOwner::Shared => "part or manifest",
        };
        match row.storage {
            BlobStorage::Chunks(past) => own(
                namespace::blob::blob_of(key)?,
                Owned {
                    owner,
                    first: 0,
                    past,
                    released: false,
                },
            ),
            BlobStorage::Inline => Ok(()),
        }
    })?;
    Ok(owners)
}

/// Nothing waits in the release queue before the mark from which it is drained: it would wait for ever.
fn check_queue(rows: &impl Read) -> Checked {
    let Some(drained) = rows.get(Column::System, keys::DRAINED)? else {
        return Ok(());
    };
    each(rows, Column::Releases, &KeyRange::all(), |key, _: ReleaseItem| {
        ensure(key >= &drained[..], || {
            format!("a release waits at {key:?}, drained to {drained:?}")
        })
    })
}

/// Outcomes lie in the windows of sessions that are there.
fn check_outcomes(rows: &impl Read) -> Checked {
    each(rows, Column::Outcomes, &KeyRange::all(), |key, _: OutcomeRow| {
        let id = key
            .get(..8)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_be_bytes);
        let session = SessionId(id.unwrap_or_default());
        let sequence = keys::tail::<8>(key).map(u64::from_be_bytes).unwrap_or_default();
        let row = query::session(rows, session)?;
        let inside = row.is_some_and(|row| {
            sequence >= row.forgotten_below && sequence < row.window_start.saturating_add(SESSION_WINDOW)
        });
        ensure(inside, || {
            format!("{session} has an outcome of {sequence} outside its window")
        })
    })
}
