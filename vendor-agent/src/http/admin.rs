//! What the agent says of its health, for the machine's operators and their monitoring.

use crate::agent::Agent;
use prometheus::Registry;
use std::sync::{Arc, OnceLock};
use ullage_transport::health::Health;

pub use ullage_transport::health::PUBLIC_ROUTES;

/// The health of `agent`, which comes when it has been opened.
pub(crate) fn health(agent: Arc<OnceLock<Arc<Agent>>>, registry: Registry) -> Health {
    Health::new(registry, move || match agent.get() {
        Some(agent) if agent.is_ready() => Ok(()),
        Some(_) => Err("not yet heard from the metadata service, or stopping"),
        None => Err("starting"),
    })
}
