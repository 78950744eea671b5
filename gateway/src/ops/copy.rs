//! CopyObject: by reference as long as the class stays the same, else through the gateway into room of the new
//! class.

use super::access::{check_acl, row_acl};
use super::authorize::{Caller, Need, Said};
use super::convert::{DEFAULT_CLASS, algorithm, conditions, etag, object_checksum, row_metadata, time};
use super::copied::{CopiedBytes, Kept, Source, is_full, made, stored};
use super::objects_write::DEFAULT_CHECKSUM;
use super::versioning::shown;
use super::{Call, quota};
use crate::directory::{Bucket, bucket_ref};
use crate::policy::Action;
use crate::put::finalize::ObjectFinish;
use crate::put::plan::PutRequest;
use crate::put::{PutError, Upload};
use crate::s3::Reply;
use crate::s3::answer::CopyAnswer;
use crate::s3::copy::{CopyObject, check_length};
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::tagging::Tags;
use crate::store::{Copied, CopyRequest};
use bytes::Bytes;
use std::sync::Arc;
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{Checksum, Metadata};

/// CopyObject.
pub(super) async fn object(call: &Call<'_>, request: &CopyObject) -> Result<Reply> {
    let class = request
        .storage_class
        .clone()
        .unwrap_or_else(|| DEFAULT_CLASS.to_owned());
    if !call.store.view().classes.contains_key(&class) {
        return Err(S3Error::from(ErrorCode::InvalidStorageClass).with("StorageClassRequested", class));
    }
    let kept = Kept::default();
    let copied = made(call, &request.bucket, &request.condition, |caller, target| {
        let copying = Copying {
            call,
            request,
            class: &class,
            kept: &kept,
            caller,
            target,
        };
        copying.copy()
    });
    let (copied, of_source) = copied.await?;
    let answer = CopyAnswer {
        etag: etag(&copied.etag),
        last_modified: time(copied.modified),
        checksum: copied.checksum.as_ref().and_then(object_checksum),
    };
    Ok(answer
        .into_reply()
        .with_version(shown(copied.version))
        .with_source_version(shown(of_source)))
}

/// One attempt.
struct Copying<'a> {
    call: &'a Call<'a>,
    request: &'a CopyObject,
    class: &'a str,
    kept: &'a Kept<Checksum>,
    caller: Caller,
    target: Arc<Bucket>,
}

impl Copying<'_> {
    /// The copy, and how answers name the version it was made of.
    async fn copy(self) -> std::result::Result<(Copied, Option<VersionName>), PutError<S3Error>> {
        let source = Source::find(self.call, &self.caller, &self.request.source).await?;
        self.allow(&source).map_err(PutError::Refused)?;
        self.call.progress.takes_long();
        let of_source = source.shown;
        let copied = if source.version.class == self.class {
            self.by_reference(source).await?
        } else {
            self.by_bytes(source).await?
        };
        Ok((copied, of_source))
    }

    /// Tags that come along are read there and set here, and the caller must be allowed both.
    fn allow(&self, found: &Source<'_>) -> Result<()> {
        let of_source = &found.version.metadata;
        if self.takes_tags_along(of_source) {
            let source = &self.request.source;
            let actions = (Action::GetObjectTagging, Action::GetObjectVersionTagging);
            let version = source.version_id.as_deref();
            let read = Need::version(actions, &source.bucket, &source.key, version);
            self.call
                .require_of(&self.caller, &found.bucket, &read, of_source)?;
        }
        self.allow_target(of_source)
    }

    fn takes_tags_along(&self, of_source: &Metadata) -> bool {
        self.request.tags.is_none() && !of_source.tags.is_empty()
    }

    /// What the target's bucket must allow beside the copy itself: its access control list, and tags that come along.
    fn allow_target(&self, of_source: &Metadata) -> Result<()> {
        let request = self.request;
        check_acl(&self.target, request.acl)?;
        if !self.takes_tags_along(of_source) {
            return Ok(());
        }
        let tags = &of_source.tags;
        let said = Said {
            tags: tags.clone(),
            ..Said::default()
        };
        let set = Need::object(Action::PutObjectTagging, &request.bucket, &request.key).saying(said);
        self.call.require(&self.caller, &self.target, &set)
    }

    /// Headers, metadata and tags of the copy: the source's, but for what is to be replaced. Its access control list
    /// is its own.
    fn metadata(&self, of_source: Metadata) -> Metadata {
        let tags = match &self.request.tags {
            Some(tags) => tags.0.clone(),
            None => of_source.tags,
        };
        let metadata = match &self.request.headers {
            Some(headers) => row_metadata(headers.clone(), Tags(tags)),
            None => Metadata { tags, ..of_source },
        };
        Metadata {
            acl: row_acl(self.request.acl),
            ..metadata
        }
    }

    /// The checksum asked for, if it is another one than the source's: then the bytes are read for it.
    async fn new_checksum(
        &self,
        source: &Source<'_>,
    ) -> std::result::Result<Option<Checksum>, PutError<S3Error>> {
        let version = &source.version;
        let Some(wanted) = self.request.checksum else {
            return Ok(None);
        };
        if version
            .checksum
            .as_ref()
            .is_some_and(|known| is_full(known, wanted))
        {
            return Ok(None);
        }
        let all = (0, version.bytes);
        let made = async {
            self.check_bytes(version.bytes).await.map_err(PutError::Refused)?;
            let bytes = source.read(self.call, all, wanted).await?;
            bytes.checksum_through().await.map_err(PutError::Refused)
        };
        let checksum = self.kept.or_made((version.version, all, wanted), made);
        Ok(Some(checksum.await?))
    }

    /// Before the bytes are read: whether they are not too many, for one body or for the bucket.
    async fn check_bytes(&self, bytes: u64) -> Result<()> {
        check_length(bytes)?;
        quota::check(self.call, &self.target, &self.request.key, Some(bytes)).await
    }

    async fn by_reference(self, source: Source<'_>) -> std::result::Result<Copied, PutError<S3Error>> {
        let checksum = self.new_checksum(&source).await?;
        let copy = CopyRequest {
            actor: self.caller.actor,
            source: bucket_ref(&source.bucket),
            version: source.reference(),
            source_key: source.name.key,
            target: bucket_ref(&self.target),
            key: self.request.key.clone(),
            conditions: conditions(&self.request.condition),
            metadata: self.metadata(source.version.metadata),
            checksum,
        };
        Ok(self.call.store.copy(copy).await?)
    }

    async fn by_bytes(self, source: Source<'_>) -> std::result::Result<Copied, PutError<S3Error>> {
        let version = &source.version;
        let of_source = version.checksum.as_ref().map(|known| algorithm(known.algorithm));
        let wanted = self.request.checksum.or(of_source).unwrap_or(DEFAULT_CHECKSUM);
        self.check_bytes(version.bytes).await.map_err(PutError::Refused)?;
        let put = PutRequest {
            class: self.class.to_owned(),
            bytes: Some(version.bytes),
            request_id: self.call.request_id,
        };
        let store = self.call.store;
        let mut upload = ObjectBytes {
            bytes: source.read(self.call, (0, version.bytes), wanted).await?,
            metadata: self.metadata(source.version.metadata),
            copying: self,
        };
        let stored = stored(
            store.put(&put, &mut upload).await,
            &upload.copying.request.condition,
        )?;
        Ok(Copied {
            version: stored.version,
            etag: stored.etag,
            checksum: stored.checksum,
            modified: stored.modified,
        })
    }
}

/// A version's bytes on their way into room of another class. The copy is one body, whatever its source was made of.
struct ObjectBytes<'a> {
    copying: Copying<'a>,
    metadata: Metadata,
    bytes: CopiedBytes,
}

impl Upload for ObjectBytes<'_> {
    type Finish = ObjectFinish;
    type Refusal = S3Error;

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.bytes.next().await
    }

    async fn finish(&mut self, stale: bool) -> Result<ObjectFinish> {
        let (call, request) = (self.copying.call, self.copying.request);
        let (etag, checksum) = self.bytes.digests()?;
        if stale {
            (self.copying.caller, self.copying.target) = call.decide_anew(&request.bucket).await?;
            // Tags that come along are those of the copy.
            self.copying.allow_target(&self.metadata)?;
        }
        Ok(ObjectFinish {
            actor: self.copying.caller.actor,
            bucket: bucket_ref(&self.copying.target),
            key: request.key.clone(),
            conditions: conditions(&request.condition),
            etag,
            checksum: Some(checksum),
            metadata: self.metadata.clone(),
        })
    }
}
