//! Release: from the last reference to the vendor's acknowledgement of the erase.

use crate::command::Reply;
use crate::ids::{BlobId, CopyId, ManifestId, UploadId, VendorId};
use crate::step::{Step, Stop};
use crate::store::Read;

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn release_blob<R: Read>(_step: &mut Step<'_, R>, _blob: BlobId, _chunks: u32) {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn release_manifest<R: Read>(_step: &mut Step<'_, R>, _manifest: ManifestId) {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn release_upload<R: Read>(_step: &mut Step<'_, R>, _upload: UploadId) {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn drain<R: Read>(_step: &mut Step<'_, R>) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn acknowledge<R: Read>(
    _step: &mut Step<'_, R>,
    _vendor: VendorId,
    _copies: &[(u64, CopyId)],
) -> Result<Reply, Stop> {
    unimplemented!()
}
