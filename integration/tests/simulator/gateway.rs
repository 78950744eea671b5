//! A gateway as it runs in the simulation, with its clients: the data path on its session and connections. What
//! lies in front of it, S3 over HTTP, is not simulated.

use crate::history::History;
use crate::linearizability::{Action, Condition};
use crate::metad::count;
use crate::network::SimulatedNetwork;
use crate::plan::{GATEWAYS, Host, Plan, VENDORS, part};
use crate::raft::metad_addresses;
use crate::stage::{Mark, Phase, Stage};
use crate::time::{HostClock, SeededRandomness};
use crate::traffic::{BUCKET, Client, ROOT, body_of};
use crate::vendor::token_path;
use anyhow::Context;
use prometheus::Registry;
use rand::RngCore;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use ullage_gateway::directory::{Bucket, bucket_ref};
use ullage_gateway::error::Error;
use ullage_gateway::instance::Instance;
use ullage_gateway::kek::Kek;
use ullage_gateway::metad_client::MetadClient;
use ullage_gateway::metrics::Metrics;
use ullage_gateway::store::{Store, StoreParts};
use ullage_gateway::{Connected, Seams, connect};
use ullage_model::fat::rows::VendorState;
use ullage_model::limits::INLINE_BYTES_MAX;
use ullage_model::namespace::rows::Versioning;
use ullage_model::rejection::Rejection;
use ullage_model::wire::enrol::{INVITE_MS_DEFAULT, InviteRequest};
use ullage_model::wire::metad::VendorInfo;
use ullage_transport::authority::ClusterSecret;

/// Clients of each gateway.
const CLIENTS: usize = 3;
const LOOK: Duration = Duration::from_millis(100);
/// Memory for bodies, in bytes.
const UPLOAD_MEMORY: u64 = 64 << 20;

/// What a gateway needs to start, again and again.
#[derive(Clone)]
pub struct GatewayHome {
    /// Which.
    pub number: usize,
    plan: Arc<Plan>,
    stage: Stage,
    history: History,
    scratch: PathBuf,
    starts: Arc<Mutex<u64>>,
}

impl GatewayHome {
    /// Gateway `number`.
    pub fn new(number: usize, plan: &Arc<Plan>, stage: &Stage, history: &History, scratch: &Path) -> Self {
        Self {
            number,
            plan: Arc::clone(plan),
            stage: stage.clone(),
            history: history.clone(),
            scratch: scratch.to_path_buf(),
            starts: Arc::default(),
        }
    }

    fn trouble(&self, what: &str, error: &dyn std::fmt::Display) {
        let now = self.history.now_ms();
        self.stage
            .trouble(format!("{now} {}: {what}: {error}", Host::Gateway(self.number)));
    }
}

/// Runs it until it is killed.
pub async fn run(home: GatewayHome) -> anyhow::Result<()> {
    let start = count(&home.starts);
    let mut random = part(home.plan.seed, 10_000 * (home.number as u64 + 1) + start);
    let seams = Seams {
        network: Arc::new(SimulatedNetwork),
        clock: Arc::new(HostClock::starting(
            home.plan.drift_permille(Host::Gateway(home.number)),
        )),
        random: Arc::new(SeededRandomness::new(random.next_u64())),
        registry: Registry::new(),
    };
    let instance = Instance::passing(&*seams.random);
    let secret = ClusterSecret::new([0x5e; 32]);
    let connected = connect(&secret, &metad_addresses(), instance.number(), &seams)?;
    tokio::spawn(connected.upkeep(CancellationToken::new()));
    let parts = StoreParts {
        name: Host::Gateway(home.number).to_string(),
        metad: Arc::<ullage_gateway::network::NetworkMetad>::clone(&connected.metad) as Arc<dyn MetadClient>,
        agents: Arc::new(connected.agents.clone()),
        clock: Arc::clone(&seams.clock),
        random: Arc::clone(&seams.random),
        kek: Kek::new(&[7; 32]),
        metrics: Metrics::register(&seams.registry)?,
        inline_bytes: if home.plan.inline { INLINE_BYTES_MAX } else { 0 },
        upload_memory: UPLOAD_MEMORY,
    };
    let store = loop {
        match Store::start(parts.clone()).await {
            Ok(store) => break store,
            Err(error @ (Error::WrongKek(_) | Error::Config(_))) => return Err(error.into()),
            Err(error) => home.trouble("no session", &error),
        }
        tokio::time::sleep(LOOK).await;
    };
    if home.number == 0 {
        prepare(&home, &connected, &store).await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients_run = false;
    let overseer = client(&home, &store, &mut random);
    loop {
        match home.stage.phase() {
            Phase::Starting => works(&home, &store, &overseer, Mark::Works(home.number)).await,
            Phase::Faults | Phase::Healed => {
                if !clients_run {
                    clients_run = true;
                    for _ in 0..CLIENTS {
                        tokio::spawn(client(&home, &store, &mut random).run(Arc::clone(&stop)));
                    }
                }
                if home.stage.phase() == Phase::Healed {
                    works(&home, &store, &overseer, Mark::WorksAgain(home.number)).await;
                }
            }
            Phase::Reading => {
                stop.store(true, Ordering::Relaxed);
                read_all(&home, &overseer).await;
            }
            Phase::Quiet => stop.store(true, Ordering::Relaxed),
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn client(home: &GatewayHome, store: &Store, random: &mut impl RngCore) -> Client {
    let number = home.stage.next_client();
    Client {
        number,
        store: store.clone(),
        history: home.history.clone(),
        random: part(random.next_u64(), number as u64),
    }
}

/// What an operator does: invites the vendors, waits for them, makes the bucket.
async fn prepare(home: &GatewayHome, connected: &Connected, store: &Store) -> anyhow::Result<()> {
    for vendor in 0..VENDORS {
        let path = token_path(&home.scratch, vendor);
        while !path.exists() {
            let invite = InviteRequest {
                life_ms: INVITE_MS_DEFAULT,
            };
            match connected.metad.invite(invite).await {
                Ok(reply) => std::fs::write(&path, reply.token.to_text()).context("a token is laid out")?,
                Err(error) => home.trouble("no invitation", &error),
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    while !home.stage.reached(Mark::Prepared) {
        let healthy = |row: &&Arc<VendorInfo>| row.row.state == VendorState::Healthy;
        let view = store.view();
        let vendors = view.vendors.values().filter(healthy).count();
        if vendors < VENDORS {
            home.trouble("vendors are missing", &format!("{vendors} are there"));
            if let Err(error) = store.refresh().await {
                home.trouble("no view", &error);
            }
        } else {
            let access = ullage_model::namespace::rows::BucketAccess::default();
            match store.create_bucket(ROOT, BUCKET, "us-east-1", access).await {
                Ok(_) | Err(Error::Rejected(Rejection::BucketExists { .. })) => {
                    if let Some(bucket) = bucket(home, store).await
                        && versioned(home, store, &bucket).await
                    {
                        home.stage.reach(Mark::Prepared);
                    }
                }
                Err(error) => home.trouble("no bucket", &error),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Makes the bucket keep old versions, if the plan says so; answers whether it is as planned.
async fn versioned(home: &GatewayHome, store: &Store, bucket: &Bucket) -> bool {
    if !home.plan.versioned {
        return true;
    }
    let set = store.set_versioning(ROOT, bucket_ref(bucket), Versioning::Enabled);
    match set.await {
        Ok(()) => true,
        Err(error) => {
            home.trouble("old versions are not kept", &error);
            false
        }
    }
}

async fn bucket(home: &GatewayHome, store: &Store) -> Option<Arc<Bucket>> {
    match store.directory().bucket(BUCKET).await {
        Ok(bucket) => Some(bucket),
        Err(error) => {
            home.trouble("the bucket is not found", &error);
            None
        }
    }
}

/// Stores something large enough for vendors, and fetches it.
async fn works(home: &GatewayHome, store: &Store, overseer: &Client, mark: Mark) {
    if home.stage.reached(mark) || !home.stage.reached(Mark::Prepared) {
        return;
    }
    let Some(bucket) = bucket(home, store).await else {
        return;
    };
    let value = loop {
        let value = home.history.fresh_value();
        if body_of(value).len() > 10_000 {
            break value;
        }
    };
    let key = format!("works-{}", home.number);
    let write = |done| Action::Write {
        value,
        condition: Condition::Always,
        done,
    };
    let begun = home.history.begin(overseer.number, &key, write(None));
    match overseer.try_put(&bucket, &key, value, Condition::Always).await {
        Ok(()) => home.history.end(&begun, write(Some(true))),
        Err(error) => {
            home.trouble("an object is not stored", &error);
            return;
        }
    }
    if overseer.get(&bucket, &key, None).await {
        home.stage.reach(mark);
    } else {
        home.trouble("an object is not fetched", &key);
    }
}

/// Reads every key that was ever touched.
async fn read_all(home: &GatewayHome, overseer: &Client) {
    if home.stage.reached(Mark::HasRead(home.number)) {
        return;
    }
    let Some(bucket) = bucket(home, &overseer.store).await else {
        return;
    };
    let mut keys = home.history.keys();
    keys.extend((0..GATEWAYS).map(|number| format!("works-{number}")));
    for key in keys {
        if !overseer.get(&bucket, &key, None).await {
            home.trouble("a key is not read", &key);
            return;
        }
    }
    if home.plan.versioned && !overseer.check_versions(&bucket).await {
        home.trouble("versions are not seen", &BUCKET);
        return;
    }
    home.stage.reach(Mark::HasRead(home.number));
}
