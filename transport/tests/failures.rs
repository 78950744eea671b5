//! What a call says when it fails: surely not done, or maybe done; and how fast a dead peer is noticed.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Cluster, CountingNetwork, Echo, LONG, Relay, Seen, Server, Wire, echo, echo_api, metad, target, vendor,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use ullage_transport::client::{CallError, Client, ClientLimits, Target};
use ullage_transport::identity::Expect;
use ullage_transport::server::ServerLimits;

const KEEP_ALIVE: Duration = Duration::from_millis(500);

fn watchful(cluster: &Cluster) -> (Client, CountingNetwork) {
    let network = CountingNetwork::default();
    let limits = ClientLimits {
        keep_alive: KEEP_ALIVE,
        connect: Duration::from_millis(500),
        ..ClientLimits::default()
    };
    let credentials = cluster.credentials(vendor(3));
    (
        Client::new(Arc::new(network.clone()), credentials, limits),
        network,
    )
}

async fn until_seen(seen: &Seen, count: usize) {
    let waited = tokio::time::timeout(LONG, async {
        while seen.count() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap();
}

fn hang(client: &Client, target: &Target) -> tokio::task::JoinHandle<Result<String, CallError<Echo>>> {
    let (client, target) = (client.clone(), target.clone());
    tokio::spawn(async move { echo(&client, &target, "hang").await })
}

#[tokio::test]
async fn without_a_connection_nothing_is_sent() {
    let cluster = Cluster::new(1);
    let (client, _) = watchful(&cluster);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [nobody.local_addr().unwrap(), silent.local_addr().unwrap()].map(|at| at.to_string());
    drop(nobody);
    for address in addresses
        .iter()
        .map(String::as_str)
        .chain(["not an address", "127.0.0.1"])
    {
        let outcome = echo(&client, &target(address, Expect::AnyMetad), "hello").await;
        assert!(
            matches!(outcome, Err(CallError::NotSent { .. })),
            "{address}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_call_without_an_answer_in_time_is_maybe_done() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api(&Seen::default())).await;
    let target = server.target(Expect::AnyMetad);
    let client = cluster.client(vendor(3));
    let soon = Duration::from_millis(200);
    let late: Result<Echo, CallError<Echo>> = client.call(&target, "/echo", &Echo::of("hang"), soon).await;
    assert!(matches!(late, Err(CallError::Unknown { .. })), "{late:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_cut_connection_leaves_the_call_maybe_done_and_the_next_connects_afresh() {
    let cluster = Cluster::new(1);
    let seen = Seen::default();
    let server = cluster.serve(metad(7), echo_api(&seen)).await;
    let relay = Relay::to(&server.address).await;
    let (client, network) = watchful(&cluster);
    let target = target(&relay.address, Expect::AnyMetad);
    let hanging = hang(&client, &target);
    until_seen(&seen, 1).await;
    relay.now(Wire::Cut);
    let outcome = hanging.await.unwrap();
    assert!(matches!(outcome, Err(CallError::Unknown { .. })), "{outcome:?}");
    echo(&client, &target, "hello").await.unwrap();
    assert_eq!(network.connects(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_dead_peer_is_noticed_and_the_next_call_connects_afresh() {
    let cluster = Cluster::new(1);
    let seen = Seen::default();
    let server = cluster.serve(metad(7), echo_api(&seen)).await;
    let relay = Relay::to(&server.address).await;
    let (client, network) = watchful(&cluster);
    let target = target(&relay.address, Expect::AnyMetad);
    let hanging = hang(&client, &target);
    until_seen(&seen, 1).await;
    // As long as the other end lives, a call may take its time.
    tokio::time::sleep(3 * KEEP_ALIVE).await;
    assert!(!hanging.is_finished());
    let silent_since = Instant::now();
    relay.now(Wire::Silent);
    let outcome = hanging.await.unwrap();
    assert!(matches!(outcome, Err(CallError::Unknown { .. })), "{outcome:?}");
    let noticed = silent_since.elapsed();
    assert!(noticed < 2 * KEEP_ALIVE + Duration::from_secs(1), "{noticed:?}");
    echo(&client, &target, "hello").await.unwrap();
    assert_eq!(network.connects(), 2);
    // Its end of the silent connection waits for nobody here.
    server.task.abort();
}

#[tokio::test]
async fn a_restarted_service_is_found_again_without_a_failed_call() {
    let cluster = Cluster::new(1);
    let (client, network) = watchful(&cluster);
    let start = |address: String| {
        let router = echo_api(&Seen::default()).into_router();
        let credentials = cluster.credentials(metad(7));
        async move { Server::start(&address, credentials, router, ServerLimits::default()).await }
    };
    // Not at 127.0.0.1, where an outgoing connection may take the port while the service is away.
    let mut server = start("127.0.0.9:0".to_owned()).await;
    for round in 1..=5 {
        let address = server.address.clone();
        echo(&client, &target(&address, Expect::AnyMetad), "hello")
            .await
            .unwrap();
        assert_eq!(network.connects(), round);
        server.stop().await;
        server = start(address).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn lanes_share_no_connection() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api(&Seen::default())).await;
    let (client, network) = watchful(&cluster);
    for lane in 0..3 {
        let mut target = server.target(Expect::AnyMetad);
        target.lane = lane;
        echo(&client, &target, "hello").await.unwrap();
        echo(&client, &target, "again").await.unwrap();
    }
    assert_eq!(network.connects(), 3);
    server.stop().await;
}
