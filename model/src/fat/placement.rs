//! What a class asks of the vendors that keep its copies. One set of rules for everybody: the leader chooses
//! rows by them ([`super::choice`]), `decide` checks them where room is locked ([`super::allocate`]) and where
//! copies are settled ([`super::settle`]), and a gateway may ask before it sends.
//!
//! | rule | room is locked only | copies are settled only |
//! |---|---|---|
//! | state | at healthy vendors | where the vendor is not revoked (of others a receipt is proof enough) |
//! | price | where the vendor costs at most that | where it still does |
//! | device class | on such devices | in room of such devices |
//! | pieces | where that many working devices of one class are | if cut into as many, or into every frame |
//! | copies | at that many vendors or more | at that many vendors or more, each once |
//! | zones | at vendors in that many zones | at vendors in that many zones |
//!
//! The rule is the class as it stands where the command is decided. A body whose class changed under it is
//! refused with `StaleSettings`, and what its gateway decides then is checked under the new rule.

use crate::fat::rows::{ChunkRow, ClassRow, CopyState, VendorRow, VendorState};
use crate::limits::{COPIES_MAX, PIECES_MAX};
use crate::rejection::Rejection;
use crate::units::frames;
use crate::wire::agent::DeviceState;
use std::collections::BTreeSet;
use std::fmt;

/// The rule of a class that a vendor, or its devices of one class, does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its heartbeats are late, or it is silent.
    State(VendorState),
    /// It costs more than the class pays.
    Price {
        /// What it costs.
        price: u64,
        /// What the class pays at most.
        most: u64,
    },
    /// The class wants devices of another class.
    DeviceClass {
        /// That other class.
        wanted: String,
    },
    /// Too few of its devices of this class work for the pieces of a chunk.
    Devices {
        /// How many work.
        working: u32,
        /// Pieces, each on a device of its own.
        pieces: u32,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(VendorState::Healthy) => f.write_str("it is healthy"),
            Self::State(VendorState::Stale) => f.write_str("it is stale"),
            Self::State(VendorState::Dead) => f.write_str("it is dead"),
            Self::State(VendorState::Revoked) => f.write_str("it is revoked"),
            Self::Price { price, most } => write!(f, "it costs {price}, more than {most}"),
            Self::DeviceClass { wanted } => write!(f, "only {wanted:?} devices are wanted"),
            Self::Devices { working, pieces } => {
                write!(f, "{working} working devices for {pieces} pieces")
            }
        }
    }
}

/// Whether `class` lets copies lie on devices of `device_class`.
#[must_use]
pub fn allows_device_class(class: &ClassRow, device_class: &str) -> bool {
    class
        .device_class
        .as_deref()
        .is_none_or(|wanted| wanted == device_class)
}

/// Whether `class` pays what `vendor` costs.
///
/// # Errors
/// `Unfit::Price`.
pub fn check_price(class: &ClassRow, vendor: &VendorRow) -> Result<(), Unfit> {
    let price = vendor.characteristics.price;
    match class.max_price {
        Some(most) if price > most => Err(Unfit::Price { price, most }),
        _ => Ok(()),
    }
}

/// Whether any room of `vendor` may be locked for `class` now.
///
/// # Errors
/// Why not.
pub fn check_vendor(class: &ClassRow, vendor: &VendorRow) -> Result<(), Unfit> {
    if vendor.state != VendorState::Healthy {
        return Err(Unfit::State(vendor.state));
    }
    check_price(class, vendor)
}

/// Whether room on `vendor`'s devices of `device_class` may be locked for `class`, as far as the devices go.
///
/// # Errors
/// Why not.
pub fn check_devices(class: &ClassRow, vendor: &VendorRow, device_class: &str) -> Result<(), Unfit> {
    if let Some(wanted) = class.device_class.as_deref().filter(|it| *it != device_class) {
        let wanted = wanted.to_owned();
        return Err(Unfit::DeviceClass { wanted });
    }
    let working = working_devices(vendor, device_class);
    if working < class.pieces {
        let pieces = class.pieces;
        return Err(Unfit::Devices { working, pieces });
    }
    Ok(())
}

/// Devices of `device_class` that take writes, as the vendor last reported.
fn working_devices(vendor: &VendorRow, device_class: &str) -> u32 {
    let working = vendor.devices.iter();
    let working = working.filter(|it| it.class == device_class && it.state == DeviceState::Healthy);
    u32::try_from(working.count()).unwrap_or(u32::MAX)
}

/// Where a vendor stands, as far as distinct zones are asked for: zones of different regions differ. A vendor
/// that names no zone stands in none. It may keep copies, but none that counts as one in a zone of its own:
/// it could stand beside any other.
#[must_use]
pub fn zone(vendor: &VendorRow) -> Option<(&str, &str)> {
    let place = &vendor.characteristics;
    (!place.zone.is_empty()).then_some((place.region.as_str(), place.zone.as_str()))
}

/// Distinct zones that `vendors` stand in.
pub fn zones<'a>(vendors: impl Iterator<Item = &'a VendorRow>) -> usize {
    vendors.filter_map(zone).collect::<BTreeSet<_>>().len()
}

/// Least distinct zones that copies of `class` must lie in; 0 if any will do.
#[must_use]
pub fn least_zones(class: &ClassRow) -> usize {
    if class.zones > 1 { class.zones as usize } else { 0 }
}

/// Refuses vendors that stand in too few zones.
///
/// # Errors
/// `Rejection::Placement`.
pub fn check_zones<'a>(
    class: &ClassRow,
    vendors: impl Iterator<Item = &'a VendorRow>,
) -> Result<(), Rejection> {
    let (zones, least) = (zones(vendors), least_zones(class));
    if zones < least {
        return Err(refused(class, format_args!("{zones} zones, not {least}")));
    }
    Ok(())
}

/// Refuses `vendors`, distinct ones, if they are too few or stand in too few zones for the copies of a chunk.
///
/// # Errors
/// `Rejection::Placement`.
pub fn check_spread(class: &ClassRow, vendors: &[VendorRow]) -> Result<(), Rejection> {
    if vendors.len() < class.copies as usize {
        let (vendors, copies) = (vendors.len(), class.copies);
        return Err(refused(
            class,
            format_args!("{vendors} vendors for {copies} copies"),
        ));
    }
    check_zones(class, vendors.iter())
}

/// Refuses a row of a provisional FAT that `class` does not allow.
///
/// # Errors
/// `Rejection::Placement`.
pub fn check_row(class: &ClassRow, vendor: &VendorRow, device_class: &str) -> Result<(), Rejection> {
    let checked = check_vendor(class, vendor).and_then(|()| check_devices(class, vendor, device_class));
    checked.map_err(|unfit| {
        refused(
            class,
            format_args!("no {device_class:?} room of {}: {unfit}", vendor.vendor),
        )
    })
}

/// Refuses a chunk whose length or copies break the rule of `class`, as far as the chunk itself shows it.
///
/// # Errors
/// `Rejection::Placement`; `Rejection::Invalid` for what no class allows.
pub fn check_chunk(class: &ClassRow, chunk: &ChunkRow) -> Result<(), Rejection> {
    let name = chunk.chunk;
    if chunk.plaintext_bytes == 0 {
        return Err(Rejection::Invalid(format!("{name} is empty")));
    }
    if chunk.plaintext_bytes > class.chunk_bytes {
        let (bytes, most) = (chunk.plaintext_bytes, class.chunk_bytes);
        return Err(refused(
            class,
            format_args!("{name} of {bytes} bytes, not {most}"),
        ));
    }
    let copies = chunk.copies.len();
    if copies < class.copies as usize || copies > COPIES_MAX as usize {
        return Err(refused(
            class,
            format_args!("{name} has {copies} copies, not {}", class.copies),
        ));
    }
    let least_pieces = u64::from(class.pieces).min(frames(chunk.plaintext_bytes));
    for (at, copy) in chunk.copies.iter().enumerate() {
        let vendor = copy.vendor;
        if copy.state != CopyState::Good {
            let name = chunk.copy_id(copy);
            return Err(Rejection::Invalid(format!("{name} comes as {:?}", copy.state)));
        }
        if chunk.copies[..at].iter().any(|earlier| earlier.vendor == vendor) {
            return Err(refused(class, format_args!("{name} twice at {vendor}")));
        }
        if !allows_device_class(class, &copy.device_class) {
            let device_class = &copy.device_class;
            return Err(refused(
                class,
                format_args!("{name} lies in {device_class:?} room of {vendor}"),
            ));
        }
        if u64::from(copy.pieces) < least_pieces || copy.pieces > PIECES_MAX {
            let pieces = copy.pieces;
            return Err(refused(
                class,
                format_args!("{name} in {pieces} pieces at {vendor}, not {least_pieces} to {PIECES_MAX}"),
            ));
        }
    }
    Ok(())
}

/// Refuses a chunk whose copies lie at `vendors`, if one is revoked or too dear, or they stand in too few zones.
///
/// # Errors
/// `Rejection::Placement`.
pub fn check_vendors<'a>(
    class: &ClassRow,
    vendors: impl Iterator<Item = &'a VendorRow> + Clone,
) -> Result<(), Rejection> {
    for vendor in vendors.clone() {
        let revoked = VendorState::Revoked;
        let admitted = match vendor.state == revoked {
            true => Err(Unfit::State(revoked)),
            false => check_price(class, vendor),
        };
        admitted.map_err(|unfit| refused(class, format_args!("a copy at {}: {unfit}", vendor.vendor)))?;
    }
    check_zones(class, vendors)
}

/// The refusal of a placement that breaks the rule of `class`.
pub(crate) fn refused(class: &ClassRow, what: fmt::Arguments<'_>) -> Rejection {
    Rejection::Placement(format!("{}: {what}", class.name))
}
