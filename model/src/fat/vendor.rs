//! Vendors: registration, devices and the room they make, state.

use crate::command::Reply;
use crate::fat::rows::{RoomRow, VendorRow, VendorState};
use crate::fat::{cluster, keys, query};
use crate::ids::VendorId;
use crate::limits::{DEVICE_BYTES_MAX, DEVICES_PER_VENDOR, VENDORS_MAX};
use crate::rejection::Rejection;
use crate::step::{Step, Stop};
use crate::store::{Column, Read, StoreError};
use crate::wire::agent::{DeviceReport, DeviceState, RegisterRequest};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Registers a vendor, or the same one again: its public key tells. What it says of itself replaces what it
/// said before, and it is healthy.
///
/// # Errors
/// Refused when another vendor has the name, a value is out of bounds, there are too many vendors, or this one
/// is revoked.
pub fn register<R: Read>(step: &mut Step<'_, R>, request: &RegisterRequest) -> Result<Reply, Stop> {
    check_request(request)?;
    let known = id_at(step, &keys::vendor_by_key(&request.public_key))?;
    if let Some(other) = id_at(step, &keys::vendor_by_name(&request.name))?
        && Some(other) != known
    {
        return Err(Rejection::VendorNameTaken(request.name.clone()).into());
    }
    let before = known.map(|vendor| require_admitted(step, vendor)).transpose()?;
    let row = match &before {
        Some(before) => VendorRow {
            name: request.name.clone(),
            characteristics: request.characteristics.clone(),
            devices: request.devices.clone(),
            state: VendorState::Healthy,
            ..before.clone()
        },
        None => VendorRow {
            vendor: mint(step)?,
            name: request.name.clone(),
            public_key: request.public_key,
            characteristics: request.characteristics.clone(),
            devices: request.devices.clone(),
            state: VendorState::Healthy,
            registered: step.at.cluster_time,
        },
    };
    let id = Bytes::copy_from_slice(&row.vendor.0.to_be_bytes());
    if let Some(before) = before.as_ref().filter(|before| before.name != row.name) {
        step.delete(Column::Vendors, keys::vendor_by_name(&before.name));
    }
    step.put_bytes(Column::Vendors, keys::vendor_by_key(&row.public_key), id.clone());
    step.put_bytes(Column::Vendors, keys::vendor_by_name(&row.name), id);
    step.put(Column::Vendors, keys::vendor(row.vendor), &row);
    set_capacities(step, row.vendor, &row.devices)?;
    Ok(Reply::Vendor(row.vendor))
}

/// Takes over a vendor's devices as they are now. A device class that vanished offers nothing any more; what
/// is leased, used and being erased there stays accounted.
///
/// # Errors
/// Refused when there is no such vendor, it is revoked, or a device is out of bounds.
pub fn update_devices<R: Read>(
    step: &mut Step<'_, R>,
    vendor: VendorId,
    devices: &[DeviceReport],
) -> Result<Reply, Stop> {
    check_devices(devices)?;
    let mut row = require_admitted(step, vendor)?;
    row.devices = devices.to_vec();
    step.put(Column::Vendors, keys::vendor(vendor), &row);
    set_capacities(step, vendor, devices)?;
    Ok(Reply::Done)
}

/// Sets a vendor's state, as far as the leader may: whether it is heard.
///
/// # Errors
/// Refused when there is no such vendor, it is revoked, or would be by this.
pub fn set_state<R: Read>(
    step: &mut Step<'_, R>,
    vendor: VendorId,
    state: VendorState,
) -> Result<Reply, Stop> {
    if state == VendorState::Revoked {
        return Err(Rejection::Invalid("revoking is an operator's word".to_owned()).into());
    }
    let mut row = require_admitted(step, vendor)?;
    if row.state != state {
        row.state = state;
        step.put(Column::Vendors, keys::vendor(vendor), &row);
    }
    Ok(Reply::Done)
}

/// Shuts a vendor out, for good: its certificate is good for nothing from now on, no room is locked there, and
/// its copies count as lost. What it held stays accounted, as that of a vendor that never returns.
///
/// # Errors
/// Refused when there is no such vendor.
pub fn revoke<R: Read>(step: &mut Step<'_, R>, vendor: VendorId) -> Result<Reply, Stop> {
    let mut row = require(step, vendor)?;
    if row.state != VendorState::Revoked {
        row.state = VendorState::Revoked;
        step.put(Column::Vendors, keys::vendor(vendor), &row);
    }
    Ok(Reply::Done)
}

/// The vendor's row.
///
/// # Errors
/// Refused when there is no such vendor.
pub fn require(rows: &impl Read, vendor: VendorId) -> Result<VendorRow, Stop> {
    query::vendor(rows, vendor)?.ok_or_else(|| Rejection::NoSuchVendor(vendor).into())
}

/// The vendor's row, if it has not been shut out.
///
/// # Errors
/// Refused when there is no such vendor, or it is revoked.
pub fn require_admitted(rows: &impl Read, vendor: VendorId) -> Result<VendorRow, Stop> {
    let row = require(rows, vendor)?;
    if row.state == VendorState::Revoked {
        return Err(Rejection::VendorRevoked(vendor).into());
    }
    Ok(row)
}

fn mint<R: Read>(step: &mut Step<'_, R>) -> Result<VendorId, Stop> {
    if query::counters(step)?.is_some_and(|counters| counters.vendor > VENDORS_MAX) {
        return Err(Rejection::Invalid(format!("more than {VENDORS_MAX} vendors")).into());
    }
    Ok(VendorId(cluster::mint(step, |counters| &mut counters.vendor)?))
}

/// Sets the capacity of each device class to the sum over devices that are not gone.
fn set_capacities<R: Read>(
    step: &mut Step<'_, R>,
    vendor: VendorId,
    devices: &[DeviceReport],
) -> Result<(), Stop> {
    let mut capacities = capacities(devices);
    for (device_class, before) in query::rooms(step, vendor)? {
        let capacity = capacities.remove(device_class.as_str()).unwrap_or(0);
        let row = RoomRow { capacity, ..before };
        let key = keys::room(vendor, &device_class);
        if row == RoomRow::default() {
            step.delete(Column::Rooms, key);
        } else if row != before {
            step.put(Column::Rooms, key, &row);
        }
    }
    for (device_class, capacity) in capacities.into_iter().filter(|(_, capacity)| *capacity > 0) {
        let row = RoomRow {
            capacity,
            ..RoomRow::default()
        };
        step.put(Column::Rooms, keys::room(vendor, device_class), &row);
    }
    Ok(())
}

/// What `devices` offer by device class: the sum over those that are not gone.
pub(crate) fn capacities(devices: &[DeviceReport]) -> BTreeMap<&str, u64> {
    let mut capacities: BTreeMap<&str, u64> = BTreeMap::new();
    for device in devices {
        let capacity = capacities.entry(&device.class).or_default();
        if device.state != DeviceState::Gone {
            *capacity += device.capacity;
        }
    }
    capacities
}

fn id_at(rows: &impl Read, key: &[u8]) -> Result<Option<VendorId>, StoreError> {
    let Some(bytes) = rows.get(Column::Vendors, key)? else {
        return Ok(None);
    };
    match <[u8; 8]>::try_from(bytes.as_ref()) {
        Ok(id) => Ok(Some(VendorId(u64::from_be_bytes(id)))),
        Err(_) => Err(StoreError::Inconsistent(
            "an index row of vendors is not an id".to_owned(),
        )),
    }
}

fn check_request(request: &RegisterRequest) -> Result<(), Rejection> {
    cluster::check_name("a vendor's name", &request.name)?;
    let characteristics = &request.characteristics;
    for text in [
        &characteristics.owner,
        &characteristics.region,
        &characteristics.zone,
        &characteristics.rack,
        &characteristics.address,
    ] {
        cluster::check_text("a characteristic of the vendor", text)?;
    }
    check_devices(&request.devices)
}

fn check_devices(devices: &[DeviceReport]) -> Result<(), Rejection> {
    if devices.len() > DEVICES_PER_VENDOR {
        return Err(Rejection::Invalid(format!(
            "more than {DEVICES_PER_VENDOR} devices"
        )));
    }
    let mut seen = BTreeSet::new();
    for device in devices {
        cluster::check_name("a device's class", &device.class)?;
        if device.capacity > DEVICE_BYTES_MAX {
            return Err(Rejection::Invalid(format!(
                "{} is greater than a device may be",
                device.device
            )));
        }
        if !seen.insert(device.device) {
            return Err(Rejection::Invalid(format!("{} is named twice", device.device)));
        }
    }
    Ok(())
}
