//! A vendor as it runs in the simulation: `ullage_vendor_agent`'s service on devices and an index in memory.

use crate::metad::count;
use crate::network::SimulatedNetwork;
use crate::plan::{Host, Plan, part};
use crate::raft::metad_addresses;
use crate::time::{HostClock, wall_clock};
use prometheus::Registry;
use rand::RngCore;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use ullage_model::ids::DeviceId;
use ullage_vendor_agent::device::Device;
use ullage_vendor_agent::device::memory::MemoryDevice;
use ullage_vendor_agent::local_fat::{IndexHome, MemoryIndex};
use ullage_vendor_agent::{Config, RunSeams, Workers, run as run_agent};

const PORT: u16 = 9320;
const DEVICES: u16 = 2;
const CAPACITY: u64 = 512 << 20;
const SEGMENT_BYTES: u64 = 4 << 20;

/// What a vendor needs to start, again and again.
#[derive(Clone)]
pub struct VendorHome {
    /// Which.
    pub number: usize,
    plan: Arc<Plan>,
    data: PathBuf,
    index: MemoryIndex,
    devices: Arc<Mutex<Vec<Arc<MemoryDevice>>>>,
    starts: Arc<Mutex<u64>>,
}

/// Where a vendor's join token is laid for it.
pub fn token_path(scratch: &Path, number: usize) -> PathBuf {
    scratch.join(format!("token-{number}"))
}

impl VendorHome {
    /// Vendor `number` with empty devices.
    pub fn new(number: usize, plan: &Arc<Plan>, scratch: &Path) -> Self {
        let devices =
            (1..=DEVICES).map(|id| Arc::new(MemoryDevice::new(DeviceId(id.into()), CAPACITY, SEGMENT_BYTES)));
        Self {
            number,
            plan: Arc::clone(plan),
            data: scratch.join(Host::Vendor(number).to_string()),
            index: MemoryIndex::default(),
            devices: Arc::new(Mutex::new(devices.collect())),
            starts: Arc::default(),
        }
    }

    /// What was not durable is lost.
    pub fn crash(&self) {
        self.index.crash();
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        for device in devices.iter_mut() {
            *device = Arc::new(device.restarted());
        }
    }
}

/// Runs it until it is killed.
pub async fn run(home: VendorHome) -> anyhow::Result<()> {
    let start = count(&home.starts);
    let name = Host::Vendor(home.number).to_string();
    let token = token_path(home.data.parent().unwrap_or(&home.data), home.number);
    while !token.exists() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::create_dir_all(&home.data)?;
    let random = Mutex::new(part(home.plan.seed, 100_000 * (home.number as u64 + 1) + start));
    let devices = home
        .devices
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let devices = devices
        .into_iter()
        .map(|device| ("ssd".to_owned(), device as Arc<dyn Device>));
    let config = Config {
        listen: format!("0.0.0.0:{PORT}"),
        advertise: format!("{name}:{PORT}"),
        admin_listen: format!("0.0.0.0:{}", PORT + 1),
        metad: metad_addresses(),
        join_token_file: Some(token),
        zone: name.clone(),
        scrub_rate: 0,
        ..Config::new(home.data.clone(), name, Vec::new())
    };
    let seams = RunSeams {
        network: Arc::new(SimulatedNetwork),
        clock: Arc::new(HostClock::starting(
            home.plan.drift_permille(Host::Vendor(home.number)),
        )),
        wall: wall_clock(),
        random: Arc::new(move || {
            let mut seed = [0; 32];
            random
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .fill_bytes(&mut seed);
            seed
        }),
        registry: Registry::new(),
        index: IndexHome::InMemory(home.index.clone()),
        devices: Some(devices.collect()),
        workers: Workers::Tasks {
            flush: Duration::from_millis(home.plan.sync_ms.1),
        },
        new_devices: None,
    };
    run_agent(config, seams, CancellationToken::new()).await?;
    Ok(())
}
