//! A cluster of separate processes of the real binary: metadata nodes, vendor agents with their devices, and
//! gateways, each with a settings file, a directory and an address of its own. It comes up the way
//! docs/examples/cluster tells people to bring one up: `ullage keygen`, metadata nodes, gateways, an
//! invitation for each vendor, agents.

mod network;
mod node;
mod plan;

pub use network::{Direction, Host, Limit, Network, Placement};
pub use node::{Node, Service};
pub use plan::{AgentPlan, Plan};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::admin_json::{Admin, DEFAULT_CLASS, Member};
use crate::clients::Client;
use crate::daemon::{Daemon, output_within, ready_deadline, ullage};
use crate::process::disk_bytes;
use crate::s3::S3;
use crate::settle;
use crate::sign::Credentials;
use node::settings_path;
use plan::{
    AGENT_ADMIN_PORT, AGENT_PORT, GATEWAY_ADMIN_PORT, JOIN_TOKEN, METAD_ADMIN_PORT, METAD_PORT, S3_PORT,
    Secrets, agent_toml, device_path, gateway_toml, metad_toml,
};

/// A cluster, running or not. Processes end and files go when it is dropped.
pub struct Cluster {
    /// Metadata nodes. The first [`Plan::metads`] of them made the cluster.
    pub metads: Vec<Node>,
    /// Vendor agents.
    pub agents: Vec<Node>,
    /// Gateways.
    pub gateways: Vec<Node>,
    plan: Plan,
    root: Credentials,
    // After the nodes: their processes end before their network and their files go.
    network: Network,
    directory: TempDir,
}

impl Cluster {
    /// Brings a cluster up and waits until all of it is ready.
    ///
    /// # Errors
    /// If a service exits or does not become ready in time; its log is part of the error.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare(plan)?;
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// The default cluster: 3 metadata nodes, 4 vendors of 2 devices, 2 gateways.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_default() -> anyhow::Result<Self> {
        Self::start(Plan::default()).await
    }

    /// Makes directories, secrets and settings, and starts nothing: for tests that change a node's wrapper or
    /// environment first.
    ///
    /// # Errors
    /// If a file cannot be made or the network cannot be had.
    pub fn prepare(plan: Plan) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("ullage-cluster-")
            .tempdir()
            .context("make a directory")?;
        let network = Network::new(plan.placement)?;
        let key = || hex::encode(rand::random::<[u8; 16]>());
        let root = Credentials {
            access_key: format!("ROOT{}", &key()[..16].to_uppercase()),
            secret_key: key(),
        };
        let mut cluster = Self {
            metads: Vec::new(),
            agents: Vec::new(),
            gateways: Vec::new(),
            plan,
            root,
            network,
            directory,
        };
        for secret in [cluster.cluster_secret(), cluster.kek()] {
            keygen(&secret)?;
        }
        let metads = (0..cluster.plan.metads)
            .map(|_| cluster.network.add(0))
            .collect::<anyhow::Result<Vec<Host>>>()?;
        for host in metads.clone() {
            cluster.prepare_metad(host, &metads)?;
        }
        for _ in 0..cluster.plan.gateways {
            cluster.prepare_gateway()?;
        }
        for agent in cluster.plan.agents.clone() {
            cluster.prepare_agent(&agent)?;
        }
        Ok(cluster)
    }

    /// Starts everything in the order in which an operator does, and waits until all of it is ready.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_all(&mut self) -> anyhow::Result<()> {
        let limit = ready_deadline();
        for metad in &mut self.metads {
            metad.spawn()?;
        }
        for metad in &mut self.metads {
            metad.wait_ready(limit).await?;
        }
        for gateway in &mut self.gateways {
            gateway.spawn()?;
        }
        for gateway in &mut self.gateways {
            gateway.wait_ready(limit).await?;
        }
        for index in 0..self.agents.len() {
            self.invite(index)?;
            self.agents[index].spawn()?;
        }
        for agent in &mut self.agents {
            agent.wait_ready(limit).await?;
        }
        let copies = self.plan.copies.to_string();
        self.admin(0)
            .run(&["class", "set", DEFAULT_CLASS, "--copies", &copies])?;
        self.wait_for_vendors(self.agents.len()).await
    }

    /// Starts every process that does not run, all at once, and waits until all are ready.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn restart_all(&mut self) -> anyhow::Result<()> {
        for node in self.nodes_mut() {
            if !node.daemon.is_started() {
                node.spawn()?;
            }
        }
        for node in self.nodes_mut() {
            node.wait_ready(ready_deadline()).await?;
        }
        Ok(())
    }

    /// kill -9 of every process that runs.
    ///
    /// # Errors
    /// If one cannot be killed.
    pub fn kill_all(&mut self) -> anyhow::Result<()> {
        for node in self.nodes_mut() {
            if node.daemon.is_started() {
                node.kill()?;
            }
        }
        Ok(())
    }

    /// Prepares a further metadata node, which is to join; `ullage admin metad add` makes it a member. Answers
    /// its index.
    ///
    /// # Errors
    /// If its files cannot be made.
    pub fn add_metad(&mut self) -> anyhow::Result<usize> {
        let peers: Vec<Host> = self.metads.iter().map(|node| node.host.clone()).collect();
        let host = self.network.add(0)?;
        self.prepare_metad(host, &peers[..self.plan.metads.min(peers.len())])?;
        Ok(self.metads.len() - 1)
    }

    /// Prepares and invites a further vendor. Answers its index.
    ///
    /// # Errors
    /// If its files cannot be made or no invitation can be had.
    pub fn add_agent(&mut self, agent: &AgentPlan) -> anyhow::Result<usize> {
        self.prepare_agent(agent)?;
        let index = self.agents.len() - 1;
        self.invite(index)?;
        Ok(index)
    }

    /// All services.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.metads
            .iter_mut()
            .chain(&mut self.agents)
            .chain(&mut self.gateways)
    }

    /// Root credentials.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.root
    }

    /// A client of one gateway with root credentials and connections of its own.
    #[must_use]
    pub fn s3(&self, gateway: usize) -> S3 {
        S3::new(self.gateways[gateway].address, self.root.clone())
    }

    /// `ullage admin` by one gateway.
    #[must_use]
    pub fn admin(&self, gateway: usize) -> Admin {
        Admin::new(self.admin_address(gateway), self.root.clone())
    }

    /// A tool for one gateway if it is there; otherwise the test is skipped.
    ///
    /// # Panics
    /// If it is missing where `CI=true`.
    #[must_use]
    pub fn client(&self, test: &str, program: &str, gateway: usize) -> Option<Client> {
        Client::at(test, program, self.gateways[gateway].address, &self.root)
    }

    /// The address of a gateway's admin API.
    #[must_use]
    pub fn admin_address(&self, gateway: usize) -> SocketAddr {
        self.gateways[gateway].host.at(GATEWAY_ADMIN_PORT)
    }

    /// The index of the metadata node that leads, as a gateway knows it.
    ///
    /// # Errors
    /// If none does at the moment.
    pub fn leader(&self, gateway: usize) -> anyhow::Result<usize> {
        let members = self.admin(gateway).members()?;
        let leader = members.members.iter().find(|member| member.leads);
        let leader = leader.with_context(|| format!("nobody leads: {members:?}"))?;
        self.metad_of(leader)
    }

    /// The index of the metadata node that is `member`.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn metad_of(&self, member: &Member) -> anyhow::Result<usize> {
        let found = self
            .metads
            .iter()
            .position(|node| node.address.to_string() == member.address);
        found.with_context(|| format!("{member:?} is none of the test's nodes"))
    }

    /// Waits until every metadata node that runs leads or follows: `metad list` names a leader.
    ///
    /// # Errors
    /// If none does in time.
    pub async fn wait_for_leader(&self, gateway: usize) -> anyhow::Result<usize> {
        settle::until(ready_deadline(), async || self.leader(gateway)).await
    }

    /// Waits until so many vendors are alive.
    ///
    /// # Errors
    /// If they are not in time.
    pub async fn wait_for_vendors(&self, count: usize) -> anyhow::Result<()> {
        settle::until(ready_deadline(), async || {
            let vendors = self.admin(0).vendors()?;
            let alive = vendors.iter().filter(|vendor| vendor.state == "alive").count();
            ensure!(
                alive == count,
                "{alive} vendors are alive, not {count}: {vendors:?}"
            );
            Ok(())
        })
        .await
    }

    /// The directories of a vendor's devices.
    #[must_use]
    pub fn devices(&self, agent: usize) -> Vec<PathBuf> {
        let directory = &self.agents[agent].directory;
        (1..=u32::MAX)
            .map(|number| device_path(directory, number))
            .take_while(|path| path.exists())
            .collect()
    }

    /// Bytes that all vendors' devices occupy on disk.
    #[must_use]
    pub fn device_bytes(&self) -> u64 {
        let devices = (0..self.agents.len()).flat_map(|agent| self.devices(agent));
        devices.map(|device| disk_bytes(&device)).sum()
    }

    /// Waits until no room is held that no object needs: nothing is being erased or released, and the FAT and
    /// the vendors' own tables agree copy by copy.
    ///
    /// # Errors
    /// What was still amiss when the time was over.
    pub async fn settle(&self, gateway: usize) -> anyhow::Result<()> {
        let admin = self.admin(gateway);
        settle::until(settle::deadline(), async || {
            let status = admin.status()?;
            let quiet = status.room.erasing == 0 && status.release_queue == 0;
            ensure!(quiet, "not settled: {status:?}");
            admin.compare_local_fats()
        })
        .await
    }

    /// The file of the cluster secret.
    #[must_use]
    pub fn cluster_secret(&self) -> PathBuf {
        self.directory.path().join("cluster.secret")
    }

    /// The file of the key-encryption key.
    #[must_use]
    pub fn kek(&self) -> PathBuf {
        self.directory.path().join("kek")
    }

    fn prepare_metad(&mut self, host: Host, peers: &[Host]) -> anyhow::Result<()> {
        let name = format!("metad-{}", self.metads.len() + 1);
        let directory = self.make_directory(&name)?;
        let text = metad_toml(
            &self.plan,
            &directory.join("data"),
            &host,
            &self.cluster_secret(),
            peers,
        );
        let node = self.node(Service::Metad, name, directory, host, &text)?;
        self.metads.push(node);
        Ok(())
    }

    fn prepare_gateway(&mut self) -> anyhow::Result<()> {
        let name = format!("gateway-{}", self.gateways.len() + 1);
        let directory = self.make_directory(&name)?;
        let host = self.network.add(0)?;
        let (cluster_secret, kek) = (self.cluster_secret(), self.kek());
        let secrets = Secrets {
            cluster_secret: &cluster_secret,
            kek: &kek,
            root: &self.root,
        };
        let text = gateway_toml(
            &self.plan,
            &directory.join("data"),
            &host,
            &self.metad_hosts(),
            &secrets,
        );
        let node = self.node(Service::Gateway, name, directory, host, &text)?;
        self.gateways.push(node);
        Ok(())
    }

    fn prepare_agent(&mut self, agent: &AgentPlan) -> anyhow::Result<()> {
        let name = format!("vendor-{}", self.agents.len() + 1);
        let directory = self.make_directory(&name)?;
        let host = self.network.add(agent.routers)?;
        for device in 1..=agent.devices {
            make_directory(&device_path(&directory, device))?;
        }
        let text = agent_toml(agent, &name, &directory, &host, &self.metad_hosts());
        let node = self.node(Service::Agent, name, directory, host, &text)?;
        self.agents.push(node);
        Ok(())
    }

    fn node(
        &self,
        service: Service,
        name: String,
        directory: PathBuf,
        host: Host,
        settings: &str,
    ) -> anyhow::Result<Node> {
        let (port, health) = match service {
            Service::Metad => (METAD_PORT, METAD_ADMIN_PORT),
            Service::Agent => (AGENT_PORT, AGENT_ADMIN_PORT),
            Service::Gateway => (S3_PORT, GATEWAY_ADMIN_PORT),
        };
        std::fs::write(settings_path(&directory), settings).context("write settings")?;
        let log = directory.join("log");
        Ok(Node {
            service,
            daemon: Daemon::new(name.clone(), log, host.at(health)),
            address: host.at(port),
            name,
            host,
            environment: self.plan.environment.clone(),
            wrapper: Vec::new(),
            arguments: Vec::new(),
            directory,
        })
    }

    /// Gets a token for a vendor and puts it where its settings say.
    fn invite(&self, agent: usize) -> anyhow::Result<()> {
        let token = self.admin(0).invite_vendor()?;
        let path = self.agents[agent].directory.join(JOIN_TOKEN);
        std::fs::write(&path, token).with_context(|| format!("write {}", path.display()))
    }

    fn metad_hosts(&self) -> Vec<Host> {
        self.metads.iter().map(|node| node.host.clone()).collect()
    }

    fn make_directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join(name);
        make_directory(&path)?;
        Ok(path)
    }
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(path).with_context(|| format!("make {}", path.display()))
}

/// `ullage keygen`.
fn keygen(path: &Path) -> anyhow::Result<()> {
    let mut command = ullage(&[])?;
    command.arg("keygen").arg(path);
    let output = output_within(&mut command, ready_deadline())?;
    ensure!(
        output.status.success(),
        "ullage keygen: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
