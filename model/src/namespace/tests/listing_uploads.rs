//! Listing uploads against a naive lister.

use super::world::World;
use crate::command::UploadRef;
use crate::ids::UploadId;
use crate::namespace::list_uploads::list;
use crate::wire::metad::{UploadsReply, UploadsRequest};
use proptest::prelude::{ProptestConfig, proptest};
use proptest::{collection, prop_assert, prop_assert_eq, sample};

const KEYS: [&str; 9] = ["a", "a\0", "a\0b", "a/", "a/b", "a/b/c", "ab", "b/a", "ä/x"];

/// What the listing must be, made from all open uploads, sorted.
fn naive(open: &[(String, UploadId)], request: &UploadsRequest) -> UploadsReply {
    let mut entries: Vec<(String, Option<UploadId>)> = Vec::new();
    for (key, upload) in open {
        let Some(rest) = key.strip_prefix(&request.prefix) else {
            continue;
        };
        let entry = match rest.find(&request.delimiter) {
            Some(at) if !request.delimiter.is_empty() => {
                let end = request.prefix.len() + at + request.delimiter.len();
                (key[..end].to_owned(), None)
            }
            _ => (key.clone(), Some(*upload)),
        };
        if entries.last() != Some(&entry) {
            entries.push(entry);
        }
    }
    if let Some((after, upload)) = &request.after {
        // After one upload: later ones of its key too. After a key or a prefix: neither any more.
        entries.retain(|(entry, id)| {
            entry > after || (entry == after && upload.is_some() && id.is_some() && id > upload)
        });
    }
    let more = request.limit > 0 && entries.len() > request.limit;
    entries.truncate(request.limit);
    let next = entries.last().filter(|_| more).cloned();
    let (mut uploads, mut common_prefixes) = (Vec::new(), Vec::new());
    for (entry, upload) in entries {
        match upload {
            Some(upload) => uploads.push(upload),
            None => common_prefixes.push(entry),
        }
    }
    // Rows are compared by their ids, see `check`.
    UploadsReply {
        uploads: uploads.into_iter().map(row).collect(),
        common_prefixes,
        next,
    }
}

fn row(upload: UploadId) -> crate::namespace::rows::UploadRow {
    crate::namespace::rows::UploadRow {
        upload,
        random: 0,
        bucket: crate::ids::BucketId(0),
        key: String::new(),
        creator: crate::ids::UserId(0),
        initiated: crate::cluster_time::WallTime(0),
        class: String::new(),
        metadata: crate::namespace::rows::Metadata::default(),
        checksum: None,
        generation: 0,
        part_bytes: 0,
        extents_beyond: 0,
        state: crate::namespace::rows::UploadState::Open,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn pages_of_uploads_are_what_a_naive_lister_says(
        begun in collection::vec(sample::select(KEYS.to_vec()), 0..12),
        aborted in collection::vec(sample::select(KEYS.to_vec()), 0..2),
        prefix in sample::select(vec!["", "a", "a/", "a\0", "c"]),
        delimiter in sample::select(vec!["", "/", "\0", "b"]),
        limit in 1..5_usize,
    ) {
        let mut world = World::new();
        world.checked = false;
        // Another bucket's uploads never show.
        let mine = world.bucket;
        world.bucket = world.make_bucket("other");
        world.upload("a/b");
        world.bucket = mine;
        let mut open: Vec<(String, UploadRef)> = Vec::new();
        for key in begun {
            let upload = world.upload(key);
            open.push((key.to_owned(), upload));
        }
        for key in aborted {
            if let Some(at) = open.iter().position(|(name, _)| name == key) {
                let (key, upload) = open.remove(at);
                let abort = world.abort(&key, upload);
                world.done(abort);
            }
        }
        let mut open: Vec<(String, UploadId)> = open.into_iter().map(|(key, name)| (key, name.upload)).collect();
        open.sort();
        let mut request = UploadsRequest {
            bucket: mine.bucket,
            prefix: prefix.to_owned(),
            delimiter: delimiter.to_owned(),
            after: None,
            limit,
        };
        for _ in 0..20 {
            let expected = naive(&open, &request);
            let got = list(&world.rows, &request).expect("readable");
            let ids = |reply: &UploadsReply| reply.uploads.iter().map(|row| row.upload).collect::<Vec<_>>();
            prop_assert_eq!(ids(&got), ids(&expected));
            prop_assert_eq!(&got.common_prefixes, &expected.common_prefixes);
            prop_assert_eq!(&got.next, &expected.next);
            match got.next {
                Some(next) => request.after = Some(next),
                None => return Ok(()),
            }
        }
        prop_assert!(false, "the listing does not end");
    }
}
