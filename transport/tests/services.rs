//! Two services over loopback sockets: who reaches whom, what is refused, and what a failed call says.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, Echo, SECOND, echo_api, metad, vendor};
use ullage_transport::client::CallError;
use ullage_transport::credentials::Credentials;
use ullage_transport::identity::Expect;

#[tokio::test]
async fn services_of_one_cluster_reach_each_other_and_know_who_calls() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api()).await;
    let client = cluster.client(vendor(3));
    for expect in [Expect::AnyMetad, Expect::Exactly(metad(7))] {
        let answer: Result<Echo, CallError<Echo>> = client
            .call(&server.target(expect), "/echo", &Echo::of("hello"), SECOND)
            .await;
        assert_eq!(answer.unwrap().text, format!("hello from {}", vendor(3)));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_served_on_public_routes_only() {
    let cluster = Cluster::new(1);
    let server = cluster.serve(metad(7), echo_api()).await;
    let nobody = Credentials::anonymous(cluster.authority.fingerprint()).unwrap();
    let client = common::client(nobody);
    let target = server.target(Expect::AnyMetad);
    let public: Result<Echo, CallError<Echo>> =
        client.call(&target, "/public", &Echo::of("hello"), SECOND).await;
    assert_eq!(public.unwrap().text, "hello from a caller without a certificate");
    let protected: Result<Echo, CallError<Echo>> =
        client.call(&target, "/echo", &Echo::of("hello"), SECOND).await;
    assert!(
        matches!(protected, Err(CallError::Status { status: 401, .. })),
        "{protected:?}"
    );
    server.stop().await;
}
