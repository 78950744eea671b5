//! The metadata service's leader dies while everybody writes: writes resume, nothing acknowledged is lost, and
//! a conditional write that was in flight is told of its own win.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::task::JoinHandle;
use ullage_integration::cluster::Cluster;
use ullage_integration::content::Content;
use ullage_integration::history::History;
use ullage_integration::http1::Body;
use ullage_integration::s3::{Request, S3};
use ullage_integration::traffic::{Plan, Traffic};
use ullage_integration::{seed, settle, validate};

/// What the writers write.
const BUCKET: &str = "leader";
/// What is written on condition.
const CLAIMS: &str = "claims";
/// How soon writes must resume after the leader's death.
const RESUMED_WITHIN: Duration = Duration::from_secs(5);
/// How soon they must resume in the one round in ten in which the machine may have stood still itself.
const RESUMED_AT_LAST: Duration = Duration::from_secs(20);

/// Writes that make a new key each, on condition that it is not there. Nobody else writes these keys, so each
/// must end with its own win.
struct Claims {
    stop: Arc<AtomicBool>,
    claimant: JoinHandle<anyhow::Result<Vec<(String, Content)>>>,
}

impl Claims {
    fn start(s3: &S3, seed: u64, name: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (s3, until) = (s3.clone(), Arc::clone(&stop));
        let claimant = tokio::spawn(async move {
            let mut won = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let key = format!("{name}/{:05}", won.len());
                // In turn in the FAT itself and at vendors.
                let length = if won.len() % 2 == 0 { 700 } else { 40_000 };
                let content = Content::new(seed, &key, length);
                claim(&s3, &key, content).await?;
                won.push((key, content));
            }
            Ok(won)
        });
        Self { stop, claimant }
    }

    async fn finish(self) -> anyhow::Result<Vec<(String, Content)>> {
        self.stop.store(true, Ordering::Relaxed);
        self.claimant.await.context("join a claimant")?
    }
}

/// One conditional write. An answer that says "try again" is taken at its word; one that leaves the outcome
/// open is none: the gateway can find out, and must.
async fn claim(s3: &S3, key: &str, content: Content) -> anyhow::Result<()> {
    let request = Request::object("PUT", CLAIMS, key).headers(&[("if-none-match", "*")]);
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = s3.send(&request, Body::Content(content)).await?;
        match answer.status() {
            200 => return Ok(()),
            503 if Instant::now() < end => tokio::time::sleep(Duration::from_millis(50)).await,
            status => anyhow::bail!("{key}: its only writer was told {status}: {}", answer.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_resume_and_nothing_is_lost_when_the_leader_is_killed() -> anyhow::Result<()> {
    let seed = seed::announce("writes_resume_and_nothing_is_lost_when_the_leader_is_killed");
    let rounds = seed::number_from_env("ULLAGE_TEST_LEADER_KILLS", 20);
    let mut cluster = Cluster::start_default().await?;
    let clients = [cluster.s3(0), cluster.s3(1)];
    clients[0].create_bucket(BUCKET).await?;
    clients[0].create_bucket(CLAIMS).await?;
    let plan = Plan {
        writers: 4,
        ..Plan::varied(BUCKET, seed)
    };
    let mut history = History::default();
    let mut claimed = Vec::new();
    let mut resumed = Vec::new();
    for round in 0..rounds {
        let traffic = Traffic::start(&clients[0], &plan, round, &history);
        let claims: Vec<_> = (0..2)
            .map(|index| Claims::start(&clients[index], seed, format!("{round}-{index}")))
            .collect();
        settle::until(Duration::from_secs(30), async || {
            ensure!(traffic.acknowledged() >= 20, "only {}", traffic.acknowledged());
            Ok(())
        })
        .await?;
        let leader = cluster.wait_for_leader(0).await?;
        cluster.metads[leader].kill()?;
        let killed = Instant::now();
        let key = format!("resumed/{round}");
        let content = Content::new(seed, &key, 100);
        settle::until(RESUMED_AT_LAST, async || {
            clients[1].put(CLAIMS, &key, Body::Content(content)).await
        })
        .await
        .with_context(|| format!("round {round}: writes do not resume"))?;
        resumed.push(killed.elapsed());
        let before = traffic.acknowledged();
        settle::until(Duration::from_secs(30), async || {
            ensure!(traffic.acknowledged() >= before + 20, "the writers do not go on");
            Ok(())
        })
        .await?;
        for claims in claims {
            claimed.extend(claims.finish().await.with_context(|| format!("round {round}"))?);
        }
        history = traffic.finish().await?;
        cluster.metads[leader].restart().await?;
        validate::check(&clients[1], BUCKET, &mut history)
            .await
            .with_context(|| format!("round {round}"))?;
    }
    resumed.sort();
    println!("{rounds} leaders killed, writes resumed after {resumed:?}");
    let late = resumed.iter().filter(|took| **took > RESUMED_WITHIN).count();
    ensure!(late <= resumed.len() / 10, "writes resumed after {resumed:?}");
    for (key, content) in &claimed {
        clients[0].check(CLAIMS, key, *content).await?;
    }
    println!("{} conditional writes, all told of their own win", claimed.len());
    Ok(())
}
