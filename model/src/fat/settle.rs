//! Settling: room of a lease becomes room of copies. Where FAT and namespace meet.

use crate::fat::rows::ChunkRow;
use crate::ids::{BlobId, SessionId};
use crate::step::{Step, Stop};
use crate::store::Read;

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn settle<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _class: &(String, u64),
    _blob: BlobId,
    _first: u32,
    _chunks: &[ChunkRow],
) -> Result<(), Stop> {
    unimplemented!()
}
