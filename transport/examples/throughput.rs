//! Measures how fast bodies stream between a client and a server over loopback with TLS, for one stream and for
//! eight. `cargo run --release -p ullage-transport --example throughput [MiB per direction]`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio_util::sync::CancellationToken;
use ullage_transport::api::{Api, Route, StreamRequest, StreamResponse};
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::client::{Client, ClientLimits, Target};
use ullage_transport::credentials::Credentials;
use ullage_transport::identity::{Callers, Expect, Identity, Peer};
use ullage_transport::network::{Network, TokioNetwork};
use ullage_transport::server::{ServerLimits, serve};

const PART: usize = 256 * 1024;

fn zeros(mib: usize) -> impl futures::Stream<Item = std::io::Result<Frame<Bytes>>> + Send {
    let part = Bytes::from(vec![0; PART]);
    stream::iter(0..mib * 1024 * 1024 / PART).map(move |_| Ok(Frame::data(part.clone())))
}

/// Takes a body to its end, or sends one of as many MiB as the request's body says.
fn api() -> Api<()> {
    let route = |path| Route {
        path,
        callers: Callers::METAD,
        body_bytes: 0,
    };
    let put = |(), _: Peer, request: StreamRequest| -> BoxFuture<'static, StreamResponse> {
        Box::pin(async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                drop(frame.unwrap());
            }
            Response::new(axum::body::Body::empty())
        })
    };
    let get = |(), _: Peer, request: StreamRequest| -> BoxFuture<'static, StreamResponse> {
        Box::pin(async move {
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let mib = String::from_utf8_lossy(&bytes).parse().unwrap();
            Response::new(axum::body::Body::new(StreamBody::new(zeros(mib))))
        })
    };
    Api::new(()).stream(route("/put"), put).stream(route("/get"), get)
}

async fn transfer(client: Client, target: Target, path: &'static str, mib: usize) {
    let body = match path {
        "/put" => StreamBody::new(zeros(mib)).boxed_unsync(),
        _ => http_body_util::Full::from(mib.to_string())
            .map_err(|never| match never {})
            .boxed_unsync(),
    };
    let mut answer = client
        .open(&target, path, HeaderMap::new(), body)
        .await
        .unwrap()
        .into_body();
    while let Some(frame) = answer.frame().await {
        drop(frame.unwrap());
    }
}

#[tokio::main]
async fn main() {
    let mib: usize = std::env::args()
        .nth(1)
        .map_or(2048, |argument| argument.parse().unwrap());
    let authority = Authority::derive(&ClusterSecret::new([7; 32])).unwrap();
    let credentials = Credentials::issued_by(&authority, Identity::Metad(1), SystemTime::now()).unwrap();
    let listener = TokioNetwork.listen("127.0.0.1:0").await.unwrap();
    let target = Target {
        address: listener.local_address().unwrap().to_string(),
        expect: Expect::AnyMetad,
        lane: 0,
    };
    let stop = CancellationToken::new();
    let router = api().into_router();
    let server = tokio::spawn(serve(
        listener,
        credentials.clone(),
        router,
        ServerLimits::default(),
        stop.clone(),
    ));
    let client = Client::new(Arc::new(TokioNetwork), credentials, ClientLimits::default());
    for path in ["/put", "/get"] {
        for streams in [1, 8] {
            let started = Instant::now();
            let all = (0..streams).map(|_| transfer(client.clone(), target.clone(), path, mib / streams));
            futures::future::join_all(all.map(tokio::spawn)).await;
            let seconds = started.elapsed().as_secs_f64();
            println!("{path} {streams} streams: {:.0} MiB/s", mib as f64 / seconds);
        }
    }
    stop.cancel();
    server.await.unwrap();
}
