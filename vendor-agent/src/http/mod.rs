//! The agent's routes for gateways and other vendors: bodies in, the agent's own types through, bodies out. Beside
//! them health and metrics.
//! What becomes of a chunk is decided in `ingest`, of a read in `read`.

pub(crate) mod admin;
mod put;
mod read;

use crate::agent::Agent;
use crate::probe::Cookies;
use futures::FutureExt as _;
use std::sync::Arc;
use ullage_model::limits::COPIES_PER_BATCH;
use ullage_model::wire::chunk::{ChunkRefusal, HeldCopy, ListCopiesReply, ListCopiesRequest};
use ullage_model::wire::metad::Done;
use ullage_model::wire::probe::ProbeCookie;
use ullage_model::wire::routes;
use ullage_transport::api::{Api, Route};
use ullage_transport::identity::{Callers, Peer};

/// Longest header of a chunk, in bytes: a route of the most hops, with room to grow.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Longest body of a question, in bytes.
const QUESTION_BYTES_MAX: usize = 64 * 1024;

/// The agent's routes, all of them.
pub const ROUTES: &[Route] = &[
    route(routes::CHUNK_PUT, Callers::GATEWAY.and(Callers::VENDOR)),
    route(routes::CHUNK_READ, Callers::GATEWAY),
    route(routes::COPIES, Callers::GATEWAY),
    route(routes::PROBE_COOKIE, Callers::GATEWAY),
];

const fn route(path: &'static str, callers: Callers) -> Route {
    Route {
        path,
        callers,
        body_bytes: QUESTION_BYTES_MAX,
    }
}

fn route_of(path: &'static str) -> Route {
    let found = ROUTES.iter().find(|route| route.path == path).copied();
    // Nobody may call what the table does not name.
    found.unwrap_or(route(path, Callers::NOBODY))
}

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Service {
    agent: Arc<Agent>,
    cookies: Arc<Cookies>,
}

/// The routes of `agent`.
pub(crate) fn api(agent: Arc<Agent>, cookies: Arc<Cookies>) -> Api<Service> {
    Api::new(Service { agent, cookies })
        .stream(route_of(routes::CHUNK_PUT), |service: Service, peer, request| {
            put::put(service.agent, peer, request).boxed()
        })
        .stream(route_of(routes::CHUNK_READ), |service: Service, _, request| {
            read::read(service.agent, request).boxed()
        })
        .call(route_of(routes::COPIES), |service: Service, _, request| {
            copies(service.agent, request).boxed()
        })
        .call(
            route_of(routes::PROBE_COOKIE),
            |service: Service, _: Peer, _: Done| {
                let cookie = service.cookies.cookie();
                async move { Ok::<ProbeCookie, ChunkRefusal>(cookie) }.boxed()
            },
        )
}

async fn copies(agent: Arc<Agent>, request: ListCopiesRequest) -> Result<ListCopiesReply, ChunkRefusal> {
    let limit = request.limit.clamp(1, COPIES_PER_BATCH);
    let listed = agent.list_copies(request.after, limit).await;
    let listed = listed.map_err(|error| ChunkRefusal::Devices(error.to_string()))?;
    let full = listed.len() == limit;
    let next = listed.last().filter(|_| full).map(|last| last.copy);
    let copies = listed.into_iter().filter(|copy| !copy.erased);
    let devices = agent.device_paths().into_iter();
    Ok(ListCopiesReply {
        copies: copies
            .map(|copy| HeldCopy {
                copy: copy.copy,
                plaintext_bytes: copy.plaintext_bytes,
                devices: copy.pieces.iter().map(|piece| piece.device).collect(),
                complete: copy.complete,
            })
            .collect(),
        next,
        devices: devices
            .map(|(device, path)| (device, path.display().to_string()))
            .collect(),
    })
}
