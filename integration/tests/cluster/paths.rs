//! Paths as gateways measure them: hops, slow lines, and how often the uplink carries a body.

use anyhow::{Context as _, ensure};
use std::time::Duration;
use ullage_integration::clients::skip;
use ullage_integration::cluster::{AgentPlan, Cluster, Limit, Placement, Plan};
use ullage_integration::content::Content;
use ullage_integration::http1::Body;
use ullage_integration::{seed, settle};

const BUCKET: &str = "paths";
const MIB: u64 = 1 << 20;

/// A cluster in namespaces, or none where they cannot be had.
async fn cluster(name: &str, plan: Plan) -> anyhow::Result<Option<Cluster>> {
    if let Some(reason) = Placement::Namespaces.unavailable() {
        skip(name, &reason);
        return Ok(None);
    }
    let plan = Plan {
        placement: Placement::Namespaces,
        gateways: 1,
        ..plan
    };
    Ok(Some(Cluster::start(plan).await?))
}

/// The row of a vendor by its name in the harness.
fn path_of(cluster: &Cluster, agent: usize) -> anyhow::Result<ullage_integration::admin_json::PathRow> {
    let admin = cluster.admin(0);
    let vendors = admin.vendors()?;
    let vendor = vendors
        .iter()
        .find(|vendor| vendor.name == cluster.agents[agent].name);
    let vendor = vendor.context("it is no vendor")?.vendor.clone();
    let path = admin.paths()?.into_iter().find(|path| path.vendor == vendor);
    path.context("no path to it is known")
}

#[tokio::test(flavor = "multi_thread")]
async fn hops_are_counted() -> anyhow::Result<()> {
    let plan = Plan {
        agents: [0, 1, 3]
            .map(|routers| AgentPlan {
                routers,
                ..AgentPlan::default()
            })
            .to_vec(),
        ..Plan::default()
    };
    let Some(cluster) = cluster("hops_are_counted", plan).await? else {
        return Ok(());
    };
    for (agent, routers) in [(0, 0), (1, 1), (2, 3)] {
        settle::until(Duration::from_secs(60), async || {
            let path = path_of(&cluster, agent)?;
            ensure!(
                path.hops == Some(routers),
                "vendor {agent} behind {routers} routers: {path:?}"
            );
            ensure!(path.rtt_us.is_some_and(|rtt| rtt > 0.0), "{path:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_line_changes_the_choice() -> anyhow::Result<()> {
    let name = "a_slow_line_changes_the_choice";
    let seed = seed::announce(name);
    let plan = Plan {
        agents: vec![AgentPlan::default(); 4],
        ..Plan::default()
    };
    let Some(cluster) = cluster(name, plan).await? else {
        return Ok(());
    };
    let s3 = cluster.s3(0);
    s3.create_bucket(BUCKET).await?;
    let chunks_at = |prefix: &str, slow: &str| -> anyhow::Result<(usize, usize)> {
        let (mut at_slow, mut all) = (0, 0);
        for index in 0..8 {
            let object = cluster.admin(0).fat_show(BUCKET, &format!("{prefix}/{index}"))?;
            let copies = object.chunks.iter().flat_map(|chunk| &chunk.copies);
            let vendors: Vec<_> = copies.map(|copy| copy.vendor.0.clone()).collect();
            all += vendors.len();
            at_slow += vendors.iter().filter(|vendor| vendor.as_str() == slow).count();
        }
        Ok((at_slow, all))
    };
    let vendors = cluster.admin(0).vendors()?;
    let slow = vendors
        .iter()
        .find(|vendor| vendor.name == cluster.agents[0].name);
    let slow = slow.context("the slow vendor is none")?.vendor.0.clone();
    for index in 0..8 {
        let key = format!("before/{index}");
        s3.put(BUCKET, &key, Body::Content(Content::new(seed, &key, 8 * MIB)))
            .await?;
    }
    let (before, all) = chunks_at("before", &slow)?;
    ensure!(
        before > 0,
        "the vendor got none of {all} copies while it was fast"
    );
    cluster.agents[0].host.limit(Some(Limit {
        bytes_per_second: 200_000,
    }))?;
    // Traffic until the slow line has been noticed.
    for index in 0..4 {
        let key = format!("learn/{index}");
        s3.put(BUCKET, &key, Body::Content(Content::new(seed, &key, 8 * MIB)))
            .await?;
        s3.check(
            BUCKET,
            &format!("before/{index}"),
            Content::new(seed, &format!("before/{index}"), 8 * MIB),
        )
        .await?;
    }
    for index in 0..8 {
        let key = format!("after/{index}");
        s3.put(BUCKET, &key, Body::Content(Content::new(seed, &key, 8 * MIB)))
            .await?;
    }
    let (after, all) = chunks_at("after", &slow)?;
    println!(
        "{before} of {all} copies before, {after} after; {:?}",
        path_of(&cluster, 0)?
    );
    ensure!(
        after * 2 < before,
        "{after} copies on the slow line, {before} before it was slow"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_uplink_carries_a_body_once() -> anyhow::Result<()> {
    let name = "the_uplink_carries_a_body_once";
    let seed = seed::announce(name);
    let plan = Plan {
        copies: 3,
        ..Plan::default()
    };
    let Some(cluster) = cluster(name, plan).await? else {
        return Ok(());
    };
    let s3 = cluster.s3(0);
    s3.create_bucket(BUCKET).await?;
    let gateway = &cluster.gateways[0].host;
    let before = gateway.sent_bytes()?;
    let (objects, bytes) = (8, 16 * MIB);
    for index in 0..objects {
        let key = format!("three/{index}");
        s3.put(BUCKET, &key, Body::Content(Content::new(seed, &key, bytes)))
            .await?;
        let fat = cluster.admin(0).fat_show(BUCKET, &key)?;
        ensure!(fat.chunks.iter().all(|chunk| chunk.copies.len() == 3), "{fat:?}");
    }
    let sent = gateway.sent_bytes()? - before;
    let bodies = objects * bytes;
    #[allow(clippy::cast_precision_loss)]
    let ratio = sent as f64 / bodies as f64;
    println!("{sent} bytes sent for {bodies} bytes in three copies: {ratio:.3}");
    ensure!(ratio <= 1.1, "the gateway sent {ratio:.3} times the bodies");
    Ok(())
}
