//! A replication group of three alone: its members over the real transport, with clients on each that propose and
//! read where they are.

use crate::driver::Scenario;
use crate::history::History;
use crate::linearizability::{Action, Condition};
use crate::network::SimulatedNetwork;
use crate::plan::{Defect, Host, METADS, Plan, part};
use crate::register::{Registers, Write, all_rows, value_at};
use crate::stage::{Mark, Phase, Stage};
use crate::time::wall_clock;
use anyhow::{Context, ensure};
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use turmoil::Sim;
use ullage_metad::Error;
use ullage_metad::propose::{ProposalLimits, Proposer};
use ullage_metad::raft::{Group, GroupConfig, GroupParts, Metrics, Peers, peer_api};
use ullage_metad::store::{Budget, DataDirectory, DiskBehaviour, MemoryDisk, Steps};
use ullage_transport::api::Api;
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::client::{Client, ClientLimits};
use ullage_transport::credentials::Credentials;
use ullage_transport::identity::Identity;
use ullage_transport::network::Network;
use ullage_transport::server::{ServerLimits, serve};

/// Port of the members.
pub const PORT: u16 = 9310;
const KEYS: u64 = 5;
/// Clients on each member.
const CLIENTS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(8);

/// Members as they run now.
type Running = Arc<Mutex<Vec<Weak<Group>>>>;

/// What a member needs to start, again and again.
#[derive(Clone)]
struct Home {
    number: usize,
    plan: Arc<Plan>,
    disk: MemoryDisk,
    running: Running,
    stage: Stage,
    history: History,
    starts: Arc<Mutex<u64>>,
}

/// The scenario.
pub struct RaftScenario {
    homes: Vec<Home>,
    stage: Stage,
}

/// The simulated disk of metadata node `number`.
pub fn disk_of(plan: &Plan, number: usize, scratch: &Path) -> MemoryDisk {
    let behaviour = DiskBehaviour {
        sync_ms: plan.sync_ms,
        flush_one_in: plan.flush_one_in,
        lies_by: match plan.defect {
            Some(Defect::DisksLie) => 12,
            None => 0,
        },
    };
    let seed = part(plan.seed, 100 + number as u64).next_u64();
    MemoryDisk::new(seed, behaviour, scratch.join(Host::Metad(number).to_string()))
}

/// Addresses of all metadata nodes.
pub fn metad_addresses() -> Vec<String> {
    (0..METADS)
        .map(|number| format!("{}:{PORT}", Host::Metad(number)))
        .collect()
}

/// The authority of the simulated cluster.
///
/// # Errors
/// When it cannot be made.
pub fn authority() -> anyhow::Result<Authority> {
    Ok(Authority::derive(&ClusterSecret::new([0x5e; 32]))?)
}

impl RaftScenario {
    /// Members on fresh disks; files lie in `scratch`.
    pub fn new(plan: &Plan, stage: &Stage, history: &History, scratch: &Path) -> Self {
        let plan = Arc::new(plan.clone());
        let running: Running = Arc::new(Mutex::new(
            std::iter::repeat_with(Weak::new).take(METADS).collect(),
        ));
        let homes = (0..METADS).map(|number| Home {
            number,
            plan: Arc::clone(&plan),
            disk: disk_of(&plan, number, scratch),
            running: Arc::clone(&running),
            stage: stage.clone(),
            history: history.clone(),
            starts: Arc::default(),
        });
        Self {
            homes: homes.collect(),
            stage: stage.clone(),
        }
    }

    fn groups(&self) -> Vec<Option<Arc<Group>>> {
        let running = self.homes[0]
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        running.iter().map(Weak::upgrade).collect()
    }
}

impl Scenario for RaftScenario {
    fn start(&mut self, sim: &mut Sim<'_>) {
        for home in &self.homes {
            let home = home.clone();
            sim.host(Host::Metad(home.number).to_string(), move || {
                let home = home.clone();
                async move { member(home).await.map_err(Into::into) }
            });
        }
    }

    fn crashed(&mut self, host: Host) {
        if let Host::Metad(number) = host {
            self.homes[number].disk.crash();
        }
    }

    fn works(&self) -> bool {
        self.all_reached(Mark::Works)
    }

    fn works_again(&self) -> bool {
        self.all_reached(Mark::WorksAgain)
    }

    fn has_read(&self) -> bool {
        self.all_reached(Mark::HasRead)
    }

    fn verify(&mut self) -> anyhow::Result<()> {
        let mut states = Vec::new();
        for (number, group) in self.groups().into_iter().enumerate() {
            let group = group.with_context(|| format!("metad-{number} does not run"))?;
            let status = group.status();
            ensure!(status.failure.is_none(), "metad-{number} failed: {status:?}");
            let state = group.state();
            states.push((group.applied_index(), all_rows(&**state)?));
        }
        ensure!(
            states.iter().all(|state| *state == states[0]),
            "replicas differ: {states:?}"
        );
        Ok(())
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (number, group) in self.groups().into_iter().enumerate() {
            let status = group.map(|group| group.status());
            text.push_str(&format!("metad-{number}: {status:?}\n"));
        }
        text
    }
}

impl RaftScenario {
    fn all_reached(&self, mark: impl Fn(usize) -> Mark) -> bool {
        (0..METADS).all(|number| self.stage.reached(mark(number)))
    }
}

async fn member(home: Home) -> anyhow::Result<()> {
    let start = {
        let mut starts = home.starts.lock().unwrap_or_else(PoisonError::into_inner);
        *starts += 1;
        *starts
    };
    let mut random = part(home.plan.seed, 1_000 * (home.number as u64 + 1) + start);
    let network: Arc<dyn Network> = Arc::new(SimulatedNetwork);
    let data = DataDirectory::open_member_in_memory(&home.disk, 0, &mut |bytes| random.fill_bytes(bytes))?;
    let identity = Identity::Metad(data.identity().node);
    let wall = wall_clock();
    let credentials = Credentials::issued_by(&authority()?, identity, wall())?.with_wall_clock(wall);
    let client = Client::new(Arc::clone(&network), credentials.clone(), ClientLimits::default());
    let addresses = metad_addresses();
    let config = GroupConfig {
        snapshot_after_bytes: home.plan.log_bytes.0,
        keep_log_bytes: home.plan.log_bytes.1,
        digest_every_entries: 16,
        compare_every_ms: 2_000,
        ..GroupConfig::member(addresses[home.number].clone())
    };
    let parts = GroupParts {
        data,
        budget: Budget::new(1 << 20, 1 << 20),
        machine: Arc::new(Registers),
        metrics: Metrics::new(&Registry::new())?,
        steps: Steps::default(),
        peers: Some(Peers {
            client,
            first: addresses,
        }),
        seed: Some(random.next_u64()),
    };
    let group = Arc::new(Group::start(&config, parts).await?);
    home.running.lock().unwrap_or_else(PoisonError::into_inner)[home.number] = Arc::downgrade(&group);
    let listener = network.listen(&format!("0.0.0.0:{PORT}")).await?;
    let api = peer_api(Api::new(Arc::clone(&group)), Arc::clone);
    tokio::spawn(serve(
        listener,
        credentials,
        api.into_router(),
        ServerLimits::default(),
        tokio_util::sync::CancellationToken::new(),
    ));
    let proposer = Proposer::new(
        Arc::clone(&group),
        ProposalLimits {
            patience: PATIENCE,
            ..ProposalLimits::default()
        },
    );
    let at = At {
        group,
        proposer,
        home,
    };
    for client in 0..CLIENTS {
        let random = part(random.next_u64(), client as u64);
        tokio::spawn(at.clone().work(random));
    }
    at.oversee().await;
    Ok(())
}

#[derive(Clone)]
struct At {
    group: Arc<Group>,
    proposer: Proposer,
    home: Home,
}

fn key(number: u64) -> String {
    format!("key-{number}")
}

impl At {
    /// Reaches what is to be reached in each phase.
    async fn oversee(self) {
        let client = self.home.stage.next_client();
        let (stage, number) = (self.home.stage.clone(), self.home.number);
        loop {
            let mark = match stage.phase() {
                Phase::Starting => Mark::Works(number),
                Phase::Healed => Mark::WorksAgain(number),
                Phase::Reading => Mark::HasRead(number),
                Phase::Faults | Phase::Quiet => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if !stage.reached(mark) {
                let reached = match mark {
                    Mark::Works(_) => self.group.ready(PATIENCE).await.is_ok(),
                    Mark::HasRead(_) => self.read_all(client).await,
                    _ => self.read_all(client).await && self.written_by_somebody(client).await,
                };
                if reached {
                    stage.reach(mark);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn read_all(&self, client: usize) -> bool {
        for number in 0..KEYS {
            if !self.read(client, &key(number)).await {
                return false;
            }
        }
        true
    }

    /// The leader must be able to write; the others have nothing to do.
    async fn written_by_somebody(&self, client: usize) -> bool {
        if !self.group.leads() {
            return self.group.leader().is_some();
        }
        self.put(client, "after", Condition::Always).await
    }

    async fn work(self, mut random: StdRng) {
        let client = self.home.stage.next_client();
        loop {
            let pause = if self.group.leads() { 1..60 } else { 50..400 };
            tokio::time::sleep(Duration::from_millis(random.random_range(pause))).await;
            match self.home.stage.phase() {
                Phase::Faults | Phase::Healed => {}
                _ => continue,
            }
            let key = key(random.random_range(0..KEYS));
            // A follower's proposals are refused; one now and then sees to that.
            let writes = self.group.leads() || random.random_bool(0.05);
            match random.random_range(0..100) {
                0..35 if writes => drop(self.put(client, &key, Condition::Always).await),
                35..45 if writes => drop(self.put(client, &key, Condition::IfAbsent).await),
                45..55 if writes => {
                    let last = self.home.history.last_value(&key);
                    let condition = last.map_or(Condition::IfAbsent, Condition::IfValue);
                    self.put(client, &key, condition).await;
                }
                55..65 if writes => self.delete(client, &key).await,
                _ => drop(self.read(client, &key).await),
            }
        }
    }

    async fn put(&self, client: usize, key: &str, condition: Condition) -> bool {
        let history = &self.home.history;
        let value = history.fresh_value();
        let write = |done| Action::Write {
            value,
            condition,
            done,
        };
        let begun = history.begin(client, key, write(None));
        let command = Write::Put(key.to_owned(), value, condition.into());
        match self.proposer.propose_bytes(command.encoded()).await {
            Ok(reply) => {
                history.end(&begun, write(Some(reply[..] == [1])));
                true
            }
            Err(Error::OutcomeUnknown { .. }) => false,
            Err(_) => {
                history.never(&begun);
                false
            }
        }
    }

    async fn delete(&self, client: usize, key: &str) {
        let history = &self.home.history;
        let begun = history.begin(client, key, Action::Delete { existed: None });
        let command = Write::Delete(key.to_owned());
        match self.proposer.propose_bytes(command.encoded()).await {
            Ok(reply) => history.end(
                &begun,
                Action::Delete {
                    existed: Some(reply[..] == [1]),
                },
            ),
            Err(Error::OutcomeUnknown { .. }) => {}
            Err(_) => history.never(&begun),
        }
    }

    async fn read(&self, client: usize, key: &str) -> bool {
        let called = self.home.history.instant();
        let seen = async {
            let index = self.group.read_index(PATIENCE).await?;
            self.group.wait_applied(index, PATIENCE).await?;
            Ok::<_, Error>(value_at(&**self.group.state(), key)?)
        };
        match seen.await {
            Ok(seen) => {
                self.home.history.read(client, key, called, seen);
                true
            }
            Err(error) => {
                let who = Host::Metad(self.home.number);
                self.home
                    .stage
                    .trouble(format!("{} {who}: {error}", self.home.history.now_ms()));
                false
            }
        }
    }
}
