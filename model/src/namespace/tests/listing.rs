//! Listing against a naive lister over a sorted map.

use super::world::{World, etag};
use crate::cluster_time::WallTime;
use crate::ids::{BucketId, UserId, VersionId};
use crate::limits::LIST_PAGE_KEYS_MAX;
use crate::namespace::keys;
use crate::namespace::list::list;
use crate::namespace::rows::LiveRow;
use crate::store::{Change, Column, Direction, KeyRange, Memory, Read, StoreError, Visit};
use crate::wire::metad::{ListReply, ListRequest};
use bytes::Bytes;
use proptest::prelude::{ProptestConfig, Strategy, proptest};
use proptest::{collection, option, prop_assert, prop_assert_eq, sample};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

const BUCKET: BucketId = BucketId(0x0100);

fn live(key: &str) -> LiveRow {
    LiveRow {
        null: true,
        version: VersionId { order: 1, random: 2 },
        bytes: key.len() as u64,
        etag: etag(1),
        modified: WallTime(1),
        class: "STANDARD".to_owned(),
        checksum: None,
        creator: UserId(0),
    }
}

/// The keys in `BUCKET`, between two buckets whose keys must never show.
fn table<'a>(keys: impl IntoIterator<Item = &'a String>) -> Memory {
    let mut rows = Memory::default();
    let mut add = |bucket, key: &str| {
        rows.apply([Change {
            column: Column::Live,
            key: keys::live(bucket, key),
            value: Some(crate::codec::encode(&live(key))),
        }]);
    };
    for other in [BUCKET.0 - 1, BUCKET.0 + 1] {
        for key in ["\0", "a", "a/b", "\u{10FFFF}"] {
            add(BucketId(other), key);
        }
    }
    for key in keys {
        add(BUCKET, key);
    }
    rows
}

/// What the listing must be, made from all keys.
fn naive(keys: &BTreeSet<String>, request: &ListRequest) -> ListReply {
    let mut entries: Vec<(String, bool)> = Vec::new();
    for key in keys {
        let Some(rest) = key.strip_prefix(&request.prefix) else {
            continue;
        };
        let folded = match rest.find(&request.delimiter) {
            Some(at) if !request.delimiter.is_empty() => {
                let end = request.prefix.len() + at + request.delimiter.len();
                (key[..end].to_owned(), true)
            }
            _ => (key.clone(), false),
        };
        if entries.last() != Some(&folded) {
            entries.push(folded);
        }
    }
    entries.retain(|(entry, _)| request.after.as_ref().is_none_or(|after| entry > after));
    let mut reply = ListReply::default();
    let more = request.limit > 0 && entries.len() > request.limit;
    entries.truncate(request.limit);
    reply.next = entries.last().filter(|_| more).map(|(entry, _)| entry.clone());
    for (entry, is_prefix) in entries {
        if is_prefix {
            reply.common_prefixes.push(entry);
        } else {
            let row = live(&entry);
            reply.objects.push((entry, row));
        }
    }
    reply
}

fn text(pieces: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let piece = sample::select(vec!["a", "b", "/", "\0", "\u{1}", "ä", "\u{10FFFF}", "a/"]);
    collection::vec(piece, pieces).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_listing_is_what_a_naive_one_is(
        keys in collection::btree_set(text(1..6), 0..40),
        prefix in text(0..3),
        delimiter in text(0..3),
        after in option::of(text(0..5)),
        limit in 0..12_usize,
    ) {
        let rows = table(&keys);
        let request = ListRequest { bucket: BUCKET, prefix, delimiter, after, limit };
        prop_assert_eq!(list(&rows, &request).expect("listed"), naive(&keys, &request));
    }

    #[test]
    fn pages_give_each_entry_exactly_once(
        keys in collection::btree_set(text(1..6), 0..40),
        prefix in text(0..2),
        delimiter in text(0..2),
        limit in 1..6_usize,
    ) {
        let rows = table(&keys);
        let mut request = ListRequest { bucket: BUCKET, prefix, delimiter, after: None, limit: 1000 };
        let whole = list(&rows, &request).expect("listed");
        request.limit = limit;
        let mut pages = ListReply::default();
        for _ in 0..=keys.len() {
            let page = list(&rows, &request).expect("listed");
            prop_assert!(page.objects.len() + page.common_prefixes.len() <= limit);
            pages.objects.extend(page.objects);
            pages.common_prefixes.extend(page.common_prefixes);
            request.after = page.next;
            if request.after.is_none() {
                break;
            }
        }
        prop_assert_eq!(pages, whole);
    }
}

/// Counts the rows that scans show.
struct Counting {
    below: Memory,
    rows: Cell<usize>,
}

impl Read for Counting {
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
fn a_listing_looks_at_one_row_for_each_entry_and_one_beyond() {
    let keys: Vec<String> = (0..50)
        .flat_map(|folder| (0..100).map(move |key| format!("{folder:02}/{key:02}")))
        .collect();
    let rows = Counting {
        below: table(&keys),
        rows: Cell::new(0),
    };
    let mut request = ListRequest {
        bucket: BUCKET,
        prefix: String::new(),
        delimiter: "/".to_owned(),
        after: None,
        limit: 30,
    };
    let page = list(&rows, &request).expect("listed");
    assert_eq!(
        (page.common_prefixes.len(), page.next.as_deref()),
        (30, Some("29/"))
    );
    assert_eq!(rows.rows.take(), 31);
    request.after = page.next;
    let page = list(&rows, &request).expect("listed");
    assert_eq!((page.common_prefixes.len(), page.next), (20, None));
    assert_eq!(rows.rows.take(), 20);
    request.delimiter = String::new();
    request.limit = usize::MAX;
    let page = list(&rows, &request).expect("listed");
    assert_eq!(page.objects.len(), LIST_PAGE_KEYS_MAX);
    assert_eq!(rows.rows.take(), LIST_PAGE_KEYS_MAX + 1);
}

#[test]
fn what_is_stored_is_listed_and_what_is_deleted_is_not() {
    let mut world = World::new();
    let keys = ["a", "a\0", "a\0b", "a/b", "b"];
    for (tag, key) in keys.into_iter().enumerate() {
        world.put(key, tag as u64, 10);
    }
    let request = ListRequest {
        bucket: world.bucket.bucket,
        prefix: String::new(),
        delimiter: String::new(),
        after: None,
        limit: 10,
    };
    let listed = |world: &World| {
        let found = list(&world.rows, &request).expect("listed").objects;
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(listed(&world), keys);
    world.delete("a\0");
    assert_eq!(listed(&world), ["a", "a\0b", "a/b", "b"]);
    let mut visits = 0;
    let all = world.rows.scan(
        Column::Versions,
        &KeyRange::all(),
        Direction::Forward,
        &mut |_, _| {
            visits += 1;
            ControlFlow::Continue(())
        },
    );
    all.expect("readable");
    assert_eq!(visits, 4);
}
