//! What the agent's tests and examples share: a metadata service made of plain values, a map of agents as
//! the way between vendors, and chunks with grants.
#![allow(dead_code)]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

pub mod cluster;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use futures::StreamExt;
use futures::future::BoxFuture;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::watch;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec;
use ullage_model::ids::{ChunkId, ClusterId, CopyId, Digest, Epoch, LeaseId, SessionId, VendorId};
use ullage_model::units;
use ullage_model::wire::agent::{
    ClosedLeases, CommandOutcome, Directory, Heartbeat, HeartbeatReply, JudgeReply, JudgeRequest, Judgement,
    RegisterReply, RegisterRequest,
};
use ullage_model::wire::chunk::{
    ChunkHeader, ChunkPart, ChunkRefusal, GRANT_CONTEXT, Grant, GrantAction, GrantBody, Hop, HopReport,
    PublicKey, RECEIPTS_CONTEXT, ReadRequest, Receipt, ReceiptList, Signature, SignedReceipts,
};
use ullage_vendor_agent::device::Device;
use ullage_vendor_agent::local_fat::IndexHome;
use ullage_vendor_agent::{
    Agent, AgentError, ChunkParts, Config, DeviceConfig, HopReports, MetadClient, MetadError, PeerSender,
    Seams, SystemClock, Workers,
};

pub const CLUSTER: ClusterId = ClusterId(77);
pub const SESSION: SessionId = SessionId(5);
pub const CAPACITY: u64 = 2 << 30;

/// The metadata service as tests want it.
pub struct FakeMetad {
    pub vendor: VendorId,
    pub state: Mutex<MetadState>,
}

#[derive(Clone)]
pub struct MetadState {
    pub cluster: ClusterId,
    pub epoch: u16,
    pub term: u64,
    pub time: u64,
    pub closed: ClosedLeases,
    pub close: BTreeSet<LeaseId>,
    pub erase: BTreeSet<CopyId>,
    /// Copies that the FAT names.
    pub named: BTreeSet<CopyId>,
    pub undecided: BTreeSet<CopyId>,
    pub outcomes: Vec<CommandOutcome>,
    pub heartbeats: Vec<Heartbeat>,
    pub judged: Vec<CopyId>,
    pub revoked: Vec<VendorId>,
    pub directory: Directory,
    /// Copies that reports named damaged, and found.
    pub damaged: BTreeSet<CopyId>,
    pub found: BTreeSet<CopyId>,
    /// Heartbeats answered.
    pub answered: u64,
    /// Heartbeats are not answered.
    pub silent: bool,
}

impl FakeMetad {
    pub fn new(vendor: u64) -> Arc<Self> {
        let state = MetadState {
            cluster: CLUSTER,
            epoch: 0,
            term: 1,
            time: 1_000_000,
            closed: ClosedLeases {
                mark: LeaseId(0),
                open: vec![],
            },
            close: BTreeSet::new(),
            erase: BTreeSet::new(),
            named: BTreeSet::new(),
            undecided: BTreeSet::new(),
            outcomes: vec![],
            heartbeats: vec![],
            judged: vec![],
            revoked: vec![],
            directory: Directory::new(vec![], vec![]),
            damaged: BTreeSet::new(),
            found: BTreeSet::new(),
            answered: 0,
            silent: false,
        };
        Arc::new(Self {
            vendor: VendorId(vendor),
            state: Mutex::new(state),
        })
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut MetadState) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// Waits until `wanted` holds.
    pub async fn until(&self, what: &str, wanted: impl Fn(&MetadState) -> bool) {
        for _ in 0..2000 {
            if self.with(|state| wanted(state)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("waited in vain for: {what}");
    }

    pub fn order_close(&self, lease: LeaseId) {
        self.with(|state| {
            state.close.insert(lease);
        });
    }

    pub async fn erase_and_wait(&self, agent: &Agent, copies: &[CopyId]) {
        self.with(|state| state.erase.extend(copies));
        agent.kick();
        self.until("erased outcomes", |state| {
            copies.iter().all(|copy| !state.erase.contains(copy))
        })
        .await;
    }

    pub async fn close_and_wait(&self, agent: &Agent, lease: LeaseId) {
        self.order_close(lease);
        agent.kick();
        self.until("lease closed", |state| !state.close.contains(&lease))
            .await;
    }
}

impl MetadClient for FakeMetad {
    fn register(&self, _: RegisterRequest) -> BoxFuture<'_, Result<RegisterReply, MetadError>> {
        let (cluster, epoch) = self.with(|state| (state.cluster, Epoch(state.epoch)));
        Box::pin(async move {
            Ok(RegisterReply {
                vendor: self.vendor,
                cluster,
                epoch,
            })
        })
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'_, Result<HeartbeatReply, MetadError>> {
        let reply = self.with(|state| {
            if state.silent {
                return Err(MetadError::Unavailable("told to be".to_owned()));
            }
            for outcome in &heartbeat.outcomes {
                match outcome {
                    CommandOutcome::LeaseClosed { lease } => {
                        state.close.remove(lease);
                    }
                    CommandOutcome::Erased { copies, .. } => {
                        for copy in copies {
                            state.erase.remove(copy);
                        }
                    }
                }
                state.outcomes.push(outcome.clone());
            }
            let heartbeat_directory = heartbeat.directory;
            state.answered += 1;
            state
                .damaged
                .extend(heartbeat.damaged.iter().map(|damaged| damaged.copy));
            state.found.extend(&heartbeat.found);
            state.heartbeats.push(heartbeat);
            if state.heartbeats.len() > 100 {
                state.heartbeats.remove(0);
            }
            Ok(HeartbeatReply {
                epoch: Epoch(state.epoch),
                term: state.term,
                cluster_time: ClusterTime(state.time),
                issuers: vec![PublicKey(issuer().verifying_key().to_bytes())],
                revoked: state.revoked.clone(),
                directory: Some(state.directory.clone())
                    .filter(|directory| directory.revision != heartbeat_directory),
                closed: state.closed.clone(),
                close: state.close.iter().copied().collect(),
                erase: state.erase.iter().copied().take(512).collect(),
                interval_ms: 50,
            })
        });
        Box::pin(async move { reply })
    }

    fn judge(&self, request: JudgeRequest) -> BoxFuture<'_, Result<JudgeReply, MetadError>> {
        let judgements = self.with(|state| {
            state.judged.extend(&request.copies);
            request
                .copies
                .iter()
                .map(|copy| {
                    if state.undecided.contains(copy) {
                        Judgement::Undecided
                    } else if state.named.contains(copy) {
                        Judgement::Keep
                    } else {
                        Judgement::Erase
                    }
                })
                .collect()
        });
        Box::pin(async move { Ok(JudgeReply { judgements }) })
    }
}

/// The way between vendors: a map.
#[derive(Default)]
pub struct Peers {
    pub agents: Mutex<HashMap<VendorId, Weak<Agent>>>,
}

impl PeerSender for Peers {
    fn put_chunk(
        &self,
        vendor: VendorId,
        header: ChunkHeader,
        parts: ChunkParts,
    ) -> BoxFuture<'_, HopReports> {
        let agent = self.agents.lock().unwrap().get(&vendor).and_then(Weak::upgrade);
        Box::pin(async move {
            match agent {
                Some(agent) => agent.put_chunk(header, parts).await,
                None => {
                    let refusal = ChunkRefusal::Link("no such vendor".to_owned());
                    futures::stream::iter([HopReport::Failed {
                        vendor,
                        from: None,
                        refusal,
                    }])
                    .boxed()
                }
            }
        })
    }
}

/// A running agent.
pub struct Running {
    pub agent: Arc<Agent>,
    pub metad: Arc<FakeMetad>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), AgentError>>,
}

impl Running {
    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap().unwrap();
        let weak = Arc::downgrade(&self.agent);
        drop(self.agent);
        for _ in 0..400 {
            if weak.strong_count() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("somebody still holds the agent");
    }
}

pub fn config(data: &Path, devices: usize) -> Config {
    let devices = (0..devices)
        .map(|device| DeviceConfig {
            path: data.join(format!("device-{device}")),
            capacity: CAPACITY,
            class: "ssd".to_owned(),
        })
        .collect();
    let mut config = Config::new(data.join("agent"), "test".to_owned(), devices);
    config.scrub_rate = 0;
    config.lost_after_s = 0;
    config
}

pub fn seams(metad: Arc<FakeMetad>, peers: Arc<Peers>) -> Seams {
    let vendor = metad.vendor.0;
    Seams {
        clock: Arc::new(SystemClock::default()),
        key_seed: Box::new(move || {
            let mut seed = [9; 32];
            seed[..8].copy_from_slice(&vendor.to_le_bytes());
            seed
        }),
        metad,
        peers,
        index: IndexHome::OnDisk,
        workers: Workers::Threads,
        registry: prometheus::Registry::new(),
        devices: None,
    }
}

pub async fn start_with(config: Config, seams: Seams, metad: Arc<FakeMetad>, peers: &Peers) -> Running {
    let agent = Agent::open(config, seams).unwrap();
    peers
        .agents
        .lock()
        .unwrap()
        .insert(metad.vendor, Arc::downgrade(&agent));
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(Arc::clone(&agent).run(stopped));
    for _ in 0..4000 {
        if agent.is_ready() {
            return Running {
                agent,
                metad,
                stop,
                task,
            };
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the agent does not become ready");
}

pub async fn start(data: &Path, devices: usize, metad: &Arc<FakeMetad>) -> Running {
    let peers = Arc::new(Peers::default());
    start_with(
        config(data, devices),
        seams(Arc::clone(metad), Arc::clone(&peers)),
        Arc::clone(metad),
        &peers,
    )
    .await
}

pub async fn start_on(data: &Path, devices: Vec<Arc<dyn Device>>, metad: &Arc<FakeMetad>) -> Running {
    let peers = Arc::new(Peers::default());
    let mut seams = seams(Arc::clone(metad), Arc::clone(&peers));
    seams.devices = Some(
        devices
            .into_iter()
            .map(|device| ("ssd".to_owned(), device))
            .collect(),
    );
    start_with(config(data, 0), seams, Arc::clone(metad), &peers).await
}

pub fn issuer() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

pub fn grant_of(body: &GrantBody, key: &SigningKey) -> Grant {
    let encoded = codec::encode(body);
    let signature = key.sign(&[GRANT_CONTEXT, &encoded].concat());
    Grant {
        body: encoded,
        issuer: PublicKey(key.verifying_key().to_bytes()),
        signature: Signature(Bytes::copy_from_slice(&signature.to_bytes())),
    }
}

pub fn write_body(vendor: VendorId, lease: LeaseId) -> GrantBody {
    GrantBody {
        cluster: CLUSTER,
        epoch: Epoch(0),
        session: SESSION,
        vendor,
        action: GrantAction::Write {
            lease,
            device_class: "ssd".to_owned(),
            bytes: 1 << 40,
        },
        deadline: ClusterTime(2_000_000),
    }
}

pub fn write_grant(vendor: VendorId, lease: LeaseId) -> Grant {
    grant_of(&write_body(vendor, lease), &issuer())
}

pub fn read_grant(vendor: VendorId) -> Grant {
    grant_of(
        &GrantBody {
            action: GrantAction::Read,
            ..write_body(vendor, LeaseId(0))
        },
        &issuer(),
    )
}

/// Bytes that differ from place to place and from seed to seed.
pub fn stored(plaintext: u64, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes = units::stored_bytes(plaintext);
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

pub fn copy(lease: u64, counter: u32) -> CopyId {
    CopyId {
        chunk: ChunkId {
            lease: LeaseId(lease),
            counter,
        },
        lease: LeaseId(lease),
    }
}

pub fn header(vendor: VendorId, copy: CopyId, plaintext_bytes: u64, pieces: u32) -> ChunkHeader {
    ChunkHeader {
        owner: SESSION,
        chunk: copy.chunk,
        route: vec![Hop {
            vendor,
            lease: copy.lease,
            grant: write_grant(vendor, copy.lease),
        }],
        pieces,
        plaintext_bytes,
        request_id: 1,
    }
}

pub fn parts(bytes: &Bytes, step: usize) -> ChunkParts {
    let mut list: Vec<Result<ChunkPart, ChunkRefusal>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + step);
        list.push(Ok(ChunkPart::Data(bytes.slice(at..end))));
        at = end;
    }
    list.push(Ok(ChunkPart::End(Digest::of(bytes))));
    futures::stream::iter(list).boxed()
}

pub fn check_receipts(agent: &Agent, signed: &SignedReceipts) -> ReceiptList {
    let key = ed25519_dalek::VerifyingKey::from_bytes(&agent.public_key().0).unwrap();
    let signature: [u8; 64] = signed.signature.0.as_ref().try_into().unwrap();
    key.verify_strict(
        &[RECEIPTS_CONTEXT, &signed.body].concat(),
        &ed25519_dalek::Signature::from_bytes(&signature),
    )
    .expect("receipts are signed by the vendor");
    codec::decode(&signed.body).unwrap()
}

/// Sends a chunk and returns its receipt.
pub async fn put(
    agent: &Arc<Agent>,
    copy: CopyId,
    bytes: &Bytes,
    plaintext: u64,
    pieces: u32,
) -> Result<Receipt, ChunkRefusal> {
    let vendor = agent.vendor().unwrap();
    let reports: Vec<HopReport> = agent
        .put_chunk(header(vendor, copy, plaintext, pieces), parts(bytes, 100_000))
        .await
        .collect()
        .await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    match reports.into_iter().next().unwrap() {
        HopReport::Stored { receipts, .. } => {
            let list = check_receipts(agent, &receipts);
            assert_eq!(
                (list.cluster, list.vendor, list.session),
                (CLUSTER, vendor, SESSION)
            );
            Ok(list
                .receipts
                .into_iter()
                .find(|receipt| receipt.copy == copy)
                .expect("the list names the copy"))
        }
        HopReport::Failed { refusal, .. } => Err(refusal),
    }
}

pub async fn put_ok(agent: &Arc<Agent>, copy: CopyId, plaintext: u64, pieces: u32) -> Receipt {
    let bytes = stored(plaintext, u64::from(copy.chunk.counter) + copy.lease.0 * 1000);
    put(agent, copy, &bytes, plaintext, pieces)
        .await
        .unwrap_or_else(|error| panic!("{copy}: {error}"))
}

/// Reads frames of a copy.
pub async fn read(
    agent: &Arc<Agent>,
    copy: CopyId,
    first_frame: u32,
    frames: u32,
) -> Result<Vec<u8>, ChunkRefusal> {
    let vendor = agent.vendor().unwrap();
    let request = ReadRequest {
        session: SESSION,
        grant: read_grant(vendor),
        copy,
        first_frame,
        frames,
        request_id: 2,
    };
    let mut stream = agent.read(request).await?;
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await {
        bytes.extend_from_slice(&part?);
    }
    Ok(bytes)
}

/// Reads a whole copy that [`put_ok`] stored and compares it.
pub async fn check_copy(agent: &Arc<Agent>, copy: CopyId, plaintext: u64) {
    let frames = units::frames(plaintext) as u32;
    let read = read(agent, copy, 0, frames)
        .await
        .unwrap_or_else(|error| panic!("{copy}: {error}"));
    let expected = stored(plaintext, u64::from(copy.chunk.counter) + copy.lease.0 * 1000);
    assert!(read == expected, "{copy} differs");
}

/// Bytes that a directory occupies, like du.
pub fn du(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let found = entry.metadata().unwrap();
        bytes += if found.is_dir() {
            du(&entry.path())
        } else {
            found.blocks() * 512
        };
    }
    bytes
}

/// Copies a directory that may be in use, as a power cut would leave it.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else if std::fs::copy(entry.path(), &target).is_err() {
            // A file of the index that was deleted, or a segment in the making that got its name, while the tree was
            // copied: nothing that was acknowledged before lies in it.
            let in_the_making = entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "tmp");
            assert!(
                from.ends_with("index") || in_the_making,
                "{}",
                entry.path().display()
            );
        }
    }
}

/// The segment files of a device, oldest first.
pub fn segments(device: &Path) -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = std::fs::read_dir(device.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    list.sort();
    list
}
