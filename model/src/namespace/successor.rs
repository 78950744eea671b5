//! What comes next under a key: a new version or a delete marker, in whose place, and what becomes of the one that
//! was live. One command, all or nothing.
//!
//! ```text
//!              new version                        delete without a version
//!   Off        replaces the null version          nothing is left
//!   Enabled    beside the old ones                delete marker beside the old ones
//!   Suspended  null, replaces the null version    null delete marker, replaces the null version
//! ```
//!
//! Nothing here looks at more than three rows of a key, however many versions it has; where no old ones are kept, at one.

use crate::ids::BucketId;
use crate::namespace::rows::{
    BucketRow, BucketUsageRow, DeleteMarkerRow, LiveRow, NullRow, Quota, UploadRow, VersionEntry, VersionRow,
    Versioning,
};
use crate::namespace::{keys, release, usage, version};
use crate::step::{Step, Stop};
use crate::store::{Column, Read, StoreError};

/// A key that is about to get a successor.
#[derive(Debug)]
pub struct Target<'a> {
    bucket: BucketId,
    versioning: Versioning,
    quota: Quota,
    key: &'a str,
    live: Option<LiveRow>,
    /// Without old versions: the key's only one.
    only: Option<Box<VersionRow>>,
}

impl<'a> Target<'a> {
    /// The key as it is now.
    ///
    /// # Errors
    /// When the store fails or the key's rows contradict each other.
    pub fn find(rows: &impl Read, bucket: &BucketRow, key: &'a str) -> Result<Self, StoreError> {
        let versioning = bucket.versioning;
        let (live, only) = match versioning {
            Versioning::Off => {
                let only = version::only(rows, bucket.bucket, key)?;
                (only.as_deref().map(LiveRow::from), only)
            }
            Versioning::Enabled | Versioning::Suspended => (version::live(rows, bucket.bucket, key)?, None),
        };
        Ok(Self {
            bucket: bucket.bucket,
            versioning,
            quota: bucket.quota,
            key,
            live,
            only,
        })
    }

    /// Its current version.
    #[must_use]
    pub fn live(&self) -> Option<&LiveRow> {
        self.live.as_ref()
    }

    /// Whether its successor is `null`, and so replaces the version that is.
    #[must_use]
    pub fn successor_is_null(&self) -> bool {
        self.versioning.writes_null()
    }

    /// What the successor replaces.
    fn replaced(&mut self, rows: &impl Read) -> Result<Option<VersionEntry>, StoreError> {
        match self.versioning {
            Versioning::Off => Ok(self.only.take().map(VersionEntry::Object)),
            Versioning::Enabled => Ok(None),
            Versioning::Suspended => version::null(rows, self.bucket, self.key),
        }
    }

    /// Takes away what is replaced, and lets its content go: the `null` version, or that without the content that the
    /// successor keeps.
    ///
    /// # Errors
    /// When the store fails or rows contradict each other.
    pub fn clear<R: Read>(
        self,
        step: &mut Step<'_, R>,
        replaced: Option<&VersionEntry>,
    ) -> Result<Cleared<'a>, StoreError> {
        if let Some(replaced) = replaced {
            if self.versioning != Versioning::Off {
                version::remove(step, self.bucket, self.key, replaced)?;
            }
            if let VersionEntry::Object(version) = replaced {
                release::content(step, &version.content)?;
            }
        }
        let mut freed = BucketUsageRow::default();
        match replaced {
            Some(VersionEntry::Object(version)) => (freed.versions, freed.bytes) = (1, version.bytes),
            Some(VersionEntry::DeleteMarker(_)) => freed.delete_markers = 1,
            None => {}
        }
        Ok(Cleared { target: self, freed })
    }

    /// [`Target::clear`] of all that is replaced.
    ///
    /// # Errors
    /// As there.
    pub fn clear_all<R: Read>(mut self, step: &mut Step<'_, R>) -> Result<Cleared<'a>, StoreError> {
        let replaced = self.replaced(step)?;
        self.clear(step, replaced.as_ref())
    }
}

/// A key without what its successor replaces.
#[derive(Debug)]
pub struct Cleared<'a> {
    target: Target<'a>,
    /// What was taken away, not counted yet.
    freed: BucketUsageRow,
}

impl Cleared<'_> {
    /// The upload that the successor is made of is not open any more, and its parts count no longer.
    #[must_use]
    pub fn closing(mut self, upload: &UploadRow) -> Self {
        (self.freed.uploads, self.freed.part_bytes) = (1, upload.part_bytes);
        self
    }

    /// Makes `row` the key's current version.
    ///
    /// # Errors
    /// `QuotaExceeded`; or when the store fails or the usage does not add up.
    pub fn put<R: Read>(self, step: &mut Step<'_, R>, row: VersionRow) -> Result<(), Stop> {
        let quota = self.target.quota;
        let Target {
            bucket, key, live, ..
        } = &self.target;
        let (bucket, is_first, bytes) = (*bucket, live.is_none(), row.bytes);
        step.put(Column::Live, keys::live(bucket, key), &LiveRow::from(&row));
        let (id, is_null, row) = (row.version, row.null, Box::new(row));
        let null_key = keys::null_version(bucket, key);
        if self.target.versioning == Versioning::Off {
            step.put(Column::Versions, null_key, &NullRow::Here(row));
        } else {
            let row_key = keys::version(bucket, key, id);
            step.put(Column::Versions, row_key, &VersionEntry::Object(row));
            if is_null {
                step.put(Column::Versions, null_key, &NullRow::At(id));
            }
        }
        let (before, after) = self.count(step, |usage| {
            usage.objects = usage.objects.checked_add(u64::from(is_first))?;
            usage.versions = usage.versions.checked_add(1)?;
            usage.bytes = usage.bytes.checked_add(bytes)?;
            Some(())
        })?;
        usage::check_quota(quota, &before, &after)?;
        Ok(())
    }

    /// Makes `row` the newest of the key, which has no current version then.
    ///
    /// # Errors
    /// When the store fails or the usage does not add up.
    pub fn put_delete_marker<R: Read>(
        self,
        step: &mut Step<'_, R>,
        row: DeleteMarkerRow,
    ) -> Result<(), StoreError> {
        let Target { bucket, key, .. } = &self.target;
        let row_key = keys::version(*bucket, key, row.version);
        step.put(Column::Versions, row_key, &VersionEntry::DeleteMarker(row));
        if row.null {
            let row_key = keys::null_version(*bucket, key);
            step.put(Column::Versions, row_key, &NullRow::At(row.version));
        }
        self.no_longer_live(step, |usage| {
            usage.delete_markers = usage.delete_markers.checked_add(1)?;
            Some(())
        })
    }

    /// Leaves nothing in place of what was taken away, where no old versions are kept.
    ///
    /// # Errors
    /// When the store fails or the usage does not add up.
    pub fn put_nothing<R: Read>(self, step: &mut Step<'_, R>) -> Result<(), StoreError> {
        let Target { bucket, key, .. } = &self.target;
        step.delete(Column::Versions, keys::null_version(*bucket, key));
        self.no_longer_live(step, |_| Some(()))
    }

    fn no_longer_live<R: Read>(
        self,
        step: &mut Step<'_, R>,
        added: impl FnOnce(&mut BucketUsageRow) -> Option<()>,
    ) -> Result<(), StoreError> {
        let Target {
            bucket, key, live, ..
        } = &self.target;
        let was_live = live.is_some();
        if was_live {
            step.delete(Column::Live, keys::live(*bucket, key));
        }
        self.count(step, |usage| {
            usage.objects = usage.objects.checked_sub(u64::from(was_live))?;
            added(usage)
        })?;
        Ok(())
    }

    /// Takes off what was freed, and counts what is `added`. Answers the usage before and after it.
    fn count<R: Read>(
        self,
        step: &mut Step<'_, R>,
        added: impl FnOnce(&mut BucketUsageRow) -> Option<()>,
    ) -> Result<(BucketUsageRow, BucketUsageRow), StoreError> {
        let freed = self.freed;
        usage::change(step, self.target.bucket, |usage| {
            usage.versions = usage.versions.checked_sub(freed.versions)?;
            usage.delete_markers = usage.delete_markers.checked_sub(freed.delete_markers)?;
            usage.bytes = usage.bytes.checked_sub(freed.bytes)?;
            usage.uploads = usage.uploads.checked_sub(freed.uploads)?;
            usage.part_bytes = usage.part_bytes.checked_sub(freed.part_bytes)?;
            added(usage)
        })
    }
}
