//! UploadPartCopy: by reference as long as the classes are the same and the pieces few, else through the gateway into
//! room of the upload's class.

use super::authorize::Caller;
use super::convert::{algorithm, etag, object_checksum, time};
use super::copied::{CopiedBytes, Kept, Source, is_full, made, stored};
use super::multipart::open_upload;
use super::objects_write::DEFAULT_CHECKSUM;
use super::versioning::shown;
use super::{Call, quota};
use crate::directory::{Bucket, bucket_ref};
use crate::error::Error;
use crate::put::finalize::PartFinish;
use crate::put::plan::PutRequest;
use crate::put::{PutError, Upload};
use crate::s3::Reply;
use crate::s3::answer::CopyAnswer;
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::conditions::WriteCondition;
use crate::s3::copy::UploadPartCopy;
use crate::s3::error::{Result, S3Error};
use crate::s3::md5::md5;
use crate::s3::range::ByteRange;
use crate::store::CopyPartRequest;
use bytes::Bytes;
use std::sync::Arc;
use ullage_model::cluster_time::WallTime;
use ullage_model::command::{Actor, UploadRef};
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{Checksum, Etag, UploadRow, VersionRow};
use ullage_model::rejection::Rejection;

/// UploadPartCopy.
pub(super) async fn part(call: &Call<'_>, request: &UploadPartCopy) -> Result<Reply> {
    let kept = Kept::default();
    let copied = made(
        call,
        &request.upload.bucket,
        &WriteCondition::Always,
        |caller, target| {
            let copying = Copying {
                call,
                request,
                kept: &kept,
                caller,
                target,
            };
            copying.copy()
        },
    );
    let (copied, of_source) = copied.await?;
    let answer = CopyAnswer {
        etag: etag(&copied.etag),
        last_modified: time(copied.modified),
        checksum: copied.checksum.as_ref().and_then(object_checksum),
    };
    Ok(answer.into_part_reply().with_source_version(shown(of_source)))
}

/// A part that was made.
struct CopiedPart {
    etag: Etag,
    /// If the upload asked for checksums.
    checksum: Option<Checksum>,
    modified: WallTime,
}

/// One attempt.
struct Copying<'a> {
    call: &'a Call<'a>,
    request: &'a UploadPartCopy,
    kept: &'a Kept<(Etag, Checksum)>,
    caller: Caller,
    target: Arc<Bucket>,
}

impl Copying<'_> {
    /// The part, and how answers name the version it was made of.
    async fn copy(self) -> std::result::Result<(CopiedPart, Option<VersionName>), PutError<S3Error>> {
        let upload = open_upload(self.call, &self.target, &self.request.upload);
        let (upload, row) = upload.await.map_err(PutError::Refused)?;
        let of_upload = row.checksum.map(|(named, _)| algorithm(named));
        let source = Source::find(self.call, &self.caller, &self.request.source).await?;
        let range = self
            .request
            .resolve(source.version.bytes)
            .map_err(PutError::Refused)?;
        self.call.progress.takes_long();
        let mut copied = if row.class == source.version.class && !source.version.content.is_inlined() {
            let copied = self.by_reference(upload, of_upload, &source, range).await;
            match copied {
                Err(PutError::Failed(Error::Rejected(Rejection::TooManyExtents))) => {
                    self.by_bytes(upload, &row, of_upload, &source, range).await?
                }
                copied => copied?,
            }
        } else {
            self.by_bytes(upload, &row, of_upload, &source, range).await?
        };
        copied.checksum = copied.checksum.filter(|_| of_upload.is_some());
        Ok((copied, source.shown))
    }

    async fn by_reference(
        &self,
        upload: UploadRef,
        of_upload: Option<ChecksumAlgorithm>,
        source: &Source<'_>,
        range: ByteRange,
    ) -> std::result::Result<CopiedPart, PutError<S3Error>> {
        let known = known_digests(&source.version, range);
        let (etag, checksum) = match (of_upload, known) {
            // As parts that come with none have it.
            (None, Some((etag, checksum))) => {
                (etag, checksum.filter(|known| is_full(known, DEFAULT_CHECKSUM)))
            }
            (Some(wanted), Some((etag, Some(checksum)))) if is_full(&checksum, wanted) => {
                (etag, Some(checksum))
            }
            (Some(wanted), _) => {
                // The part must have a checksum: its bytes are read, but not sent anywhere.
                let some = (range.start, range.length);
                let made = async {
                    self.check_quota(upload, range).await?;
                    let bytes = source.read(self.call, some, wanted).await?;
                    bytes.read_through().await.map_err(PutError::Refused)
                };
                let made = self.kept.or_made((source.version.version, some, wanted), made);
                let (etag, checksum) = made.await?;
                (etag, Some(checksum))
            }
            (None, None) => (unread(&source.version, range), None),
        };
        let copy = CopyPartRequest {
            actor: self.caller.actor,
            source: bucket_ref(&source.bucket),
            source_key: source.name.key.clone(),
            version: source.reference(),
            first: range.start,
            bytes: range.length,
            target: bucket_ref(&self.target),
            key: self.request.upload.key.clone(),
            upload,
            number: self.request.part_number,
            etag,
            checksum: checksum.clone(),
        };
        Ok(CopiedPart {
            etag,
            checksum,
            modified: self.call.store.copy_part(copy).await?,
        })
    }

    async fn check_quota(
        &self,
        upload: UploadRef,
        range: ByteRange,
    ) -> std::result::Result<(), PutError<S3Error>> {
        let part = (upload, self.request.part_number);
        let fits = quota::check_part(self.call, &self.target, part, Some(range.length));
        fits.await.map_err(PutError::Refused)
    }

    async fn by_bytes(
        &self,
        upload: UploadRef,
        row: &UploadRow,
        of_upload: Option<ChecksumAlgorithm>,
        source: &Source<'_>,
        range: ByteRange,
    ) -> std::result::Result<CopiedPart, PutError<S3Error>> {
        self.check_quota(upload, range).await?;
        let algorithm = of_upload.unwrap_or(DEFAULT_CHECKSUM);
        let put = PutRequest {
            class: row.class.clone(),
            bytes: Some(range.length),
            request_id: self.call.request_id,
        };
        let mut part = PartBytes {
            bytes: source
                .read(self.call, (range.start, range.length), algorithm)
                .await?,
            actor: self.caller.actor,
            target: Arc::clone(&self.target),
            upload,
            copying: self,
        };
        let stored = stored(
            self.call.store.put(&put, &mut part).await,
            &WriteCondition::Always,
        )?;
        Ok(CopiedPart {
            etag: stored.etag,
            checksum: stored.checksum,
            modified: stored.modified,
        })
    }
}

/// MD5 and checksum of the bytes, where the source knows them: of all of an object that was stored in one piece.
fn known_digests(source: &VersionRow, range: ByteRange) -> Option<(Etag, Option<Checksum>)> {
    let is_whole = range.start == 0 && range.length == source.bytes;
    (is_whole && matches!(source.etag, Etag::Md5(_))).then(|| (source.etag, source.checksum.clone()))
}

/// What stands for the MD5 of bytes that nobody read: the MD5 of which bytes they are. The same bytes of the same
/// version give the same.
fn unread(source: &VersionRow, range: ByteRange) -> Etag {
    let name = format!("{} {} {}", source.version, range.start, range.length);
    Etag::Md5(md5(name.as_bytes()))
}

/// Bytes of the source on their way to become a part.
struct PartBytes<'a> {
    copying: &'a Copying<'a>,
    bytes: CopiedBytes,
    actor: Actor,
    target: Arc<Bucket>,
    upload: UploadRef,
}

impl Upload for PartBytes<'_> {
    type Finish = PartFinish;
    type Refusal = S3Error;

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.bytes.next().await
    }

    async fn finish(&mut self, stale: bool) -> Result<PartFinish> {
        let (etag, checksum) = self.bytes.digests()?;
        if stale {
            let (caller, target) = self.copying.call.decide_anew(&self.target.row.name).await?;
            (self.actor, self.target) = (caller.actor, target);
        }
        Ok(PartFinish {
            actor: self.actor,
            bucket: bucket_ref(&self.target),
            key: self.copying.request.upload.key.clone(),
            upload: self.upload,
            number: self.copying.request.part_number,
            etag,
            checksum: Some(checksum),
        })
    }
}
