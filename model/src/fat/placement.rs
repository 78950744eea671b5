//! What a class asks of the vendors that keep its copies: checks shared by allocating and settling, and the
//! leader's choice of whose room to lock. The choice is pure: what the leader knows beyond the FAT enters with
//! it, and `decide` checks its result again.

use crate::fat::query;
use crate::fat::rows::{ClassRow, VendorRow, VendorState};
use crate::ids::VendorId;
use crate::limits::VENDORS_PER_LEASE;
use crate::rejection::Rejection;
use crate::store::{Read, StoreError};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A lease starts with at most this part of what is free, divided by the number of gateways.
const SHARE_OF_FREE: u64 = 8;
/// Vendors that a provisional FAT names for each copy, if there are so many: enough to leave out the slow
/// ones, few enough that a lease closes fast.
const VENDORS_PER_COPY: usize = 4;
/// Vendors that a provisional FAT names at least, if there are so many.
const VENDORS_LEAST: usize = 8;

/// Whether `class` lets copies lie on devices of `device_class`.
#[must_use]
pub fn allows_device_class(class: &ClassRow, device_class: &str) -> bool {
    class
        .device_class
        .as_deref()
        .is_none_or(|wanted| wanted == device_class)
}

/// Whether room of `vendor` may be locked for `class` now.
#[must_use]
pub fn allows_vendor(class: &ClassRow, vendor: &VendorRow) -> bool {
    vendor.state == VendorState::Healthy
        && class
            .max_price
            .is_none_or(|price| vendor.characteristics.price <= price)
}

/// Whether the class asks for more than one zone, so that the vendors must be looked at.
#[must_use]
pub fn asks_for_zones(class: &ClassRow) -> bool {
    class.zones > 1
}

/// Refuses vendors that lie in too few zones.
///
/// # Errors
/// `Rejection::Placement`.
pub fn check_zones<'a>(
    class: &ClassRow,
    vendors: impl Iterator<Item = &'a VendorRow>,
) -> Result<(), Rejection> {
    let zones = vendors.map(zone).collect::<BTreeSet<_>>().len();
    if zones < class.zones as usize {
        return Err(Rejection::Placement(format!(
            "{zones} zones, not {}",
            class.zones
        )));
    }
    Ok(())
}

/// Refuses `vendors`, distinct ones, if they are too few or lie in too few zones for the copies of a chunk.
///
/// # Errors
/// `Rejection::Placement`.
pub fn check_spread(class: &ClassRow, vendors: &[VendorRow]) -> Result<(), Rejection> {
    if vendors.len() < class.copies as usize {
        let (vendors, copies) = (vendors.len(), class.copies);
        return Err(Rejection::Placement(format!(
            "{vendors} vendors for {copies} copies"
        )));
    }
    check_zones(class, vendors.iter())
}

/// Where a vendor stands, as far as distinct zones are asked for: zones of different regions differ.
fn zone(vendor: &VendorRow) -> (&str, &str) {
    (&vendor.characteristics.region, &vendor.characteristics.zone)
}

/// What a provisional FAT is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Name of the class.
    pub class: &'a str,
    /// Bytes wanted at each vendor.
    pub bytes: u64,
    /// Bytes at each vendor without which the lease is of no use.
    pub least_bytes: u64,
    /// Vendors not to be named.
    pub avoid: &'a [VendorId],
}

/// What the leader knows of a vendor from its last heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VendorLoad {
    /// Free bytes of its working devices, by device class. Empty if it has not reported to this leader yet:
    /// then the FAT's word stands alone.
    pub reported_free: BTreeMap<String, u64>,
    /// Bytes it was receiving or writing.
    pub in_flight_bytes: u64,
}

/// Why no provisional FAT can be made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The class asked for.
    pub class: String,
    /// Vendors (and zones) it needs; 0 if there is no such class.
    pub needed: (u32, u32),
    /// Vendors with enough room, and their zones.
    pub found: (usize, usize),
    /// Room asked at each, in bytes.
    pub least_bytes: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            class,
            needed,
            found,
            least_bytes,
        } = self;
        if needed.0 == 0 {
            return write!(f, "no class named {class}");
        }
        write!(
            f,
            "{class} needs {} vendors in {} zones with {least_bytes} bytes free each, found {} in {}",
            needed.0,
            needed.1.max(1),
            found.0,
            found.1
        )
    }
}

/// Room chosen: (vendor, device class, bytes).
pub type ChosenRows = Vec<(VendorId, String, u64)>;

#[derive(Debug)]
struct Candidate {
    row: VendorRow,
    device_class: String,
    free: u64,
    rank: (Reverse<u64>, VendorId),
}

/// Chooses the rows of a provisional FAT: of each vendor the device class with most room, the vendors with
/// most room (less what they are busy with) first, zones in turn. Each gives what is wanted, but at most its
/// free bytes / (8 × gateways), so that one gateway cannot lock everything, and never less than
/// `least_bytes`: room counts as full only when not even that is there. The same state and loads give the
/// same choice.
///
/// # Errors
/// When the store fails.
pub fn choose_rows(
    rows: &impl Read,
    choice: &Choice<'_>,
    load: &dyn Fn(VendorId) -> VendorLoad,
) -> Result<Result<ChosenRows, Shortage>, StoreError> {
    let shortage = |needed, found| Shortage {
        class: choice.class.to_owned(),
        needed,
        found,
        least_bytes: choice.least_bytes,
    };
    let Some(class) = query::class(rows, choice.class)? else {
        return Ok(Err(shortage((0, 0), (0, 0))));
    };
    let mut candidates = candidates(rows, &class, choice, load)?;
    let zones = candidates
        .iter()
        .map(|one| zone(&one.row))
        .collect::<BTreeSet<_>>()
        .len();
    if candidates.len() < class.copies as usize || zones < class.zones as usize {
        return Ok(Err(shortage(
            (class.copies, class.zones),
            (candidates.len(), zones),
        )));
    }
    candidates.sort_by_key(|candidate| candidate.rank);
    let wanted = (class.copies as usize * VENDORS_PER_COPY).clamp(VENDORS_LEAST, VENDORS_PER_LEASE);
    let gateways = query::live_sessions(rows)?.max(1);
    let chosen = zones_in_turn(&candidates).into_iter().take(wanted);
    let row = |candidate: &Candidate| {
        let share = candidate.free / SHARE_OF_FREE / gateways;
        let bytes = choice.bytes.min(share).max(choice.least_bytes).max(1);
        (candidate.row.vendor, candidate.device_class.clone(), bytes)
    };
    Ok(Ok(chosen.map(row).collect()))
}

fn candidates(
    rows: &impl Read,
    class: &ClassRow,
    choice: &Choice<'_>,
    load: &dyn Fn(VendorId) -> VendorLoad,
) -> Result<Vec<Candidate>, StoreError> {
    let mut found = Vec::new();
    for row in query::vendor_rows(rows)? {
        if !allows_vendor(class, &row) || choice.avoid.contains(&row.vendor) {
            continue;
        }
        let load = load(row.vendor);
        let mut best: Option<(u64, String)> = None;
        for (device_class, room) in query::rooms(rows, row.vendor)? {
            // What is leased and not settled will be written to the same free bytes.
            let reported = match load.reported_free.get(&device_class) {
                Some(free) => free.saturating_sub(room.leased),
                None if load.reported_free.is_empty() => u64::MAX,
                None => 0,
            };
            let free = room.free().min(reported);
            if allows_device_class(class, &device_class) && best.as_ref().is_none_or(|best| free > best.0) {
                best = Some((free, device_class));
            }
        }
        if let Some((free, device_class)) = best.filter(|best| best.0 >= choice.least_bytes.max(1)) {
            let rank = (Reverse(free.saturating_sub(load.in_flight_bytes)), row.vendor);
            found.push(Candidate {
                row,
                device_class,
                free,
                rank,
            });
        }
    }
    Ok(found)
}

/// The best of each zone, then the second of each zone, and so on: any beginning of it that has enough
/// vendors lies in as many zones as it can.
fn zones_in_turn(ranked: &[Candidate]) -> Vec<&Candidate> {
    let mut seen: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut turns: Vec<(usize, &Candidate)> = Vec::with_capacity(ranked.len());
    for candidate in ranked {
        let turn = seen.entry(zone(&candidate.row)).or_default();
        turns.push((*turn, candidate));
        *turn += 1;
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, candidate)| candidate).collect()
}
