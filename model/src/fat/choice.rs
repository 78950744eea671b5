//! The leader's choice of whose room a provisional FAT locks, by the rules of [`super::placement`]. The choice
//! is pure: what the leader knows beyond the FAT enters with it, and `decide` checks its result again.

use crate::fat::placement::{self, Unfit};
use crate::fat::query;
use crate::fat::rows::{ClassRow, RoomRow, VendorRow};
use crate::ids::VendorId;
use crate::limits::{COPIES_MAX, VENDORS_PER_LEASE};
use crate::store::{Read, StoreError};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// A lease starts with at most this part of what is free, divided by the number of gateways.
const SHARE_OF_FREE: u64 = 8;
/// Vendors that a provisional FAT names for each copy, if there are so many: enough to leave out the slow
/// ones, few enough that a lease closes fast.
const VENDORS_PER_COPY: usize = 4;
/// Vendors that a provisional FAT names at least, if there are so many.
const VENDORS_LEAST: usize = 8;

// Two vendors of each zone where there are as many zones as copies, so that a gateway that loses any one of
// them still finds as many vendors in as many zones as the class asks.
const _: () = assert!(VENDORS_PER_COPY >= 2 && VENDORS_LEAST >= 2);
const _: () = assert!(COPIES_MAX as usize * VENDORS_PER_COPY <= VENDORS_PER_LEASE);

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

impl Choice<'_> {
    fn least(&self) -> u64 {
        self.least_bytes.max(1)
    }
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

/// Vendors that were passed over, by the first rule that each fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The gateway does not want them.
    pub avoided: usize,
    /// Stale or dead.
    pub silent: usize,
    /// Dearer than the class pays.
    pub dear: usize,
    /// Without devices of the class's device class.
    pub device_class: usize,
    /// With too few working devices for the pieces of a chunk.
    pub devices: usize,
    /// With too little free room.
    pub full: usize,
}

/// Why no provisional FAT can be made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// There is no class of this name.
    NoSuchClass(String),
    /// Too few vendors have room that the class allows.
    Room {
        /// The class.
        class: Box<ClassRow>,
        /// Room asked at each, in bytes.
        least_bytes: u64,
        /// Vendors that have it.
        vendors: usize,
        /// Distinct zones they stand in.
        zones: usize,
        /// The others.
        left_out: LeftOut,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchClass(class) => write!(f, "no class named {class}"),
            Self::Room {
                class,
                least_bytes,
                vendors,
                zones,
                left_out,
            } => {
                if *vendors < class.copies as usize {
                    write!(f, "no room at {}", count(class.copies as usize, "vendor"))?;
                } else {
                    write!(f, "no room in {}", count(class.zones as usize, "zone"))?;
                }
                write!(
                    f,
                    " for class {} (each {})",
                    class.name,
                    wanted(class, *least_bytes)
                )?;
                write!(f, ": {}", count(*vendors, "vendor"))?;
                write!(f, " in {} found, {left_out}", count(*zones, "zone"))
            }
        }
    }
}

/// What the class wants of each vendor, in words.
fn wanted(class: &ClassRow, least_bytes: u64) -> String {
    let mut words = format!("{least_bytes} bytes free");
    if let Some(device_class) = &class.device_class {
        words.push_str(&format!(" on {device_class:?} devices"));
    }
    if class.pieces > 1 {
        words.push_str(&format!(" on {} devices of one class", class.pieces));
    }
    if let Some(price) = class.max_price {
        words.push_str(&format!(" at a price of at most {price}"));
    }
    words
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.full, "too full"),
            (self.dear, "too dear"),
            (self.device_class, "without such devices"),
            (self.devices, "with too few working devices"),
            (self.silent, "stale or dead"),
            (self.avoided, "not wanted"),
        ];
        let said: Vec<String> = reasons
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, why)| format!("{number} {why}"))
            .collect();
        match said.is_empty() {
            true => f.write_str("no others known"),
            false => f.write_str(&said.join(", ")),
        }
    }
}

/// Room chosen: (vendor, device class, bytes).
pub type ChosenRows = Vec<(VendorId, String, u64)>;

/// A vendor that may be named, with its best devices.
#[derive(Debug)]
struct Candidate {
    row: VendorRow,
    device_class: String,
    free: u64,
    rank: (Reverse<u64>, VendorId),
}

/// Chooses the rows of a provisional FAT: of each vendor the allowed device class with most room, the vendors
/// with most room (less what they are busy with) first, zones in turn. Each gives what is wanted, but at most
/// its free bytes / (8 × gateways), so that one gateway cannot lock everything, and never less than
/// `least_bytes`: room counts as full only when not even that is there. If there are enough vendors to bear
/// the loss of any one, so has the choice. The same state and loads give the same choice.
///
/// # Errors
/// When the store fails.
pub fn choose_rows(
    rows: &impl Read,
    choice: &Choice<'_>,
    load: &dyn Fn(VendorId) -> VendorLoad,
) -> Result<Result<ChosenRows, Shortage>, StoreError> {
    let Some(class) = query::class(rows, choice.class)? else {
        return Ok(Err(Shortage::NoSuchClass(choice.class.to_owned())));
    };
    let mut candidates = match candidates(rows, &class, choice, load, |room| room)? {
        Ok(candidates) => candidates,
        Err(shortage) => return Ok(Err(shortage)),
    };
    candidates.sort_by_key(|candidate| candidate.rank);
    let wanted = (class.copies as usize * VENDORS_PER_COPY).clamp(VENDORS_LEAST, VENDORS_PER_LEASE);
    let gateways = query::live_sessions(rows)?.max(1);
    let chosen = zones_in_turn(&candidates).into_iter().take(wanted);
    let row = |candidate: &Candidate| {
        let share = candidate.free / SHARE_OF_FREE / gateways;
        let bytes = choice.bytes.min(share).max(choice.least());
        (candidate.row.vendor, candidate.device_class.clone(), bytes)
    };
    Ok(Ok(chosen.map(row).collect()))
}

/// Whether the choice could be made if nothing were leased: then it may help to ask for leases back.
///
/// # Errors
/// When the store fails.
pub fn recalling_helps(
    rows: &impl Read,
    choice: &Choice<'_>,
    load: &dyn Fn(VendorId) -> VendorLoad,
) -> Result<bool, StoreError> {
    let Some(class) = query::class(rows, choice.class)? else {
        return Ok(false);
    };
    let unlocked = |room| RoomRow { leased: 0, ..room };
    Ok(candidates(rows, &class, choice, load, unlocked)?.is_ok())
}

/// The vendors whose room may be locked, if they are enough; their rooms are taken as `seen` makes them.
fn candidates(
    rows: &impl Read,
    class: &ClassRow,
    choice: &Choice<'_>,
    load: &dyn Fn(VendorId) -> VendorLoad,
    seen: impl Fn(RoomRow) -> RoomRow,
) -> Result<Result<Vec<Candidate>, Shortage>, StoreError> {
    let mut found = Vec::new();
    let mut left_out = LeftOut::default();
    for row in query::vendor_rows(rows)? {
        if choice.avoid.contains(&row.vendor) {
            left_out.avoided += 1;
            continue;
        }
        if let Err(unfit) = placement::check_vendor(class, &row) {
            left_out.count(&unfit);
            continue;
        }
        let rooms = query::rooms(rows, row.vendor)?.into_iter();
        let rooms = rooms.map(|(device_class, room)| (device_class, seen(room)));
        let load = load(row.vendor);
        match best_devices(class, &row, rooms, &load) {
            Err(unfit) => left_out.count(&unfit),
            Ok((free, _)) if free < choice.least() => left_out.full += 1,
            Ok((free, device_class)) => {
                let rank = (Reverse(free.saturating_sub(load.in_flight_bytes)), row.vendor);
                found.push(Candidate {
                    row,
                    device_class,
                    free,
                    rank,
                });
            }
        }
    }
    let zones = placement::zones(found.iter().map(|candidate| &candidate.row));
    if found.len() < class.copies as usize || zones < placement::least_zones(class) {
        return Ok(Err(Shortage::Room {
            class: Box::new(class.clone()),
            least_bytes: choice.least(),
            vendors: found.len(),
            zones,
            left_out,
        }));
    }
    Ok(Ok(found))
}

/// Of the vendor's device classes that the class allows, the one with most free bytes.
fn best_devices(
    class: &ClassRow,
    vendor: &VendorRow,
    rooms: impl Iterator<Item = (String, RoomRow)>,
    load: &VendorLoad,
) -> Result<(u64, String), Unfit> {
    let mut best: Option<(u64, String)> = None;
    // Said if no device class is allowed: what came closest.
    let mut why = Unfit::DeviceClass {
        wanted: class.device_class.clone().unwrap_or_default(),
    };
    for (device_class, room) in rooms {
        if let Err(unfit) = placement::check_devices(class, vendor, &device_class) {
            if matches!(unfit, Unfit::Devices { .. }) {
                why = unfit;
            }
            continue;
        }
        // What is leased and not settled will be written to the same free bytes.
        let reported = match load.reported_free.get(&device_class) {
            Some(reported) => reported.saturating_sub(room.leased),
            None if load.reported_free.is_empty() => u64::MAX,
            None => 0,
        };
        let free = room.free().min(reported);
        if best.as_ref().is_none_or(|best| free > best.0) {
            best = Some((free, device_class));
        }
    }
    best.ok_or(why)
}

/// The best of each zone, then the second of each zone, and so on: any beginning of it that has enough vendors
/// stands in as many zones as it can. Those without a zone take turns as if they shared one.
fn zones_in_turn(ranked: &[Candidate]) -> Vec<&Candidate> {
    let mut seen: BTreeMap<Option<(&str, &str)>, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, &Candidate)> = Vec::with_capacity(ranked.len());
    for candidate in ranked {
        let turn = seen.entry(placement::zone(&candidate.row)).or_default();
        turns.push((*turn, candidate));
        *turn += 1;
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, candidate)| candidate).collect()
}

impl LeftOut {
    fn count(&mut self, unfit: &Unfit) {
        *match unfit {
            Unfit::State(_) => &mut self.silent,
            Unfit::Price { .. } => &mut self.dear,
            Unfit::DeviceClass { .. } => &mut self.device_class,
            Unfit::Devices { .. } => &mut self.devices,
        } += 1;
    }
}
