//! References and releases where several things refer to the same bytes.

use super::world::{CHUNK, World};
use crate::cluster_time::ClusterTime;
use crate::command::{Command, Reply, SessionCommand};
use crate::fat::query::{self, ErasePermit};
use crate::limits::PART_BYTES_MIN;
use crate::namespace::release;
use crate::step::{Step, Stop};
use crate::store::{Column, StoreError};

#[test]
fn chunks_are_erased_only_when_neither_part_nor_version_refers_to_them() {
    let mut world = World::new();
    let upload = world.upload("key");
    let parts = [
        world.part("key", upload, 1, 1, PART_BYTES_MIN),
        world.part("key", upload, 2, 2, CHUNK),
    ];
    world.complete("key", upload, &parts, 3);
    // The version goes before the parts are drained.
    world.delete("key");
    assert_eq!(world.count(Column::EraseOrders), 0);
    // First in the queue is the upload: its parts let go, the manifest does not yet.
    assert_eq!(
        world.run(&Command::DrainReleases {
            permit: ErasePermit::ALL
        }),
        Reply::Progress { more: true }
    );
    assert_eq!(
        (world.count(Column::EraseOrders), world.count(Column::Chunks)),
        (0, 3)
    );
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn a_manifest_without_references_is_never_revived() {
    let mut world = World::new();
    let upload = world.upload("key");
    let part = world.part("key", upload, 1, 1, CHUNK);
    let old = world.begin_complete("key", upload, std::slice::from_ref(&part));
    let new = world.begin_complete("key", upload, std::slice::from_ref(&part));
    let complete = world.complete_upload("key", upload, old, 1);
    let refused = world.refused(SessionCommand::CompleteUpload(complete));
    assert_eq!(refused, crate::rejection::Rejection::PartsChanged);
    let complete = world.complete_upload("key", upload, new, 1);
    world.stored(SessionCommand::CompleteUpload(complete));
    world.drain();
    assert_eq!(world.count(Column::Chunks), 1);
}

#[test]
fn a_released_manifest_waits_until_no_reader_can_ask_for_its_pages() {
    let mut world = World::new();
    let upload = world.upload("key");
    let part = world.part("key", upload, 1, 1, CHUNK);
    world.complete("key", upload, &[part], 1);
    let may_drain = |world: &World, below_index, released_before| {
        let permit = ErasePermit {
            below_index,
            released_before: ClusterTime(released_before),
        };
        query::may_drain(&world.rows, &permit).expect("readable")
    };
    assert!(may_drain(&world, 0, 0), "the upload's parts: nobody reads them");
    world.drain();
    assert!(!may_drain(&world, u64::MAX, u64::MAX), "nothing waits");
    world.put("single", 2, CHUNK);
    world.delete("single");
    assert!(may_drain(&world, 0, 0), "a blob's copies wait as erase orders");
    world.drain();
    world.delete("key");
    let (released, now) = (world.at.index, world.at.cluster_time.0);
    assert!(
        !may_drain(&world, released, now),
        "a reader may have begun before"
    );
    // A command that was proposed when less was in the queue drains no more than it was meant to.
    let permit = ErasePermit {
        below_index: released,
        released_before: ClusterTime(now),
    };
    let nothing = Reply::Progress { more: false };
    assert_eq!(world.run(&Command::DrainReleases { permit }), nothing);
    assert_eq!(world.count(Column::Releases), 1);
    assert!(may_drain(&world, released + 1, now), "every reader is past it");
    assert!(
        may_drain(&world, 0, now + 1),
        "no reader is waited for any longer"
    );
}

#[test]
fn a_blob_that_is_referred_to_cannot_be_gone() {
    let mut world = World::new();
    let upload = world.upload("key");
    world.part("key", upload, 1, 1, CHUNK);
    let blob = crate::namespace::blob::blob_of(&world.keys(Column::Blobs)[0]).expect("a blob");
    let mut step = Step::new(&world.rows, world.at);
    let gone = release::blob_gone(&mut step, blob);
    assert!(matches!(gone, Err(Stop::Store(StoreError::Inconsistent(_)))));
}

#[test]
fn drains_of_what_is_gone_already_change_nothing() {
    let world = World::new();
    let mut step = Step::new(&world.rows, world.at);
    let more = release::drain_manifest_page(&mut step, crate::ids::ManifestId(5)).expect("drained");
    assert!(!more);
    let more = release::drain_upload_page(&mut step, crate::ids::UploadId(5)).expect("drained");
    assert!(!more);
}
