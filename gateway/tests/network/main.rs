//! The gateway's calls to the other services over real connections: the metadata service and the vendors of the data
//! path's tests, behind real servers on loopback.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    dead_code,
    missing_docs
)]

#[path = "../data_path/agents.rs"]
mod agents;
#[path = "../data_path/harness.rs"]
mod harness;
#[path = "../data_path/metad.rs"]
mod metad;
mod process;
#[path = "../data_path/random.rs"]
mod random;
mod servers;

use agents::{Agents, Fault, WRITE_FAULTS};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use harness::{Harness, ROOT, Setup, parts};
use metad::Metad;
use random::Random;
use servers::{Node, Served};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use ullage_gateway::admin::LocalFats as _;
use ullage_gateway::agent_client::AgentClient as _;
use ullage_gateway::metad_client::MetadClient as _;
use ullage_gateway::path::PathView;
use ullage_gateway::store::Store;
use ullage_gateway::{Connected, Seams, connect};
use ullage_model::codec;
use ullage_model::command::{Conditions, EtagMatch};
use ullage_model::ids::{ChunkId, LeaseId, SessionId, VendorId};
use ullage_model::limits::FRAME_BYTES;
use ullage_model::wire::chunk::{
    ChunkHeader, ChunkPart, ChunkRefusal, Grant, Hop, HopReport, PublicKey, Signature,
};
use ullage_model::wire::members::MembersRequest;
use ullage_model::wire::routes;
use ullage_transport::api;
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::frame::{FrameReader, framed};

const CHUNK: u64 = 32 * FRAME_BYTES;
const SECRET: [u8; 32] = [5; 32];

/// A cluster behind servers, and a gateway's connections to it.
struct Cluster {
    authority: Authority,
    agents: Arc<Agents>,
    metad: Arc<Metad>,
    vendors: Vec<Served>,
    nodes: Vec<(Served, Arc<Node>)>,
}

impl Cluster {
    async fn start(vendors: usize, nodes: usize) -> Self {
        let authority = Authority::derive(&ClusterSecret::new(SECRET)).unwrap();
        let agents = Agents::new(vendors, 1 << 30, 1);
        let metad = Metad::new(Arc::clone(&agents), 1, 1 << 30);
        tokio::spawn(Arc::clone(&metad).run());
        let mut cluster = Self {
            authority,
            agents,
            metad,
            vendors: Vec::new(),
            nodes: Vec::new(),
        };
        for vendor in cluster.agents.vendors() {
            let agents = Arc::clone(&cluster.agents);
            let served = servers::agent(&cluster.authority, agents, vendor, true).await;
            cluster.metad.set_address(vendor, &served.address);
            cluster.vendors.push(served);
        }
        for number in 1..=nodes as u64 {
            let node = Arc::new(Node::default());
            let metad = Arc::clone(&cluster.metad);
            let served = servers::metad(&cluster.authority, number, metad, Arc::clone(&node)).await;
            cluster.nodes.push((served, node));
        }
        cluster
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|(served, _)| served.address.clone())
            .collect()
    }

    fn connect(&self, addresses: &[String]) -> Connected {
        connect(&ClusterSecret::new(SECRET), addresses, 7, &Seams::real()).unwrap()
    }

    /// A gateway that knows these metadata nodes.
    async fn gateway(&self, addresses: &[String]) -> Harness {
        let connected = self.connect(addresses);
        let setup = Setup::default();
        let mut parts = parts(&self.metad, &self.agents, &setup);
        parts.metad = connected.metad;
        parts.agents = Arc::new(connected.agents);
        let metrics = parts.metrics.clone();
        let store = Store::start(parts).await.unwrap();
        if store.directory().bucket("bucket").await.is_err() {
            store
                .create_bucket(
                    ROOT,
                    "bucket",
                    "us-east-1",
                    ullage_model::namespace::rows::BucketAccess::default(),
                )
                .await
                .unwrap();
        }
        let bucket = store.directory().bucket("bucket").await.unwrap();
        Harness {
            agents: Arc::clone(&self.agents),
            metad: Arc::clone(&self.metad),
            store,
            bucket,
            random: Random::new(9),
            metrics,
        }
    }
}

/// A port that nobody listens at.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Waits for what must become true.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_come_back_whole_and_vendors_tables_are_shown() {
    let cluster = Cluster::start(4, 1).await;
    let gateway = cluster.gateway(&cluster.addresses()).await;
    for bytes in [0, 1, 4097, CHUNK, 5 * CHUNK + 77] {
        let body = gateway.body(bytes);
        // Another key for each: what is written over would be erased while it is counted below.
        let key = format!("key of {bytes}");
        gateway.put(&key, &body).await.unwrap();
        assert_eq!(gateway.get(&key).await.unwrap().unwrap(), body, "{bytes} bytes");
        let part = gateway.get_range(&key, bytes / 2, 50_000).await.unwrap().unwrap();
        let end = (bytes / 2 + 50_000).min(bytes) as usize;
        assert_eq!(part, body.slice(bytes as usize / 2..end));
    }
    let connected = cluster.connect(&cluster.addresses());
    let vendor = VendorId(1);
    let unknown = connected.agents.copies(vendor, None, 10).await;
    assert!(unknown.is_err(), "no sign of life has told its address yet");
    let view = gateway.store.view();
    let told: Vec<_> = view.vendors.values().map(|info| (**info).clone()).collect();
    connected.agents.learn(&told);
    let page = connected.agents.copies(vendor, None, 1).await.unwrap();
    assert_eq!(page.copies.len(), 1);
    let rest = connected.agents.copies(vendor, page.next, 1000).await.unwrap();
    assert_eq!(1 + rest.copies.len(), cluster.agents.copies(vendor).len());
    let paths = connected.agents.device_paths(vendor).await;
    assert_eq!(paths[0].1, "/dev/vendor-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_vendors_are_worked_around_over_the_network_too() {
    let cluster = Cluster::start(4, 1).await;
    let gateway = cluster.gateway(&cluster.addresses()).await;
    let sound: Vec<Fault> = WRITE_FAULTS
        .into_iter()
        .filter(|fault| !matches!(fault, Fault::Silent | Fault::Slow))
        .collect();
    cluster.agents.set_write_faults(15, &sound);
    for round in 0..12 {
        let body = gateway.body(2 * CHUNK + round);
        gateway.put("key", &body).await.unwrap();
        assert_eq!(gateway.get("key").await.unwrap().unwrap(), body, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_stops_in_the_middle_of_an_upload_is_left_within_seconds() {
    let cluster = Cluster::start(4, 1).await;
    let gateway = cluster.gateway(&cluster.addresses()).await;
    let body = gateway.body(8 * CHUNK);
    gateway.put("warm", &body).await.unwrap();
    for round in 0..3 {
        cluster.agents.set_stopped(VendorId(1 + round), true);
        let began = Instant::now();
        gateway.put("key", &body).await.unwrap();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "round {round} took {took:?}");
        assert_eq!(gateway.get("key").await.unwrap().unwrap(), body);
        cluster.agents.set_stopped(VendorId(1 + round), false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_and_hung_metadata_nodes_are_passed_over_and_the_one_that_answers_is_kept() {
    let cluster = Cluster::start(3, 2).await;
    let hung = &cluster.nodes[0].1;
    hung.hangs.store(true, Ordering::SeqCst);
    let addresses = [
        nobody().await,
        cluster.nodes[0].0.address.clone(),
        cluster.nodes[1].0.address.clone(),
    ];
    let began = Instant::now();
    let gateway = cluster.gateway(&addresses).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let asked = hung.calls.lock().unwrap().len();
    let body = gateway.body(2 * CHUNK);
    for round in 0..5 {
        gateway.put(&format!("key-{round}"), &body).await.unwrap();
    }
    assert_eq!(hung.calls.lock().unwrap().len(), asked, "it is not asked again");
    hung.hangs.store(false, Ordering::SeqCst);
    cluster.nodes[1].1.hangs.store(true, Ordering::SeqCst);
    gateway.put("after", &body).await.unwrap();
    assert_eq!(gateway.get("after").await.unwrap().unwrap(), body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_names_its_leader_is_followed_there() {
    let cluster = Cluster::start(3, 2).await;
    let leader = cluster.nodes[1].0.address.clone();
    *cluster.nodes[0].1.led_by.lock().unwrap() = Some(leader);
    let gateway = cluster.gateway(&cluster.addresses()[..1]).await;
    gateway.put("key", &gateway.body(10)).await.unwrap();
    assert!(cluster.nodes[1].1.calls_of(routes::SUBMIT_MANY) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_passed_a_submit_on_is_left_for_its_leader_at_once() {
    let cluster = Cluster::start(3, 2).await;
    let leader = cluster.nodes[1].0.address.clone();
    *cluster.nodes[0].1.passes_on_to.lock().unwrap() = Some(leader);
    let gateway = cluster.gateway(&cluster.addresses()[..1]).await;
    for round in 0..5 {
        gateway
            .put(&format!("key-{round}"), &gateway.body(10))
            .await
            .unwrap();
    }
    assert_eq!(cluster.nodes[0].1.calls_of(routes::SUBMIT_MANY), 1);
    assert!(cluster.nodes[1].1.calls_of(routes::SUBMIT_MANY) >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_whose_answer_is_lost_is_resolved_at_whatever_node_answers_and_never_repeated() {
    let cluster = Cluster::start(3, 2).await;
    let gateway = cluster.gateway(&cluster.addresses()).await;
    let absent = Conditions {
        if_none_match: Some(EtagMatch::Any),
        ..Conditions::default()
    };
    for (_, node) in &cluster.nodes {
        node.cut_submits.store(4, Ordering::SeqCst);
    }
    for round in 0..12 {
        let body = gateway.body(100);
        let key = format!("key-{round}");
        gateway
            .put_as(&key, &body, "STANDARD", absent.clone())
            .await
            .unwrap_or_else(|error| panic!("its own win must not stand in its way: {error}"));
    }
    let resolved: usize = cluster
        .nodes
        .iter()
        .map(|(_, node)| node.calls_of(routes::RESOLVE))
        .sum();
    assert!(resolved >= 4, "only {resolved} outcomes were asked for");
    let mut submits: Vec<_> = cluster
        .nodes
        .iter()
        .flat_map(|(_, node)| node.submits.lock().unwrap().clone())
        .collect();
    let all = submits.len();
    submits.sort_unstable();
    submits.dedup();
    assert_eq!(submits.len(), all, "a sequence was submitted twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_invitations_come_through() {
    let cluster = Cluster::start(1, 1).await;
    let metad = cluster.connect(&cluster.addresses()).metad;
    let members = metad.members(MembersRequest::List).await.unwrap();
    assert_eq!(members.members.len(), 1);
    let invitation = ullage_model::wire::enrol::InviteRequest { life_ms: 1000 };
    let token = metad.invite(invitation).await.unwrap().token;
    assert_eq!(token.authority, [1; 32]);
    assert_eq!(metad.status().await.unwrap().leader, Some(1));
}

fn header(vendor: VendorId, bytes: u64) -> ChunkHeader {
    let grant = Grant {
        body: Bytes::new(),
        issuer: PublicKey::default(),
        signature: Signature(Bytes::new()),
    };
    ChunkHeader {
        owner: SessionId(1),
        chunk: ChunkId {
            lease: LeaseId(1),
            counter: 1,
        },
        route: vec![Hop {
            vendor,
            lease: LeaseId(1),
            grant,
        }],
        pieces: 1,
        plaintext_bytes: bytes,
        request_id: 1,
    }
}

/// Connections that know where `vendor` is said to be.
async fn knowing(cluster: &Cluster, vendor: VendorId, address: &str) -> Connected {
    cluster.metad.set_address(vendor, address);
    let gateway = cluster.gateway(&cluster.addresses()).await;
    let connected = cluster.connect(&cluster.addresses());
    let view = gateway.store.view();
    let told: Vec<_> = view.vendors.values().map(|info| (**info).clone()).collect();
    connected.agents.learn(&told);
    connected
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_come_while_the_chunk_is_still_going_out() {
    let cluster = Cluster::start(1, 1).await;
    let vendor = VendorId(1);
    // Answers every piece of the body with a report, as it comes.
    let echoing = servers::putting(&cluster.authority, vendor, move |request| {
        async move {
            let mut reader = FrameReader::new(request.into_body());
            reader.message(1 << 20).await.unwrap().unwrap();
            let reports = stream::unfold(reader, move |mut reader| async move {
                reader.data().await.ok()??;
                let report = HopReport::Failed {
                    vendor,
                    from: None,
                    refusal: ChunkRefusal::Overloaded,
                };
                Some((Ok(framed(&codec::encode(&report))), reader))
            });
            api::streamed(reports)
        }
        .boxed()
    })
    .await;
    let connected = knowing(&cluster, vendor, &echoing.address).await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let parts = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    let put = connected
        .agents
        .put_chunk(vendor, header(vendor, 3), parts.boxed());
    let mut reports = put.await.unwrap();
    for round in 0..3 {
        sender
            .send(Ok(ChunkPart::Data(Bytes::from_static(b"part"))))
            .unwrap();
        let report = tokio::time::timeout(Duration::from_secs(10), reports.next()).await;
        assert!(matches!(report, Ok(Some(_))), "round {round}: {report:?}");
    }
    drop(reports);
    // Dropping the reports gives the stream up: nobody takes parts any more.
    until("the parts are dropped", || sender.is_closed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_keep_their_meaning_and_everything_else_is_a_failed_link() {
    let cluster = Cluster::start(2, 1).await;
    let vendor = VendorId(1);
    let send = |connected: Connected| async move {
        let parts = stream::iter([Ok(ChunkPart::Data(Bytes::from_static(b"x")))]).boxed();
        let answer = connected.agents.put_chunk(vendor, header(vendor, 1), parts).await;
        answer.map(|_| ()).unwrap_err()
    };
    let full = servers::putting(&cluster.authority, vendor, |_| {
        async { api::refusal(&ChunkRefusal::Full { needed: 7 }) }.boxed()
    })
    .await;
    let refusal = send(knowing(&cluster, vendor, &full.address).await).await;
    assert_eq!(refusal, ChunkRefusal::Full { needed: 7 });
    let broken = servers::broken(&cluster.authority, vendor).await;
    let refusal = send(knowing(&cluster, vendor, &broken.address).await).await;
    assert!(
        matches!(&refusal, ChunkRefusal::Link(reason) if reason.contains("500")),
        "{refusal}"
    );
    let refusal = send(knowing(&cluster, vendor, &nobody().await).await).await;
    assert!(matches!(refusal, ChunkRefusal::Link(_)), "{refusal}");
    // Another vendor sits where it should be: its certificate does not do.
    let other = cluster.vendors[1].address.clone();
    let refusal = send(knowing(&cluster, vendor, &other).await).await;
    assert!(matches!(refusal, ChunkRefusal::Link(_)), "{refusal}");
    let foreign = Authority::derive(&ClusterSecret::new([6; 32])).unwrap();
    let stranger = servers::broken(&foreign, vendor).await;
    let refusal = send(knowing(&cluster, vendor, &stranger.address).await).await;
    assert!(matches!(refusal, ChunkRefusal::Link(_)), "{refusal}");
}

fn path(paths: &[PathView], vendor: u64) -> PathView {
    let found = paths.iter().find(|path| path.vendor == VendorId(vendor));
    found.unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_measured_by_datagrams_and_by_calls_where_those_do_not_come_through() {
    let mut cluster = Cluster::start(3, 1).await;
    // The second answers no datagrams, the third is not there.
    let silent = servers::agent(
        &cluster.authority,
        Arc::clone(&cluster.agents),
        VendorId(2),
        false,
    )
    .await;
    cluster.metad.set_address(VendorId(2), &silent.address);
    cluster.metad.set_address(VendorId(3), &nobody().await);
    cluster.vendors[1] = silent;
    let gateway = cluster.gateway(&cluster.addresses()).await;
    until("all paths were probed", || {
        let paths = gateway.store.paths();
        paths[0].round_trip_ms.is_some() && paths[1].round_trip_ms.is_some() && paths[2].loss > 0.0
    })
    .await;
    let paths = gateway.store.paths();
    assert_eq!(path(&paths, 1).hops, Some(0), "loopback has no routers");
    assert!(path(&paths, 1).round_trip_ms.unwrap() < 1000.0);
    assert_eq!(path(&paths, 2).hops, None);
    assert_eq!(path(&paths, 2).loss, 0.0, "a filter for datagrams is no failure");
    assert!(path(&paths, 3).discarded.is_some(), "{paths:?}");
}
