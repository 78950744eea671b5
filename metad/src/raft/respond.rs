//! How openraft answers a proposal: through a channel, giving back the proposal's room with the answer, so
//! that what is in flight is bounded even when its callers have gone.

use super::types::TypeConfig;
use openraft::raft::responder::Responder;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The room one proposal takes while it is in flight.
#[derive(Debug)]
pub struct Room {
    pub(super) _count: OwnedSemaphorePermit,
    pub(super) bytes: OwnedSemaphorePermit,
    pub(super) in_flight: IntGauge,
    pub(super) bytes_in_flight: IntGauge,
}

impl Room {
    pub(crate) fn new(
        count: OwnedSemaphorePermit,
        bytes: OwnedSemaphorePermit,
        in_flight: IntGauge,
        bytes_in_flight: IntGauge,
    ) -> Self {
        in_flight.inc();
        bytes_in_flight.add(i64::try_from(bytes.num_permits()).unwrap_or(i64::MAX));
        Self {
            _count: count,
            bytes,
            in_flight,
            bytes_in_flight,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.in_flight.dec();
        self.bytes_in_flight
            .sub(i64::try_from(self.bytes.num_permits()).unwrap_or(i64::MAX));
    }
}

/// Sends the answer and frees the room.
#[derive(Debug)]
pub struct PermitResponder<T> {
    answer: oneshot::Sender<T>,
    _room: Option<Room>,
}

impl<T> PermitResponder<T> {
    pub(super) fn new(room: Option<Room>) -> (Self, oneshot::Receiver<T>) {
        let (answer, receiver) = oneshot::channel();
        (Self { answer, _room: room }, receiver)
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for PermitResponder<T> {
    fn on_complete(self, result: T) {
        // A caller that has stopped waiting does not want to know.
        drop(self.answer.send(result));
    }
}
