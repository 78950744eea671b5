//! Where bytes are: ranges, pages, and sources that are going away.

use super::world::{CHUNK, MIB, World, covered, key};
use crate::command::Command;
use crate::fat::query::ErasePermit;
use crate::ids::BlobId;
use crate::limits::{HELD_BYTES_MAX, LOCATE_PAGE_CHUNKS, PART_BYTES_MIN};
use crate::namespace::query;
use crate::namespace::rows::{BlobStorage, Content, Extent};
use crate::store::Column;
use crate::wire::metad::{Answer, ByteRange, Found, LocateSource, LocatedSpan, PageSize, Query, SpanPlace};

const ALL: PageSize = PageSize(64);

fn spans(world: &World, key: &str, range: ByteRange, page: PageSize) -> Vec<LocatedSpan> {
    let found = query::object(&world.rows, world.bucket.bucket, key, None, Some((range, page)));
    match found.expect("readable") {
        Found::Object(found) => found.spans,
        other => panic!("not stored: {other:?}"),
    }
}

fn from(first: u64, bytes: u64) -> ByteRange {
    ByteRange::From { first, bytes }
}

fn locate(world: &World, source: &LocateSource, offset: u64, bytes: u64) -> Vec<LocatedSpan> {
    let query = Query::Locate {
        source: source.clone(),
        offset,
        bytes,
    };
    match world.ask(&query) {
        Answer::Located(spans) => spans,
        other => panic!("{other:?}"),
    }
}

fn source_of(world: &World, key: &str) -> LocateSource {
    match world.object(key).expect("stored").version.content {
        Content::Single(extent) => LocateSource::Extent(extent),
        Content::Manifest(manifest) => LocateSource::Manifest(manifest),
        Content::Empty | Content::Shared(_) | Content::Held(..) => panic!("a put with bytes has its own"),
    }
}

/// Reads `range` as a gateway does, page by page, and checks that every byte of it is located, in place.
fn check(world: &World, key: &str, range: ByteRange, first: u64, bytes: u64, page: PageSize) {
    let mut found = spans(world, key, range, page);
    let mut at = first + covered(first, &found);
    assert!(bytes == 0 || at > first);
    let end = first + bytes;
    while at < end {
        let more = locate(world, &source_of(world, key), at, end - at);
        let got = covered(at, &more);
        assert!(got > 0, "{at} of {end} is nowhere");
        at += got;
        found.extend(more);
    }
    assert_eq!(at, end);
    for span in &found {
        if let SpanPlace::Chunk { index, offset, row } = &span.place {
            assert!(offset + span.bytes <= row.plaintext_bytes);
            assert!(u64::from(*index) * CHUNK + offset < span.extent.blob_bytes);
            let rest = span.offset - (u64::from(*index) * CHUNK + offset);
            assert!(
                rest.is_multiple_of(MIB),
                "a span of {key} at {} is elsewhere",
                span.offset
            );
        }
    }
}

#[test]
fn ranges_are_cut_to_the_object() {
    let mut world = World::new();
    let size = 3 * CHUNK + 7;
    world.put("empty", 1, 0);
    world.put("inline", 2, 1000);
    world.put("chunks", 3, size);
    for (key, size) in [("empty", 0), ("inline", 1000), ("chunks", size)] {
        for range in [
            from(size, 1),
            from(size + 1, u64::MAX),
            from(0, 0),
            ByteRange::Last(0),
        ] {
            assert_eq!(spans(&world, key, range, ALL), []);
        }
        check(&world, key, from(0, u64::MAX), 0, size, ALL);
        check(&world, key, ByteRange::Last(u64::MAX), 0, size, ALL);
    }
    for key in ["inline", "chunks"] {
        let size = world.object(key).expect("stored").version.bytes;
        check(&world, key, from(3, 5), 3, 5, ALL);
        check(&world, key, from(size - 1, 9), size - 1, 1, ALL);
        check(&world, key, ByteRange::Last(9), size - 9, 9, ALL);
    }
    check(&world, "chunks", from(CHUNK - 1, 2), CHUNK - 1, 2, PageSize(1));
    assert_eq!(spans(&world, "chunks", from(0, 9), PageSize(0)), []);
    assert!(world.object("chunks").expect("stored").spans.is_empty());
    assert!(world.object("nothing").is_none());
}

#[test]
fn pages_are_bounded_and_go_on_where_the_last_one_ended() {
    let mut world = World::new();
    let size = 200 * CHUNK + 1;
    world.put("key", 1, size);
    assert_eq!(
        spans(&world, "key", from(0, size), PageSize(1000)).len(),
        LOCATE_PAGE_CHUNKS
    );
    assert_eq!(spans(&world, "key", from(0, size), PageSize(3)).len(), 3);
    check(&world, "key", from(0, size), 0, size, PageSize(3));
    check(
        &world,
        "key",
        from(CHUNK / 2, 90 * CHUNK),
        CHUNK / 2,
        90 * CHUNK,
        ALL,
    );
    let extent = source_of(&world, "key");
    assert_eq!(locate(&world, &extent, size, 1), []);
    assert_eq!(locate(&world, &extent, 0, 0), []);
}

#[test]
fn manifests_are_located_across_extents_and_pages() {
    let mut world = World::new();
    let upload = world.upload("key");
    let mut manifest = None;
    let mut size = 0;
    for number in 1..=9 {
        let bytes = PART_BYTES_MIN + u64::from(number % 3) * CHUNK;
        size += bytes;
        let part = world.part("key", upload, number, 1, bytes);
        world.checked = false;
        // Uneven pages: one, two or three extents each come from slices of as many parts.
        let _ = part;
    }
    for slice in [vec![1], vec![2, 3], vec![4, 5, 6], vec![7], vec![8, 9]] {
        let last = slice.contains(&9);
        let parts: Vec<_> = slice
            .iter()
            .map(|number| super::world::listed(*number, 1))
            .collect();
        let command = world.complete_slice("key", upload, manifest, &parts, last);
        match world.submit(command) {
            crate::command::Reply::Manifest { manifest: same, .. } => manifest = Some(same),
            other => panic!("{other:?}"),
        }
    }
    let complete = world.complete_upload("key", upload, manifest.expect("made"), 1);
    world.stored(crate::command::SessionCommand::CompleteUpload(complete));
    world.check();
    check(&world, "key", from(0, size), 0, size, ALL);
    check(&world, "key", from(0, size), 0, size, PageSize(1));
    let mut first = 0;
    while first < size {
        let bytes = (11 * MIB + 3).min(size - first);
        check(&world, "key", from(first, bytes), first, bytes, PageSize(2));
        first += 3 * MIB + 1;
    }
    assert_eq!(locate(&world, &source_of(&world, "key"), size, 1), []);
}

#[test]
fn a_source_that_went_away_is_answered_as_empty() {
    let mut world = World::new();
    world.put("single", 1, 2 * CHUNK);
    world.put("inline", 2, 1000);
    let upload = world.upload("parts");
    let part = world.part("parts", upload, 1, 1, 2 * CHUNK);
    world.complete("parts", upload, &[part], 1);
    world.drain();
    let sources = ["single", "inline", "parts"].map(|key| source_of(&world, key));
    for key in ["single", "inline", "parts"] {
        world.delete(key);
    }
    // Released, but not erased: a reader that came before may go on.
    assert_eq!(covered(0, &locate(&world, &sources[0], 0, 2 * CHUNK)), 2 * CHUNK);
    assert_eq!(covered(0, &locate(&world, &sources[2], 0, 2 * CHUNK)), 2 * CHUNK);
    world.run(&Command::DrainReleases {
        permit: ErasePermit::ALL,
    });
    world.drain();
    for source in &sources {
        assert_eq!(locate(&world, source, 0, 10), []);
    }
}

#[test]
fn extents_that_cannot_be_are_nowhere() {
    let world = World::new();
    let extent = Extent {
        blob: BlobId::default(),
        offset: u64::MAX,
        bytes: 2,
        blob_bytes: 9,
        chunk_bytes: CHUNK,
        storage: BlobStorage::Chunks(1),
        key: key(),
    };
    let zero = Extent {
        offset: 0,
        chunk_bytes: 0,
        ..extent.clone()
    };
    for extent in [extent, zero] {
        assert_eq!(locate(&world, &LocateSource::Extent(extent), 0, u64::MAX), []);
    }
}

#[test]
fn the_smallest_bytes_lie_with_their_version_and_others_in_a_row_of_their_own() {
    let held = HELD_BYTES_MAX as u64 - 16;
    for (size, rows) in [(1, 0), (held, 0), (held + 1, 1)] {
        let mut world = World::new();
        world.put("key", 1, size);
        assert_eq!(world.count(Column::Inline), rows, "{size} bytes");
        check(&world, "key", ByteRange::Last(size), 0, size, ALL);
        let version = world.object("key").expect("stored").version;
        assert!(
            matches!(version.content, Content::Single(_)),
            "what is told has no bytes"
        );
        assert!(version.content.is_inlined());
    }
}

#[test]
fn bytes_that_lie_with_their_version_come_whole_whatever_is_asked_for() {
    let mut world = World::new();
    world.put("key", 1, 100);
    for range in [
        from(0, 100),
        from(3, 5),
        from(100, 1),
        from(0, 0),
        ByteRange::Last(9),
        ByteRange::Last(0),
    ] {
        let found = spans(&world, "key", range, ALL);
        assert_eq!((found.len(), covered(0, &found)), (1, 100), "{range:?}");
        assert!(matches!(found[0].place, SpanPlace::Inline(_)));
    }
    assert_eq!(spans(&world, "key", from(0, 9), PageSize(0)), []);
    assert!(world.object("key").expect("stored").spans.is_empty());
}
