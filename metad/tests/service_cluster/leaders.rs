//! What a change of the leader leaves as it was, and what it makes a new leader ask for again.

use super::harness::{Cluster, Gateway as Remote};
use super::{bucket, renewal};
use crate::fakes::{self, Gateway, Vendor, eventually};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use ullage_model::command::Reply;
use ullage_model::wire::members::{MembersReply, MembersRequest};
use ullage_model::wire::metad::{
    Answer, Done, MetadError, Query, QueryReply, RenewSessionReply, StatusReply, SubmitReply,
};
use ullage_model::wire::routes;
use ullage_transport::client::CallError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_is_replaced_and_sessions_go_on() {
    let mut cluster = Cluster::start(3).await;
    let gateway = Remote::new(1);
    let first = cluster.leader().await;
    let session = gateway.open(&cluster.addresses[first]).await;
    let made: SubmitReply = gateway
        .caller
        .call(
            &cluster.addresses[first],
            routes::SUBMIT,
            &bucket(session, 0, "before"),
        )
        .await
        .unwrap();
    assert!(matches!(made.reply, Reply::Bucket(_)));
    cluster.kill_node(first).await;
    let began = Instant::now();
    let survivor = cluster.running().next().unwrap().0;
    let address = cluster.addresses[survivor].clone();
    // A sequence is decided once, whoever leads and however often it is asked for.
    let after: SubmitReply = gateway
        .caller
        .surely(&address, routes::SUBMIT, &bucket(session, 1, "after"))
        .await;
    assert!(matches!(after.reply, Reply::Bucket(_)), "{after:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_ne!(cluster.leader().await, first);
    let again: SubmitReply = gateway
        .caller
        .surely(&address, routes::SUBMIT, &bucket(session, 0, "before"))
        .await;
    assert_eq!(again.reply, made.reply, "stored");
    let _: RenewSessionReply = gateway
        .caller
        .surely(&address, routes::SESSION_RENEW, &renewal(session))
        .await;
    cluster.start_node(first).await;
    cluster.until_ready().await;
    let found: QueryReply = gateway
        .caller
        .surely(
            &cluster.addresses[first],
            routes::QUERY,
            &Query::Bucket("after".to_owned()),
        )
        .await;
    assert!(
        matches!(found.answer, Answer::Bucket(Some(_))),
        "written while it was away"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_quorum_answers_nothing() {
    let mut cluster = Cluster::start(3).await;
    let gateway = Remote::new(1);
    let leader = cluster.leader().await;
    let session = gateway.open(&cluster.addresses[leader]).await;
    let others: Vec<usize> = cluster
        .running()
        .map(|(at, _)| at)
        .filter(|at| *at != leader)
        .collect();
    for at in &others {
        cluster.kill_node(*at).await;
    }
    let address = &cluster.addresses[leader].clone();
    let asked: Result<QueryReply, _> = gateway
        .caller
        .call(address, routes::QUERY, &Query::Bucket("none".to_owned()))
        .await;
    assert!(
        matches!(asked, Err(CallError::Application(MetadError::Unavailable(_)))),
        "{asked:?}"
    );
    let renewed: Result<RenewSessionReply, _> = gateway
        .caller
        .call(address, routes::SESSION_RENEW, &renewal(session))
        .await;
    assert!(renewed.is_err(), "{renewed:?}");
    let written: Result<SubmitReply, _> = gateway
        .caller
        .call(address, routes::SUBMIT, &bucket(session, 0, "none"))
        .await;
    assert!(
        matches!(
            written,
            Err(CallError::Application(
                MetadError::Unknown(_) | MetadError::Unavailable(_)
            ))
        ),
        "{written:?}"
    );
    for at in others {
        cluster.start_node(at).await;
    }
    cluster.until_ready().await;
    let resolved: SubmitReply = gateway
        .caller
        .surely(
            address,
            routes::RESOLVE,
            &ullage_model::wire::metad::ResolveRequest { session, sequence: 0 },
        )
        .await;
    let known = matches!(resolved.reply, Reply::Abandoned | Reply::Bucket(_));
    assert!(known, "{resolved:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_orders_nothing_erased_until_sessions_have_reported_to_it() {
    let cluster = Cluster::start(3).await;
    let node = cluster.leader_as_fake().await;
    let vendors = [
        Vendor::register(&node, "a", fakes::GIB).await,
        Vendor::register(&node, "b", fakes::GIB).await,
    ];
    for vendor in &vendors {
        vendor.heartbeat(&node).await;
    }
    let gateway = Gateway::open(&node).await;
    let fat = gateway.allocate(&node, 64 << 20).await;
    let issuers: BTreeSet<_> = [fat.rows[0].grant.issuer].into();
    gateway
        .put(&node, "key", fat.lease, &[&vendors[0], &vendors[1]])
        .await;
    let released_at = gateway.delete(&node, "key").await;
    gateway.renew(&node, released_at + 1).await.unwrap();
    eventually("the first leader orders the erase", async || {
        !vendors[0].report(&node).await.unwrap().erase.is_empty()
    })
    .await;
    let before = node.cluster_time();
    let term = node.metad.status().unwrap().term;
    node.metad.step_down(Duration::from_secs(20)).await;
    let deposed = vendors[0].report(&node).await;
    assert!(
        matches!(deposed, Err(MetadError::NotLeader { .. })),
        "it orders nothing any more: {deposed:?}"
    );
    drop(node);

    let node = cluster.leader_as_fake().await;
    let mut reply = None;
    eventually("the new leader answers", async || {
        reply = vendors[0].report(&node).await.ok();
        reply.is_some()
    })
    .await;
    let reply = reply.unwrap();
    assert!(reply.term > term);
    assert_eq!(reply.erase, [], "it was told nothing of readers");
    assert!(reply.cluster_time >= before);
    // Other vendors have not told it yet what they have free: there may be room, so it is not full.
    let waits = node.metad.allocate(gateway.asking(1 << 20));
    let (fat, _) = tokio::join!(waits, vendors[1].report(&node));
    let fat = fat.unwrap();
    assert!(
        !issuers.contains(&fat.rows[0].grant.issuer),
        "it has a key of its own"
    );
    let reply = vendors[0].report(&node).await.unwrap();
    assert!(
        reply.issuers.contains(&fat.rows[0].grant.issuer)
            && issuers.iter().all(|key| reply.issuers.contains(key))
    );
    gateway.renew(&node, released_at).await.unwrap();
    assert_eq!(vendors[0].report(&node).await.unwrap().erase, []);
    gateway.renew(&node, released_at + 1).await.unwrap();
    assert_eq!(vendors[0].report(&node).await.unwrap().erase.len(), 1);
    for vendor in &vendors {
        vendor.heartbeat(&node).await;
        vendor.heartbeat(&node).await;
        assert!(vendor.held.lock().unwrap().is_empty());
    }
    drop(node);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_removed_is_told_of_no_more_and_its_grants_stay_good() {
    let mut cluster = Cluster::start(3).await;
    let gateway = Remote::new(1);
    let follower = cluster.follower().await;
    let node = cluster.nodes[follower].as_ref().unwrap().metad().node();
    let address = cluster.addresses[cluster.leader().await].clone();
    eventually("every node has told its address", async || {
        gateway.invite(&address, 1000).await.metad.len() == 3
    })
    .await;
    cluster.stop_node(follower).await;
    let remove = MembersRequest::Remove { node };
    let left: MembersReply = gateway
        .caller
        .call(&address, routes::MEMBERS, &remove)
        .await
        .unwrap();
    assert!(left.members.iter().all(|member| member.node != node) && left.members.len() == 2);
    eventually("its address is told no more", async || {
        gateway.invite(&address, 1000).await.metad.len() == 2
    })
    .await;
    let status: StatusReply = gateway
        .caller
        .call(&address, routes::STATUS, &Done)
        .await
        .unwrap();
    assert_eq!(
        status.issuers.len(),
        3,
        "what it granted is good until it has run out"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_hands_over_and_its_row_stays_as_long_as_it_is_a_member() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let term = |cluster: &Cluster| {
        let node = cluster.running().next().unwrap().1;
        node.metad().status().unwrap().term
    };
    let before = term(&cluster);
    cluster.stop_node(leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    assert_eq!(
        term(&cluster),
        before + 1,
        "one election, and nobody waited for silence"
    );
    eventually("the new leader keeps all rows", async || {
        let node = cluster.nodes[next].as_ref().unwrap();
        node.metad().status().unwrap().issuers.len() == 3
    })
    .await;
    cluster.start_node(leader).await;
    cluster.until_ready().await;
    cluster.stop().await;
}
