//! Multipart uploads: parts, complete, abort, and what each does to the others.

use super::world::{CHUNK, MIB, ROOT, World, etag, listed, multipart_etag};
use crate::cluster_time::ClusterTime;
use crate::command::{Body, Command, Conditions, EtagMatch, ListedPart, Reply, SessionCommand, UploadRef};
use crate::fat::query::ErasePermit;
use crate::ids::ManifestId;
use crate::limits::{COMPLETED_UPLOAD_KEPT_MS, EXTENTS_PER_PAGE, PART_BYTES_MIN, PARTS_PER_UPLOAD};
use crate::namespace::rows::{Checksum, ChecksumAlgorithm, ChecksumKind, Content, Etag, UploadState};
use crate::rejection::Rejection;
use crate::store::Column;
use crate::wire::metad::{Answer, Query};
use bytes::Bytes;

const KEY: &str = "key";

fn upload_state(world: &World, upload: UploadRef) -> Option<UploadState> {
    let query = Query::Upload {
        bucket: world.bucket.bucket,
        key: KEY.to_owned(),
        upload,
    };
    match world.ask(&query) {
        Answer::Upload(row) => row.map(|row| row.state),
        other => panic!("{other:?}"),
    }
}

fn two_parts(world: &mut World, upload: UploadRef) -> Vec<ListedPart> {
    vec![
        world.part(KEY, upload, 1, 1, PART_BYTES_MIN),
        world.part(KEY, upload, 7, 2, 3 * CHUNK + 9),
    ]
}

#[test]
fn an_upload_is_completed_once_and_answers_the_same_again() {
    let mut world = World::new();
    world.put(KEY, 5, 10);
    let upload = world.upload(KEY);
    assert_eq!(world.usage().uploads, 1);
    let parts = two_parts(&mut world, upload);
    let version = world.complete(KEY, upload, &parts, 3);
    let found = world.object(KEY).expect("stored").version;
    assert_eq!(
        (found.version, found.bytes),
        (version, PART_BYTES_MIN + 3 * CHUNK + 9)
    );
    assert!(matches!(found.content, Content::Manifest(_)));
    assert_eq!((world.usage().objects, world.usage().uploads), (1, 0));

    let again = world.complete_upload(KEY, upload, ManifestId(1), 99);
    assert_eq!(world.stored(SessionCommand::CompleteUpload(again)), version);
    let slice = world.complete_slice(KEY, upload, None, &parts, true);
    match world.submit(slice) {
        Reply::AlreadyCompleted {
            version: same, etag, ..
        } => {
            assert_eq!((same, etag), (version, found.etag));
        }
        other => panic!("{other:?}"),
    }
    let abort = world.abort(KEY, upload);
    assert_eq!(world.refused(abort), Rejection::NoSuchUpload);
    let late = world.finalize_part(KEY, upload, 2, 4, Body::Empty);
    assert_eq!(world.refused(late), Rejection::NoSuchUpload);
    world.drain();
    // The manifest keeps the blobs when the parts are gone.
    assert_eq!((world.count(Column::Chunks), world.count(Column::Blobs)), (6, 2));
    assert!(world.delete(KEY));
    world.drain();
    world.assert_nothing_stored();
    assert!(matches!(
        upload_state(&world, upload),
        Some(UploadState::Completed { .. })
    ));
}

#[test]
fn a_completed_upload_is_forgotten_in_time() {
    let mut world = World::new();
    world.run(&Command::Tick {
        to: ClusterTime(1000),
    });
    let upload = world.upload(KEY);
    let part = world.part(KEY, upload, 1, 1, 0);
    world.complete(KEY, upload, &[part], 1);
    world.drain();
    let due = 1000 + COMPLETED_UPLOAD_KEPT_MS;
    world.run(&Command::Tick {
        to: ClusterTime(due - 1),
    });
    assert_eq!(world.count(Column::Uploads), 2);
    world.run(&Command::Tick { to: ClusterTime(due) });
    assert_eq!(world.count(Column::Uploads), 0);
    world.open_session();
    let again = world.complete_upload(KEY, upload, ManifestId(1), 99);
    assert_eq!(
        world.refused(SessionCommand::CompleteUpload(again)),
        Rejection::NoSuchUpload
    );
    assert!(world.object(KEY).is_some());
}

#[test]
fn an_aborted_upload_is_gone_at_once_and_drained() {
    let mut world = World::new();
    for complete in [false, true] {
        let upload = world.upload(KEY);
        let parts = two_parts(&mut world, upload);
        if complete {
            world.begin_complete(KEY, upload, &parts);
        }
        let abort = world.abort(KEY, upload);
        world.done(abort.clone());
        assert_eq!(world.refused(abort), Rejection::NoSuchUpload);
        assert_eq!(upload_state(&world, upload), None);
        assert_eq!(world.usage().uploads, 0);
        let late = world.finalize_part(KEY, upload, 2, 4, Body::Empty);
        assert_eq!(world.refused(late), Rejection::NoSuchUpload);
        let slice = world.complete_slice(KEY, upload, None, &parts, true);
        assert_eq!(world.refused(slice), Rejection::NoSuchUpload);
        world.drain();
        world.assert_nothing_stored();
        assert_eq!(world.count(Column::Uploads), 0);
    }
}

#[test]
fn an_upload_is_found_only_by_its_whole_name() {
    let mut world = World::new();
    let upload = world.upload(KEY);
    let guessed = UploadRef {
        random: upload.random + 1,
        ..upload
    };
    let abort = world.abort(KEY, guessed);
    assert_eq!(world.refused(abort), Rejection::NoSuchUpload);
    let abort = world.abort("other", upload);
    assert_eq!(world.refused(abort), Rejection::NoSuchUpload);
    let first = world.bucket;
    world.bucket = world.make_bucket("second");
    let abort = world.abort(KEY, upload);
    assert_eq!(world.refused(abort), Rejection::NoSuchUpload);
    world.bucket = first;
    let abort = world.abort(KEY, upload);
    world.done(abort);
}

#[test]
fn a_replaced_part_releases_its_bytes_and_makes_the_complete_start_again() {
    let mut world = World::new();
    let upload = world.upload(KEY);
    let mut parts = two_parts(&mut world, upload);
    let old = world.begin_complete(KEY, upload, &parts);
    parts[0] = world.part(KEY, upload, 1, 9, PART_BYTES_MIN + 1);
    let complete = world.complete_upload(KEY, upload, old, 3);
    assert_eq!(
        world.refused(SessionCommand::CompleteUpload(complete)),
        Rejection::PartsChanged
    );
    let slice = world.complete_slice(KEY, upload, Some(old), &parts, true);
    assert_eq!(world.refused(slice), Rejection::PartsChanged);
    // The old part's bytes live as long as the old manifest refers to them.
    world.drain();
    assert_eq!(world.count(Column::Blobs), 3);
    let new = world.begin_complete(KEY, upload, &parts);
    world.drain();
    assert_eq!(world.count(Column::Blobs), 2);
    let stale = world.complete_upload(KEY, upload, old, 3);
    assert_eq!(
        world.refused(SessionCommand::CompleteUpload(stale)),
        Rejection::PartsChanged
    );
    let complete = world.complete_upload(KEY, upload, new, 3);
    world.stored(SessionCommand::CompleteUpload(complete));
    world.drain();
    assert_eq!(
        world.object(KEY).expect("stored").version.bytes,
        PART_BYTES_MIN + 1 + 3 * CHUNK + 9
    );
    world.delete(KEY);
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn listed_parts_must_be_there_in_order_the_same_and_large_enough() {
    let mut world = World::new();
    let upload = world.upload(KEY);
    let parts = two_parts(&mut world, upload);
    let small = world.part(KEY, upload, 8, 8, PART_BYTES_MIN - 1);
    let mut refused = |parts: &[ListedPart], last| {
        let slice = world.complete_slice(KEY, upload, None, parts, last);
        world.refused(slice)
    };
    assert!(matches!(refused(&[], true), Rejection::Invalid(_)));
    assert_eq!(
        refused(&[parts[1].clone(), parts[0].clone()], true),
        Rejection::InvalidPartOrder
    );
    assert_eq!(
        refused(&[parts[0].clone(), parts[0].clone()], true),
        Rejection::InvalidPartOrder
    );
    assert_eq!(refused(&[listed(0, 1)], true), Rejection::InvalidPartOrder);
    assert_eq!(refused(&[listed(2, 1)], true), Rejection::InvalidPart(2));
    assert_eq!(refused(&[listed(1, 2)], true), Rejection::InvalidPart(1));
    let checksummed = ListedPart {
        checksum: Some(Bytes::from_static(&[0; 4])),
        ..parts[0].clone()
    };
    assert_eq!(refused(&[checksummed], true), Rejection::InvalidPart(1));
    let too_small = Rejection::PartTooSmall {
        number: 8,
        bytes: PART_BYTES_MIN - 1,
    };
    assert_eq!(refused(std::slice::from_ref(&small), false), too_small);
    let after_small = world.part(KEY, upload, 9, 9, 1);
    let slice = world.complete_slice(KEY, upload, None, &[small.clone(), after_small], true);
    assert_eq!(world.refused(slice), too_small);
    world.complete(KEY, upload, &[parts[0].clone(), small], 3);
    // Parts that were not listed go with the upload.
    world.drain();
    assert_eq!(world.count(Column::Blobs), 2);
}

#[test]
fn checksums_of_parts_are_compared_where_the_client_lists_them() {
    let mut world = World::new();
    let upload = world.upload(KEY);
    let mut part = world.finalize_part(KEY, upload, 1, 1, Body::Empty);
    let checksum = Checksum {
        algorithm: ChecksumAlgorithm::Crc32,
        kind: ChecksumKind::FullObject,
        value: Bytes::from_static(&[1, 2, 3, 4]),
        parts: 0,
    };
    if let SessionCommand::FinalizePart(part) = &mut part {
        part.checksum = Some(checksum.clone());
    }
    world.done(part);
    let list = |value: &'static [u8]| ListedPart {
        checksum: Some(Bytes::from_static(value)),
        ..listed(1, 1)
    };
    let wrong = world.complete_slice(KEY, upload, None, &[list(&[1, 2, 3, 5])], true);
    assert_eq!(world.refused(wrong), Rejection::InvalidPart(1));
    let right = world.complete_slice(KEY, upload, None, &[list(&[1, 2, 3, 4])], true);
    match world.submit(right) {
        Reply::Manifest { parts, .. } => assert_eq!(parts, [(etag(1), Some(checksum), 0)]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_complete_checks_conditions_and_sizes_and_needs_its_last_parts() {
    let mut world = World::new();
    world.put(KEY, 5, 10);
    let upload = world.upload(KEY);
    let parts = two_parts(&mut world, upload);
    let slice = world.complete_slice(KEY, upload, None, &parts[..1], false);
    let Reply::Manifest { manifest, .. } = world.submit(slice) else {
        panic!()
    };
    let early = world.complete_upload(KEY, upload, manifest, 3);
    assert!(matches!(
        world.refused(SessionCommand::CompleteUpload(early)),
        Rejection::Invalid(_)
    ));
    let slice = world.complete_slice(KEY, upload, Some(manifest), &parts[..1], true);
    assert_eq!(world.refused(slice), Rejection::InvalidPartOrder);
    let slice = world.complete_slice(KEY, upload, Some(manifest), &parts[1..], true);
    assert!(matches!(world.submit(slice), Reply::Manifest { .. }));
    let more = world.part(KEY, upload, 7, 2, 3 * CHUNK + 9);
    let manifest = world.begin_complete(KEY, upload, &[parts[0].clone(), more]);
    let slice = world.complete_slice(KEY, upload, Some(manifest), &[listed(8, 1)], true);
    assert!(matches!(world.refused(slice), Rejection::Invalid(_)));

    let mut complete = world.complete_upload(KEY, upload, manifest, 3);
    complete.conditions = Conditions {
        if_match: None,
        if_none_match: Some(EtagMatch::Any),
    };
    let refused = world.refused(SessionCommand::CompleteUpload(complete.clone()));
    assert_eq!(refused, Rejection::PreconditionFailed);
    complete.conditions = Conditions {
        if_match: Some(EtagMatch::OneOf(vec![etag(5).to_string()])),
        if_none_match: None,
    };
    complete.expected_bytes = Some(1);
    let refused = world.refused(SessionCommand::CompleteUpload(complete.clone()));
    assert!(matches!(refused, Rejection::Size(_)));
    complete.expected_bytes = Some(PART_BYTES_MIN + 3 * CHUNK + 9);
    world.stored(SessionCommand::CompleteUpload(complete));
    assert_eq!(world.object(KEY).expect("stored").version.etag, multipart_etag(3));
}

#[test]
fn an_upload_of_one_empty_part_becomes_an_empty_object() {
    let mut world = World::new();
    let upload = world.upload(KEY);
    let part = world.part(KEY, upload, 1, 1, 0);
    world.complete(KEY, upload, &[part], 2);
    let version = world.object(KEY).expect("stored").version;
    assert_eq!((version.bytes, version.content), (0, Content::Empty));
    world.delete(KEY);
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn parts_are_checked_before_they_are_taken() {
    let mut world = World::new();
    let upload = world.upload(KEY);
    for number in [0, PARTS_PER_UPLOAD + 1] {
        let part = world.finalize_part(KEY, upload, number, 1, Body::Empty);
        assert!(matches!(world.refused(part), Rejection::Invalid(_)));
    }
    let inline = world.inline(10);
    let part = world.finalize_part(KEY, upload, 1, 1, inline);
    assert!(matches!(world.refused(part), Rejection::Invalid(_)));
    let mut part = world.finalize_part(KEY, upload, 1, 1, Body::Empty);
    if let SessionCommand::FinalizePart(part) = &mut part {
        part.etag = Etag::Multipart([0; 16], 1);
    }
    assert!(matches!(world.refused(part), Rejection::Invalid(_)));
    let mut part = world.finalize_part(KEY, upload, 1, 1, Body::Empty);
    if let SessionCommand::FinalizePart(part) = &mut part {
        part.actor.user = crate::ids::UserId(3);
    }
    assert_eq!(world.refused(part), Rejection::StaleSettings);
    let missing = SessionCommand::CreateUpload {
        actor: ROOT,
        bucket: world.bucket,
        key: KEY.to_owned(),
        random: 0,
        class: "GLACIER".to_owned(),
        metadata: crate::namespace::rows::Metadata::default(),
        checksum: None,
        now: crate::cluster_time::WallTime(0),
    };
    assert_eq!(
        world.refused(missing),
        Rejection::NoSuchClass("GLACIER".to_owned())
    );
}

#[test]
fn the_name_of_a_parts_blob_does_not_come_back_while_its_bytes_are_there() {
    let mut world = World::new();
    let upload = world.upload(KEY);
    let blob = world.blob();
    let part = |world: &mut World, number, size: u64| {
        let chunks = world.chunk_rows(size);
        let body = world.last_chunks(blob, 0, chunks, size);
        world.finalize_part(KEY, upload, number, 1, body)
    };
    let first = part(&mut world, 1, CHUNK);
    world.done(first);
    let again = part(&mut world, 2, CHUNK);
    assert!(matches!(world.refused(again), Rejection::Blob(..)));
    world.part(KEY, upload, 1, 2, 0);
    let again = part(&mut world, 2, CHUNK);
    assert!(matches!(world.refused(again), Rejection::Blob(..)));
    world.run(&Command::DrainReleases {
        permit: ErasePermit::ALL,
    });
    let again = part(&mut world, 2, CHUNK);
    assert!(matches!(world.refused(again), Rejection::Blob(..)));
}

#[test]
fn parts_are_listed_in_pages() {
    let mut world = World::new();
    let upload = world.upload(KEY);
    for number in [1, 2, 300, 10_000] {
        world.part(KEY, upload, number, u64::from(number), MIB);
    }
    let numbers = |upload, after, limit| {
        let query = Query::Parts { upload, after, limit };
        match world.ask(&query) {
            Answer::Parts(parts, more) => (parts.iter().map(|part| part.number).collect::<Vec<_>>(), more),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(numbers(upload, 0, 9), (vec![1, 2, 300, 10_000], false));
    assert_eq!(numbers(upload, 1, 2), (vec![2, 300], true));
    assert_eq!(numbers(upload, 10_000, 2), (vec![], false));
    assert_eq!(numbers(upload, 0, 0), (vec![], false));
    let guessed = UploadRef { random: 0, ..upload };
    assert_eq!(numbers(guessed, 0, 9), (vec![], false));
}

#[test]
fn the_largest_upload_is_completed_located_and_drained_in_bounded_commands() {
    let mut world = World::new();
    world.checked = false;
    let upload = world.upload(KEY);
    let bytes = PART_BYTES_MIN;
    let parts: Vec<ListedPart> = (1..=PARTS_PER_UPLOAD)
        .map(|number| world.part(KEY, upload, number, u64::from(number), bytes))
        .collect();
    world.check();
    let mut manifest = None;
    let slices = parts.chunks(EXTENTS_PER_PAGE);
    let count = slices.len();
    for (at, slice) in slices.enumerate() {
        let slice = world.complete_slice(KEY, upload, manifest, slice, at + 1 == count);
        match world.submit(slice) {
            Reply::Manifest { manifest: same, .. } => manifest = Some(same),
            other => panic!("{other:?}"),
        }
    }
    let complete = world.complete_upload(KEY, upload, manifest.expect("made"), 1);
    world.stored(SessionCommand::CompleteUpload(complete));
    world.check();
    assert_eq!(world.usage().bytes, bytes * u64::from(PARTS_PER_UPLOAD));
    world.delete(KEY);
    world.check();
    world.drain();
    world.check();
    world.assert_nothing_stored();
}
