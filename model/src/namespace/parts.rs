//! The parts of an object that was made of parts: where each is, and a page of them.

use crate::fat;
use crate::ids::ManifestId;
use crate::limits::LIST_PAGE_KEYS_MAX;
use crate::namespace::keys;
use crate::namespace::rows::{Content, Etag, ManifestParts, ManifestRow, ObjectPart, VersionRow};
use crate::step::ReadRows;
use crate::store::{Column, KeyRange, Read, StoreError};
use crate::wire::metad::LocatedPart;
use std::ops::Bound;

/// The part of this number; `None` if there is none. An object that was not made of parts is its own part 1.
///
/// # Errors
/// When the store fails, or a part that must be there is not.
pub fn one(rows: &impl Read, version: &VersionRow, number: u32) -> Result<Option<LocatedPart>, StoreError> {
    if number == 0 {
        return Ok(None);
    }
    let Content::Manifest(manifest) = &version.content else {
        let whole = ObjectPart {
            offset: 0,
            bytes: version.bytes,
            checksum: None,
        };
        // One part without bytes leaves no manifest.
        let of = matches!(
            (&version.content, version.etag),
            (Content::Empty, Etag::Multipart(..))
        )
        .then_some(1);
        return Ok((number == 1).then_some(LocatedPart { part: whole, of }));
    };
    let row: Option<ManifestRow> = rows.row(Column::Manifests, &keys::manifest(*manifest))?;
    let count = row.map_or(0, |row| row.parts);
    if number > count {
        return Ok(None);
    }
    let (first, found) = row_with(rows, *manifest, number)?;
    let part = found.parts.into_iter().nth((number - first) as usize);
    let part = part.ok_or_else(|| StoreError::Inconsistent(format!("{manifest} has no part {number}")))?;
    Ok(Some(LocatedPart {
        part,
        of: Some(count),
    }))
}

/// Parts of a manifest behind number `after`, at most `limit` (and `limits::LIST_PAGE_KEYS_MAX`), and how many there are
/// in all. None of none if the manifest is gone.
///
/// # Errors
/// When the store fails, or a part that must be there is not.
pub fn page(
    rows: &impl Read,
    manifest: ManifestId,
    after: u32,
    limit: usize,
) -> Result<(Vec<ObjectPart>, u32), StoreError> {
    let row: Option<ManifestRow> = rows.row(Column::Manifests, &keys::manifest(manifest))?;
    let count = row.filter(|row| row.references > 0).map_or(0, |row| row.parts);
    let limit = limit
        .min(LIST_PAGE_KEYS_MAX)
        .min(count.saturating_sub(after) as usize);
    let mut found = Vec::with_capacity(limit);
    let mut next = after.saturating_add(1);
    while found.len() < limit {
        let (first, row) = row_with(rows, manifest, next)?;
        let skipped = (next - first) as usize;
        let before = found.len();
        found.extend(row.parts.into_iter().skip(skipped).take(limit - before));
        if found.len() == before {
            return Err(StoreError::Inconsistent(format!("{manifest} has no part {next}")));
        }
        next += u32::try_from(found.len() - before).unwrap_or(u32::MAX);
    }
    Ok((found, count))
}

/// The row that holds part `number`, and the number of the first part in it.
fn row_with(rows: &impl Read, manifest: ManifestId, number: u32) -> Result<(u32, ManifestParts), StoreError> {
    let range = KeyRange {
        start: Bound::Included(keys::manifest_parts(manifest, 0)),
        end: Bound::Included(keys::manifest_parts(manifest, number)),
    };
    let found = rows.last_row(Column::Manifests, &range)?;
    let numbered = found.and_then(|(key, row)| Some((fat::keys::tail::<4>(&key)?, row)));
    let (first, row) =
        numbered.ok_or_else(|| StoreError::Inconsistent(format!("{manifest} has no part {number}")))?;
    Ok((u32::from_be_bytes(first), row))
}
