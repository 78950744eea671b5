//! Sessions: exactly one decision per sequence, windows, ends, forgetting.

use crate::support::{World, allocate, blob, chunk};
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::query;
use ullage_model::fat::rows::{LeaseState, SessionState};
use ullage_model::ids::{SessionId, VendorId};
use ullage_model::limits::{OUTCOME_KEPT_MS, OUTCOMES_PER_RENEWAL, SESSION_MS, SESSION_WINDOW, SESSIONS_MAX};
use ullage_model::rejection::Rejection;
use ullage_model::store::{Column, Direction, KeyRange, Read};

fn scene() -> (World, VendorId, SessionId) {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 1 << 20);
    let session = world.session();
    (world, vendor, session)
}

fn numbered(session: SessionId, sequence: u64, command: SessionCommand) -> Command {
    Command::InSession {
        session,
        sequence,
        command,
    }
}

fn renew(session: SessionId, acknowledged_below: u64) -> Command {
    Command::RenewSession {
        session,
        acknowledged_below,
        observed_index: 0,
    }
}

fn outcomes(world: &World) -> usize {
    let mut counted = 0;
    let all = KeyRange::all();
    let count = &mut |_: &[u8], _: &[u8]| {
        counted += 1;
        std::ops::ControlFlow::Continue(())
    };
    world
        .rows
        .scan(Column::Outcomes, &all, Direction::Forward, count)
        .unwrap();
    counted
}

#[test]
fn a_gateway_that_comes_again_has_one_session() {
    let (mut world, vendor, bystander) = scene();
    let mut open = |instance| {
        let gateway = "g".to_owned();
        match world.decide(&Command::OpenSession { gateway, instance }) {
            Reply::Session(session) => session,
            other => panic!("{other:?}"),
        }
    };
    let [first, other, second] = [7, 8, 7].map(&mut open);
    let live = |session| ullage_model::session::is_live(&world.rows, session).unwrap();
    assert_eq!(
        [bystander, first, other, second].map(live),
        [true, false, true, true]
    );
    let late = numbered(first, 0, allocate(&[vendor], 100));
    assert_eq!(world.refused(&late), Rejection::SessionGone);
}

#[test]
fn a_repeated_sequence_answers_the_same_and_does_nothing() {
    let (mut world, vendor, session) = scene();
    let command = numbered(session, 3, allocate(&[vendor], 100));
    let first = world.decide(&command);
    assert!(matches!(first, Reply::Lease { .. }));
    assert_eq!(world.decide(&command), first);
    // Even if the command is another one: the sequence names the decision.
    assert_eq!(world.decide(&numbered(session, 3, allocate(&[vendor], 7))), first);
    assert_eq!(world.room(vendor).leased, 100);
}

#[test]
fn refusals_are_outcomes_too() {
    let (mut world, vendor, session) = scene();
    let command = numbered(session, 0, allocate(&[vendor], 1 << 30));
    let refused = world.decide(&command);
    assert!(matches!(refused, Reply::Refused(Rejection::NoRoom { .. })));
    let devices = vec![crate::support::device(0, crate::support::HDD, 1 << 40)];
    world.decide(&Command::UpdateDevices { vendor, devices });
    assert_eq!(world.decide(&command), refused);
    assert_eq!(world.decide(&Command::Resolve { session, sequence: 0 }), refused);
}

#[test]
fn what_was_resolved_as_abandoned_is_never_decided() {
    let (mut world, vendor, session) = scene();
    let resolve = Command::Resolve { session, sequence: 5 };
    assert_eq!(world.decide(&resolve), Reply::Abandoned);
    assert_eq!(world.decide(&resolve), Reply::Abandoned);
    let late = numbered(session, 5, allocate(&[vendor], 1));
    assert_eq!(world.refused(&late), Rejection::SequenceAbandoned(5));
    assert_eq!(world.decide(&resolve), Reply::Abandoned);
    assert_eq!(world.room(vendor).leased, 0);
}

#[test]
fn the_window_bounds_what_is_decided() {
    let (mut world, vendor, session) = scene();
    let beyond = numbered(session, SESSION_WINDOW, allocate(&[vendor], 1));
    assert_eq!(world.refused(&beyond), Rejection::WindowFull);
    let resolve = Command::Resolve {
        session,
        sequence: SESSION_WINDOW,
    };
    assert_eq!(world.refused(&resolve), Rejection::WindowFull);
    assert_eq!(world.decide(&renew(session, 1)), Reply::Done);
    assert!(matches!(world.decide(&beyond), Reply::Lease { .. }));
    let below = numbered(session, 0, allocate(&[vendor], 1));
    assert_eq!(world.refused(&below), Rejection::SequenceForgotten(0));
    let resolve = Command::Resolve { session, sequence: 0 };
    assert_eq!(world.refused(&resolve), Rejection::SequenceForgotten(0));
    // A renewal that comes late does not open the window again.
    assert_eq!(world.decide(&renew(session, 0)), Reply::Done);
    assert_eq!(world.refused(&below), Rejection::SequenceForgotten(0));
}

#[test]
fn forgetting_is_bounded_and_catches_up() {
    let (mut world, _, session) = scene();
    world.unchecked = true;
    let count = OUTCOMES_PER_RENEWAL as u64 + 10;
    for sequence in 0..count {
        world.decide(&Command::Resolve { session, sequence });
    }
    world.unchecked = false;
    assert_eq!(world.decide(&renew(session, count)), Reply::Done);
    assert_eq!(outcomes(&world), 10);
    assert_eq!(
        world.refused(&Command::Resolve {
            session,
            sequence: count - 1
        }),
        { Rejection::SequenceForgotten(count - 1) }
    );
    assert_eq!(world.decide(&renew(session, 0)), Reply::Done);
    assert_eq!(outcomes(&world), 0);
}

#[test]
fn however_fast_a_session_goes_it_has_one_window_of_outcomes() {
    let (mut world, _, session) = scene();
    world.unchecked = true;
    for sequence in 0..3 * SESSION_WINDOW {
        if sequence % SESSION_WINDOW == 0 {
            assert_eq!(world.decide(&renew(session, sequence)), Reply::Done);
        }
        world.decide(&Command::Resolve { session, sequence });
    }
    world.unchecked = false;
    assert!(outcomes(&world) as u64 <= SESSION_WINDOW);
    world.pass(1);
}

#[test]
fn an_ended_session_answers_what_it_decided_and_decides_nothing() {
    let (mut world, vendor, session) = scene();
    let decided = numbered(session, 0, allocate(&[vendor], 100));
    let reply = world.decide(&decided);
    assert_eq!(world.decide(&Command::EndSession { session }), Reply::Done);
    assert_eq!(world.decide(&Command::EndSession { session }), Reply::Done);
    assert_eq!(world.decide(&decided), reply);
    assert_eq!(world.decide(&Command::Resolve { session, sequence: 0 }), reply);
    let fresh = numbered(session, 1, allocate(&[vendor], 1));
    assert_eq!(world.refused(&fresh), Rejection::SessionGone);
    assert_eq!(
        world.decide(&Command::Resolve { session, sequence: 1 }),
        Reply::Abandoned
    );
    assert_eq!(world.refused(&renew(session, 0)), Rejection::SessionGone);
    let nobody = SessionId(77);
    for command in [
        renew(nobody, 0),
        Command::EndSession { session: nobody },
        Command::Resolve {
            session: nobody,
            sequence: 0,
        },
        numbered(nobody, 0, allocate(&[vendor], 1)),
    ] {
        assert_eq!(world.refused(&command), Rejection::SessionGone);
    }
}

#[test]
fn the_end_of_a_session_gives_back_all_it_held() {
    let (mut world, vendor, session) = scene();
    let other = world.session();
    let kept = world.lease(other, &[vendor], 10);
    let lease = world.lease(session, &[vendor], 100_000);
    for counter in 0..3 {
        let chunks = vec![chunk(lease, u32::try_from(counter).unwrap(), 100, &[vendor])];
        let slice = world.slice(blob(session, counter), 0, chunks);
        assert_eq!(world.submit(session, slice), Reply::Done);
    }
    let alive = world.refused(&Command::AbandonStep { session });
    assert!(matches!(alive, Rejection::Invalid(_)));
    world.decide(&Command::EndSession { session });
    world.abandon(session);
    assert_eq!(
        query::lease(&world.rows, lease).unwrap().unwrap().state,
        LeaseState::Closing
    );
    assert_eq!(
        query::lease(&world.rows, kept).unwrap().unwrap().state,
        LeaseState::Open
    );
    world.drain();
    world.erase_all(vendor);
    world.confirm_all(vendor);
    let room = world.room(vendor);
    assert_eq!((room.leased, room.used, room.erasing), (10, 0, 0));
}

#[test]
fn silent_sessions_end_and_are_forgotten_after_their_outcomes_were_kept() {
    let (mut world, vendor, session) = scene();
    let decided = numbered(session, 0, allocate(&[vendor], 100));
    let reply = world.decide(&decided);
    world.pass(SESSION_MS);
    assert_eq!(
        query::session(&world.rows, session).unwrap().unwrap().state,
        SessionState::Live
    );
    world.pass(1);
    let ended = SessionState::Ended { at: world.now() };
    assert_eq!(
        query::session(&world.rows, session).unwrap().unwrap().state,
        ended
    );
    world.pass(OUTCOME_KEPT_MS);
    assert_eq!(world.decide(&decided), reply);
    world.abandon(session);
    world.pass(1);
    assert_eq!(query::session(&world.rows, session).unwrap(), None);
    assert_eq!(outcomes(&world), 0);
    assert_eq!(world.refused(&decided), Rejection::SessionGone);
    // The vendor's word comes late: the lease outlived its session.
    world.confirm_all(vendor);
    assert_eq!(world.room(vendor).leased, 0);
}

#[test]
fn a_session_with_building_blobs_is_not_forgotten() {
    let (mut world, vendor, session) = scene();
    let lease = world.lease(session, &[vendor], 10_000);
    let slice = world.slice(blob(session, 0), 0, vec![chunk(lease, 0, 1, &[vendor])]);
    assert_eq!(world.submit(session, slice), Reply::Done);
    world.pass(SESSION_MS + 1);
    world.pass(OUTCOME_KEPT_MS + 1);
    world.pass(1);
    assert!(query::session(&world.rows, session).unwrap().is_some());
    world.abandon(session);
    world.pass(1);
    assert_eq!(query::session(&world.rows, session).unwrap(), None);
}

#[test]
fn sessions_are_bounded() {
    let (mut world, _, _) = scene();
    world.unchecked = true;
    for _ in 1..SESSIONS_MAX {
        world.session();
    }
    let more = world.refused(&Command::OpenSession {
        gateway: String::new(),
        instance: 0,
    });
    assert!(matches!(more, Rejection::Invalid(_)));
}
