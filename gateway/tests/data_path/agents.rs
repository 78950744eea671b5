//! Vendor agents in memory that really store bytes, forward along the route and sign receipts, and that fail in
//! every way the gateway must cope with.

use crate::metad::CLUSTER;
use crate::random::Random;
use bytes::{Bytes, BytesMut};
use ed25519_dalek::{Signer, SigningKey};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use ullage_gateway::agent_client::{AgentClient, ChunkStream, Echo, ReportStream, StoredStream};
use ullage_model::codec;
use ullage_model::ids::{ChunkId, CopyId, DeviceId, Digest, LeaseId, SessionId, VendorId};
use ullage_model::limits::{FRAME_BYTES, FRAME_TAG_BYTES};
use ullage_model::units::{frames, room, stored_bytes};
use ullage_model::wire::chunk::{
    ChunkHeader, ChunkPart, ChunkRefusal, GrantAction, GrantBody, Hop, HopReport, PieceReceipt, PublicKey,
    RECEIPTS_CONTEXT, ReadRequest, Receipt, ReceiptList, Signature, SignedReceipts,
};

/// What goes wrong at a vendor next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The receipt names another digest.
    LyingDigest,
    /// The signature is not its own.
    WrongSignature,
    /// It takes the chunk and is never heard of again.
    Silent,
    /// Reports end in the middle.
    Cut,
    /// It refuses before a byte.
    Overloaded,
    /// It says that it has no room.
    Full,
    /// It stores, slowly.
    Slow,
    /// It stores, and cannot reach the next hop.
    BrokenLink,
    /// It stores, and passes on other bytes under the right digest.
    AltersBytes,
    /// It stores, and passes on other bytes with their own digest.
    AltersBytesAndDigest,
    /// It stores, and passes the chunk on under another name.
    AltersHeader,
    /// It stores, and changes what the next hop reports.
    AltersReports,
}

pub const WRITE_FAULTS: [Fault; 12] = [
    Fault::LyingDigest,
    Fault::WrongSignature,
    Fault::Silent,
    Fault::Cut,
    Fault::Overloaded,
    Fault::Full,
    Fault::Slow,
    Fault::BrokenLink,
    Fault::AltersBytes,
    Fault::AltersBytesAndDigest,
    Fault::AltersHeader,
    Fault::AltersReports,
];

#[derive(Debug)]
struct Agent {
    key: SigningKey,
    capacity: u64,
    copies: BTreeMap<CopyId, Bytes>,
    closed: BTreeSet<LeaseId>,
    used: BTreeMap<LeaseId, u64>,
    down: bool,
}

#[derive(Debug)]
pub struct Agents {
    by_key: Mutex<Vec<(PublicKey, Option<VendorId>)>>,
    agents: Mutex<BTreeMap<VendorId, Agent>>,
    fresh: Mutex<Vec<Agent>>,
    random: Random,
    /// Of 100 chunks, so many meet a fault.
    write_faults: Mutex<(u64, Vec<Fault>)>,
    /// Of 100 reads, so many go wrong.
    read_faults: Mutex<u64>,
    /// Only this vendor's chunks meet faults, if one is named.
    faulty: Mutex<Option<VendorId>>,
    /// Who was sent a chunk, with the hops its header still named.
    sent: Mutex<Vec<(VendorId, ChunkId, Vec<Hop>)>>,
    /// Vendors that take nothing and say nothing, as if they were stopped.
    stopped: Mutex<BTreeSet<VendorId>>,
    /// How often chunks were read.
    reads: AtomicU64,
    /// Probes that came, by vendor, with their times.
    probes: Mutex<Vec<(VendorId, tokio::time::Instant)>>,
}

impl Agents {
    pub fn new(vendors: usize, capacity: u64, seed: u64) -> Arc<Self> {
        let agent = |at: usize| Agent {
            key: SigningKey::from_bytes(&[at as u8 + 1; 32]),
            capacity,
            copies: BTreeMap::new(),
            closed: BTreeSet::new(),
            used: BTreeMap::new(),
            down: false,
        };
        Arc::new(Self {
            by_key: Mutex::default(),
            agents: Mutex::default(),
            fresh: Mutex::new((0..vendors).map(agent).collect()),
            random: Random::new(seed ^ 0x6167_656e),
            write_faults: Mutex::default(),
            read_faults: Mutex::default(),
            faulty: Mutex::default(),
            sent: Mutex::default(),
            stopped: Mutex::default(),
            reads: AtomicU64::new(0),
            probes: Mutex::default(),
        })
    }

    pub fn keys(&self) -> Vec<(PublicKey, u64)> {
        let key = |agent: &Agent| (PublicKey(agent.key.verifying_key().to_bytes()), agent.capacity);
        self.fresh.lock().unwrap().iter().map(key).collect()
    }

    pub fn named(&self, key: PublicKey, vendor: VendorId) {
        let mut fresh = self.fresh.lock().unwrap();
        let at = fresh
            .iter()
            .position(|agent| agent.key.verifying_key().to_bytes() == key.0)
            .unwrap();
        let agent = fresh.remove(at);
        self.agents.lock().unwrap().insert(vendor, agent);
        self.by_key.lock().unwrap().push((key, Some(vendor)));
    }

    pub fn vendors(&self) -> Vec<VendorId> {
        self.agents.lock().unwrap().keys().copied().collect()
    }

    pub fn set_write_faults(&self, percent: u64, faults: &[Fault]) {
        *self.write_faults.lock().unwrap() = (percent, faults.to_vec());
    }

    pub fn set_read_faults(&self, percent: u64) {
        *self.read_faults.lock().unwrap() = percent;
    }

    pub fn set_down(&self, vendor: VendorId, down: bool) {
        self.with(vendor, |agent| agent.down = down);
    }

    /// Flips a bit in every copy at `vendor`.
    pub fn damage_all(&self, vendor: VendorId) {
        self.with(vendor, |agent| {
            for bytes in agent.copies.values_mut() {
                let mut changed = BytesMut::from(&bytes[..]);
                let at = changed.len() / 2;
                changed[at] ^= 1;
                *bytes = changed.freeze();
            }
        });
    }

    pub fn copies(&self, vendor: VendorId) -> Vec<CopyId> {
        self.with(vendor, |agent| agent.copies.keys().copied().collect())
    }

    pub fn close(&self, vendor: VendorId, lease: LeaseId) -> Vec<CopyId> {
        self.with(vendor, |agent| {
            agent.closed.insert(lease);
            agent
                .copies
                .keys()
                .copied()
                .filter(|copy| copy.lease == lease)
                .collect()
        })
    }

    pub fn erase(&self, vendor: VendorId, copy: CopyId) {
        self.with(vendor, |agent| {
            agent.copies.remove(&copy);
        });
    }

    fn with<T>(&self, vendor: VendorId, change: impl FnOnce(&mut Agent) -> T) -> T {
        change(self.agents.lock().unwrap().get_mut(&vendor).unwrap())
    }

    /// Every chunk that `vendor` gets meets `fault`; other vendors are sound.
    pub fn set_faulty(&self, vendor: VendorId, fault: Fault) {
        *self.faulty.lock().unwrap() = Some(vendor);
        self.set_write_faults(100, &[fault]);
    }

    /// Every chunk that a vendor stored or refused, with the hops its header still named.
    pub fn sent(&self) -> Vec<(VendorId, ChunkId, Vec<VendorId>)> {
        let sent = self.sent.lock().unwrap();
        let hops = |route: &[Hop]| route.iter().map(|hop| hop.vendor).collect();
        sent.iter()
            .map(|(vendor, chunk, route)| (*vendor, *chunk, hops(route)))
            .collect()
    }

    /// How often chunks were read so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// From now on `vendor` takes nothing and says nothing.
    pub fn set_stopped(&self, vendor: VendorId, stopped: bool) {
        let mut all = self.stopped.lock().unwrap();
        if stopped {
            all.insert(vendor);
        } else {
            all.remove(&vendor);
        }
    }

    /// Times at which `vendor` was probed.
    pub fn probes(&self, vendor: VendorId) -> Vec<tokio::time::Instant> {
        let probes = self.probes.lock().unwrap();
        let of = probes.iter().filter(|(probed, _)| *probed == vendor);
        of.map(|(_, at)| *at).collect()
    }

    /// Stands still as long as `vendor` is stopped.
    pub async fn stand_still(&self, vendor: VendorId) {
        while self.stopped.lock().unwrap().contains(&vendor) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn write_fault(&self, vendor: VendorId) -> Option<Fault> {
        let faulty = *self.faulty.lock().unwrap();
        if faulty.is_some_and(|faulty| faulty != vendor) {
            return None;
        }
        let faults = self.write_faults.lock().unwrap();
        if !self.random.percent(faults.0) {
            return None;
        }
        let at = self.random.below(faults.1.len() as u64) as usize;
        faults.1.get(at).copied()
    }

    /// Takes a whole chunk at `vendor`, then at the hops behind it.
    fn take(
        self: Arc<Self>,
        vendor: VendorId,
        mut header: ChunkHeader,
        parts: Vec<ChunkPart>,
        reports: mpsc::UnboundedSender<HopReport>,
    ) -> BoxFuture<'static, ()> {
        async move {
            self.stand_still(vendor).await;
            let fault = self.write_fault(vendor);
            let own = header.route.remove(0);
            assert_eq!(own.vendor, vendor, "the first hop of a route is its receiver");
            tokio::time::sleep(Duration::from_millis(1 + self.random.below(4))).await;
            match fault {
                Some(Fault::Silent) => std::future::pending().await,
                Some(Fault::Cut) => return,
                Some(Fault::Slow) => tokio::time::sleep(Duration::from_secs(3)).await,
                _ => {}
            }
            let failed = |vendor, from, refusal| HopReport::Failed {
                vendor,
                from,
                refusal,
            };
            match self.store(vendor, &own.grant.body, &header, own.lease, &parts, fault) {
                Ok(receipts) => drop(reports.send(HopReport::Stored { vendor, receipts })),
                Err(refusal) => drop(reports.send(failed(vendor, None, refusal))),
            }
            let Some(next) = header.route.first().map(|hop| hop.vendor) else {
                return;
            };
            if fault == Some(Fault::BrokenLink) {
                let refusal = ChunkRefusal::Link("broken".to_owned());
                drop(reports.send(failed(next, Some(vendor), refusal)));
                return;
            }
            let (parts, reports) = alter(fault, &mut header, parts, reports);
            Arc::clone(&self).take(next, header, parts, reports).await;
        }
        .boxed()
    }

    fn store(
        &self,
        vendor: VendorId,
        grant: &Bytes,
        header: &ChunkHeader,
        lease: LeaseId,
        parts: &[ChunkPart],
        fault: Option<Fault>,
    ) -> Result<SignedReceipts, ChunkRefusal> {
        let needed = room(header.plaintext_bytes, header.pieces);
        self.sent
            .lock()
            .unwrap()
            .push((vendor, header.chunk, header.route.clone()));
        match fault {
            Some(Fault::Overloaded) => return Err(ChunkRefusal::Overloaded),
            Some(Fault::Full) => return Err(ChunkRefusal::Full { needed }),
            _ => {}
        }
        let grant: GrantBody = codec::decode(grant).unwrap();
        assert_eq!((grant.vendor, grant.session), (vendor, header.owner));
        let GrantAction::Write {
            lease: granted,
            bytes: cap,
            ..
        } = grant.action
        else {
            panic!("no write grant")
        };
        assert_eq!(granted, lease);
        let mut stored = BytesMut::new();
        for part in parts {
            match part {
                ChunkPart::Data(bytes) => stored.extend_from_slice(bytes),
                ChunkPart::End(digest) if Digest::of(&stored) != *digest => {
                    return Err(ChunkRefusal::Damaged);
                }
                ChunkPart::End(_) => {}
            }
        }
        assert_eq!(stored.len() as u64, stored_bytes(header.plaintext_bytes));
        let stored = stored.freeze();
        let copy = CopyId {
            chunk: header.chunk,
            lease,
        };
        let mut agents = self.agents.lock().unwrap();
        let agent = agents.get_mut(&vendor).unwrap();
        if agent.down {
            return Err(ChunkRefusal::Link("down".to_owned()));
        }
        if agent.closed.contains(&lease) {
            return Err(ChunkRefusal::LeaseClosed(lease));
        }
        match agent.copies.get(&copy) {
            // The same again gets the same answer.
            Some(before) if *before == stored => {}
            Some(_) => return Err(ChunkRefusal::Header("was here before".to_owned())),
            None => {
                let used = agent.used.entry(lease).or_default();
                *used += needed;
                assert!(*used <= cap, "the gateway kept to its grant: {used} of {cap}");
                agent.copies.insert(copy, stored.clone());
            }
        }
        let mut receipt = receipt(copy, &stored, header);
        if fault == Some(Fault::LyingDigest) {
            receipt.digest.0[0] ^= 1;
        }
        let forger = SigningKey::from_bytes(&[99; 32]);
        let key = if fault == Some(Fault::WrongSignature) {
            &forger
        } else {
            &agent.key
        };
        Ok(sign(key, vendor, header.owner, receipt))
    }

    fn read_now(&self, vendor: VendorId, request: &ReadRequest) -> Result<Bytes, ChunkRefusal> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let grant: GrantBody = codec::decode(&request.grant.body).unwrap();
        assert_eq!((grant.vendor, grant.session), (vendor, request.session));
        assert_eq!(grant.action, GrantAction::Read);
        self.with(vendor, |agent| {
            if agent.down {
                return Err(ChunkRefusal::Link("down".to_owned()));
            }
            let stored = agent
                .copies
                .get(&request.copy)
                .ok_or(ChunkRefusal::NotFound(request.copy))?;
            let frame = (FRAME_BYTES + FRAME_TAG_BYTES) as usize;
            let start = request.first_frame as usize * frame;
            let end = (start + request.frames as usize * frame).min(stored.len());
            assert!(request.frames > 0 && start < end);
            Ok(stored.slice(start..end))
        })
    }
}

/// What a hop that is not to be trusted makes of a chunk and its reports on their ways.
fn alter(
    fault: Option<Fault>,
    header: &mut ChunkHeader,
    mut parts: Vec<ChunkPart>,
    reports: mpsc::UnboundedSender<HopReport>,
) -> (Vec<ChunkPart>, mpsc::UnboundedSender<HopReport>) {
    if matches!(fault, Some(Fault::AltersBytes | Fault::AltersBytesAndDigest)) {
        let mut all = BytesMut::new();
        let mut end = None;
        for part in &parts {
            match part {
                ChunkPart::Data(bytes) => all.extend_from_slice(bytes),
                ChunkPart::End(digest) => end = Some(*digest),
            }
        }
        all[0] ^= 1;
        let digest = match fault {
            Some(Fault::AltersBytes) => end.unwrap(),
            _ => Digest::of(&all),
        };
        parts = vec![ChunkPart::Data(all.freeze()), ChunkPart::End(digest)];
    }
    match fault {
        Some(Fault::AltersHeader) => header.chunk.counter ^= 1 << 30,
        Some(Fault::AltersReports) => {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                while let Some(mut report) = receiver.recv().await {
                    if let HopReport::Stored { receipts, .. } = &mut report {
                        let mut body = BytesMut::from(&receipts.body[..]);
                        let last = body.len() - 1;
                        body[last] ^= 1;
                        receipts.body = body.freeze();
                    }
                    drop(reports.send(report));
                }
            });
            return (parts, sender);
        }
        _ => {}
    }
    (parts, reports)
}

fn receipt(copy: CopyId, stored: &Bytes, header: &ChunkHeader) -> Receipt {
    let frames = u32::try_from(frames(header.plaintext_bytes)).unwrap();
    let count = header.pieces.min(frames);
    let mut pieces = Vec::new();
    let mut first_frame = 0;
    for piece in 0..count {
        let frames = (frames - first_frame) / (count - piece);
        let device = DeviceId(piece % 2);
        pieces.push(PieceReceipt {
            device,
            first_frame,
            frames,
        });
        first_frame += frames;
    }
    Receipt {
        copy,
        digest: Digest::of(stored),
        plaintext_bytes: header.plaintext_bytes,
        pieces,
    }
}

fn sign(key: &SigningKey, vendor: VendorId, session: SessionId, receipt: Receipt) -> SignedReceipts {
    let body = codec::encode(&ReceiptList {
        cluster: CLUSTER,
        vendor,
        session,
        receipts: vec![receipt],
    });
    let signature = key.sign(&[RECEIPTS_CONTEXT, &body].concat());
    SignedReceipts {
        body,
        signature: Signature(Bytes::copy_from_slice(&signature.to_bytes())),
    }
}

/// The agents as a gateway reaches them.
#[derive(Debug)]
pub struct Reached(pub Arc<Agents>);

impl AgentClient for Reached {
    fn probe(&self, to: VendorId) -> Option<BoxFuture<'static, Result<Echo, ChunkRefusal>>> {
        let agents = Arc::clone(&self.0);
        let probe = async move {
            agents
                .probes
                .lock()
                .unwrap()
                .push((to, tokio::time::Instant::now()));
            if agents.with(to, |agent| agent.down) {
                tokio::time::sleep(Duration::from_secs(4)).await;
                return Err(ChunkRefusal::Link("down".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(to.0)).await;
            Ok(Echo {
                round_trip: Duration::from_millis(to.0),
                hops: Some(u8::try_from(to.0).unwrap()),
                lost: 0,
            })
        };
        Some(probe.boxed())
    }

    fn put_chunk(
        &self,
        to: VendorId,
        header: ChunkHeader,
        mut parts: ChunkStream,
    ) -> BoxFuture<'static, Result<ReportStream, ChunkRefusal>> {
        let agents = Arc::clone(&self.0);
        async move {
            if agents.with(to, |agent| agent.down) {
                return Err(ChunkRefusal::Link("down".to_owned()));
            }
            let mut taken = Vec::new();
            agents.stand_still(to).await;
            while let Some(part) = parts.next().await {
                agents.stand_still(to).await;
                taken.push(part?);
            }
            let (sender, receiver) = mpsc::unbounded_channel();
            // Goes on when the gateway has given up, as a real agent may.
            tokio::spawn(agents.take(to, header, taken, sender));
            let reports = stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|report| (report, receiver))
            });
            Ok(reports.boxed())
        }
        .boxed()
    }

    fn read(
        &self,
        to: VendorId,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<StoredStream, ChunkRefusal>> {
        let agents = Arc::clone(&self.0);
        async move {
            agents.stand_still(to).await;
            tokio::time::sleep(Duration::from_millis(agents.random.below(3))).await;
            let mut bytes = agents.read_now(to, &request)?;
            let faults = *agents.read_faults.lock().unwrap();
            if agents.random.percent(faults) {
                match agents.random.below(5) {
                    0 => return Err(ChunkRefusal::NotReady),
                    1 => std::future::pending().await,
                    2 => bytes = bytes.slice(..bytes.len() / 2),
                    3 => tokio::time::sleep(Duration::from_secs(2)).await,
                    _ => {
                        let mut changed = BytesMut::from(&bytes[..]);
                        let at = agents.random.below(changed.len() as u64) as usize;
                        changed[at] ^= 4;
                        bytes = changed.freeze();
                    }
                }
            }
            let step = 1 + agents.random.below(80_000) as usize;
            let pieces: Vec<_> = (0..bytes.len().div_ceil(step))
                .map(|at| Ok(bytes.slice(at * step..bytes.len().min((at + 1) * step))))
                .collect();
            Ok(stream::iter(pieces).boxed())
        }
        .boxed()
    }
}
