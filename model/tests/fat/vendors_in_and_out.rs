//! Invitations, enrolment, revocation; and the metadata nodes' own rows with the format level they raise.

use crate::support::{HDD, World, allocate, device, registration};
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec::encode;
use ullage_model::command::{Command, Reply};
use ullage_model::decide::decide;
use ullage_model::fat::cluster::FORMAT_LEVEL;
use ullage_model::fat::query::ErasePermit;
use ullage_model::fat::rows::{ClusterRow, VendorState};
use ullage_model::fat::{keys, query};
use ullage_model::ids::{Digest, VendorId};
use ullage_model::limits::{GRANT_MS, INVITES_MAX, MEMBERS_MAX};
use ullage_model::rejection::Rejection;
use ullage_model::step::At;
use ullage_model::store::{Change, Column};
use ullage_model::wire::chunk::PublicKey;
use ullage_model::wire::enrol::INVITE_MS_MAX;

const LIFE_MS: u64 = 10_000;

fn secret(number: u64) -> Digest {
    Digest::of(&number.to_be_bytes())
}

fn invite(world: &mut World, number: u64) {
    let secret = secret(number);
    let command = Command::Invite {
        secret,
        life_ms: LIFE_MS,
    };
    assert_eq!(world.decide(&command), Reply::Done);
}

fn enrol(name: &str, number: Option<u64>) -> Command {
    Command::EnrolVendor {
        register: registration(name, "a", vec![device(0, HDD, 100)]),
        invite: number.map(secret),
    }
}

fn enrolled(world: &mut World, name: &str, number: Option<u64>) -> VendorId {
    match world.decide(&enrol(name, number)) {
        Reply::Vendor(vendor) => vendor,
        reply => panic!("{reply:?}"),
    }
}

fn member(node: u64, format_level: u32) -> Command {
    Command::SetMember {
        node,
        address: format!("node-{node}:9310"),
        issuer: PublicKey(Digest::of(&node.to_be_bytes()).0),
        format_level,
    }
}

#[test]
fn an_invitation_lets_one_vendor_in_once() {
    let mut world = World::new(1);
    invite(&mut world, 1);
    let first = enrolled(&mut world, "one", Some(1));
    assert!(query::invite(&world.rows, &secret(1)).unwrap().is_none());
    assert_eq!(world.refused(&enrol("two", Some(1))), Rejection::NotInvited);
    assert_eq!(world.refused(&enrol("two", None)), Rejection::NotInvited);
    assert_eq!(world.refused(&enrol("two", Some(2))), Rejection::NotInvited);
    // The answer may have been lost: the same key comes again, with the same secret, or years later without.
    assert_eq!(enrolled(&mut world, "one", Some(1)), first);
    assert_eq!(enrolled(&mut world, "one", None), first);
    invite(&mut world, 3);
    assert_eq!(enrolled(&mut world, "one", Some(3)), first);
    let second = enrolled(&mut world, "two", Some(3));
    assert_ne!(second, first, "a vendor that is in already uses no invitation up");
}

#[test]
fn an_enrolment_that_is_refused_uses_no_invitation_up() {
    let mut world = World::new(1);
    invite(&mut world, 1);
    world.vendor("taken", "a", 1);
    let mut register = registration("one", "a", vec![]);
    register.name = "taken".to_owned();
    let thief = Command::EnrolVendor {
        register,
        invite: Some(secret(1)),
    };
    assert_eq!(
        world.refused(&thief),
        Rejection::VendorNameTaken("taken".to_owned())
    );
    enrolled(&mut world, "one", Some(1));
}

#[test]
fn an_invitation_expires_and_is_forgotten() {
    let mut world = World::new(1);
    invite(&mut world, 1);
    world.pass(LIFE_MS - 1);
    invite(&mut world, 2);
    world.pass(1);
    assert!(query::invite(&world.rows, &secret(1)).unwrap().is_none());
    assert_eq!(world.refused(&enrol("one", Some(1))), Rejection::NotInvited);
    enrolled(&mut world, "one", Some(2));
    // Expired, and the tick has not come to it.
    invite(&mut world, 3);
    let mut rows = world.rows.clone();
    let later = query::cluster_time(&rows).unwrap().plus(LIFE_MS);
    rows.apply([Change {
        column: Column::System,
        key: keys::CLUSTER_TIME.into(),
        value: Some(encode(&later)),
    }]);
    let at = At {
        index: 1000,
        cluster_time: later,
    };
    let decision = decide(&rows, at, &enrol("two", Some(3))).unwrap();
    assert_eq!(decision.reply, Reply::Refused(Rejection::NotInvited));
}

#[test]
fn invitations_are_bounded_in_life_and_number() {
    let mut world = World::new(1);
    world.unchecked = true;
    for life_ms in [0, INVITE_MS_MAX + 1] {
        let secret = secret(0);
        let rejection = world.refused(&Command::Invite { secret, life_ms });
        assert!(matches!(rejection, Rejection::Invalid(_)));
    }
    for number in 0..INVITES_MAX as u64 {
        invite(&mut world, number);
    }
    for number in [0, INVITES_MAX as u64] {
        let secret = secret(number);
        let rejection = world.refused(&Command::Invite {
            secret,
            life_ms: LIFE_MS,
        });
        assert!(matches!(rejection, Rejection::Invalid(_)));
    }
    world.pass(LIFE_MS);
    while !query::invites(&world.rows, |_| true, 1).unwrap().is_empty() {
        world.pass(1);
    }
    let rejection = Command::Invite {
        secret: secret(0),
        life_ms: LIFE_MS,
    };
    assert_eq!(
        World::default().refused(&rejection),
        Rejection::Cluster("not initialised yet".to_owned())
    );
}

#[test]
fn a_revoked_vendor_is_out_for_good() {
    let mut world = World::new(1);
    let vendor = world.vendor("one", "a", 100);
    let session = world.session();
    world.lease(session, &[vendor], 60);
    for _ in 0..2 {
        assert_eq!(world.decide(&Command::RevokeVendor { vendor }), Reply::Done);
    }
    assert_eq!(query::revoked(&world.rows).unwrap(), [vendor]);
    let out = Rejection::VendorRevoked(vendor);
    let register = registration("one", "a", vec![]);
    invite(&mut world, 1);
    for command in [
        Command::RegisterVendor(register.clone()),
        Command::EnrolVendor {
            register,
            invite: Some(secret(1)),
        },
        Command::SetVendorState {
            vendor,
            state: VendorState::Healthy,
        },
        Command::UpdateDevices {
            vendor,
            devices: vec![],
        },
    ] {
        assert_eq!(world.refused(&command), out);
    }
    let rejection = world.submit_refused(session, allocate(&[vendor], 10));
    assert!(matches!(rejection, Rejection::Placement(_)));
    let nobody = VendorId(99);
    let missing = Rejection::NoSuchVendor(nobody);
    assert_eq!(world.refused(&Command::RevokeVendor { vendor: nobody }), missing);
    let other = world.vendor("two", "a", 100);
    let state = VendorState::Revoked;
    let rejection = world.refused(&Command::SetVendorState { vendor: other, state });
    assert!(
        matches!(rejection, Rejection::Invalid(_)),
        "not the leader's word"
    );
}

#[test]
fn grants_of_a_member_are_good_until_they_have_run_out_after_it_left() {
    let mut world = World::new(1);
    for node in [1, 2] {
        assert_eq!(world.decide(&member(node, FORMAT_LEVEL)), Reply::Done);
    }
    assert_eq!(query::issuers(&world.rows).unwrap().len(), 2);
    for _ in 0..2 {
        assert_eq!(world.decide(&Command::RemoveMember { node: 2 }), Reply::Done);
        assert_eq!(query::issuers(&world.rows).unwrap().len(), 2);
        world.pass(GRANT_MS / 2);
    }
    world.pass(GRANT_MS);
    assert_eq!(query::issuers(&world.rows).unwrap().len(), 2);
    world.pass(1);
    assert_eq!(query::issuers(&world.rows).unwrap().len(), 1);
    assert!(query::member(&world.rows, 2).unwrap().is_none());
    assert_eq!(world.decide(&Command::RemoveMember { node: 9 }), Reply::Done);
    // One that comes back stays.
    world.decide(&Command::RemoveMember { node: 1 });
    world.decide(&member(1, FORMAT_LEVEL));
    world.pass(3 * GRANT_MS);
    let row = query::member(&world.rows, 1).unwrap().unwrap();
    assert_eq!((row.left, row.address.as_str()), (None, "node-1:9310"));
}

#[test]
fn member_rows_are_bounded_and_a_release_too_old_is_refused() {
    let mut world = World::new(1);
    world.unchecked = true;
    let old = world.refused(&member(1, FORMAT_LEVEL - 1));
    assert!(matches!(old, Rejection::Invalid(_)), "{old:?}");
    for node in 0..MEMBERS_MAX as u64 {
        assert_eq!(world.decide(&member(node, FORMAT_LEVEL)), Reply::Done);
    }
    let many = world.refused(&member(MEMBERS_MAX as u64, FORMAT_LEVEL));
    assert!(matches!(many, Rejection::Invalid(_)), "{many:?}");
    assert_eq!(
        world.decide(&member(0, FORMAT_LEVEL + 1)),
        Reply::Done,
        "known already"
    );
    let uninitialised = World::default().refused(&member(1, FORMAT_LEVEL));
    assert!(matches!(uninitialised, Rejection::Cluster(_)));
}

#[test]
fn the_format_level_is_raised_when_every_member_knows_it() {
    let mut world = World::new(1);
    let before = query::cluster(&world.rows).unwrap().unwrap();
    // A cluster of an earlier release.
    let earlier = ClusterRow {
        format_level: FORMAT_LEVEL - 1,
        ..before.clone()
    };
    world.rows.apply([Change {
        column: Column::System,
        key: keys::CLUSTER.into(),
        value: Some(encode(&earlier)),
    }]);
    let raise = Command::RaiseFormat { to: FORMAT_LEVEL };
    assert!(
        matches!(world.refused(&raise), Rejection::Invalid(_)),
        "nobody has said"
    );
    world.decide(&member(1, FORMAT_LEVEL));
    world.decide(&member(2, FORMAT_LEVEL - 1));
    assert!(matches!(world.refused(&raise), Rejection::Invalid(_)));
    world.decide(&Command::RemoveMember { node: 2 });
    for _ in 0..2 {
        assert_eq!(world.decide(&raise), Reply::Done);
        assert_eq!(query::cluster(&world.rows).unwrap().unwrap(), before);
    }
    let fall = Command::RaiseFormat { to: FORMAT_LEVEL - 1 };
    assert!(matches!(world.refused(&fall), Rejection::Invalid(_)));
    // All say they know what this release does not: it must not go on deciding.
    world.decide(&member(1, FORMAT_LEVEL + 1));
    let at = At {
        index: world.index + 1,
        cluster_time: ClusterTime(0),
    };
    let beyond = Command::RaiseFormat { to: FORMAT_LEVEL + 1 };
    assert!(decide(&world.rows, at, &beyond).is_err());
    // Nor may it decide anything on what another node raised.
    let later = ClusterRow {
        format_level: FORMAT_LEVEL + 1,
        ..before
    };
    world.rows.apply([Change {
        column: Column::System,
        key: keys::CLUSTER.into(),
        value: Some(encode(&later)),
    }]);
    assert!(
        decide(
            &world.rows,
            at,
            &Command::DrainReleases {
                permit: ErasePermit::ALL
            }
        )
        .is_err()
    );
}
