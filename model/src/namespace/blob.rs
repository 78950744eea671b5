//! Building blobs: the slices of a long body, committed while it uploads and invisible until finalized.

use crate::command::{Reply, SliceCommand};
use crate::ids::{BlobId, SessionId};
use crate::step::{Step, Stop};
use crate::store::{Read, StoreError};

/// Commits the next chunks of a long body.
pub fn slice<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _slice: &SliceCommand,
) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Gives up a building blob of `session`: its chunks are released.
pub fn abandon<R: Read>(_step: &mut Step<'_, R>, _session: SessionId, _blob: BlobId) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Up to `limit` building blobs of `session`.
pub fn building_of_session(
    _rows: &impl Read,
    _session: SessionId,
    _limit: usize,
) -> Result<Vec<BlobId>, StoreError> {
    unimplemented!()
}
