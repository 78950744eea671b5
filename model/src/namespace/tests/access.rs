//! Users' policies, and access control lists of buckets and versions.

use super::world::{ROOT, World, key};
use crate::command::{Actor, Body, BucketRef, Reply, Seen, SessionCommand, SetObjectTags};
use crate::ids::{UserId, VersionId, VersionName};
use crate::limits::USER_POLICY_BYTES_MAX;
use crate::namespace::keys;
use crate::namespace::rows::{
    BucketAccess, BucketRow, CannedAcl, ObjectOwnership, PublicAccessBlock, UserPolicy, UserRow,
};
use crate::rejection::Rejection;
use crate::step::ReadRows;
use crate::store::Column;

fn user(world: &World, user: UserId) -> UserRow {
    world.rows.row(Column::Users, &keys::user(user)).unwrap().unwrap()
}

fn bucket(world: &World) -> BucketRow {
    let key = keys::bucket(world.bucket.bucket);
    world.rows.row(Column::Buckets, &key).unwrap().unwrap()
}

fn create(name: &str, policy: UserPolicy) -> SessionCommand {
    SessionCommand::CreateUser {
        name: name.to_owned(),
        policy,
        access_key: format!("AK-{name}"),
        sealed_secret: key(),
    }
}

#[test]
fn a_policy_that_changes_is_told_to_whoever_decided_under_the_old_one() {
    let mut world = World::new();
    let document = UserPolicy::Document("{}".to_owned());
    let Reply::User(alice) = world.submit(create("alice", document.clone())) else {
        panic!()
    };
    let before = user(&world, alice);
    assert_eq!(before.policy, document);
    let set = |policy| SessionCommand::SetUserPolicy { user: alice, policy };
    world.done(set(document));
    assert_eq!(user(&world, alice), before, "no change, no new version");
    world.done(set(UserPolicy::None));
    let after = user(&world, alice);
    assert_eq!(after.policy, UserPolicy::None);
    assert!(after.settings_version > before.settings_version);
    let mut finalize = world.finalize("key", 1, Body::Empty);
    finalize.actor = Actor {
        user: alice,
        settings_version: before.settings_version,
    };
    let refused = world.refused(SessionCommand::FinalizeObject(finalize));
    assert_eq!(refused, Rejection::StaleSettings);
    let nobody = SessionCommand::SetUserPolicy {
        user: UserId(9999),
        policy: UserPolicy::None,
    };
    assert_eq!(world.refused(nobody), Rejection::NoSuchUser);
}

#[test]
fn policies_are_bounded() {
    let mut world = World::new();
    for bytes in [0, USER_POLICY_BYTES_MAX + 1] {
        let policy = UserPolicy::Document("p".repeat(bytes));
        let refused = world.refused(create("bob", policy));
        assert!(matches!(refused, Rejection::Invalid(_)), "{bytes}: {refused:?}");
    }
    let longest = UserPolicy::Document("p".repeat(USER_POLICY_BYTES_MAX));
    let Reply::User(bob) = world.submit(create("bob", longest)) else {
        panic!()
    };
    let policy = UserPolicy::Document(String::new());
    let set = SessionCommand::SetUserPolicy { user: bob, policy };
    assert!(matches!(world.refused(set), Rejection::Invalid(_)));
}

#[test]
fn a_buckets_access_is_a_setting() {
    let mut world = World::new();
    let before = bucket(&world);
    let access = BucketAccess {
        acl: CannedAcl::PublicRead,
        ownership: ObjectOwnership::BucketOwnerPreferred,
        block: Some(PublicAccessBlock {
            ignore_public_acls: true,
            ..PublicAccessBlock::default()
        }),
    };
    let set = SessionCommand::SetBucketAccess {
        actor: ROOT,
        bucket: world.bucket,
        access,
    };
    world.done(set.clone());
    let after = bucket(&world);
    assert_eq!(after.access, access);
    assert!(after.settings_version > before.settings_version);
    assert_eq!(world.refused(set), Rejection::StaleSettings);
    let again = SessionCommand::SetBucketAccess {
        actor: ROOT,
        bucket: BucketRef {
            settings_version: after.settings_version,
            ..world.bucket
        },
        access,
    };
    world.done(again);
    assert_eq!(bucket(&world), after, "no change, no new version");
}

#[test]
fn a_versions_list_is_changed_in_place_and_only_of_that_version() {
    let mut world = World::new();
    let mut finalize = world.finalize("key", 1, Body::Empty);
    finalize.metadata.acl = CannedAcl::PublicRead;
    let Reply::Stored { version, .. } = world.submit(SessionCommand::FinalizeObject(finalize)) else {
        panic!()
    };
    let acl = |world: &World| world.object("key").unwrap().version.metadata.acl;
    assert_eq!(acl(&world), CannedAcl::PublicRead);
    let set = |key: &str, version| SessionCommand::SetObjectAcl {
        actor: ROOT,
        bucket: world.bucket,
        key: key.to_owned(),
        version,
        seen: None,
        acl: CannedAcl::Private,
    };
    let other = VersionId {
        random: version.random ^ 1,
        ..version
    };
    let to_none = set("other", None);
    let to_other = set("key", Some(VersionName::Id(other)));
    let to_current = set("key", None);
    assert_eq!(world.refused(to_none), Rejection::NoSuchKey);
    assert_eq!(world.refused(to_other), Rejection::NoSuchVersion);
    assert_eq!(acl(&world), CannedAcl::PublicRead);
    assert!(
        matches!(world.submit(to_current), Reply::Changed { version: changed, .. } if changed == version)
    );
    assert_eq!(acl(&world), CannedAcl::Private);
}

#[test]
fn what_was_decided_by_what_was_seen_holds_while_it_is_so() {
    let mut world = World::new();
    let mut finalize = world.finalize("key", 1, Body::Empty);
    finalize.metadata.tags = vec![("grape".to_owned(), "merlot".to_owned())];
    let tags = finalize.metadata.tags.clone();
    let Reply::Stored { version, .. } = world.submit(SessionCommand::FinalizeObject(finalize)) else {
        panic!()
    };
    let other = VersionId {
        random: version.random ^ 1,
        ..version
    };
    let seen = |version, tags: &[(String, String)]| {
        Some(Seen {
            version,
            tags: tags.to_vec(),
        })
    };
    let set_acl = |seen| SessionCommand::SetObjectAcl {
        actor: ROOT,
        bucket: world.bucket,
        key: "key".to_owned(),
        version: None,
        seen,
        acl: CannedAcl::PublicRead,
    };
    let set_tags = |seen| {
        SessionCommand::SetObjectTags(SetObjectTags {
            actor: ROOT,
            bucket: world.bucket,
            key: "key".to_owned(),
            version: None,
            seen,
            tags: Vec::new(),
        })
    };
    let stale = [
        set_acl(seen(other, &tags)),
        set_acl(seen(version, &[])),
        set_tags(seen(other, &tags)),
        set_tags(seen(version, &[])),
    ];
    let good = [set_acl(seen(version, &tags)), set_tags(seen(version, &tags))];
    for command in stale {
        assert_eq!(world.refused(command), Rejection::StaleSettings);
    }
    for command in good {
        assert!(matches!(world.submit(command), Reply::Changed { .. }));
    }
}
