//! Two gateways at once: conditional writes have one winner, and the last bytes are sold once.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use ullage_integration::cluster::{AgentPlan, Cluster, Plan};
use ullage_integration::content::Content;
use ullage_integration::http1::Body;
use ullage_integration::s3::{Request, S3};
use ullage_integration::{seed, settle};

const BUCKET: &str = "races";
const MIB: u64 = 1 << 20;

/// One conditional write; its status.
async fn claim(
    s3: S3,
    key: String,
    headers: Vec<(&'static str, String)>,
    content: Content,
) -> anyhow::Result<u16> {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let request = Request::object("PUT", BUCKET, &key).headers(&headers);
    Ok(s3.send(&request, Body::Content(content)).await?.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_write_has_exactly_one_winner() -> anyhow::Result<()> {
    let seed = seed::announce("a_conditional_write_has_exactly_one_winner");
    let rounds = seed::number_from_env("ULLAGE_TEST_RACES", 1000);
    let cluster = Cluster::start_default().await?;
    cluster.s3(0).create_bucket(BUCKET).await?;
    for round in 0..rounds {
        let key = format!("race/{:03}", round % 100);
        let first = round < 100;
        // Each key is made once, then replaced again and again on condition of what it was.
        let condition = if first {
            ("if-none-match", "*".to_owned())
        } else {
            let head = cluster
                .s3(0)
                .send(&Request::object("HEAD", BUCKET, &key), Body::Empty)
                .await?;
            ("if-match", format!("\"{}\"", head.expect(200)?.etag()))
        };
        let contents: Vec<_> = (0..4)
            .map(|racer| {
                Content::new(
                    seed,
                    &format!("{key}#{round}.{racer}"),
                    if round % 3 == 0 { 9000 } else { 90 },
                )
            })
            .collect();
        let racers: Vec<_> = contents
            .iter()
            .enumerate()
            .map(|(racer, content)| {
                let condition = vec![condition.clone()];
                tokio::spawn(claim(cluster.s3(racer % 2), key.clone(), condition, *content))
            })
            .collect();
        let mut statuses = Vec::new();
        for racer in racers {
            statuses.push(racer.await??);
        }
        let winners: Vec<_> = (0..4).filter(|racer| statuses[*racer] == 200).collect();
        ensure!(winners.len() == 1, "round {round}: {statuses:?}");
        ensure!(
            statuses.iter().all(|status| matches!(status, 200 | 412 | 409)),
            "round {round}: {statuses:?}"
        );
        let reader = cluster.s3(usize::try_from(round % 2)?);
        reader
            .check(BUCKET, &key, contents[winners[0]])
            .await
            .with_context(|| format!("round {round}"))?;
    }
    a_quota_is_not_passed_together(&cluster, seed).await
}

/// Writes through both gateways at once fill a bucket up to its quota, exactly, and not further.
async fn a_quota_is_not_passed_together(cluster: &Cluster, seed: u64) -> anyhow::Result<()> {
    const BUCKET: &str = "quota";
    const BYTES: u64 = 9000;
    const FIT: usize = 3;
    let (admin, s3) = (cluster.admin(1), cluster.s3(0));
    s3.create_bucket(BUCKET).await?;
    let bytes = (BYTES * (FIT as u64 + 1) - 1).to_string();
    admin.run(&["bucket", "quota", BUCKET, "--bytes", &bytes])?;
    let racers: Vec<_> = (0..8)
        .map(|racer| {
            let (s3, key) = (cluster.s3(racer % 2), format!("racer {racer}"));
            tokio::spawn(async move {
                let content = Content::new(seed, &key, BYTES);
                let request = Request::object("PUT", BUCKET, &key);
                let answer = s3.send(&request, Body::Content(content)).await?;
                anyhow::Ok((answer.status(), answer.element("Code"), key))
            })
        })
        .collect();
    let mut stored = Vec::new();
    for racer in racers {
        match racer.await?? {
            (200, _, key) => stored.push(key),
            (403, Some(code), _) if code == "QuotaExceeded" => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
    ensure!(stored.len() == FIT, "{stored:?} of {FIT}");
    let shown = admin.bucket(BUCKET)?;
    ensure!(
        (shown.versions, shown.bytes) == (FIT as u64, BYTES * FIT as u64),
        "{shown:?}"
    );
    // What is deleted makes room again.
    s3.delete(BUCKET, &stored[0]).await?;
    let again = Content::new(seed, "again", BYTES);
    cluster.s3(1).put(BUCKET, "again", Body::Content(again)).await?;
    let table = admin.run(&["bucket", "list"])?;
    ensure!(
        table.contains(BUCKET) && table.contains(&bytes),
        "the table for people:\n{table}"
    );
    Ok(())
}

/// Puts objects until told that the store is full; what was stored.
async fn fill(s3: S3, seed: u64, gateway: usize, bytes: u64) -> anyhow::Result<BTreeMap<String, Content>> {
    let mut stored = BTreeMap::new();
    loop {
        let key = format!("fill/{gateway}/{:04}", stored.len());
        let content = Content::new(seed, &key, bytes);
        let answer = s3
            .send(&Request::object("PUT", BUCKET, &key), Body::Content(content))
            .await?;
        match answer.status() {
            200 => {
                stored.insert(key, content);
            }
            507 => return Ok(stored),
            status => anyhow::bail!("{key}: {status}: {}", answer.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_bytes_are_sold_once_and_all_of_them() -> anyhow::Result<()> {
    let seed = seed::announce("the_last_bytes_are_sold_once_and_all_of_them");
    let plan = Plan {
        agents: vec![
            AgentPlan {
                devices: 1,
                device_capacity: 768 * MIB,
                ..AgentPlan::default()
            };
            3
        ],
        ..Plan::default()
    };
    let cluster = Cluster::start(plan).await?;
    cluster.s3(0).create_bucket(BUCKET).await?;
    let bytes = 5 * MIB;
    let fillers: Vec<_> = (0..2)
        .map(|gateway| tokio::spawn(fill(cluster.s3(gateway), seed, gateway, bytes)))
        .collect();
    let mut stored = BTreeMap::new();
    for filler in fillers {
        stored.extend(filler.await??);
    }
    let status = cluster.admin(0).status()?;
    println!("{} objects stored, then {status:?}", stored.len());
    // Who was told "full" was told so rightly: room that leases were holding back would show now.
    for gateway in 0..2 {
        let more = fill(cluster.s3(gateway), seed, gateway + 2, bytes).await?;
        println!("gateway {gateway}: {} more", more.len());
        ensure!(
            more.len() <= 2,
            "called full, and then there was room for {} objects more",
            more.len()
        );
        stored.extend(more);
    }
    for (index, (key, content)) in stored.iter().enumerate() {
        cluster.s3(index % 2).check(BUCKET, key, *content).await?;
    }
    ensure!(
        cluster.s3(0).list_keys(BUCKET, "").await?.len() == stored.len(),
        "a refused object shows"
    );
    for key in stored.keys() {
        cluster.s3(0).delete(BUCKET, key).await?;
    }
    let again = Content::new(seed, "again", bytes);
    for gateway in 0..2 {
        let s3 = cluster.s3(gateway);
        settle::until(settle::deadline(), async || {
            s3.put(BUCKET, "again", Body::Content(again)).await
        })
        .await?;
    }
    cluster.settle(0).await
}
