//! Registration, devices and capacity, states.

use crate::support::{HDD, World, allocate, device, registration};
use ullage_model::command::{Command, Reply};
use ullage_model::fat::query;
use ullage_model::fat::rows::VendorState;
use ullage_model::ids::VendorId;
use ullage_model::limits::{DEVICE_BYTES_MAX, DEVICES_PER_VENDOR};
use ullage_model::rejection::Rejection;
use ullage_model::wire::agent::{DeviceReport, DeviceState};

#[test]
fn a_vendor_is_known_by_its_key_and_may_change_all_else() {
    let mut world = World::new(1);
    let first = world.vendor("one", "a", 100);
    let stale = Command::SetVendorState {
        vendor: first,
        state: VendorState::Stale,
    };
    assert_eq!(world.decide(&stale), Reply::Done);
    let mut again = registration("one", "b", vec![device(0, HDD, 300), device(1, "ssd", 5)]);
    again.name = "renamed".to_owned();
    assert_eq!(
        world.decide(&Command::RegisterVendor(again)),
        Reply::Vendor(first)
    );
    let row = query::vendor(&world.rows, first).unwrap().unwrap();
    assert_eq!((row.name.as_str(), row.state), ("renamed", VendorState::Healthy));
    assert_eq!(row.characteristics.zone, "b");
    assert_eq!(world.room(first).capacity, 300);
    // The old name is free again.
    let mut other = registration("other", "a", vec![]);
    other.name = "one".to_owned();
    let reply = world.decide(&Command::RegisterVendor(other));
    assert!(matches!(reply, Reply::Vendor(vendor) if vendor != first));
}

#[test]
fn a_name_belongs_to_one_key() {
    let mut world = World::new(1);
    world.vendor("one", "a", 100);
    let mut thief = registration("two", "a", vec![]);
    thief.name = "one".to_owned();
    let rejection = world.refused(&Command::RegisterVendor(thief));
    assert_eq!(rejection, Rejection::VendorNameTaken("one".to_owned()));
}

#[test]
fn capacity_is_the_sum_of_devices_that_are_not_gone() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let gone = DeviceReport {
        state: DeviceState::Gone,
        ..device(1, HDD, 1000)
    };
    let full = DeviceReport {
        state: DeviceState::ReadOnly,
        ..device(2, HDD, 10)
    };
    let devices = vec![device(0, HDD, 100), gone, full, device(3, "ssd", 7)];
    assert_eq!(
        world.decide(&Command::UpdateDevices { vendor, devices }),
        Reply::Done
    );
    assert_eq!(world.room(vendor).capacity, 110);
    let rooms = query::vendors(&world.rows).unwrap().remove(0).1;
    assert_eq!(rooms.len(), 2);
}

#[test]
fn a_device_class_that_vanishes_keeps_what_is_held_there() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let session = world.session();
    let lease = world.lease(session, &[vendor], 60);
    let update = Command::UpdateDevices {
        vendor,
        devices: vec![device(1, "ssd", 7)],
    };
    assert_eq!(world.decide(&update), Reply::Done);
    assert_eq!((world.room(vendor).capacity, world.room(vendor).leased), (0, 60));
    assert_eq!(world.room(vendor).free(), 0);
    world.pass(ullage_model::limits::LEASE_MS);
    world.confirm_all(vendor);
    assert!(query::lease(&world.rows, lease).unwrap().is_none());
    assert_eq!(world.room(vendor).leased, 0);
}

#[test]
fn devices_out_of_bounds_and_unknown_vendors_are_refused() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let many = (0..=u32::try_from(DEVICES_PER_VENDOR).unwrap()).map(|number| device(number, HDD, 1));
    for devices in [
        vec![device(0, HDD, 1), device(0, HDD, 1)],
        vec![device(0, HDD, DEVICE_BYTES_MAX + 1)],
        vec![device(0, "", 1)],
        vec![device(0, "line\nbreak", 1)],
        many.collect(),
    ] {
        let command = Command::UpdateDevices { vendor, devices };
        assert!(matches!(world.refused(&command), Rejection::Invalid(_)));
    }
    let most = (0..u32::try_from(DEVICES_PER_VENDOR).unwrap()).map(|n| device(n, HDD, DEVICE_BYTES_MAX));
    let command = Command::UpdateDevices {
        vendor,
        devices: most.collect(),
    };
    assert_eq!(world.decide(&command), Reply::Done);
    let nobody = VendorId(99);
    let missing = Rejection::NoSuchVendor(nobody);
    for command in [
        Command::UpdateDevices {
            vendor: nobody,
            devices: vec![],
        },
        Command::SetVendorState {
            vendor: nobody,
            state: VendorState::Dead,
        },
        Command::AcknowledgeErased {
            vendor: nobody,
            copies: vec![],
        },
        Command::ReportDamaged {
            vendor: nobody,
            copies: vec![],
        },
    ] {
        assert_eq!(world.refused(&command), missing);
    }
}

#[test]
fn only_healthy_vendors_get_room_locked() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let session = world.session();
    for state in [VendorState::Stale, VendorState::Dead] {
        assert_eq!(
            world.decide(&Command::SetVendorState { vendor, state }),
            Reply::Done
        );
        let rejection = world.submit_refused(session, allocate(&[vendor], 10));
        assert!(matches!(rejection, Rejection::Placement(_)));
    }
    let healthy = Command::SetVendorState {
        vendor,
        state: VendorState::Healthy,
    };
    assert_eq!(world.decide(&healthy), Reply::Done);
    world.lease(session, &[vendor], 10);
}
