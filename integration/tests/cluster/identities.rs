//! Nobody acts without authority: every route of every service is walked with each wrong identity and without any.
//! The tables of routes are the services' own; whom each is for is written down here a second time, so that a
//! route without a rule fails the test, and so does a rule that the service does not keep.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use ullage_gateway::admin as gateway_admin;
use ullage_gateway::kek::Kek;
use ullage_integration::clients::repository;
use ullage_integration::cluster::{AgentPlan, Cluster, Plan};
use ullage_integration::http1::{Body, Connection, Head, http_status};
use ullage_integration::process::visit_files;
use ullage_integration::settle;
use ullage_integration::sign::{Credentials as Keys, Signer, ToSign};
use ullage_model::codec::Versioned;
use ullage_model::ids::VendorId;
use ullage_model::wire::agent::{Heartbeat, HeartbeatReply, JudgeReply, JudgeRequest};
use ullage_model::wire::members::{MembersReply, MembersRequest};
use ullage_model::wire::metad::{
    Done, EndSessionRequest, MetadError, OpenSessionReply, OpenSessionRequest, RenewSessionReply,
    RenewSessionRequest,
};
use ullage_model::wire::routes;
use ullage_transport::api::Route;
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::client::{CallError, Client, ClientLimits, Target};
use ullage_transport::credentials::{Chain, Credentials, LIFE, TlsKey};
use ullage_transport::identity::{Expect, Identity};
use ullage_transport::network::TokioNetwork;

const WITHIN: Duration = Duration::from_secs(10);
/// What an HTTP/2 client says first (RFC 9113, 3.4), with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Whom a route is for: anybody, metadata nodes, gateways, vendors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct For {
    anybody: bool,
    metad: bool,
    gateway: bool,
    vendor: bool,
}

const NOBODY: For = For {
    anybody: false,
    metad: false,
    gateway: false,
    vendor: false,
};
const ANYBODY: For = For {
    anybody: true,
    metad: true,
    gateway: true,
    vendor: true,
};
const METAD: For = For {
    metad: true,
    ..NOBODY
};
const GATEWAY: For = For {
    gateway: true,
    ..NOBODY
};
const VENDOR: For = For {
    vendor: true,
    ..NOBODY
};
/// A metadata node passes such calls on for a gateway, or a vendor.
const GATEWAY_FORWARDED: For = For {
    metad: true,
    ..GATEWAY
};
const VENDOR_FORWARDED: For = For {
    metad: true,
    ..VENDOR
};

/// The rules of the metadata service.
const METAD_RULES: &[(&str, For)] = &[
    (routes::SESSION_OPEN, GATEWAY_FORWARDED),
    (routes::SESSION_RENEW, GATEWAY_FORWARDED),
    (routes::SESSION_END, GATEWAY_FORWARDED),
    (routes::ALLOCATE, GATEWAY_FORWARDED),
    (routes::SUBMIT, GATEWAY_FORWARDED),
    (routes::SUBMIT_MANY, GATEWAY_FORWARDED),
    (routes::RESOLVE, GATEWAY_FORWARDED),
    (routes::QUERY, GATEWAY_FORWARDED),
    (routes::QUERY_MANY, GATEWAY),
    (routes::REPORT_DAMAGED, GATEWAY_FORWARDED),
    (routes::OPERATE, GATEWAY_FORWARDED),
    (routes::STATUS, GATEWAY),
    (routes::MEMBERS, GATEWAY_FORWARDED),
    (routes::INVITE, GATEWAY_FORWARDED),
    (routes::ENROL, ANYBODY),
    (routes::REGISTER, VENDOR_FORWARDED),
    (routes::HEARTBEAT, VENDOR_FORWARDED),
    (routes::JUDGE, VENDOR),
    ("/v1/member/publish", METAD),
    ("/v1/raft/vote", METAD),
    ("/v1/raft/pre-vote", METAD),
    ("/v1/raft/heartbeat", METAD),
    ("/v1/raft/append", METAD),
    ("/v1/raft/snapshot", METAD),
    ("/v1/raft/transfer", METAD),
    ("/v1/raft/who", METAD),
    ("/v1/raft/join", METAD),
    ("/v1/raft/read-index", METAD),
    ("/v1/raft/digests", METAD),
    ("/v1/raft/odd", METAD),
];

/// The rules of a vendor agent.
const AGENT_RULES: &[(&str, For)] = &[
    (
        routes::CHUNK_PUT,
        For {
            vendor: true,
            ..GATEWAY
        },
    ),
    (routes::CHUNK_READ, GATEWAY),
    (routes::COPIES, GATEWAY),
    (routes::PROBE_COOKIE, GATEWAY),
];

/// Who may call a route of a gateway's admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admin {
    Root,
    EveryUser,
}

/// The rules of a gateway's admin API.
const ADMIN_RULES: &[(&str, &str, Admin)] = &[
    ("GET", "/v1/status", Admin::Root),
    ("GET", "/v1/vendors", Admin::Root),
    ("POST", "/v1/vendors/{}/revoke", Admin::Root),
    ("GET", "/v1/vendors/{}/copies", Admin::Root),
    ("POST", "/v1/invitations", Admin::Root),
    ("GET", "/v1/metad", Admin::Root),
    ("POST", "/v1/metad", Admin::Root),
    ("DELETE", "/v1/metad/{}", Admin::Root),
    ("POST", "/v1/metad/transfer", Admin::Root),
    ("GET", "/v1/fat/vendor/{}", Admin::Root),
    ("GET", "/v1/fat/object", Admin::Root),
    ("GET", "/v1/fat/user", Admin::EveryUser),
    ("GET", "/v1/classes", Admin::Root),
    ("PUT", "/v1/classes/{}", Admin::Root),
    ("GET", "/v1/leases", Admin::Root),
    ("GET", "/v1/paths", Admin::Root),
    ("GET", "/v1/users", Admin::Root),
    ("POST", "/v1/users", Admin::Root),
    ("GET", "/v1/users/policy", Admin::Root),
    ("PUT", "/v1/users/policy", Admin::Root),
    ("GET", "/v1/keys", Admin::Root),
    ("DELETE", "/v1/keys/{}", Admin::Root),
    ("GET", "/v1/buckets", Admin::Root),
    ("GET", "/v1/buckets/{}", Admin::Root),
    ("PUT", "/v1/buckets/{}/quota", Admin::Root),
];

/// The only routes over plain HTTP that ask for nothing.
const PUBLIC: [&str; 3] = ["/health/live", "/health/ready", "/metrics"];

/// Somebody who calls services.
struct Somebody {
    who: &'static str,
    client: Client,
}

impl Somebody {
    fn new(who: &'static str, credentials: Credentials) -> Self {
        let client = Client::new(Arc::new(TokioNetwork), credentials, ClientLimits::default());
        Self { who, client }
    }

    fn known(who: &'static str, authority: &Authority, identity: Identity) -> anyhow::Result<Self> {
        let credentials = Credentials::issued_by(authority, identity, SystemTime::now())?;
        Ok(Self::new(who, credentials))
    }

    /// The status that `path` answers to a body that is no message.
    async fn knock(&self, target: &Target, path: &str) -> anyhow::Result<u16> {
        let body = Full::new(Bytes::from_static(b"?")).map_err(|never| match never {});
        let opened = self
            .client
            .open(target, path, HeaderMap::new(), body.boxed_unsync());
        let answered = tokio::time::timeout(WITHIN, opened).await;
        let asked = || format!("{} asks for {path}", self.who);
        Ok(answered
            .with_context(asked)?
            .with_context(asked)?
            .status()
            .as_u16())
    }

    /// Calls a metadata node, naming somebody for whom, or not.
    async fn call<Req: Versioned, Resp: Versioned>(
        &self,
        target: &Target,
        path: &str,
        request: &Req,
        named: Option<Identity>,
    ) -> Result<Resp, CallError<MetadError>> {
        let mut headers = HeaderMap::new();
        if let Some(value) = named.and_then(|named| named.to_string().parse().ok()) {
            headers.insert(routes::FORWARDED_FOR, value);
        }
        self.client
            .call_with(target, path, headers, request, WITHIN)
            .await
    }
}

/// Somebody, and whether a rule takes them.
type Walker = (Somebody, fn(&For) -> bool);

/// Requires that every route has its rule, and every rule its route.
fn ruled(routes: &[Route], rules: &'static [(&'static str, For)]) -> anyhow::Result<()> {
    let served: Vec<&str> = routes.iter().map(|route| route.path).collect();
    for path in &served {
        let known = rules.iter().filter(|(ruled, _)| ruled == path).count();
        ensure!(
            known == 1,
            "{path} has {known} rules in this test: whom is it for?"
        );
    }
    for (path, _) in rules {
        ensure!(served.contains(path), "{path} is no route any more");
    }
    Ok(())
}

/// Walks all routes of the service at `target` as everybody.
async fn walk(
    target: &Target,
    routes: &[Route],
    rules: &'static [(&'static str, For)],
    all: &[Walker],
) -> anyhow::Result<()> {
    let rules: BTreeMap<&str, For> = rules.iter().copied().collect();
    for route in routes {
        let rule = rules.get(route.path).context("a route without a rule")?;
        for (somebody, may) in all {
            let answer = somebody.knock(target, route.path).await?;
            let refused = matches!(answer, 401 | 403);
            let who = somebody.who;
            ensure!(
                refused != may(rule),
                "{} answers {who} {answer}, but is for {rule:?}",
                route.path
            );
            let expected = if who == "nobody" { 401 } else { 403 };
            ensure!(
                !refused || answer == expected,
                "{} answers {who} {answer}",
                route.path
            );
        }
        let unknown = format!("{}/x", route.path);
        let answer = all[0].0.knock(target, &unknown).await?;
        ensure!(answer == 404, "{unknown} answers {answer}");
    }
    Ok(())
}

/// Everybody there is, and whether a rule takes them.
fn everybody(authority: &Authority) -> anyhow::Result<Vec<Walker>> {
    let nobody = Credentials::anonymous(authority.fingerprint())?;
    let stranger = Identity::Vendor(VendorId(0xdead));
    Ok(vec![
        (Somebody::new("nobody", nobody), |rule| rule.anybody),
        (
            Somebody::known("a metadata node", authority, Identity::Metad(0xdead))?,
            |rule| rule.metad,
        ),
        (
            Somebody::known("a gateway", authority, Identity::Gateway(0xdead))?,
            |rule| rule.gateway,
        ),
        (Somebody::known("a vendor", authority, stranger)?, |rule| {
            rule.vendor
        }),
    ])
}

/// A small cluster, with its authority.
async fn start() -> anyhow::Result<(Cluster, Authority)> {
    let plan = Plan {
        agents: vec![AgentPlan::default(); 2],
        gateways: 1,
        ..Plan::default()
    };
    let cluster = Cluster::start(plan).await?;
    let secret = ClusterSecret::read(&cluster.cluster_secret())?;
    let authority = Authority::derive(&secret)?;
    Ok((cluster, authority))
}

fn metad_at(address: SocketAddr) -> Target {
    Target {
        address: address.to_string(),
        expect: Expect::AnyMetad,
        lane: 0,
    }
}

/// The vendors' ids, in the order of the agents.
fn vendors(cluster: &Cluster) -> anyhow::Result<Vec<VendorId>> {
    let rows = cluster.admin(0).vendors()?;
    let ids = cluster.agents.iter().map(|agent| {
        let row = rows.iter().find(|row| row.name == agent.name);
        let row = row.with_context(|| format!("{} is no vendor", agent.name))?;
        Ok(VendorId(row.vendor.0.parse()?))
    });
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_every_service_refuses_whom_it_is_not_for() -> anyhow::Result<()> {
    let (metad, agent) = (ullage_metad::http::routes_served(), ullage_vendor_agent::ROUTES);
    ruled(&metad, METAD_RULES)?;
    ruled(agent, AGENT_RULES)?;
    let (cluster, authority) = start().await?;
    let all = everybody(&authority)?;
    // Leader and followers alike.
    for node in &cluster.metads {
        walk(&metad_at(node.address), &metad, METAD_RULES, &all)
            .await
            .with_context(|| node.name.clone())?;
    }
    for (node, vendor) in cluster.agents.iter().zip(vendors(&cluster)?) {
        let target = Target {
            address: node.address.to_string(),
            expect: Expect::Exactly(Identity::Vendor(vendor)),
            lane: 0,
        };
        walk(&target, agent, AGENT_RULES, &all)
            .await
            .with_context(|| node.name.clone())?;
    }
    // Nothing of this has done any harm.
    cluster.s3(0).create_bucket("after").await?;
    cluster.wait_for_vendors(cluster.agents.len()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_with_strangers_certificates_fail() -> anyhow::Result<()> {
    let (cluster, authority) = start().await?;
    let other = Authority::derive(&ClusterSecret::new([7; 32]))?;
    let now = SystemTime::now();
    let identities = [
        Identity::Metad(1),
        Identity::Gateway(1),
        Identity::Vendor(VendorId(1)),
    ];
    for node in cluster.metads.iter().chain(&cluster.agents) {
        let greeted = |key: TlsKey, chain: Chain| greeted(node.address, Some((key, chain)));
        for identity in identities {
            let name = format!("{identity} at {}", node.name);
            let key = TlsKey::generate()?;
            let good = authority.issue(identity, &key.spki(), now)?;
            ensure!(greeted(key.clone(), good.clone()).await?, "{name} is not served");
            let strange = other.issue(identity, &key.spki(), now)?;
            let served = greeted(key.clone(), strange.clone()).await?;
            ensure!(!served, "{name}, of another cluster, is served");
            let dressed = Chain {
                authority: good.authority.clone(),
                ..strange
            };
            let served = greeted(key.clone(), dressed).await?;
            ensure!(
                !served,
                "{name}, of another cluster but with our authority, is served"
            );
            let old = authority.issue(identity, &key.spki(), now - 2 * LIFE)?;
            ensure!(!greeted(key, old).await?, "{name}, long expired, is served");
            let stolen = greeted(TlsKey::generate()?, good).await;
            ensure!(!stolen?, "{name}, without the certificate's key, is served");
        }
        let plain = spoken(
            &mut TcpStream::connect(node.address).await?,
            b"GET / HTTP/1.1\r\n\r\n",
        )
        .await?;
        ensure!(
            !plain.starts_with(b"HTTP/"),
            "{} answers plain HTTP: {plain:?}",
            node.name
        );
    }
    Ok(())
}

/// Whether the service at `address` speaks HTTP/2 with whoever shows `own`, whomever the service itself may be.
async fn greeted(address: SocketAddr, own: Option<(TlsKey, Chain)>) -> anyhow::Result<bool> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match own {
        Some((key, chain)) => {
            let certificates = [chain.leaf, chain.authority].map(CertificateDer::from).to_vec();
            let signing = PrivatePkcs8KeyDer::from(key.to_pkcs8().to_vec()).into();
            let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&signing)?;
            // As it is, whether key and certificate belong together or not.
            let shown = rustls::sign::CertifiedKey::new(certificates, signing);
            builder.with_client_cert_resolver(Arc::new(Shown(Arc::new(shown))))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("nobody.internal")?;
    let Ok(mut stream) = connector.connect(name, stream).await else {
        return Ok(false);
    };
    // In TLS 1.3 the client's side of the handshake ends before the server has looked at its certificate.
    let said = spoken(&mut stream, PREFACE).await?;
    Ok(!said.is_empty())
}

/// The first bytes that are answered to `words`; none if the connection breaks.
async fn spoken<S>(stream: &mut S, words: &[u8]) -> anyhow::Result<Vec<u8>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if stream.write_all(words).await.is_err() || stream.flush().await.is_err() {
        return Ok(Vec::new());
    }
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut answer));
    let count = read.await.context("neither an answer nor an end")?.unwrap_or(0);
    answer.truncate(count);
    Ok(answer)
}

/// Shows one certificate to everybody.
#[derive(Debug)]
struct Shown(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shown {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes every server for the right one: here it is the server that has to look.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_speaks_for_itself_only() -> anyhow::Result<()> {
    let (cluster, authority) = start().await?;
    let ids = vendors(&cluster)?;
    let (own, other) = (ids[0], ids[1]);
    let vendor = Somebody::known("a vendor", &authority, Identity::Vendor(own))?;
    let judge = |vendor| JudgeRequest {
        vendor,
        copies: Vec::new(),
    };
    let (of_itself, of_other) = (judge(own), judge(other));
    let report = Heartbeat {
        vendor: other,
        devices: Vec::new(),
        in_flight_bytes: 0,
        outcomes: Vec::new(),
        damaged: Vec::new(),
        found: Vec::new(),
        directory: 0,
    };
    for node in &cluster.metads {
        let target = metad_at(node.address);
        let named = [None, Some(Identity::Vendor(other))];
        for named in named {
            let answer = vendor.call::<_, HeartbeatReply>(&target, routes::HEARTBEAT, &report, named);
            refused(&answer.await, "a report for another vendor")?;
            let answer = vendor.call::<_, JudgeReply>(&target, routes::JUDGE, &of_other, named);
            refused(&answer.await, "a question for another vendor")?;
        }
        // It is the vendor that is refused, not the question.
        settle::until(settle::deadline(), async || {
            let answer = vendor.call::<_, JudgeReply>(&target, routes::JUDGE, &of_itself, None);
            Ok(answer.await.map(drop)?)
        })
        .await?;
    }
    // The other's report without devices was not taken: its devices are all there.
    let rows = cluster.admin(0).vendors()?;
    ensure!(rows.iter().all(|row| row.devices.len() == 2), "{rows:?}");
    Ok(())
}

/// Requires that a call was refused on its merits.
fn refused<T: std::fmt::Debug>(answer: &Result<T, CallError<MetadError>>, what: &str) -> anyhow::Result<()> {
    ensure!(
        matches!(answer, Err(CallError::Application(MetadError::Refused(_)))),
        "{what}: {answer:?}"
    );
    Ok(())
}

/// A call that is repeated until the metadata service is there to answer it.
async fn surely<Req: Versioned, Resp: Versioned>(
    somebody: &Somebody,
    target: &Target,
    path: &str,
    request: &Req,
    named: Option<Identity>,
) -> anyhow::Result<Resp> {
    settle::until(settle::deadline(), async || {
        Ok(somebody.call(target, path, request, named).await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_metadata_nodes_are_believed_on_whom_they_call_for() -> anyhow::Result<()> {
    let (cluster, authority) = start().await?;
    let (owner, thief) = (Identity::Gateway(0xa), Identity::Gateway(0xb));
    let gateway = Somebody::known("the owner", &authority, owner)?;
    let forger = Somebody::known("a gateway", &authority, thief)?;
    let metad = Somebody::known("a metadata node", &authority, Identity::Metad(0xc))?;
    let vendor = Somebody::known("a vendor", &authority, Identity::Vendor(vendors(&cluster)?[0]))?;
    let leader = metad_at(cluster.metads[cluster.wait_for_leader(0).await?].address);
    let kek = Kek::read(&cluster.kek())?;
    let opening = OpenSessionRequest {
        gateway: "identities".to_owned(),
        kek: kek.id(),
        kek_value: kek.check_value().clone(),
    };
    let opened: OpenSessionReply = surely(&gateway, &leader, routes::SESSION_OPEN, &opening, None).await?;
    let renew = RenewSessionRequest {
        session: opened.session,
        acknowledged_below: 0,
        observed_index: 0,
    };
    let end = EndSessionRequest {
        session: opened.session,
    };
    for node in &cluster.metads {
        let target = metad_at(node.address);
        // A header that only metadata nodes may send, from a gateway: it goes on being itself.
        for named in [None, Some(owner)] {
            let answer = forger.call::<_, Done>(&target, routes::SESSION_END, &end, named);
            refused(&answer.await, "another gateway's session is ended")?;
            let answer = forger.call::<_, RenewSessionReply>(&target, routes::SESSION_RENEW, &renew, named);
            refused(&answer.await, "another gateway's session is renewed")?;
        }
        // From a vendor it makes no gateway.
        let answer = vendor.call::<_, Done>(&target, routes::SESSION_END, &end, Some(owner));
        let answer = answer.await;
        ensure!(
            matches!(answer, Err(CallError::Status { status: 403, .. })),
            "a vendor in a gateway's name: {answer:?}"
        );
        // A metadata node calls for others only, and for nobody who may not call.
        let nobody = [
            None,
            Some(Identity::Metad(0xc)),
            Some(Identity::Vendor(VendorId(1))),
        ];
        for named in nobody {
            let answer = metad.call::<_, Done>(&target, routes::SESSION_END, &end, named);
            let what = format!("a metadata node ends a session for {named:?}");
            refused(&answer.await, &what)?;
        }
        let members = metad.call::<_, MembersReply>(&target, routes::MEMBERS, &MembersRequest::List, None);
        refused(&members.await, "a metadata node asks for the members for nobody")?;
    }
    // What is passed on for the thief is the thief's.
    let stolen = settle::until(settle::deadline(), async || {
        let answer = metad.call::<_, Done>(&leader, routes::SESSION_END, &end, Some(thief));
        let answer = answer.await;
        let passed = matches!(answer, Err(CallError::Application(MetadError::Unavailable(_))));
        ensure!(!passed, "{answer:?}");
        Ok(answer)
    });
    refused(
        &stolen.await?,
        "another gateway's session is ended by way of a metadata node",
    )?;
    // The session lives, and whom it belongs to may renew and end it, by way of a metadata node too.
    let _renewed: RenewSessionReply =
        surely(&metad, &leader, routes::SESSION_RENEW, &renew, Some(owner)).await?;
    let _ended: Done = surely(&gateway, &leader, routes::SESSION_END, &end, None).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_tells_health_and_metrics_and_nothing_else() -> anyhow::Result<()> {
    let expected = PUBLIC.to_vec();
    ensure!(ullage_metad::http::PUBLIC_ROUTES.to_vec() == expected);
    ensure!(ullage_vendor_agent::PUBLIC_ROUTES.to_vec() == expected);
    ensure!(gateway_admin::PUBLIC_ROUTES.to_vec() == expected);
    let (cluster, _) = start().await?;
    let nodes = cluster.metads.iter().zip(std::iter::repeat(9311));
    let nodes = nodes.chain(cluster.agents.iter().zip(std::iter::repeat(9321)));
    for (node, port) in nodes {
        let address = node.host.at(port);
        for path in PUBLIC {
            let status = http_status(address, path).await?;
            ensure!(status == 200, "{path} of {} answers {status}", node.name);
        }
        let served = METAD_RULES.iter().chain(AGENT_RULES).map(|(path, _)| *path);
        let guesses = ["/", "/health", "/metrics/", "/debug", "/debug/pprof", "/config"];
        for path in served.chain(guesses) {
            for method in ["GET", "POST", "PUT", "DELETE"] {
                let status = plainly(address, method, path).await?;
                ensure!(status == 404, "{method} {path} of {} answers {status}", node.name);
            }
        }
        for path in PUBLIC {
            let status = plainly(address, "POST", path).await?;
            ensure!(status == 405, "POST {path} of {} answers {status}", node.name);
        }
    }
    Ok(())
}

/// The status of a request without a signature and without a body.
async fn plainly(address: SocketAddr, method: &str, path: &str) -> anyhow::Result<u16> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    Ok(exchanged(address, method, head).await?.status)
}

async fn exchanged(address: SocketAddr, method: &str, head: String) -> anyhow::Result<Head> {
    let mut connection = Connection::open(address).await?;
    connection.send(head.into_bytes(), Body::Empty).await?;
    let mut head = connection.read_head(method == "HEAD").await?;
    connection.skip_body(&mut head).await?;
    Ok(head)
}

/// The status of a request without a body, signed by `keys` for `service`.
async fn signed(
    address: SocketAddr,
    method: &str,
    path: &str,
    keys: &Keys,
    service: &str,
) -> anyhow::Result<u16> {
    let host = address.to_string();
    let to_sign = ToSign {
        method,
        path,
        query: "",
        host: &host,
        headers: &[],
        payload_hash: EMPTY_SHA256,
    };
    let signer = Signer::new(keys.clone(), "us-east-1", service);
    let (stamp, authorization) = signer.sign(&to_sign, SystemTime::now());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\
         x-amz-content-sha256: {EMPTY_SHA256}\r\nx-amz-date: {stamp}\r\nauthorization: {authorization}\r\n\r\n"
    );
    Ok(exchanged(address, method, head).await?.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_is_the_root_users() -> anyhow::Result<()> {
    for (method, path) in gateway_admin::ROUTES {
        let rules = ADMIN_RULES
            .iter()
            .filter(|rule| (rule.0, rule.1) == (*method, *path));
        let count = rules.count();
        ensure!(
            count == 1,
            "{method} {path} has {count} rules in this test: whom is it for?"
        );
    }
    ensure!(
        gateway_admin::ROUTES.len() == ADMIN_RULES.len(),
        "a rule without a route"
    );
    let (cluster, _) = start().await?;
    cluster.s3(0).create_bucket("walked").await?;
    let (admin, root) = (cluster.admin(0), cluster.credentials());
    let user = Keys {
        access_key: "VINTNERKEY0000000001".to_owned(),
        secret_key: "a secret long enough".to_owned(),
    };
    admin.run(&[
        "user",
        "create",
        "vintner",
        "--access-key",
        &user.access_key,
        "--secret-key",
        &user.secret_key,
    ])?;
    let members = admin.members()?.members.len();
    let vendor = vendors(&cluster)?[0].0;
    let address = cluster.admin_address(0);
    let impostor = Keys {
        secret_key: "another secret of his".to_owned(),
        ..root.clone()
    };
    for (method, pattern, rule) in ADMIN_RULES {
        let place = match *pattern {
            "/v1/keys/{}" => user.access_key.clone(),
            "/v1/classes/{}" => "STANDARD".to_owned(),
            "/v1/buckets/{}" | "/v1/buckets/{}/quota" => "walked".to_owned(),
            _ => vendor.to_string(),
        };
        let path = pattern.replace("{}", &place);
        let unsigned = plainly(address, method, &path).await?;
        ensure!(
            unsigned == 403,
            "{method} {path} answers {unsigned} without a signature"
        );
        let forged = signed(address, method, &path, &impostor, "ullage").await?;
        ensure!(
            forged == 403,
            "{method} {path} answers {forged} to a wrong secret"
        );
        let other = signed(address, method, &path, root, "s3").await?;
        ensure!(
            other == 400,
            "{method} {path} answers {other} to a signature for S3"
        );
        let by_user = signed(address, method, &path, &user, "ullage").await?;
        let expected = if *rule == Admin::Root { 403 } else { 200 };
        ensure!(by_user == expected, "{method} {path} answers {by_user} to a user");
        // It is the caller that is refused, not the question; but for those that must be told what of.
        if *method == "GET" && !["/v1/fat/object", "/v1/users/policy"].contains(pattern) {
            let by_root = signed(address, method, &path, root, "ullage").await?;
            ensure!(
                by_root == 200,
                "{method} {path} answers {by_root} to the root user"
            );
        }
    }
    for path in PUBLIC {
        let (read, written) = (
            plainly(address, "GET", path).await?,
            plainly(address, "POST", path).await?,
        );
        ensure!(
            (read, written) == (200, 403),
            "{path} answers {read} and {written}"
        );
    }
    // None of the changes asked for was made.
    ensure!(admin.members()?.members.len() == members);
    ensure!(admin.run(&["--json", "key", "list"])?.contains(&user.access_key));
    cluster.wait_for_vendors(cluster.agents.len()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_answers_nobody_without_a_signature() -> anyhow::Result<()> {
    let (cluster, _) = start().await?;
    let address = cluster.gateways[0].address;
    cluster.s3(0).create_bucket("cellar").await?;
    cluster.s3(0).put("cellar", "bottle", Body::Bytes(b"red")).await?;
    let bucket = [
        "",
        "?list-type=2",
        "?versions",
        "?uploads",
        "?location",
        "?delete",
    ];
    let object = [
        "",
        "?uploads",
        "?uploadId=x",
        "?uploadId=x&partNumber=1",
        "?attributes",
    ];
    let of_bucket = bucket.iter().map(|query| format!("/cellar{query}"));
    let of_object = object.iter().map(|query| format!("/cellar/bottle{query}"));
    for target in of_bucket.chain(of_object).chain(["/".to_owned()]) {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            let status = plainly(address, method, &target).await?;
            // 412: a POST to a bucket that is no form.
            ensure!(
                matches!((method, status), (_, 400 | 403 | 405) | ("POST", 412)),
                "{method} {target} answers {status} without a signature"
            );
        }
    }
    // Here these are names of buckets, and there are none: as S3 does, anybody is told so. "v1" is too short for one.
    for (target, none) in [("/health/live", 404), ("/metrics", 404), ("/v1/status", 400)] {
        let status = plainly(address, "GET", target).await?;
        ensure!(status == none, "GET {target} answers {status}");
        let status = plainly(address, "PUT", target).await?;
        ensure!(status == none || status == 403, "PUT {target} answers {status}");
    }
    cluster.s3(0).get("cellar", "bottle").await?.expect(200)?;
    Ok(())
}

/// Handlers come to be served by the tables only: whoever adds a router, or a route to one, finds this test.
#[test]
fn routes_are_made_where_the_tables_are() -> anyhow::Result<()> {
    let allowed = [("transport/src/api.rs", 1), ("transport/src/health.rs", 3)];
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for krate in ["transport", "metad", "vendor-agent", "gateway", "cli"] {
        visit_files(&repository().join(krate).join("src"), &mut |path| {
            // A struct filled up with `..route(…)` makes none.
            let text = std::fs::read_to_string(path)
                .unwrap_or_default()
                .replace("..route(", "");
            let makers = [
                ".route(",
                ".route_service(",
                ".nest(",
                ".nest_service(",
                ".fallback",
            ];
            let count: usize = makers.iter().map(|maker| text.matches(maker).count()).sum();
            let name = path
                .strip_prefix(repository())
                .unwrap_or(path)
                .display()
                .to_string();
            if count > 0 {
                found.insert(name, count);
            }
        });
    }
    let allowed: BTreeMap<String, usize> = allowed
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect();
    ensure!(found == allowed, "routes are made elsewhere: {found:?}");
    Ok(())
}
