//! What CopyObject and UploadPartCopy share: when they are tried again, the source of a copy, and its bytes on their
//! way through the gateway.

use super::Call;
use super::authorize::{Caller, Sight};
use super::convert::{etag, row_algorithm, row_checksum, time};
use super::errors::{s3_error, undone};
use super::objects_read::object_name;
use super::versioning::{found, version_name};
use crate::directory::Bucket;
use crate::error::Error;
use crate::get::{FoundVersion, Lookup, ObjectName, ObjectStream};
use crate::limits::SOURCE_CHANGED_RETRIES;
use crate::put::PutError;
use crate::s3::checksum::{ChecksumAlgorithm, ChecksumHasher};
use crate::s3::conditions::WriteCondition;
use crate::s3::copy::CopySource;
use crate::s3::error::{ErrorCode, Result, S3Error};
use crate::s3::md5::Md5Hasher;
use bytes::Bytes;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use ullage_model::command;
use ullage_model::ids::{VersionId, VersionName};
use ullage_model::namespace::rows::{self, ChecksumKind, Etag, VersionRow};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::ByteRange;

/// A copy under the present settings: made again when they changed meanwhile or its source was replaced, within bounds.
///
/// # Errors
/// What `attempt` failed with last; OperationAborted if things kept changing.
pub(super) async fn made<T, F>(
    call: &Call<'_>,
    target: &str,
    condition: &WriteCondition,
    attempt: impl Fn(Caller, Arc<Bucket>) -> F,
) -> Result<T>
where
    F: Future<Output = std::result::Result<T, PutError<S3Error>>>,
{
    let mut tries = 0;
    loop {
        match call.decided_as(target, &attempt).await {
            Err(PutError::Failed(Error::Rejected(Rejection::SourceChanged)))
                if tries < SOURCE_CHANGED_RETRIES =>
            {
                tries += 1;
            }
            copied => return copied.map_err(|error| undone(error, condition)),
        }
    }
}

/// What became of bytes that were stored: final, as the data path has tried again already, with the bytes it held.
pub(super) fn stored<T>(
    stored: std::result::Result<T, PutError<S3Error>>,
    condition: &WriteCondition,
) -> std::result::Result<T, PutError<S3Error>> {
    stored.map_err(|error| PutError::Refused(undone(error, condition)))
}

/// Which bytes of which version were read, and with checksums of which algorithm.
type WhatWasRead = (VersionId, (u64, u64), ChecksumAlgorithm);

/// Digests of bytes that were read for them, kept from one attempt to the next: a version's bytes never change.
#[derive(Debug)]
pub(super) struct Kept<T>(Mutex<Option<(WhatWasRead, T)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    /// What an earlier attempt made of the same bytes, else what `make` makes of them now.
    ///
    /// # Errors
    /// What `make` fails with.
    pub(super) async fn or_made<E>(
        &self,
        what: WhatWasRead,
        make: impl Future<Output = std::result::Result<T, E>>,
    ) -> std::result::Result<T, E> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock()
            .as_ref()
            .filter(|(of, _)| *of == what)
            .map(|(_, kept)| kept.clone());
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let made = make.await?;
        *lock() = Some((what, made.clone()));
        Ok(made)
    }
}

/// What a copy is made of.
pub(super) struct Source<'a> {
    /// Its bucket.
    pub(super) bucket: Arc<Bucket>,
    /// Its name.
    pub(super) name: ObjectName,
    /// The version, on which the client's conditions hold.
    pub(super) version: VersionRow,
    /// How answers name the version.
    pub(super) shown: Option<VersionName>,
    sight: Sight<'a>,
}

impl<'a> Source<'a> {
    /// Looks it up, if `caller` may read it.
    ///
    /// # Errors
    /// NoSuchBucket, NoSuchKey, NoSuchVersion, AccessDenied, PreconditionFailed; or what looking up fails with.
    pub(super) async fn find(
        call: &Call<'a>,
        caller: &Caller,
        source: &CopySource,
    ) -> std::result::Result<Self, PutError<S3Error>> {
        let bucket = call.source(&source.bucket, source.expected_owner.as_deref(), caller);
        let (bucket, sight) = bucket.await.map_err(PutError::Refused)?;
        let wanted = version_name(source.version_id.as_deref()).map_err(PutError::Refused)?;
        let name = object_name(call, &bucket, &source.key, wanted);
        let lookup = call.store.head(&bucket, &name).await?;
        let FoundVersion {
            version, name: shown, ..
        } = Self::found(lookup, source).map_err(PutError::Refused)?;
        sight.check(&version.metadata).map_err(PutError::Refused)?;
        source
            .judge(&etag(&version.etag), time(version.modified))
            .map_err(PutError::Refused)?;
        Ok(Self {
            bucket,
            name,
            version,
            shown,
            sight,
        })
    }

    /// What was found, which cannot be a delete marker.
    fn found<T>(lookup: Lookup<T>, source: &CopySource) -> Result<T> {
        match (&lookup, &source.version_id) {
            (Lookup::DeleteMarker(_), Some(_)) => Err(S3Error::new(
                ErrorCode::InvalidRequest,
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            )),
            (_, version_id) => found(lookup, "PUT", &source.key, version_id.as_deref()),
        }
    }

    /// What commands name it by.
    pub(super) fn reference(&self) -> command::CopySource {
        match self.name.version {
            Some(_) => command::CopySource::Named(self.version.version),
            None => command::CopySource::Current(self.version.version),
        }
    }

    /// Bytes of the version that was found, to be read with checksums of this algorithm.
    ///
    /// # Errors
    /// `Rejected(SourceChanged)` when it is another version by now; AccessDenied when it may not be read any more; or
    /// what looking up fails with.
    pub(super) async fn read(
        &self,
        call: &Call<'_>,
        (first, bytes): (u64, u64),
        algorithm: ChecksumAlgorithm,
    ) -> std::result::Result<CopiedBytes, PutError<S3Error>> {
        let range = ByteRange::From { first, bytes };
        let object = call.store.open(&self.bucket, self.name.clone(), range).await?;
        let object = object
            .found()
            .filter(|object| object.version.version == self.version.version)
            .ok_or(Error::Rejected(Rejection::SourceChanged))?;
        self.sight
            .check(&object.version.metadata)
            .map_err(PutError::Refused)?;
        Ok(CopiedBytes {
            bytes: object.read(first, bytes),
            md5: Some(Md5Hasher::new()),
            checksum: Some(ChecksumHasher::new(algorithm)),
            made: None,
        })
    }
}

/// Whether this is the checksum of all bytes by this algorithm.
pub(super) fn is_full(checksum: &rows::Checksum, algorithm: ChecksumAlgorithm) -> bool {
    checksum.kind == ChecksumKind::FullObject && checksum.algorithm == row_algorithm(algorithm)
}

/// Bytes of an object, verified as they were read, and digested as they pass.
pub(super) struct CopiedBytes {
    bytes: ObjectStream,
    md5: Option<Md5Hasher>,
    checksum: Option<ChecksumHasher>,
    made: Option<(Etag, rows::Checksum)>,
}

impl CopiedBytes {
    /// The next bytes; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = self.bytes.next().await.map_err(s3_error)?;
        if let Some(bytes) = &next {
            if let Some(md5) = &mut self.md5 {
                md5.update(bytes);
            }
            if let Some(checksum) = &mut self.checksum {
                checksum.update(bytes);
            }
        }
        Ok(next)
    }

    /// Entity tag and checksum of all that has passed; no more may pass.
    pub(super) fn digests(&mut self) -> Result<(Etag, rows::Checksum)> {
        if let (Some(md5), Some(checksum)) = (self.md5.take(), self.checksum.take()) {
            self.made = Some((Etag::Md5(md5.finish()), row_checksum(&checksum.finish())));
        }
        self.made.clone().ok_or_else(|| ErrorCode::InternalError.into())
    }

    /// Reads all of it, for its digests only.
    pub(super) async fn read_through(mut self) -> Result<(Etag, rows::Checksum)> {
        while self.next().await?.is_some() {}
        self.digests()
    }

    /// Reads all of it, for its checksum only.
    pub(super) async fn checksum_through(mut self) -> Result<rows::Checksum> {
        self.md5 = None;
        while self.next().await?.is_some() {}
        let checksum = self.checksum.take().ok_or(ErrorCode::InternalError)?;
        Ok(row_checksum(&checksum.finish()))
    }
}
