//! Every rule of a class, checked where room is locked and again where copies are settled: under the class as
//! it stands then, whatever it was before.

use crate::support::{HDD, STANDARD, World, blob, chunk, class, device, registration};
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::placement;
use ullage_model::fat::query;
use ullage_model::fat::rows::{ChunkRow, ClassRow, VendorState};
use ullage_model::ids::{LeaseId, SessionId, VendorId};
use ullage_model::limits::{CHUNK_BYTES_MIN, FRAME_BYTES, LEASE_MS};
use ullage_model::rejection::Rejection;

/// Six vendors: 0 and 1 in zone a, 2 in zone b, 3 in b and dear, 4 nowhere, 5 in zone c with one ssd; 0 to 4
/// with two hdd each.
struct Scene {
    world: World,
    vendors: Vec<VendorId>,
    session: SessionId,
    blobs: u64,
    chunks: u32,
}

fn scene(class: ClassRow) -> Scene {
    let mut world = World::with_class(class);
    let mut vendors = Vec::new();
    for (at, (zone, price)) in [("a", 1), ("a", 1), ("b", 1), ("b", 9), ("", 1), ("c", 1)]
        .iter()
        .enumerate()
    {
        let devices = match at {
            5 => vec![device(0, "ssd", 1 << 24)],
            _ => vec![device(0, HDD, 1 << 24), device(1, HDD, 1 << 24)],
        };
        let mut request = registration(&format!("v{at}"), zone, devices);
        request.characteristics.price = *price;
        let Reply::Vendor(vendor) = world.decide(&Command::RegisterVendor(request)) else {
            panic!("no vendor")
        };
        vendors.push(vendor);
    }
    let session = world.session();
    Scene {
        world,
        vendors,
        session,
        blobs: 0,
        chunks: 0,
    }
}

impl Scene {
    fn allocate(&mut self, vendors: &[usize]) -> Reply {
        let row = |at: &usize| {
            let device_class = if *at == 5 { "ssd" } else { HDD };
            (self.vendors[*at], device_class.to_owned(), 1 << 22)
        };
        let allocate = SessionCommand::Allocate {
            class: STANDARD.to_owned(),
            rows: vendors.iter().map(row).collect(),
            duration_ms: LEASE_MS,
        };
        self.world.submit(self.session, allocate)
    }

    fn lease(&mut self, vendors: &[usize]) -> LeaseId {
        match self.allocate(vendors) {
            Reply::Lease { lease, .. } => lease,
            reply => panic!("{reply:?}"),
        }
    }

    /// A chunk of three frames at these vendors.
    fn chunk(&mut self, lease: LeaseId, vendors: &[usize], pieces: u32) -> ChunkRow {
        self.chunks += 1;
        let named: Vec<VendorId> = vendors.iter().map(|at| self.vendors[*at]).collect();
        let mut chunk = chunk(lease, self.chunks, 3 * FRAME_BYTES, &named);
        for (copy, at) in chunk.copies.iter_mut().zip(vendors) {
            copy.pieces = pieces;
            if *at == 5 {
                copy.device_class = "ssd".to_owned();
            }
        }
        chunk
    }

    /// Commits one chunk under the class as its gateway knew it.
    fn settle(&mut self, class: (String, u64), chunk: &ChunkRow) -> Reply {
        let mut slice = self
            .world
            .slice(blob(self.session, self.blobs), 0, vec![chunk.clone()]);
        if let SessionCommand::Slice(slice) = &mut slice {
            slice.class = class;
        }
        self.blobs += 1;
        self.world.submit(self.session, slice)
    }

    fn set(&mut self, class: ClassRow) {
        assert_eq!(self.world.decide(&Command::SetClass(class)), Reply::Done);
    }

    fn offer_again(&mut self, at: usize, zone: &str, price: u64) {
        let devices = vec![device(0, HDD, 1 << 24), device(1, HDD, 1 << 24)];
        let mut request = registration(&format!("v{at}"), zone, devices);
        request.characteristics.price = price;
        let reply = self.world.decide(&Command::RegisterVendor(request));
        assert_eq!(reply, Reply::Vendor(self.vendors[at]));
    }
}

fn why(reply: Reply) -> String {
    match reply {
        Reply::Refused(Rejection::Placement(why)) => why,
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn room_is_locked_only_where_every_rule_allows_it() {
    let strict = ClassRow {
        device_class: Some(HDD.to_owned()),
        max_price: Some(5),
        pieces: 2,
        ..class(2, 2)
    };
    let cases: [(&[usize], &str); 6] = [
        (&[0], "1 vendors for 2 copies"),
        (&[0, 1], "1 zones, not 2"),
        (&[0, 4], "1 zones, not 2"),
        (&[0, 2, 3], "it costs 9, more than 5"),
        (&[0, 2, 5], "only \"hdd\" devices are wanted"),
        (&[0, 2, 0], "is named twice"),
    ];
    let mut scene = scene(strict.clone());
    for (vendors, rule) in cases {
        let why = why(scene.allocate(vendors));
        assert!(why.contains(rule), "{vendors:?}: {why}, expected {rule}");
    }
    let lost = vec![device(0, HDD, 1 << 24)];
    let vendor = scene.vendors[1];
    scene.world.decide(&Command::UpdateDevices {
        vendor,
        devices: lost,
    });
    let few = why(scene.allocate(&[1, 2]));
    assert!(few.contains("1 working devices for 2 pieces"), "{few}");
    scene.world.decide(&Command::SetVendorState {
        vendor: scene.vendors[0],
        state: VendorState::Stale,
    });
    let stale = why(scene.allocate(&[0, 2]));
    assert!(stale.contains("it is stale"), "{stale}");
    scene.set(ClassRow { pieces: 1, ..strict });
    scene.lease(&[1, 2, 4]);
}

/// A class that changes between lease and commit: the gateway that names the old rule must decide again; what
/// breaks the new one is refused with the rule's name; what keeps it is committed, under the same lease.
#[test]
fn every_rule_is_checked_again_under_the_class_as_it_stands() {
    type Change = fn(&mut ClassRow);
    // What is changed, which placement was good before, what is said of it, which placement is good now.
    type Case<'a> = (Change, &'a [usize], u32, &'a str, &'a [usize], u32);
    let cases: [Case<'_>; 5] = [
        (
            |class| class.copies = 3,
            &[0, 1],
            1,
            "has 2 copies, not 3",
            &[0, 1, 2],
            1,
        ),
        (|class| class.zones = 2, &[0, 1], 1, "1 zones, not 2", &[0, 2], 1),
        (
            |class| class.max_price = Some(5),
            &[0, 3],
            1,
            "it costs 9, more than 5",
            &[0, 2],
            1,
        ),
        (|class| class.pieces = 2, &[0, 1], 1, "in 1 pieces", &[0, 1], 2),
        (
            |class| class.device_class = Some(HDD.to_owned()),
            &[0, 5],
            1,
            "lies in \"ssd\" room",
            &[0, 1],
            1,
        ),
    ];
    for (change, before, pieces_before, rule, after, pieces_after) in cases {
        let mut scene = scene(class(2, 0));
        let lease = scene.lease(&[0, 1, 2, 3, 4, 5]);
        let old = scene.world.placed();
        let placed = scene.chunk(lease, before, pieces_before);
        let mut changed = class(2, 0);
        change(&mut changed);
        scene.set(changed.clone());
        let new = scene.world.placed();
        assert_eq!(
            scene.settle(old.clone(), &placed),
            Reply::Refused(Rejection::StaleSettings),
            "{rule}"
        );
        let refused = why(scene.settle(new.clone(), &placed));
        assert!(refused.contains(rule), "{refused}, expected {rule}");
        // A gateway can tell by the same rules, without asking.
        let vendors = query::vendor_rows(&scene.world.rows).unwrap();
        let local = |class: &ClassRow, chunk: &ChunkRow| {
            let named = vendors.iter();
            let named = named.filter(|row| chunk.copies.iter().any(|copy| copy.vendor == row.vendor));
            placement::check_chunk(class, chunk).and_then(|()| placement::check_vendors(class, named))
        };
        assert!(local(&class(2, 0), &placed).is_ok(), "{rule}");
        assert_eq!(local(&changed, &placed), Err(Rejection::Placement(refused)));
        let again = scene.chunk(lease, after, pieces_after);
        assert_eq!(local(&changed, &again), Ok(()));
        assert_eq!(scene.settle(new, &again), Reply::Done, "{rule}");
        // The rule as it was is good again when it is set again.
        scene.set(class(2, 0));
        assert_eq!(
            scene.settle(old, &placed),
            Reply::Refused(Rejection::StaleSettings)
        );
        let present = scene.world.placed();
        assert_eq!(scene.settle(present, &placed), Reply::Done, "{rule}");
    }
}

#[test]
fn a_chunk_longer_than_the_class_now_cuts_is_refused() {
    let mut scene = scene(ClassRow {
        chunk_bytes: 2 * CHUNK_BYTES_MIN,
        ..class(1, 0)
    });
    let lease = scene.lease(&[0]);
    let long = |scene: &mut Scene| ChunkRow {
        plaintext_bytes: 2 * CHUNK_BYTES_MIN,
        ..scene.chunk(lease, &[0], 1)
    };
    let settle = |scene: &mut Scene, chunk: ChunkRow| {
        let class = scene.world.placed();
        let mut slice = scene
            .world
            .slice(blob(scene.session, scene.blobs), 0, vec![chunk]);
        if let SessionCommand::Slice(slice) = &mut slice {
            slice.chunk_bytes = 2 * CHUNK_BYTES_MIN;
            slice.class = class;
        }
        scene.blobs += 1;
        scene.world.submit(scene.session, slice)
    };
    let chunk = long(&mut scene);
    assert_eq!(settle(&mut scene, chunk), Reply::Done);
    scene.set(class(1, 0));
    let chunk = long(&mut scene);
    let refused = why(settle(&mut scene, chunk));
    assert!(refused.contains("of 2097152 bytes, not 1048576"), "{refused}");
}

#[test]
fn vendors_are_taken_as_they_are_when_copies_are_settled() {
    let strict = ClassRow {
        max_price: Some(5),
        ..class(2, 2)
    };
    let mut scene = scene(strict);
    let lease = scene.lease(&[0, 1, 2, 4]);
    let class = scene.world.placed();
    let placed = scene.chunk(lease, &[0, 2], 1);
    scene.offer_again(2, "b", 6);
    let dear = why(scene.settle(class.clone(), &placed));
    assert!(dear.contains("it costs 6, more than 5"), "{dear}");
    scene.offer_again(2, "a", 5);
    let near = why(scene.settle(class.clone(), &placed));
    assert!(near.contains("1 zones, not 2"), "{near}");
    scene.offer_again(2, "", 5);
    let nowhere = why(scene.settle(class.clone(), &placed));
    assert!(nowhere.contains("1 zones, not 2"), "{nowhere}");
    scene.offer_again(2, "b", 5);
    // One more copy at a vendor in no zone does no harm.
    let more = scene.chunk(lease, &[4, 0, 2], 1);
    assert_eq!(scene.settle(class.clone(), &more), Reply::Done);
    // Nor does a vendor that fell silent after it had signed its receipt.
    let vendor = scene.vendors[2];
    scene.world.decide(&Command::SetVendorState {
        vendor,
        state: VendorState::Stale,
    });
    assert_eq!(scene.settle(class.clone(), &placed), Reply::Done);
    // One that was shut out holds nothing that counts.
    scene.world.decide(&Command::RevokeVendor { vendor });
    let placed = scene.chunk(lease, &[0, 1, 2], 1);
    let revoked = why(scene.settle(class, &placed));
    assert!(revoked.contains("it is revoked"), "{revoked}");
}

#[test]
fn zones_of_different_regions_differ() {
    let mut world = World::with_class(class(2, 2));
    let mut register = |name: &str, region: &str, zone: &str| {
        let mut request = registration(name, zone, vec![device(0, HDD, 1 << 24)]);
        request.characteristics.region = region.to_owned();
        match world.decide(&Command::RegisterVendor(request)) {
            Reply::Vendor(vendor) => vendor,
            reply => panic!("{reply:?}"),
        }
    };
    let here = register("here", "one", "a");
    let there = register("there", "two", "a");
    let nowhere = register("nowhere", "three", "");
    let session = world.session();
    let allocate = |vendors: &[VendorId]| crate::support::allocate(vendors, 1000);
    let refused = world.submit_refused(session, allocate(&[here, nowhere]));
    assert!(refused.to_string().contains("1 zones, not 2"), "{refused}");
    world.lease(session, &[here, there], 1000);
}
