//! Agents as services over real sockets with real certificates: chunks along a chain and back, who may send them,
//! links that fail, hops that lie, and the way into the cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;

use common::cluster::{
    self, Cluster, Put, Running, credentials_of, put, put_with, read, routed, status, until,
};
use common::{check_receipts, copy, stored};
use futures::{FutureExt, StreamExt};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use ullage_model::codec;
use ullage_model::ids::{Digest, VendorId};
use ullage_model::units;
use ullage_model::wire::chunk::{ChunkHeader, ChunkRefusal, HopReport, ListCopiesReply, ListCopiesRequest};
use ullage_model::wire::metad::Done;
use ullage_model::wire::probe::{PROBE_BYTES, Probe, ProbeCookie};
use ullage_model::wire::routes;
use ullage_transport::api::{Api, Route, StreamRequest, refusal};
use ullage_transport::client::{Client, ClientLimits};
use ullage_transport::credentials::{Credentials, LIFE};
use ullage_transport::frame::{FrameReader, framed};
use ullage_transport::identity::{Callers, Identity, Peer};
use ullage_transport::network::{DATAGRAM_TTL, Network, TokioNetwork};
use ullage_transport::server::{ServerLimits, serve};
use ullage_vendor_agent::{AgentError, Config, RunSeams, Service, show};

const PLAINTEXT: u64 = 3 << 20;
const DEADLINE: Duration = Duration::from_secs(5);

fn ids(agents: &[Running]) -> Vec<VendorId> {
    agents.iter().map(Running::vendor).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_goes_along_the_chain_and_every_hop_signs_for_it() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let agents = cluster.vendors(3).await;
    let (name, bytes) = (copy(1, 7), stored(PLAINTEXT, 1007));
    let header = routed(name, PLAINTEXT, &ids(&agents));
    let reports = put(&cluster.client, &agents[0].target(), &header, &bytes)
        .await
        .reports();
    assert_eq!(reports.len(), 3);
    for running in &agents {
        let HopReport::Stored { receipts, .. } = &reports[&running.vendor()] else {
            panic!("{reports:?}")
        };
        let list = check_receipts(running.service.agent(), receipts);
        let receipt = list.receipts.iter().find(|receipt| receipt.copy == name).unwrap();
        assert_eq!(receipt.digest, Digest::of(&bytes));
        let frames = units::frames(PLAINTEXT) as u32;
        let back = read(&cluster.client, running, name, frames).await.unwrap();
        assert!(back == bytes, "the bytes of {}", running.vendor());
        let request = ListCopiesRequest {
            after: None,
            limit: 10,
        };
        let listed: ListCopiesReply = cluster
            .client
            .call::<_, _, ChunkRefusal>(&running.target(), routes::COPIES, &request, DEADLINE)
            .await
            .unwrap();
        assert_eq!(listed.copies.len(), 1);
        assert_eq!(listed.copies[0].copy, name);
        assert_eq!(listed.devices.len(), 1);
    }
    let missing = read(&cluster.client, &agents[0], copy(1, 8), 1).await;
    assert_eq!(missing, Err(ChunkRefusal::NotFound(copy(1, 8))));
    for running in agents {
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_taken_only_from_gateways_and_vendors_of_this_cluster() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let agents = cluster.vendors(1).await;
    let (name, bytes) = (copy(1, 1), stored(1000, 1));
    let header = routed(name, 1000, &ids(&agents));
    let to = agents[0].target();
    let sent = |client: Client| {
        let (to, header, bytes) = (to.clone(), header.clone(), bytes.clone());
        async move { put(&client, &to, &header, &bytes).await }
    };
    let nobody = sent(cluster.anonymous()).await;
    assert!(
        matches!(nobody, Put::Status(status) if status == 401),
        "{nobody:?}"
    );
    let metad = sent(cluster.client_as(Identity::Metad(1))).await;
    assert!(matches!(metad, Put::Status(status) if status == 403), "{metad:?}");
    let (strange, _) = credentials_of(2, Identity::Gateway(1));
    let strange = Client::new(Arc::new(TokioNetwork), strange, ClientLimits::default());
    let refused = strange
        .call::<Done, ProbeCookie, ChunkRefusal>(&to, routes::PROBE_COOKIE, &Done, DEADLINE)
        .await;
    assert!(refused.is_err(), "another cluster's certificate");
    for path in [routes::PROBE_COOKIE, routes::COPIES, routes::CHUNK_READ] {
        let vendor = cluster.client_as(Identity::Vendor(VendorId(1)));
        let refused = vendor
            .call::<Done, Done, ChunkRefusal>(&to, path, &Done, DEADLINE)
            .await;
        assert_eq!(status(&refused.unwrap_err()), 403, "{path}");
    }
    let revoked = VendorId(9);
    let metad = cluster.books.metad(agents[0].vendor());
    metad.with(|state| state.revoked = vec![revoked]);
    let heard = metad.with(|state| state.answered);
    metad
        .until("the revocation is told", |state| state.answered > heard + 1)
        .await;
    let shut_out = sent(cluster.client_as(Identity::Vendor(revoked))).await;
    assert!(
        matches!(shut_out, Put::Refused(ChunkRefusal::Grant(_))),
        "{shut_out:?}"
    );
    assert!(
        agents[0]
            .service
            .agent()
            .list_copies(None, 5)
            .await
            .unwrap()
            .is_empty()
    );
    let registered = sent(cluster.client_as(Identity::Vendor(VendorId(8))))
        .await
        .reports();
    assert!(matches!(
        registered[&agents[0].vendor()],
        HopReport::Stored { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_that_is_dead_or_silent_is_named_and_costs_the_first_copy_nothing() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let mut agents = cluster.vendors(2).await;
    let vendors = ids(&agents);
    let dead = agents.remove(1);
    dead.end().await;
    let send = |counter| {
        let header = routed(copy(1, counter), 100_000, &vendors);
        let (client, to) = (cluster.client.clone(), agents[0].target());
        async move { put(&client, &to, &header, &stored(100_000, 1)).await.reports() }
    };
    let begun = Instant::now();
    let check = |reports: &std::collections::BTreeMap<VendorId, HopReport>| {
        assert!(
            matches!(reports[&vendors[0]], HopReport::Stored { .. }),
            "{reports:?}"
        );
        let HopReport::Failed { from, refusal, .. } = &reports[&vendors[1]] else {
            panic!("{reports:?}")
        };
        assert_eq!(*from, Some(vendors[0]), "who says so");
        assert!(matches!(refusal, ChunkRefusal::Link(_)), "{refusal}");
    };
    check(&send(1).await);
    assert!(begun.elapsed() < DEADLINE);
    // One that accepts connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    cluster.books.move_vendor(vendors[1], address);
    cluster.settle(&agents).await;
    let begun = Instant::now();
    check(&send(2).await);
    assert!(begun.elapsed() < 2 * DEADLINE, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_or_digests_that_are_altered_are_noticed() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let agents = cluster.vendors(2).await;
    let bytes = stored(100_000, 1);
    let mut altered = bytes.to_vec();
    altered[50_000] ^= 1;
    let altered = bytes::Bytes::from(altered);
    // The first hop got other bytes than were digested: neither keeps them.
    let header = routed(copy(1, 1), 100_000, &ids(&agents));
    let to = agents[0].target();
    let reports = put_with(&cluster.client, &to, &header, &altered, Digest::of(&bytes)).await;
    for report in reports.reports().values() {
        assert!(matches!(report, HopReport::Failed { .. }), "{report:?}");
    }
    for running in &agents {
        assert!(
            running
                .service
                .agent()
                .list_copies(None, 5)
                .await
                .unwrap()
                .is_empty()
        );
    }
    // A hop that alters bytes and digests them anew: what the next one signs tells.
    let vendor = cluster.client_as(Identity::Vendor(agents[0].vendor()));
    let header = routed(copy(1, 2), 100_000, &ids(&agents)[1..]);
    let reports = put(&vendor, &agents[1].target(), &header, &altered)
        .await
        .reports();
    let HopReport::Stored { receipts, .. } = &reports[&agents[1].vendor()] else {
        panic!("{reports:?}")
    };
    let list = check_receipts(agents[1].service.agent(), receipts);
    assert_ne!(list.receipts[0].digest, Digest::of(&bytes));
    assert_eq!(list.receipts[0].digest, Digest::of(&altered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_learns_nothing_of_those_before_it() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let agents = cluster.vendors(1).await;
    // The second hop is this test: it keeps the header and refuses.
    let me = Identity::Vendor(VendorId(2));
    let credentials = Credentials::issued_by(&cluster.books.authority, me, SystemTime::now()).unwrap();
    let listener = TokioNetwork.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap().to_string();
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let route = Route {
        path: routes::CHUNK_PUT,
        callers: Callers::VENDOR,
        body_bytes: 0,
    };
    let keep = |seen: Arc<Mutex<Vec<u8>>>, _: Peer, request: StreamRequest| {
        async move {
            let mut reader = FrameReader::new(request.into_body());
            let header = reader.message(1 << 20).await.unwrap().unwrap();
            *seen.lock().unwrap() = header.to_vec();
            refusal(&ChunkRefusal::Full { needed: 1 })
        }
        .boxed()
    };
    let router = Api::new(Arc::clone(&seen)).stream(route, keep).into_router();
    let stop = CancellationToken::new();
    tokio::spawn(serve(
        listener,
        credentials,
        router,
        ServerLimits::default(),
        stop.clone(),
    ));
    cluster.books.add_vendor(2, address);
    cluster.settle(&agents).await;
    let first = agents[0].vendor();
    let header = routed(copy(1, 1), 1000, &[first, VendorId(2), VendorId(3)]);
    let reports = put(&cluster.client, &agents[0].target(), &header, &stored(1000, 1)).await;
    let reports = reports.reports();
    assert!(matches!(reports[&first], HopReport::Stored { .. }));
    assert!(matches!(
        reports[&VendorId(2)],
        HopReport::Failed {
            from: None,
            refusal: ChunkRefusal::Full { .. },
            ..
        }
    ));
    let bytes = seen.lock().unwrap().clone();
    let forwarded: ChunkHeader = codec::decode(&bytes).unwrap();
    let hops: Vec<VendorId> = forwarded.route.iter().map(|hop| hop.vendor).collect();
    assert_eq!(hops, [VendorId(2), VendorId(3)]);
    let grant = &header.route[0].grant.body;
    assert!(
        !bytes.windows(grant.len()).any(|window| window == grant),
        "the first hop's grant"
    );
    assert_eq!(
        (forwarded.owner, forwarded.chunk, forwarded.plaintext_bytes),
        (header.owner, header.chunk, 1000)
    );
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_fat_is_shown_by_the_running_agent_and_by_its_files_alike() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let config = cluster.invited("v1");
    let running = cluster.start(config.clone()).await;
    let shown = |config: Config| async move {
        let mut copies = Vec::new();
        show(config, |copy| copies.push(copy)).await.unwrap();
        copies
    };
    for counter in 0..5 {
        let header = routed(copy(1, counter), 100_000, &[running.vendor()]);
        let bytes = stored(100_000, 1);
        put(&cluster.client, &running.target(), &header, &bytes)
            .await
            .reports();
    }
    let alive = shown(config.clone()).await;
    let names: Vec<_> = alive.iter().map(|shown| shown.copy).collect();
    assert_eq!(names, (0..5).map(|counter| copy(1, counter)).collect::<Vec<_>>());
    assert!(
        alive
            .iter()
            .all(|shown| shown.complete && shown.plaintext_bytes == 100_000)
    );
    running.end().await;
    assert_eq!(shown(config.clone()).await, alive);
    let mut nothing = config;
    nothing.data = home.path().join("nothing");
    let error = show(nothing, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("not a vendor agent's"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_past_half_of_its_life_is_renewed_by_the_registered_key() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let config = cluster.invited("v1");
    cluster.start(config.clone()).await.end().await;
    assert_eq!(*cluster.books.enrolled.lock().unwrap(), 1);
    let credentials = config.data.join("credentials");
    let before = std::fs::read(&credentials).unwrap();
    std::fs::remove_file(config.join_token_file.as_ref().unwrap()).unwrap();
    let stop = CancellationToken::new();
    let later = RunSeams {
        wall: Arc::new(|| SystemTime::now() + LIFE / 2 + Duration::from_secs(3600)),
        ..cluster::seams()
    };
    let service = Service::start(config, later, stop.clone()).await.unwrap();
    assert_eq!(*cluster.books.enrolled.lock().unwrap(), 2);
    assert_ne!(std::fs::read(&credentials).unwrap(), before, "it is kept");
    until("ready", || service.agent().is_ready()).await;
    stop.cancel();
    service.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_comes_before_the_bytes() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let agents = cluster.vendors(2).await;
    let (name, bytes) = (copy(1, 1), stored(1000, 1));
    // Made out to the other vendor.
    let mut header = routed(name, 1000, &ids(&agents)[..1]);
    header.route[0].grant = routed(name, 1000, &ids(&agents)[1..]).route.remove(0).grant;
    let refused = put(&cluster.client, &agents[0].target(), &header, &bytes).await;
    assert!(
        matches!(refused, Put::Refused(ChunkRefusal::Grant(_))),
        "{refused:?}"
    );
    // What the next hop refuses is its own word.
    let mut header = routed(name, 1000, &ids(&agents));
    header.route[1].grant = header.route[0].grant.clone();
    let reports = put(&cluster.client, &agents[0].target(), &header, &bytes)
        .await
        .reports();
    assert!(
        matches!(reports[&agents[0].vendor()], HopReport::Stored { .. }),
        "{reports:?}"
    );
    let refused = &reports[&agents[1].vendor()];
    assert!(
        matches!(
            refused,
            HopReport::Failed {
                from: None,
                refusal: ChunkRefusal::Grant(_),
                ..
            }
        ),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_a_chunk_is_refused_before_its_bytes_are_taken() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let mut config = cluster.invited("v1");
    config.intake_memory = 2 << 20;
    let running = cluster.start(config).await;
    let plaintext = 1 << 20;
    let bytes = stored(plaintext, 1);
    // One sender that has begun and says no more.
    let header = routed(copy(1, 1), plaintext, &[running.vendor()]);
    let begun = futures::stream::iter([Ok(Frame::data(framed(&codec::encode(&header))))]);
    let stalled = StreamBody::new(begun.chain(futures::stream::pending())).boxed_unsync();
    let to = running.target();
    let slow = cluster
        .client
        .open(&to, routes::CHUNK_PUT, HeaderMap::new(), stalled)
        .await
        .unwrap();
    assert_eq!(slow.status(), 200, "it is taken");
    let in_flight = running.service.agent().in_flight_bytes();
    assert_eq!(in_flight, bytes.len() as u64);
    let header = routed(copy(1, 2), plaintext, &[running.vendor()]);
    let refused = put(&cluster.client, &to, &header, &bytes).await;
    assert!(
        matches!(refused, Put::Refused(ChunkRefusal::Overloaded)),
        "{refused:?}"
    );
    assert_eq!(running.service.agent().in_flight_bytes(), in_flight);
    // When the slow one goes, there is memory again.
    drop(slow);
    until("its memory is free", || {
        running.service.agent().in_flight_bytes() == 0
    })
    .await;
    let header = routed(copy(1, 3), plaintext, &[running.vendor()]);
    let reports = put(&cluster.client, &to, &header, &bytes).await.reports();
    assert!(matches!(reports[&running.vendor()], HopReport::Stored { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in_once_and_the_registered_key_from_then_on() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let config = cluster.invited("v1");
    let token = config.join_token_file.clone().unwrap();
    let first = cluster.start(config.clone()).await;
    let vendor = first.vendor();
    first.end().await;
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = config.data.join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("credentials"), 0o600);
    // The token is used up, and gone: what was given is kept.
    std::fs::remove_file(&token).unwrap();
    let again = cluster.start(config.clone()).await;
    assert_eq!(again.vendor(), vendor);
    // The metadata nodes move: where to is kept.
    let moved = "metad.example:9310".to_owned();
    cluster.books.add_metad(moved.clone());
    let stored = || std::fs::read_to_string(config.data.join("credentials")).unwrap();
    until("the new address is kept", || stored().contains(&moved)).await;
    again.end().await;
    assert_eq!(*cluster.books.enrolled.lock().unwrap(), 1);
    // What was given is lost: the key is registered, whatever the token is worth.
    std::fs::write(&token, cluster.invite()).unwrap();
    std::fs::remove_file(config.data.join("credentials")).unwrap();
    let anew = cluster.start(config.clone()).await;
    assert_eq!(anew.vendor(), vendor);
    anew.end().await;
    assert_eq!(*cluster.books.enrolled.lock().unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_invited_or_belongs_elsewhere_is_told_why() {
    let home = TempDir::new().unwrap();
    let (here, there) = (home.path().join("here"), home.path().join("there"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(&there).unwrap();
    let (ours, theirs) = (Cluster::new(&here, 1).await, Cluster::new(&there, 2).await);
    let said = |error: AgentError| error.to_string();
    let uninvited = Cluster::try_start(ours.config("v0"))
        .await
        .err()
        .map(said)
        .unwrap();
    assert!(uninvited.contains("join_token_file"), "{uninvited}");
    let config = ours.invited("v1");
    ours.start(config.clone()).await.end().await;
    // A used token in other hands.
    let mut second = ours.config("v2");
    second.join_token_file.clone_from(&config.join_token_file);
    let used = Cluster::try_start(second).await.err().map(said).unwrap();
    assert!(used.contains("used"), "{used}");
    // A data directory with the token of another cluster.
    let mut moved = config.clone();
    moved.join_token_file = theirs.invited("v1").join_token_file;
    let foreign = Cluster::try_start(moved).await.err().map(said).unwrap();
    assert!(foreign.contains("another cluster"), "{foreign}");
    let mut nonsense = ours.config("v3");
    let path = here.join("nonsense");
    std::fs::write(&path, "ullage-join-00").unwrap();
    nonsense.join_token_file = Some(path);
    let nonsense = Cluster::try_start(nonsense).await.err().map(said).unwrap();
    assert!(nonsense.contains("not a join token"), "{nonsense}");
    let mut nowhere = ours.invited("v4");
    nowhere.listen = "0.0.0.0:0".to_owned();
    let nowhere = Cluster::try_start(nowhere).await.err().map(said).unwrap();
    assert!(nowhere.contains("advertise"), "{nowhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_with_a_cookie_is_answered_with_what_is_left_of_its_life() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let agents = cluster.vendors(1).await;
    let to = agents[0].target();
    let cookie: ProbeCookie = cluster
        .client
        .call::<_, _, ChunkRefusal>(&to, routes::PROBE_COOKIE, &Done, DEADLINE)
        .await
        .unwrap();
    let socket = TokioNetwork.datagrams("127.0.0.1:0").await.unwrap();
    let address = agents[0].service.address();
    let probe = |nonce, cookie| {
        let probe = Probe {
            reply: false,
            ttl_left: 0,
            nonce,
            cookie,
        };
        probe.encode()
    };
    // Wrong ones first: had they been answered, their nonces would come before the right one's.
    socket
        .send(&probe(1, ProbeCookie([0; 16])), address)
        .await
        .unwrap();
    socket
        .send(&probe(2, cookie)[..PROBE_BYTES - 1], address)
        .await
        .unwrap();
    socket.send(&probe(3, cookie), address).await.unwrap();
    let mut buffer = [0; 100];
    let received = tokio::time::timeout(DEADLINE, socket.receive(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(received.bytes, PROBE_BYTES, "no larger than the probe");
    let reply = Probe::decode(&buffer[..received.bytes]).unwrap();
    assert!(reply.reply);
    assert_eq!(reply.nonce, 3);
    assert_eq!(reply.ttl_left, DATAGRAM_TTL, "no router on the way");
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_there_before_and_after_the_cluster_is() {
    let home = TempDir::new().unwrap();
    let cluster = Cluster::new(home.path(), 1).await;
    let config = cluster.invited("v1");
    let running = Cluster::try_start(config).await.unwrap();
    let address = running.service.admin_address();
    assert!(get(address, "/health/live").await.starts_with("HTTP/1.1 200"));
    until("ready", || running.service.agent().is_ready()).await;
    assert!(get(address, "/health/ready").await.starts_with("HTTP/1.1 200"));
    assert!(
        get(address, "/metrics")
            .await
            .contains("ullage_agent_chunks_stored_total")
    );
    running.service.agent().refuse();
    assert!(get(address, "/health/ready").await.starts_with("HTTP/1.1 503"));
    running.end().await;
}
