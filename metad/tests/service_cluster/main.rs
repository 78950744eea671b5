//! The service on the network: nodes on sockets, with certificates. Who may call what, which node answers, and
//! what a change of the leader leaves as it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fakes/mod.rs"]
mod fakes;

mod harness;
mod leaders;
#[path = "../loopback/mod.rs"]
mod loopback;
mod vendors;

use harness::{Caller, Cluster, Gateway};
use http::HeaderMap;
use std::collections::BTreeSet;
use ullage_metad::http::{ROUTES, routes_served};
use ullage_model::codec;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::query::ErasePermit;
use ullage_model::ids::{SessionId, VendorId};
use ullage_model::limits::COMMANDS_TOGETHER;
use ullage_model::rejection::Rejection;
use ullage_model::wire::members::{MembersReply, MembersRequest};
use ullage_model::wire::metad::{
    Answer, Done, EndSessionRequest, MetadError, Query, QueryManyReply, QueryManyRequest, QueryReply,
    RenewSessionReply, RenewSessionRequest, ReportDamagedRequest, ResolveRequest, StatusReply,
    SubmitManyReply, SubmitManyRequest, SubmitReply, SubmitRequest,
};
use ullage_model::wire::routes;
use ullage_transport::client::CallError;
use ullage_transport::identity::{Identity, Peer};

#[track_caller]
fn is_refused<T: std::fmt::Debug>(answer: Result<T, CallError<MetadError>>) -> Rejection {
    match answer {
        Err(CallError::Application(MetadError::Refused(rejection))) => rejection,
        other => panic!("{other:?}"),
    }
}

fn renewal(session: SessionId) -> RenewSessionRequest {
    RenewSessionRequest {
        session,
        acknowledged_below: 0,
        observed_index: 0,
    }
}

fn bucket(session: SessionId, sequence: u64, name: &str) -> SubmitRequest {
    SubmitRequest {
        session,
        sequence,
        command: SessionCommand::CreateBucket {
            actor: fakes::ROOT,
            name: name.to_owned(),
            region: "here".to_owned(),
            access: ullage_model::namespace::rows::BucketAccess::default(),
            now: ullage_model::cluster_time::WallTime(1),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_any_call_and_answers_what_was_written_through_another() {
    let cluster = Cluster::start(3).await;
    let gateway = Gateway::new(1);
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let session = gateway.open(&cluster.addresses[follower]).await;
    assert!(
        cluster.metric(follower, "ullage_metad_calls_forwarded_total", "") >= 1.0,
        "it does not lead"
    );
    for number in 0..30 {
        let through = &cluster.addresses[number % 3];
        let name = format!("bucket-{number}");
        let made: SubmitReply = gateway
            .caller
            .call(through, routes::SUBMIT, &bucket(session, number as u64, &name))
            .await
            .unwrap();
        assert!(matches!(made.reply, Reply::Bucket(_)), "{made:?}");
        for address in &cluster.addresses {
            let found: QueryReply = gateway
                .caller
                .call(address, routes::QUERY, &Query::Bucket(name.clone()))
                .await
                .unwrap();
            assert!(
                matches!(found.answer, Answer::Bucket(Some(_))),
                "{name} at {address}"
            );
        }
    }
    for (at, address) in cluster.addresses.iter().enumerate() {
        let renewed: RenewSessionReply = gateway
            .caller
            .call(address, routes::SESSION_RENEW, &renewal(session))
            .await
            .unwrap();
        assert_eq!(renewed.classes.len(), 1);
        let status: StatusReply = gateway.caller.call(address, routes::STATUS, &Done).await.unwrap();
        let node = cluster.nodes[at].as_ref().unwrap().metad().node();
        assert_eq!(status.node, node);
        assert_eq!(
            status.leader,
            Some(cluster.nodes[leader].as_ref().unwrap().metad().node())
        );
        assert!(cluster.metric(at, "ullage_metad_calls_total", "done") > 30.0);
        assert_eq!(cluster.metric(at, "ullage_metad_calls_in_flight", ""), 0.0);
    }
    cluster.stop().await;
}

/// The commands of `requests` as they travel together.
fn together(requests: impl IntoIterator<Item = SubmitRequest>) -> SubmitManyRequest {
    let command = |request: SubmitRequest| {
        codec::encode(&Command::InSession {
            session: request.session,
            sequence: request.sequence,
            command: request.command,
        })
    };
    SubmitManyRequest {
        commands: requests.into_iter().map(command).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_questions_that_came_together_are_each_answered_by_themselves() {
    let cluster = Cluster::start(3).await;
    let (owner, other) = (Gateway::new(1), Gateway::new(2));
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let leads = cluster.addresses[leader].clone();
    let session = owner.open(&leads).await;
    let foreign = other.open(&leads).await;
    let mut request = together([
        bucket(session, 0, "one"),
        bucket(foreign, 0, "stolen"),
        bucket(session, 1, "two"),
        bucket(session, 2, "one"),
    ]);
    // Not a session's, and nothing at all.
    request.commands.push(codec::encode(&Command::DrainReleases {
        permit: ErasePermit::ALL,
    }));
    request.commands.push(bytes::Bytes::from_static(b"?"));
    for (through, said) in [(follower, Some(leads.clone())), (leader, None)] {
        let reply: SubmitManyReply = owner
            .caller
            .call(&cluster.addresses[through], routes::SUBMIT_MANY, &request)
            .await
            .unwrap();
        assert_eq!(reply.leader, said, "whoever passed it on says to whom");
        let replies: Vec<Option<Reply>> = reply
            .answers
            .iter()
            .map(|answer| Some(codec::decode(&answer.as_ref().ok()?.reply).unwrap()))
            .collect();
        // The second time round they are the stored outcomes.
        assert!(matches!(replies[0], Some(Reply::Bucket(_))), "{replies:?}");
        assert!(matches!(replies[2], Some(Reply::Bucket(_))), "{replies:?}");
        assert!(
            matches!(replies[3], Some(Reply::Refused(Rejection::BucketExists { .. }))),
            "a refusal is an answer, and only of its own command: {replies:?}"
        );
        for at in [1, 4, 5] {
            assert!(
                matches!(&reply.answers[at], Err(MetadError::Refused(_))),
                "{:?}",
                reply.answers[at]
            );
        }
        let indexes: Vec<u64> = [0, 2, 3]
            .map(|at| reply.answers[at].as_ref().unwrap().index)
            .to_vec();
        assert!(
            indexes.windows(2).all(|pair| pair[0] < pair[1]),
            "in their order: {indexes:?}"
        );
    }
    let many = SubmitManyRequest {
        commands: vec![bytes::Bytes::new(); COMMANDS_TOGETHER + 1],
    };
    is_refused(
        owner
            .caller
            .call::<_, SubmitManyReply>(&leads, routes::SUBMIT_MANY, &many)
            .await,
    );
    let queries = vec![
        Query::Bucket("one".to_owned()),
        Query::Vendors,
        Query::Bucket("stolen".to_owned()),
        Query::Bucket("two".to_owned()),
    ];
    for address in &cluster.addresses {
        let request = QueryManyRequest {
            queries: queries.clone(),
        };
        let reply: QueryManyReply = owner
            .caller
            .call(address, routes::QUERY_MANY, &request)
            .await
            .unwrap();
        assert!(
            matches!(reply.answers[0], Ok(Answer::Bucket(Some(_)))),
            "{reply:?}"
        );
        assert!(
            matches!(reply.answers[1], Err(MetadError::Refused(_))),
            "{reply:?}"
        );
        assert!(matches!(reply.answers[2], Ok(Answer::Bucket(None))), "{reply:?}");
        assert!(
            matches!(reply.answers[3], Ok(Answer::Bucket(Some(_)))),
            "{reply:?}"
        );
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_tells_its_key_and_address_and_the_members_are_told_by_each() {
    let cluster = Cluster::start(3).await;
    let gateway = Gateway::new(1);
    let metad = |at: usize| cluster.nodes[at].as_ref().unwrap().metad();
    fakes::eventually("all keys are known to all", async || {
        (0..3).all(|at| metad(at).status().unwrap().issuers.len() == 3)
    })
    .await;
    for address in &cluster.addresses {
        let told: MembersReply = gateway
            .caller
            .call(address, routes::MEMBERS, &MembersRequest::List)
            .await
            .unwrap();
        let addresses: BTreeSet<&str> = told
            .members
            .iter()
            .map(|member| member.address.as_str())
            .collect();
        assert_eq!(addresses, cluster.addresses.iter().map(String::as_str).collect());
        assert_eq!(told.members.iter().filter(|member| member.leads).count(), 1);
        assert!(
            told.members
                .iter()
                .all(|member| member.voter && member.issuer.is_some())
        );
        assert!(
            told.members.iter().all(|member| member.matched_index.is_some()),
            "the leader knows, whoever is asked"
        );
        assert!(!told.joint);
    }
    // An operator's mistake is refused and changes nothing.
    let nobody = MembersRequest::Remove { node: 1 };
    let refused = gateway
        .caller
        .call::<_, MembersReply>(&cluster.addresses[0], routes::MEMBERS, &nobody)
        .await;
    is_refused(refused);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_its_openers() {
    let cluster = Cluster::start(1).await;
    let address = &cluster.addresses[0];
    let (owner, thief) = (Gateway::new(1), Gateway::new(2));
    let session = owner.open(address).await;
    let caller = &thief.caller;
    let submit = bucket(session, 0, "stolen");
    let sequence = 0;
    is_refused(
        caller
            .call::<_, SubmitReply>(address, routes::SUBMIT, &submit)
            .await,
    );
    let renewal = renewal(session);
    let renew = caller.call::<_, RenewSessionReply>(address, routes::SESSION_RENEW, &renewal);
    is_refused(renew.await);
    let resolve = ResolveRequest { session, sequence };
    is_refused(
        caller
            .call::<_, SubmitReply>(address, routes::RESOLVE, &resolve)
            .await,
    );
    let end = EndSessionRequest { session };
    is_refused(caller.call::<_, Done>(address, routes::SESSION_END, &end).await);
    let made: SubmitReply = owner.caller.call(address, routes::SUBMIT, &submit).await.unwrap();
    assert!(
        matches!(made.reply, Reply::Bucket(_)),
        "nobody has used its sequence"
    );
    let _: Done = owner
        .caller
        .call(address, routes::SESSION_END, &end)
        .await
        .unwrap();
    // One that was never opened reports nothing either.
    let report = ReportDamagedRequest {
        session: SessionId(u64::MAX),
        vendor: VendorId(1),
        copies: Vec::new(),
    };
    let reported = caller
        .call::<_, Done>(address, routes::REPORT_DAMAGED, &report)
        .await;
    assert_eq!(is_refused(reported), Rejection::SessionGone);
    // What is the service's own is no operator's.
    let tick = Command::Tick {
        to: ullage_model::cluster_time::ClusterTime(u64::MAX),
    };
    is_refused(
        owner
            .caller
            .call::<_, Reply>(address, routes::OPERATE, &tick)
            .await,
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_is_shut_to_those_it_does_not_name() {
    let cluster = Cluster::start(1).await;
    let address = &cluster.addresses[0];
    let peers = [
        Peer::Anonymous,
        Peer::Known(Identity::Metad(99)),
        Peer::Known(Identity::Gateway(1)),
        Peer::Known(Identity::Vendor(VendorId(1))),
    ];
    for peer in peers {
        let caller = match peer {
            Peer::Anonymous => Caller::anonymous(),
            Peer::Known(identity) => Caller::known(identity),
        };
        for route in routes_served() {
            // Raft's streams answer before they read.
            let streams = route.body_bytes == 0;
            if streams && route.callers.admit(&peer) {
                continue;
            }
            let status = match caller.knock(address, route.path, HeaderMap::new()).await {
                CallError::Status { status, .. } => status,
                other => panic!("{} by {peer}: {other:?}", route.path),
            };
            let expected = match (route.callers.admit(&peer), peer) {
                (true, _) => 400,
                (false, Peer::Anonymous) => 401,
                (false, Peer::Known(_)) => 403,
            };
            assert_eq!(status, expected, "{} by {peer}", route.path);
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metadata_node_may_ask_for_others_only_and_others_may_not_ask_for_anybody() {
    let cluster = Cluster::start(1).await;
    let address = &cluster.addresses[0];
    let session = Gateway::new(1).open(address).await;
    let metad = Caller::known(Identity::Metad(99));
    is_refused(
        metad
            .call::<_, RenewSessionReply>(address, routes::SESSION_RENEW, &renewal(session))
            .await,
    );
    // Only members tell of themselves, and of themselves only.
    let row = |node| Command::SetMember {
        node,
        address: "elsewhere:9310".to_owned(),
        issuer: ullage_model::wire::chunk::PublicKey([1; 32]),
        format_level: 1,
    };
    let own = cluster.nodes[0].as_ref().unwrap().metad().node();
    for node in [99, own] {
        is_refused(
            metad
                .call::<_, Done>(address, "/v1/member/publish", &row(node))
                .await,
        );
    }
    assert_eq!(
        ROUTES.len() + ullage_metad::raft::PEER_ROUTES.len(),
        routes_served().len()
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_passed_on_once_and_who_it_is_for_is_believed_of_metadata_nodes_only() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.addresses[cluster.leader().await].clone();
    let follower = &cluster.addresses[cluster.follower().await];
    let session = Gateway::new(1).open(&leader).await;
    let (owner, renewal) = (Identity::Gateway(1), renewal(session));
    let metad = Caller::known(Identity::Metad(99));
    let passed = metad.call_for::<_, RenewSessionReply>(&leader, routes::SESSION_RENEW, &renewal, owner);
    passed.await.unwrap();
    let passed = metad.call_for::<_, RenewSessionReply>(follower, routes::SESSION_RENEW, &renewal, owner);
    match passed.await {
        Err(CallError::Application(MetadError::NotLeader { leader: named })) => {
            assert_eq!(named.as_ref(), Some(&leader));
        }
        other => panic!("{other:?}"),
    }
    let thief = Caller::known(Identity::Gateway(2));
    for address in [&leader, follower] {
        let forged = thief.call_for::<_, RenewSessionReply>(address, routes::SESSION_RENEW, &renewal, owner);
        is_refused(forged.await);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_are_told_to_anybody() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.addresses[0].replace(":9310", ":9311");
    let get = async |path: &str| {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(&admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for path in ["/health/live", "/health/ready", "/metrics"] {
        let answer = get(path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    assert!(get("/metrics").await.contains("ullage_metad_vendors"));
    for path in ["/", "/v1/query", "/metrics/"] {
        let answer = get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    cluster.stop().await;
}
