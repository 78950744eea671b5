//! What must hold between the namespace's rows after every command: every reference is counted, every count
//! is of references, sums are exact, and nothing is stored that nobody owns.

use crate::fat;
use crate::fat::rows::{ChunkRow, CopyState, InlineRow, ReleaseItem};
use crate::ids::{BlobId, BucketId, ManifestId, SessionId, UploadId, UserId};
use crate::limits::BUCKET_DOCUMENT_BYTES_MAX;
use crate::namespace::keys::{self, VersionKey};
use crate::namespace::rows::{
    BlobOwner, BlobRow, BlobStorage, BucketDocumentKind, BucketDocumentRow, BucketRow, BucketUsageRow,
    Content, Extent, LiveRow, ManifestPage, ManifestParts, ManifestRow, NullRow, PartRow, UploadRow,
    UploadState, VersionEntry, VersionRow, Versioning,
};
use crate::namespace::{blob, bucket, version};
use crate::step::{ReadRows, decode_row};
use crate::store::{Column, Direction, KeyRange, Read, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Checks the whole namespace. Reads everything: for tests and the simulator.
///
/// # Errors
/// When the store fails, or [`StoreError::Inconsistent`] with what does not hold.
pub fn check(rows: &impl Read) -> Result<(), StoreError> {
    let mut found = Found::default();
    found.releases(rows)?;
    found.objects(rows)?;
    found.uploads(rows)?;
    found.manifests(rows)?;
    found.blobs(rows)?;
    found.usage(rows)?;
    found.inlined(rows)?;
    found.chunks(rows)
}

/// What was found so far, and who refers to it.
#[derive(Default)]
struct Found {
    /// Queued releases: blobs, manifests, uploads.
    released_blobs: BTreeSet<BlobId>,
    released_manifests: BTreeSet<ManifestId>,
    released_uploads: BTreeSet<UploadId>,
    /// Usage as counted.
    usage: BTreeMap<BucketId, BucketUsageRow>,
    /// References to manifests by versions, and manifests that uploads are building.
    manifest_references: BTreeMap<ManifestId, u32>,
    building_manifests: BTreeMap<ManifestId, UploadId>,
    /// References to shared blobs by parts and extents.
    blob_references: BTreeMap<BlobId, u32>,
    /// Inlined blobs and their plaintext bytes.
    inlined: BTreeMap<BlobId, u64>,
    /// Plaintext bytes that versions hold.
    held_bytes: u64,
    /// Owners of chunk rows, with the number of chunks.
    owned: BTreeMap<BlobId, u32>,
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), StoreError> {
    if holds {
        Ok(())
    } else {
        Err(StoreError::Inconsistent(what()))
    }
}

/// Calls `visit` with each row whose key starts with `prefix`.
fn each(
    rows: &impl Read,
    column: Column,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut result = Ok(());
    rows.scan(
        column,
        &KeyRange::prefix(prefix),
        Direction::Forward,
        &mut |key, value| {
            result = visit(key, value);
            if result.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    )?;
    result
}

/// The number in the 8 bytes of `key` from `at` on.
fn number(key: &[u8], at: usize) -> Result<u64, StoreError> {
    key.get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| {
            StoreError::Inconsistent(format!("a key of {} bytes has no number at {at}", key.len()))
        })
}

impl Found {
    fn releases(&mut self, rows: &impl Read) -> Result<(), StoreError> {
        each(rows, Column::Releases, &[], |_, value| {
            let (new, what) = match decode_row(Column::Releases, value)? {
                ReleaseItem::Blob { blob, .. } => (self.released_blobs.insert(blob), blob.to_string()),
                ReleaseItem::Manifest { manifest, .. } => {
                    (self.released_manifests.insert(manifest), manifest.to_string())
                }
                ReleaseItem::Upload { upload, .. } => {
                    (self.released_uploads.insert(upload), upload.to_string())
                }
            };
            ensure(new, || format!("{what} is released twice"))
        })
    }

    /// Of each key the newest version is live, unless a delete marker is newer; at most one is `null`, and a row
    /// leads to it if it is not the live one.
    fn objects(&mut self, rows: &impl Read) -> Result<(), StoreError> {
        let mut versioning = BTreeMap::new();
        each(rows, Column::Buckets, b"i", |_, value| {
            let row: BucketRow = decode_row(Column::Buckets, value)?;
            versioning.insert(row.bucket, row.versioning);
            Ok(())
        })?;
        // What must be there, by row: live rows, and rows that lead to null versions.
        let mut live = BTreeMap::new();
        let mut nulls = BTreeMap::new();
        let mut last: Option<(BucketId, String)> = None;
        let mut null_seen = false;
        version::scan(rows, &KeyRange::all(), |key, entry| {
            let VersionKey { bucket, key, version } = key;
            let is_last = version.is_none();
            let in_place = if is_last {
                entry.is_null()
            } else {
                version == Some(entry.version())
            };
            ensure(in_place, || {
                format!("{bucket}/{key}: a version has another's key")
            })?;
            let is_newest = last.as_ref() != Some(&(bucket, key.clone()));
            let is_live = is_newest && matches!(entry, VersionEntry::Object(_));
            null_seen = !is_newest && null_seen;
            ensure(!(null_seen && entry.is_null()), || {
                format!("{bucket}/{key} has two null versions")
            })?;
            null_seen |= entry.is_null();
            let unversioned = versioning.get(&bucket) == Some(&Versioning::Off);
            ensure(!unversioned || is_live && is_last, || {
                format!("{bucket}/{key} has versions, its bucket has none")
            })?;
            if entry.is_null() && !is_last {
                nulls.insert(keys::null_version(bucket, &key), entry.version());
            }
            let usage = self.usage.entry(bucket).or_default();
            match &entry {
                VersionEntry::Object(row) => {
                    usage.versions += 1;
                    usage.bytes += row.bytes;
                    if is_live {
                        usage.objects += 1;
                        live.insert(keys::live(bucket, &key), LiveRow::from(&**row));
                    }
                    self.content(rows, row)?;
                }
                VersionEntry::DeleteMarker(_) => usage.delete_markers += 1,
            }
            last = Some((bucket, key));
            Ok(ControlFlow::Continue(()))
        })?;
        each(rows, Column::Live, &[], |key, value| {
            let row: LiveRow = decode_row(Column::Live, value)?;
            ensure(live.remove(key) == Some(row), || {
                "a live row is not the newest version of its key".to_owned()
            })
        })?;
        ensure(live.is_empty(), || "a current version is not live".to_owned())?;
        each(rows, Column::Versions, &[], |key, value| {
            if keys::parse_version(key).is_none_or(|key| key.version.is_some()) {
                return Ok(());
            }
            match decode_row(Column::Versions, value)? {
                NullRow::Here(_) => Ok(()),
                NullRow::At(id) => ensure(nulls.remove(key) == Some(id), || {
                    "a row leads to no null version".to_owned()
                }),
            }
        })?;
        ensure(nulls.is_empty(), || "a null version is not found".to_owned())
    }

    fn content(&mut self, rows: &impl Read, version: &VersionRow) -> Result<(), StoreError> {
        let bytes = match &version.content {
            Content::Empty => 0,
            Content::Single(extent) => {
                match extent.storage {
                    BlobStorage::Inline => self.inline(extent.blob, extent.blob_bytes)?,
                    BlobStorage::Chunks(chunks) => self.own(extent.blob, chunks)?,
                }
                extent.bytes
            }
            Content::Manifest(manifest) => {
                *self.manifest_references.entry(*manifest).or_default() += 1;
                let row: Option<ManifestRow> = rows.row(Column::Manifests, &keys::manifest(*manifest))?;
                row.map_or(0, |row| row.bytes)
            }
            Content::Shared(extent) => {
                self.refer(extent);
                extent.bytes
            }
            Content::Held(extent, sealed) => {
                self.held_bytes += extent.bytes;
                let is_whole = sealed.len() as u64 == crate::units::stored_bytes(extent.blob_bytes);
                ensure(is_whole && extent.bytes == extent.blob_bytes, || {
                    format!("the bytes of version {} have another length", version.version)
                })?;
                extent.bytes
            }
        };
        ensure(bytes == version.bytes, || {
            format!("version {} is not as long as its content", version.version)
        })
    }

    fn inline(&mut self, blob: BlobId, bytes: u64) -> Result<(), StoreError> {
        let twice = self.inlined.insert(blob, bytes);
        ensure(twice.is_none(), || format!("{blob} is owned twice"))
    }

    fn own(&mut self, blob: BlobId, chunks: u32) -> Result<(), StoreError> {
        let twice = self.owned.insert(blob, chunks);
        ensure(twice.is_none(), || format!("{blob} is owned twice"))
    }

    fn uploads(&mut self, rows: &impl Read) -> Result<(), StoreError> {
        let mut index = BTreeSet::new();
        let mut open = BTreeMap::new();
        each(rows, Column::Uploads, b"u", |key, value| {
            let row: UploadRow = decode_row(Column::Uploads, value)?;
            ensure(*key == *keys::upload(row.upload), || {
                format!("{} has another's key", row.upload)
            })?;
            if let UploadState::Completed { at, .. } = row.state {
                index.insert(keys::completed_upload(at, row.upload));
                return Ok(());
            }
            if let UploadState::Completing { manifest } = row.state {
                self.building_manifests.insert(manifest, row.upload);
            }
            open.insert(row.upload, (u64::from(row.extents_beyond), row.part_bytes));
            index.insert(keys::upload_in_bucket(row.bucket, &row.key, row.upload));
            let usage = self.usage.entry(row.bucket).or_default();
            usage.uploads += 1;
            usage.part_bytes += row.part_bytes;
            Ok(())
        })?;
        for prefix in [b"b", b"d"] {
            each(rows, Column::Uploads, prefix, |key, _| {
                ensure(index.remove(key), || {
                    "an index row of uploads leads nowhere".to_owned()
                })
            })?;
        }
        ensure(index.is_empty(), || "an upload is not in its index".to_owned())?;
        let mut sums: BTreeMap<UploadId, (u64, u64)> = BTreeMap::new();
        each(rows, Column::Uploads, b"p", |key, value| {
            let upload = UploadId(number(key, 1)?);
            ensure(
                open.contains_key(&upload) || self.released_uploads.contains(&upload),
                || format!("a part of {upload}, which is neither open nor released"),
            )?;
            let part: PartRow = decode_row(Column::Uploads, value)?;
            part.extents.iter().for_each(|extent| self.refer(extent));
            let (extents_beyond, bytes) = sums.entry(upload).or_default();
            *extents_beyond += part.extents.len().saturating_sub(1) as u64;
            *bytes += part.bytes();
            Ok(())
        })?;
        for (upload, counted) in open {
            let found = sums.remove(&upload).unwrap_or_default();
            ensure(counted == found, || {
                format!("{upload} counts {counted:?} extents beyond its parts and bytes, and has {found:?}")
            })?;
        }
        Ok(())
    }

    fn refer(&mut self, extent: &Extent) {
        *self.blob_references.entry(extent.blob).or_default() += 1;
    }

    /// How many parts each manifest has; they follow each other without gaps.
    fn parts_of_manifests(rows: &impl Read) -> Result<BTreeMap<ManifestId, (u32, u64)>, StoreError> {
        let mut found: BTreeMap<ManifestId, (u32, u64)> = BTreeMap::new();
        each(rows, Column::Manifests, b"n", |key, value| {
            let manifest = ManifestId(number(key, 1)?);
            let first = fat::keys::tail::<4>(key).map(u32::from_be_bytes);
            let row: ManifestParts = decode_row(Column::Manifests, value)?;
            let begun = found.contains_key(&manifest);
            let (parts, bytes) = found.entry(manifest).or_default();
            for (index, part) in (0..).zip(&row.parts) {
                // Those of a released manifest are taken from the front.
                let in_place = first.map(|first| first + index) == Some(*parts + 1) && part.offset == *bytes;
                ensure(in_place || !begun, || {
                    format!("a part of {manifest} is out of place")
                })?;
                *parts = first.unwrap_or(0) + index;
                *bytes = part.offset + part.bytes;
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn manifests(&mut self, rows: &impl Read) -> Result<(), StoreError> {
        let mut parts = Self::parts_of_manifests(rows)?;
        let mut pages: BTreeMap<ManifestId, (u32, u64)> = BTreeMap::new();
        each(rows, Column::Manifests, b"p", |key, value| {
            let manifest = ManifestId(number(key, 1)?);
            let page: ManifestPage = decode_row(Column::Manifests, value)?;
            let released = self.released_manifests.contains(&manifest);
            let (extents, bytes) = pages.entry(manifest).or_default();
            // Pages of a released manifest are taken from the front.
            ensure(released || number(key, 9)? == *bytes, || {
                format!("a page of {manifest} is out of place")
            })?;
            for extent in &page.extents {
                *extents += 1;
                *bytes += extent.bytes;
                *self.blob_references.entry(extent.blob).or_default() += 1;
            }
            Ok(())
        })?;
        each(rows, Column::Manifests, b"m", |key, value| {
            let manifest = ManifestId(number(key, 1)?);
            let row: ManifestRow = decode_row(Column::Manifests, value)?;
            let references = self.manifest_references.remove(&manifest).unwrap_or(0);
            ensure(row.references == references, || {
                format!(
                    "{manifest} counts {} references and has {references}",
                    row.references
                )
            })?;
            let sums = pages.remove(&manifest).unwrap_or_default();
            let released = self.released_manifests.contains(&manifest);
            ensure(released || sums == (row.extents, row.bytes), || {
                format!("the pages of {manifest} do not add up")
            })?;
            let counted = parts.remove(&manifest).unwrap_or_default();
            ensure(released || counted == (row.parts, row.bytes), || {
                format!("the parts of {manifest} do not add up")
            })?;
            let building = self.building_manifests.remove(&manifest);
            let owner = row.building.map(|building| building.upload);
            let owned = match (references, released) {
                (0, false) => building.is_some() && building == owner,
                (0, true) => building.is_none(),
                (_, released) => !released && building.is_none() && owner.is_none(),
            };
            ensure(owned, || format!("{manifest} has no owner, or too many"))
        })?;
        let dangling = self
            .manifest_references
            .keys()
            .chain(self.building_manifests.keys())
            .next();
        ensure(dangling.is_none(), || {
            format!("{dangling:?} is referred to and not there")
        })?;
        ensure(pages.is_empty() && parts.is_empty(), || {
            "pages or parts without a manifest".to_owned()
        })
    }

    fn blobs(&mut self, rows: &impl Read) -> Result<(), StoreError> {
        each(rows, Column::Blobs, b"b", |key, value| {
            let id = blob::blob_of(key)?;
            let row: BlobRow = decode_row(Column::Blobs, value)?;
            ensure(
                row.owner == BlobOwner::Building(id.session) && row.references == 0,
                || format!("{id} is not building"),
            )?;
            match row.storage {
                BlobStorage::Chunks(chunks) => self.own(id, chunks),
                BlobStorage::Inline => ensure(false, || format!("{id} is building inline")),
            }
        })?;
        each(rows, Column::Blobs, b"s", |key, value| {
            let id = blob::blob_of(key)?;
            let row: BlobRow = decode_row(Column::Blobs, value)?;
            let references = self.blob_references.remove(&id).unwrap_or(0);
            ensure(
                row.owner == BlobOwner::Shared && row.references == references,
                || format!("{id} counts {} references and has {references}", row.references),
            )?;
            match row.storage {
                BlobStorage::Chunks(chunks) if references > 0 => self.own(id, chunks),
                BlobStorage::Inline if references > 0 => self.inline(id, row.bytes),
                BlobStorage::Chunks(_) => Ok(()),
                BlobStorage::Inline => ensure(false, || format!("{id} is inlined and not referred to")),
            }
        })?;
        let dangling = self.blob_references.keys().next();
        ensure(dangling.is_none(), || {
            format!("{dangling:?} is referred to and not there")
        })
    }

    fn usage(&mut self, rows: &impl Read) -> Result<(), StoreError> {
        let mut made: BTreeMap<UserId, u64> = BTreeMap::new();
        let mut buckets = BTreeSet::new();
        each(rows, Column::Buckets, b"i", |_, value| {
            let row: BucketRow = decode_row(Column::Buckets, value)?;
            *made.entry(row.creator).or_default() += 1;
            buckets.insert(row.bucket);
            let named = bucket::by_name(rows, &row.name)?;
            ensure(named.is_some_and(|named| named.bucket == row.bucket), || {
                format!("{} is not found by its name", row.bucket)
            })?;
            let usage: BucketUsageRow = rows
                .row(Column::Buckets, &keys::bucket_usage(row.bucket))?
                .unwrap_or_default();
            let counted = self.usage.remove(&row.bucket).unwrap_or_default();
            ensure(usage == counted, || {
                format!("usage of {} is {usage:?}, counted {counted:?}", row.bucket)
            })
        })?;
        let homeless = self.usage.keys().next();
        ensure(homeless.is_none(), || {
            format!("{homeless:?} is not there and holds something")
        })?;
        each(rows, Column::Buckets, b"d", |key, value| {
            let bucket = BucketId(number(key, 1)?);
            let kind = BucketDocumentKind::ALL
                .into_iter()
                .find(|kind| *key == *keys::bucket_document(bucket, *kind));
            ensure(kind.is_some() && buckets.contains(&bucket), || {
                format!("a document of {bucket} has no kind or no bucket")
            })?;
            let document: BucketDocumentRow = decode_row(Column::Buckets, value)?;
            ensure(
                (1..=BUCKET_DOCUMENT_BYTES_MAX).contains(&document.text.len()),
                || format!("a document of {bucket} is out of bounds"),
            )
        })?;
        each(rows, Column::Buckets, b"c", |key, _| {
            let user = UserId(number(key, 1)?);
            let counted = made.remove(&user).unwrap_or(0);
            let count = bucket::made_by(rows, user)?;
            ensure(count == counted, || {
                format!("{user} made {counted} buckets, counted {count}")
            })
        })?;
        ensure(made.is_empty(), || "buckets are not counted".to_owned())
    }

    fn inlined(&mut self, rows: &impl Read) -> Result<(), StoreError> {
        let mut bytes = self.held_bytes;
        each(rows, Column::Inline, &[], |key, sealed| {
            let blob = BlobId {
                session: SessionId(number(key, 0)?),
                counter: number(key, 8)?,
            };
            let plaintext = self.inlined.remove(&blob);
            ensure(plaintext.is_some(), || format!("inlined {blob} is nobody's"))?;
            let plaintext = plaintext.unwrap_or_default();
            bytes += plaintext;
            ensure(
                sealed.len() as u64 == crate::units::stored_bytes(plaintext),
                || format!("inlined {blob} has another length"),
            )
        })?;
        let lost = self.inlined.keys().next();
        ensure(lost.is_none(), || format!("inlined {lost:?} is not there"))?;
        let settings: Option<InlineRow> = rows.row(Column::System, fat::keys::INLINE)?;
        let used = settings.map_or(0, |settings| settings.used_bytes);
        ensure(used == bytes, || {
            format!("{used} inlined bytes are counted, {bytes} are there")
        })
    }

    /// Every owned blob has its chunk rows and good copies are not ordered erased; every other chunk row is
    /// of a released blob.
    fn chunks(&mut self, rows: &impl Read) -> Result<(), StoreError> {
        let mut counted: BTreeMap<BlobId, u32> = BTreeMap::new();
        each(rows, Column::Chunks, &[], |key, value| {
            let blob = BlobId {
                session: SessionId(number(key, 0)?),
                counter: number(key, 8)?,
            };
            let row: ChunkRow = decode_row(Column::Chunks, value)?;
            if self.owned.contains_key(&blob) {
                ensure(!self.released_blobs.contains(&blob), || {
                    format!("{blob} is owned and released")
                })?;
                *counted.entry(blob).or_default() += 1;
                let index = fat::keys::tail::<4>(key).map(u32::from_be_bytes);
                return ensure(
                    counted.get(&blob).copied() == index.map(|index| index + 1),
                    || format!("{blob} has a gap among its chunks"),
                );
            }
            let erasing = row.copies.iter().all(|copy| copy.state == CopyState::Erasing);
            ensure(erasing || self.released_blobs.contains(&blob), || {
                format!("a chunk of {blob}, which is neither owned nor released")
            })
        })?;
        ensure(counted == self.owned, || {
            let differs = self
                .owned
                .iter()
                .find(|(blob, chunks)| counted.get(blob) != Some(chunks));
            format!("a blob has not the chunks it should have: {differs:?}")
        })
    }
}
