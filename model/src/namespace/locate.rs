//! Where an object's bytes are now: spans of extents, page by page, each with its chunk and the copies.

use crate::fat;
use crate::fat::rows::ChunkRow;
use crate::ids::ManifestId;
use crate::limits::{CHUNK_BYTES_MAX, LOCATE_PAGE_CHUNKS, PART_BYTES_MAX};
use crate::namespace::rows::{BlobStorage, Content, Extent, ManifestPage, VersionRow};
use crate::namespace::{keys, parts};
use crate::step::ReadRows;
use crate::store::{Column, KeyRange, Read, StoreError};
use crate::wire::metad::{ByteRange, LocateSource, LocatedPart, LocatedSpan, PageSize, SpanPlace};
use std::ops::{Bound, ControlFlow, Range};

/// The first page of where the bytes of `range` of a live version are, and the part, if `range` names one that is
/// there. Empty where the range, cut to the object, is; all bytes of a version that holds them in its own row.
///
/// # Errors
/// When the store fails, or bytes of the version are nowhere.
pub fn version(
    rows: &impl Read,
    version: &VersionRow,
    range: ByteRange,
    page: PageSize,
) -> Result<(Vec<LocatedSpan>, Option<LocatedPart>), StoreError> {
    let (wanted, part) = match range {
        ByteRange::Part(number) => {
            let part = parts::one(rows, version, number)?;
            let located = part.as_ref().map(|located| &located.part);
            let wanted = located.map_or(0..0, |part| cut(part.offset, part.bytes, version.bytes));
            (wanted, part)
        }
        ByteRange::From { first, bytes } => (cut(first, bytes, version.bytes), None),
        ByteRange::Last(bytes) => (version.bytes.saturating_sub(bytes)..version.bytes, None),
    };
    Ok((first_page(rows, version, wanted, page)?, part))
}

fn first_page(
    rows: &impl Read,
    version: &VersionRow,
    wanted: Range<u64>,
    page: PageSize,
) -> Result<Vec<LocatedSpan>, StoreError> {
    let chunks = usize::try_from(page.0).map_or(LOCATE_PAGE_CHUNKS, |chunks| chunks.min(LOCATE_PAGE_CHUNKS));
    if chunks == 0 {
        return Ok(Vec::new());
    }
    if let Content::Held(extent, sealed) = &version.content {
        // All of them, whatever is wanted: they come whole, and cannot be asked for by their extent later on.
        return Ok(vec![LocatedSpan {
            offset: 0,
            bytes: extent.bytes,
            extent: extent.clone(),
            place: SpanPlace::Inline(sealed.clone()),
        }]);
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut spans = Spans::new(wanted, chunks);
    match &version.content {
        Content::Empty | Content::Held(..) => {}
        Content::Single(extent) | Content::Shared(extent) => {
            spans.extent(rows, 0, extent)?;
        }
        Content::Manifest(manifest) => spans.manifest(rows, *manifest)?,
    }
    if spans.found.is_empty() {
        return Err(StoreError::Inconsistent(format!(
            "bytes of version {} are nowhere",
            version.version
        )));
    }
    Ok(spans.found)
}

/// Further locations, from `offset` on. Empty when the source is gone, or nothing of it lies there.
///
/// # Errors
/// When the store fails.
pub fn source(
    rows: &impl Read,
    source: &LocateSource,
    offset: u64,
    bytes: u64,
) -> Result<Vec<LocatedSpan>, StoreError> {
    let mut spans = Spans::new(offset..offset.saturating_add(bytes), LOCATE_PAGE_CHUNKS);
    match source {
        LocateSource::Extent(extent) if is_sound(extent) => {
            spans.extent(rows, 0, extent)?;
        }
        LocateSource::Extent(_) => {}
        LocateSource::Manifest(manifest) => spans.manifest(rows, *manifest)?,
    }
    Ok(spans.found)
}

/// Whether an extent that a gateway brings can be one: offsets in it must not overflow.
fn is_sound(extent: &Extent) -> bool {
    let chunks = (1..=CHUNK_BYTES_MAX).contains(&extent.chunk_bytes);
    extent.blob_bytes <= PART_BYTES_MAX
        && extent
            .offset
            .checked_add(extent.bytes)
            .is_some_and(|end| end <= extent.blob_bytes)
        && (chunks || extent.storage == BlobStorage::Inline)
}

/// A range cut to an object of `object_bytes` bytes.
fn cut(first: u64, bytes: u64, object_bytes: u64) -> Range<u64> {
    let first = first.min(object_bytes);
    first..first.saturating_add(bytes).min(object_bytes)
}

/// Spans found so far, and what is still wanted.
struct Spans {
    /// Wanted and not found yet.
    wanted: Range<u64>,
    /// Chunks that may still be answered.
    chunks_left: usize,
    found: Vec<LocatedSpan>,
}

/// Whether to go on behind an extent.
#[derive(PartialEq)]
enum Then {
    GoOn,
    Stop,
}

impl Spans {
    fn new(wanted: Range<u64>, chunks_left: usize) -> Self {
        Self {
            wanted,
            chunks_left,
            found: Vec::new(),
        }
    }

    fn done(&self) -> bool {
        self.wanted.is_empty() || self.chunks_left == 0
    }

    /// Adds the spans of a manifest's extents: seeks back to the page that holds the first byte wanted, and
    /// goes on page by page.
    fn manifest(&mut self, rows: &impl Read, manifest: ManifestId) -> Result<(), StoreError> {
        if self.done() {
            return Ok(());
        }
        manifest_extents(rows, manifest, self.wanted.start, |start, extent| {
            Ok(match self.extent(rows, start, extent)? {
                Then::GoOn => ControlFlow::Continue(()),
                Then::Stop => ControlFlow::Break(()),
            })
        })
    }

    /// Adds the spans of what is wanted of an extent that begins at byte `start` of the whole.
    fn extent(&mut self, rows: &impl Read, start: u64, extent: &Extent) -> Result<Then, StoreError> {
        if self.done() {
            return Ok(Then::Stop);
        }
        let end = start + extent.bytes;
        if self.wanted.start >= end {
            return Ok(Then::GoOn);
        }
        if self.wanted.start < start {
            // A page before this one is gone: the source is being drained.
            return Ok(Then::Stop);
        }
        match extent.storage {
            BlobStorage::Inline => self.inline(rows, end, extent),
            BlobStorage::Chunks(_) => self.chunks(rows, start, extent),
        }
    }

    fn inline(&mut self, rows: &impl Read, end: u64, extent: &Extent) -> Result<Then, StoreError> {
        let Some(sealed) = rows.get(Column::Inline, &fat::keys::blob(extent.blob))? else {
            return Ok(Then::Stop);
        };
        let bytes = self.wanted.end.min(end) - self.wanted.start;
        self.push(bytes, extent, SpanPlace::Inline(sealed));
        Ok(Then::GoOn)
    }

    fn chunks(&mut self, rows: &impl Read, start: u64, extent: &Extent) -> Result<Then, StoreError> {
        let end = start + extent.bytes;
        // Offsets in the blob.
        let first = self.wanted.start - start + extent.offset;
        let behind = self.wanted.end.min(end) - start + extent.offset;
        let mut found = Vec::new();
        let range = chunk_range(extent, first, behind)?;
        scan_chunks(rows, &range, self.chunks_left, &mut found)?;
        for (index, row) in found {
            let chunk_start = u64::from(index) * extent.chunk_bytes;
            let at = self.wanted.start - start + extent.offset;
            let chunk_end = chunk_start + row.plaintext_bytes;
            if at < chunk_start || at >= chunk_end {
                // A chunk row before this one is gone: the blob is being drained.
                return Ok(Then::Stop);
            }
            let place = SpanPlace::Chunk {
                index,
                offset: at - chunk_start,
                row,
            };
            self.push(behind.min(chunk_end) - at, extent, place);
        }
        if self.wanted.start == end {
            Ok(Then::GoOn)
        } else {
            Ok(Then::Stop)
        }
    }

    /// Adds a span of `bytes` bytes at the first byte wanted.
    fn push(&mut self, bytes: u64, extent: &Extent, place: SpanPlace) {
        self.found.push(LocatedSpan {
            offset: self.wanted.start,
            bytes,
            extent: extent.clone(),
            place,
        });
        self.wanted.start += bytes;
        self.chunks_left -= 1;
    }
}

/// Visits the extents of a manifest in order, with the byte that each begins with: seeks back to the page that holds
/// byte `offset`, and goes on page by page until told to stop.
///
/// # Errors
/// When the store fails, or `visit` does.
pub(crate) fn manifest_extents(
    rows: &impl Read,
    manifest: ManifestId,
    offset: u64,
    mut visit: impl FnMut(u64, &Extent) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let Some((mut start, mut page)) = page_with(rows, manifest, offset)? else {
        return Ok(());
    };
    loop {
        for extent in &page.extents {
            if visit(start, extent)?.is_break() {
                return Ok(());
            }
            start += extent.bytes;
        }
        // Pages follow each other without gaps: the next one is named by the byte behind this one.
        match rows.row(Column::Manifests, &keys::manifest_page(manifest, start))? {
            Some(next) => page = next,
            None => return Ok(()),
        }
    }
}

/// The page of `manifest` that holds byte `offset`, and the byte it begins with.
fn page_with(
    rows: &impl Read,
    manifest: ManifestId,
    offset: u64,
) -> Result<Option<(u64, ManifestPage)>, StoreError> {
    let range = KeyRange {
        start: Bound::Included(keys::manifest_page(manifest, 0)),
        end: Bound::Included(keys::manifest_page(manifest, offset)),
    };
    let Some((key, page)) = rows.last_row(Column::Manifests, &range)? else {
        return Ok(None);
    };
    let start = fat::keys::tail::<8>(&key)
        .ok_or_else(|| StoreError::Inconsistent("a key of pages is too short".to_owned()))?;
    Ok(Some((u64::from_be_bytes(start), page)))
}

/// Keys of the chunk rows that hold bytes `first..behind` of the extent's blob.
fn chunk_range(extent: &Extent, first: u64, behind: u64) -> Result<KeyRange, StoreError> {
    let index = |byte: u64| {
        byte.checked_div(extent.chunk_bytes)
            .and_then(|index| u32::try_from(index).ok())
            .ok_or_else(|| StoreError::Inconsistent(format!("{} has no chunk with byte {byte}", extent.blob)))
    };
    Ok(KeyRange {
        start: Bound::Included(fat::keys::chunk(extent.blob, index(first)?)),
        end: Bound::Included(fat::keys::chunk(extent.blob, index(behind - 1)?)),
    })
}

/// Up to `limit` chunk rows of `range`, with their indexes.
fn scan_chunks(
    rows: &impl Read,
    range: &KeyRange,
    limit: usize,
    found: &mut Vec<(u32, ChunkRow)>,
) -> Result<(), StoreError> {
    for (key, row) in rows.rows::<ChunkRow>(Column::Chunks, range, limit)? {
        let index = fat::keys::tail::<4>(&key)
            .ok_or_else(|| StoreError::Inconsistent("a key of chunks is too short".to_owned()))?;
        found.push((u32::from_be_bytes(index), row));
    }
    Ok(())
}
