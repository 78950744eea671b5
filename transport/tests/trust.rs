//! Who reaches whom, over loopback sockets.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, CountingNetwork, Echo, LONG, Seen, Server, echo, echo_api, gateway, metad, vendor};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use ullage_transport::client::{CallError, Client, ClientLimits};
use ullage_transport::credentials::{Credentials, LIFE, TlsKey};
use ullage_transport::identity::Expect;
use ullage_transport::server::ServerLimits;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn not_sent<T: std::fmt::Debug>(outcome: Result<T, CallError<Echo>>) -> String {
    match outcome {
        Err(CallError::NotSent { reason, .. }) => reason,
        other => panic!("expected NotSent, found {other:?}"),
    }
}

#[tokio::test]
async fn services_of_one_cluster_reach_each_other_and_know_who_calls() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api(&Seen::default())).await;
    let client = cluster.client(vendor(3));
    for expect in [Expect::AnyMetad, Expect::Exactly(metad(7))] {
        let answer = echo(&client, &server.target(expect), "hello").await.unwrap();
        assert_eq!(answer, format!("hello from {}", vendor(3)));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_vendor_with_an_enrolled_certificate_is_known_and_one_of_another_authority_is_not_made() {
    let (cluster, other) = (Cluster::new(1), Cluster::new(2));
    let server = cluster.serve(metad(7), echo_api(&Seen::default())).await;
    let key = TlsKey::generate().unwrap();
    let kept = TlsKey::from_pkcs8(&key.to_pkcs8()).unwrap();
    let chain = cluster
        .authority
        .issue(vendor(5), &key.spki(), SystemTime::now())
        .unwrap();
    let enrolled = Credentials::enrolled(kept, &chain, cluster.authority.fingerprint()).unwrap();
    assert_eq!(enrolled.identity(), Some(vendor(5)));
    let answer = echo(&common::client(enrolled), &server.target(Expect::AnyMetad), "hi").await;
    assert_eq!(answer.unwrap(), format!("hi from {}", vendor(5)));

    let pinned = cluster.authority.fingerprint();
    assert!(Credentials::enrolled(key.clone(), &chain, other.authority.fingerprint()).is_err());
    assert!(Credentials::enrolled(TlsKey::generate().unwrap(), &chain, pinned).is_err());
    let mut forged = other
        .authority
        .issue(vendor(5), &key.spki(), SystemTime::now())
        .unwrap();
    forged.authority.clone_from(&chain.authority);
    assert!(Credentials::enrolled(key, &forged, pinned).is_err());
    server.stop().await;
}

#[tokio::test]
async fn another_authority_is_refused() {
    let seen = Seen::default();
    let server = Cluster::new(1).serve(metad(7), echo_api(&seen)).await;
    let client = Cluster::new(2).client(vendor(3));
    let reason = not_sent(echo(&client, &server.target(Expect::AnyMetad), "hello").await);
    assert!(reason.contains("not of this cluster"), "{reason}");
    let stranger = Credentials::anonymous(Cluster::new(2).authority.fingerprint()).unwrap();
    not_sent(
        echo(
            &common::client(stranger),
            &server.target(Expect::AnyMetad),
            "hello",
        )
        .await,
    );
    assert_eq!(seen.count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn somebody_else_at_the_address_gets_no_request() {
    let cluster = Cluster::new(1);
    let seen = Seen::default();
    let server = cluster.serve(vendor(9), echo_api(&seen)).await;
    let client = cluster.client(vendor(3));
    for expect in [
        Expect::AnyMetad,
        Expect::Exactly(vendor(8)),
        Expect::Exactly(metad(9)),
    ] {
        let reason = not_sent(echo(&client, &server.target(expect), "hello").await);
        assert!(reason.contains(&vendor(9).to_string()), "{reason}");
    }
    assert_eq!(seen.count(), 0);
    echo(&client, &server.target(Expect::Exactly(vendor(9))), "hello")
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_served_on_public_routes_only() {
    let cluster = Cluster::new(1);
    let seen = Seen::default();
    let server = cluster.serve(metad(7), echo_api(&seen)).await;
    let nobody = Credentials::anonymous(cluster.authority.fingerprint()).unwrap();
    let client = common::client(nobody);
    let target = server.target(Expect::AnyMetad);
    let public: Result<Echo, CallError<Echo>> =
        client.call(&target, "/public", &Echo::of("hello"), LONG).await;
    assert_eq!(public.unwrap().text, "hello from a caller without a certificate");
    let protected = echo(&client, &target, "hello").await;
    assert!(
        matches!(protected, Err(CallError::Status { status: 401, .. })),
        "{protected:?}"
    );
    let gateway = echo(&cluster.client(gateway(1)), &target, "hello").await;
    assert!(
        matches!(gateway, Err(CallError::Status { status: 403, .. })),
        "{gateway:?}"
    );
    assert_eq!(seen.count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn callers_without_a_certificate_do_not_keep_out_those_who_belong_here() {
    let cluster = Cluster::new(1);
    let limits = ServerLimits {
        anonymous: 2,
        ..ServerLimits::default()
    };
    let router = echo_api(&Seen::default()).into_router();
    let server = Server::start("127.0.0.1:0", cluster.credentials(metad(7)), router, limits).await;
    let target = server.target(Expect::AnyMetad);
    let hello = Echo::of("hello");
    let nobody = || common::client(Credentials::anonymous(cluster.authority.fingerprint()).unwrap());
    let all = [nobody(), nobody(), nobody()];
    let mut outcomes = Vec::new();
    for client in &all {
        // Their connections stay.
        outcomes.push(
            client
                .call::<_, Echo, Echo>(&target, "/public", &hello, LONG)
                .await,
        );
    }
    assert!(outcomes[..2].iter().all(Result::is_ok), "{outcomes:?}");
    not_sent(outcomes.pop().unwrap());
    echo(&cluster.client(vendor(3)), &target, "hello").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn those_who_connect_and_say_nothing_keep_out_nobody() {
    let cluster = Cluster::new(1);
    let limits = ServerLimits {
        connections: 2,
        handshakes: 2,
        handshake: LONG * 10,
        ..ServerLimits::default()
    };
    let router = echo_api(&Seen::default()).into_router();
    let server = Server::start("127.0.0.1:0", cluster.credentials(metad(7)), router, limits).await;
    let target = server.target(Expect::AnyMetad);
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(&target.address).await.unwrap());
    }
    echo(&cluster.client(vendor(3)), &target, "hello").await.unwrap();
    let closed = tokio::time::timeout(LONG, silent[0].read_u8()).await.unwrap();
    assert!(closed.is_err(), "the oldest gave way");
    server.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let cluster = Cluster::new(1);
    let seen = Seen::default();
    let long_ago = SystemTime::now() - YEAR;
    let old = |identity| Credentials::issued_by(&cluster.authority, identity, long_ago).unwrap();
    let server = cluster.serve(metad(7), echo_api(&seen)).await;
    // TLS has ended for the client when the server refuses it; the call is not sent all the same.
    let client = common::client(old(vendor(3)));
    let reason = not_sent(echo(&client, &server.target(Expect::AnyMetad), "hello").await);
    assert!(
        reason.contains("refused") && reason.contains("CertificateExpired"),
        "{reason}"
    );
    let router = echo_api(&seen).into_router();
    let expired = Server::start("127.0.0.1:0", old(metad(8)), router, ServerLimits::default()).await;
    not_sent(
        echo(
            &cluster.client(vendor(3)),
            &expired.target(Expect::AnyMetad),
            "hello",
        )
        .await,
    );
    assert_eq!(seen.count(), 0);
    server.stop().await;
    expired.stop().await;
}

#[tokio::test]
async fn validity_is_judged_by_the_wall_clock_that_is_given() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api(&Seen::default())).await;
    let at = |offset: Duration| {
        let credentials = cluster.credentials(vendor(3));
        let wall = Arc::new(move || SystemTime::now() + offset);
        common::client(credentials.with_wall_clock(wall))
    };
    let target = server.target(Expect::AnyMetad);
    echo(&at(Duration::ZERO), &target, "hello").await.unwrap();
    not_sent(echo(&at(LIFE), &target, "hello").await);
    server.stop().await;
}

#[tokio::test]
async fn renewal_goes_on_under_calls_and_new_connections_use_it() {
    let cluster = Cluster::new(1);
    let serving = cluster.credentials(metad(7));
    let router = echo_api(&Seen::default()).into_router();
    let server = Server::start("127.0.0.1:0", serving.clone(), router, ServerLimits::default()).await;
    let calling = cluster.credentials(vendor(3));
    let network = CountingNetwork::default();
    let client = Client::new(
        Arc::new(network.clone()),
        calling.clone(),
        ClientLimits::default(),
    );
    for lane in 0..10 {
        let mut target = server.target(Expect::AnyMetad);
        target.lane = lane;
        let calls = (0..20).map(|_| echo(&client, &target, "hello"));
        let (answers, ()) = tokio::join!(futures::future::join_all(calls), async {
            serving.replace(&cluster.credentials(metad(7)));
            calling.replace(&cluster.credentials(vendor(100 + u64::from(lane))));
        });
        for answer in answers {
            answer.unwrap();
        }
    }
    // What is open stays as it is; what is opened next shows the newest.
    let connects = network.connects();
    let mut target = server.target(Expect::AnyMetad);
    echo(&client, &target, "hello").await.unwrap();
    assert_eq!(network.connects(), connects);
    target.lane = 99;
    let answer = echo(&client, &target, "hello").await.unwrap();
    assert_eq!(answer, format!("hello from {}", vendor(109)));
    server.stop().await;
}
