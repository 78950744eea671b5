//! Provisional FATs from allocation to the last confirmation.

use crate::support::{HDD, STANDARD, World, allocate, blob, chunk, class};
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::query;
use ullage_model::fat::rows::{ClassRow, LeaseState};
use ullage_model::ids::{LeaseId, VendorId};
use ullage_model::limits::{LEASE_MS, LEASE_MS_MAX, LEASES_PER_SESSION, ROWS_PER_TICK, SESSION_MS};
use ullage_model::rejection::Rejection;
use ullage_model::units::room;

#[test]
fn locked_room_is_nobody_elses_until_the_vendor_confirms_the_close() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let (one, two) = (world.session(), world.session());
    let lease = world.lease(one, &[vendor], 70);
    let no_room = Rejection::NoRoom {
        vendor,
        free: 30,
        asked: 31,
    };
    assert_eq!(world.submit_refused(two, allocate(&[vendor], 31)), no_room);
    world.lease(two, &[vendor], 30);
    assert_eq!(
        world.submit(one, SessionCommand::ReturnLease { lease }),
        Reply::Done
    );
    assert_eq!(world.room(vendor).free(), 0);
    assert_eq!(query::leases_to_confirm(&world.rows, vendor, 9).unwrap(), [lease]);
    assert_eq!(
        world.decide(&Command::ConfirmClose { lease, vendor }),
        Reply::Done
    );
    assert_eq!(world.room(vendor).free(), 70);
    assert!(
        query::leases_to_confirm(&world.rows, vendor, 9)
            .unwrap()
            .is_empty()
    );
    // Said twice, nothing more is free.
    assert_eq!(
        world.decide(&Command::ConfirmClose { lease, vendor }),
        Reply::Done
    );
    assert_eq!(world.room(vendor).free(), 70);
}

#[test]
fn a_dead_vendor_holds_up_nobody_elses_room() {
    let mut world = World::new(2);
    let (here, dead) = (world.vendor("here", "a", 100), world.vendor("dead", "a", 100));
    let session = world.session();
    let lease = world.lease(session, &[here, dead], 50);
    assert_eq!(
        world.submit(session, SessionCommand::ReturnLease { lease }),
        Reply::Done
    );
    world.confirm_all(here);
    // Said again, it frees nothing more.
    assert_eq!(
        world.decide(&Command::ConfirmClose { lease, vendor: here }),
        Reply::Done
    );
    assert_eq!((world.room(here).free(), world.room(dead).free()), (100, 50));
    assert!(query::lease(&world.rows, lease).unwrap().is_some());
    world.confirm_all(dead);
    assert_eq!(world.room(dead).free(), 100);
    assert!(query::lease(&world.rows, lease).unwrap().is_none());
}

#[test]
fn allocations_that_break_the_rules_are_refused_whole() {
    let mut world = World::with_class(ClassRow {
        device_class: Some(HDD.to_owned()),
        max_price: Some(0),
        ..class(2, 2)
    });
    let (a, b, c) = (
        world.vendor("a", "x", 100),
        world.vendor("b", "x", 100),
        world.vendor("c", "y", 100),
    );
    let session = world.session();
    let rows = |rows: &[(VendorId, &str, u64)]| SessionCommand::Allocate {
        class: STANDARD.to_owned(),
        rows: rows
            .iter()
            .map(|(vendor, class, bytes)| (*vendor, (*class).to_owned(), *bytes))
            .collect(),
        duration_ms: LEASE_MS,
    };
    let cases = [
        (rows(&[]), "vendors"),
        (rows(&[(a, HDD, 1)]), "vendors"),
        (rows(&[(a, HDD, 1), (b, HDD, 1)]), "zones"),
        (rows(&[(a, HDD, 1), (a, HDD, 1)]), "twice"),
        (rows(&[(a, "ssd", 1), (c, HDD, 1)]), "only \"hdd\" devices"),
        (rows(&[(a, HDD, 0), (c, HDD, 1)]), "free"),
        (rows(&[(a, HDD, 101), (c, HDD, 1)]), "free"),
        (rows(&[(a, HDD, u64::MAX), (c, HDD, 1)]), "free"),
        (rows(&[(a, HDD, 1), (VendorId(77), HDD, 1)]), "no vendor-77"),
        (
            SessionCommand::Allocate {
                class: "NONE".to_owned(),
                rows: vec![],
                duration_ms: LEASE_MS,
            },
            "no class",
        ),
        (
            SessionCommand::Allocate {
                class: STANDARD.to_owned(),
                rows: vec![],
                duration_ms: 0,
            },
            "a lease lives",
        ),
    ];
    for (command, why) in cases {
        let rejection = world.submit_refused(session, command).to_string();
        assert!(rejection.contains(why), "{rejection}, expected {why}");
        assert_eq!(
            world.room(a).leased + world.room(b).leased + world.room(c).leased,
            0
        );
    }
    world.submit(session, rows(&[(a, HDD, 1), (b, HDD, 2), (c, HDD, 3)]));
    assert_eq!(
        (world.room(a).leased, world.room(b).leased, world.room(c).leased),
        (1, 2, 3)
    );
}

#[test]
fn a_renewed_lease_lives_longer_and_never_shorter() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let (session, other) = (world.session(), world.session());
    let lease = world.lease(session, &[vendor], 10);
    let renew = |duration_ms| SessionCommand::RenewLease { lease, duration_ms };
    let now = world.now();
    assert_eq!(
        world.submit(session, renew(LEASE_MS_MAX)),
        Reply::Deadline(now.plus(LEASE_MS_MAX))
    );
    assert_eq!(
        world.submit(session, renew(1)),
        Reply::Deadline(now.plus(LEASE_MS_MAX))
    );
    assert!(matches!(
        world.submit_refused(session, renew(LEASE_MS_MAX + 1)),
        Rejection::Invalid(_)
    ));
    assert_eq!(
        world.submit_refused(other, renew(1)),
        Rejection::LeaseClosed(lease)
    );
}

#[test]
fn what_was_not_granted_is_given_back_at_once() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let session = world.session();
    let lease = world.lease(session, &[vendor], 60);
    assert_eq!(world.decide(&Command::RecallLease { lease }), Reply::Done);
    assert!(query::session_leases(&world.rows, session).unwrap()[0].recalled);
    assert_eq!(query::recallable_leases(&world.rows).unwrap(), [(lease, true)]);
    let shrink = |bytes| SessionCommand::ShrinkLease {
        lease,
        rows: vec![(vendor, bytes)],
    };
    assert_eq!(world.submit(session, shrink(45)), Reply::Done);
    assert_eq!(world.room(vendor).free(), 85);
    let exceeded = Rejection::LeaseExceeded {
        lease,
        vendor,
        asked: 16,
    };
    assert_eq!(world.submit_refused(session, shrink(16)), exceeded);
    assert_eq!(world.submit(session, shrink(15)), Reply::Done);
    assert_eq!(world.room(vendor).free(), 100);
    assert!(query::recallable_leases(&world.rows).unwrap().is_empty());
    let twice = SessionCommand::ShrinkLease {
        lease,
        rows: vec![(vendor, 1)],
    };
    assert!(matches!(
        world.submit_refused(session, twice),
        Rejection::LeaseExceeded { .. }
    ));
}

#[test]
fn one_shrink_naming_a_vendor_twice_cannot_give_back_more_than_is_locked() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let session = world.session();
    let lease = world.lease(session, &[vendor], 60);
    let rows = vec![(vendor, 40), (vendor, 40)];
    let rejection = world.submit_refused(session, SessionCommand::ShrinkLease { lease, rows });
    assert_eq!(
        rejection,
        Rejection::LeaseExceeded {
            lease,
            vendor,
            asked: 40
        }
    );
    assert_eq!(world.room(vendor).leased, 60);
}

#[test]
fn a_lease_closes_at_its_deadline_and_takes_nothing_any_more() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 1 << 20);
    let session = world.session();
    let lease = world.lease(session, &[vendor], 1 << 19);
    let not_due = world.refused(&Command::ExpireLease { lease });
    assert!(matches!(not_due, Rejection::Invalid(_)));
    for _ in 0..3 {
        world.pass(LEASE_MS / 3);
        let renew = Command::RenewSession {
            session,
            acknowledged_below: 0,
            observed_index: 0,
        };
        world.decide(&renew);
    }
    assert_eq!(
        query::lease(&world.rows, lease).unwrap().unwrap().state,
        LeaseState::Closing
    );
    assert!(query::closed_leases(&world.rows).unwrap().is_closed(lease));
    assert_eq!(world.decide(&Command::ExpireLease { lease }), Reply::Done);
    let late = world.slice(blob(session, 0), 0, vec![chunk(lease, 0, 10, &[vendor])]);
    assert_eq!(world.submit_refused(session, late), Rejection::LeaseClosed(lease));
    let renew = SessionCommand::RenewLease {
        lease,
        duration_ms: 5,
    };
    assert_eq!(
        world.submit_refused(session, renew),
        Rejection::LeaseClosed(lease)
    );
    let again = SessionCommand::ReturnLease { lease };
    assert_eq!(
        world.submit_refused(session, again),
        Rejection::LeaseClosed(lease)
    );
}

#[test]
fn what_is_settled_stays_used_when_the_lease_closes() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 1 << 20);
    let session = world.session();
    let lease = world.lease(session, &[vendor], 1 << 19);
    let slice = world.slice(blob(session, 0), 0, vec![chunk(lease, 0, 1000, &[vendor])]);
    assert_eq!(world.submit(session, slice), Reply::Done);
    assert_eq!(
        world.submit(session, SessionCommand::ReturnLease { lease }),
        Reply::Done
    );
    world.confirm_all(vendor);
    assert_eq!(
        (world.room(vendor).leased, world.room(vendor).used),
        (0, room(1000, 1))
    );
}

#[test]
fn closes_are_confirmed_by_those_named_and_not_while_open() {
    let mut world = World::new(1);
    let (vendor, other) = (world.vendor("one", "a", 100), world.vendor("two", "a", 100));
    let session = world.session();
    let lease = world.lease(session, &[vendor], 10);
    let confirm = |vendor| Command::ConfirmClose { lease, vendor };
    assert!(matches!(world.refused(&confirm(vendor)), Rejection::Invalid(_)));
    world.submit(session, SessionCommand::ReturnLease { lease });
    assert!(matches!(world.refused(&confirm(other)), Rejection::Invalid(_)));
    let unknown = Command::ConfirmClose {
        lease: LeaseId(4711),
        vendor,
    };
    assert_eq!(world.decide(&unknown), Reply::Done);
}

#[test]
fn leases_are_closed_below_the_mark_unless_open() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let session = world.session();
    let leases: Vec<LeaseId> = (0..3).map(|_| world.lease(session, &[vendor], 10)).collect();
    world.submit(session, SessionCommand::ReturnLease { lease: leases[1] });
    let closed = query::closed_leases(&world.rows).unwrap();
    assert_eq!(closed.open, [leases[0], leases[2]]);
    assert!(closed.is_closed(leases[1]));
    assert!(!closed.is_closed(closed.mark));
}

#[test]
fn a_session_that_falls_silent_loses_its_leases() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let session = world.session();
    let lease = world.lease(session, &[vendor], 10);
    world.pass(SESSION_MS + 1);
    assert_eq!(world.decide(&Command::ExpireLease { lease }), Reply::Done);
    assert_eq!(
        query::lease(&world.rows, lease).unwrap().unwrap().state,
        LeaseState::Closing
    );
}

#[test]
fn a_sessions_leases_are_bounded_and_close_in_bounded_steps() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 1 << 20);
    let session = world.session();
    world.unchecked = true;
    for _ in 0..LEASES_PER_SESSION {
        world.lease(session, &[vendor], 1);
    }
    world.unchecked = false;
    let more = world.submit_refused(session, allocate(&[vendor], 1));
    assert!(matches!(more, Rejection::Invalid(_)));
    let open = |world: &World| query::session_leases(&world.rows, session).unwrap().len();
    world.pass(LEASE_MS);
    assert_eq!(open(&world), LEASES_PER_SESSION - ROWS_PER_TICK);
    world.abandon(session);
    assert_eq!(open(&world), 0);
    world.unchecked = true;
    world.confirm_all(vendor);
    assert_eq!(world.room(vendor).free(), 1 << 20);
}
