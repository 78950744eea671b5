//! A vendor dies, is stopped or becomes unreachable in the middle of an upload: the upload succeeds on others,
//! and when the vendor is back, what it holds of it is closed and erased.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ullage_integration::clients::skip;
use ullage_integration::cluster::{AgentPlan, Cluster, Direction, Placement, Plan};
use ullage_integration::content::Content;
use ullage_integration::http1::Body;
use ullage_integration::process::disk_bytes;
use ullage_integration::s3::S3;
use ullage_integration::{seed, settle};

const BUCKET: &str = "vendors";
const MIB: u64 = 1 << 20;
/// Long enough to be under way when the vendor fails.
const OBJECT_BYTES: u64 = 96 * MIB;
/// Uploads under way at a time.
const UPLOADS: usize = 3;
/// Garbage and index that a vendor may have beyond two segments of each device.
const BOUND_BYTES: u64 = 64 * MIB;
/// How long an upload may take that has to find another vendor.
const UPLOADED_WITHIN: Duration = Duration::from_secs(50);

/// How a vendor fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Killed,
    Stopped,
    Unreachable,
}

fn fail(cluster: &mut Cluster, vendor: usize, failure: Failure) -> anyhow::Result<()> {
    match failure {
        Failure::Killed => cluster.agents[vendor].kill(),
        Failure::Stopped => cluster.agents[vendor].pause(),
        Failure::Unreachable => everybody_else(cluster, vendor)
            .iter()
            .try_for_each(|other| cluster.agents[vendor].host.cut(other, Direction::Both)),
    }
}

async fn bring_back(cluster: &mut Cluster, vendor: usize, failure: Failure) -> anyhow::Result<()> {
    match failure {
        Failure::Killed => cluster.agents[vendor].restart().await,
        Failure::Stopped => cluster.agents[vendor].resume(),
        Failure::Unreachable => cluster.agents[vendor].host.heal(),
    }
}

fn everybody_else(cluster: &Cluster, vendor: usize) -> Vec<ullage_integration::cluster::Host> {
    let agents = cluster.agents.iter().enumerate();
    let others = agents.filter(|(index, _)| *index != vendor).map(|(_, node)| node);
    let all = cluster.metads.iter().chain(&cluster.gateways).chain(others);
    all.map(|node| node.host.clone()).collect()
}

fn held(cluster: &Cluster, vendor: usize) -> u64 {
    cluster
        .devices(vendor)
        .iter()
        .map(|device| disk_bytes(device))
        .sum()
}

async fn upload_past(cluster: &mut Cluster, s3: &S3, seed: u64, failure: Failure) -> anyhow::Result<()> {
    let before: Vec<u64> = (0..cluster.agents.len())
        .map(|vendor| held(cluster, vendor))
        .collect();
    let contents: Vec<(String, Content)> = (0..UPLOADS)
        .map(|index| {
            let key = format!("{failure:?}/{index}");
            (key.clone(), Content::new(seed, &key, OBJECT_BYTES))
        })
        .collect();
    let uploads: Vec<_> = contents
        .iter()
        .cloned()
        .map(|(key, content)| {
            let s3 = s3.clone();
            tokio::spawn(async move { s3.put(BUCKET, &key, Body::Content(content)).await })
        })
        .collect();
    // The first one that has taken a good part of a chunk or two is in the middle of all uploads.
    let victim = settle::until(Duration::from_secs(30), async || {
        let busy = (0..before.len()).find(|vendor| held(cluster, *vendor) > before[*vendor] + 9 * MIB);
        busy.context("no vendor has taken anything")
    })
    .await?;
    ensure!(
        uploads.iter().any(|upload| !upload.is_finished()),
        "the uploads were over too soon"
    );
    fail(cluster, victim, failure)?;
    for upload in uploads {
        tokio::time::timeout(UPLOADED_WITHIN, upload)
            .await
            .with_context(|| format!("{failure:?}: an upload hangs"))?
            .context("join an upload")?
            .with_context(|| format!("{failure:?}: an upload failed"))?;
    }
    for (key, content) in &contents {
        s3.check(BUCKET, key, *content)
            .await
            .with_context(|| format!("{key}, while a vendor is away"))?;
    }
    bring_back(cluster, victim, failure).await?;
    cluster.wait_for_vendors(cluster.agents.len()).await?;
    cluster
        .settle(0)
        .await
        .with_context(|| format!("{failure:?}: after the vendor's return"))?;
    for (key, content) in &contents {
        s3.check(BUCKET, key, *content).await?;
        s3.delete(BUCKET, key).await?;
    }
    cluster.settle(0).await?;
    let devices: usize = (0..cluster.agents.len())
        .map(|vendor| cluster.devices(vendor).len())
        .sum();
    let bound = devices as u64 * 2 * 64 * MIB + BOUND_BYTES;
    settle::until(settle::deadline(), async || {
        let bytes = cluster.device_bytes();
        ensure!(
            bytes <= bound,
            "{bytes} bytes on the devices with nothing stored, {bound} allowed"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_a_killed_and_a_stopped_vendor() -> anyhow::Result<()> {
    let seed = seed::announce("an_upload_outlives_a_killed_and_a_stopped_vendor");
    let mut cluster = Cluster::start_default().await?;
    let s3 = cluster.s3(0);
    s3.create_bucket(BUCKET).await?;
    upload_past(&mut cluster, &s3, seed, Failure::Killed).await?;
    upload_past(&mut cluster, &s3, seed, Failure::Stopped).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_a_vendor_that_becomes_unreachable() -> anyhow::Result<()> {
    let name = "an_upload_outlives_a_vendor_that_becomes_unreachable";
    let seed = seed::announce(name);
    if let Some(reason) = Placement::Namespaces.unavailable() {
        skip(name, &reason);
        return Ok(());
    }
    let plan = Plan {
        placement: Placement::Namespaces,
        agents: vec![AgentPlan::default(); 4],
        ..Plan::default()
    };
    let mut cluster = Cluster::start(plan).await?;
    let s3 = cluster.s3(0);
    s3.create_bucket(BUCKET).await?;
    upload_past(&mut cluster, &s3, seed, Failure::Unreachable).await
}
