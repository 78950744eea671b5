//! A service's routes: a table of paths with the callers each takes, and handlers. A route that is not in the
//! table cannot be served, and none is served to a caller that the table does not name.

use crate::identity::{Callers, Peer};
use axum::body::Body;
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ullage_model::codec::{self, Versioned};

/// One route: `POST <path>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its path, e.g. `/v1/sessions/open`.
    pub path: &'static str,
    /// Who may call it.
    pub callers: Callers,
    /// Longest body of a unary call, in bytes; of a streaming one, unused.
    pub body_bytes: usize,
}

/// A request whose body streams.
pub type StreamRequest = Request<Body>;
/// A response whose body may stream.
pub type StreamResponse = Response<Body>;

/// What a call brings along beside its message.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who calls.
    pub peer: Peer,
    /// The request's headers, as the peer sent them.
    pub headers: HeaderMap,
}

/// Routes with their handlers; becomes the router of [`crate::server::serve`].
pub struct Api<S> {
    state: S,
    routes: Vec<Route>,
    router: axum::Router,
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// No routes yet.
    #[must_use]
    pub fn new(state: S) -> Self {
        Self {
            state,
            routes: Vec::new(),
            router: axum::Router::new(),
        }
    }

    /// A call with one message each way. Both are `codec` bytes (`ullage_model::codec`); an error answers 409
    /// with its `codec` bytes. A body that does not decode is answered 400, one too long 413, a caller that
    /// the route does not name 403 (401 without a certificate): all with a line of text.
    ///
    /// # Panics
    /// When the table has the path already.
    #[must_use]
    pub fn call<Req, Resp, E, F>(self, route: Route, handler: F) -> Self
    where
        Req: Versioned + Send + 'static,
        Resp: Versioned + Send + 'static,
        E: Versioned + Send + 'static,
        F: Fn(S, Peer, Req) -> BoxFuture<'static, Result<Resp, E>> + Clone + Send + Sync + 'static,
    {
        self.call_with(route, move |state, caller, message| {
            handler(state, caller.peer, message)
        })
    }

    /// [`Api::call`] for a handler that looks at the request's headers too.
    ///
    /// # Panics
    /// When the table has the path already.
    #[must_use]
    pub fn call_with<Req, Resp, E, F>(self, route: Route, handler: F) -> Self
    where
        Req: Versioned + Send + 'static,
        Resp: Versioned + Send + 'static,
        E: Versioned + Send + 'static,
        F: Fn(S, Caller, Req) -> BoxFuture<'static, Result<Resp, E>> + Clone + Send + Sync + 'static,
    {
        self.stream(route, move |state, peer, request| {
            let handler = handler.clone();
            Box::pin(async move {
                let (parts, body) = request.into_parts();
                let message = match message_of::<Req>(body, route.body_bytes).await {
                    Ok(message) => message,
                    Err(refused) => return *refused,
                };
                let caller = Caller {
                    peer,
                    headers: parts.headers,
                };
                answer(handler(state, caller, message).await)
            })
        })
    }

    /// A call whose bodies stream.
    ///
    /// # Panics
    /// When the table has the path already.
    #[must_use]
    pub fn stream<F>(mut self, route: Route, handler: F) -> Self
    where
        F: Fn(S, Peer, StreamRequest) -> BoxFuture<'static, StreamResponse> + Clone + Send + Sync + 'static,
    {
        assert!(
            self.routes.iter().all(|other| other.path != route.path),
            "{} is in the table already",
            route.path
        );
        self.routes.push(route);
        let state = self.state.clone();
        let handlers: MethodRouter = post(move |request: Request<Body>| {
            let (state, handler) = (state.clone(), handler.clone());
            async move {
                // Only the server says who calls; without its word, nobody has proven anything.
                let peer = request.extensions().get::<Peer>().copied();
                let peer = peer.unwrap_or(Peer::Anonymous);
                if route.callers.admit(&peer) {
                    return handler(state, peer, request).await;
                }
                let status = match peer {
                    Peer::Anonymous => StatusCode::UNAUTHORIZED,
                    Peer::Known(_) => StatusCode::FORBIDDEN,
                };
                text(status, &format!("{} is not for {peer}", route.path))
            }
        });
        self.router = self.router.route(route.path, handlers);
        self
    }

    /// The routes, for the test that walks them.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The router. Requests carry [`Peer`] as an extension, put there by the server.
    pub fn into_router(self) -> axum::Router {
        self.router
    }
}

/// The answer to a unary call: 200 or 409 with `codec` bytes.
#[must_use]
pub fn answer<Resp: Versioned, E: Versioned>(outcome: Result<Resp, E>) -> StreamResponse {
    match outcome {
        Ok(answer) => encoded(StatusCode::OK, codec::encode(&answer)),
        Err(error) => refusal(&error),
    }
}

/// A service's own error: 409 with its `codec` bytes.
#[must_use]
pub fn refusal<E: Versioned>(error: &E) -> StreamResponse {
    encoded(StatusCode::CONFLICT, codec::encode(error))
}

/// An answer of `codec` bytes, e.g. those that another node answered to a call forwarded to it.
#[must_use]
pub fn encoded(status: StatusCode, bytes: Bytes) -> StreamResponse {
    with(status, "application/octet-stream", Body::from(bytes))
}

/// An answer that is a line of text.
#[must_use]
pub fn text(status: StatusCode, line: &str) -> StreamResponse {
    with(
        status,
        "text/plain; charset=utf-8",
        Body::from(format!("{line}\n")),
    )
}

/// An answer whose body streams; an error in it resets the stream.
pub fn streamed<S>(body: S) -> StreamResponse
where
    S: futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
{
    with(
        StatusCode::OK,
        "application/octet-stream",
        Body::from_stream(body),
    )
}

fn with(status: StatusCode, kind: &'static str, body: Body) -> StreamResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// The one message that `body` is, of at most `limit` bytes.
///
/// # Errors
/// The response that says what is wrong with it: 413, 400.
pub async fn message_of<T: Versioned>(body: Body, limit: usize) -> Result<T, Box<StreamResponse>> {
    let refused = |status, line: &str| Err(Box::new(text(status, line)));
    let too_long = || {
        refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body is longer than {limit} bytes"),
        )
    };
    // A body that says beforehand that it is too long is not read at all.
    if body.size_hint().lower() > limit as u64 {
        return too_long();
    }
    let bytes = match Limited::new(body, limit).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return too_long(),
        Err(error) => return refused(StatusCode::BAD_REQUEST, &format!("the body broke off: {error}")),
    };
    match codec::decode(&bytes) {
        Ok(message) => Ok(message),
        Err(error) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}
