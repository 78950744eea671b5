//! Documents of a bucket's settings: texts that gateways understand and this table only keeps. What they say
//! is the gateways' judgement, made under the bucket's settings version, which every change raises.

use crate::command::{Actor, BucketRef, Reply};
use crate::fat::cluster;
use crate::ids::BucketId;
use crate::limits::BUCKET_DOCUMENT_BYTES_MAX;
use crate::namespace::rows::{BucketDocumentKind, BucketDocumentRow, BucketRow};
use crate::namespace::{authority, keys};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Read, StoreError};

/// Sets a document, or deletes it.
///
/// # Errors
/// `Invalid`, `NoSuchBucket`, `StaleSettings`.
pub fn set<R: Read>(
    step: &mut Step<'_, R>,
    actor: Actor,
    bucket: BucketRef,
    kind: BucketDocumentKind,
    document: Option<&str>,
) -> Result<Reply, Stop> {
    if let Some(text) = document
        && !(1..=BUCKET_DOCUMENT_BYTES_MAX).contains(&text.len())
    {
        return Err(Rejection::Invalid(format!("a bucket's document of {} bytes", text.len())).into());
    }
    let row = authority::check_bucket(step, bucket)?;
    authority::check_actor(step, actor)?;
    if get(step, row.bucket, kind)?.as_deref() == document {
        return Ok(Reply::Done);
    }
    let key = keys::bucket_document(row.bucket, kind);
    match document {
        Some(text) => {
            let text = text.to_owned();
            step.put(Column::Buckets, key, &BucketDocumentRow { text });
        }
        None => step.delete(Column::Buckets, key),
    }
    let changed = BucketRow {
        settings_version: cluster::next_settings_version(step, row.settings_version)?,
        ..row
    };
    step.put(Column::Buckets, keys::bucket(changed.bucket), &changed);
    Ok(Reply::Done)
}

/// A document of a bucket.
///
/// # Errors
/// When the store fails.
pub fn get(
    rows: &impl Read,
    bucket: BucketId,
    kind: BucketDocumentKind,
) -> Result<Option<String>, StoreError> {
    let key = keys::bucket_document(bucket, kind);
    let row: Option<BucketDocumentRow> = rows.row(Column::Buckets, &key)?;
    Ok(row.map(|row| row.text))
}

/// The documents of a bucket by which gateways judge requests.
///
/// # Errors
/// When the store fails.
pub fn judged_by(
    rows: &impl Read,
    bucket: BucketId,
) -> Result<Vec<(BucketDocumentKind, String)>, StoreError> {
    let mut found = Vec::new();
    for kind in BucketDocumentKind::ALL {
        if kind.is_judged_by()
            && let Some(text) = get(rows, bucket, kind)?
        {
            found.push((kind, text));
        }
    }
    Ok(found)
}

/// A bucket goes, and its documents with it.
pub(super) fn delete_all<R: Read>(step: &mut Step<'_, R>, bucket: BucketId) -> Result<(), StoreError> {
    for kind in BucketDocumentKind::ALL {
        let key = keys::bucket_document(bucket, kind);
        if step.get(Column::Buckets, &key)?.is_some() {
            step.delete(Column::Buckets, key);
        }
    }
    Ok(())
}
