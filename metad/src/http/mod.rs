//! The service on the network: the table of its routes, who may call each, and what a node that does not lead
//! does with a call. What a call does is [`crate::service`]'s; only this module names axum.

mod admission;
mod agent_api;
mod caller;
mod forward;
mod gateway_api;
mod metrics;

pub use metrics::CallMetrics;
pub use ullage_transport::health::PUBLIC_ROUTES;

use crate::raft::{self, peer_api};
use crate::service::Metad;
use admission::Admission;
use axum::Router;
use axum::middleware::from_fn_with_state;
use std::sync::Arc;
use ullage_model::limits::COMMAND_BYTES_MAX;
use ullage_model::wire::routes;
use ullage_transport::api::{Api, Route};
use ullage_transport::identity::Callers;

/// A metadata node has its own row set by the leader: `Command` → `Done`.
pub(crate) const PUBLISH: &str = "/v1/member/publish";
/// Connections on which calls are passed on to the leader; others are Raft's.
pub(crate) const FORWARD_LANE: u8 = 16;

/// Bytes of a message that holds a command.
const COMMAND_CALL_BYTES: usize = COMMAND_BYTES_MAX + 64 * 1024;
/// Bytes of a message that holds a few numbers and names.
const SMALL_CALL_BYTES: usize = 64 * 1024;
/// Bytes of what a vendor says of itself.
const VENDOR_CALL_BYTES: usize = 256 * 1024;
/// Bytes of a vendor's report: `limits::COPIES_PER_REPORT` copies of each kind.
const REPORT_BYTES: usize = 12 * 1024 * 1024;

// Metadata nodes are callers of each, for those for whom they pass a call on.
const GATEWAYS: Callers = Callers::GATEWAY.and(Callers::METAD);
const VENDORS: Callers = Callers::VENDOR.and(Callers::METAD);

/// What gateways, vendors and enrolling vendors call. Raft's routes are [`raft::PEER_ROUTES`].
pub const ROUTES: &[Route] = &[
    route(routes::SESSION_OPEN, GATEWAYS, SMALL_CALL_BYTES),
    route(routes::SESSION_RENEW, GATEWAYS, SMALL_CALL_BYTES),
    route(routes::SESSION_END, GATEWAYS, SMALL_CALL_BYTES),
    route(routes::ALLOCATE, GATEWAYS, SMALL_CALL_BYTES),
    route(routes::SUBMIT, GATEWAYS, COMMAND_CALL_BYTES),
    route(routes::SUBMIT_MANY, GATEWAYS, COMMAND_CALL_BYTES),
    route(routes::RESOLVE, GATEWAYS, SMALL_CALL_BYTES),
    route(routes::QUERY, GATEWAYS, SMALL_CALL_BYTES),
    route(routes::QUERY_MANY, Callers::GATEWAY, COMMAND_CALL_BYTES),
    route(routes::REPORT_DAMAGED, GATEWAYS, SMALL_CALL_BYTES),
    route(routes::OPERATE, GATEWAYS, COMMAND_CALL_BYTES),
    route(routes::STATUS, Callers::GATEWAY, SMALL_CALL_BYTES),
    route(routes::MEMBERS, GATEWAYS, SMALL_CALL_BYTES),
    route(routes::INVITE, GATEWAYS, SMALL_CALL_BYTES),
    route(routes::ENROL, Callers::ANYONE, VENDOR_CALL_BYTES),
    route(routes::REGISTER, VENDORS, VENDOR_CALL_BYTES),
    route(routes::HEARTBEAT, VENDORS, REPORT_BYTES),
    route(routes::JUDGE, Callers::VENDOR, SMALL_CALL_BYTES),
    route(PUBLISH, Callers::METAD, SMALL_CALL_BYTES),
];

const fn route(path: &'static str, callers: Callers, body_bytes: usize) -> Route {
    Route {
        path,
        callers,
        body_bytes,
    }
}

fn route_of(path: &'static str) -> Route {
    let found = ROUTES.iter().find(|route| route.path == path).copied();
    // Nobody may call what the table does not name.
    found.unwrap_or(route(path, Callers::NOBODY, 0))
}

/// What handlers share.
#[derive(Clone)]
struct State {
    metad: Arc<Metad>,
    admission: Arc<Admission>,
    metrics: CallMetrics,
}

/// The routes of a node, all of them.
#[must_use]
pub fn routes_served() -> Vec<Route> {
    ROUTES.iter().chain(raft::PEER_ROUTES).copied().collect()
}

/// The router of `metad`.
pub fn router(metad: &Arc<Metad>, metrics: CallMetrics) -> Router {
    let state = State {
        metad: Arc::clone(metad),
        admission: Arc::new(Admission::new(metrics.clone())),
        metrics,
    };
    let services = agent_api::add(gateway_api::add(Api::new(state.clone())));
    let services = services
        .into_router()
        .layer(from_fn_with_state(Arc::clone(&state.admission), admission::admit));
    // What Raft says must not wait behind what others ask.
    let peers = peer_api(Api::new(Arc::clone(metad)), |metad: &Arc<Metad>| {
        Arc::clone(&metad.group)
    });
    services.merge(peers.into_router())
}

#[cfg(test)]
mod tests {
    use super::{ROUTES, route_of, routes_served};
    use std::collections::BTreeSet;

    #[test]
    fn every_path_is_in_the_table_once() {
        let paths: BTreeSet<&str> = routes_served().iter().map(|route| route.path).collect();
        assert_eq!(paths.len(), routes_served().len());
        for route in ROUTES {
            assert_eq!(route_of(route.path), *route);
        }
    }
}
