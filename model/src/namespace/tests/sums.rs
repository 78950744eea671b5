//! Sums and counts at their ends: who can drive them there is refused, and no replica ever stops over it.

use super::world::World;
use crate::command::SessionCommand;
use crate::limits::{BUCKET_BYTES_MAX, REFERENCES_MAX};
use crate::namespace::rows::{BlobRow, BucketUsageRow, Content};
use crate::namespace::{bucket, keys};
use crate::rejection::Rejection;
use crate::step::ReadRows;
use crate::store::Column;

#[test]
fn sums_at_their_ends_refuse_and_never_fail() {
    let mut world = World::new();
    world.checked = false;
    world.put("a", 1, 3000);
    let bucket = world.bucket.bucket;
    let holds = |world: &mut World, change: &dyn Fn(&mut BucketUsageRow)| {
        let mut usage = world.usage();
        change(&mut usage);
        world.set_row(Column::Buckets, keys::bucket_usage(bucket), &usage);
    };
    holds(&mut world, &|usage| usage.bytes = BUCKET_BYTES_MAX - 2999);
    let copy = SessionCommand::CopyObject(world.copy("a", "b"));
    assert_eq!(world.refused(copy), Rejection::QuotaExceeded);
    let upload = world.upload("c");
    let body = world.chunked(3000);
    let part = world.finalize_part("c", upload, 1, 1, body);
    assert_eq!(world.refused(part), Rejection::QuotaExceeded);
    holds(&mut world, &|usage| usage.bytes = BUCKET_BYTES_MAX - 3000);
    let copy = SessionCommand::CopyObject(world.copy("a", "b"));
    world.stored(copy);
    assert!(world.delete("a") && world.delete("b"));
    holds(&mut world, &|usage| usage.bytes = u64::MAX);
    world.make_bucket("second");
    assert_eq!(bucket::totals(&world.rows, 10).unwrap().usage.bytes, u64::MAX);
}

#[test]
fn bytes_that_are_referred_to_too_often_are_not_copied_again() {
    let mut world = World::new();
    world.checked = false;
    world.put("a", 1, 3000);
    let copy = SessionCommand::CopyObject(world.copy("a", "b"));
    world.stored(copy);
    let Content::Shared(extent) = world.object("a").unwrap().version.content else {
        panic!("not shared");
    };
    let key = keys::shared_blob(extent.blob);
    let mut row: BlobRow = world.rows.row(Column::Blobs, &key).unwrap().unwrap();
    row.references = REFERENCES_MAX - 1;
    world.set_row(Column::Blobs, key, &row);
    let copy = SessionCommand::CopyObject(world.copy("a", "c"));
    world.stored(copy);
    let copy = SessionCommand::CopyObject(world.copy("a", "d"));
    assert_eq!(world.refused(copy), Rejection::TooManyReferences);
    assert!(world.delete("c"));
    let copy = SessionCommand::CopyObject(world.copy("a", "d"));
    world.stored(copy);
}
