//! Multipart uploads but for the parts' bytes, which go through [`Store::put`].

use super::Store;
use crate::error::Error;
use crate::limits::PARTS_CHANGED_RETRIES;
use crate::put::PutError;
use ullage_model::command::{
    Actor, BucketRef, CompleteSlice, CompleteUpload, Conditions, ListedPart, Reply, SessionCommand, UploadRef,
};
use ullage_model::ids::{BucketId, ManifestId, VersionName};
use ullage_model::limits::EXTENTS_PER_PAGE;
use ullage_model::namespace::rows::{
    BucketRow, Checksum, ChecksumAlgorithm, ChecksumKind, Etag, Metadata, UploadRow,
};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{Answer, Query, UploadedPart, UploadsReply, UploadsRequest};

/// A multipart upload to begin.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// Name of its class.
    pub class: String,
    /// Headers and metadata of the object to be.
    pub metadata: Metadata,
    /// Checksum of the object to be.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

/// A multipart upload to complete.
#[derive(Clone, Debug)]
pub struct CompleteRequest {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload: UploadRef,
    /// The parts as listed by the client, numbers rising.
    pub parts: Vec<ListedPart>,
    /// Conditions on the current version.
    pub conditions: Conditions,
    /// Plaintext bytes the client says the object has.
    pub expected_bytes: Option<u64>,
}

/// One part as stored: its entity tag, its checksum, its plaintext bytes.
pub type PartFacts = (Etag, Option<Checksum>, u64);

/// A completed upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// How answers name the version it became; not at all if the bucket never kept old ones.
    pub version: Option<VersionName>,
    /// Its entity tag.
    pub etag: Etag,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

impl Store {
    /// Begins a multipart upload.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn create_upload(&self, new: NewUpload) -> Result<UploadRef, Error> {
        let settings = (new.actor, new.bucket);
        let command = SessionCommand::CreateUpload {
            actor: new.actor,
            bucket: new.bucket,
            key: new.key,
            random: self.engine.around.random.number(),
            class: new.class,
            metadata: new.metadata,
            checksum: new.checksum,
            now: self.engine.around.clock.wall(),
        };
        let reply = self.submit(command, Some(settings)).await?;
        expect_answer!(reply, Reply::Upload(upload) => upload, "create upload")
    }

    /// An upload.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn upload(
        &self,
        bucket: BucketId,
        key: String,
        upload: UploadRef,
    ) -> Result<Option<UploadRow>, Error> {
        let answer = self.query(Query::Upload { bucket, key, upload }).await?;
        expect_answer!(answer, Answer::Upload(row) => row, "an upload")
    }

    /// A page of a bucket's open uploads.
    ///
    /// # Errors
    /// As [`Store::head`], when the page is empty.
    pub async fn uploads(&self, bucket: &BucketRow, request: UploadsRequest) -> Result<UploadsReply, Error> {
        let answer = self.query(Query::Uploads(request)).await?;
        let page = expect_answer!(answer, Answer::Uploads(page) => page, "uploads")?;
        if page.uploads.is_empty() && page.common_prefixes.is_empty() {
            self.engine.directory.confirm_bucket(bucket).await?;
        }
        Ok(page)
    }

    /// Parts of an upload, those after number `after`; and whether there are more.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn parts(
        &self,
        upload: UploadRef,
        after: u32,
        limit: usize,
    ) -> Result<(Vec<UploadedPart>, bool), Error> {
        let answer = self.query(Query::Parts { upload, after, limit }).await?;
        expect_answer!(answer, Answer::Parts(parts, more) => (parts, more), "parts")
    }

    /// Aborts an upload.
    ///
    /// # Errors
    /// `Rejected(NoSuchUpload)` and other refusals, or that the metadata service does not answer.
    pub async fn abort_upload(
        &self,
        actor: Actor,
        bucket: BucketRef,
        key: String,
        upload: UploadRef,
    ) -> Result<(), Error> {
        let command = SessionCommand::AbortUpload {
            actor,
            bucket,
            key,
            upload,
        };
        let reply = self.submit(command, Some((actor, bucket))).await?;
        expect_answer!(reply, Reply::Done => (), "abort upload")
    }

    /// Completes an upload. `combine` makes the entity tag and the checksum of the whole from the parts as they are
    /// stored, in order; it may refuse. A repeated complete answers what the first one did.
    ///
    /// # Errors
    /// What `combine` refuses with; a refusal of the metadata service; or that it does not answer.
    pub async fn complete_upload<R: Send>(
        &self,
        request: &CompleteRequest,
        mut combine: impl FnMut(&[PartFacts]) -> Result<(Etag, Option<Checksum>), R> + Send,
    ) -> Result<Completed, PutError<R>> {
        for _ in 0..PARTS_CHANGED_RETRIES {
            let (manifest, facts) = match self.build_manifest(request).await {
                Ok(Building::Built(manifest, facts)) => (manifest, facts),
                Ok(Building::Completed(completed)) => return Ok(completed),
                Err(Error::Rejected(Rejection::PartsChanged)) => continue,
                Err(error) => return Err(error.into()),
            };
            let (etag, checksum) = combine(&facts).map_err(PutError::Refused)?;
            let command = SessionCommand::CompleteUpload(CompleteUpload {
                actor: request.actor,
                bucket: request.bucket,
                key: request.key.clone(),
                upload: request.upload,
                manifest,
                conditions: request.conditions.clone(),
                random: self.engine.around.random.number(),
                now: self.engine.around.clock.wall(),
                etag,
                checksum,
                expected_bytes: request.expected_bytes,
            });
            match self.submit(command, Some((request.actor, request.bucket))).await {
                Err(Error::Rejected(Rejection::PartsChanged)) => {}
                Err(error) => return Err(error.into()),
                Ok(reply) => return Ok(completed(reply)?),
            }
        }
        Err(Error::Rejected(Rejection::PartsChanged).into())
    }

    async fn build_manifest(&self, request: &CompleteRequest) -> Result<Building, Error> {
        let mut manifest = None;
        let mut facts = Vec::with_capacity(request.parts.len());
        while facts.len() < request.parts.len() {
            let end = (facts.len() + EXTENTS_PER_PAGE).min(request.parts.len());
            let command = SessionCommand::CompleteSlice(CompleteSlice {
                actor: request.actor,
                bucket: request.bucket,
                key: request.key.clone(),
                upload: request.upload,
                manifest,
                parts: request.parts[facts.len()..end].to_vec(),
                last: end == request.parts.len(),
            });
            match self
                .submit(command, Some((request.actor, request.bucket)))
                .await?
            {
                Reply::Manifest {
                    manifest: built,
                    parts,
                } if (1..=end - facts.len()).contains(&parts.len()) => {
                    // Fewer than asked if they have many extents: the next slice goes on behind them.
                    manifest = Some(built);
                    facts.extend(parts);
                }
                reply @ Reply::AlreadyCompleted { .. } => return Ok(Building::Completed(completed(reply)?)),
                _ => return Err(Error::UnexpectedAnswer("complete slice")),
            }
        }
        match manifest {
            Some(manifest) => Ok(Building::Built(manifest, facts)),
            None => {
                Err(Rejection::Invalid("an upload is completed with at least one part".to_owned()).into())
            }
        }
    }
}

enum Building {
    Built(ManifestId, Vec<PartFacts>),
    Completed(Completed),
}

fn completed(reply: Reply) -> Result<Completed, Error> {
    match reply {
        Reply::Stored {
            name, etag, checksum, ..
        }
        | Reply::AlreadyCompleted {
            name, etag, checksum, ..
        } => Ok(Completed {
            version: name,
            etag,
            checksum,
        }),
        _ => Err(Error::UnexpectedAnswer("complete upload")),
    }
}
