//! Everything dies at once; everything is restarted one by one under load.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use ullage_integration::cluster::Cluster;
use ullage_integration::content::Content;
use ullage_integration::history::History;
use ullage_integration::http1::Body;
use ullage_integration::s3::{Request, S3};
use ullage_integration::traffic::{Plan, Traffic};
use ullage_integration::{patient, seed, settle, validate};

const BUCKET: &str = "restarts";

#[tokio::test(flavor = "multi_thread")]
async fn everything_killed_at_once_comes_back_with_everything_acknowledged() -> anyhow::Result<()> {
    let seed = seed::announce("everything_killed_at_once_comes_back_with_everything_acknowledged");
    let rounds = seed::number_from_env("ULLAGE_TEST_KILL_ALL_ROUNDS", 5);
    let mut cluster = Cluster::start_default().await?;
    let s3 = cluster.s3(0);
    s3.create_bucket(BUCKET).await?;
    let plan = Plan::varied(BUCKET, seed);
    let mut history = History::default();
    for round in 0..rounds {
        let traffic = Traffic::start(&s3, &plan, round, &history);
        settle::until(Duration::from_secs(60), async || {
            ensure!(traffic.acknowledged() >= 60, "only {}", traffic.acknowledged());
            Ok(())
        })
        .await?;
        cluster.kill_all()?;
        history = traffic.finish().await?;
        cluster.restart_all().await?;
        cluster.wait_for_vendors(cluster.agents.len()).await?;
        let seen = validate::check(&cluster.s3(1), BUCKET, &mut history).await;
        println!(
            "round {round}: {:?}",
            seen.with_context(|| format!("round {round}"))?
        );
    }
    cluster.settle(0).await
}

/// Writes, reads back and deletes until told to stop, as SDKs do; an error is one that their retry did not
/// cover.
async fn work(s3: S3, seed: u64, name: usize, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("worker-{name}/{:05}", done % 50);
        let length = [100, 5000, 300_000, 5 << 20][usize::try_from(done % 4)?];
        let content = Content::new(seed, &format!("{key}#{done}"), length);
        patient::put(&s3, BUCKET, &key, Body::Content(content)).await?;
        let (answer, _) = patient::send(&s3, &Request::object("GET", BUCKET, &key), Body::Empty).await?;
        let answer = answer.expect(200)?;
        ensure!(
            answer.body.len() as u64 == length && content.check(0, &answer.body).is_ok(),
            "{key}: read back as something else"
        );
        if done % 7 == 0 {
            let (answer, _) =
                patient::send(&s3, &Request::object("DELETE", BUCKET, &key), Body::Empty).await?;
            answer.expect(204)?;
        }
        done += 1;
    }
    Ok(done)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_covered_by_ordinary_retries() -> anyhow::Result<()> {
    let seed = seed::announce("a_rolling_restart_is_covered_by_ordinary_retries");
    let mut cluster = Cluster::start_default().await?;
    cluster.s3(0).create_bucket(BUCKET).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..6)
        .map(|name| tokio::spawn(work(cluster.s3(name % 2), seed, name, Arc::clone(&stop))))
        .collect();
    for index in 0..cluster.metads.len() {
        cluster.metads[index]
            .stop()
            .await
            .context("stop a metadata node")?;
        cluster.metads[index].restart().await?;
        cluster.wait_for_leader(0).await?;
    }
    for index in 0..cluster.agents.len() {
        cluster.agents[index]
            .stop()
            .await
            .context("stop a vendor agent")?;
        cluster.agents[index].restart().await?;
        cluster.wait_for_vendors(cluster.agents.len()).await?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut done = 0;
    for worker in workers {
        done += worker.await?.context("a request that retries did not cover")?;
    }
    println!("{done} objects written and read meanwhile");
    ensure!(done >= 50, "the workers hardly worked: {done}");
    cluster.settle(0).await
}
