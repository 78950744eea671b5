//! Versioning switched on and off, and versions that are deleted for good.

use super::{Cluster, KEYS, ROOT};
use std::ops::ControlFlow;
use ullage_model::cluster_time::WallTime;
use ullage_model::command::{Conditions, DeleteObject, Reply, SessionCommand};
use ullage_model::ids::{SessionId, VersionName};
use ullage_model::namespace::rows::{VersionEntry, Versioning};
use ullage_model::namespace::{keys, version};
use ullage_model::store::KeyRange;

impl Cluster {
    pub(super) fn set_versioning(&mut self, at: usize, enabled: bool) {
        let versioning = if enabled {
            Versioning::Enabled
        } else {
            Versioning::Suspended
        };
        let command = SessionCommand::SetVersioning {
            actor: ROOT,
            bucket: self.bucket,
            versioning,
        };
        self.submit(at, command);
        self.bucket = self.bucket_ref(self.bucket.bucket);
    }

    pub(super) fn deletion(&self, key: u8, version: Option<VersionName>) -> SessionCommand {
        SessionCommand::DeleteObject(DeleteObject {
            actor: ROOT,
            bucket: self.bucket,
            key: format!("key-{}", key % KEYS),
            version,
            conditions: Conditions::default(),
            random: 1,
            now: WallTime(self.world.index),
        })
    }

    /// Deletes one of a key's versions and delete markers, if it has any.
    pub(super) fn delete_version(&mut self, at: usize, key: u8, version: u8) {
        let found = self.versions(key);
        let Some(version) = found.get(usize::from(version) % found.len().max(1)) else {
            return;
        };
        let name = name(version);
        let reply = self.submit(at, self.deletion(key, Some(name)));
        if let Reply::Deleted {
            existed,
            version,
            delete_marker: _,
        } = reply
        {
            assert_eq!((existed, version), (true, Some(name)));
        }
    }

    /// Deletes what is left under each key.
    pub(super) fn delete_all_versions(&mut self, session: SessionId) {
        for key in 0..KEYS {
            for version in self.versions(key) {
                let command = self.deletion(key, Some(name(&version)));
                let reply = self.world.submit(session, command);
                assert!(matches!(reply, Reply::Deleted { existed: true, .. }), "{reply:?}");
            }
        }
    }

    /// The versions and delete markers of a key, newest first.
    pub(super) fn versions(&self, key: u8) -> Vec<VersionEntry> {
        let key = format!("key-{}", key % KEYS);
        let range = KeyRange::prefix(&keys::versions(self.bucket.bucket, &key));
        let mut found = Vec::new();
        let scanned = version::scan(&self.world.rows, &range, |_, entry| {
            found.push(entry);
            Ok(ControlFlow::Continue(()))
        });
        scanned.unwrap();
        found
    }
}

fn name(version: &VersionEntry) -> VersionName {
    match version {
        VersionEntry::Object(row) => row.name(),
        VersionEntry::DeleteMarker(row) => row.name(),
    }
}
