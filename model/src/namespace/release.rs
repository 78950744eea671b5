//! Giving content back: what a version, part or manifest referred to, and the steps of the release drain.

use crate::cluster_time::ClusterTime;
use crate::ids::{BlobId, ManifestId, UploadId};
use crate::step::{Step, Stop};
use crate::store::Read;

/// One bounded step of draining a released manifest; whether there is more to do.
pub fn drain_manifest_page<R: Read>(_step: &mut Step<'_, R>, _manifest: ManifestId) -> Result<bool, Stop> {
    unimplemented!()
}

/// One bounded step of draining a released upload; whether there is more to do.
pub fn drain_upload_page<R: Read>(_step: &mut Step<'_, R>, _upload: UploadId) -> Result<bool, Stop> {
    unimplemented!()
}

/// The last chunk row of a released blob is gone.
pub fn blob_gone<R: Read>(_step: &mut Step<'_, R>, _blob: BlobId) -> Result<(), Stop> {
    unimplemented!()
}

/// Forgets some uploads that were completed long enough before `now`.
pub fn forget_completed<R: Read>(_step: &mut Step<'_, R>, _now: ClusterTime) -> Result<(), Stop> {
    unimplemented!()
}
