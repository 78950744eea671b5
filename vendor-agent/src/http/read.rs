//! A read over the wire: stored bytes as they are verified. What goes wrong before the first of them is said,
//! what goes wrong later breaks the stream off.

use super::QUESTION_BYTES_MAX;
use crate::agent::Agent;
use axum::body::Body;
use futures::StreamExt as _;
use http::Response;
use std::io;
use std::sync::Arc;
use ullage_model::wire::chunk::ReadRequest;
use ullage_transport::api::{StreamRequest, StreamResponse, message_of, refusal};

pub(super) async fn read(agent: Arc<Agent>, request: StreamRequest) -> StreamResponse {
    let request: ReadRequest = match message_of(request.into_body(), QUESTION_BYTES_MAX).await {
        Ok(request) => request,
        Err(refused) => return *refused,
    };
    let mut stored = match agent.read(request).await {
        Ok(stored) => stored,
        Err(refused) => return refusal(&refused),
    };
    // Most of what can go wrong does so at the first frames: then there is still a way to say what.
    let first = match stored.next().await {
        Some(Err(refused)) => return refusal(&refused),
        first => first,
    };
    let all = futures::stream::iter(first).chain(stored);
    Response::new(Body::from_stream(
        all.map(|frame| frame.map_err(io::Error::other)),
    ))
}
