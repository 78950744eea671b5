//! What the bucket holds, counted anew, and what its quota forbids.

use super::Model;
use crate::command::SessionCommand;
use crate::ids::VersionId;
use crate::namespace::rows::{BucketUsageRow, Etag};

impl Model {
    pub(super) fn counted(&self) -> BucketUsageRow {
        let kept = || self.keys.values().flatten();
        let objects = || kept().filter_map(|kept| kept.object);
        let open = || self.uploads.iter().filter(|upload| upload.open);
        BucketUsageRow {
            objects: self.keys.keys().filter(|key| self.current(key).is_some()).count() as u64,
            versions: objects().count() as u64,
            delete_markers: kept().filter(|kept| kept.object.is_none()).count() as u64,
            bytes: objects().map(|(_, bytes)| bytes).sum(),
            uploads: open().count() as u64,
            part_bytes: open()
                .flat_map(|upload| upload.parts.values())
                .map(|(_, bytes)| bytes)
                .sum(),
        }
    }

    /// Whether the quota forbids this to be stored under `key` by this command. An upload that becomes an object is
    /// not open any more.
    pub(super) fn exceeds(
        &mut self,
        key: &'static str,
        to_be: (Etag, u64),
        command: &SessionCommand,
    ) -> bool {
        let (before, keys) = (self.counted(), self.keys.clone());
        self.keep(key, VersionId::default(), Some(to_be));
        let completed = match command {
            SessionCommand::CompleteUpload(complete) => Some(complete.upload),
            _ => None,
        };
        let completed = self
            .uploads
            .iter()
            .position(|upload| Some(upload.name) == completed);
        if let Some(completed) = completed {
            self.uploads[completed].open = false;
        }
        let after = self.counted();
        if let Some(completed) = completed {
            self.uploads[completed].open = true;
        }
        self.keys = keys;
        self.goes_beyond(&before, &after)
    }

    /// Whether the quota forbids an open upload to have this part.
    pub(super) fn exceeds_with_part(&self, upload: usize, number: u32, bytes: u64) -> bool {
        if !self.uploads[upload].open {
            return false;
        }
        let before = self.counted();
        let replaced = self.uploads[upload].parts.get(&number);
        let mut after = before;
        after.part_bytes = after.part_bytes - replaced.map_or(0, |(_, bytes)| *bytes) + bytes;
        self.goes_beyond(&before, &after)
    }

    fn goes_beyond(&self, before: &BucketUsageRow, after: &BucketUsageRow) -> bool {
        let goes_beyond =
            |most: Option<u64>, before, after| most.is_some_and(|most| after > most.max(before));
        let bytes = |usage: &BucketUsageRow| usage.bytes + usage.part_bytes;
        goes_beyond(self.quota.bytes, bytes(before), bytes(after))
            || goes_beyond(self.quota.objects, before.versions, after.versions)
    }
}
