//! A gateway dies, or sleeps past the end of its session: its room comes back, and what it says when it wakes
//! is true.

use std::time::Duration;

use anyhow::ensure;
use ullage_integration::cluster::Cluster;
use ullage_integration::content::Content;
use ullage_integration::history::History;
use ullage_integration::http1::Body;
use ullage_integration::s3::{Request, S3};
use ullage_integration::traffic::{Plan, Traffic};
use ullage_integration::{seed, settle, validate};

const BUCKET: &str = "gateways";
const MIB: u64 = 1 << 20;

/// Waits until so many sessions live.
async fn sessions(cluster: &Cluster, count: u64) -> anyhow::Result<()> {
    settle::until(settle::deadline(), async || {
        let status = cluster.admin(0).status()?;
        ensure!(status.sessions == count, "{} sessions", status.sessions);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_of_a_killed_gateway_comes_back() -> anyhow::Result<()> {
    let seed = seed::announce("the_room_of_a_killed_gateway_comes_back");
    let mut cluster = Cluster::start_default().await?;
    let s3 = cluster.s3(0);
    s3.create_bucket(BUCKET).await?;
    let kept = Content::new(seed, "kept", 10 * MIB);
    s3.put(BUCKET, "kept", Body::Content(kept)).await?;
    cluster.settle(0).await?;
    let before = cluster.admin(0).status()?;
    let (disk_before, survivors) = (cluster.device_bytes(), leases(&cluster)?);

    let doomed: Vec<_> = (0..4)
        .map(|index| {
            let (s3, key) = (cluster.s3(1), format!("doomed/{index}"));
            let content = Content::new(seed, &key, 256 * MIB);
            tokio::spawn(async move { s3.put(BUCKET, &key, Body::Content(content)).await.is_ok() })
        })
        .collect();
    settle::until(Duration::from_secs(60), async || {
        let grown = cluster.device_bytes().saturating_sub(disk_before);
        ensure!(grown > 64 * MIB, "only {grown} bytes are on their way");
        Ok(())
    })
    .await?;
    cluster.gateways[1].kill()?;
    for upload in doomed {
        ensure!(
            !upload.await?,
            "an upload through a dead gateway was acknowledged"
        );
    }
    sessions(&cluster, 1).await?;
    settle::until(settle::deadline(), async || {
        let open = leases(&cluster)?;
        let others: Vec<_> = open.iter().filter(|lease| !survivors.contains(lease)).collect();
        let status = cluster.admin(0).status()?;
        ensure!(
            status.room.used == before.room.used,
            "{} bytes used, {} before: {others:?}",
            status.room.used,
            before.room.used
        );
        Ok(())
    })
    .await?;
    cluster.settle(0).await?;
    ensure!(
        s3.list_keys(BUCKET, "").await? == ["kept"],
        "what was never finished shows"
    );
    s3.check(BUCKET, "kept", kept).await?;
    let devices: usize = (0..cluster.agents.len())
        .map(|vendor| cluster.devices(vendor).len())
        .sum();
    let bound = disk_before + devices as u64 * 2 * 64 * MIB;
    settle::until(settle::deadline(), async || {
        let bytes = cluster.device_bytes();
        ensure!(bytes <= bound, "{bytes} bytes on the devices, {bound} allowed");
        Ok(())
    })
    .await?;
    cluster.gateways[1].restart().await?;
    cluster.s3(1).check(BUCKET, "kept", kept).await?;
    // Started again at once, it ends the session it had; nobody waits for that one's time to be over.
    cluster.gateways[1].kill()?;
    cluster.gateways[1].restart().await?;
    settle::until(Duration::from_secs(10), async || {
        let status = cluster.admin(0).status()?;
        ensure!(status.sessions == 2, "{} sessions", status.sessions);
        Ok(())
    })
    .await
}

/// The sessions that hold leases.
fn leases(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let leases = cluster.admin(0).leases()?;
    Ok(leases.into_iter().map(|lease| lease.lease.0).collect())
}

/// A conditional write through a gateway that sleeps meanwhile; its status, or 0 if there was none.
async fn claim(s3: S3, key: String, content: Content) -> (String, Content, u16) {
    let request = Request::object("PUT", BUCKET, &key).headers(&[("if-none-match", "*")]);
    let status = s3
        .send(&request, Body::Content(content))
        .await
        .map_or(0, |answer| answer.status());
    (key, content, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_slept_past_its_session_tells_no_lies() -> anyhow::Result<()> {
    let seed = seed::announce("a_gateway_that_slept_past_its_session_tells_no_lies");
    let cluster = Cluster::start_default().await?;
    let (awake, sleepy) = (cluster.s3(0), cluster.s3(1));
    for bucket in [BUCKET, "traffic"] {
        awake.create_bucket(bucket).await?;
    }
    sessions(&cluster, 2).await?;
    let plan = Plan::varied("traffic", seed);
    let traffic = Traffic::start(&sleepy, &plan, 0, &History::default());
    settle::until(Duration::from_secs(30), async || {
        ensure!(traffic.acknowledged() >= 20, "only {}", traffic.acknowledged());
        Ok(())
    })
    .await?;
    let claims: Vec<_> = (0..32)
        .map(|index| {
            let key = format!("claim/{index:02}");
            let length = [500, 40_000, 6 * MIB][index % 3];
            tokio::spawn(claim(
                sleepy.clone(),
                key.clone(),
                Content::new(seed, &key, length),
            ))
        })
        .collect();
    // Some of them are under way now, whichever: that is all that matters.
    tokio::time::sleep(Duration::from_millis(30)).await;
    cluster.gateways[1].pause()?;
    sessions(&cluster, 1).await?;
    cluster.gateways[1].resume()?;
    let mut open = 0;
    for claim in claims {
        let (key, content, status) = claim.await?;
        match status {
            200 => awake.check(BUCKET, &key, content).await?,
            // The one writer of this key cannot have lost to anybody.
            412 => anyhow::bail!("{key}: its only writer was told 412"),
            _ => {
                open += 1;
                let there = awake.get(BUCKET, &key).await?;
                ensure!(
                    there.status() == 404 || content.check(0, &there.body).is_ok(),
                    "{key} after {status}: {}",
                    there.status()
                );
            }
        }
    }
    println!("{open} of 32 conditional writes ended without an acknowledgement");
    // It takes a new session by itself and serves again.
    let content = Content::new(seed, "awake", 100_000);
    settle::until(settle::deadline(), async || {
        sleepy.put(BUCKET, "awake", Body::Content(content)).await
    })
    .await?;
    sessions(&cluster, 2).await?;
    let mut history = traffic.finish().await?;
    validate::check(&awake, "traffic", &mut history).await?;
    cluster.settle(0).await
}
