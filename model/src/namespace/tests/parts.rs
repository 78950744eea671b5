//! Parts of objects, and parts that are copies of other objects' bytes.

use super::world::{CHUNK, MIB, World, covered, listed};
use crate::codec::encode;
use crate::command::{Command, Reply, SessionCommand, UploadRef};
use crate::limits::{EXTENTS_PER_PAGE, EXTENTS_PER_PART, PART_BYTES_MAX, PART_BYTES_MIN};
use crate::namespace::query;
use crate::namespace::rows::{Content, ObjectPart};
use crate::rejection::Rejection;
use crate::store::Column;
use crate::wire::metad::{Answer, ByteRange, Found, LocatedPart, LocatedSpan, PageSize, Query, SpanPlace};

const FROM: &str = "from";
const TO: &str = "to";

/// Makes an object of parts of these lengths.
fn multipart(world: &mut World, key: &str, parts: &[u64]) {
    let upload = world.upload(key);
    let parts: Vec<_> = (1..)
        .zip(parts)
        .map(|(number, bytes)| world.part(key, upload, number, u64::from(number), *bytes))
        .collect();
    complete(world, key, upload, &parts);
}

/// Completes as a gateway does: slice by slice, each going on where the one before stopped.
fn complete(world: &mut World, key: &str, upload: UploadRef, parts: &[crate::command::ListedPart]) -> usize {
    let (mut taken, mut manifest, mut slices) = (0, None, 0);
    while taken < parts.len() {
        let rest = &parts[taken..(taken + EXTENTS_PER_PAGE).min(parts.len())];
        let slice = world.complete_slice(key, upload, manifest, rest, taken + rest.len() == parts.len());
        let Reply::Manifest {
            manifest: built,
            parts: known,
        } = world.submit(slice)
        else {
            panic!("no manifest");
        };
        assert!(!known.is_empty());
        taken += known.len();
        slices += 1;
        manifest = Some(built);
    }
    let complete = world.complete_upload(key, upload, manifest.expect("built"), 9);
    world.stored(SessionCommand::CompleteUpload(complete));
    slices
}

fn part(world: &World, key: &str, number: u32) -> Option<LocatedPart> {
    let range = Some((ByteRange::Part(number), PageSize(64)));
    let found = query::object(&world.rows, world.bucket.bucket, key, None, range).expect("readable");
    let Found::Object(found) = found else {
        panic!("not stored")
    };
    if let Some(part) = &found.part {
        let located = covered(part.part.offset, &found.spans);
        assert!(located == part.part.bytes || found.spans.len() == 64);
    } else {
        // Only what comes whole anyway.
        let inlined = |span: &LocatedSpan| matches!(span.place, SpanPlace::Inline(_));
        assert!(found.spans.iter().all(inlined));
    }
    found.part
}

#[test]
fn each_part_is_found_by_its_number() {
    let mut world = World::new();
    let lengths = [5 * MIB, 9 * MIB, 5 * MIB, 1];
    multipart(&mut world, FROM, &lengths);
    let mut offset = 0;
    for (number, bytes) in (1..).zip(lengths) {
        let expected = LocatedPart {
            part: ObjectPart {
                offset,
                bytes,
                checksum: None,
            },
            of: Some(4),
        };
        assert_eq!(part(&world, FROM, number), Some(expected));
        offset += bytes;
    }
    for none in [0, 5, u32::MAX] {
        assert_eq!(part(&world, FROM, none), None);
    }
    let copy = world.copy(FROM, TO);
    world.stored(SessionCommand::CopyObject(copy));
    assert_eq!(part(&world, TO, 4), part(&world, FROM, 4));
}

#[test]
fn what_was_not_made_of_parts_is_its_own_first_part() {
    let mut world = World::new();
    for bytes in [0, 10, CHUNK + 1] {
        world.put(FROM, 1, bytes);
        let whole = part(&world, FROM, 1).expect("the whole");
        assert_eq!((whole.part.offset, whole.part.bytes, whole.of), (0, bytes, None));
        assert_eq!(part(&world, FROM, 2), None);
    }
    multipart(&mut world, FROM, &[0]);
    let empty = part(&world, FROM, 1).expect("a part without bytes");
    assert_eq!((empty.part.bytes, empty.of), (0, Some(1)));
    assert_eq!(part(&world, FROM, 2), None);
}

#[test]
fn parts_are_listed_page_by_page_across_rows() {
    let mut world = World::new();
    world.checked = false;
    let count = EXTENTS_PER_PAGE + 44;
    multipart(&mut world, FROM, &vec![PART_BYTES_MIN; count]);
    world.check();
    let Content::Manifest(manifest) = world.object(FROM).expect("stored").version.content else {
        panic!("no manifest")
    };
    let page = |after, limit| match world.ask(&Query::ObjectParts {
        manifest,
        after,
        limit,
    }) {
        Answer::ObjectParts(parts, of) => {
            assert_eq!(of as usize, count);
            parts
        }
        other => panic!("{other:?}"),
    };
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let found = page(after, 70);
        if found.is_empty() {
            break;
        }
        after += u32::try_from(found.len()).unwrap();
        seen.extend(found);
    }
    assert_eq!(seen.len(), count);
    for (index, part) in (0..).zip(&seen) {
        assert_eq!(
            (part.offset, part.bytes),
            (index * PART_BYTES_MIN, PART_BYTES_MIN)
        );
    }
    assert_eq!(page(0, usize::MAX).len(), count);
    assert_eq!(page(0, 0).len() + page(u32::MAX, 10).len(), 0);
    world.checked = true;
    assert!(world.delete(FROM));
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn copied_parts_refer_to_the_source_and_outlive_it() {
    let mut world = World::new();
    multipart(&mut world, FROM, &[6 * MIB, 6 * MIB, 6 * MIB]);
    let chunks = world.count(Column::Chunks);
    let upload = world.upload(TO);
    // Ranges that begin and end within parts; in turn they are the whole.
    let mut first = 0;
    for (number, bytes) in [(1, 5 * MIB + 1), (2, 8 * MIB), (3, 5 * MIB - 1)] {
        let part = world.copy_part((FROM, first, bytes), (TO, upload), number, u64::from(number));
        let command = SessionCommand::CopyPart(part);
        let session = world.session;
        let encoded = encode(&Command::InSession {
            session,
            sequence: 1,
            command: command.clone(),
        });
        assert!(encoded.len() < 512, "{} bytes", encoded.len());
        world.done(command);
        first += bytes;
    }
    assert_eq!(first, 18 * MIB);
    assert!(world.delete(FROM));
    world.drain();
    assert_eq!(world.count(Column::Chunks), chunks);
    complete(
        &mut world,
        TO,
        upload,
        &[listed(1, 1), listed(2, 2), listed(3, 3)],
    );
    world.drain();
    assert_eq!(world.count(Column::Chunks), chunks);
    for (number, bytes) in [(1, 5 * MIB + 1), (2, 8 * MIB), (3, 5 * MIB - 1)] {
        let located = part(&world, TO, number).expect("there");
        assert_eq!((located.part.bytes, located.of), (bytes, Some(3)));
    }
    assert!(world.delete(TO));
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn a_part_is_copied_of_an_object_that_was_put_and_of_itself() {
    let mut world = World::new();
    world.put(FROM, 1, 3 * CHUNK);
    world.put("empty", 2, 0);
    let upload = world.upload(TO);
    for bytes in [CHUNK, 3 * CHUNK, 1] {
        let part = world.copy_part((FROM, 3 * CHUNK - bytes, bytes), (TO, upload), 1, 1);
        world.done(SessionCommand::CopyPart(part));
    }
    let nothing = world.copy_part(("empty", 0, 0), (TO, upload), 2, 2);
    world.done(SessionCommand::CopyPart(nothing));
    complete(&mut world, TO, upload, &[listed(1, 1)]);
    // The object grows out of itself.
    let upload = world.upload(TO);
    let again = world.copy_part((TO, 0, 1), (TO, upload), 1, 3);
    world.done(SessionCommand::CopyPart(again));
    complete(&mut world, TO, upload, &[listed(1, 3)]);
    assert!(world.delete(FROM) && world.delete("empty"));
    world.drain();
    assert_eq!(world.count(Column::Chunks), 3);
    assert!(world.delete(TO));
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn what_cannot_be_copied_into_a_part_is_refused_and_changes_nothing() {
    let mut world = World::new();
    world.put("inlined", 1, 100);
    world.put(FROM, 2, 2 * CHUNK);
    let upload = world.upload(TO);
    let copy = |source, number| world.copy_part(source, (TO, upload), number, 1);
    let stale = copy((FROM, 0, 1), 1);
    let mut elsewhere = copy((FROM, 0, 1), 1);
    elsewhere.upload.random += 1;
    let mut composite = copy((FROM, 0, 1), 1);
    composite.etag = crate::namespace::rows::Etag::Multipart([0; 16], 1);
    let invalid = [
        copy(("inlined", 0, 100), 1),
        copy((FROM, 0, 2 * CHUNK + 1), 1),
        copy((FROM, 2 * CHUNK, 1), 1),
        copy((FROM, u64::MAX, 2), 1),
        copy((FROM, 0, 0), 1),
        copy((FROM, 0, 1), 0),
        copy((FROM, 0, 1), 10_001),
        composite,
    ];
    for wrong in invalid {
        let refused = world.refused(SessionCommand::CopyPart(wrong.clone()));
        assert!(matches!(refused, Rejection::Invalid(_)), "{wrong:?}: {refused:?}");
    }
    let refused = world.refused(SessionCommand::CopyPart(elsewhere));
    assert_eq!(refused, Rejection::NoSuchUpload);
    world.put(FROM, 3, CHUNK);
    let refused = world.refused(SessionCommand::CopyPart(stale));
    assert_eq!(refused, Rejection::SourceChanged);
    assert!(matches!(
        world.object(FROM).expect("stored").version.content,
        Content::Single(_)
    ));
}

/// An object of so many extents in parts of about the least length.
fn of_extents(world: &mut World, key: &str, extents: usize) {
    multipart(world, key, &vec![PART_BYTES_MIN; extents]);
}

#[test]
fn a_part_has_bounded_extents_and_so_has_an_upload() {
    let mut world = World::new();
    world.checked = false;
    of_extents(&mut world, FROM, EXTENTS_PER_PART + 1);
    // Its parts copied askew: two extents for each.
    let count = EXTENTS_PER_PART as u64 / 2 + 1;
    let upload = world.upload("askew");
    let mut parts = Vec::new();
    for index in 0..count {
        let number = u32::try_from(index + 1).unwrap();
        let from = (FROM, index * PART_BYTES_MIN + 1, PART_BYTES_MIN);
        let part = world.copy_part(from, ("askew", upload), number, index);
        world.done(SessionCommand::CopyPart(part));
        parts.push(listed(number, index));
    }
    complete(&mut world, "askew", upload, &parts);
    let upload = world.upload(TO);
    let too_many = world.copy_part(("askew", 0, count * PART_BYTES_MIN), (TO, upload), 1, 1);
    assert_eq!(
        world.refused(SessionCommand::CopyPart(too_many)),
        Rejection::TooManyExtents
    );
    assert!(world.delete("askew"));
    // The longest part, begun within one of its source.
    let long = PART_BYTES_MAX;
    for number in 1..=2 {
        let most = world.copy_part((FROM, 1, long), (TO, upload), number, u64::from(number));
        world.done(SessionCommand::CopyPart(most));
    }
    // Over itself: as many are let go as are taken.
    let again = world.copy_part((FROM, 1, long), (TO, upload), 2, 2);
    world.done(SessionCommand::CopyPart(again));
    world.check();
    let mut number = 2;
    let last = loop {
        number += 1;
        let part = world.copy_part((FROM, 1, long), (TO, upload), number, u64::from(number));
        match world.submit(SessionCommand::CopyPart(part)) {
            Reply::Done => assert!(number < 100),
            Reply::Refused(Rejection::TooManyExtents) => break number,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last, 30);
    world.check();
    // A slice takes as many parts as fit, and at least one.
    let parts: Vec<_> = (1..last)
        .map(|number| listed(number, u64::from(number)))
        .collect();
    let slices = complete(&mut world, TO, upload, &parts);
    assert_eq!(slices, parts.len());
    world.check();
    let found = part(&world, TO, 29).expect("the last");
    assert_eq!((found.part.offset, found.part.bytes), (28 * long, long));
    assert!(world.delete(FROM) && world.delete(TO));
    world.drain();
    world.check();
    world.assert_nothing_stored();
}
