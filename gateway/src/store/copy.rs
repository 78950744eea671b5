//! Copies within the FAT.

use super::Store;
use crate::error::Error;
use ullage_model::cluster_time::WallTime;
use ullage_model::command::{Actor, BucketRef, Conditions, CopyObject, CopySource, Reply, SessionCommand};
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{Checksum, Etag, Metadata};

/// An object to be copied by reference.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// Who.
    pub actor: Actor,
    /// The bucket of the source as decided under.
    pub source: BucketRef,
    /// The key of the source.
    pub source_key: String,
    /// The version that was read.
    pub version: CopySource,
    /// The bucket of the copy as decided under.
    pub target: BucketRef,
    /// The key of the copy.
    pub key: String,
    /// Conditions on the copy's key.
    pub conditions: Conditions,
    /// Its headers and metadata.
    pub metadata: Metadata,
    /// Its checksum; `None`: the source's.
    pub checksum: Option<Checksum>,
}

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// How answers name the new version; not at all if the bucket never kept old ones.
    pub version: Option<VersionName>,
    /// Its entity tag.
    pub etag: Etag,
    /// Its checksum.
    pub checksum: Option<Checksum>,
    /// Last-Modified.
    pub modified: WallTime,
}

impl Store {
    /// Makes a version that refers to the bytes of another one. No byte is read.
    ///
    /// # Errors
    /// `Rejected(SourceChanged)` when the source is another version now; other refusals; or that the metadata
    /// service does not answer.
    pub async fn copy(&self, copy: CopyRequest) -> Result<Copied, Error> {
        let (actor, source, target) = (copy.actor, copy.source, copy.target);
        let modified = self.engine.around.clock.wall();
        let command = SessionCommand::CopyObject(CopyObject {
            actor,
            source,
            source_key: copy.source_key,
            version: copy.version,
            target,
            key: copy.key,
            conditions: copy.conditions,
            random: self.engine.around.random.number(),
            now: modified,
            metadata: copy.metadata,
            checksum: copy.checksum,
        });
        let copied = self.submit(command, Some((actor, target))).await;
        if copied == Err(Error::StaleSettings) {
            self.engine.directory.forget(actor.user, source.bucket);
        }
        match copied? {
            Reply::Stored {
                name, etag, checksum, ..
            } => Ok(Copied {
                version: name,
                etag,
                checksum,
                modified,
            }),
            _ => Err(Error::UnexpectedAnswer("copy object")),
        }
    }
}
