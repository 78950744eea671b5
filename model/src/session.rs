//! Sessions: the replicated identity of gateways, their sequence windows and stored outcomes.

use crate::command::Reply;
use crate::ids::SessionId;
use crate::step::{Step, Stop};
use crate::store::Read;

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn open<R: Read>(_step: &mut Step<'_, R>, _gateway: &str) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn renew<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _acknowledged_below: u64,
    _observed_index: u64,
) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn end<R: Read>(_step: &mut Step<'_, R>, _session: SessionId) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn abandon_step<R: Read>(_step: &mut Step<'_, R>, _session: SessionId) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn resolve<R: Read>(_step: &mut Step<'_, R>, _session: SessionId, _sequence: u64) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn decide_once<R: Read>(
    _step: &mut Step<'_, R>,
    _session: SessionId,
    _sequence: u64,
    _inner: impl FnOnce(&mut Step<'_, R>) -> Result<Reply, Stop>,
) -> Result<Reply, Stop> {
    unimplemented!()
}
