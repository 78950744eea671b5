//! Clocks that are wrong and leaders that stand still: no lease ends early, and writes go on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ullage_integration::clients::{find, skip};
use ullage_integration::cluster::Cluster;
use ullage_integration::content::Content;
use ullage_integration::history::History;
use ullage_integration::http1::Body;
use ullage_integration::s3::S3;
use ullage_integration::traffic::{Plan, Traffic};
use ullage_integration::{metrics, patient, seed, settle, validate};

const BUCKET: &str = "clocks";
/// Longer than a session lives without a sign of life.
const WATCHED: Duration = Duration::from_secs(40);
/// How long writes may stand still: a disk may, and the group may change its leader then.
const STANDSTILL: Duration = Duration::from_secs(20);

/// Keeps traffic up for a while; none of the sessions may end meanwhile, and what is written stays.
async fn goes_on(
    cluster: &Cluster,
    s3: &S3,
    seed: u64,
    history: &mut History,
    round: u64,
) -> anyhow::Result<()> {
    let before = sessions(cluster).await?;
    // Where a disk stands still, a write may be told to come again. It must succeed then.
    let plan = Plan {
        attempts: patient::ATTEMPTS,
        ..Plan::varied(BUCKET, seed)
    };
    let traffic = Traffic::start(s3, &plan, round, history);
    let (end, mut acknowledged) = (Instant::now() + WATCHED, 0);
    while Instant::now() < end {
        settle::until(STANDSTILL, async || {
            ensure!(
                traffic.acknowledged() > acknowledged,
                "writes stand still at {acknowledged}"
            );
            Ok(())
        })
        .await?;
        acknowledged = traffic.acknowledged();
        let now = sessions(cluster).await?;
        ensure!(
            now == before,
            "(live, opened) are {now:?}, were {before:?}: a session ended early"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let next = traffic.finish().await?;
    ensure!(next.unknown == 0, "{} writes failed", next.unknown);
    *history = next;
    validate::check(s3, BUCKET, history).await.map(drop)
}

/// Sessions that live, and how many the gateways have opened: one that ended and was followed by another shows in
/// the second.
async fn sessions(cluster: &Cluster) -> anyhow::Result<(u64, Vec<Option<f64>>)> {
    let mut opened = Vec::new();
    for gateway in &cluster.gateways {
        let page = gateway.daemon.metrics().await?;
        opened.push(metrics::sum(&page, "ullage_gateway_sessions_total", ""));
    }
    ensure!(opened.iter().all(Option::is_some), "a gateway counts no sessions");
    Ok((cluster.admin(0).status()?.sessions, opened))
}

/// Builds what makes a process's wall clock wrong. `None` where there is no C compiler.
fn wrong_clock(directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(compiler) = ["cc", "gcc", "clang"].into_iter().find_map(find) else {
        return Ok(None);
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/wrong_clock.c");
    let library = directory.join("wrong_clock.so");
    let mut command = Command::new(compiler);
    command
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source);
    let status = command.status().context("start the C compiler")?;
    ensure!(status.success(), "the C compiler: {status}");
    Ok(Some(library))
}

/// A leader whose wall clock is so many seconds off.
async fn leader_with_clock(cluster: &mut Cluster, library: &Path, offset: &str) -> anyhow::Result<()> {
    let wrong = 0;
    cluster.metads[wrong].stop().await?;
    cluster.metads[wrong].environment = vec![
        ("LD_PRELOAD".to_owned(), library.display().to_string()),
        ("WRONG_CLOCK_SECONDS".to_owned(), offset.to_owned()),
    ];
    cluster.metads[wrong].restart().await?;
    cluster.wait_for_leader(0).await?;
    let members = cluster.admin(0).members()?;
    let address = cluster.metads[wrong].address.to_string();
    let node = members.members.iter().find(|member| member.address == address);
    let node = node.context("the node is no member")?.node.to_string();
    settle::until(Duration::from_secs(30), async || {
        if cluster.leader(0)? != wrong {
            cluster.admin(0).run(&["metad", "transfer", &node])?;
        }
        ensure!(cluster.leader(0)? == wrong, "it does not lead yet");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_wall_clock_is_an_hour_off_ends_no_lease_early() -> anyhow::Result<()> {
    let name = "a_leader_whose_wall_clock_is_an_hour_off_ends_no_lease_early";
    let seed = seed::announce(name);
    let directory = tempfile::tempdir()?;
    let Some(library) = wrong_clock(directory.path())? else {
        skip(name, "no C compiler");
        return Ok(());
    };
    let mut cluster = Cluster::start_default().await?;
    let s3 = cluster.s3(0);
    s3.create_bucket(BUCKET).await?;
    let mut history = History::default();
    for (round, offset) in [(0, "3600"), (1, "-3600")] {
        leader_with_clock(&mut cluster, &library, offset)
            .await
            .with_context(|| offset.to_owned())?;
        goes_on(&cluster, &s3, seed, &mut history, round)
            .await
            .with_context(|| format!("a leader at {offset}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_for_a_minute_ends_no_lease_early() -> anyhow::Result<()> {
    let seed = seed::announce("a_leader_that_stood_still_for_a_minute_ends_no_lease_early");
    let cluster = Cluster::start_default().await?;
    let s3 = cluster.s3(0);
    s3.create_bucket(BUCKET).await?;
    let before = sessions(&cluster).await?;
    let leader = cluster.wait_for_leader(0).await?;
    cluster.metads[leader].pause()?;
    let stopped = Instant::now();
    let mut stored = Vec::new();
    while stopped.elapsed() < Duration::from_secs(60) {
        let key = format!("meanwhile/{:03}", stored.len());
        let content = Content::new(seed, &key, 20_000);
        settle::until(STANDSTILL, async || {
            s3.put(BUCKET, &key, Body::Content(content)).await
        })
        .await
        .context("while the leader stands still")?;
        stored.push((key, content));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    cluster.metads[leader].resume()?;
    let mut history = History::default();
    s3.create_bucket("after").await?;
    for (key, content) in &stored {
        s3.check(BUCKET, key, *content).await?;
        s3.delete(BUCKET, key).await?;
    }
    ensure!(
        sessions(&cluster).await? == before,
        "a session ended while the leader stood still"
    );
    goes_on(&cluster, &s3, seed, &mut history, 0).await
}
