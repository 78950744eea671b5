//! A real metadata node with a vendor and a gateway of the test's own: the vendor keeps names of copies
//! instead of bytes, the gateway sends no bytes. Nothing here checks anything but replies it needs.

#![allow(dead_code, reason = "each user takes a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ullage_metad::clock::Clock;
use ullage_metad::config::MetadConfig;
use ullage_metad::service::{DEFAULT_CLASS, Metad};
use ullage_metad::store::Budget;
use ullage_model::cluster_time::{ClusterTime, WallTime};
use ullage_model::codec;
use ullage_model::command::{
    Actor, Body, BucketRef, Command, Conditions, DeleteObject, FinalizeObject, Reply, SessionCommand,
    SliceCommand,
};
use ullage_model::fat::rows::{ChunkRow, CopyRow, CopyState, RoomRow};
use ullage_model::ids::{
    BlobId, ChunkId, CopyId, DeviceId, Digest, KekId, LeaseId, SessionId, UserId, VendorId,
};
use ullage_model::invariants;
use ullage_model::namespace::rows::{Etag, Metadata, WrappedKey};
use ullage_model::store::{Change, Column, Direction, KeyRange, Memory, Read};
use ullage_model::wire::agent::{
    Characteristics, CommandOutcome, DeviceReport, DeviceState, ERASED_CONTEXT, ErasedList, Heartbeat,
    HeartbeatReply, JudgeRequest, Judgement, RegisterRequest,
};
use ullage_model::wire::chunk::{PublicKey, Signature};
use ullage_model::wire::metad::{
    AllocateRequest, Answer, MetadError, OpenSessionRequest, ProvisionalFat, Query, RenewSessionRequest,
    SubmitRequest,
};

pub const ROOT: Actor = Actor {
    user: UserId(0),
    settings_version: 0,
};
pub const GIB: u64 = 1 << 30;
pub const HDD: &str = "hdd";
/// Longest wait for what the leader does by itself.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A clock that the test can put forward.
#[derive(Debug)]
pub struct TestClock {
    began: Instant,
    forward_ms: AtomicU64,
}

impl Default for TestClock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            forward_ms: AtomicU64::new(0),
        }
    }
}

impl TestClock {
    pub fn forward(&self, ms: u64) {
        self.forward_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Duration {
        self.began.elapsed() + Duration::from_millis(self.forward_ms.load(Ordering::SeqCst))
    }
}

/// A running node.
pub struct Node {
    pub metad: Arc<Metad>,
    pub registry: Registry,
    pub clock: Arc<TestClock>,
}

impl Node {
    /// Starts the node in `home` with quick ticks.
    pub async fn start(home: &Path) -> Self {
        Self::start_with(home, |_| ()).await
    }

    pub async fn start_with(home: &Path, change: impl FnOnce(&mut MetadConfig)) -> Self {
        let mut config = MetadConfig::new(home.to_path_buf());
        config.tick_ms = 20;
        config.free_mark_bytes = 0;
        config.ballast_bytes = 0;
        change(&mut config);
        let registry = Registry::new();
        let clock = Arc::new(TestClock::default());
        let budget = Budget::new(32 << 20, 64 << 20).with_recent_rows(1 << 20);
        let mut random = StdRng::seed_from_u64(7);
        let metad = Metad::start(
            config,
            budget,
            &registry,
            Arc::<TestClock>::clone(&clock),
            &mut random,
        )
        .await
        .expect("the node starts");
        Self {
            metad,
            registry,
            clock,
        }
    }

    /// Stops the node, which nobody may hold any more, after a look at all that must hold.
    pub async fn stop(self, home: &Path) {
        self.metad.shutdown().await;
        check(home);
    }

    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name)?;
        let metric = family.get_metric().iter().find(|metric| {
            let values: Vec<&str> = metric.get_label().iter().map(|label| label.value()).collect();
            labels.iter().all(|label| values.contains(label))
        })?;
        Some(metric.get_gauge().get_value() + metric.get_counter().get_value())
    }

    pub async fn vendors(&self) -> Vec<(VendorId, ullage_model::fat::rows::VendorState, RoomRow)> {
        match self.ask(Query::Vendors).await {
            Answer::Vendors(vendors) => vendors
                .into_iter()
                .map(|(row, rooms)| {
                    let room = rooms.into_iter().find(|(class, _)| class == HDD);
                    (
                        row.vendor,
                        row.state,
                        room.map(|(_, room)| room).unwrap_or_default(),
                    )
                })
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn room(&self, vendor: VendorId) -> RoomRow {
        let vendors = self.vendors().await;
        vendors
            .into_iter()
            .find(|row| row.0 == vendor)
            .expect("it is there")
            .2
    }

    pub async fn ask(&self, query: Query) -> Answer {
        self.metad.query(query).await.expect("an answer").answer
    }

    /// Advances cluster time by so much at once.
    pub async fn pass(&self, ms: u64) {
        let now = self.metad.status().expect("status").cluster_time;
        let tick = Command::Tick { to: now.plus(ms) };
        assert_eq!(self.metad.operate(tick).await, Ok(Reply::Done));
    }

    pub fn cluster_time(&self) -> ClusterTime {
        self.metad.status().expect("status").cluster_time
    }
}

/// Waits until `holds`; the leader's duties need no asking.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Opens the state of a stopped node and checks everything that must hold of it.
pub fn check(home: &Path) {
    let rows = rows(home);
    if let Err(error) = invariants::check(&rows) {
        panic!("{error}");
    }
}

/// All rows of a stopped node.
pub fn rows(home: &Path) -> Memory {
    use ullage_metad::store::{States, Steps};
    let states = States::open(
        &home.join("state"),
        &Budget::new(8 << 20, 8 << 20),
        Steps::default(),
        ullage_metad::raft::RAFT_ROWS,
    )
    .expect("the state opens");
    let state = states.current();
    let mut rows = Memory::default();
    for column in Column::ALL {
        state
            .scan(column, &KeyRange::all(), Direction::Forward, &mut |key, value| {
                rows.apply([Change {
                    column,
                    key: Bytes::copy_from_slice(key),
                    value: Some(Bytes::copy_from_slice(value)),
                }]);
                std::ops::ControlFlow::Continue(())
            })
            .expect("readable");
    }
    rows
}

/// A vendor that keeps names of copies.
pub struct Vendor {
    pub id: VendorId,
    pub capacity: u64,
    key: SigningKey,
    pub held: Mutex<BTreeSet<CopyId>>,
    pub outcomes: Mutex<Vec<CommandOutcome>>,
    pub closed: Mutex<BTreeSet<LeaseId>>,
    cluster: ullage_model::ids::ClusterId,
}

impl Vendor {
    pub async fn register(node: &Node, name: &str, capacity: u64) -> Arc<Self> {
        let mut seed = [0; 32];
        StdRng::seed_from_u64(name.bytes().map(u64::from).sum()).fill_bytes(&mut seed);
        let key = SigningKey::from_bytes(&seed);
        let request = RegisterRequest {
            public_key: PublicKey(key.verifying_key().to_bytes()),
            name: name.to_owned(),
            characteristics: Characteristics::default(),
            devices: vec![device(capacity)],
        };
        let reply = node.metad.register(request).await.expect("registered");
        Arc::new(Self {
            id: reply.vendor,
            capacity,
            key,
            held: Mutex::default(),
            outcomes: Mutex::default(),
            closed: Mutex::default(),
            cluster: reply.cluster,
        })
    }

    /// Reports, with all outcomes not taken yet; does nothing of what is ordered.
    pub async fn report(&self, node: &Node) -> Result<HeartbeatReply, MetadError> {
        let outcomes: Vec<CommandOutcome> = self.outcomes.lock().unwrap().clone();
        let taken = outcomes.len();
        let heartbeat = Heartbeat {
            vendor: self.id,
            devices: vec![device(self.capacity)],
            in_flight_bytes: 0,
            outcomes,
            damaged: Vec::new(),
            found: Vec::new(),
            directory: 0,
        };
        let reply = node.metad.heartbeat(heartbeat).await?;
        self.outcomes.lock().unwrap().drain(..taken);
        Ok(reply)
    }

    /// Reports and does what is ordered; the outcomes go with the next report. How much there was to do.
    pub async fn heartbeat(&self, node: &Node) -> usize {
        let reply = self.report(node).await.expect("a reply");
        for lease in &reply.close {
            self.close(node, *lease).await;
        }
        if !reply.erase.is_empty() {
            let mut held = self.held.lock().unwrap();
            for copy in &reply.erase {
                held.remove(copy);
            }
            drop(held);
            let signed = self.erased(reply.erase.clone());
            self.outcomes.lock().unwrap().push(signed);
        }
        reply.close.len() + reply.erase.len()
    }

    /// Closes a lease as an agent does: what is placed under it is judged first.
    async fn close(&self, node: &Node, lease: LeaseId) {
        self.closed.lock().unwrap().insert(lease);
        let copies: Vec<CopyId> = {
            let held = self.held.lock().unwrap();
            held.iter().filter(|copy| copy.lease == lease).copied().collect()
        };
        for copies in copies.chunks(512) {
            let copies = copies.to_vec();
            let request = JudgeRequest {
                vendor: self.id,
                copies: copies.clone(),
            };
            let judged = node.metad.judge(request).await.expect("judged").judgements;
            let mut held = self.held.lock().unwrap();
            for (copy, judgement) in copies.iter().zip(judged) {
                assert_ne!(judgement, Judgement::Undecided, "the lease is closed");
                if judgement == Judgement::Erase {
                    held.remove(copy);
                }
            }
        }
        self.outcomes
            .lock()
            .unwrap()
            .push(CommandOutcome::LeaseClosed { lease });
    }

    pub fn erased(&self, copies: Vec<CopyId>) -> CommandOutcome {
        let list = ErasedList {
            cluster: self.cluster,
            vendor: self.id,
            copies: copies.clone(),
        };
        let signed = [ERASED_CONTEXT, &codec::encode(&list)].concat();
        let signature = Signature(Bytes::copy_from_slice(&self.key.sign(&signed).to_bytes()));
        CommandOutcome::Erased { copies, signature }
    }
}

pub fn device(capacity: u64) -> DeviceReport {
    DeviceReport {
        device: DeviceId(0),
        class: HDD.to_owned(),
        capacity,
        free: capacity,
        state: DeviceState::Healthy,
    }
}

/// A gateway's session.
pub struct Gateway {
    pub session: SessionId,
    pub bucket: BucketRef,
    sequence: AtomicU64,
    blobs: AtomicU64,
    chunks: AtomicU64,
}

pub fn opening(kek: u64, value: &'static str) -> OpenSessionRequest {
    OpenSessionRequest {
        gateway: "gateway".to_owned(),
        kek: KekId(kek),
        kek_value: Bytes::from(value),
    }
}

impl Gateway {
    /// Opens a session; the bucket `first` is made if it is not there.
    pub async fn open(node: &Node) -> Arc<Self> {
        let opened = node
            .metad
            .open_session(opening(1, "check"))
            .await
            .expect("a session");
        let mut gateway = Self {
            session: opened.session,
            bucket: BucketRef {
                bucket: ullage_model::ids::BucketId(0),
                settings_version: 0,
            },
            sequence: AtomicU64::new(0),
            blobs: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
        };
        let create = SessionCommand::CreateBucket {
            actor: ROOT,
            name: "first".to_owned(),
            region: "us-east-1".to_owned(),
            access: ullage_model::namespace::rows::BucketAccess::default(),
            now: WallTime(1),
        };
        if !matches!(
            node.ask(Query::Bucket("first".to_owned())).await,
            Answer::Bucket(Some(_))
        ) {
            gateway.submit(node, create).await.expect("a bucket");
        }
        match node.ask(Query::Bucket("first".to_owned())).await {
            Answer::Bucket(Some(found)) => {
                gateway.bucket = BucketRef {
                    bucket: found.row.bucket,
                    settings_version: found.row.settings_version,
                }
            }
            other => panic!("{other:?}"),
        }
        Arc::new(gateway)
    }

    pub fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst)
    }

    /// Submits under the next sequence; answers the reply with its index.
    pub async fn submit_indexed(
        &self,
        node: &Node,
        command: SessionCommand,
    ) -> Result<(u64, Reply), MetadError> {
        let request = SubmitRequest {
            session: self.session,
            sequence: self.next_sequence(),
            command,
        };
        let reply = node.metad.submit(request).await?;
        Ok((reply.index, reply.reply))
    }

    pub async fn submit(&self, node: &Node, command: SessionCommand) -> Result<Reply, MetadError> {
        Ok(self.submit_indexed(node, command).await?.1)
    }

    pub fn asking(&self, bytes: u64) -> AllocateRequest {
        AllocateRequest {
            session: self.session,
            sequence: self.next_sequence(),
            class: DEFAULT_CLASS.to_owned(),
            bytes,
            least_bytes: bytes,
            avoid: Vec::new(),
        }
    }

    pub async fn allocate(&self, node: &Node, bytes: u64) -> ProvisionalFat {
        node.metad.allocate(self.asking(bytes)).await.expect("room")
    }

    /// Says that the session lives and has seen everything up to `observed_index`.
    pub async fn renew(
        &self,
        node: &Node,
        observed_index: u64,
    ) -> Result<ullage_model::wire::metad::RenewSessionReply, MetadError> {
        node.metad
            .renew_session(RenewSessionRequest {
                session: self.session,
                acknowledged_below: self.sequence.load(Ordering::SeqCst),
                observed_index,
            })
            .await
    }

    pub fn blob(&self) -> BlobId {
        BlobId {
            session: self.session,
            counter: self.blobs.fetch_add(1, Ordering::SeqCst),
        }
    }

    /// A chunk row with a copy at each of `vendors`, which hold it from now on.
    pub fn chunk(&self, lease: LeaseId, plaintext_bytes: u64, vendors: &[&Vendor]) -> ChunkRow {
        let counter = u32::try_from(self.chunks.fetch_add(1, Ordering::SeqCst)).expect("few chunks");
        let chunk = ChunkId { lease, counter };
        let copy = |vendor: &&Vendor| {
            vendor.held.lock().unwrap().insert(CopyId { chunk, lease });
            CopyRow {
                vendor: vendor.id,
                lease,
                device_class: HDD.to_owned(),
                pieces: 1,
                score: 500,
                state: CopyState::Good,
            }
        };
        ChunkRow {
            chunk,
            plaintext_bytes,
            digest: Digest::of(&counter.to_be_bytes()),
            copies: vendors.iter().map(copy).collect(),
        }
    }

    pub async fn class(&self, node: &Node) -> (String, u64) {
        match node.ask(Query::Classes).await {
            Answer::Classes(classes) => (DEFAULT_CLASS.to_owned(), classes[0].settings_version),
            other => panic!("{other:?}"),
        }
    }

    pub fn slice(blob: BlobId, first: u32, chunks: Vec<ChunkRow>, class: (String, u64)) -> SessionCommand {
        SessionCommand::Slice(SliceCommand {
            blob,
            first,
            chunk_bytes: chunks[0].plaintext_bytes,
            chunks,
            class,
        })
    }

    pub fn finalize(&self, key: &str, body: Body) -> SessionCommand {
        SessionCommand::FinalizeObject(FinalizeObject {
            actor: ROOT,
            bucket: self.bucket,
            key: key.to_owned(),
            conditions: Conditions::default(),
            random: 5,
            now: WallTime(2),
            etag: Etag::Md5([1; 16]),
            checksum: None,
            class: DEFAULT_CLASS.to_owned(),
            metadata: Metadata::default(),
            body,
        })
    }

    /// The last chunks, from index `first` on, of a body of `bytes` in chunks of `chunk_bytes`.
    pub fn body(
        blob: BlobId,
        (bytes, chunk_bytes): (u64, u64),
        first: u32,
        chunks: Vec<ChunkRow>,
        class: (String, u64),
    ) -> Body {
        Body::Chunks {
            blob,
            plaintext_bytes: bytes,
            chunk_bytes,
            first,
            chunks,
            key: wrapped(),
            class,
        }
    }

    /// Stores an object of one chunk.
    pub async fn put(&self, node: &Node, key: &str, lease: LeaseId, vendors: &[&Vendor]) {
        let bytes = 1 << 20;
        let chunk = self.chunk(lease, bytes, vendors);
        let body = Self::body(
            self.blob(),
            (bytes, bytes),
            0,
            vec![chunk],
            self.class(node).await,
        );
        let reply = self.submit(node, self.finalize(key, body)).await;
        assert!(matches!(reply, Ok(Reply::Stored { .. })), "{reply:?}");
    }

    /// Stores an inlined object.
    pub async fn put_inline(&self, node: &Node, key: &str) -> Result<Reply, MetadError> {
        let body = Body::Inline {
            blob: self.blob(),
            plaintext_bytes: 100,
            sealed: Bytes::from(vec![1; 116]),
            key: wrapped(),
        };
        self.submit(node, self.finalize(key, body)).await
    }

    pub fn deletion(&self, key: &str) -> SessionCommand {
        SessionCommand::DeleteObject(DeleteObject {
            actor: ROOT,
            bucket: self.bucket,
            key: key.to_owned(),
            version: None,
            conditions: Conditions::default(),
            random: 0,
            now: WallTime(0),
        })
    }

    /// Deletes an object; the index at which it went.
    pub async fn delete(&self, node: &Node, key: &str) -> u64 {
        let (index, reply) = self
            .submit_indexed(node, self.deletion(key))
            .await
            .expect("deleted");
        assert!(matches!(reply, Reply::Deleted { existed: true, .. }), "{reply:?}");
        index
    }
}

fn wrapped() -> WrappedKey {
    WrappedKey {
        kek: KekId(1),
        bytes: Bytes::from_static(b"wrapped"),
    }
}
