//! Vendors: registration, devices, state.

use crate::command::Reply;
use crate::fat::rows::VendorState;
use crate::ids::VendorId;
use crate::step::{Step, Stop};
use crate::store::Read;
use crate::wire::agent::{DeviceReport, RegisterRequest};

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn register<R: Read>(_step: &mut Step<'_, R>, _request: &RegisterRequest) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn update_devices<R: Read>(
    _step: &mut Step<'_, R>,
    _vendor: VendorId,
    _devices: &[DeviceReport],
) -> Result<Reply, Stop> {
    unimplemented!()
}

/// Not written yet.
///
/// # Errors
/// See [`Stop`].
pub fn set_state<R: Read>(
    _step: &mut Step<'_, R>,
    _vendor: VendorId,
    _state: VendorState,
) -> Result<Reply, Stop> {
    unimplemented!()
}
