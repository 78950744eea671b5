//! The leader's choice: whose room a provisional FAT should lock.

use crate::support::{HDD, STANDARD, World, class, device, registration};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use std::collections::{BTreeMap, BTreeSet};
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::choice::{
    Choice, ChosenRows, LeftOut, Shortage, VendorLoad, choose_rows, recalling_helps,
};
use ullage_model::fat::query;
use ullage_model::fat::rows::{ClassRow, VendorState};
use ullage_model::ids::VendorId;
use ullage_model::limits::LEASE_MS;
use ullage_model::wire::agent::{DeviceReport, DeviceState};

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

fn left_out(shortage: &Shortage) -> LeftOut {
    match shortage {
        Shortage::Room { left_out, .. } => *left_out,
        Shortage::NoSuchClass(_) => panic!("{shortage}"),
    }
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
    assert_eq!(
        left_out(&shortage),
        LeftOut {
            full: 1,
            ..LeftOut::default()
        }
    );
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
    let expected = LeftOut {
        avoided: 2,
        silent: 1,
        device_class: 1,
        ..LeftOut::default()
    };
    assert_eq!(left_out(&shortage), expected);
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
    let far = query::vendor_rows(&world.rows).unwrap()[7].vendor;
    assert!(names(&rows)[..2].contains(&far));
    assert_eq!(rows.len(), 8);
}

#[test]
fn a_shortage_names_the_rule_that_cannot_be_kept() {
    let strict = ClassRow {
        name: "COLD".to_owned(),
        device_class: Some("ssd".to_owned()),
        max_price: Some(10),
        pieces: 2,
        ..class(2, 2)
    };
    let mut world = World::new(1);
    assert_eq!(world.decide(&Command::SetClass(strict)), Reply::Done);
    let offers = [
        // zone, price, devices
        ("a", 10, vec![device(0, "ssd", 1000), device(1, "ssd", 1000)]),
        ("a", 0, vec![device(0, "ssd", 1000), device(1, "ssd", 1000)]),
        ("", 0, vec![device(0, "ssd", 1000), device(1, "ssd", 1000)]),
        ("b", 11, vec![device(0, "ssd", 1000), device(1, "ssd", 1000)]),
        ("b", 1, vec![device(0, "ssd", 1000), device(1, HDD, 1000)]),
        ("b", 1, vec![device(0, HDD, 1000), device(1, HDD, 1000)]),
        ("b", 1, vec![device(0, "ssd", 10), device(1, "ssd", 10)]),
        ("b", 1, vec![device(0, "ssd", 1000), device(1, "ssd", 1000)]),
    ];
    let mut vendors = Vec::new();
    for (at, (zone, price, devices)) in offers.into_iter().enumerate() {
        vendors.push(register(&mut world, at, zone, price, devices));
    }
    let cold = Choice {
        class: "COLD",
        ..choice(500, 50)
    };
    let rows = choose(&world, &cold).unwrap();
    let expected: Vec<VendorId> = [0, 2, 7, 1].map(|at: usize| vendors[at]).into();
    assert_eq!(names(&rows), expected, "one of each zone first");
    assert!(rows.iter().all(|row| row.1 == "ssd"));
    world.decide(&Command::SetVendorState {
        vendor: vendors[7],
        state: VendorState::Dead,
    });
    let text = choose(&world, &cold).unwrap_err().to_string();
    assert_eq!(
        text,
        "no room in 2 zones for class COLD (each 50 bytes free on \"ssd\" devices on 2 devices of one class \
         at a price of at most 10): 3 vendors in 1 zone found, 1 too full, 1 too dear, 1 without such devices, \
         1 with too few working devices, 1 stale or dead"
    );
    let narrow = Choice {
        avoid: &vendors[..2],
        ..cold
    };
    let text = choose(&world, &narrow).unwrap_err().to_string();
    assert!(text.starts_with("no room at 2 vendors for class COLD"), "{text}");
    assert!(text.ends_with("2 not wanted"), "{text}");
}

#[test]
fn room_is_asked_back_only_where_that_makes_the_choice_possible() {
    let mut world = World::with_class(class(2, 2));
    let near = world.vendor("near", "a", 1000);
    let also = world.vendor("also", "a", 1000);
    let session = world.session();
    let helps = |world: &World, least| {
        recalling_helps(&world.rows, &choice(least, least), &|_| VendorLoad::default()).unwrap()
    };
    assert!(!helps(&world, 100), "there is no second zone");
    let far = world.vendor("far", "b", 1000);
    assert!(helps(&world, 1000));
    world.lease(session, &[near, far], 950);
    world.lease(session, &[also, far], 50);
    choose(&world, &choice(100, 100)).unwrap_err();
    assert!(helps(&world, 100));
    assert!(!helps(&world, 1001), "more than there is at all");
    let reported = |_| VendorLoad {
        reported_free: BTreeMap::from([(HDD.to_owned(), 99)]),
        in_flight_bytes: 0,
    };
    assert!(!recalling_helps(&world.rows, &choice(100, 100), &reported).unwrap());
}

#[test]
fn a_device_that_takes_no_writes_is_none_for_pieces() {
    let mut world = World::with_class(ClassRow {
        pieces: 2,
        ..class(1, 0)
    });
    let devices = vec![device(0, HDD, 1000), device(1, HDD, 1000), device(2, HDD, 1000)];
    let vendor = register(&mut world, 0, "a", 0, devices.clone());
    let broken = |count: usize, state| {
        let mut devices = devices.clone();
        devices[..count]
            .iter_mut()
            .for_each(|device| device.state = state);
        Command::UpdateDevices { vendor, devices }
    };
    for state in [DeviceState::Gone, DeviceState::ReadOnly] {
        world.decide(&broken(1, state));
        assert_eq!(names(&choose(&world, &choice(10, 10)).unwrap()), [vendor]);
        world.decide(&broken(2, state));
        let shortage = choose(&world, &choice(10, 10)).unwrap_err();
        assert_eq!(left_out(&shortage).devices, 1);
    }
}

fn register(world: &mut World, at: usize, zone: &str, price: u64, devices: Vec<DeviceReport>) -> VendorId {
    let mut request = registration(&format!("v{at}"), zone, devices);
    request.characteristics.price = price;
    match world.decide(&Command::RegisterVendor(request)) {
        Reply::Vendor(vendor) => vendor,
        reply => panic!("{reply:?}"),
    }
}

/// A vendor on offer: zone, price, devices as (is an ssd, capacity), whether it is healthy.
type Offer = (u8, u64, Vec<(bool, u64)>, bool);

fn offer() -> impl Strategy<Value = Offer> {
    let devices = prop::collection::vec((any::<bool>(), 1..2000_u64), 0..4);
    (0..5_u8, 0..4_u64, devices, prop::bool::weighted(0.9))
}

fn rule() -> impl Strategy<Value = ClassRow> {
    let device_class = prop::option::of(any::<bool>());
    let price = prop::option::of(0..4_u64);
    (1..4_u32, 0..4_u32, device_class, price, 1..3_u32).prop_map(|(copies, zones, ssd, max_price, pieces)| {
        ClassRow {
            device_class: ssd.map(device_class_of),
            max_price,
            pieces,
            ..class(copies, zones.min(copies))
        }
    })
}

fn device_class_of(ssd: bool) -> String {
    if ssd { "ssd" } else { HDD }.to_owned()
}

/// The zone of an offer, if it stands in one.
fn zone_of(offer: &Offer) -> Option<u8> {
    (offer.0 > 0).then_some(offer.0)
}

/// Said once more, in other words: whether an offer is one that the rule allows `bytes` at.
fn is_allowed(rule: &ClassRow, (_, price, devices, healthy): &Offer, bytes: u64) -> bool {
    let fits = |ssd: bool| {
        let such: Vec<u64> = devices.iter().filter(|it| it.0 == ssd).map(|it| it.1).collect();
        let wanted = rule
            .device_class
            .as_ref()
            .is_none_or(|wanted| *wanted == device_class_of(ssd));
        wanted && such.len() >= rule.pieces as usize && such.iter().sum::<u64>() >= bytes
    };
    *healthy && rule.max_price.is_none_or(|most| *price <= most) && (fits(true) || fits(false))
}

/// Whether a chunk can be placed at some of these.
fn suffice<'a>(rule: &ClassRow, offers: impl Iterator<Item = &'a Offer>) -> bool {
    let (mut vendors, mut zones) = (0, BTreeSet::new());
    for offer in offers {
        vendors += 1;
        zones.extend(zone_of(offer));
    }
    vendors >= rule.copies && (rule.zones < 2 || zones.len() >= rule.zones as usize)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// The choice names only what the rule allows, is made whenever it can be, is one that `decide` takes, and
    /// bears the loss of any vendor that the cluster can bear.
    #[test]
    fn a_choice_keeps_every_rule_and_bears_a_loss(
        rule in rule(),
        offers in prop::collection::vec(offer(), 0..24),
        bytes in 1..1500_u64,
    ) {
        let mut world = World::with_class(rule.clone());
        let mut known = BTreeMap::new();
        for (at, offer) in offers.iter().enumerate() {
            let (zone, price, devices, healthy) = offer;
            let devices = devices.iter().zip(0..);
            let devices = devices.map(|((ssd, capacity), at)| device(at, &device_class_of(*ssd), *capacity));
            let zone = zone_of(offer).map_or_else(String::new, |_| format!("zone-{zone}"));
            let vendor = register(&mut world, at, &zone, *price, devices.collect());
            known.insert(vendor, offer);
            if !healthy {
                world.decide(&Command::SetVendorState { vendor, state: VendorState::Stale });
            }
        }
        let allowed: BTreeMap<VendorId, &Offer> =
            known.iter().filter(|(_, offer)| is_allowed(&rule, offer, bytes)).map(|(id, it)| (*id, *it)).collect();
        let chosen = choose(&world, &choice(bytes, bytes));
        prop_assert_eq!(chosen.is_ok(), suffice(&rule, allowed.values().copied()));
        let Ok(rows) = chosen else { return Ok(()) };
        let named: BTreeSet<VendorId> = rows.iter().map(|row| row.0).collect();
        prop_assert_eq!(named.len(), rows.len(), "a vendor is named twice");
        prop_assert!(named.iter().all(|vendor| allowed.contains_key(vendor)));
        for lost in &named {
            let left = |vendor: &VendorId| vendor != lost;
            let could = suffice(&rule, allowed.iter().filter(|(id, _)| left(id)).map(|(_, it)| *it));
            let can = suffice(&rule, named.iter().filter(|id| left(id)).map(|id| allowed[id]));
            prop_assert_eq!(can, could, "without {}", lost);
        }
        let session = world.session();
        let allocate = SessionCommand::Allocate { class: STANDARD.to_owned(), rows, duration_ms: LEASE_MS };
        let reply = world.submit(session, allocate);
        prop_assert!(matches!(reply, Reply::Lease { .. }), "{:?}", reply);
    }
}
