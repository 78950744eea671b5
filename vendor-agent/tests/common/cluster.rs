//! A small cluster over real sockets: agents as services, a metadata service that enrols them and speaks for the
//! fakes, and what a gateway does to chunks.

use super::{CAPACITY, CLUSTER, FakeMetad, SESSION, read_grant, write_grant};
use bytes::Bytes;
use ed25519_dalek::{Verifier, VerifyingKey};
use futures::{FutureExt, StreamExt};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use ullage_model::codec;
use ullage_model::ids::{CopyId, Digest, Epoch, VendorId};
use ullage_model::rejection::Rejection;
use ullage_model::wire::agent::{
    Directory, Heartbeat, HeartbeatReply, JudgeReply, JudgeRequest, RegisterReply, RegisterRequest,
};
use ullage_model::wire::chunk::{ChunkHeader, ChunkRefusal, Hop, HopReport, PublicKey, ReadRequest};
use ullage_model::wire::enrol::{EnrolReply, EnrolRequest, JoinToken};
use ullage_model::wire::metad::MetadError;
use ullage_model::wire::routes;
use ullage_transport::api::{Api, Route};
use ullage_transport::authority::{Authority, ClusterSecret, Fingerprint};
use ullage_transport::client::{Answer, CallError, Client, ClientLimits, Target};
use ullage_transport::credentials::{Chain, Credentials, TlsKey};
use ullage_transport::frame::{framed, messages};
use ullage_transport::identity::{Callers, Expect, Identity, Peer};
use ullage_transport::network::{Network, TokioNetwork};
use ullage_transport::server::{ServerLimits, serve};
use ullage_vendor_agent::{AgentError, Config, DeviceConfig, MetadClient, RunSeams, Service};

/// A vendor as the metadata service knows it.
struct Known {
    vendor: VendorId,
    key: PublicKey,
    address: String,
    metad: Arc<FakeMetad>,
}

/// What the metadata service of these tests remembers.
pub struct Books {
    pub authority: Authority,
    /// Secrets of invitations not yet used.
    pub invited: Mutex<Vec<[u8; 32]>>,
    /// Enrolments answered.
    pub enrolled: Mutex<u32>,
    vendors: Mutex<Vec<Known>>,
    address: Mutex<String>,
    more_metad: Mutex<Vec<String>>,
}

impl Books {
    pub fn metad(&self, vendor: VendorId) -> Arc<FakeMetad> {
        let vendors = self.vendors.lock().unwrap();
        let known = vendors.iter().find(|known| known.vendor == vendor).unwrap();
        Arc::clone(&known.metad)
    }

    fn directory(&self) -> Directory {
        let vendors = self.vendors.lock().unwrap();
        let addresses = vendors.iter().map(|known| (known.vendor, known.address.clone()));
        Directory::new(addresses.collect(), self.metad_addresses())
    }

    fn metad_addresses(&self) -> Vec<String> {
        let more = self.more_metad.lock().unwrap().clone();
        std::iter::once(self.address.lock().unwrap().clone())
            .chain(more)
            .collect()
    }

    /// Makes a metadata node known that does not answer.
    pub fn add_metad(&self, address: String) {
        self.more_metad.lock().unwrap().push(address);
    }

    /// Sends others to `address` when they look for `vendor`.
    pub fn move_vendor(&self, vendor: VendorId, address: String) {
        let mut vendors = self.vendors.lock().unwrap();
        let known = vendors.iter_mut().find(|known| known.vendor == vendor).unwrap();
        known.address = address;
    }

    /// Makes the vendor `number` known at `address`.
    pub fn add_vendor(&self, number: u64, address: String) {
        self.vendors.lock().unwrap().push(Known {
            vendor: VendorId(number),
            key: PublicKey::default(),
            address,
            metad: FakeMetad::new(number),
        });
    }

    fn register(&self, request: &RegisterRequest) -> RegisterReply {
        let mut vendors = self.vendors.lock().unwrap();
        let address = request.characteristics.address.clone();
        let vendor = match vendors.iter_mut().find(|known| known.key == request.public_key) {
            Some(known) => {
                known.address = address;
                known.vendor
            }
            None => {
                let number = vendors.len() as u64 + 1;
                vendors.push(Known {
                    vendor: VendorId(number),
                    key: request.public_key,
                    address,
                    metad: FakeMetad::new(number),
                });
                VendorId(number)
            }
        };
        RegisterReply {
            vendor,
            cluster: CLUSTER,
            epoch: Epoch(0),
        }
    }

    fn enrol(&self, request: &EnrolRequest) -> Result<EnrolReply, MetadError> {
        let key = request.register.public_key;
        let signed = EnrolRequest::signed_bytes(&self.authority.fingerprint().0, &request.tls_key);
        let signature = ed25519_dalek::Signature::from_slice(&request.signature.0).unwrap();
        VerifyingKey::from_bytes(&key.0)
            .unwrap()
            .verify(&signed, &signature)
            .expect("the request is signed by the vendor's key");
        let is_known = self.vendors.lock().unwrap().iter().any(|known| known.key == key);
        if !is_known {
            let mut invited = self.invited.lock().unwrap();
            let at = invited.iter().position(|secret| Some(*secret) == request.secret);
            invited.remove(at.ok_or(MetadError::Refused(Rejection::NotInvited))?);
        }
        let registered = self.register(&request.register);
        let identity = Identity::Vendor(registered.vendor);
        let chain = self
            .authority
            .issue(identity, &request.tls_key, SystemTime::now())
            .unwrap();
        *self.enrolled.lock().unwrap() += 1;
        Ok(EnrolReply {
            registered,
            certificate: Bytes::from(chain.leaf),
            authority: Bytes::from(chain.authority),
            metad: self.metad_addresses(),
        })
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MetadError> {
        let metad = self.metad(heartbeat.vendor);
        let directory = self.directory();
        metad.with(|state| state.directory = directory);
        let reply = metad.heartbeat(heartbeat).await;
        reply.map_err(|error| MetadError::Unavailable(error.to_string()))
    }

    async fn judge(&self, request: JudgeRequest) -> Result<JudgeReply, MetadError> {
        let reply = self.metad(request.vendor).judge(request).await;
        reply.map_err(|error| MetadError::Unavailable(error.to_string()))
    }
}

/// Agents, a metadata service and a gateway's client.
pub struct Cluster {
    pub home: PathBuf,
    pub books: Arc<Books>,
    pub client: Client,
    stop: CancellationToken,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn route(path: &'static str, callers: Callers) -> Route {
    Route {
        path,
        callers,
        body_bytes: 1 << 20,
    }
}

fn client_of(credentials: Credentials) -> Client {
    Client::new(Arc::new(TokioNetwork), credentials, ClientLimits::default())
}

impl Cluster {
    pub async fn new(home: &Path, secret: u8) -> Self {
        let authority = Authority::derive(&ClusterSecret::new([secret; 32])).unwrap();
        let issue = |identity| Credentials::issued_by(&authority, identity, SystemTime::now()).unwrap();
        let (of_metad, of_gateway) = (issue(Identity::Metad(1)), issue(Identity::Gateway(1)));
        let listener = TokioNetwork.listen("127.0.0.1:0").await.unwrap();
        let books = Arc::new(Books {
            address: Mutex::new(listener.local_address().unwrap().to_string()),
            authority,
            invited: Mutex::default(),
            enrolled: Mutex::default(),
            vendors: Mutex::default(),
            more_metad: Mutex::default(),
        });
        let api = Api::new(Arc::clone(&books))
            .call(
                route(routes::ENROL, Callers::ANYONE),
                |books: Arc<Books>, _: Peer, request: EnrolRequest| {
                    async move { books.enrol(&request) }.boxed()
                },
            )
            .call(
                route(routes::REGISTER, Callers::VENDOR),
                |books: Arc<Books>, _: Peer, request: RegisterRequest| {
                    async move { Ok::<RegisterReply, MetadError>(books.register(&request)) }.boxed()
                },
            )
            .call(
                route(routes::HEARTBEAT, Callers::VENDOR),
                |books: Arc<Books>, peer: Peer, heartbeat: Heartbeat| {
                    assert_eq!(peer, Peer::Known(Identity::Vendor(heartbeat.vendor)));
                    async move { books.heartbeat(heartbeat).await }.boxed()
                },
            )
            .call(
                route(routes::JUDGE, Callers::VENDOR),
                |books: Arc<Books>, _: Peer, request: JudgeRequest| {
                    async move { books.judge(request).await }.boxed()
                },
            );
        let stop = CancellationToken::new();
        let limits = ServerLimits::default();
        tokio::spawn(serve(listener, of_metad, api.into_router(), limits, stop.clone()));
        Self {
            home: home.to_owned(),
            books,
            client: client_of(of_gateway),
            stop,
        }
    }

    /// A client with a certificate of this cluster.
    pub fn client_as(&self, identity: Identity) -> Client {
        let issued = Credentials::issued_by(&self.books.authority, identity, SystemTime::now());
        client_of(issued.unwrap())
    }

    /// A client without one.
    pub fn anonymous(&self) -> Client {
        client_of(Credentials::anonymous(self.books.authority.fingerprint()).unwrap())
    }

    /// An invitation, as text.
    pub fn invite(&self) -> String {
        let secret: [u8; 32] = rand::random();
        self.books.invited.lock().unwrap().push(secret);
        let token = JoinToken {
            authority: self.books.authority.fingerprint().0,
            metad: vec![self.books.address.lock().unwrap().clone()],
            secret,
        };
        token.to_text()
    }

    /// Settings of the agent `name` with one device of its own.
    pub fn config(&self, name: &str) -> Config {
        let device = DeviceConfig {
            path: self.home.join(format!("{name}-device")),
            capacity: CAPACITY,
            class: "ssd".to_owned(),
        };
        let mut config = Config::new(self.home.join(name), name.to_owned(), vec![device]);
        config.listen = "127.0.0.1:0".to_owned();
        config.admin_listen = "127.0.0.1:0".to_owned();
        config.scrub_rate = 0;
        config.lost_after_s = 0;
        config
    }

    /// Settings with a fresh token.
    pub fn invited(&self, name: &str) -> Config {
        let path = self.home.join(format!("{name}.token"));
        std::fs::write(&path, self.invite()).unwrap();
        Config {
            join_token_file: Some(path),
            ..self.config(name)
        }
    }

    /// Starts an agent, without waiting for it to be ready.
    pub async fn try_start(config: Config) -> Result<Running, AgentError> {
        let stop = CancellationToken::new();
        let service = Service::start(config, seams(), stop.clone()).await?;
        Ok(Running { service, stop })
    }

    /// Starts an agent and waits until it takes chunks.
    pub async fn start(&self, config: Config) -> Running {
        let running = Self::try_start(config).await.unwrap();
        until("the agent is ready", || running.service.agent().is_ready()).await;
        running
    }

    /// Vendors 1 to `count`, each knowing the others' addresses.
    pub async fn vendors(&self, count: usize) -> Vec<Running> {
        let mut all = Vec::new();
        for number in 1..=count {
            all.push(self.start(self.invited(&format!("v{number}"))).await);
        }
        self.settle(&all).await;
        all
    }

    /// Waits until all agents have the newest directory.
    pub async fn settle(&self, agents: &[Running]) {
        let revision = self.books.directory().revision;
        for running in agents {
            let metad = self.books.metad(running.vendor());
            running.service.agent().kick();
            metad
                .until("the directory is known", |state| {
                    state
                        .heartbeats
                        .last()
                        .is_some_and(|last| last.directory == revision)
                })
                .await;
        }
    }
}

pub fn seams() -> RunSeams {
    RunSeams::real(
        Arc::new(TokioNetwork),
        Arc::new(rand::random),
        prometheus::Registry::new(),
    )
}

/// An agent that runs as a service.
pub struct Running {
    pub service: Service,
    pub stop: CancellationToken,
}

impl Running {
    pub fn vendor(&self) -> VendorId {
        self.service.agent().vendor().unwrap()
    }

    pub fn target(&self) -> Target {
        Target {
            address: self.service.address().to_string(),
            expect: Expect::Exactly(Identity::Vendor(self.vendor())),
            lane: 0,
        }
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.service.ended().await.unwrap();
    }
}

/// Waits until `wanted` holds.
pub async fn until(what: &str, wanted: impl Fn() -> bool) {
    for _ in 0..4000 {
        if wanted() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain for: {what}");
}

/// What came back for a chunk.
#[derive(Debug)]
pub enum Put {
    Reports(BTreeMap<VendorId, HopReport>),
    Refused(ChunkRefusal),
    Status(StatusCode),
}

impl Put {
    pub fn reports(self) -> BTreeMap<VendorId, HopReport> {
        match self {
            Self::Reports(reports) => reports,
            other => panic!("{other:?}"),
        }
    }
}

/// A header whose route is `vendors`.
pub fn routed(copy: CopyId, plaintext_bytes: u64, vendors: &[VendorId]) -> ChunkHeader {
    let hop = |vendor: &VendorId| Hop {
        vendor: *vendor,
        lease: copy.lease,
        grant: write_grant(*vendor, copy.lease),
    };
    ChunkHeader {
        owner: SESSION,
        chunk: copy.chunk,
        route: vendors.iter().map(hop).collect(),
        pieces: 1,
        plaintext_bytes,
        request_id: 1,
    }
}

/// Sends a chunk as a gateway does: header, bytes in steps, digest.
pub async fn put(client: &Client, to: &Target, header: &ChunkHeader, bytes: &Bytes) -> Put {
    put_with(client, to, header, bytes, Digest::of(bytes)).await
}

pub async fn put_with(
    client: &Client,
    to: &Target,
    header: &ChunkHeader,
    bytes: &Bytes,
    digest: Digest,
) -> Put {
    let mut parts = vec![framed(&codec::encode(header))];
    parts.extend((0..bytes.len()).step_by(100_000).map(|at| {
        let end = bytes.len().min(at + 100_000);
        bytes.slice(at..end)
    }));
    parts.push(Bytes::copy_from_slice(&digest.0));
    let parts = futures::stream::iter(parts).map(|part| Ok(Frame::data(part)));
    let opened = client
        .open(
            to,
            routes::CHUNK_PUT,
            HeaderMap::new(),
            StreamBody::new(parts).boxed_unsync(),
        )
        .await;
    answered(opened.unwrap()).await
}

async fn answered(response: Response<Answer>) -> Put {
    match response.status() {
        StatusCode::OK => {
            let mut reports = BTreeMap::new();
            let mut all = messages(response.into_body(), 1 << 20);
            while let Some(message) = all.next().await {
                let report: HopReport = codec::decode(&message.unwrap()).unwrap();
                let (HopReport::Stored { vendor, .. } | HopReport::Failed { vendor, .. }) = &report;
                assert!(
                    reports.insert(*vendor, report.clone()).is_none(),
                    "one report per hop"
                );
            }
            Put::Reports(reports)
        }
        StatusCode::CONFLICT => {
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            Put::Refused(codec::decode(&bytes).unwrap())
        }
        status => Put::Status(status),
    }
}

/// Reads all of a copy as a gateway does.
pub async fn read(client: &Client, from: &Running, copy: CopyId, frames: u32) -> Result<Bytes, ChunkRefusal> {
    let request = ReadRequest {
        session: SESSION,
        grant: read_grant(from.vendor()),
        copy,
        first_frame: 0,
        frames,
        request_id: 2,
    };
    let body = http_body_util::Full::new(codec::encode(&request))
        .map_err(|never| match never {})
        .boxed_unsync();
    let target = from.target();
    let opened = client.open(&target, routes::CHUNK_READ, HeaderMap::new(), body);
    let response = opened.await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    match status {
        StatusCode::OK => Ok(bytes),
        StatusCode::CONFLICT => Err(codec::decode(&bytes).unwrap()),
        other => panic!("{other}"),
    }
}

/// A certificate of `secret`'s cluster, for a vendor of any number.
pub fn credentials_of(secret: u8, identity: Identity) -> (Credentials, Fingerprint) {
    let authority = Authority::derive(&ClusterSecret::new([secret; 32])).unwrap();
    let key = TlsKey::generate().unwrap();
    let chain: Chain = authority.issue(identity, &key.spki(), SystemTime::now()).unwrap();
    let fingerprint = authority.fingerprint();
    (
        Credentials::enrolled(key, &chain, fingerprint).unwrap(),
        fingerprint,
    )
}

/// The HTTP status that an error is.
pub fn status<E: std::fmt::Debug>(error: &CallError<E>) -> u16 {
    match error {
        CallError::Status { status, .. } => *status,
        other => panic!("{other:?}"),
    }
}
