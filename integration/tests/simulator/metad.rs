//! A metadata node as it runs in the simulation: `ullage_metad::server` on a simulated disk.

use crate::network::SimulatedNetwork;
use crate::plan::{Host, Plan, part};
use crate::raft::{PORT, authority, metad_addresses};
use crate::time::{HostClock, wall_clock};
use prometheus::Registry;
use rand::RngCore;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use ullage_metad::config::{MetadFile, RaftSection, VendorsSection};
use ullage_metad::server::{Node, Seams};
use ullage_metad::service::Metad;
use ullage_metad::store::{Budget, DataDirectory, MemoryDisk};

/// What a node needs to start, again and again.
#[derive(Clone)]
pub struct MetadHome {
    /// Which.
    pub number: usize,
    /// What survives it.
    pub disk: MemoryDisk,
    plan: Arc<Plan>,
    running: Arc<Mutex<Weak<Metad>>>,
    starts: Arc<Mutex<u64>>,
}

impl MetadHome {
    /// Node `number` on `disk`.
    pub fn new(number: usize, plan: &Arc<Plan>, disk: MemoryDisk) -> Self {
        Self {
            number,
            disk,
            plan: Arc::clone(plan),
            running: Arc::default(),
            starts: Arc::default(),
        }
    }

    /// The node, if it runs.
    pub fn metad(&self) -> Option<Arc<Metad>> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade()
    }
}

/// How often a host has been started, this time included.
pub fn count(starts: &Mutex<u64>) -> u64 {
    let mut starts = starts.lock().unwrap_or_else(PoisonError::into_inner);
    *starts += 1;
    *starts
}

/// Runs it until it is killed.
pub async fn run(home: MetadHome) -> anyhow::Result<()> {
    let start = count(&home.starts);
    let mut random = part(home.plan.seed, 1_000 * (home.number as u64 + 1) + start);
    let data = DataDirectory::open_member_in_memory(&home.disk, 0, &mut |bytes| random.fill_bytes(bytes))?;
    let addresses = metad_addresses();
    let file = MetadFile {
        data: data.path().to_path_buf(),
        listen: format!("0.0.0.0:{PORT}"),
        advertise: Some(addresses[home.number].clone()),
        admin_listen: format!("0.0.0.0:{}", PORT + 1),
        peers: addresses,
        // The authority is given instead.
        cluster_secret_file: PathBuf::new(),
        raft: RaftSection {
            snapshot_after_bytes: Some(home.plan.log_bytes.0),
            keep_log_bytes: Some(home.plan.log_bytes.1),
            ..RaftSection::default()
        },
        vendors: VendorsSection::default(),
    };
    let seams = Seams {
        network: Arc::new(SimulatedNetwork),
        clock: Arc::new(HostClock::starting(
            home.plan.drift_permille(Host::Metad(home.number)),
        )),
        wall: wall_clock(),
        raft_seed: Some(random.next_u64()),
        random: Box::new(random),
        budget: Some(Budget::new(1 << 20, 1 << 20)),
        data: Some(data),
        registry: Registry::new(),
    };
    let node = Node::start_trusting(&file, Arc::new(authority()?), seams).await?;
    *home.running.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(node.metad());
    std::future::pending().await
}
