//! Partitions: whoever is cut off from the majority serves no stale read and no write; one-way too.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ullage_integration::clients::skip;
use ullage_integration::cluster::{Cluster, Direction, Host, Placement, Plan};
use ullage_integration::content::Content;
use ullage_integration::http1::Body;
use ullage_integration::s3::{Request, S3};
use ullage_integration::{seed, settle};

const BUCKET: &str = "partitions";
/// How soon the majority must serve writes again.
const RESUMED_WITHIN: Duration = Duration::from_secs(10);
/// How long the cut-off side is asked; what it has not said by then it does not say.
const ASKED_FOR: Duration = Duration::from_secs(8);

/// Asks the gateway that reaches the minority only; whatever it answers must not be old, and no write.
async fn minority_is_silent(
    cut_off: &S3,
    seed: u64,
    key: &str,
    old: Content,
    round: usize,
) -> anyhow::Result<()> {
    let read = tokio::time::timeout(ASKED_FOR, cut_off.get(BUCKET, key)).await;
    if let Ok(Ok(answer)) = read
        && answer.status() == 200
    {
        ensure!(
            old.check(0, &answer.body).is_err(),
            "round {round}: the minority served what the majority had replaced"
        );
        anyhow::bail!("round {round}: the minority served a read");
    }
    let content = Content::new(seed, &format!("lost#{round}"), 300);
    let key = format!("minority/{round}");
    let write = cut_off.put(BUCKET, &key, Body::Content(content));
    if let Ok(Ok(answer)) = tokio::time::timeout(ASKED_FOR, write).await {
        anyhow::bail!("round {round}: the minority took a write: {answer:?}");
    }
    Ok(())
}

fn host(cluster: &Cluster, metad: usize) -> Host {
    cluster.metads[metad].host.clone()
}

/// The metadata nodes but `one`.
fn others(one: usize) -> [usize; 2] {
    [(one + 1) % 3, (one + 2) % 3]
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_cut_off_serves_neither_old_reads_nor_writes() -> anyhow::Result<()> {
    let name = "whoever_is_cut_off_serves_neither_old_reads_nor_writes";
    let seed = seed::announce(name);
    if let Some(reason) = Placement::Namespaces.unavailable() {
        skip(name, &reason);
        return Ok(());
    }
    let cluster = Cluster::start(Plan {
        placement: Placement::Namespaces,
        ..Plan::default()
    })
    .await?;
    let (free, cut_off) = (cluster.s3(0), cluster.s3(1));
    free.create_bucket(BUCKET).await?;
    let rounds = [
        (true, Direction::Both),
        (true, Direction::Out),
        (true, Direction::In),
        (false, Direction::Both),
        (false, Direction::Out),
    ];
    for (round, (of_leader, direction)) in rounds.into_iter().enumerate() {
        let described = || format!("round {round}: leader {of_leader}, {direction:?}");
        let leader = cluster.wait_for_leader(0).await?;
        let alone = if of_leader { leader } else { others(leader)[0] };
        let key = format!("key/{round}");
        let old = Content::new(seed, &format!("{key}#old"), 2000);
        free.put(BUCKET, &key, Body::Content(old)).await?;
        cut_off.check(BUCKET, &key, old).await.with_context(described)?;

        for other in others(alone) {
            host(&cluster, alone).cut(&host(&cluster, other), direction)?;
            // The second gateway reaches none but the lonely node.
            cluster.gateways[1]
                .host
                .cut(&host(&cluster, other), Direction::Both)?;
        }
        let new = Content::new(seed, &format!("{key}#new"), 2000);
        settle::until(RESUMED_WITHIN, async || {
            free.put(BUCKET, &key, Body::Content(new)).await
        })
        .await
        .with_context(described)?;
        free.check(BUCKET, &key, new).await.with_context(described)?;
        // A follower that is cut off one way may still be heard; then what it says must be new.
        if direction == Direction::Both || of_leader {
            minority_is_silent(&cut_off, seed, &key, old, round)
                .await
                .with_context(described)?;
        }
        host(&cluster, alone).heal()?;
        cluster.gateways[1].host.heal()?;
        settle::until(settle::deadline(), async || {
            cut_off.check(BUCKET, &key, new).await
        })
        .await
        .with_context(described)?;
        let lost = format!("minority/{round}");
        let there = free
            .send(&Request::object("HEAD", BUCKET, &lost), Body::Empty)
            .await?;
        println!("{}; the unacknowledged write: {}", described(), there.status());
        cluster.wait_for_leader(0).await?;
    }
    cluster.wait_for_vendors(cluster.agents.len()).await?;
    cluster.settle(0).await
}
