//! Multipart uploads: create, parts, abort.

use crate::cluster_time::WallTime;
use crate::command::{Actor, BucketRef, FinalizePart, Reply, UploadRef};
use crate::ids::SessionId;
use crate::namespace::rows::{ChecksumAlgorithm, ChecksumKind, Metadata};
use crate::step::{Step, Stop};
use crate::store::Read;

/// What `SessionCommand::CreateUpload` carries.
#[derive(Clone, Copy, Debug)]
pub struct NewUpload<'a> {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: &'a str,
    /// Random part of the upload's name.
    pub random: u64,
    /// Name of its class.
    pub class: &'a str,
    /// Headers and metadata of the object to be.
    pub metadata: &'a Metadata,
    /// Checksum of the object to be.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// When.
    pub now: WallTime,
}

/// Begins a multipart upload.
pub fn create<R: Read>(_step: &mut Step<'_, R>, _new: &NewUpload<'_>) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Makes an uploaded part, or replaces it.
pub fn finalize_part<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _finalize: &FinalizePart,
) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Aborts an upload.
pub fn abort<R: Read>(
    _step: &mut Step<'_, R>,
    _actor: Actor,
    _bucket: BucketRef,
    _key: &str,
    _upload: UploadRef,
) -> Result<Reply, Stop> {
    unimplemented!()
}
