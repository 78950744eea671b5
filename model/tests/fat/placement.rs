//! The leader's choice: whose room a provisional FAT should lock.

use crate::support::{HDD, STANDARD, World, class, device, registration};
use std::collections::BTreeMap;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::placement::{Choice, ChosenRows, Shortage, VendorLoad, choose_rows};
use ullage_model::fat::rows::{ClassRow, VendorState};
use ullage_model::ids::VendorId;
use ullage_model::limits::LEASE_MS;

fn choice(bytes: u64, least_bytes: u64) -> Choice<'static> {
    Choice {
        class: STANDARD,
        bytes,
        least_bytes,
        avoid: &[],
    }
}

fn choose(world: &World, choice: &Choice<'_>) -> Result<ChosenRows, Shortage> {
    let chosen = choose_rows(&world.rows, choice, &|_| VendorLoad::default()).unwrap();
    assert_eq!(
        chosen,
        choose_rows(&world.rows, choice, &|_| VendorLoad::default()).unwrap()
    );
    chosen
}

fn names(rows: &ChosenRows) -> Vec<VendorId> {
    rows.iter().map(|row| row.0).collect()
}

#[test]
fn every_choice_is_one_that_decide_takes() {
    for (copies, zones, price) in [(1, 0, None), (2, 2, None), (3, 3, Some(10)), (2, 0, Some(10))] {
        let mut world = World::with_class(ClassRow {
            max_price: price,
            ..class(copies, zones)
        });
        for at in 0..12_u64 {
            let zone = ["a", "b", "c"][usize::try_from(at % 3).unwrap()];
            let mut request = registration(
                &format!("v{at}"),
                zone,
                vec![device(0, HDD, 1000 + 100 * at), device(1, "ssd", 1200)],
            );
            request.characteristics.price = at;
            assert!(matches!(
                world.decide(&Command::RegisterVendor(request)),
                Reply::Vendor(_)
            ));
        }
        let session = world.session();
        loop {
            let rows = match choose(&world, &choice(500, 50)) {
                Ok(rows) => rows,
                Err(shortage) => {
                    assert!(shortage.to_string().contains("50 bytes free"));
                    break;
                }
            };
            let class = STANDARD.to_owned();
            let allocate = SessionCommand::Allocate {
                class,
                rows,
                duration_ms: LEASE_MS,
            };
            assert!(matches!(world.submit(session, allocate), Reply::Lease { .. }));
        }
    }
}

#[test]
fn leases_start_with_a_share_and_go_down_to_the_last_bytes() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 1600);
    world.session();
    world.session();
    let bytes = |rows: ChosenRows| rows[0].2;
    assert_eq!(bytes(choose(&world, &choice(1000, 10)).unwrap()), 100);
    assert_eq!(bytes(choose(&world, &choice(20, 10)).unwrap()), 20);
    assert_eq!(bytes(choose(&world, &choice(1000, 700)).unwrap()), 700);
    assert_eq!(names(&choose(&world, &choice(0, 1600)).unwrap()), [vendor]);
    let shortage = choose(&world, &choice(0, 1601)).unwrap_err();
    assert_eq!(shortage.found, (0, 0));
}

#[test]
fn vendors_that_are_avoided_silent_or_without_class_are_left_out() {
    let mut world = World::with_class(ClassRow {
        device_class: Some(HDD.to_owned()),
        ..class(1, 0)
    });
    let (a, b, c) = (
        world.vendor("a", "x", 100),
        world.vendor("b", "x", 100),
        world.vendor("c", "x", 100),
    );
    let ssd = registration("d", "x", vec![device(0, "ssd", 100)]);
    world.decide(&Command::RegisterVendor(ssd));
    world.decide(&Command::SetVendorState {
        vendor: b,
        state: VendorState::Stale,
    });
    let rows = choose(&world, &choice(1, 1)).unwrap();
    assert_eq!(names(&rows), [a, c]);
    assert!(rows.iter().all(|row| row.1 == HDD));
    assert_eq!(
        names(
            &choose(
                &world,
                &Choice {
                    avoid: &[a],
                    ..choice(1, 1)
                }
            )
            .unwrap()
        ),
        [c]
    );
    let shortage = choose(
        &world,
        &Choice {
            avoid: &[a, c],
            ..choice(1, 1)
        },
    )
    .unwrap_err();
    assert_eq!((shortage.needed, shortage.found), ((1, 0), (0, 0)));
    let unknown = choose(
        &world,
        &Choice {
            class: "NONE",
            ..choice(1, 1)
        },
    )
    .unwrap_err();
    assert_eq!(unknown.to_string(), "no class named NONE");
}

#[test]
fn what_vendors_report_bounds_the_choice_and_orders_it() {
    let mut world = World::new(1);
    let vendors: Vec<VendorId> = (0..3)
        .map(|at| world.vendor(&format!("v{at}"), "x", 1000))
        .collect();
    let load = |vendor: VendorId| {
        let (free, in_flight_bytes) = match vendors.iter().position(|known| *known == vendor) {
            Some(0) => (1000, 900),
            Some(1) => (600, 0),
            _ => (9, 0),
        };
        let reported_free = BTreeMap::from([(HDD.to_owned(), free)]);
        VendorLoad {
            reported_free,
            in_flight_bytes,
        }
    };
    let rows = choose_rows(&world.rows, &choice(10, 10), &load).unwrap().unwrap();
    assert_eq!(names(&rows), [vendors[1], vendors[0]]);
}

#[test]
fn zones_take_turns() {
    let mut world = World::with_class(class(2, 2));
    for at in 0..20_u64 {
        let (zone, capacity) = if at == 7 {
            ("far", 500)
        } else {
            ("near", 1000 + at)
        };
        world.vendor(&format!("v{at}"), zone, capacity);
    }
    let rows = choose(&world, &choice(10, 10)).unwrap();
    let far = ullage_model::fat::query::vendor_rows(&world.rows).unwrap()[7].vendor;
    assert!(names(&rows)[..2].contains(&far));
    assert_eq!(rows.len(), 8);
}
