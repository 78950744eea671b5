//! The end of provisional FATs: recall, shrink, return, expiry, confirmation by vendors.

use crate::command::Reply;
use crate::ids::{LeaseId, SessionId, VendorId};
use crate::step::{Step, Stop};
use crate::store::Read;

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn recall<R: Read>(_step: &mut Step<'_, R>, _lease: LeaseId) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn expire<R: Read>(_step: &mut Step<'_, R>, _lease: LeaseId) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn confirm<R: Read>(_step: &mut Step<'_, R>, _lease: LeaseId, _vendor: VendorId) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn shrink<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _lease: LeaseId,
    _rows: &[(VendorId, u64)],
) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn give_back<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _lease: LeaseId,
) -> Result<Reply, Stop> {
    unimplemented!()
}
