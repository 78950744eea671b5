//! Bodies that stream, both ways at once.
#![allow(clippy::unwrap_used)]

mod common;

use axum::body::Body;
use bytes::Bytes;
use common::{Cluster, LONG, gateway, route, vendor};
use futures::{StreamExt, stream};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use ullage_transport::api::{Api, StreamRequest};
use ullage_transport::client;
use ullage_transport::frame::{FrameError, FrameReader, framed, messages};
use ullage_transport::identity::{Callers, Expect};
use ullage_transport::server::ServerLimits;

const PART: usize = 64 * 1024;

/// The byte at `at` of a long body.
fn byte(at: usize) -> u8 {
    (at / 251 + at).to_le_bytes()[0]
}

fn part(index: usize) -> Bytes {
    (index * PART..(index + 1) * PART)
        .map(byte)
        .collect::<Vec<u8>>()
        .into()
}

/// `/back` sends back what comes, as it comes.
fn back() -> Api<()> {
    Api::new(()).stream(
        route("/back", Callers::GATEWAY),
        |(), _, request: StreamRequest| Box::pin(async move { Response::new(request.into_body()) }),
    )
}

#[tokio::test]
async fn a_hundred_mebibytes_go_both_ways_at_once_in_bounded_memory() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(vendor(1), back()).await;
    let client = cluster.client(gateway(1));
    let parts = 100 * 1024 * 1024 / PART;
    // Made once: the test is about the way, not about making bytes.
    let pattern = part(0);
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let sending = pattern.clone();
    let upload = stream::iter(0..parts).map(move |_| {
        counted.fetch_add(PART, SeqCst);
        Ok(Frame::data(sending.clone()))
    });
    let body = StreamBody::new(upload).boxed_unsync();
    let target = server.target(Expect::Exactly(vendor(1)));
    let mut answer = client
        .open(&target, "/back", HeaderMap::new(), body)
        .await
        .unwrap()
        .into_body();
    let (mut received, mut most) = (0, 0);
    while let Some(frame) = tokio::time::timeout(LONG, answer.frame()).await.unwrap() {
        for part in frame.unwrap().data_ref().unwrap().chunks(PART) {
            let at = received % PART;
            let first = part.len().min(PART - at);
            assert!(
                part[..first] == pattern[at..at + first] && part[first..] == pattern[..part.len() - first]
            );
            received += part.len();
        }
        most = most.max(sent.load(SeqCst) - received);
    }
    assert_eq!(received, parts * PART);
    // Two windows of 2 MiB, two buffers of 1 MiB, and the sockets'.
    assert!(most <= 24 * 1024 * 1024, "{most} bytes were on their way");
    server.stop().await;
}

#[tokio::test]
async fn an_answer_may_begin_before_the_request_ends() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(vendor(1), back()).await;
    let client = cluster.client(gateway(1));
    let (send, parts) = mpsc::channel::<Bytes>(1);
    let upload = stream::unfold(parts, |mut parts| async move {
        parts.recv().await.map(|part| (Ok(Frame::data(part)), parts))
    });
    let body = StreamBody::new(upload).boxed_unsync();
    let target = server.target(Expect::Exactly(vendor(1)));
    let mut answer = client
        .open(&target, "/back", HeaderMap::new(), body)
        .await
        .unwrap()
        .into_body();
    for text in ["one", "two", "three"] {
        send.send(Bytes::from(text)).await.unwrap();
        let frame = tokio::time::timeout(LONG, answer.frame())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    }
    drop(send);
    assert!(answer.frame().await.is_none());
    server.stop().await;
}

/// How a request's body ended: after so many bytes, or broken.
type Ended = Result<usize, String>;

/// `/watch` answers at once, and tells how its request's body ended.
fn watched() -> (Api<mpsc::Sender<Ended>>, mpsc::Receiver<Ended>) {
    let (tell, told) = mpsc::channel(4);
    let api = Api::new(tell).stream(
        route("/watch", Callers::GATEWAY),
        |tell: mpsc::Sender<Ended>, _, request: StreamRequest| {
            Box::pin(async move {
                let (began, begins) = oneshot::channel::<()>();
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    let mut began = Some(began);
                    let mut bytes = 0;
                    let ended = loop {
                        match body.frame().await {
                            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                            Some(Err(error)) => break Err(error.to_string()),
                            None => break Ok(bytes),
                        }
                        began.take().map(|began| began.send(()));
                    };
                    tell.send(ended).await.unwrap();
                });
                begins.await.unwrap();
                let open = stream::pending::<Result<Bytes, std::io::Error>>();
                Response::new(Body::from_stream(open))
            })
        },
    );
    (api, told)
}

fn endless() -> client::StreamBody {
    let parts = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok(Frame::data(Bytes::from_static(b"more"))), ()))
    });
    StreamBody::new(parts).boxed_unsync()
}

#[tokio::test]
async fn dropping_the_answer_or_the_call_resets_the_stream() {
    let cluster = Cluster::new(1);
    let (api, mut told) = watched();
    let server = cluster.serve(vendor(1), api).await;
    let client = cluster.client(gateway(1));
    let target = server.target(Expect::Exactly(vendor(1)));
    let answer = client
        .open(&target, "/watch", HeaderMap::new(), endless())
        .await
        .unwrap();
    assert!(told.try_recv().is_err(), "the body goes on");
    drop(answer);
    let ended = tokio::time::timeout(LONG, told.recv()).await.unwrap().unwrap();
    assert!(
        ended.is_err(),
        "a body that was given up must not look complete: {ended:?}"
    );

    let (api, mut told) = watched();
    let other = cluster.serve(vendor(2), api).await;
    let target = other.target(Expect::Exactly(vendor(2)));
    // The first bytes come late: the call is dropped while there is no answer yet, after the request went out.
    let (send, mut parts) = mpsc::channel::<Bytes>(1);
    let upload = stream::poll_fn(move |cx| parts.poll_recv(cx)).map(|part| Ok(Frame::data(part)));
    let body = StreamBody::new(upload).boxed_unsync();
    let opening = client.open(&target, "/watch", HeaderMap::new(), body);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), opening)
            .await
            .is_err()
    );
    let ended = tokio::time::timeout(LONG, told.recv()).await.unwrap().unwrap();
    assert!(ended.is_err(), "{ended:?}");
    drop(send);
    server.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_body_that_fails_resets_the_stream() {
    let cluster = Cluster::new(1);
    let (api, mut told) = watched();
    let server = cluster.serve(vendor(1), api).await;
    let client = cluster.client(gateway(1));
    let target = server.target(Expect::Exactly(vendor(1)));
    let parts = [
        Ok(Frame::data(Bytes::from_static(b"begun"))),
        Err(std::io::Error::other("upstream broke")),
    ];
    let body = StreamBody::new(stream::iter(parts)).boxed_unsync();
    let _outcome = client.open(&target, "/watch", HeaderMap::new(), body).await;
    let ended = tokio::time::timeout(LONG, told.recv()).await.unwrap().unwrap();
    assert!(ended.is_err(), "{ended:?}");
    server.stop().await;
}

#[tokio::test]
async fn empty_parts_of_a_body_do_no_harm() {
    let cluster = Cluster::new(1);
    let api = Api::new(()).stream(
        route("/empty", Callers::GATEWAY),
        |(), _, request: StreamRequest| {
            Box::pin(async move {
                let all = request.into_body().collect().await.unwrap().to_bytes();
                let parts = (0..500)
                    .map(|_| Ok::<_, std::io::Error>(Bytes::new()))
                    .chain([Ok(all)]);
                Response::new(Body::from_stream(stream::iter(parts)))
            })
        },
    );
    let server = cluster.serve(vendor(1), api).await;
    let client = cluster.client(gateway(1));
    let target = server.target(Expect::Exactly(vendor(1)));
    let parts = (0..500).map(|_| Bytes::new()).chain([Bytes::from_static(b"end")]);
    let body = StreamBody::new(stream::iter(parts.map(|part| Ok(Frame::data(part))))).boxed_unsync();
    let answer = client
        .open(&target, "/empty", HeaderMap::new(), body)
        .await
        .unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "end");
    server.stop().await;
}

#[tokio::test]
async fn messages_and_the_bytes_after_them_come_out_as_they_went_in() {
    let cluster = Cluster::new(1);
    let api = back();
    let server = cluster.serve(vendor(1), api).await;
    let client = cluster.client(gateway(1));
    let target = server.target(Expect::Exactly(vendor(1)));
    let all = [
        framed(b"header"),
        framed(b""),
        framed(&part(0)),
        Bytes::from_static(b"tail"),
    ]
    .concat();
    // Cut where it hurts: one byte at a time at first.
    let mut parts: Vec<Bytes> = all[..30].iter().map(|byte| Bytes::from(vec![*byte])).collect();
    parts.push(Bytes::copy_from_slice(&all[30..]));
    let body =
        StreamBody::new(stream::iter(parts.into_iter().map(|part| Ok(Frame::data(part))))).boxed_unsync();
    let answer = client
        .open(&target, "/back", HeaderMap::new(), body)
        .await
        .unwrap();
    let mut reader = FrameReader::new(answer.into_body());
    assert_eq!(reader.message(PART).await.unwrap().unwrap(), "header");
    assert_eq!(reader.message(PART).await.unwrap().unwrap(), "");
    assert_eq!(reader.message(PART).await.unwrap().unwrap(), part(0));
    assert_eq!(reader.exactly(4).await.unwrap(), "tail");
    assert!(reader.data().await.unwrap().is_none());
    server.stop().await;
}

#[tokio::test]
async fn messages_end_with_their_body_and_an_error_ends_them() {
    let body = |bytes: Vec<u8>| http_body_util::Full::new(Bytes::from(bytes));
    let whole = [framed(b"one"), framed(b"two")].concat();
    let found: Vec<_> = messages(body(whole.clone()), 3).collect().await;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(Result::is_ok));
    let found: Vec<_> = messages(body(whole[..12].to_vec()), 3).collect().await;
    assert!(
        matches!(found.as_slice(), [Ok(_), Err(FrameError::Broken(_))]),
        "{found:?}"
    );
    let found: Vec<_> = messages(body(whole), 2).collect().await;
    assert!(
        matches!(
            found.as_slice(),
            [Err(FrameError::TooLong { bytes: 3, limit: 2 })]
        ),
        "{found:?}"
    );
    // A length alone must not take memory.
    let found: Vec<_> = messages(body(u32::MAX.to_be_bytes().to_vec()), usize::MAX)
        .collect()
        .await;
    assert!(
        matches!(found.as_slice(), [Err(FrameError::Broken(_))]),
        "{found:?}"
    );
}

#[tokio::test]
async fn streams_that_nobody_reads_do_not_hold_up_the_others() {
    let cluster = Cluster::new(1);
    // Says that it is there, and reads nothing.
    let api = back().stream(
        route("/deaf", Callers::GATEWAY),
        |(), _, request: StreamRequest| {
            Box::pin(async move {
                let never = stream::once(async move {
                    let _unread = request;
                    std::future::pending::<Result<Bytes, std::io::Error>>().await
                });
                Response::new(Body::from_stream(never))
            })
        },
    );
    let server = cluster.serve(vendor(1), api).await;
    let limits = client::ClientLimits {
        connections_per_target: 1,
        ..client::ClientLimits::default()
    };
    let credentials = cluster.credentials(gateway(1));
    let client = client::Client::new(Arc::new(common::CountingNetwork::default()), credentials, limits);
    let target = server.target(Expect::Exactly(vendor(1)));
    let sent = Arc::new(AtomicUsize::new(0));
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let counted = sent.clone();
        let part = Bytes::from(vec![0; PART]);
        let parts = stream::repeat(part).map(move |part| {
            counted.fetch_add(part.len(), SeqCst);
            Ok(Frame::data(part))
        });
        let body = StreamBody::new(parts).boxed_unsync();
        stuck.push(
            client
                .open(&target, "/deaf", HeaderMap::new(), body)
                .await
                .unwrap(),
        );
    }
    // Until their windows are full: nothing has moved for a while.
    let mut before = 0;
    while before < sent.load(SeqCst) {
        before = sent.load(SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before > 20 * 2 * 1024 * 1024, "{before}");
    let body = http_body_util::Full::from("through")
        .map_err(|never| match never {})
        .boxed_unsync();
    let opened = client.open(&target, "/back", HeaderMap::new(), body);
    let answer = tokio::time::timeout(LONG, opened).await.unwrap().unwrap();
    let back = tokio::time::timeout(LONG, answer.into_body().collect())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(back.to_bytes(), "through");
    // Nor do those that are given up while they are stuck: they are reset, and the server need not wait for them.
    drop(stuck);
    let stopping = std::time::Instant::now();
    server.stop().await;
    let stopped = stopping.elapsed();
    assert!(stopped < ServerLimits::default().drain, "{stopped:?}");
}
