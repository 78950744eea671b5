//! Buckets.

use super::world::{ROOT, World};
use crate::cluster_time::WallTime;
use crate::command::{Actor, Reply, SessionCommand};
use crate::ids::{BucketId, UserId};
use crate::limits::BUCKET_DOCUMENT_BYTES_MAX;
use crate::namespace::bucket::{self, Totals};
use crate::namespace::rows::{BucketAccess, BucketDocumentKind, Quota, ROOT_USER};
use crate::rejection::Rejection;
use crate::store::Column;
use crate::wire::metad::{Answer, Query};

fn create(name: &str) -> SessionCommand {
    SessionCommand::CreateBucket {
        actor: ROOT,
        name: name.to_owned(),
        region: "us-east-1".to_owned(),
        access: BucketAccess::default(),
        now: WallTime(1),
    }
}

fn delete(world: &World) -> SessionCommand {
    SessionCommand::DeleteBucket {
        actor: ROOT,
        bucket: world.bucket,
    }
}

#[test]
fn a_name_is_taken_until_its_bucket_is_deleted_and_never_leads_to_the_old_one() {
    let mut world = World::new();
    let old = world.bucket;
    let exists = Rejection::BucketExists {
        bucket: old.bucket,
        creator: ROOT_USER,
    };
    assert_eq!(world.refused(create("first")), exists);
    let command = delete(&world);
    world.done(command.clone());
    assert_eq!(world.refused(command), Rejection::NoSuchBucket);
    assert_eq!(world.count(Column::Buckets), 0);
    let new = world.make_bucket("first");
    assert_ne!(new.bucket, old.bucket);
    let stale = world.finalize("key", 1, crate::command::Body::Empty);
    assert_eq!(
        world.refused(SessionCommand::FinalizeObject(stale)),
        Rejection::NoSuchBucket
    );
}

#[test]
fn a_bucket_with_objects_or_open_uploads_is_not_deleted() {
    let mut world = World::new();
    world.make_bucket("second");
    world.put("key", 1, 10);
    let command = delete(&world);
    assert_eq!(world.refused(command.clone()), Rejection::BucketNotEmpty);
    world.delete("key");
    let upload = world.upload("key");
    assert_eq!(world.refused(command.clone()), Rejection::BucketNotEmpty);
    let part = world.part("key", upload, 1, 1, 10);
    world.complete("key", upload, &[part], 2);
    assert_eq!(world.refused(command.clone()), Rejection::BucketNotEmpty);
    world.delete("key");
    let upload = world.upload("key");
    let abort = world.abort("key", upload);
    world.done(abort);
    let mut stale = command.clone();
    if let SessionCommand::DeleteBucket { bucket, .. } = &mut stale {
        bucket.settings_version += 1;
    }
    assert_eq!(world.refused(stale), Rejection::StaleSettings);
    world.done(command);
    world.drain();
    world.assert_nothing_stored();
}

#[test]
fn documents_are_kept_raise_the_settings_version_and_go_with_their_bucket() {
    let mut world = World::new();
    let name = "first";
    let read = |world: &World, kind| {
        let bucket = world.bucket.bucket;
        match world.ask(&Query::BucketDocument { bucket, kind }) {
            Answer::BucketDocument(document) => document,
            other => panic!("{other:?}"),
        }
    };
    for (number, kind) in BucketDocumentKind::ALL.into_iter().enumerate() {
        let text = format!("document {number}");
        assert_eq!(read(&world, kind), None);
        let delete = world.document(kind, None);
        world.done(delete);
        assert_eq!(
            world.bucket_named(name).0,
            world.bucket,
            "nothing was there to delete"
        );
        let set = world.document(kind, Some(&text));
        world.done(set.clone());
        assert_eq!(world.refused(set), Rejection::StaleSettings);
        assert_eq!(read(&world, kind), Some(text.clone()));
        let (changed, judged) = world.bucket_named(name);
        assert!(changed.settings_version > world.bucket.settings_version);
        assert_eq!(judged.contains(&(kind, text.clone())), kind.is_judged_by());
        world.bucket = changed;
        let again = world.document(kind, Some(&text));
        world.done(again);
        assert_eq!(world.bucket_named(name).0, changed, "it was there already");
    }
    let stale = world.bucket;
    let delete_one = world.document(BucketDocumentKind::Cors, None);
    world.done(delete_one);
    assert_eq!(read(&world, BucketDocumentKind::Cors), None);
    assert!(read(&world, BucketDocumentKind::Policy).is_some());
    world.bucket = world.bucket_named(name).0;
    assert_ne!(world.bucket, stale);
    let command = delete(&world);
    world.done(command);
    assert_eq!(world.count(Column::Buckets), 0);
    let gone = world.document(BucketDocumentKind::Cors, Some("x"));
    assert_eq!(world.refused(gone), Rejection::NoSuchBucket);
}

#[test]
fn documents_are_bounded() {
    let mut world = World::new();
    for (bytes, fits) in [
        (0, false),
        (1, true),
        (BUCKET_DOCUMENT_BYTES_MAX, true),
        (BUCKET_DOCUMENT_BYTES_MAX + 1, false),
    ] {
        let set = world.document(BucketDocumentKind::Policy, Some(&"x".repeat(bytes)));
        if fits {
            world.done(set);
            world.bucket = world.bucket_named("first").0;
        } else {
            assert!(
                matches!(world.refused(set), Rejection::Invalid(_)),
                "{bytes} bytes"
            );
        }
    }
    let nobody = Actor {
        user: UserId(77),
        settings_version: 1,
    };
    let mut command = world.document(BucketDocumentKind::Policy, None);
    if let SessionCommand::SetBucketDocument { actor, .. } = &mut command {
        *actor = nobody;
    }
    assert_eq!(world.refused(command), Rejection::StaleSettings);
}

#[test]
fn a_quota_is_not_gone_beyond_and_what_is_beyond_it_may_shrink() {
    let mut world = World::new();
    world.put("a", 1, 3000);
    let set = |world: &mut World, bytes, objects| {
        let bucket = world.bucket.bucket;
        let quota = Quota { bytes, objects };
        world.done(SessionCommand::SetBucketQuota { bucket, quota });
        let (now, _) = world.bucket_named("first");
        assert!(now.settings_version > world.bucket.settings_version);
        world.bucket = now;
        world.done(SessionCommand::SetBucketQuota { bucket, quota });
        assert_eq!(world.bucket_named("first").0, now, "it was so already");
    };
    let try_put = |world: &mut World, key: &str, bytes| {
        let body = world.body(bytes);
        let finalize = world.finalize(key, 7, body);
        match world.submit(SessionCommand::FinalizeObject(finalize)) {
            Reply::Stored { .. } => true,
            Reply::Refused(Rejection::QuotaExceeded) => false,
            other => panic!("{other:?}"),
        }
    };
    set(&mut world, Some(4000), None);
    assert!(try_put(&mut world, "b", 1000));
    assert!(!try_put(&mut world, "c", 1));
    assert!(try_put(&mut world, "c", 0), "an empty object takes no bytes");
    assert!(try_put(&mut world, "a", 3000), "in place of as much");
    assert!(!try_put(&mut world, "a", 3001));
    set(&mut world, Some(100), Some(3));
    assert!(try_put(&mut world, "a", 2999), "less than before");
    assert!(!try_put(&mut world, "d", 0), "one object more");
    let upload = world.upload("e");
    let too_much = world.chunked(10);
    let part = world.finalize_part("e", upload, 1, 1, too_much);
    assert_eq!(world.refused(part), Rejection::QuotaExceeded, "parts count too");
    set(&mut world, Some(1 << 20), Some(3));
    let part = world.part("e", upload, 1, 1, 10);
    assert_eq!((world.usage().part_bytes, world.usage().held_bytes()), (10, 4009));
    let slice = world.complete_slice("e", upload, None, &[part], true);
    let Reply::Manifest { manifest, .. } = world.submit(slice) else {
        panic!("no manifest");
    };
    let complete = SessionCommand::CompleteUpload(world.complete_upload("e", upload, manifest, 2));
    assert_eq!(world.refused(complete), Rejection::QuotaExceeded);
    let copy = SessionCommand::CopyObject(world.copy("a", "f"));
    assert_eq!(world.refused(copy), Rejection::QuotaExceeded);
    assert!(world.delete("a"));
    assert!(world.delete("b"));
    set(&mut world, Some(5), None);
    let complete = SessionCommand::CompleteUpload(world.complete_upload("e", upload, manifest, 2));
    assert!(
        matches!(world.submit(complete), Reply::Stored { .. }),
        "there is room now, and the bytes were there already"
    );
    assert_eq!((world.usage().part_bytes, world.usage().bytes), (0, 10));
    let upload = world.upload("f");
    set(&mut world, Some(30), None);
    world.part("f", upload, 1, 1, 20);
    let abort = world.abort("f", upload);
    world.done(abort);
    assert_eq!(world.usage().held_bytes(), 10, "what is aborted counts no longer");
    let gone = SessionCommand::SetBucketQuota {
        bucket: BucketId(77),
        quota: Quota::default(),
    };
    assert_eq!(world.refused(gone), Rejection::NoSuchBucket);
}

#[test]
fn buckets_are_added_up_by_what_is_used_of_their_quotas() {
    let mut world = World::new();
    world.put("a", 1, 899);
    let count = |world: &mut World, bytes, objects| {
        let bucket = world.bucket.bucket;
        let quota = Quota { bytes, objects };
        world.done(SessionCommand::SetBucketQuota { bucket, quota });
        let totals = bucket::totals(&world.rows, 10).unwrap();
        assert_eq!((totals.usage.objects, totals.usage.bytes), (1, 899));
        let Totals {
            without_quota,
            within_quota,
            near_quota,
            full,
            ..
        } = totals;
        [without_quota, within_quota, near_quota, full]
    };
    assert_eq!(count(&mut world, None, None), [1, 0, 0, 0]);
    assert_eq!(count(&mut world, Some(1000), None), [0, 1, 0, 0]);
    assert_eq!(count(&mut world, Some(998), None), [0, 0, 1, 0]);
    assert_eq!(count(&mut world, Some(u64::MAX), None), [0, 1, 0, 0]);
    assert_eq!(count(&mut world, Some(1000), Some(1)), [0, 0, 0, 1]);
    assert_eq!(count(&mut world, Some(0), None), [0, 0, 0, 1]);
    assert_eq!(bucket::totals(&world.rows, 0).unwrap(), Totals::default());
}

#[test]
fn names_are_bounded_and_buckets_are_counted() {
    let mut world = World::new();
    for name in ["", &"b".repeat(64)] {
        assert!(matches!(world.refused(create(name)), Rejection::Invalid(_)));
    }
    let count = crate::namespace::keys::bucket_count(ROOT_USER);
    let full = crate::limits::BUCKETS_PER_USER.to_be_bytes().to_vec();
    world.checked = false;
    world.rows.apply([crate::store::Change {
        column: Column::Buckets,
        key: count,
        value: Some(full.into()),
    }]);
    assert_eq!(world.refused(create("another")), Rejection::TooManyBuckets);
}

#[test]
fn buckets_are_listed_by_name_in_pages() {
    let mut world = World::new();
    for name in ["b", "a", "ab", "c"] {
        world.make_bucket(name);
    }
    let names = |prefix: &str, after: Option<&str>, limit| {
        let query = Query::Buckets {
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            limit,
        };
        match world.ask(&query) {
            Answer::Buckets(rows, more) => (rows.into_iter().map(|row| row.name).collect::<Vec<_>>(), more),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        names("", None, 9),
        (
            vec!["a", "ab", "b", "c", "first"]
                .into_iter()
                .map(String::from)
                .collect(),
            false
        )
    );
    assert_eq!(
        names("", Some("ab"), 2),
        (vec!["b".to_owned(), "c".to_owned()], true)
    );
    assert_eq!(
        names("a", None, 2),
        (vec!["a".to_owned(), "ab".to_owned()], false)
    );
    assert_eq!(names("b", Some("a"), 2), (vec!["b".to_owned()], false));
    assert_eq!(names("b", Some("z"), 2), (Vec::new(), false));
    assert_eq!(names("", None, 0), (Vec::new(), false));
}

#[test]
fn the_objects_of_a_user_are_found_bucket_by_bucket() {
    let mut world = World::new();
    world.put("a", 1, 0);
    world.put("b", 2, 10);
    world.make_bucket("empty");
    world.bucket = world.make_bucket("zebra");
    world.put("c", 3, 0);
    for limit in 1..9 {
        let mut found = Vec::new();
        let mut after = None;
        for _ in 0..20 {
            let query = Query::UserObjects {
                user: ROOT_USER,
                after,
                limit,
            };
            let Answer::UserObjects(page, next) = world.ask(&query) else {
                panic!()
            };
            found.extend(page.into_iter().map(|(bucket, key, _)| format!("{bucket}/{key}")));
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, ["first/a", "first/b", "zebra/c"], "limit {limit}");
    }
    let nobody = Query::UserObjects {
        user: UserId(9),
        after: None,
        limit: 9,
    };
    assert_eq!(world.ask(&nobody), Answer::UserObjects(Vec::new(), None));
    assert!(matches!(world.submit(create("last")), Reply::Bucket(_)));
}
