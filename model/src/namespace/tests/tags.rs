//! Tags of objects: set with them, changed afterwards, bounded.

use super::world::{ROOT, World};
use crate::command::{Reply, SessionCommand, SetObjectTags};
use crate::ids::{VersionId, VersionName};
use crate::limits::{TAG_KEY_CHARACTERS_MAX, TAG_VALUE_CHARACTERS_MAX, TAGS_PER_OBJECT};
use crate::rejection::Rejection;

const KEY: &str = "key";

fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn set(world: &World, version: Option<VersionName>, tags: Vec<(String, String)>) -> SessionCommand {
    SessionCommand::SetObjectTags(SetObjectTags {
        actor: ROOT,
        bucket: world.bucket,
        key: KEY.to_owned(),
        version,
        seen: None,
        tags,
    })
}

fn changed(version: VersionId) -> Reply {
    Reply::Changed { version, name: None }
}

fn stored_tags(world: &World) -> Vec<(String, String)> {
    world.object(KEY).expect("stored").version.metadata.tags
}

#[test]
fn tags_are_replaced_as_a_whole_and_nothing_else_is() {
    let mut world = World::new();
    let body = world.body(5);
    let mut finalize = world.finalize(KEY, 1, body);
    finalize.metadata.tags = tags(&[("a", "1"), ("b", "")]);
    let version = world.stored(SessionCommand::FinalizeObject(finalize));
    let before = world.object(KEY).expect("stored").version;
    assert_eq!(before.metadata.tags, tags(&[("a", "1"), ("b", "")]));

    for new in [tags(&[("c", "3")]), Vec::new()] {
        let command = set(&world, None, new.clone());
        assert_eq!(world.submit(command), changed(version));
        assert_eq!(world.changes.len() - 1, 1, "the version, and the outcome");
        let mut after = world.object(KEY).expect("stored").version;
        assert_eq!(std::mem::take(&mut after.metadata.tags), new);
        let mut same = before.clone();
        same.metadata.tags.clear();
        assert_eq!(after, same);
    }
}

#[test]
fn only_the_version_that_is_named_is_changed() {
    let mut world = World::new();
    let command = set(&world, None, tags(&[("a", "1")]));
    assert_eq!(world.refused(command), Rejection::NoSuchKey);
    let old = world.put(KEY, 1, 5);
    let new = world.put(KEY, 2, 5);
    let command = set(&world, Some(VersionName::Id(old)), tags(&[("a", "1")]));
    assert_eq!(world.refused(command), Rejection::NoSuchVersion);
    assert_eq!(stored_tags(&world), []);
    let command = set(&world, Some(VersionName::Null), tags(&[("a", "1")]));
    assert_eq!(world.submit(command), changed(new));
    assert_eq!(stored_tags(&world), tags(&[("a", "1")]));
}

#[test]
fn tags_out_of_bounds_change_nothing() {
    let mut world = World::new();
    world.put(KEY, 1, 5);
    let many: Vec<(String, String)> = (0..=TAGS_PER_OBJECT)
        .map(|number| (number.to_string(), String::new()))
        .collect();
    let long_key = "\u{e4}".repeat(TAG_KEY_CHARACTERS_MAX + 1);
    let long_value = "\u{e4}".repeat(TAG_VALUE_CHARACTERS_MAX + 1);
    for wrong in [
        many.clone(),
        tags(&[("", "1")]),
        tags(&[(&long_key, "")]),
        tags(&[("a", &long_value)]),
        tags(&[("a", "1"), ("b", "2"), ("a", "1")]),
    ] {
        let command = set(&world, None, wrong.clone());
        assert!(
            matches!(world.refused(command), Rejection::Invalid(_)),
            "{wrong:?}"
        );
        let body = world.body(5);
        let mut finalize = world.finalize(KEY, 2, body);
        finalize.metadata.tags = wrong;
        let refused = world.refused(SessionCommand::FinalizeObject(finalize));
        assert!(matches!(refused, Rejection::Invalid(_)));
    }
    assert_eq!(stored_tags(&world), []);
    let command = set(&world, None, many[1..].to_vec());
    assert!(matches!(world.submit(command), Reply::Changed { .. }));
}
