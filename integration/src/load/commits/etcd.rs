//! etcd: three processes on loopback with fsync, and clients of its v3 gRPC API on its leader.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};

use super::grpc::{Channel, Value, fields, put_bytes};
use super::{COMMAND_BYTES, CONNECTIONS, KEYS, Service};
use crate::daemon::wrapped;

/// Nodes.
const NODES: usize = 3;
/// How long it may take to elect a leader.
const ELECTION: Duration = Duration::from_secs(30);
/// Bytes of a key.
const KEY_BYTES: usize = 24;

/// A running cluster with connections to its leader. Its processes end when it is dropped.
pub struct Etcd {
    nodes: Vec<Child>,
    leader: Vec<Channel>,
    value: Bytes,
}

impl Etcd {
    /// Starts three nodes with data below `directory`, each by `wrapper` if that is a program, and writes every key
    /// once.
    ///
    /// # Errors
    /// If they do not elect a leader in time.
    pub async fn start(program: &Path, directory: &Path, wrapper: &[String]) -> anyhow::Result<Self> {
        let ports = free_ports(2 * NODES)?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let peers: Vec<String> = (0..NODES).map(|at| format!("n{at}={}", url(ports[at]))).collect();
        let mut etcd = Self {
            nodes: Vec::new(),
            leader: Vec::new(),
            value: Bytes::from(vec![0x5a; COMMAND_BYTES - KEY_BYTES]),
        };
        for at in 0..NODES {
            let data = directory.join(format!("etcd-{at}"));
            if data.exists() {
                std::fs::remove_dir_all(&data).context("remove old data")?;
            }
            let (peer, client) = (url(ports[at]), url(ports[NODES + at]));
            let node = wrapped(wrapper, program)
                .args(["--name", &format!("n{at}"), "--data-dir"])
                .arg(&data)
                .args([
                    "--listen-peer-urls",
                    &peer,
                    "--initial-advertise-peer-urls",
                    &peer,
                ])
                .args([
                    "--listen-client-urls",
                    &client,
                    "--advertise-client-urls",
                    &client,
                ])
                .args([
                    "--initial-cluster",
                    &peers.join(","),
                    "--initial-cluster-state",
                    "new",
                ])
                .args([
                    "--initial-cluster-token",
                    "bench",
                    "--logger",
                    "zap",
                    "--log-level",
                    "error",
                ])
                // Room for all that a run writes: nothing is compacted meanwhile.
                .args(["--quota-backend-bytes", "8589934592"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .with_context(|| format!("start {}", program.display()))?;
            etcd.nodes.push(node);
        }
        let address = etcd.wait_for_leader(&ports[NODES..]).await?;
        for _ in 0..CONNECTIONS {
            etcd.leader.push(Channel::connect(&address).await?);
        }
        etcd.write_all_keys().await?;
        Ok(etcd)
    }

    /// The address of the node that leads.
    async fn wait_for_leader(&mut self, ports: &[u16]) -> anyhow::Result<String> {
        let until = Instant::now() + ELECTION;
        loop {
            for port in ports {
                let address = format!("127.0.0.1:{port}");
                if leads(&address).await.unwrap_or(false) {
                    return Ok(address);
                }
            }
            for node in &mut self.nodes {
                if let Some(status) = node.try_wait().context("look at etcd")? {
                    bail!("etcd ended: {status}");
                }
            }
            ensure!(Instant::now() < until, "etcd elected no leader");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// So that every read finds something.
    async fn write_all_keys(&self) -> anyhow::Result<()> {
        const LANES: u64 = 512;
        let lane = |first: u64| async move {
            for key in (first..KEYS).step_by(usize::try_from(LANES).unwrap_or(1)) {
                let client = usize::try_from(first).unwrap_or(0);
                self.commit(client, key).await?;
            }
            anyhow::Ok(())
        };
        futures::future::try_join_all((0..LANES).map(lane)).await?;
        Ok(())
    }

    fn channel(&self, client: usize) -> &Channel {
        &self.leader[client % self.leader.len()]
    }
}

impl Service for Etcd {
    fn label(&self) -> &'static str {
        "etcd"
    }

    fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Child::id).collect()
    }

    /// `PutRequest { key = 1, value = 2 }`.
    async fn commit(&self, client: usize, number: u64) -> anyhow::Result<()> {
        let mut put = BytesMut::with_capacity(COMMAND_BYTES + 8);
        put_bytes(&mut put, 1, &key(number));
        put_bytes(&mut put, 2, &self.value);
        self.channel(client).call("/etcdserverpb.KV/Put", &put).await?;
        Ok(())
    }

    /// `RangeRequest { key = 1 }`, linearizable unless it says otherwise; `RangeResponse { kvs = 2 }`.
    async fn read(&self, client: usize, number: u64) -> anyhow::Result<()> {
        let mut range = BytesMut::new();
        put_bytes(&mut range, 1, &key(number));
        let answer = self
            .channel(client)
            .call("/etcdserverpb.KV/Range", &range)
            .await?;
        ensure!(
            fields(answer)?.iter().any(|(field, _)| *field == 2),
            "key {number} is not there"
        );
        Ok(())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended already; either way it is gone after the wait.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("{number:0KEY_BYTES$}").into_bytes()
}

/// `StatusResponse { header = 1 { member_id = 2 }, leader = 4 }`: whether the node there leads.
async fn leads(address: &str) -> anyhow::Result<bool> {
    let channel = Channel::connect(address).await?;
    let answer = channel.call("/etcdserverpb.Maintenance/Status", &[]).await?;
    let answer = fields(answer)?;
    let header = answer.iter().find_map(|(field, value)| match value {
        Value::Bytes(header) if *field == 1 => Some(header.clone()),
        _ => None,
    });
    let number = |fields: &[(u64, Value)], wanted| {
        fields.iter().find_map(|(field, value)| match value {
            Value::Number(number) if *field == wanted => Some(*number),
            _ => None,
        })
    };
    let member = number(&fields(header.context("no header")?)?, 2);
    Ok(member.is_some() && member == number(&answer, 4))
}

/// Ports that nobody listens at.
///
/// # Errors
/// If the system has none.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners: Result<Vec<TcpListener>, _> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let listeners = listeners.context("find free ports")?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr().context("which port")?.port()))
        .collect()
}
