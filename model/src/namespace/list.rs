//! Listing keys: range scans over the live rows that seek past each common prefix, so that every row looked
//! at gives a key or a common prefix of the answer.

use crate::limits::LIST_PAGE_KEYS_MAX;
use crate::namespace::keys;
use crate::namespace::rows::LiveRow;
use crate::step::decode_row;
use crate::store::{Column, Direction, KeyRange, Read, StoreError, after_prefix};
use crate::wire::metad::{ListReply, ListRequest};
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// Lists keys of a bucket in UTF-8 byte order. Keys and common prefixes count alike: as entries of the
/// answer, each greater than `after` and at most once. At most `limit` entries and one row beyond are looked
/// at, which is within `limits::LIST_SCAN_ROWS_MAX`.
///
/// # Errors
/// When the store fails or a row does not decode.
pub fn list(rows: &impl Read, request: &ListRequest) -> Result<ListReply, StoreError> {
    let mut page = Page::new(request);
    let Some(mut start) = page.start() else {
        return Ok(page.reply);
    };
    let whole = KeyRange::prefix(&keys::live(request.bucket, &request.prefix));
    loop {
        let mut next = Ok(After::End);
        let range = whole.clone().from(start);
        rows.scan(Column::Live, &range, Direction::Forward, &mut |key, value| {
            match page.add(key, value) {
                Ok(After::NextRow) => return ControlFlow::Continue(()),
                other => next = other,
            }
            ControlFlow::Break(())
        })?;
        match next? {
            After::Seek(bound) => start = bound,
            After::NextRow | After::End => return Ok(page.reply),
        }
    }
}

/// How a scan goes on after a row.
enum After {
    /// With the next row.
    NextRow,
    /// From here on, behind a common prefix.
    Seek(Bound<Bytes>),
    /// Not at all.
    End,
}

struct Page<'a> {
    request: &'a ListRequest,
    limit: usize,
    /// The entry added last.
    last: Option<String>,
    reply: ListReply,
}

impl<'a> Page<'a> {
    fn new(request: &'a ListRequest) -> Self {
        Self {
            request,
            limit: request.limit.min(LIST_PAGE_KEYS_MAX),
            last: None,
            reply: ListReply::default(),
        }
    }

    /// Where to begin; `None` if there is nothing to look for.
    fn start(&self) -> Option<Bound<Bytes>> {
        if self.limit == 0 {
            return None;
        }
        let bucket = self.request.bucket;
        let first = Bound::Included(keys::live(bucket, &self.request.prefix));
        let Some(after) = &self.request.after else {
            return Some(first);
        };
        if let Some(common) = self.common_prefix(after) {
            return behind(&keys::live(bucket, common));
        }
        if after.as_str() < self.request.prefix.as_str() {
            return Some(first);
        }
        Some(Bound::Excluded(keys::live(bucket, after)))
    }

    /// The common prefix that `key` is folded into.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        common_prefix(&self.request.prefix, &self.request.delimiter, key)
    }

    /// Takes one row.
    fn add(&mut self, row_key: &[u8], value: &[u8]) -> Result<After, StoreError> {
        let key = row_key
            .get(size_of::<u64>()..)
            .and_then(|key| std::str::from_utf8(key).ok())
            .ok_or_else(|| StoreError::Inconsistent("a key among live rows is not UTF-8".to_owned()))?;
        if self.reply.objects.len() + self.reply.common_prefixes.len() == self.limit {
            self.reply.next = self.last.take();
            return Ok(After::End);
        }
        if let Some(common) = self.common_prefix(key) {
            self.last = Some(common.to_owned());
            self.reply.common_prefixes.push(common.to_owned());
            let bound = behind(&keys::live(self.request.bucket, common));
            return Ok(bound.map_or(After::End, After::Seek));
        }
        let row: LiveRow = decode_row(Column::Live, value)?;
        self.last = Some(key.to_owned());
        self.reply.objects.push((key.to_owned(), row));
        Ok(After::NextRow)
    }
}

/// The common prefix that `key` is folded into by a listing of `prefix` with `delimiter`; none if that is empty.
pub(super) fn common_prefix<'k>(prefix: &str, delimiter: &str, key: &'k str) -> Option<&'k str> {
    if delimiter.is_empty() {
        return None;
    }
    let at = key.strip_prefix(prefix)?.find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// The first place behind all keys that start with `prefix`.
pub(super) fn behind(prefix: &[u8]) -> Option<Bound<Bytes>> {
    after_prefix(prefix).map(Bound::Included)
}
