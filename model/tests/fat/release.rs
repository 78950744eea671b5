//! Release: the drain, erase orders, acknowledgements, damage.

use crate::support::{World, blob, chunk};
use bytes::Bytes;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::query::{self, ErasePermit};
use ullage_model::fat::rows::{ChunkRow, CopyState};
use ullage_model::fat::{keys, rows::CopyPlace};
use ullage_model::ids::{CopyId, LeaseId, SessionId, VendorId};
use ullage_model::limits::{CHUNK_BYTES_MIN, CHUNKS_PER_DRAIN, CHUNKS_PER_SLICE, COPIES_PER_BATCH};
use ullage_model::rejection::Rejection;
use ullage_model::step::ReadRows;
use ullage_model::store::{Change, Column};
use ullage_model::units::room;
use ullage_model::wire::agent::DamagedCopy;

/// A cluster of two vendors and a blob of `chunks` chunks at both.
fn stored(chunks: u32) -> (World, SessionId, LeaseId, [VendorId; 2]) {
    let mut world = World::new(2);
    let vendors = [world.vendor("a", "x", 1 << 40), world.vendor("b", "x", 1 << 40)];
    let session = world.session();
    let lease = world.lease(session, &vendors, 1 << 39);
    let all: Vec<ChunkRow> = (0..chunks)
        .map(|at| chunk(lease, at, CHUNK_BYTES_MIN, &vendors))
        .collect();
    let mut first = 0;
    for slice in all.chunks(CHUNKS_PER_SLICE) {
        let command = world.slice(blob(session, 0), first, slice.to_vec());
        assert_eq!(world.submit(session, command), Reply::Done);
        first += u32::try_from(slice.len()).unwrap();
    }
    (world, session, lease, vendors)
}

fn abandon(world: &mut World, session: SessionId) {
    let command = SessionCommand::AbandonBlob {
        blob: blob(session, 0),
    };
    assert_eq!(world.submit(session, command), Reply::Done);
}

#[test]
fn room_goes_from_used_to_erasing_to_free() {
    let (mut world, session, _, [a, b]) = stored(1);
    let bytes = room(CHUNK_BYTES_MIN, 1);
    abandon(&mut world, session);
    assert!(query::may_drain(&world.rows, &ErasePermit::ALL).unwrap());
    assert_eq!(world.room(a).used, bytes);
    world.drain();
    assert!(!query::may_drain(&world.rows, &ErasePermit::ALL).unwrap());
    for vendor in [a, b] {
        assert_eq!((world.room(vendor).used, world.room(vendor).erasing), (0, bytes));
    }
    world.erase_all(a);
    assert_eq!((world.room(a).erasing, world.room(b).erasing), (0, bytes));
    let row: Option<ChunkRow> = world
        .rows
        .row(Column::Chunks, &keys::chunk(blob(session, 0), 0))
        .unwrap();
    assert_eq!(
        row.unwrap().copies.len(),
        1,
        "the chunk row outlives the release until the last word"
    );
    world.erase_all(b);
    let row: Option<ChunkRow> = world
        .rows
        .row(Column::Chunks, &keys::chunk(blob(session, 0), 0))
        .unwrap();
    assert_eq!(row, None);
}

#[test]
fn the_queue_is_looked_at_from_where_its_drain_is_only() {
    let chunks = u32::try_from(CHUNKS_PER_DRAIN).unwrap() + 1;
    let (mut world, session, lease, [a, b]) = stored(chunks);
    assert_eq!(query::drained_index(&world.rows).unwrap(), 0);
    abandon(&mut world, session);
    let released = world.index;
    let more = world.decide(&Command::DrainReleases {
        permit: ErasePermit::ALL,
    });
    assert_eq!(more, Reply::Progress { more: true });
    assert_eq!(query::drained_index(&world.rows).unwrap(), released);
    world.drain();
    assert_eq!(query::drained_index(&world.rows).unwrap(), released);

    // What lies before is not waded through: not even this is seen.
    let before = |value| Change {
        column: Column::Releases,
        key: keys::release(released - 1, 0),
        value,
    };
    world
        .rows
        .apply([before(Some(Bytes::from_static(b"no such row")))]);
    assert!(!query::may_drain(&world.rows, &ErasePermit::ALL).unwrap());
    assert_eq!(query::releases(&world.rows, 9).unwrap(), []);
    world.rows.apply([before(None)]);

    let rows = vec![chunk(lease, chunks, CHUNK_BYTES_MIN, &[a, b])];
    let slice = world.slice(blob(session, 1), 0, rows);
    assert_eq!(world.submit(session, slice), Reply::Done);
    let blob = blob(session, 1);
    assert_eq!(
        world.submit(session, SessionCommand::AbandonBlob { blob }),
        Reply::Done
    );
    assert!(query::may_drain(&world.rows, &ErasePermit::ALL).unwrap());
    world.drain();
    let newest = (world.index - 1, CopyId::default());
    let orders = query::erase_orders_from(&world.rows, a, Some(newest), &ErasePermit::ALL, 9).unwrap();
    assert_eq!(orders.len(), 1, "the others were released before");
}

#[test]
fn a_drain_goes_in_bounded_steps() {
    let chunks = u32::try_from(CHUNKS_PER_DRAIN).unwrap() * 2 + 1;
    let (mut world, session, _, [a, b]) = stored(chunks);
    abandon(&mut world, session);
    let orders = |world: &World| query::counts(&world.rows, u64::MAX).unwrap().erase_orders;
    for (more, ordered) in [(true, 256), (true, 512), (false, 514)] {
        assert_eq!(
            world.decide(&Command::DrainReleases {
                permit: ErasePermit::ALL
            }),
            Reply::Progress { more }
        );
        assert_eq!(orders(&world), ordered);
    }
    assert_eq!(
        world.decide(&Command::DrainReleases {
            permit: ErasePermit::ALL
        }),
        Reply::Progress { more: false }
    );
    world.erase_all(a);
    world.erase_all(b);
    assert_eq!(orders(&world), 0);
    assert_eq!(world.room(a).erasing, 0);
}

#[test]
fn one_step_takes_many_small_blobs() {
    let (mut world, session, lease, vendors) = stored(1);
    for counter in 1..20 {
        let chunk = chunk(lease, counter, 10, &vendors);
        let slice = world.slice(blob(session, counter.into()), 0, vec![chunk]);
        assert_eq!(world.submit(session, slice), Reply::Done);
    }
    assert_eq!(world.decide(&Command::EndSession { session }), Reply::Done);
    world.abandon(session);
    assert_eq!(
        world.decide(&Command::DrainReleases {
            permit: ErasePermit::ALL
        }),
        Reply::Progress { more: false }
    );
    assert_eq!(query::counts(&world.rows, 1000).unwrap().erase_orders, 40);
}

#[test]
fn erase_orders_wait_for_readers_or_for_an_hour() {
    let (mut world, session, lease, [a, _]) = stored(2);
    abandon(&mut world, session);
    let released = world.index;
    world.pass(1000);
    world.drain();
    let orders = |below_index, before| {
        let permit = ErasePermit {
            below_index,
            released_before: ClusterTime(before),
        };
        query::erase_orders(&world.rows, a, &permit, 9).unwrap()
    };
    let name = |counter| CopyId {
        chunk: chunk(lease, counter, 1, &[]).chunk,
        lease,
    };
    let all = [(released, name(0)), (released, name(1))];
    assert_eq!(orders(released, 0), []);
    assert_eq!(orders(released + 1, 0), all);
    assert_eq!(orders(0, 1), all);
    assert_eq!(
        query::erase_orders(&world.rows, a, &ErasePermit::ALL, 1).unwrap(),
        all[..1]
    );
}

#[test]
fn live_sessions_hold_back_erases_until_they_have_moved_on() {
    let mut world = World::new(1);
    assert_eq!(query::safe_erase_index(&world.rows).unwrap(), u64::MAX);
    let session = world.session();
    let opened = world.index;
    assert_eq!(query::safe_erase_index(&world.rows).unwrap(), opened);
    let renew = |observed_index| Command::RenewSession {
        session,
        acknowledged_below: 0,
        observed_index,
    };
    for _ in 0..5 {
        world.pass(1);
    }
    world.decide(&renew(opened + 3));
    assert_eq!(query::safe_erase_index(&world.rows).unwrap(), opened + 3);
    world.decide(&renew(opened + 1));
    assert_eq!(query::safe_erase_index(&world.rows).unwrap(), opened + 3);
    world.decide(&renew(u64::MAX));
    assert_eq!(query::safe_erase_index(&world.rows).unwrap(), world.index);
    world.decide(&Command::EndSession { session });
    assert_eq!(query::safe_erase_index(&world.rows).unwrap(), u64::MAX);
}

#[test]
fn acknowledgements_that_name_no_order_change_nothing() {
    let (mut world, session, lease, [a, b]) = stored(1);
    let name = CopyId {
        chunk: chunk(lease, 0, 1, &[]).chunk,
        lease,
    };
    let early = Command::AcknowledgeErased {
        vendor: a,
        copies: vec![(world.index, name)],
    };
    assert_eq!(world.decide(&early), Reply::Done);
    assert_eq!(world.room(a).used, room(CHUNK_BYTES_MIN, 1));
    abandon(&mut world, session);
    world.drain();
    let orders = query::erase_orders(&world.rows, a, &ErasePermit::ALL, 9).unwrap();
    let twice = [orders.clone(), orders.clone()].concat();
    let command = Command::AcknowledgeErased {
        vendor: a,
        copies: twice,
    };
    assert_eq!(world.decide(&command), Reply::Done);
    assert_eq!(world.decide(&command), Reply::Done);
    assert_eq!(
        (world.room(a).erasing, world.room(b).erasing),
        (0, room(CHUNK_BYTES_MIN, 1))
    );
    let many = vec![orders[0]; COPIES_PER_BATCH + 1];
    let too_many = Command::AcknowledgeErased {
        vendor: a,
        copies: many,
    };
    assert!(matches!(world.refused(&too_many), Rejection::Invalid(_)));
}

#[test]
fn damage_is_marked_where_the_copy_lies_and_nowhere_else_and_taken_back() {
    let (mut world, session, lease, [a, b]) = stored(1);
    let copy = CopyId {
        chunk: chunk(lease, 0, 1, &[]).chunk,
        lease,
    };
    let stranger = CopyId {
        lease: LeaseId(99),
        ..copy
    };
    let report = |copy| Command::ReportDamaged {
        vendor: a,
        copies: vec![DamagedCopy { copy, lost: true }],
    };
    let states = |world: &World| {
        let row: Option<ChunkRow> = world
            .rows
            .row(Column::Chunks, &keys::chunk(blob(session, 0), 0))
            .unwrap();
        row.unwrap()
            .copies
            .iter()
            .map(|copy| (copy.vendor, copy.state))
            .collect::<Vec<_>>()
    };
    assert_eq!(world.decide(&report(stranger)), Reply::Done);
    assert_eq!(states(&world), [(a, CopyState::Good), (b, CopyState::Good)]);
    assert_eq!(world.decide(&report(copy)), Reply::Done);
    assert_eq!(states(&world), [(a, CopyState::Damaged), (b, CopyState::Good)]);
    let found = |copy| Command::ReportFound {
        vendor: a,
        copies: vec![copy],
    };
    for _ in 0..2 {
        assert_eq!(world.decide(&found(stranger)), Reply::Done);
        assert_eq!(world.decide(&found(copy)), Reply::Done);
        assert_eq!(states(&world), [(a, CopyState::Good), (b, CopyState::Good)]);
    }
    assert_eq!(world.decide(&report(copy)), Reply::Done);
    abandon(&mut world, session);
    world.drain();
    assert_eq!(world.decide(&report(copy)), Reply::Done);
    assert_eq!(world.decide(&found(copy)), Reply::Done);
    assert_eq!(states(&world), [(a, CopyState::Erasing), (b, CopyState::Erasing)]);
    let place: Option<CopyPlace> = world.rows.row(Column::Copies, &keys::copy(a, copy)).unwrap();
    assert!(
        place.is_some(),
        "the index knows the copy until its erase is acknowledged"
    );
}
