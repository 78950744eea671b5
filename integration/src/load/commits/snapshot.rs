//! A snapshot of a large state: what it costs to make one, and to give it to a node that has nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::metad::Metad;
use crate::cluster::{Cluster, Node};
use crate::daemon::ready_deadline;
use crate::metrics;
use crate::process::anonymous_bytes;

/// Bytes of log that the nodes keep, so that a new one must be given a snapshot.
const KEEP_BYTES: u64 = 16 << 20;
/// Bytes of log behind which the nodes make snapshots.
const EVERY_BYTES: u64 = 64 << 20;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long a snapshot may be waited for after enough was written.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Objects of 300 bytes in the state.
    pub keys: u64,
    /// Bytes of the snapshot that the new node was given.
    pub bytes: f64,
    /// Seconds that each node took to make its last snapshot while commits went on.
    pub made_seconds: Vec<f64>,
    /// Seconds from the leader's offer until the new node had installed it.
    pub given_seconds: f64,
    /// Seconds from the start of the new node's process until it served.
    pub ready_seconds: f64,
    /// Anonymous memory of each old node before the new one was started.
    pub memory_before: Vec<u64>,
    /// The most that each had until the new one served.
    pub memory_most: Vec<u64>,
    /// The most that the new node had until it served.
    pub memory_new: u64,
}

/// Fills three nodes with `keys` objects below `directory`, waits for a snapshot of all, and starts a fourth node.
///
/// # Errors
/// If a node does not come up, a commit fails, or no snapshot comes.
pub async fn measure(directory: &Path, keys: u64) -> anyhow::Result<Report> {
    std::fs::create_dir_all(directory).context("make the directory")?;
    let settings = format!("raft.keep_log_bytes = {KEEP_BYTES}\nraft.snapshot_after_bytes = {EVERY_BYTES}\n");
    eprintln!("{keys} keys …");
    let mut metad = Metad::start_with(directory, &[], settings, keys).await?;
    let before = built(metad.nodes()).await?;
    eprintln!("a snapshot of all of them …");
    let made_seconds = make(&mut metad, &before).await?;
    eprintln!("a new node …");
    give(metad.nodes(), keys, made_seconds).await
}

/// How many snapshots each node has built, and the seconds of all of them.
async fn built(cluster: &Cluster) -> anyhow::Result<Vec<(f64, f64)>> {
    let mut all = Vec::new();
    for node in &cluster.metads {
        all.push((
            figure(node, "ullage_metad_raft_snapshot_seconds_count").await?,
            figure(node, "ullage_metad_raft_snapshot_seconds_sum").await?,
        ));
    }
    Ok(all)
}

async fn figure(node: &Node, metric: &str) -> anyhow::Result<f64> {
    let page = node.daemon.metrics().await?;
    metrics::sum(&page, metric, "").with_context(|| format!("{} does not tell {metric}", node.name))
}

/// Writes until every node has built a snapshot more than `before`; answers the mean seconds of those of each.
async fn make(metad: &mut Metad, before: &[(f64, f64)]) -> anyhow::Result<Vec<f64>> {
    let began = Instant::now();
    loop {
        let now = built(metad.nodes()).await?;
        let new = || {
            before
                .iter()
                .zip(&now)
                .map(|(old, new)| (new.0 - old.0, new.1 - old.1))
        };
        if new().all(|(count, _)| count >= 1.0) {
            return Ok(new().map(|(count, seconds)| seconds / count).collect());
        }
        ensure!(
            began.elapsed() < ready_deadline() + PATIENCE,
            "no snapshots come: {now:?}"
        );
        // 64 MiB of log are some 130,000 commits.
        metad.store_some_keys(50_000).await?;
    }
}

/// Starts a node that has nothing, and looks at everybody's memory until it serves.
async fn give(cluster: &mut Cluster, keys: u64, made_seconds: Vec<f64>) -> anyhow::Result<Report> {
    let memory = |nodes: &[Node]| -> anyhow::Result<Vec<u64>> {
        nodes
            .iter()
            .map(|node| anonymous_bytes(node.daemon.pid()?))
            .collect()
    };
    let new = cluster.add_metad()?;
    let memory_before = memory(&cluster.metads[..new])?;
    let began = Instant::now();
    cluster.metads[new].spawn()?;
    let mut most = [memory_before.clone(), vec![0]].concat();
    let (old, added) = cluster.metads.split_at_mut(new);
    let Some(node) = added.first_mut() else {
        bail!("there is no new node")
    };
    let pid = node.daemon.pid()?;
    {
        let mut ready = std::pin::pin!(node.wait_ready(ready_deadline()));
        loop {
            tokio::select! {
                ready = &mut ready => break ready?,
                () = tokio::time::sleep(LOOK) => {
                    let now = [memory(old)?, vec![anonymous_bytes(pid)?]].concat();
                    for (most, now) in most.iter_mut().zip(now) {
                        *most = now.max(*most);
                    }
                }
            }
        }
    }
    let ready_seconds = began.elapsed().as_secs_f64();
    let bytes = figure(node, "ullage_metad_raft_snapshot_received_bytes_total").await?;
    let installed = figure(node, "ullage_metad_raft_snapshot_received_seconds_count").await?;
    ensure!(installed >= 1.0, "the new node was given log, and no snapshot");
    let given_seconds = figure(node, "ullage_metad_raft_snapshot_received_seconds_sum").await? / installed;
    let memory_new = most.pop().unwrap_or_default();
    Ok(Report {
        keys,
        bytes,
        made_seconds,
        given_seconds,
        ready_seconds,
        memory_before,
        memory_most: most,
        memory_new,
    })
}

impl Report {
    /// In a few lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mb = |bytes: &[u64]| {
            let all: Vec<String> = bytes
                .iter()
                .map(|bytes| format!("{:.0}", *bytes as f64 / 1e6))
                .collect();
            format!("{} MB", all.join(", "))
        };
        let made: Vec<String> = self
            .made_seconds
            .iter()
            .map(|seconds| format!("{seconds:.2} s"))
            .collect();
        format!(
            "{} keys, a snapshot of {:.0} MB\nmade in {} while commits went on, each node its own\n\
             given to a new node and installed in {:.2} s; it served {:.2} s after its start\n\
             anonymous memory of the old nodes: {} before, at most {}; of the new one at most {}",
            self.keys,
            self.bytes / 1e6,
            made.join(", "),
            self.given_seconds,
            self.ready_seconds,
            mb(&self.memory_before),
            mb(&self.memory_most),
            mb(&[self.memory_new]),
        )
    }
}
