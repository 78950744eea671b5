//! Objects: finalize, replace, delete, conditions, slices.

use super::world::{CHUNK, MIB, World, etag, key};
use crate::command::{
    Actor, Body, BucketRef, Command, Conditions, DeleteObject, EtagMatch, Reply, SessionCommand,
};
use crate::fat::rows::InlineRow;
use crate::ids::{BlobId, BucketId, SessionId, UserId};
use crate::namespace::rows::{BlobStorage, Content};
use crate::rejection::Rejection;
use crate::store::{Column, Direction, KeyRange, Read, StoreError, Visit};
use bytes::Bytes;
use std::cell::RefCell;

fn delete(world: &World, key: &str, conditions: Conditions) -> SessionCommand {
    SessionCommand::DeleteObject(DeleteObject {
        conditions,
        ..world.deletion(key, None)
    })
}

fn if_match(etags: &[String]) -> Conditions {
    Conditions {
        if_match: Some(EtagMatch::OneOf(etags.to_vec())),
        if_none_match: None,
    }
}

#[test]
fn objects_of_every_kind_are_stored_replaced_and_deleted_without_a_trace() {
    let sizes = [0, 1, 4096, 4097, CHUNK, CHUNK + 1, 70 * CHUNK + 5];
    let mut world = World::new();
    let mut tag = 0;
    for before in sizes {
        for after in sizes {
            for bytes in [before, after] {
                tag += 1;
                let version = world.put("key", tag, bytes);
                let found = world.object("key").expect("stored").version;
                assert_eq!(
                    (found.version, found.bytes, found.etag),
                    (version, bytes, etag(tag))
                );
                assert_eq!((world.usage().objects, world.usage().bytes), (1, bytes));
                assert_eq!(world.count(Column::Versions), 1);
            }
        }
    }
    assert!(world.delete("key"));
    assert!(!world.delete("key"));
    assert_eq!(world.usage(), crate::namespace::rows::BucketUsageRow::default());
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn a_single_body_is_owned_by_its_version_and_has_no_blob_row() {
    let mut world = World::new();
    world.put("key", 1, 66 * CHUNK);
    let version = world.object("key").expect("stored").version;
    match version.content {
        Content::Single(extent) => assert_eq!(extent.storage, BlobStorage::Chunks(66)),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.count(Column::Blobs), 0);
    assert_eq!(world.count(Column::Chunks), 66);
}

#[test]
fn conditions_are_decided_on_the_current_version() {
    let mut world = World::new();
    let none_match = Conditions {
        if_match: None,
        if_none_match: Some(EtagMatch::Any),
    };
    let any_match = Conditions {
        if_match: Some(EtagMatch::Any),
        if_none_match: None,
    };
    let mine = if_match(&["not hex".to_owned(), etag(1).to_string()]);
    let put = |world: &mut World, tag: u64, conditions: &Conditions| {
        let body = world.inline(10);
        let mut finalize = world.finalize("key", tag, body);
        finalize.conditions = conditions.clone();
        world.submit(SessionCommand::FinalizeObject(finalize))
    };
    assert_eq!(put(&mut world, 1, &mine), Reply::Refused(Rejection::NoSuchKey));
    assert_eq!(
        put(&mut world, 1, &any_match),
        Reply::Refused(Rejection::NoSuchKey)
    );
    assert!(matches!(put(&mut world, 1, &none_match), Reply::Stored { .. }));
    assert_eq!(
        put(&mut world, 2, &none_match),
        Reply::Refused(Rejection::PreconditionFailed)
    );
    assert!(matches!(put(&mut world, 2, &mine), Reply::Stored { .. }));
    assert_eq!(
        put(&mut world, 3, &mine),
        Reply::Refused(Rejection::PreconditionFailed)
    );
    assert!(matches!(put(&mut world, 3, &any_match), Reply::Stored { .. }));
    let other_than = Conditions {
        if_match: None,
        if_none_match: Some(EtagMatch::OneOf(vec![etag(1).to_string()])),
    };
    assert!(matches!(put(&mut world, 1, &other_than), Reply::Stored { .. }));
    assert_eq!(
        put(&mut world, 2, &other_than),
        Reply::Refused(Rejection::PreconditionFailed)
    );

    let wrong = delete(&world, "key", if_match(&[etag(9).to_string()]));
    assert_eq!(world.refused(wrong), Rejection::PreconditionFailed);
    let right = delete(&world, "key", mine.clone());
    let deleted = Reply::Deleted {
        existed: true,
        version: None,
        delete_marker: false,
    };
    assert_eq!(world.submit(right), deleted);
    let gone = delete(&world, "key", mine);
    assert_eq!(world.refused(gone), Rejection::NoSuchKey);
}

#[test]
fn what_was_decided_under_other_settings_is_refused() {
    let mut world = World::new();
    let mut finalize = world.finalize("key", 1, Body::Empty);
    finalize.bucket = BucketRef {
        bucket: BucketId(99),
        settings_version: 0,
    };
    assert_eq!(
        world.refused(SessionCommand::FinalizeObject(finalize)),
        Rejection::NoSuchBucket
    );
    let mut finalize = world.finalize("key", 1, Body::Empty);
    finalize.bucket.settings_version += 1;
    assert_eq!(
        world.refused(SessionCommand::FinalizeObject(finalize)),
        Rejection::StaleSettings
    );
    let mut finalize = world.finalize("key", 1, Body::Empty);
    finalize.actor = Actor {
        user: UserId(5),
        settings_version: 0,
    };
    assert_eq!(
        world.refused(SessionCommand::FinalizeObject(finalize)),
        Rejection::StaleSettings
    );
    let mut finalize = world.finalize("key", 1, Body::Empty);
    finalize.class = "GLACIER".to_owned();
    let class = Rejection::NoSuchClass("GLACIER".to_owned());
    assert_eq!(world.refused(SessionCommand::FinalizeObject(finalize)), class);
    let body = world.chunked(CHUNK);
    let Body::Chunks { blob, chunks, .. } = body else {
        panic!()
    };
    let mut body = world.last_chunks(blob, 0, chunks, CHUNK);
    if let Body::Chunks { class, .. } = &mut body {
        class.1 += 1;
    }
    let finalize = world.finalize("key", 1, body);
    assert_eq!(
        world.refused(SessionCommand::FinalizeObject(finalize)),
        Rejection::StaleSettings
    );
    assert_eq!(world.count(Column::Live), 0);
}

#[test]
fn inlining_keeps_to_cap_and_budget_and_an_overwrite_gives_its_bytes_back() {
    let mut world = World::new();
    let settings = |cap_bytes, budget_bytes| {
        Command::SetInline(InlineRow {
            cap_bytes,
            budget_bytes,
            used_bytes: 0,
        })
    };
    world.run(&settings(100, 150));
    let too_long = world.inline(101);
    let finalize = world.finalize("a", 1, too_long);
    let refused = world.refused(SessionCommand::FinalizeObject(finalize));
    assert!(matches!(refused, Rejection::NotInlined(_)));
    world.put("a", 1, 100);
    let over = world.inline(51);
    let finalize = world.finalize("b", 1, over);
    let refused = world.refused(SessionCommand::FinalizeObject(finalize));
    assert!(matches!(refused, Rejection::NotInlined(_)));
    // The same key may be overwritten in a full budget.
    world.put("b", 2, 50);
    world.put("a", 3, 99);
    world.put("a", 3, 100);
    world.run(&settings(0, 150));
    let off = world.inline(1);
    let finalize = world.finalize("c", 1, off);
    let refused = world.refused(SessionCommand::FinalizeObject(finalize));
    assert!(matches!(refused, Rejection::NotInlined(_)));
    assert!(world.delete("a") && world.delete("b"));
    world.assert_nothing_stored();
}

#[test]
fn slices_come_in_order_and_their_blob_is_finalized_whole() {
    let mut world = World::new();
    let blob = world.blob();
    let out_of_order =
        |rejection: Rejection| assert!(matches!(rejection, Rejection::Blob(..)), "{rejection}");
    let chunks = world.chunk_rows(2 * CHUNK);
    let early = world.slice(blob, 2, chunks.clone());
    out_of_order(world.refused(early));
    let first = world.slice(blob, 0, chunks.clone());
    world.done(first.clone());
    out_of_order(world.refused(first));
    let more = world.chunk_rows(CHUNK);
    let gap = world.slice(blob, 3, more.clone());
    out_of_order(world.refused(gap));
    let mut other_length = world.slice(blob, 2, more);
    if let SessionCommand::Slice(slice) = &mut other_length {
        slice.chunk_bytes = 2 * CHUNK;
    }
    out_of_order(world.refused(other_length));
    let foreign = BlobId {
        session: SessionId(world.session.0 + 1),
        counter: 1,
    };
    let more = world.chunk_rows(CHUNK);
    let foreign = world.slice(foreign, 0, more);
    out_of_order(world.refused(foreign));

    // A short chunk ends the blob; the finalize may come without any.
    let short = world.chunk_rows(5);
    let last = world.slice(blob, 2, short);
    world.done(last);
    let behind = world.chunk_rows(CHUNK);
    let behind = world.slice(blob, 3, behind);
    out_of_order(world.refused(behind));
    for (first, bytes) in [(2, 2 * CHUNK + 5), (3, 2 * CHUNK + 6)] {
        let body = world.last_chunks(blob, first, Vec::new(), bytes);
        let wrong = world.finalize("key", 1, body);
        out_of_order(world.refused(SessionCommand::FinalizeObject(wrong)));
    }
    let body = world.last_chunks(blob, 3, Vec::new(), 2 * CHUNK + 5);
    let finalize = world.finalize("key", 1, body);
    world.stored(SessionCommand::FinalizeObject(finalize));
    assert_eq!(world.count(Column::Blobs), 0);
    // The name is taken now.
    let again = world.chunk_rows(CHUNK);
    let again = world.slice(blob, 0, again);
    out_of_order(world.refused(again));
    let again = world.chunk_rows(CHUNK);
    let body = world.last_chunks(blob, 0, again, CHUNK);
    let again = world.finalize("other", 1, body);
    out_of_order(world.refused(SessionCommand::FinalizeObject(again)));
}

#[test]
fn abandoned_blobs_leave_nothing_behind() {
    let mut world = World::new();
    let (given_up, left_over) = (world.blob(), world.blob());
    for blob in [given_up, left_over] {
        let chunks = world.chunk_rows(3 * CHUNK);
        let slice = world.slice(blob, 0, chunks);
        world.done(slice);
    }
    world.done(SessionCommand::AbandonBlob { blob: given_up });
    world.done(SessionCommand::AbandonBlob { blob: given_up });
    let session = world.session;
    world.run(&Command::EndSession { session });
    assert_eq!(
        world.run(&Command::AbandonStep { session }),
        Reply::Progress { more: false }
    );
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn malformed_bodies_are_refused() {
    let mut world = World::new();
    let blob = world.blob();
    let mut check = |body: Body| {
        let finalize = world.finalize("key", 1, body);
        let rejection = world.refused(SessionCommand::FinalizeObject(finalize));
        assert!(
            matches!(rejection, Rejection::Invalid(_) | Rejection::Blob(..)),
            "{rejection}"
        );
    };
    let inline = |plaintext_bytes, sealed| Body::Inline {
        blob,
        plaintext_bytes,
        sealed: Bytes::from(vec![0; sealed]),
        key: key(),
    };
    check(inline(0, 0));
    check(inline(10, 10));
    check(inline(u64::MAX, 10));
    let class = ("STANDARD".to_owned(), 0);
    let chunks = |chunk_bytes, class| Body::Chunks {
        blob,
        plaintext_bytes: 0,
        chunk_bytes,
        first: 0,
        chunks: Vec::new(),
        key: key(),
        class,
    };
    check(chunks(CHUNK, class.clone()));
    check(chunks(0, class.clone()));
    check(chunks(CHUNK + 1, class));
    check(chunks(CHUNK, ("OTHER".to_owned(), 0)));
}

#[test]
fn keys_and_metadata_are_bounded() {
    let mut world = World::new();
    for key in ["", &"k".repeat(1025)] {
        let finalize = world.finalize(key, 1, Body::Empty);
        let refused = world.refused(SessionCommand::FinalizeObject(finalize));
        assert!(matches!(refused, Rejection::Invalid(_)));
    }
    world.put(&"k".repeat(1024), 1, 0);
    let mut finalize = world.finalize("key", 1, Body::Empty);
    finalize.metadata.user = vec![("name".to_owned(), "v".repeat(2044))];
    world.stored(SessionCommand::FinalizeObject(finalize.clone()));
    finalize.metadata.user.push(("a".to_owned(), String::new()));
    let refused = world.refused(SessionCommand::FinalizeObject(finalize.clone()));
    assert!(matches!(refused, Rejection::Size(_)));
    finalize.metadata.user = vec![(String::new(), String::new())];
    let refused = world.refused(SessionCommand::FinalizeObject(finalize));
    assert!(matches!(refused, Rejection::Invalid(_)));
}

/// Counts reads of columns that are not hot.
struct Counting<'a, R> {
    below: &'a R,
    gets: RefCell<Vec<Column>>,
    scans: RefCell<Vec<Column>>,
}

impl<R: Read> Read for Counting<'_, R> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if !column.is_hot() {
            self.gets.borrow_mut().push(column);
        }
        self.below.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.scans.borrow_mut().push(column);
        self.below.scan(column, range, direction, visit)
    }
}

/// (reads, rows written) of columns that are not hot. Copies are left out of both: how many there are is the
/// class's matter.
fn cost(world: &World, sequence: u64, body: Body) -> (usize, usize) {
    let put = SessionCommand::FinalizeObject(world.finalize("key", 9, body));
    let (reads, scans, rows) = command_cost(world, sequence, put);
    assert_eq!(scans, 0, "a scan");
    (reads, rows)
}

/// (reads, scans, rows written) of a command that is not refused, as [`cost`] counts them.
pub fn command_cost(world: &World, sequence: u64, command: SessionCommand) -> (usize, usize, usize) {
    let command = Command::InSession {
        session: world.session,
        sequence,
        command,
    };
    let counting = Counting {
        below: &world.rows,
        gets: RefCell::default(),
        scans: RefCell::default(),
    };
    let decision = crate::decide::decide(&counting, world.at, &command).expect("decided");
    assert!(
        !matches!(decision.reply, Reply::Refused(_)),
        "{:?}",
        decision.reply
    );
    let ours = |column: &&Column| **column != Column::Copies;
    let changed: Vec<Column> = decision.changes.iter().map(|change| change.column).collect();
    let cold = |column: &&Column| !column.is_hot() && **column != Column::Outcomes;
    (
        counting.gets.borrow().iter().filter(ours).count(),
        counting.scans.borrow().len(),
        changed.iter().filter(cold).filter(ours).count(),
    )
}

#[test]
fn a_small_put_costs_at_most_three_reads_and_four_rows() {
    let mut world = World::new();
    let (inline, chunks) = (world.inline(100), world.chunked(MIB));
    // Outcome, version, whether a blob is new. Written: live, version, chunk.
    assert_eq!(cost(&world, 500, inline.clone()), (2, 2));
    assert_eq!(cost(&world, 500, chunks.clone()), (3, 3));
    world.put("key", 1, 100);
    // Replacing: the version is written over.
    assert_eq!(cost(&world, 500, inline.clone()), (2, 2));
    assert_eq!(cost(&world, 500, chunks.clone()), (3, 3));
    world.put("key", 1, MIB);
    // And the blob released.
    assert_eq!(cost(&world, 500, inline), (2, 3));
    assert_eq!(cost(&world, 500, chunks), (3, 4));
}
