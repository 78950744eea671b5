//! Listing versions and delete markers: as objects are listed ([`super::list`]), but each key may have many, newest
//! first. What is looked at beside the entries of the answer is one row for each key at most: where its `null`
//! version is.

use crate::ids::{VersionId, VersionName};
use crate::limits::LIST_PAGE_KEYS_MAX;
use crate::namespace::list::{behind, common_prefix};
use crate::namespace::rows::{LiveRow, NullRow, VersionEntry};
use crate::namespace::{keys, version};
use crate::store::{KeyRange, Read, StoreError};
use crate::wire::metad::{ListedVersion, VersionsReply, VersionsRequest};
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// Lists the versions and delete markers of a bucket in the order of their keys, those of one key newest first. Common
/// prefixes count as entries. At most `limit` entries, one row beyond and one row per key are looked at, which is
/// within `limits::LIST_SCAN_ROWS_MAX`.
///
/// # Errors
/// When the store fails or a row does not decode.
pub fn list(rows: &impl Read, request: &VersionsRequest) -> Result<VersionsReply, StoreError> {
    let mut page = Page::new(request);
    if page.limit == 0 {
        return Ok(page.reply);
    }
    let whole = KeyRange::prefix(&keys::versions_with_prefix(request.bucket, &request.prefix));
    let mut next = page.start(rows)?;
    while let Some(start) = next.take() {
        version::scan(rows, &whole.clone().from(start), |key, entry| {
            match page.add(&key.key, entry) {
                After::NextRow => Ok(ControlFlow::Continue(())),
                After::Seek(bound) => {
                    next = bound;
                    Ok(ControlFlow::Break(()))
                }
                After::End => Ok(ControlFlow::Break(())),
            }
        })?;
    }
    Ok(page.reply)
}

/// How a scan goes on after a row.
enum After {
    /// With the next row.
    NextRow,
    /// From here on, behind a common prefix; not at all if nothing can follow.
    Seek(Option<Bound<Bytes>>),
    /// Not at all.
    End,
}

struct Page<'a> {
    request: &'a VersionsRequest,
    limit: usize,
    /// The key looked at last, if the newest of it was seen.
    key: Option<String>,
    /// The entry added last, as `after`.
    last: Option<(String, Option<VersionName>)>,
    /// The newest of the key in the midst of which the page begins.
    newest: Option<VersionId>,
    reply: VersionsReply,
}

impl<'a> Page<'a> {
    fn new(request: &'a VersionsRequest) -> Self {
        Self {
            request,
            limit: request.limit.min(LIST_PAGE_KEYS_MAX),
            key: None,
            last: None,
            newest: None,
            reply: VersionsReply::default(),
        }
    }

    /// Where to begin; `None` if nothing can follow.
    fn start(&mut self, rows: &impl Read) -> Result<Option<Bound<Bytes>>, StoreError> {
        let request = self.request;
        let first = || {
            Bound::Included(Bytes::from(keys::versions_with_prefix(
                request.bucket,
                &request.prefix,
            )))
        };
        let Some((key, name)) = &request.after else {
            return Ok(Some(first()));
        };
        if let Some(common) = self.common_prefix(key) {
            return Ok(behind(&keys::versions_with_prefix(request.bucket, common)));
        }
        if !key.starts_with(&request.prefix) && key.as_str() < request.prefix.as_str() {
            return Ok(Some(first()));
        }
        let Some(name) = name else {
            return Ok(behind(&keys::versions(request.bucket, key)));
        };
        self.within(rows, key, *name).map(Some)
    }

    /// Where to go on behind the version `name` of `key`. If its `null` version is asked for and is gone, with the
    /// newest of the key: rather twice than not at all.
    fn within(&mut self, rows: &impl Read, key: &str, name: VersionName) -> Result<Bound<Bytes>, StoreError> {
        let bucket = self.request.bucket;
        let after = match name {
            VersionName::Id(version) => keys::version(bucket, key, version),
            VersionName::Null => match version::null_row(rows, bucket, key)? {
                Some(NullRow::Here(_)) => keys::null_version(bucket, key),
                Some(NullRow::At(version)) => keys::version(bucket, key, version),
                None => return Ok(Bound::Included(Bytes::from(keys::versions(bucket, key)))),
            },
        };
        self.key = Some(key.to_owned());
        self.newest = version::newest(rows, bucket, key, None)?.map(|entry| entry.version());
        Ok(Bound::Excluded(after))
    }

    /// The common prefix that `key` is folded into.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        common_prefix(&self.request.prefix, &self.request.delimiter, key)
    }

    /// Takes one row.
    fn add(&mut self, key: &str, entry: VersionEntry) -> After {
        if self.reply.versions.len() + self.reply.common_prefixes.len() == self.limit {
            self.reply.next = self.last.take();
            return After::End;
        }
        if let Some(common) = self.common_prefix(key) {
            self.last = Some((common.to_owned(), None));
            self.reply.common_prefixes.push(common.to_owned());
            return After::Seek(behind(&keys::versions_with_prefix(self.request.bucket, common)));
        }
        let is_first = self.key.as_deref() != Some(key);
        let is_latest = is_first || self.newest == Some(entry.version());
        if is_first {
            self.key = Some(key.to_owned());
            self.newest = None;
        }
        let (name, listed) = match entry {
            VersionEntry::Object(row) => (row.name(), ListedVersion::Object(LiveRow::from(&*row))),
            VersionEntry::DeleteMarker(row) => (row.name(), ListedVersion::DeleteMarker(row)),
        };
        self.last = Some((key.to_owned(), Some(name)));
        self.reply.versions.push((key.to_owned(), is_latest, listed));
        After::NextRow
    }
}
