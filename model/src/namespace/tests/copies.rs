//! Copies: the same bytes under another key, kept as long as anybody refers to them.

use super::world::{CHUNK, World, etag};
use crate::codec::encode;
use crate::command::{Command, Conditions, EtagMatch, SessionCommand};
use crate::namespace::rows::{BucketUsageRow, Content, Metadata};
use crate::rejection::Rejection;
use crate::store::Column;

const FROM: &str = "from";
const TO: &str = "to";

fn copy(world: &mut World, from: &str, to: &str) {
    let copy = world.copy(from, to);
    world.stored(SessionCommand::CopyObject(copy));
}

#[test]
fn a_copy_outlives_its_source_and_the_last_one_takes_the_bytes_along() {
    for bytes in [0, 1, 4096, CHUNK + 1, 70 * CHUNK] {
        let mut world = World::new();
        world.put(FROM, 1, bytes);
        let chunks = world.count(Column::Chunks);
        // What a version held gets a row of its own when it is another's too.
        let inlined = usize::from((1..=4096).contains(&bytes));
        copy(&mut world, FROM, TO);
        copy(&mut world, TO, "third");
        assert_eq!((world.usage().objects, world.usage().bytes), (3, 3 * bytes));
        assert_eq!(
            (world.count(Column::Inline), world.count(Column::Chunks)),
            (inlined, chunks)
        );
        for gone in [FROM, "third"] {
            assert!(world.delete(gone));
            world.drain();
            let left = world.object(TO).expect("the copy stays").version;
            assert_eq!((left.bytes, left.etag), (bytes, etag(1)));
            assert_eq!(
                (world.count(Column::Inline), world.count(Column::Chunks)),
                (inlined, chunks)
            );
        }
        assert!(world.delete(TO));
        world.drain();
        world.assert_nothing_stored();
        assert_eq!(world.usage(), BucketUsageRow::default());
    }
}

#[test]
fn a_copy_of_a_great_multipart_object_is_a_small_command() {
    let mut world = World::new();
    let upload = world.upload(FROM);
    let parts: Vec<_> = (1..=40)
        .map(|number| world.part(FROM, upload, number, u64::from(number), 20 * CHUNK))
        .collect();
    world.complete(FROM, upload, &parts, 1);
    let command = world.copy(FROM, TO);
    let bytes = encode(&Command::InSession {
        session: world.session,
        sequence: 1,
        command: SessionCommand::CopyObject(command.clone()),
    });
    assert!(bytes.len() < 1024, "{} bytes", bytes.len());
    world.stored(SessionCommand::CopyObject(command));
    assert!(world.changes.len() < 10, "{} rows changed", world.changes.len());
    assert!(world.delete(FROM));
    world.drain();
    assert_eq!(world.count(Column::Chunks), 800);
    assert!(world.delete(TO));
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn a_copy_to_itself_changes_headers_and_nothing_else() {
    let mut world = World::new();
    for bytes in [0, 100, CHUNK] {
        world.put(FROM, 1, bytes);
        let before = world.object(FROM).expect("stored").version;
        let mut same = world.copy(FROM, FROM);
        same.metadata = Metadata {
            user: vec![("colour".to_owned(), "red".to_owned())],
            ..Metadata::default()
        };
        let metadata = same.metadata.clone();
        world.stored(SessionCommand::CopyObject(same));
        let after = world.object(FROM).expect("stored").version;
        assert_eq!((after.content, after.metadata), (before.content, metadata));
        assert_ne!(after.version, before.version);
        assert_eq!(world.count(Column::Versions), 1);
        assert_eq!((world.usage().objects, world.usage().bytes), (1, bytes));
    }
    assert!(world.delete(FROM));
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn what_the_copy_replaces_is_released() {
    let mut world = World::new();
    world.put(TO, 1, 3 * CHUNK);
    world.put(FROM, 2, CHUNK);
    copy(&mut world, FROM, TO);
    world.drain();
    assert_eq!(world.count(Column::Chunks), 1);
    // The copy of a copy over its own source: all three referred to one blob in turn.
    copy(&mut world, TO, FROM);
    world.drain();
    let (from, to) = (world.object(FROM).expect("from"), world.object(TO).expect("to"));
    assert_eq!(from.version.content, to.version.content);
    assert!(matches!(to.version.content, Content::Shared(_)));
}

#[test]
fn a_copy_is_of_the_version_that_was_read_or_of_none() {
    let mut world = World::new();
    world.put(FROM, 1, 100);
    let stale = world.copy(FROM, TO);
    world.put(FROM, 2, 100);
    assert_eq!(
        world.refused(SessionCommand::CopyObject(stale)),
        Rejection::SourceChanged
    );
    let gone = world.copy(FROM, TO);
    assert!(world.delete(FROM));
    assert_eq!(
        world.refused(SessionCommand::CopyObject(gone)),
        Rejection::SourceChanged
    );
    assert!(world.object(TO).is_none());
}

#[test]
fn conditions_are_on_the_target() {
    let mut world = World::new();
    world.put(FROM, 1, 100);
    world.put(TO, 2, 100);
    let mut only_new = world.copy(FROM, TO);
    only_new.conditions = Conditions {
        if_match: None,
        if_none_match: Some(EtagMatch::Any),
    };
    assert_eq!(
        world.refused(SessionCommand::CopyObject(only_new)),
        Rejection::PreconditionFailed
    );
    let mut on_the_known = world.copy(FROM, TO);
    on_the_known.conditions = Conditions {
        if_match: Some(EtagMatch::OneOf(vec![etag(2).to_string()])),
        if_none_match: None,
    };
    world.stored(SessionCommand::CopyObject(on_the_known));
    assert_eq!(world.object(TO).expect("copied").version.etag, etag(1));
}

#[test]
fn a_copy_between_buckets_counts_in_the_other() {
    let mut world = World::new();
    world.put(FROM, 1, CHUNK);
    let other = world.make_bucket("second");
    let mut across = world.copy(FROM, TO);
    across.target = other;
    world.stored(SessionCommand::CopyObject(across));
    assert_eq!((world.usage().objects, world.usage().bytes), (1, CHUNK));
    let first = std::mem::replace(&mut world.bucket, other);
    assert_eq!((world.usage().objects, world.usage().bytes), (1, CHUNK));
    assert!(world.delete(TO));
    world.bucket = first;
    assert!(world.delete(FROM));
    world.drain();
    world.assert_nothing_stored();
}
