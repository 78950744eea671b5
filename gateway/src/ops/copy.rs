//! CopyObject: by reference as long as the class stays the same, else through the gateway into room of the new
//! class.

use super::Call;
use super::access::{check_acl, row_acl};
use super::authorize::{Caller, Need, Said, Sight};
use super::convert::{DEFAULT_CLASS, algorithm, conditions, etag, object_checksum, row_metadata, time};
use super::errors::{s3_error, undone};
use super::objects_read::WHOLE;
use super::versioning::{found, shown, version_name};
use crate::directory::{Bucket, bucket_ref};
use crate::error::Error;
use crate::get::{Lookup, ObjectName, ObjectStream};
use crate::limits::SOURCE_CHANGED_RETRIES;
use crate::policy::Action;
use crate::put::finalize::ObjectFinish;
use crate::put::plan::PutRequest;
use crate::put::{PutError, Upload};
use crate::s3::Reply;
use crate::s3::answer::CopyAnswer;
use crate::s3::copy::CopyObject;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::tagging::Tags;
use crate::store::{Copied, CopyRequest};
use bytes::Bytes;
use std::sync::Arc;
use ullage_model::command::CopySource;
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{BucketRow, Metadata, VersionRow};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::ObjectAnswer;

/// CopyObject.
pub(super) async fn object(call: &Call<'_>, request: &CopyObject) -> Result<Reply> {
    let class = request
        .storage_class
        .clone()
        .unwrap_or_else(|| DEFAULT_CLASS.to_owned());
    if !call.store.view().classes.contains_key(&class) {
        return Err(S3Error::from(ErrorCode::InvalidStorageClass).with("StorageClassRequested", class));
    }
    let mut tries = 0;
    let copied = loop {
        tries += 1;
        let copied = call.decided_as(&request.bucket, |caller, target| {
            let copying = Copying {
                call,
                request,
                class: &class,
                caller,
                target,
            };
            copying.copy()
        });
        match copied.await {
            Err(PutError::Failed(Error::Rejected(Rejection::SourceChanged)))
                if tries <= SOURCE_CHANGED_RETRIES => {}
            copied => break copied,
        }
    };
    let (copied, of_source) = copied.map_err(|error| undone(error, &request.condition))?;
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
    caller: Caller,
    target: Arc<Bucket>,
}

impl Copying<'_> {
    /// The copy, and how answers name the version it was made of.
    async fn copy(self) -> std::result::Result<(Copied, Option<VersionName>), PutError<S3Error>> {
        let source = &self.request.source;
        let expected_owner = source.expected_owner.as_deref();
        let found = self.call.source(&source.bucket, expected_owner, &self.caller);
        let (bucket, sight) = found.await.map_err(PutError::Refused)?;
        let name = ObjectName {
            bucket: bucket.bucket,
            key: source.key.clone(),
            version: version_name(source.version_id.as_deref()).map_err(PutError::Refused)?,
            request_id: self.call.request_id,
        };
        let lookup = self.call.store.head(&bucket, &name).await?;
        let ObjectAnswer {
            version,
            name: of_source,
            ..
        } = self.found(lookup)?;
        sight.check(&version.metadata).map_err(PutError::Refused)?;
        self.allow(&bucket, &version).map_err(PutError::Refused)?;
        self.judge(&version).map_err(PutError::Refused)?;
        let copied = if version.class == self.class {
            (self.by_reference(&bucket, version).await?, of_source)
        } else {
            self.by_bytes(&bucket, name, sight).await?
        };
        Ok(copied)
    }

    /// The source, which cannot be a delete marker.
    fn found<T>(&self, lookup: Lookup<T>) -> std::result::Result<T, PutError<S3Error>> {
        let source = &self.request.source;
        let refused = match (&lookup, &source.version_id) {
            (Lookup::DeleteMarker(_), Some(_)) => Some(S3Error::new(
                ErrorCode::InvalidRequest,
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            )),
            _ => None,
        };
        match refused {
            Some(refused) => Err(refused),
            None => found(lookup, "PUT", &source.key, source.version_id.as_deref()),
        }
        .map_err(PutError::Refused)
    }

    /// Tags that come along are read there and set here, and the caller must be allowed both.
    fn allow(&self, bucket: &Bucket, version: &VersionRow) -> Result<()> {
        if self.takes_tags_along(version) {
            let source = &self.request.source;
            let actions = (Action::GetObjectTagging, Action::GetObjectVersionTagging);
            let version = source.version_id.as_deref();
            let read = Need::version(actions, &source.bucket, &source.key, version);
            self.call.require(&self.caller, bucket, &read)?;
        }
        self.allow_target(version)
    }

    fn takes_tags_along(&self, version: &VersionRow) -> bool {
        self.request.tags.is_none() && !version.metadata.tags.is_empty()
    }

    /// What the target's bucket must allow beside the copy itself: its access control list, and tags that come along.
    fn allow_target(&self, version: &VersionRow) -> Result<()> {
        let request = self.request;
        check_acl(&self.target, request.acl)?;
        if !self.takes_tags_along(version) {
            return Ok(());
        }
        let tags = &version.metadata.tags;
        let said = Said {
            tags: tags.clone(),
            ..Said::default()
        };
        let set = Need::object(Action::PutObjectTagging, &request.bucket, &request.key).saying(said);
        self.call.require(&self.caller, &self.target, &set)
    }

    /// Whether the version may be copied, with the checksum asked for.
    fn judge(&self, version: &VersionRow) -> Result<()> {
        self.request
            .source
            .judge(&etag(&version.etag), time(version.modified))?;
        let known = version
            .checksum
            .as_ref()
            .map(|checksum| algorithm(checksum.algorithm));
        if self.request.checksum.is_some_and(|wanted| known != Some(wanted)) {
            // It would have to be made from the bytes, which a copy does not read.
            return Err(S3Error::header_not_offered("x-amz-checksum-algorithm"));
        }
        Ok(())
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

    async fn by_reference(
        &self,
        source: &BucketRow,
        version: VersionRow,
    ) -> std::result::Result<Copied, PutError<S3Error>> {
        let copy = CopyRequest {
            actor: self.caller.actor,
            source: bucket_ref(source),
            source_key: self.request.source.key.clone(),
            version: match self.request.source.version_id {
                Some(_) => CopySource::Named(version.version),
                None => CopySource::Current(version.version),
            },
            target: bucket_ref(&self.target),
            key: self.request.key.clone(),
            conditions: conditions(&self.request.condition),
            metadata: self.metadata(version.metadata),
        };
        Ok(self.call.store.copy(copy).await?)
    }

    async fn by_bytes(
        self,
        source: &Bucket,
        name: ObjectName,
        sight: Sight,
    ) -> std::result::Result<(Copied, Option<VersionName>), PutError<S3Error>> {
        let lookup = self.call.store.open(source, name, WHOLE).await?;
        let object = self.found(lookup)?;
        let of_source = object.version_name;
        let version = object.version.clone();
        sight.check(&version.metadata).map_err(PutError::Refused)?;
        self.allow(source, &version).map_err(PutError::Refused)?;
        self.judge(&version).map_err(PutError::Refused)?;
        let put = PutRequest {
            class: self.class.to_owned(),
            bytes: Some(version.bytes),
            request_id: self.call.request_id,
        };
        let store = self.call.store;
        let mut upload = CopiedBytes {
            bytes: object.read(0, version.bytes),
            copying: self,
            version,
        };
        let stored = store.put(&put, &mut upload).await?;
        let copied = Copied {
            version: stored.version,
            etag: stored.etag,
            checksum: stored.checksum,
            modified: stored.modified,
        };
        Ok((copied, of_source))
    }
}

/// A version's bytes on their way into room of another class. Every one of them has been verified.
struct CopiedBytes<'a> {
    copying: Copying<'a>,
    bytes: ObjectStream,
    version: VersionRow,
}

impl Upload for CopiedBytes<'_> {
    type Finish = ObjectFinish;
    type Refusal = S3Error;

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.bytes.next().await.map_err(s3_error)
    }

    async fn finish(&mut self, stale: bool) -> Result<ObjectFinish> {
        let (call, request) = (self.copying.call, self.copying.request);
        if stale {
            (self.copying.caller, self.copying.target) = call.decide_anew(&request.bucket).await?;
            self.copying.allow_target(&self.version)?;
        }
        Ok(ObjectFinish {
            actor: self.copying.caller.actor,
            bucket: bucket_ref(&self.copying.target),
            key: request.key.clone(),
            conditions: conditions(&request.condition),
            etag: self.version.etag,
            checksum: self.version.checksum.clone(),
            metadata: self.copying.metadata(self.version.metadata.clone()),
        })
    }
}
