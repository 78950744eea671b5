//! The cluster's own rows: identity, cluster time, KEK check values, inline settings, id counters.

use crate::cluster_time::ClusterTime;
use crate::command::Reply;
use crate::fat::rows::{ClassRow, CountersRow, InlineRow};
use crate::ids::{ClusterId, KekId};
use crate::step::{Step, Stop};
use crate::store::Read;
use bytes::Bytes;

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn initialise<R: Read>(
    _step: &mut Step<'_, R>,
    _cluster: ClusterId,
    _classes: &[ClassRow],
    _inline: &InlineRow,
) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn tick<R: Read>(_step: &mut Step<'_, R>, _to: ClusterTime) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn check_kek<R: Read>(_step: &mut Step<'_, R>, _kek: KekId, _value: &Bytes) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn set_inline<R: Read>(_step: &mut Step<'_, R>, _settings: &InlineRow) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn mint<R: Read>(
    _step: &mut Step<'_, R>,
    _counter: fn(&mut CountersRow) -> &mut u64,
) -> Result<u64, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn next_settings_version<R: Read>(_step: &Step<'_, R>, _previous: u64) -> Result<u64, Stop> {
    unimplemented!()
}
