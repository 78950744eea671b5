//! One node and a handful of them.

use super::loopback::addresses;
use super::network::{CutNetwork, Cuts};
use super::support::{Puts, put};
use bytes::Bytes;
use prometheus::Registry;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use ullage_metad::Error;
use ullage_metad::propose::{ProposalLimits, Proposer};
use ullage_metad::raft::{Group, GroupConfig, GroupParts, Metrics, Peers, peer_api};
use ullage_metad::reads::Reads;
use ullage_metad::store::{Budget, DataDirectory, Steps};
use ullage_model::store::{Column, Read};
use ullage_transport::api::Api;
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::client::{Client, ClientLimits};
use ullage_transport::credentials::Credentials;
use ullage_transport::identity::Identity;
use ullage_transport::network::{Listener, Network};
use ullage_transport::server::{self, ServerLimits};

/// How long anything may take that should take moments.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What nodes of a test have in common.
pub struct World {
    pub home: TempDir,
    pub cuts: Cuts,
    pub config: GroupConfig,
    pub secret: [u8; 32],
    pub patience: Duration,
}

impl Default for World {
    fn default() -> Self {
        let config = GroupConfig {
            heartbeat_ms: 100,
            election_min_ms: 400,
            election_max_ms: 700,
            compare_every_ms: 200,
            digest_every_entries: 16,
            idle_ms: 2_000,
            ..GroupConfig::member(String::new())
        };
        Self {
            home: tempfile::tempdir().unwrap(),
            cuts: Cuts::default(),
            config,
            secret: [7; 32],
            patience: Duration::from_secs(5),
        }
    }
}

/// A node at work.
pub struct Node {
    pub number: usize,
    pub address: String,
    pub group: Arc<Group>,
    pub proposer: Proposer,
    pub reads: Reads,
    server: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    runtime: Option<Runtime>,
}

/// An address that nobody uses.
pub fn free_address() -> String {
    addresses(1).remove(0)
}

/// Listens at an address that a killed node may still hold for a moment.
async fn listen(network: &dyn Network, address: &str) -> Box<dyn Listener> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match network.listen(address).await {
            Ok(listener) => return listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{address}: {error}"),
        }
    }
}

impl World {
    pub fn path(&self, number: usize) -> PathBuf {
        self.home.path().join(format!("node-{number}"))
    }

    /// Starts node `number` at `address`.
    pub fn start(&self, number: usize, address: &str, first: &[String]) -> Node {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_start(number, address, first, Steps::default()) {
                Ok(node) => return node,
                Err(error) if is_held(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("node {number}: {error}"),
            }
        }
    }

    /// Starts node `number` as a member of `group`.
    pub fn start_in_group(&self, number: usize, address: &str, first: &[String], group: u64) -> Node {
        self.try_start_in_group(number, address, first, group).unwrap()
    }

    pub fn try_start_in_group(
        &self,
        number: usize,
        address: &str,
        first: &[String],
        group: u64,
    ) -> Result<Node, Error> {
        self.try_start_as(number, address, first, (group, Steps::default()))
    }

    pub fn try_start(
        &self,
        number: usize,
        address: &str,
        first: &[String],
        steps: Steps,
    ) -> Result<Node, Error> {
        self.try_start_as(number, address, first, (0, steps))
    }

    fn try_start_as(
        &self,
        number: usize,
        address: &str,
        first: &[String],
        how: (u64, Steps),
    ) -> Result<Node, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let started = runtime.block_on(self.start_here(number, address, first, how))?;
        Ok(Node {
            runtime: Some(runtime),
            ..started
        })
    }

    async fn start_here(
        &self,
        number: usize,
        address: &str,
        first: &[String],
        (group, steps): (u64, Steps),
    ) -> Result<Node, Error> {
        let path = self.path(number);
        let data = DataDirectory::open_member(&path, group, &mut random())?;
        let node = data.identity().node;
        let authority = Authority::derive(&ClusterSecret::new(self.secret)).unwrap();
        let credentials =
            Credentials::issued_by(&authority, Identity::Metad(node), SystemTime::now()).unwrap();
        let network: Arc<dyn Network> = Arc::new(CutNetwork {
            node: number,
            cuts: self.cuts.clone(),
        });
        self.cuts.listens(address, number);
        let client = Client::new(Arc::clone(&network), credentials.clone(), ClientLimits::default());
        let parts = GroupParts {
            data,
            budget: Budget::new(8 << 20, 16 << 20).with_recent_rows(1 << 20),
            machine: Arc::new(Puts),
            metrics: Metrics::new(&Registry::new())?,
            steps,
            peers: Some(Peers {
                client,
                first: first.to_vec(),
            }),
            seed: None,
        };
        let config = GroupConfig {
            address: address.to_owned(),
            ..self.config.clone()
        };
        let group = Arc::new(Group::start(&config, parts).await?);
        let api = peer_api(Api::new(Arc::clone(&group)), Arc::clone);
        let listener = listen(network.as_ref(), address).await;
        let stop = CancellationToken::new();
        let limits = ServerLimits {
            drain: Duration::from_secs(1),
            ..ServerLimits::default()
        };
        let serving = server::serve(listener, credentials, api.into_router(), limits, stop.clone());
        Ok(Node {
            number,
            address: address.to_owned(),
            proposer: Proposer::new(
                Arc::clone(&group),
                ProposalLimits {
                    patience: self.patience,
                    ..ProposalLimits::default()
                },
            ),
            reads: Reads::new(Arc::clone(&group), self.patience),
            group,
            server: tokio::spawn(serving),
            stop,
            runtime: None,
        })
    }

    /// Starts a cluster of `count` nodes and waits until all of them are ready.
    pub fn cluster(&self, count: usize) -> Vec<Node> {
        let first = addresses(count);
        let nodes: Vec<Node> = (0..count)
            .map(|number| self.start(number, &first[number], &first))
            .collect();
        for node in &nodes {
            node.ready();
        }
        nodes
    }
}

/// Bytes that differ in every run and node.
pub fn random() -> impl FnMut(&mut [u8]) {
    |bytes| {
        for chunk in bytes.chunks_mut(8) {
            let random = std::collections::hash_map::RandomState::new();
            let random = std::hash::BuildHasher::hash_one(&random, 0).to_ne_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}

/// Whether a directory is in use: whoever was killed lets go of it soon.
fn is_held(error: &Error) -> bool {
    matches!(error, Error::InUse { .. }) || error.to_string().contains("lock hold by current process")
}

/// Waits until `condition` holds, and says `what` it was when it never does.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Node {
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.as_ref().unwrap().spawn(future)
    }

    pub fn id(&self) -> u64 {
        self.group.identity().node
    }

    pub fn ready(&self) {
        let ready = self.run(self.group.ready(PATIENCE));
        ready.unwrap_or_else(|error| panic!("node {}: {error}: {:?}", self.number, self.group.status()));
    }

    pub fn put(&self, key: &str, value: &str) -> Result<Bytes, Error> {
        self.run(self.proposer.propose_bytes(put(key.as_bytes(), value.as_bytes())))
    }

    /// Writes as a client would: what was surely not done is tried again.
    pub fn put_soon(&self, key: &str, value: &str) {
        self.put_bytes_soon(key, value.as_bytes());
    }

    /// As [`Node::put_soon`].
    pub fn put_bytes_soon(&self, key: &str, value: &[u8]) {
        let write = || self.run(self.proposer.propose_bytes(put(key.as_bytes(), value)));
        eventually("the leader writes", || match write() {
            Ok(_) => true,
            Err(Error::NotLeader { .. } | Error::LeaderNotReady) => false,
            Err(error) => panic!("{key} was not written: {error}"),
        });
    }

    /// What this node has applied.
    pub fn applied(&self, key: &str) -> Option<Bytes> {
        self.group.state().get(Column::Versions, key.as_bytes()).unwrap()
    }

    /// A linearizable read.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let state = self.run(self.reads.linearizable())?;
        Ok(state.get(Column::Versions, key.as_bytes()).unwrap())
    }

    /// Dies as by a kill: nothing that it was doing is finished or flushed. Its locks go with it.
    pub fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        let state = Arc::downgrade(&self.group.state());
        runtime.shutdown_background();
        drop(self);
        eventually("a killed node lets go of its state", || state.strong_count() == 0);
    }

    /// Stops in an orderly way.
    pub fn shut_down(mut self) {
        let runtime = self.runtime.take().unwrap();
        let Self {
            group,
            proposer,
            reads,
            server,
            stop,
            ..
        } = self;
        drop((proposer, reads));
        runtime.block_on(async {
            stop.cancel();
            server.await.unwrap();
            let mut group = group;
            let group = loop {
                match Arc::try_unwrap(group) {
                    Ok(group) => break group,
                    Err(shared) => group = shared,
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            };
            group.shutdown().await;
        });
    }
}

/// The node that leads, as all that are there agree.
pub fn leader(nodes: &[Node]) -> usize {
    let mut found = None;
    eventually("all agree who leads", || {
        let led: Vec<_> = nodes.iter().filter(|node| node.group.leads()).collect();
        let [leader] = led[..] else { return false };
        found = nodes.iter().position(|node| node.id() == leader.id());
        nodes
            .iter()
            .all(|node| node.group.leader().is_some_and(|(known, _)| known == leader.id()))
    });
    found.unwrap()
}
