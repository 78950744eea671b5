//! Calls: their answers and refusals, their bounds, and the connections they share.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Cluster, CountingNetwork, Echo, LONG, Seen, Server, echo, echo_api, metad, vendor};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use ullage_transport::api::Api;
use ullage_transport::client::{CallError, Client, ClientLimits};
use ullage_transport::identity::{Callers, Expect};
use ullage_transport::server::ServerLimits;

fn status<T: std::fmt::Debug>(outcome: Result<T, CallError<Bytes>>) -> u16 {
    match outcome {
        Err(CallError::Status { status, text, .. }) => {
            assert!(!text.contains('\n') && text.len() <= 1024, "{text:?}");
            status
        }
        other => panic!("expected a status, found {other:?}"),
    }
}

#[tokio::test]
async fn the_services_own_error_comes_back_as_such() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api(&Seen::default())).await;
    let refused = echo(
        &cluster.client(vendor(3)),
        &server.target(Expect::AnyMetad),
        "fail",
    )
    .await;
    assert!(
        matches!(&refused, Err(CallError::Application(error)) if error.text == "refused"),
        "{refused:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_call_of_the_table_is_refused_with_a_line_of_text() {
    let cluster = Cluster::new(1);
    let seen = Seen::default();
    let server = cluster.serve(metad(7), echo_api(&seen)).await;
    let client = cluster.client(vendor(3));
    let target = server.target(Expect::AnyMetad);
    let send = |path: &'static str, body: Vec<u8>| {
        client.call_bytes(&target, path, HeaderMap::new(), body.into(), LONG)
    };
    assert_eq!(status(send("/nowhere", vec![]).await), 404);
    assert_eq!(status(send("/echo", vec![]).await), 400);
    assert_eq!(status(send("/echo", vec![9, 9, 9]).await), 400);
    assert_eq!(status(send("/echo", vec![1; 1025]).await), 413);
    assert_eq!(seen.count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused_without_being_taken() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api(&Seen::default())).await;
    let client = cluster.client(vendor(3));
    let pulled = Arc::new(AtomicUsize::new(0));
    let counted = pulled.clone();
    // It would go on for ever.
    let endless = stream::repeat(Bytes::from(vec![0; 64 * 1024])).map(move |part| {
        counted.fetch_add(part.len(), SeqCst);
        Ok(Frame::data(part))
    });
    let body = StreamBody::new(endless).boxed_unsync();
    let target = server.target(Expect::AnyMetad);
    let opened = client.open(&target, "/echo", HeaderMap::new(), body);
    let answer = tokio::time::timeout(LONG, opened).await.unwrap().unwrap();
    assert_eq!(answer.status(), 413);
    drop(answer);
    let windows = ServerLimits::default().stream_window_bytes as usize + 4 * 1024 * 1024;
    assert!(pulled.load(SeqCst) <= windows, "{} bytes", pulled.load(SeqCst));
    server.stop().await;
}

#[tokio::test]
async fn headers_reach_a_handler_that_asks_for_them() {
    let cluster = Cluster::new(1);
    let api = Api::new(()).call_with(common::route("/who", Callers::METAD), |(), caller, _: Echo| {
        Box::pin(async move {
            let header = caller.headers.get("x-ullage-forwarded-for").unwrap();
            Ok::<Echo, Echo>(Echo::of(header.to_str().unwrap()))
        })
    });
    let server = cluster.serve(metad(7), api).await;
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-ullage-forwarded-for",
        HeaderValue::from_static("ullage:vendor/1"),
    );
    let answer: Result<Echo, CallError<Echo>> = cluster
        .client(metad(8))
        .call_with(
            &server.target(Expect::AnyMetad),
            "/who",
            headers,
            &Echo::of(""),
            LONG,
        )
        .await;
    assert_eq!(answer.unwrap().text, "ullage:vendor/1");
    server.stop().await;
}

#[tokio::test]
async fn an_answer_over_the_bound_is_not_taken() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api(&Seen::default())).await;
    let limits = ClientLimits {
        answer_bytes: 16,
        ..ClientLimits::default()
    };
    let client = Client::new(
        Arc::new(CountingNetwork::default()),
        cluster.credentials(vendor(3)),
        limits,
    );
    let answer = echo(&client, &server.target(Expect::AnyMetad), "hello").await;
    assert!(matches!(answer, Err(CallError::Unknown { .. })), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn many_calls_share_few_connections_and_idle_ones_close() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api(&Seen::default())).await;
    let network = CountingNetwork::default();
    let limits = ClientLimits {
        idle: Duration::from_millis(200),
        ..ClientLimits::default()
    };
    let client = Client::new(Arc::new(network.clone()), cluster.credentials(vendor(3)), limits);
    let target = server.target(Expect::AnyMetad);
    let calls = (0..300).map(|_| echo(&client, &target, "hello"));
    for answer in futures::future::join_all(calls).await {
        answer.unwrap();
    }
    assert!((1..=2).contains(&network.connects()), "{}", network.connects());
    let before = network.connects();
    tokio::time::timeout(LONG, async {
        // Each look is shorter than the idle time, and none uses the connection.
        while !format!("{client:?}").contains("targets: 0") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    echo(&client, &target, "hello").await.unwrap();
    assert_eq!(network.connects(), before + 1);
    server.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_streams_of_all_connections_wait_for_their_turn() {
    let cluster = Cluster::new(1);
    let seen = Seen::default();
    let server = cluster.serve(metad(7), echo_api(&seen)).await;
    let network = CountingNetwork::default();
    let limits = ClientLimits {
        connections_per_target: 1,
        streams_per_connection: 1,
        ..ClientLimits::default()
    };
    let client = Client::new(Arc::new(network.clone()), cluster.credentials(vendor(3)), limits);
    let target = server.target(Expect::AnyMetad);
    let calls = (0..20).map(|_| echo(&client, &target, "hello"));
    for answer in futures::future::join_all(calls).await {
        answer.unwrap();
    }
    let hangs = {
        let (client, target) = (client.clone(), target.clone());
        tokio::spawn(async move { echo(&client, &target, "hang").await })
    };
    tokio::time::timeout(LONG, async {
        while seen.count() < 21 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    // The one stream is taken: a call that cannot wait any longer was surely not sent.
    let soon = Duration::from_millis(50);
    let waited: Result<Echo, CallError<Echo>> = client.call(&target, "/echo", &Echo::of("hello"), soon).await;
    assert!(matches!(waited, Err(CallError::NotSent { .. })), "{waited:?}");
    hangs.abort();
    echo(&client, &target, "hello").await.unwrap();
    assert_eq!(network.connects(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_stop_lets_calls_end_and_cuts_those_that_do_not() {
    let cluster = Cluster::new(1);
    let seen = Seen::default();
    let limits = ServerLimits {
        drain: Duration::from_millis(300),
        ..ServerLimits::default()
    };
    let slow = Api::new(()).call(common::route("/slow", Callers::VENDOR), |(), _, message: Echo| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<Echo, Echo>(message)
        })
    });
    let router = echo_api(&seen).into_router().merge(slow.into_router());
    let server = Server::start("127.0.0.1:0", cluster.credentials(metad(7)), router, limits).await;
    let client = cluster.client(vendor(3));
    let target = server.target(Expect::AnyMetad);
    echo(&client, &target, "warm").await.unwrap();
    let hello = Echo::of("hello");
    let ends = client.call::<Echo, Echo, Echo>(&target, "/slow", &hello, LONG);
    let hangs = echo(&client, &target, "hang");
    let stopped = async {
        while seen.count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.stop().await;
    };
    let (ended, hung, ()) = tokio::join!(ends, hangs, stopped);
    assert_eq!(ended.unwrap(), hello);
    assert!(matches!(hung, Err(CallError::Unknown { .. })), "{hung:?}");
}

#[tokio::test]
#[should_panic(expected = "in the table already")]
async fn a_path_has_one_handler() {
    let _ = echo_api(&Seen::default()).stream(common::route("/echo", Callers::METAD), |_, _, _| {
        Box::pin(async { http::Response::new(axum::body::Body::empty()) })
    });
}

#[tokio::test]
async fn a_burst_of_more_calls_than_the_connections_take_is_served_in_turns() {
    let cluster = Cluster::new(1);
    let seen = Seen::default();
    let server = cluster.serve(metad(7), echo_api(&seen)).await;
    let limits = ClientLimits {
        connections_per_target: 3,
        streams_per_connection: 2,
        ..ClientLimits::default()
    };
    let network = Arc::new(ullage_transport::network::TokioNetwork);
    let client = Client::new(network, cluster.credentials(vendor(3)), limits);
    let target = server.target(Expect::AnyMetad);
    let calls = (0..200).map(|_| echo(&client, &target, "hello"));
    for answer in futures::future::join_all(calls).await {
        assert!(answer.unwrap().starts_with("hello"));
    }
    assert_eq!(seen.count(), 200);
    server.stop().await;
}
