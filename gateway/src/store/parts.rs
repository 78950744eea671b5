//! Parts of objects, and parts of uploads that are copies.

use super::Store;
use crate::error::Error;
use ullage_model::cluster_time::WallTime;
use ullage_model::command::{Actor, BucketRef, CopyPart, CopySource, Reply, SessionCommand, UploadRef};
use ullage_model::ids::ManifestId;
use ullage_model::namespace::rows::{Checksum, Etag, ObjectPart};
use ullage_model::wire::metad::{Answer, Query};

/// Bytes of an object to be a part of an upload, by reference.
#[derive(Clone, Debug)]
pub struct CopyPartRequest {
    /// Who.
    pub actor: Actor,
    /// The bucket of the source as decided under.
    pub source: BucketRef,
    /// The key of the source.
    pub source_key: String,
    /// The version that was read.
    pub version: CopySource,
    /// First plaintext byte.
    pub first: u64,
    /// Plaintext bytes.
    pub bytes: u64,
    /// The bucket of the upload as decided under.
    pub target: BucketRef,
    /// The key of the upload.
    pub key: String,
    /// The upload.
    pub upload: UploadRef,
    /// The part's number.
    pub number: u32,
    /// Its entity tag.
    pub etag: Etag,
    /// Its checksum, if it is known.
    pub checksum: Option<Checksum>,
}

impl Store {
    /// Makes a part that refers to bytes of an object; answers its Last-Modified. No byte is read.
    ///
    /// # Errors
    /// `Rejected(SourceChanged)` when the source is another version now, `Rejected(TooManyExtents)` when the bytes are
    /// to be copied one by one; other refusals; or that the metadata service does not answer.
    pub async fn copy_part(&self, copy: CopyPartRequest) -> Result<WallTime, Error> {
        let (actor, source, target) = (copy.actor, copy.source, copy.target);
        let modified = self.engine.around.clock.wall();
        let command = SessionCommand::CopyPart(CopyPart {
            actor,
            source,
            source_key: copy.source_key,
            version: copy.version,
            first: copy.first,
            bytes: copy.bytes,
            target,
            key: copy.key,
            upload: copy.upload,
            number: copy.number,
            now: modified,
            etag: copy.etag,
            checksum: copy.checksum,
        });
        let copied = self.submit(command, Some((actor, target))).await;
        if copied == Err(Error::StaleSettings) {
            self.engine.directory.forget(actor.user, source.bucket);
        }
        expect_answer!(copied?, Reply::Done => modified, "copy part")
    }

    /// Parts of an object behind number `after`, and how many it has in all: none if it is gone.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn object_parts(
        &self,
        manifest: ManifestId,
        after: u32,
        limit: usize,
    ) -> Result<(Vec<ObjectPart>, u32), Error> {
        let query = Query::ObjectParts {
            manifest,
            after,
            limit,
        };
        expect_answer!(self.query(query).await?, Answer::ObjectParts(parts, of) => (parts, of), "an object's parts")
    }
}
