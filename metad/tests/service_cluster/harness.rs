//! Metadata nodes as the process runs them, on sockets of their own, and callers with certificates of their own.

use crate::fakes::{self, PATIENCE, TestClock};
use crate::loopback::addresses;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use prometheus::Registry;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use ullage_metad::config::{MetadFile, RaftSection, VendorsSection};
use ullage_metad::server::{Node, Seams};
use ullage_model::codec::Versioned;
use ullage_model::ids::{SessionId, VendorId};
use ullage_model::wire::agent::{Characteristics, RegisterRequest};
use ullage_model::wire::chunk::{PublicKey, Signature};
use ullage_model::wire::enrol::{EnrolReply, EnrolRequest, InviteReply, InviteRequest, JoinToken};
use ullage_model::wire::metad::{MetadError, OpenSessionReply};
use ullage_model::wire::routes;
use ullage_transport::authority::{Authority, ClusterSecret, Fingerprint};
use ullage_transport::client::{CallError, Client, ClientLimits, Target};
use ullage_transport::credentials::{Chain, Credentials, TlsKey};
use ullage_transport::identity::{Expect, Identity};
use ullage_transport::network::TokioNetwork;

/// How long a call may take.
pub const WITHIN: Duration = Duration::from_secs(20);

pub fn authority() -> Arc<Authority> {
    Arc::new(Authority::derive(&ClusterSecret::new([7; 32])).unwrap())
}

/// Nodes with their directories.
pub struct Cluster {
    pub home: TempDir,
    pub addresses: Vec<String>,
    pub nodes: Vec<Option<Node>>,
    registries: Vec<Registry>,
}

impl Cluster {
    /// So many nodes, all of which serve.
    pub async fn start(count: usize) -> Self {
        let mut cluster = Self {
            home: TempDir::new().unwrap(),
            addresses: addresses(count),
            nodes: (0..count).map(|_| None).collect(),
            registries: (0..count).map(|_| Registry::new()).collect(),
        };
        for at in 0..count {
            cluster.start_node(at).await;
        }
        cluster.until_ready().await;
        cluster
    }

    /// Starts node `at` again, or for the first time.
    pub async fn start_node(&mut self, at: usize) {
        let file = MetadFile {
            data: self.path(at),
            listen: self.addresses[at].clone(),
            advertise: None,
            admin_listen: self.addresses[at].replace(":9310", ":9311"),
            peers: self.addresses.clone(),
            cluster_secret_file: "unused".into(),
            raft: RaftSection::default(),
            vendors: VendorsSection {
                heartbeat_ms: Some(200),
                stale_ms: Some(60_000),
                dead_ms: Some(120_000),
            },
        };
        file.check().unwrap();
        self.registries[at] = Registry::new();
        let seams = Seams {
            network: Arc::new(TokioNetwork),
            clock: Arc::new(TestClock::default()),
            wall: Arc::new(SystemTime::now),
            random: Box::new(StdRng::from_os_rng()),
            raft_seed: None,
            budget: None,
            data: None,
            registry: self.registries[at].clone(),
        };
        let node = Node::start_trusting(&file, authority(), seams).await.unwrap();
        self.nodes[at] = Some(node);
    }

    pub fn path(&self, at: usize) -> std::path::PathBuf {
        self.home.path().join(format!("node-{at}"))
    }

    /// The nodes that are at work.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Node)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(at, node)| Some((at, node.as_ref()?)))
    }

    pub async fn until_ready(&self) {
        fakes::eventually("all nodes serve", async || {
            self.running().all(|(_, node)| node.is_ready())
        })
        .await;
    }

    /// Which node leads, as it says itself.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (at, node) in self.running() {
                let status = node.metad().status().unwrap();
                if status.leader == Some(node.metad().node()) {
                    return at;
                }
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A node that follows.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.running().map(|(at, _)| at).find(|at| *at != leader).unwrap()
    }

    /// The leader with the test's own vendors and gateways in its process.
    pub async fn leader_as_fake(&self) -> fakes::Node {
        let at = self.leader().await;
        fakes::Node {
            metad: Arc::clone(self.nodes[at].as_ref().unwrap().metad()),
            registry: self.registries[at].clone(),
            clock: Arc::default(),
        }
    }

    pub fn metric(&self, at: usize, name: &str, label: &str) -> f64 {
        let families = self.registries[at].gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metrics = family.get_metric().iter();
        let labelled = metrics
            .filter(|metric| label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label));
        labelled
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    /// Stops a node as its process would on SIGTERM.
    pub async fn stop_node(&mut self, at: usize) {
        self.nodes[at].take().unwrap().stop().await;
    }

    /// Cuts a node off without a word.
    pub async fn kill_node(&mut self, at: usize) {
        self.nodes[at].take().unwrap().abandon().await;
    }

    /// Stops all and checks what they leave.
    pub async fn stop(mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_some() {
                self.stop_node(at).await;
            }
            check(&self.path(at));
        }
    }
}

fn check(path: &Path) {
    fakes::check(path);
}

/// Somebody who calls metadata nodes.
#[derive(Clone, Debug)]
pub struct Caller(Client);

impl Caller {
    pub fn known(identity: Identity) -> Self {
        Self::with(Credentials::issued_by(&authority(), identity, SystemTime::now()).unwrap())
    }

    pub fn anonymous() -> Self {
        Self::with(Credentials::anonymous(authority().fingerprint()).unwrap())
    }

    pub fn with(credentials: Credentials) -> Self {
        Self(Client::new(
            Arc::new(TokioNetwork),
            credentials,
            ClientLimits::default(),
        ))
    }

    pub async fn call<Req: Versioned, Resp: Versioned>(
        &self,
        address: &str,
        path: &str,
        request: &Req,
    ) -> Result<Resp, CallError<MetadError>> {
        self.0.call(&target(address), path, request, WITHIN).await
    }

    /// Calls as a metadata node does for somebody else.
    pub async fn call_for<Req: Versioned, Resp: Versioned>(
        &self,
        address: &str,
        path: &str,
        request: &Req,
        whom: Identity,
    ) -> Result<Resp, CallError<MetadError>> {
        let mut headers = http::HeaderMap::new();
        headers.insert(routes::FORWARDED_FOR, whom.to_string().parse().unwrap());
        self.0
            .call_with(&target(address), path, headers, request, WITHIN)
            .await
    }

    /// Calls `path` with a body that is no message.
    pub async fn knock(&self, address: &str, path: &str, headers: http::HeaderMap) -> CallError<Bytes> {
        let body = Bytes::from_static(b"?");
        let answer = self
            .0
            .call_bytes(&target(address), path, headers, body, WITHIN)
            .await;
        answer.expect_err("this is no message")
    }

    /// A call that succeeds, at last: what surely was not done, or may be repeated, is.
    pub async fn surely<Req: Versioned, Resp: Versioned>(
        &self,
        address: &str,
        path: &str,
        request: &Req,
    ) -> Resp {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.call(address, path, request).await {
                Ok(answer) => return answer,
                Err(CallError::Application(error @ (MetadError::Refused(_) | MetadError::NoRoom(_)))) => {
                    panic!("{path}: {error}")
                }
                Err(error) => assert!(Instant::now() < deadline, "{path}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn target(address: &str) -> Target {
    Target {
        address: address.to_owned(),
        expect: Expect::AnyMetad,
        lane: 0,
    }
}

/// A gateway's process.
pub struct Gateway {
    pub caller: Caller,
}

impl Gateway {
    pub fn new(instance: u64) -> Self {
        Self {
            caller: Caller::known(Identity::Gateway(instance)),
        }
    }

    pub async fn open(&self, address: &str) -> SessionId {
        let opened: OpenSessionReply = self
            .caller
            .surely(address, routes::SESSION_OPEN, &fakes::opening(1, "check"))
            .await;
        opened.session
    }

    pub async fn invite(&self, address: &str, life_ms: u64) -> JoinToken {
        let request = InviteRequest { life_ms };
        let reply: InviteReply = self.caller.surely(address, routes::INVITE, &request).await;
        reply.token
    }
}

/// A vendor's operator and agent.
pub struct Vendor {
    key: SigningKey,
    name: String,
}

impl Vendor {
    pub fn new(name: &str) -> Self {
        let seed = blake3::hash(name.as_bytes());
        Self {
            key: SigningKey::from_bytes(seed.as_bytes()),
            name: name.to_owned(),
        }
    }

    pub fn registration(&self) -> RegisterRequest {
        RegisterRequest {
            public_key: PublicKey(self.key.verifying_key().to_bytes()),
            name: self.name.clone(),
            characteristics: Characteristics::default(),
            devices: vec![fakes::device(1 << 30)],
        }
    }

    /// What the agent says to be let in, with the TLS key that it wants certified.
    pub fn enrolment(&self, secret: Option<[u8; 32]>) -> (EnrolRequest, TlsKey) {
        let key = TlsKey::generate().unwrap();
        let tls_key = Bytes::from(key.spki());
        let signed = EnrolRequest::signed_bytes(&authority().fingerprint().0, &tls_key);
        let signature = Bytes::copy_from_slice(&self.key.sign(&signed).to_bytes());
        let request = EnrolRequest {
            secret,
            register: self.registration(),
            tls_key,
            signature: Signature(signature),
        };
        (request, key)
    }

    pub async fn try_enrol(
        &self,
        address: &str,
        secret: Option<[u8; 32]>,
    ) -> Result<(VendorId, Caller), CallError<MetadError>> {
        let (request, key) = self.enrolment(secret);
        let reply: EnrolReply = Caller::anonymous().call(address, routes::ENROL, &request).await?;
        let chain = Chain {
            leaf: reply.certificate.to_vec(),
            authority: reply.authority.to_vec(),
        };
        assert!(
            reply.metad.iter().any(|known| known == address),
            "{:?}",
            reply.metad
        );
        let pinned = Fingerprint(authority().fingerprint().0);
        let credentials = Credentials::enrolled(key, &chain, pinned).unwrap();
        let vendor = reply.registered.vendor;
        assert_eq!(credentials.identity(), Some(Identity::Vendor(vendor)));
        Ok((vendor, Caller::with(credentials)))
    }
}
