//! What is found under a name, and what listings show, against what must be there.

use super::{Kept, Model};
use crate::ids::VersionName;
use crate::namespace::rows::{Etag, VersionRow};
use crate::namespace::tests::world::covered;
use crate::namespace::{parts, query};
use crate::wire::metad::{
    Answer, ByteRange, Found, ListRequest, ListedVersion, PageSize, Query, VersionsRequest,
};

impl Model {
    /// What is found under a name is what must be there, with all its bytes.
    pub(super) fn compare_found(&self, key: &str, name: Option<VersionName>, kept: Option<&Kept>) {
        let whole = ByteRange::From {
            first: 0,
            bytes: u64::MAX,
        };
        let bucket = self.world.bucket.bucket;
        let range = Some((whole, PageSize(64)));
        let found = query::object(&self.world.rows, bucket, key, name, range).expect("readable");
        let found = match found {
            Found::Nothing => None,
            Found::DeleteMarker(row) => Some(Kept {
                name: row.name(),
                id: row.version,
                object: None,
            }),
            Found::Object(found) => {
                let located = covered(0, &found.spans);
                assert!(located == found.version.bytes || found.spans.len() == 64);
                let tags = self.tags.get(&found.version.version).cloned().unwrap_or_default();
                assert_eq!(found.version.metadata.tags, tags);
                self.compare_parts(&found.version);
                Some(Kept {
                    name: found.version.name(),
                    id: found.version.version,
                    object: Some((found.version.etag, found.version.bytes)),
                })
            }
        };
        assert_eq!(found.as_ref(), kept, "{key:?} {name:?}");
    }

    /// Parts follow each other and are as many as the entity tag says.
    fn compare_parts(&self, version: &VersionRow) {
        let of = match version.etag {
            Etag::Md5(_) => None,
            Etag::Multipart(_, parts) => Some(parts),
        };
        let mut end = 0;
        for number in 1..=of.unwrap_or(1) {
            let part = parts::one(&self.world.rows, version, number).expect("readable");
            let part = part.expect("there");
            assert_eq!((part.of, part.part.offset), (of, end));
            end += part.part.bytes;
        }
        assert_eq!(end, version.bytes);
        let behind = parts::one(&self.world.rows, version, of.unwrap_or(1) + 1);
        assert_eq!(behind.expect("readable"), None);
    }

    /// Live keys, and versions in pages of two, are listed in their order.
    pub(super) fn compare_listings(&self) {
        let list = Query::List(ListRequest {
            bucket: self.world.bucket.bucket,
            prefix: String::new(),
            delimiter: String::new(),
            after: None,
            limit: 1000,
        });
        let Answer::List(page) = self.world.ask(&list) else {
            panic!("no listing");
        };
        let listed = page
            .objects
            .iter()
            .map(|(key, row)| (key.as_str(), (row.etag, row.bytes)));
        let live = self
            .keys
            .keys()
            .filter_map(|key| Some((*key, self.current(key)?)));
        assert!(listed.eq(live));

        let mut after = None;
        let mut listed = Vec::new();
        loop {
            let request = VersionsRequest {
                bucket: self.world.bucket.bucket,
                prefix: String::new(),
                delimiter: String::new(),
                after,
                limit: 2,
            };
            let Answer::Versions(page) = self.world.ask(&Query::Versions(request)) else {
                panic!("no versions");
            };
            listed.extend(page.versions.into_iter().map(|(key, is_latest, row)| {
                let kept = match row {
                    ListedVersion::Object(row) => Kept {
                        name: row.name(),
                        id: row.version,
                        object: Some((row.etag, row.bytes)),
                    },
                    ListedVersion::DeleteMarker(row) => Kept {
                        name: row.name(),
                        id: row.version,
                        object: None,
                    },
                };
                (key, is_latest, kept)
            }));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let kept = self.keys.iter().flat_map(|(key, versions)| {
            let numbered = versions.iter().enumerate();
            numbered.map(|(at, kept)| ((*key).to_owned(), at == 0, *kept))
        });
        assert_eq!(listed, kept.collect::<Vec<_>>());
    }
}
