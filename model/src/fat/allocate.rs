//! Provisional FATs: locking room and renewing it.

use crate::command::Reply;
use crate::ids::{LeaseId, SessionId, VendorId};
use crate::step::{Step, Stop};
use crate::store::Read;

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn allocate<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _class: &str,
    _rows: &[(VendorId, String, u64)],
    _duration_ms: u64,
) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn renew<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _lease: LeaseId,
    _duration_ms: u64,
) -> Result<Reply, Stop> {
    unimplemented!()
}
