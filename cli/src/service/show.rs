//! `ullage vendor-agent --show`: the local FAT of an agent that does not run, straight from its devices.

use crate::BadConfiguration;
use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus::Registry;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::sync::Arc;
use ullage_model::ids::VendorId;
use ullage_model::wire::agent::{
    Heartbeat, HeartbeatReply, JudgeReply, JudgeRequest, RegisterReply, RegisterRequest,
};
use ullage_model::wire::chunk::{ChunkHeader, ChunkRefusal, HopReport};
use ullage_vendor_agent::local_fat::IndexHome;
use ullage_vendor_agent::{
    Agent, ChunkParts, Config, HopReports, LocalCopy, MetadClient, MetadError, PeerSender, Seams,
    SystemClock, Workers,
};

/// Copies listed at a time.
const PAGE: usize = 1000;

/// Prints the local FAT, copy by copy.
///
/// # Errors
/// When there is none, the agent runs, or its data cannot be read.
pub fn show(config: Config) -> anyhow::Result<()> {
    if !config.data.join("key").exists() {
        anyhow::bail!(BadConfiguration(format!(
            "data = {}: no vendor agent has kept anything there",
            config.data.display()
        )));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let seams = Seams {
            clock: Arc::new(SystemClock::default()),
            // There is a key.
            key_seed: Box::new(|| [0; 32]),
            metad: Arc::new(Nobody),
            peers: Arc::new(Nobody),
            index: IndexHome::OnDisk,
            registry: Registry::new(),
            devices: None,
            workers: Workers::Threads,
        };
        let opened = tokio::task::spawn_blocking(move || Agent::open(config, seams)).await;
        let agent = opened.context("opening the local FAT panicked")?;
        let agent = agent.context(
            "cannot open the local FAT; while the agent runs, `ullage admin vendor local-fat` lists it",
        )?;
        let listed = list(&agent).await;
        tokio::task::spawn_blocking(move || agent.close())
            .await
            .context("closing the local FAT panicked")?
            .context("cannot close the local FAT")?;
        listed
    })
}

async fn list(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let mut out = format!(
        "{:<24} {:>10} {:>10}  {:<8} PIECES (device:segment:offset)\n",
        "CHUNK", "LEASE", "BYTES", "STATE"
    );
    let mut after = None;
    loop {
        let page = agent
            .list_copies(after, PAGE)
            .await
            .context("cannot read the local FAT")?;
        for copy in &page {
            line(&mut out, copy);
        }
        match std::io::stdout().lock().write_all(out.as_bytes()) {
            // The reader has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("cannot print")?,
        }
        out.clear();
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.copy),
            _ => return Ok(()),
        }
    }
}

fn line(out: &mut String, copy: &LocalCopy) {
    let chunk = format!("{}.{}", copy.copy.chunk.lease.0, copy.copy.chunk.counter);
    let state = match copy {
        LocalCopy { erased: true, .. } => "erased",
        LocalCopy { complete: false, .. } => "partial",
        LocalCopy { kept: true, .. } => "kept",
        LocalCopy { .. } => "whole",
    };
    let pieces = copy
        .pieces
        .iter()
        .map(|piece| format!("{}:{}:{}", piece.device.0, piece.segment, piece.offset));
    let pieces: Vec<String> = pieces.collect();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{chunk:<24} {:>10} {:>10}  {state:<8} {}",
        copy.copy.lease.0,
        copy.plaintext_bytes,
        pieces.join(" ")
    );
}

/// The other services, which nobody asks: the agent is opened and not run.
#[derive(Debug)]
struct Nobody;

fn nobody<T: Send + 'static>() -> BoxFuture<'static, Result<T, MetadError>> {
    std::future::ready(Err(MetadError::Unavailable("the agent does not run".to_owned()))).boxed()
}

impl MetadClient for Nobody {
    fn register(&self, _: RegisterRequest) -> BoxFuture<'_, Result<RegisterReply, MetadError>> {
        nobody()
    }

    fn heartbeat(&self, _: Heartbeat) -> BoxFuture<'_, Result<HeartbeatReply, MetadError>> {
        nobody()
    }

    fn judge(&self, _: JudgeRequest) -> BoxFuture<'_, Result<JudgeReply, MetadError>> {
        nobody()
    }
}

impl PeerSender for Nobody {
    fn put_chunk(&self, vendor: VendorId, _: ChunkHeader, _: ChunkParts) -> BoxFuture<'_, HopReports> {
        let failed = HopReport::Failed {
            vendor,
            from: None,
            refusal: ChunkRefusal::NotReady,
        };
        std::future::ready(Box::pin(futures::stream::iter([failed])) as HopReports).boxed()
    }
}
