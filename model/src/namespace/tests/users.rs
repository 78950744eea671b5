//! Users and access keys.

use super::world::{World, key};
use crate::command::{Actor, Body, Reply, SessionCommand};
use crate::limits::LIST_PAGE_KEYS_MAX;
use crate::namespace::rows::UserPolicy;
use crate::rejection::Rejection;
use crate::wire::metad::{Answer, Query};

fn create(name: &str, access_key: &str) -> SessionCommand {
    SessionCommand::CreateUser {
        name: name.to_owned(),
        policy: UserPolicy::ReadWrite,
        access_key: access_key.to_owned(),
        sealed_secret: key(),
    }
}

#[test]
fn a_user_acts_until_its_settings_change() {
    let mut world = World::new();
    let Reply::User(user) = world.submit(create("alice", "AKIA1")) else {
        panic!()
    };
    let Answer::AccessKey(Some((row, alice))) = world.ask(&Query::AccessKey("AKIA1".to_owned())) else {
        panic!()
    };
    assert_eq!((row.user, alice.user, alice.name.as_str()), (user, user, "alice"));
    let mut finalize = world.finalize("key", 1, Body::Empty);
    finalize.actor = Actor {
        user,
        settings_version: alice.settings_version,
    };
    world.stored(SessionCommand::FinalizeObject(finalize.clone()));
    let delete = SessionCommand::DeleteAccessKey {
        access_key: "AKIA1".to_owned(),
    };
    world.done(delete.clone());
    assert_eq!(world.refused(delete), Rejection::NoSuchAccessKey);
    assert_eq!(
        world.ask(&Query::AccessKey("AKIA1".to_owned())),
        Answer::AccessKey(None)
    );
    assert_eq!(
        world.refused(SessionCommand::FinalizeObject(finalize)),
        Rejection::StaleSettings
    );
}

#[test]
fn names_and_access_keys_are_unique() {
    let mut world = World::new();
    let Reply::User(alice) = world.submit(create("alice", "AKIA1")) else {
        panic!()
    };
    assert_eq!(
        world.refused(create("alice", "AKIA2")),
        Rejection::UserExists("alice".to_owned())
    );
    assert_eq!(
        world.refused(create("bob", "AKIA1")),
        Rejection::UserExists("AKIA1".to_owned())
    );
    let Reply::User(bob) = world.submit(create("bob", "AKIA2")) else {
        panic!()
    };
    for (name, access_key) in [("", "AKIA3"), ("carol", "")] {
        assert!(matches!(
            world.refused(create(name, access_key)),
            Rejection::Invalid(_)
        ));
    }
    let Answer::Users(users) = world.ask(&Query::Users) else {
        panic!()
    };
    assert_eq!(
        users.iter().map(|user| user.user).collect::<Vec<_>>(),
        [alice, bob]
    );
    let names = ["bob", "carol", "alice", "AKIA1", "ali", ""].map(str::to_owned);
    let known = [true, false, true, false, false, false];
    assert_eq!(
        world.ask(&Query::UsersNamed(names.to_vec())),
        Answer::UsersNamed(known.to_vec())
    );
    let too_many = vec!["bob".to_owned(); LIST_PAGE_KEYS_MAX + 1];
    let Answer::UsersNamed(answered) = world.ask(&Query::UsersNamed(too_many)) else {
        panic!()
    };
    assert_eq!(answered.len(), LIST_PAGE_KEYS_MAX);
    let keys = vec![("AKIA1".to_owned(), alice), ("AKIA2".to_owned(), bob)];
    assert_eq!(world.ask(&Query::AccessKeys), Answer::AccessKeys(keys));
}
