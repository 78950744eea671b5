//! Placement by class on a cluster of processes whose vendors differ in zone, price, device class and number
//! of devices: every chunk lies where its class allows, whichever rule it is, and as many objects as are put.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use ullage_integration::admin_json::{FatChunk, Id};
use ullage_integration::cluster::{AgentPlan, Cluster, Plan};
use ullage_integration::content::Content;
use ullage_integration::http1::Body;
use ullage_integration::s3::{Request, S3};
use ullage_integration::{seed, settle};

const BUCKET: &str = "cellar";
/// A chunk and a bit.
const BYTES: u64 = (4 << 20) + 17;
/// Objects of each class: enough that a rule which is kept by chance only is broken once.
const OBJECTS: u32 = 12;

/// Zone, device class, devices, price.
const VENDORS: [(&str, &str, u32, u64); 5] = [
    ("a", "ssd", 2, 1),
    ("a", "ssd", 2, 1),
    ("b", "hdd", 2, 1),
    ("b", "ssd", 1, 9),
    // In no zone: it may keep copies, but counts for none.
    ("", "ssd", 2, 1),
];

/// A class: its name, its rule as the command line has it, and where its copies may lie.
type Class = (
    &'static str,
    &'static [&'static str],
    fn(&[usize], &FatChunk) -> bool,
);

const CLASSES: [Class; 6] = [
    ("SPREAD", &["--copies", "2", "--zones", "2"], |vendors, _| {
        zones(vendors) == 2
    }),
    ("WIDE", &["--copies", "3", "--zones", "2"], |vendors, _| {
        vendors.len() == 3 && zones(vendors) == 2
    }),
    (
        "DISK",
        &["--copies", "1", "--device-class", "hdd"],
        |vendors, _| vendors == [2],
    ),
    ("CHEAP", &["--copies", "2", "--max-price", "5"], |vendors, _| {
        vendors.len() == 2 && !vendors.contains(&3)
    }),
    ("CUT", &["--copies", "2", "--pieces", "2"], |vendors, chunk| {
        let least = if chunk.length > 32 << 10 { 2 } else { 1 };
        vendors.len() == 2 && !vendors.contains(&3) && chunk.copies.iter().all(|copy| copy.pieces >= least)
    }),
    (
        "ALL",
        &[
            "--copies",
            "2",
            "--zones",
            "2",
            "--max-price",
            "5",
            "--pieces",
            "2",
        ],
        |vendors, _| vendors.len() == 2 && vendors.contains(&2) && vendors.iter().any(|at| *at < 2),
    ),
];

/// Distinct zones of vendors.
fn zones(vendors: &[usize]) -> usize {
    let zones = vendors.iter().map(|at| VENDORS[*at].0);
    zones
        .filter(|zone| !zone.is_empty())
        .collect::<BTreeSet<_>>()
        .len()
}

fn plan() -> Plan {
    let agent = |(zone, device_class, devices, price): (&str, &str, u32, u64)| AgentPlan {
        devices,
        device_class: device_class.to_owned(),
        zone: Some(zone.to_owned()),
        price,
        ..AgentPlan::default()
    };
    Plan {
        metads: 1,
        gateways: 1,
        agents: VENDORS.map(agent).into(),
        ..Plan::default()
    }
}

/// The vendors' places in [`VENDORS`] by their ids.
fn places(cluster: &Cluster) -> anyhow::Result<BTreeMap<Id, usize>> {
    let rows = cluster.admin(0).vendors()?;
    let place = |(at, node): (usize, &ullage_integration::cluster::Node)| {
        let row = rows.iter().find(|row| row.name == node.name);
        Ok((row.context("a vendor is not listed")?.vendor.clone(), at))
    };
    cluster.agents.iter().enumerate().map(place).collect()
}

async fn put(s3: &S3, class: &str, key: &str, content: Content) -> anyhow::Result<()> {
    let headers = [("x-amz-storage-class", class)];
    let request = Request::object("PUT", BUCKET, key).headers(&headers);
    s3.send(&request, Body::Content(content)).await?.expect(200)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_chunk_lies_where_its_class_allows() -> anyhow::Result<()> {
    let seed = seed::announce("every_chunk_lies_where_its_class_allows");
    let cluster = Cluster::start(plan()).await?;
    let (s3, admin) = (cluster.s3(0), cluster.admin(0));
    let places = places(&cluster)?;
    s3.create_bucket(BUCKET).await?.expect(200)?;
    for (class, rule, lies_well) in CLASSES {
        admin.run(&[&["class", "set", class], rule].concat())?;
        for number in 0..OBJECTS {
            let key = format!("{class}-{number}");
            let content = Content::new(seed, &key, BYTES);
            put(&s3, class, &key, content).await?;
            s3.check(BUCKET, &key, content).await?;
            let object = admin.fat_show(BUCKET, &key)?;
            ensure!(object.class == class && object.chunks.len() == 2, "{object:?}");
            for chunk in &object.chunks {
                let copies = chunk.copies.iter();
                let vendors: Option<Vec<usize>> =
                    copies.map(|copy| places.get(&copy.vendor).copied()).collect();
                let vendors = vendors.context("a copy at an unknown vendor")?;
                ensure!(
                    lies_well(&vendors, chunk),
                    "{class}: {chunk:?} lies at {vendors:?}"
                );
            }
        }
    }
    Ok(())
}

/// Two zones are asked for and one is gone: refused, by the rule's name in the gateway's log; the zone comes
/// back: stored again.
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_gone_is_named_and_missed_until_it_returns() -> anyhow::Result<()> {
    let seed = seed::announce("a_zone_that_is_gone_is_named_and_missed_until_it_returns");
    let mut cluster = Cluster::start(plan()).await?;
    let (s3, admin) = (cluster.s3(0), cluster.admin(0));
    s3.create_bucket(BUCKET).await?.expect(200)?;
    admin.run(&["class", "set", "SPREAD", "--copies", "2", "--zones", "2"])?;
    let content = |key: &str| Content::new(seed, key, BYTES);
    put(&s3, "SPREAD", "before", content("before")).await?;
    for at in [2, 3] {
        cluster.agents[at].kill()?;
    }
    let refused = settle::until(settle::deadline(), async || {
        let headers = [("x-amz-storage-class", "SPREAD")];
        let request = Request::object("PUT", BUCKET, "during").headers(&headers);
        let answer = s3.send(&request, Body::Content(content("during"))).await?;
        ensure!(answer.status() != 200, "stored in one zone");
        ensure!(answer.status() == 507, "{}: {}", answer.status(), answer.text());
        Ok(answer)
    });
    refused.await?;
    let log = cluster.gateways[0].daemon.log()?;
    ensure!(log.contains("no room in 2 zones for class SPREAD"), "{log}");
    for at in [2, 3] {
        cluster.agents[at].restart().await?;
    }
    settle::until(settle::deadline(), async || {
        put(&s3, "SPREAD", "after", content("after")).await
    })
    .await?;
    for key in ["before", "after"] {
        s3.check(BUCKET, key, content(key)).await?;
    }
    Ok(())
}
