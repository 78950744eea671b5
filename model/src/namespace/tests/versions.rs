//! Versioning: what a key keeps, what becomes current when a version goes, what it costs, how versions are listed.

use super::objects::command_cost;
use super::world::{MIB, ROOT, World, etag};
use crate::command::{Conditions, CopySource, DeleteObject, EtagMatch, Reply, SessionCommand};
use crate::ids::{VersionId, VersionName};
use crate::limits::LIST_PAGE_KEYS_MAX;
use crate::namespace::keys::{self, VersionKey};
use crate::namespace::rows::Versioning::{Enabled, Off, Suspended};
use crate::namespace::rows::{BucketUsageRow, Content};
use crate::rejection::Rejection;
use crate::store::{Column, Direction, KeyRange, Read, StoreError, Visit};
use crate::wire::metad::{Answer, Found, ListedVersion, Query, VersionsReply, VersionsRequest};
use bytes::Bytes;
use std::cell::Cell;

fn delete(world: &mut World, key: &str, version: Option<VersionName>) -> (bool, Option<VersionName>, bool) {
    let delete = world.deletion(key, version);
    match world.submit(SessionCommand::DeleteObject(delete)) {
        Reply::Deleted {
            existed,
            version,
            delete_marker,
        } => (existed, version, delete_marker),
        other => panic!("not deleted: {other:?}"),
    }
}

/// Deletes without a version and answers the delete marker's name.
fn mark(world: &mut World, key: &str) -> VersionName {
    let (_, version, delete_marker) = delete(world, key, None);
    assert!(delete_marker);
    version.expect("a delete marker")
}

/// Entity tag of what is current.
fn current(world: &World, key: &str) -> Option<String> {
    world.object(key).map(|found| found.version.etag.to_string())
}

fn tag(of: u64) -> Option<String> {
    Some(etag(of).to_string())
}

#[test]
fn versioning_is_a_setting_that_can_be_suspended_and_not_taken_away() {
    let mut world = World::new();
    let set = |world: &World, versioning| SessionCommand::SetVersioning {
        actor: ROOT,
        bucket: world.bucket,
        versioning,
    };
    let off = set(&world, Off);
    assert!(matches!(world.refused(off), Rejection::Invalid(_)));
    let before = world.bucket;
    world.set_versioning(Enabled);
    assert_ne!(world.bucket, before, "a change of settings");
    let again = world.bucket;
    world.set_versioning(Enabled);
    assert_eq!(world.bucket, again, "no change");
    world.bucket = before;
    let stale = set(&world, Suspended);
    assert_eq!(world.refused(stale), Rejection::StaleSettings);
}

#[test]
fn a_removed_delete_marker_brings_back_what_it_hid() {
    let mut world = World::new();
    world.put("key", 1, 10);
    world.set_versioning(Enabled);
    let second = world.put("key", 2, MIB);
    let marker = mark(&mut world, "key");
    let above = mark(&mut world, "key");
    assert!(matches!(world.found("key", None), Found::DeleteMarker(row) if row.name() == above));
    assert!(matches!(world.found("key", Some(marker)), Found::DeleteMarker(_)));
    assert_eq!(
        delete(&mut world, "key", Some(marker)),
        (true, Some(marker), true)
    );
    assert_eq!(current(&world, "key"), None);
    assert_eq!(delete(&mut world, "key", Some(above)), (true, Some(above), true));
    assert_eq!(current(&world, "key"), tag(2));
    let second = VersionName::Id(second);
    assert_eq!(
        delete(&mut world, "key", Some(second)),
        (true, Some(second), false)
    );
    assert_eq!(current(&world, "key"), tag(1));
    assert_eq!(
        delete(&mut world, "key", Some(second)),
        (false, Some(second), false)
    );
    let null = Some(VersionName::Null);
    assert_eq!(delete(&mut world, "key", null), (true, null, false));
    assert_eq!(world.usage(), BucketUsageRow::default());
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn while_suspended_only_the_null_version_is_replaced() {
    let mut world = World::new();
    world.set_versioning(Enabled);
    let kept = world.put("key", 1, 10);
    world.set_versioning(Suspended);
    let null = Some(VersionName::Null);
    for put in 2..4 {
        world.put("key", put, 20);
        let usage = world.usage();
        assert_eq!((usage.objects, usage.versions, usage.bytes), (1, 2, 30));
    }
    assert_eq!(mark(&mut world, "key"), VersionName::Null);
    let usage = world.usage();
    assert_eq!((usage.objects, usage.versions, usage.delete_markers), (0, 1, 1));
    assert_eq!(mark(&mut world, "key"), VersionName::Null);
    assert_eq!(world.usage(), usage, "a null delete marker replaces the other");
    world.put("key", 4, 5);
    assert_eq!(world.usage().delete_markers, 0);
    world.set_versioning(Enabled);
    world.put("key", 5, 6);
    assert_eq!(current(&world, "key"), tag(5));
    assert_eq!(delete(&mut world, "key", null), (true, null, false));
    assert!(matches!(world.found("key", null), Found::Nothing));
    assert!(matches!(
        world.found("key", Some(VersionName::Id(kept))),
        Found::Object(_)
    ));
}

#[test]
fn a_delete_marker_counts_as_absent_in_conditions() {
    let mut world = World::new();
    world.set_versioning(Enabled);
    let first = world.put("key", 1, 10);
    mark(&mut world, "key");
    let absent = Conditions {
        if_match: None,
        if_none_match: Some(EtagMatch::Any),
    };
    let present = Conditions {
        if_match: Some(EtagMatch::Any),
        if_none_match: None,
    };
    let with = |world: &World, conditions: &Conditions, version| {
        SessionCommand::DeleteObject(DeleteObject {
            conditions: conditions.clone(),
            ..world.deletion("key", version)
        })
    };
    // Whatever is named, conditions are on what is current.
    for version in [None, Some(VersionName::Id(first))] {
        let refused = with(&world, &present, version);
        assert_eq!(world.refused(refused), Rejection::NoSuchKey);
    }
    let body = world.inline(3);
    let mut put = world.finalize("key", 2, body);
    put.conditions = absent;
    world.stored(SessionCommand::FinalizeObject(put));
    let deleted = with(&world, &present, Some(VersionName::Id(first)));
    assert!(matches!(
        world.submit(deleted),
        Reply::Deleted { existed: true, .. }
    ));
}

#[test]
fn an_old_version_is_copied_over_the_current_one_without_its_bytes() {
    for bytes in [0, 100, MIB] {
        let mut world = World::new();
        world.set_versioning(Enabled);
        let old = world.put("key", 1, bytes);
        world.put("key", 2, 7);
        let chunks = world.count(Column::Chunks);
        let copy = world.copy_of("key", CopySource::Named(old), "key");
        world.stored(SessionCommand::CopyObject(copy));
        assert_eq!(current(&world, "key"), tag(1));
        assert_eq!(world.count(Column::Chunks), chunks);
        assert_eq!(world.usage().versions, 3);
        let gone = Some(VersionName::Id(old));
        delete(&mut world, "key", gone);
        world.drain();
        assert_eq!(current(&world, "key"), tag(1), "the copy outlives the version");
        let gone = world.copy_of("key", CopySource::Named(old), "key");
        let refused = world.refused(SessionCommand::CopyObject(gone));
        assert_eq!(refused, Rejection::SourceChanged);
    }
}

#[test]
fn the_null_version_copied_onto_itself_keeps_its_bytes_only_if_it_is_replaced() {
    for versioning in [Enabled, Suspended] {
        let mut world = World::new();
        world.put("key", 1, MIB);
        world.set_versioning(versioning);
        let copy = world.copy("key", "key");
        world.stored(SessionCommand::CopyObject(copy));
        let versions = if versioning == Enabled { 2 } else { 1 };
        assert_eq!(world.usage().versions, versions);
        let content = world.object("key").expect("stored").version.content;
        assert_eq!(matches!(content, Content::Shared(_)), versioning == Enabled);
    }
}

#[test]
fn a_completed_upload_is_a_version_and_says_so_again() {
    let mut world = World::new();
    world.put("key", 1, 10);
    world.set_versioning(Enabled);
    let upload = world.upload("key");
    let parts = [world.part("key", upload, 1, 5, MIB)];
    let manifest = world.begin_complete("key", upload, &parts);
    let complete = SessionCommand::CompleteUpload(world.complete_upload("key", upload, manifest, 3));
    let version = world.stored(complete.clone());
    world.set_versioning(Suspended);
    let SessionCommand::CompleteUpload(mut again) = complete else {
        panic!("as made above")
    };
    again.bucket = world.bucket;
    let reply = world.submit(SessionCommand::CompleteUpload(again));
    let expected = Some(VersionName::Id(version));
    assert!(matches!(reply, Reply::Stored { name, .. } if name == expected));
    assert_eq!(world.usage().versions, 2);
}

#[test]
fn a_bucket_with_nothing_but_a_delete_marker_is_not_empty() {
    let mut world = World::new();
    world.set_versioning(Enabled);
    let marker = mark(&mut world, "key");
    let bucket = SessionCommand::DeleteBucket {
        actor: ROOT,
        bucket: world.bucket,
    };
    assert_eq!(world.refused(bucket.clone()), Rejection::BucketNotEmpty);
    delete(&mut world, "key", Some(marker));
    world.done(bucket);
}

/// What is asked of rows of versions while there are `versions` of a key.
fn costs(versions: u64, versioning: crate::namespace::rows::Versioning) -> Vec<(usize, usize, usize)> {
    let mut world = World::new();
    world.checked = false;
    world.put("key", 1, 10);
    world.set_versioning(Enabled);
    let ids: Vec<VersionId> = (0..versions).map(|tag| world.put("key", 2 + tag, 10)).collect();
    world.set_versioning(versioning);
    let body = world.inline(100);
    let put = SessionCommand::FinalizeObject(world.finalize("key", 9, body));
    let chunks = world.chunked(MIB);
    let put_chunks = SessionCommand::FinalizeObject(world.finalize("key", 9, chunks));
    let named = |version| SessionCommand::DeleteObject(world.deletion("key", version));
    let newest = ids.last().copied().map(VersionName::Id);
    let commands = [
        put,
        put_chunks,
        named(None),
        named(Some(VersionName::Null)),
        named(newest),
    ];
    let cost = commands.map(|command| command_cost(&world, 5000, command));
    cost.to_vec()
}

#[test]
fn what_a_write_costs_does_not_grow_with_the_versions() {
    for versioning in [Enabled, Suspended] {
        let few = costs(2, versioning);
        assert_eq!(few, costs(300, versioning));
    }
    // Outcome, live, whether a blob is new; live, version, chunk.
    assert_eq!(costs(3, Enabled)[..2], [(2, 0, 2), (3, 0, 3)]);
    // Marker: outcome, live; version, live. The null version: and its row, twice; its row.
    // The newest: and its row, one row of the next; version, live.
    assert_eq!(costs(3, Enabled)[2..], [(2, 0, 2), (4, 0, 1), (3, 1, 2)]);
    // And the null version's row, twice, which leads to the new one then.
    assert_eq!(costs(3, Suspended)[..2], [(4, 0, 3), (5, 0, 4)]);
}

fn page(
    world: &World,
    prefix: &str,
    delimiter: &str,
    after: Option<(&str, Option<VersionName>)>,
) -> VersionsRequest {
    VersionsRequest {
        bucket: world.bucket.bucket,
        prefix: prefix.to_owned(),
        delimiter: delimiter.to_owned(),
        after: after.map(|(key, name)| (key.to_owned(), name)),
        limit: LIST_PAGE_KEYS_MAX,
    }
}

fn list(world: &World, request: VersionsRequest) -> VersionsReply {
    match world.ask(&Query::Versions(request)) {
        Answer::Versions(reply) => reply,
        other => panic!("no versions: {other:?}"),
    }
}

/// `key` for an object, `-key` for a delete marker, with `*` behind the latest.
fn shown(reply: &VersionsReply) -> Vec<String> {
    let one = |(key, is_latest, row): &(String, bool, ListedVersion)| {
        let marker = if matches!(row, ListedVersion::DeleteMarker(_)) {
            "-"
        } else {
            ""
        };
        format!("{marker}{key}{}", if *is_latest { "*" } else { "" })
    };
    reply.versions.iter().map(one).collect()
}

#[test]
fn versions_are_listed_by_key_and_newest_first_and_folded_into_prefixes() {
    let mut world = World::new();
    world.put("a", 1, 10);
    world.put("a\0b", 1, 10);
    world.set_versioning(Enabled);
    for key in ["a", "dir/x", "dir/x", "dir/y", "z"] {
        world.put(key, 2, 10);
    }
    mark(&mut world, "dir/x");
    mark(&mut world, "a");
    let all = list(&world, page(&world, "", "", None));
    let expected = [
        "-a*", "a", "a", "a\0b*", "-dir/x*", "dir/x", "dir/x", "dir/y*", "z*",
    ];
    assert_eq!(
        (shown(&all), all.next),
        (expected.map(str::to_owned).into(), None)
    );
    let folded = list(&world, page(&world, "", "/", None));
    assert_eq!(shown(&folded), ["-a*", "a", "a", "a\0b*", "z*"]);
    assert_eq!(folded.common_prefixes, ["dir/"]);
    let below = list(&world, page(&world, "dir/", "/", None));
    assert_eq!(shown(&below), ["-dir/x*", "dir/x", "dir/x", "dir/y*"]);
    for (after, expected) in [
        (("a", None), vec!["a\0b*", "z*"]),
        (("dir/", None), vec!["z*"]),
        (("dir/x", None), vec!["z*"]),
        (("Z", None), vec!["-a*", "a", "a", "a\0b*", "z*"]),
        (("z", None), vec![]),
    ] {
        let rest = list(&world, page(&world, "", "/", Some(after)));
        assert_eq!(shown(&rest), expected, "after {after:?}");
    }
    assert_eq!(
        shown(&list(&world, page(&world, "dir/x", "", Some(("b", None))))).len(),
        3
    );
    assert_eq!(
        shown(&list(&world, page(&world, "dir/x", "", Some(("e", None))))).len(),
        0
    );
    let none = VersionsRequest {
        limit: 0,
        ..page(&world, "", "", None)
    };
    assert_eq!(list(&world, none), VersionsReply::default());
}

#[test]
fn pages_of_any_size_make_up_the_whole_listing() {
    let mut world = World::new();
    world.put("b", 1, 10);
    world.set_versioning(Enabled);
    for key in ["a", "b", "b", "d/1", "d/2", "e"] {
        world.put(key, 2, 10);
    }
    mark(&mut world, "b");
    for delimiter in ["", "/"] {
        let whole = list(&world, page(&world, "", delimiter, None));
        for limit in 1..10 {
            let (mut versions, mut prefixes, mut after) = (Vec::new(), Vec::new(), None);
            loop {
                let request = VersionsRequest {
                    after,
                    limit,
                    ..page(&world, "", delimiter, None)
                };
                let reply = list(&world, request);
                assert!(reply.versions.len() + reply.common_prefixes.len() <= limit);
                versions.extend(reply.versions);
                prefixes.extend(reply.common_prefixes);
                after = reply.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!((&versions, &prefixes), (&whole.versions, &whole.common_prefixes));
        }
    }
}

#[test]
fn a_listing_goes_on_where_versions_were_deleted_meanwhile() {
    let mut world = World::new();
    world.set_versioning(Enabled);
    let oldest = world.put("key", 1, 10);
    world.set_versioning(Suspended);
    world.put("key", 2, 10);
    world.set_versioning(Enabled);
    let newest = world.put("key", 3, 10);
    let rest = |world: &World, name| shown(&list(world, page(world, "", "", Some(("key", Some(name))))));
    assert_eq!(rest(&world, VersionName::Id(newest)), ["key", "key"]);
    assert_eq!(rest(&world, VersionName::Null), ["key"]);
    delete(&mut world, "key", Some(VersionName::Id(newest)));
    assert_eq!(rest(&world, VersionName::Id(newest)), ["key*", "key"]);
    delete(&mut world, "key", Some(VersionName::Null));
    assert_eq!(
        rest(&world, VersionName::Null),
        ["key*"],
        "rather twice than not at all"
    );
    delete(&mut world, "key", Some(VersionName::Id(oldest)));
    assert_eq!(rest(&world, VersionName::Null), Vec::<String>::new());
}

/// Counts rows that scans visit.
struct Visited<'a, R> {
    below: &'a R,
    rows: Cell<usize>,
}

impl<R: Read> Read for Visited<'_, R> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.below.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.below.scan(column, range, direction, &mut |key, value| {
            self.rows.set(self.rows.get() + 1);
            visit(key, value)
        })
    }
}

#[test]
fn a_page_looks_at_few_rows_more_than_it_shows() {
    let mut world = World::new();
    world.checked = false;
    for key in 0..20 {
        world.put(&format!("d{key:02}/x"), 1, 0);
    }
    world.set_versioning(Enabled);
    for _ in 0..50 {
        for key in 0..20 {
            world.put(&format!("d{key:02}/x"), 2, 0);
        }
    }
    for (delimiter, limit) in [("", 10), ("", 500), ("/", 10)] {
        let request = VersionsRequest {
            limit,
            ..page(&world, "", delimiter, None)
        };
        let visited = Visited {
            below: &world.rows,
            rows: Cell::new(0),
        };
        crate::namespace::list_versions::list(&visited, &request).expect("listed");
        // One beyond, and where the null version of each key is.
        assert!(
            visited.rows.get() <= limit + 1 + limit / 50 + 1,
            "{} rows",
            visited.rows.get()
        );
    }
}

#[test]
fn row_keys_of_versions_survive_the_round_trip() {
    let bucket = crate::ids::BucketId(7);
    let version = VersionId {
        order: 5,
        random: u64::MAX,
    };
    for key in ["a", "\0", "a\0\u{1}b", "ä\0"] {
        for version in [Some(version), None] {
            let row_key = match version {
                Some(version) => keys::version(bucket, key, version),
                None => keys::null_version(bucket, key),
            };
            let parsed = VersionKey {
                bucket,
                key: key.to_owned(),
                version,
            };
            assert_eq!(keys::parse_version(&row_key), Some(parsed));
            assert_eq!(keys::parse_version(&row_key[..row_key.len() - 1]), None);
        }
    }
}
