//! ListObjects in both versions.

use super::convert::{algorithm, etag, kind, time};
use super::errors::{s3_error, undone};
use super::{Call, owner};
use crate::directory::Bucket;
use crate::error::Error;
use crate::memory::Reservation;
use crate::s3::Reply;
use crate::s3::answer::{ListEntry, ListObjectsAnswer, ListObjectsV2Answer};
use crate::s3::conditions::WriteCondition;
use crate::s3::error::Result;
use crate::s3::listing::{ListObjects, ListObjectsV2, ListingScope};
use crate::s3::token::Position;
use crate::server::limits::LISTED_BYTES;
use std::sync::Arc;
use ullage_model::namespace::rows::{BucketRow, LiveRow};
use ullage_model::wire::metad::ListRequest;

/// ListObjects.
pub(super) async fn objects(call: &Call<'_>, request: &ListObjects) -> Result<Reply> {
    let memory = memory(call, request.scope.max_keys, LISTED_BYTES.0).await?;
    let marker = Some(request.marker.clone()).filter(|marker| !marker.is_empty());
    let (bucket, page) = page(call, &request.scope, marker).await?;
    let answer = ListObjectsAnswer {
        next_marker: page.next.map(|next| next.text().to_owned()),
        entries: page.entries,
        common_prefixes: page.common_prefixes,
        owner: owner(bucket.creator),
    };
    Ok(held(memory, answer.into_reply(request)))
}

/// ListObjectsV2.
pub(super) async fn objects_v2(call: &Call<'_>, request: &ListObjectsV2) -> Result<Reply> {
    let memory = memory(call, request.scope.max_keys, LISTED_BYTES.0).await?;
    let after = match &request.after {
        Some(position) => Some(position.text().to_owned()),
        None => request.start_after.clone().filter(|after| !after.is_empty()),
    };
    let (bucket, page) = page(call, &request.scope, after).await?;
    let answer = ListObjectsV2Answer {
        next: page.next.as_ref().map(Position::encode),
        entries: page.entries,
        common_prefixes: page.common_prefixes,
        owner: owner(bucket.creator),
    };
    Ok(held(memory, answer.into_reply(request)))
}

/// Memory for the longest answer that so many entries can make: the client may take it slowly.
///
/// # Errors
/// SlowDown.
pub(super) async fn memory(call: &Call<'_>, entries: u32, bytes: u64) -> Result<Reservation> {
    let admitted = call.shared.listings.admit(u64::from(entries) * bytes).await;
    admitted.map_err(s3_error)
}

/// `reply`, its document in `memory`.
pub(super) fn held(memory: Reservation, mut reply: Reply) -> Reply {
    reply.body = memory.hold(reply.body);
    reply
}

/// A page of a listing.
#[derive(Default)]
struct Page {
    entries: Vec<ListEntry>,
    common_prefixes: Vec<String>,
    /// The last entry, if there is more behind it.
    next: Option<Position>,
}

/// Fills a page. The table may answer with fewer entries than asked for and a place to go on.
async fn page(call: &Call<'_>, scope: &ListingScope, after: Option<String>) -> Result<(Arc<Bucket>, Page)> {
    let page = call.decided(&scope.bucket, |_, bucket| {
        let after = after.clone();
        async move {
            let page = fill(call, &bucket, scope, after).await?;
            Ok((bucket, page))
        }
    });
    page.await.map_err(|error| undone(error, &WriteCondition::Always))
}

async fn fill(
    call: &Call<'_>,
    bucket: &BucketRow,
    scope: &ListingScope,
    after: Option<String>,
) -> std::result::Result<Page, Error> {
    let limit = scope.max_keys as usize;
    let mut page = Page::default();
    let mut request = ListRequest {
        bucket: bucket.bucket,
        prefix: scope.prefix.clone(),
        delimiter: scope.delimiter.clone().unwrap_or_default(),
        after,
        limit,
    };
    while request.limit > 0 {
        let reply = call.store.list(bucket, request.clone()).await?;
        let last_prefix = reply.common_prefixes.last().cloned();
        page.entries.extend(reply.objects.into_iter().map(entry));
        page.common_prefixes.extend(reply.common_prefixes);
        request.limit = limit - (page.entries.len() + page.common_prefixes.len()).min(limit);
        // A place to go on that does not lead on would be asked for for ever.
        let Some(next) = reply.next.filter(|next| request.after.as_ref() < Some(next)) else {
            break;
        };
        if request.limit == 0 {
            page.next = Some(if last_prefix.as_ref() == Some(&next) {
                Position::AfterPrefix(next.clone())
            } else {
                Position::AfterKey(next.clone())
            });
        }
        request.after = Some(next);
    }
    Ok(page)
}

fn entry((key, row): (String, LiveRow)) -> ListEntry {
    ListEntry {
        key,
        last_modified: time(row.modified),
        etag: etag(&row.etag),
        checksum: row.checksum.map(|(named, of)| (algorithm(named), kind(of))),
        bytes: row.bytes,
        storage_class: row.class,
    }
}
