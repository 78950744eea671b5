//! Settling: what turns leased room into copies of the final FAT, and what is refused.

use crate::support::{HDD, STANDARD, World, blob, chunk, class, device, registration};
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::query;
use ullage_model::fat::rows::{ChunkRow, ClassRow, CopyState};
use ullage_model::ids::{LeaseId, SessionId, VendorId};
use ullage_model::limits::{CHUNK_BYTES_MIN, CHUNKS_PER_SLICE, FRAME_BYTES, LEASE_MS};
use ullage_model::rejection::Rejection;
use ullage_model::units::room;
use ullage_model::wire::agent::{JudgeRequest, Judgement};

struct Scene {
    world: World,
    vendors: Vec<VendorId>,
    session: SessionId,
    lease: LeaseId,
}

/// Three vendors of two devices each in two zones, and a lease of 8 MiB at each.
fn scene(class: ClassRow) -> Scene {
    let mut world = World::with_class(class);
    let vendors = [("a", "x"), ("b", "x"), ("c", "y")].map(|(name, zone)| {
        let devices = vec![device(0, HDD, 1 << 23), device(1, HDD, 1 << 23)];
        match world.decide(&Command::RegisterVendor(registration(name, zone, devices))) {
            Reply::Vendor(vendor) => vendor,
            reply => panic!("{reply:?}"),
        }
    });
    let session = world.session();
    let lease = world.lease(session, &vendors, 1 << 23);
    Scene {
        world,
        vendors: vendors.to_vec(),
        session,
        lease,
    }
}

impl Scene {
    fn commit(&mut self, counter: u64, chunks: Vec<ChunkRow>) -> Reply {
        let slice = self.world.slice(blob(self.session, counter), 0, chunks);
        self.world.submit(self.session, slice)
    }

    fn refusal(&mut self, chunks: Vec<ChunkRow>) -> Rejection {
        let before = self.world.rows.clone();
        let rejection = match self.commit(99, chunks) {
            Reply::Refused(rejection) => rejection,
            reply => panic!("{reply:?}"),
        };
        for &vendor in &self.vendors {
            let rooms = query::rooms(&before, vendor).unwrap();
            assert_eq!(query::rooms(&self.world.rows, vendor).unwrap(), rooms);
        }
        rejection
    }

    fn chunk(&self, bytes: u64, vendors: &[usize]) -> ChunkRow {
        let vendors: Vec<VendorId> = vendors.iter().map(|at| self.vendors[*at]).collect();
        chunk(self.lease, 0, bytes, &vendors)
    }
}

#[test]
fn settled_room_moves_from_leased_to_used() {
    let mut scene = scene(class(2, 0));
    let one = scene.chunk(CHUNK_BYTES_MIN, &[0, 1]);
    let two = ChunkRow {
        chunk: chunk(scene.lease, 1, 1, &[]).chunk,
        ..scene.chunk(5, &[0, 2])
    };
    assert_eq!(scene.commit(0, vec![one, two]), Reply::Done);
    let (whole, small) = (room(CHUNK_BYTES_MIN, 1), room(5, 1));
    let used: Vec<u64> = scene
        .vendors
        .iter()
        .map(|vendor| scene.world.room(*vendor).used)
        .collect();
    assert_eq!(used, [whole + small, whole, small]);
    for vendor in &scene.vendors {
        let room = scene.world.room(*vendor);
        assert_eq!(room.leased + room.used, 1 << 23);
    }
}

#[test]
fn copies_of_one_command_cannot_exceed_the_lease_together() {
    let mut scene = scene(class(1, 0));
    let (vendor, session) = (scene.vendors[0], scene.session);
    let each = room(CHUNK_BYTES_MIN, 1);
    let lease = scene.world.lease(session, &[vendor], 2 * each + 1);
    let chunks = |n: u32| {
        (0..n)
            .map(|at| chunk(lease, at, CHUNK_BYTES_MIN, &[vendor]))
            .collect()
    };
    let exceeded = Rejection::LeaseExceeded {
        lease,
        vendor,
        asked: each,
    };
    assert_eq!(scene.refusal(chunks(3)), exceeded);
    assert_eq!(scene.commit(0, chunks(2)), Reply::Done);
    let more = vec![chunk(lease, 7, 1, &[vendor])];
    let exceeded = Rejection::LeaseExceeded {
        lease,
        vendor,
        asked: room(1, 1),
    };
    assert_eq!(scene.refusal(more), exceeded);
}

#[test]
fn copies_must_lie_as_the_class_says() {
    let mut scene = scene(ClassRow {
        pieces: 2,
        ..class(2, 2)
    });
    let good = |scene: &Scene| {
        let mut chunk = scene.chunk(3 * FRAME_BYTES, &[0, 2]);
        chunk.copies.iter_mut().for_each(|copy| copy.pieces = 2);
        chunk
    };
    type Spoil = fn(&mut ChunkRow, &Scene);
    let spoils: [(Spoil, &str); 10] = [
        (|chunk, _| chunk.copies.truncate(1), "copies"),
        (
            |chunk, _| chunk.copies[1].vendor = chunk.copies[0].vendor,
            "twice",
        ),
        (
            |chunk, scene| chunk.copies[1].vendor = scene.vendors[1],
            "1 zones, not 2",
        ),
        (|chunk, _| chunk.copies[0].pieces = 1, "pieces"),
        (|chunk, _| chunk.copies[0].pieces = 17, "pieces"),
        (
            |chunk, _| chunk.copies[0].device_class = "ssd".to_owned(),
            "no \"ssd\" room",
        ),
        (|chunk, _| chunk.copies[0].state = CopyState::Damaged, "comes as"),
        (|chunk, _| chunk.copies[0].lease = LeaseId(4711), "is closed"),
        (
            |chunk, _| chunk.copies[0].vendor = VendorId(4711),
            "no vendor-4711",
        ),
        (|chunk, _| chunk.plaintext_bytes = CHUNK_BYTES_MIN + 1, "bytes"),
    ];
    for (spoil, why) in spoils {
        let mut chunk = good(&scene);
        spoil(&mut chunk, &scene);
        let rejection = scene.refusal(vec![chunk]).to_string();
        assert!(rejection.contains(why), "{rejection}, expected {why}");
    }
    let empty = ChunkRow {
        plaintext_bytes: 0,
        ..good(&scene)
    };
    scene.refusal(vec![empty]);
    // A chunk of one frame can only be one piece.
    let short = ChunkRow {
        chunk: chunk(scene.lease, 1, 1, &[]).chunk,
        ..scene.chunk(10, &[1, 2])
    };
    assert_eq!(scene.commit(0, vec![short]), Reply::Done);
    let chunk = good(&scene);
    assert_eq!(scene.commit(1, vec![chunk]), Reply::Done);
}

#[test]
fn more_copies_than_the_class_asks_are_taken() {
    let mut scene = scene(class(2, 0));
    let chunk = scene.chunk(10, &[0, 1, 2]);
    assert_eq!(scene.commit(0, vec![chunk]), Reply::Done);
}

#[test]
fn a_vendor_outside_the_lease_has_no_room_to_settle() {
    let mut scene = scene(class(1, 0));
    let vendor = scene.world.vendor("late", "x", 1 << 20);
    let stray = chunk(scene.lease, 0, 10, &[vendor]);
    let exceeded = Rejection::LeaseExceeded {
        lease: scene.lease,
        vendor,
        asked: room(10, 1),
    };
    assert_eq!(scene.refusal(vec![stray]), exceeded);
}

#[test]
fn another_sessions_lease_is_refused() {
    let mut scene = scene(class(1, 0));
    let other = scene.world.session();
    let lease = scene.world.lease(other, &[scene.vendors[0]], 1000);
    let stolen = chunk(lease, 0, 1, &[scene.vendors[0]]);
    assert_eq!(scene.refusal(vec![stolen]), Rejection::LeaseClosed(lease));
}

#[test]
fn a_lease_serves_the_class_it_was_made_for() {
    let mut scene = scene(class(1, 0));
    let other = ClassRow {
        name: "OTHER".to_owned(),
        ..class(1, 0)
    };
    assert_eq!(scene.world.decide(&Command::SetClass(other)), Reply::Done);
    let rows = vec![(scene.vendors[0], HDD.to_owned(), 10_000)];
    let allocate = SessionCommand::Allocate {
        class: "OTHER".to_owned(),
        rows,
        duration_ms: LEASE_MS,
    };
    let Reply::Lease { lease, .. } = scene.world.submit(scene.session, allocate) else {
        panic!("no lease")
    };
    let foreign = chunk(lease, 0, 1, &[scene.vendors[0]]);
    assert!(matches!(scene.refusal(vec![foreign]), Rejection::Placement(_)));
}

#[test]
fn a_changed_class_makes_the_gateway_decide_again() {
    let mut scene = scene(class(1, 0));
    let chunk = scene.chunk(10, &[0, 1]);
    let stale = scene.world.slice(blob(scene.session, 0), 0, vec![chunk.clone()]);
    assert_eq!(scene.world.decide(&Command::SetClass(class(2, 0))), Reply::Done);
    assert_eq!(
        scene.world.submit_refused(scene.session, stale),
        Rejection::StaleSettings
    );
    assert_eq!(scene.commit(0, vec![chunk]), Reply::Done);
}

#[test]
fn a_copys_name_is_used_once() {
    let mut scene = scene(class(1, 0));
    let chunk = scene.chunk(10, &[0]);
    assert_eq!(scene.commit(0, vec![chunk.clone()]), Reply::Done);
    assert!(matches!(scene.refusal(vec![chunk]), Rejection::Invalid(_)));
    let mut fresh = scene.chunk(CHUNK_BYTES_MIN, &[1]);
    fresh.chunk.counter = 5;
    assert!(matches!(
        scene.refusal(vec![fresh.clone(), fresh]),
        Rejection::Invalid(_)
    ));
}

#[test]
fn a_slice_is_bounded() {
    let mut scene = scene(class(1, 0));
    let count = u32::try_from(CHUNKS_PER_SLICE).unwrap() + 1;
    let chunks = (0..count)
        .map(|at| chunk(scene.lease, at, 1, &[scene.vendors[0]]))
        .collect();
    assert!(matches!(scene.refusal(chunks), Rejection::Invalid(_)));
}

#[test]
fn only_unknown_copies_of_closed_leases_of_this_epoch_may_be_erased() {
    let mut scene = scene(class(1, 0));
    let (session, vendor) = (scene.session, scene.vendors[0]);
    let open = scene.world.lease(session, &[vendor], 1000);
    let kept = scene.chunk(10, &[0]);
    assert_eq!(scene.commit(0, vec![kept.clone()]), Reply::Done);
    let name = |chunk: &ChunkRow, lease| ullage_model::ids::CopyId {
        chunk: chunk.chunk,
        lease,
    };
    let mut stray = kept.clone();
    stray.chunk.counter = 9;
    let other_epoch = LeaseId(ullage_model::ids::Epoch(3).id(1));
    let copies = vec![
        name(&kept, scene.lease),
        name(&stray, scene.lease),
        name(&stray, open),
        name(&stray, LeaseId(1 << 40)),
        name(&stray, other_epoch),
    ];
    let judged = |world: &World, vendor| {
        let request = JudgeRequest {
            vendor,
            copies: copies.clone(),
        };
        query::judge(&world.rows, &request).unwrap().judgements
    };
    use Judgement::{Erase, Keep, Undecided};
    assert_eq!(
        judged(&scene.world, vendor),
        [Keep, Undecided, Undecided, Undecided, Undecided]
    );
    let lease = scene.lease;
    scene.world.submit(session, SessionCommand::ReturnLease { lease });
    assert_eq!(
        judged(&scene.world, vendor),
        [Keep, Erase, Undecided, Undecided, Undecided]
    );
    // A copy is known at the vendor where it lies, not elsewhere.
    assert_eq!(judged(&scene.world, scene.vendors[1])[0], Erase);
    scene.world.confirm_all(vendor);
    assert_eq!(
        judged(&scene.world, vendor),
        [Keep, Erase, Undecided, Undecided, Undecided]
    );
}

#[test]
fn a_class_that_asks_for_devices_gets_no_others() {
    let mut world = World::with_class(ClassRow {
        device_class: Some("ssd".to_owned()),
        ..class(1, 0)
    });
    let request = registration("both", "x", vec![device(0, HDD, 9000), device(1, "ssd", 9000)]);
    let Reply::Vendor(vendor) = world.decide(&Command::RegisterVendor(request)) else {
        panic!("no vendor")
    };
    let session = world.session();
    let rows = vec![(vendor, "ssd".to_owned(), 5000)];
    let allocate = SessionCommand::Allocate {
        class: STANDARD.to_owned(),
        rows,
        duration_ms: LEASE_MS,
    };
    let Reply::Lease { lease, .. } = world.submit(session, allocate) else {
        panic!("no lease")
    };
    let mut placed = chunk(lease, 0, 1, &[vendor]);
    let slice = world.slice(blob(session, 0), 0, vec![placed.clone()]);
    assert!(matches!(
        world.submit_refused(session, slice),
        Rejection::Placement(_)
    ));
    placed.copies[0].device_class = "ssd".to_owned();
    let slice = world.slice(blob(session, 0), 0, vec![placed]);
    assert_eq!(world.submit(session, slice), Reply::Done);
}
