//! What a client makes of a server that refuses streams: a server of bare HTTP/2 plays it.
#![allow(clippy::unwrap_used)]

use super::{CallError, Client, ClientLimits, Target};
use crate::authority::{Authority, ClusterSecret};
use crate::credentials::Credentials;
use crate::identity::{Expect, Identity};
use crate::network::TokioNetwork;
use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const LONG: Duration = Duration::from_secs(30);

/// Answers stream after stream with what `script` says: a reset, or (`None`) 200.
async fn scripted(script: fn(usize) -> Option<Reason>) -> (Client, Target, Arc<AtomicUsize>) {
    let authority = Authority::derive(&ClusterSecret::new([7; 32])).unwrap();
    let issued = |identity| Credentials::issued_by(&authority, identity, SystemTime::now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target {
        address: listener.local_addr().unwrap().to_string(),
        expect: Expect::AnyMetad,
        lane: 0,
    };
    let seen = Arc::new(AtomicUsize::new(0));
    let (count, config) = (
        seen.clone(),
        issued(Identity::Metad(1)).current().server.clone().unwrap(),
    );
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = TlsAcceptor::from(config.clone()).accept(stream).await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    match script(count.fetch_add(1, SeqCst)) {
                        Some(reason) => respond.send_reset(reason),
                        None => drop(respond.send_response(Response::new(()), true)),
                    }
                }
            });
        }
    });
    let client = Client::new(
        Arc::new(TokioNetwork),
        issued(Identity::Gateway(1)),
        ClientLimits::default(),
    );
    (client, target, seen)
}

async fn call(client: &Client, target: &Target) -> Result<Bytes, CallError<Bytes>> {
    client
        .call_bytes(target, "/x", HeaderMap::new(), Bytes::from_static(b"hello"), LONG)
        .await
}

#[tokio::test]
async fn a_refused_stream_is_tried_again_and_never_maybe_done() {
    let (client, target, seen) = scripted(|stream| (stream < 2).then_some(Reason::REFUSED_STREAM)).await;
    call(&client, &target).await.unwrap();
    assert_eq!(seen.load(SeqCst), 3);
    let (client, target, _) = scripted(|_| Some(Reason::REFUSED_STREAM)).await;
    let refused = call(&client, &target).await;
    assert!(matches!(refused, Err(CallError::NotSent { .. })), "{refused:?}");
    let body = Full::from("hello").map_err(|never| match never {}).boxed_unsync();
    let refused = client.open(&target, "/x", HeaderMap::new(), body).await.map(drop);
    assert!(matches!(refused, Err(CallError::NotSent { .. })), "{refused:?}");
}

#[tokio::test]
async fn any_other_reset_leaves_the_call_maybe_done_and_is_not_tried_again() {
    for script in [|_| Some(Reason::INTERNAL_ERROR), |_| Some(Reason::CANCEL)] {
        let (client, target, seen) = scripted(script).await;
        let broken = call(&client, &target).await;
        assert!(matches!(broken, Err(CallError::Unknown { .. })), "{broken:?}");
        assert_eq!(seen.load(SeqCst), 1);
    }
}
