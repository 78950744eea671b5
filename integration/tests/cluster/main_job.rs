//! The main job on a cluster of separate processes: 3 metadata nodes, 4 vendors of 2 devices each, 2 gateways;
//! with the tools that people use, by both gateways. In the end the FAT, the vendors' own tables and the bytes
//! on their disks agree.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, ensure};
use ullage_integration::admin_json::Status;
use ullage_integration::clients::skip;
use ullage_integration::cluster::Cluster;
use ullage_integration::content::Content;
use ullage_integration::http1::Body;
use ullage_integration::{seed, settle};

const BUCKET: &str = "cellar";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// A segment file. Two of them for each device are its own business.
const SEGMENT_BYTES: u64 = 64 * MIB;
/// What garbage a device may keep besides, and its bookkeeping.
const GARBAGE_BYTES: u64 = 64 * MIB;

/// Sizes around every border: inline, frame, chunk, the CLI's parts; and 300 MiB.
fn sizes() -> Vec<u64> {
    let around = [4 * KIB, 32 * KIB, 64 * KIB, 4 * MIB, 8 * MIB];
    let around = around
        .into_iter()
        .flat_map(|border| [border - 1, border, border + 1]);
    let largest = seed::number_from_env("ULLAGE_TEST_CLUSTER_LARGE_MIB", 300) * MIB;
    [0, 1, 100]
        .into_iter()
        .chain(around)
        .chain([33 * MIB + 7, largest])
        .collect()
}

/// Requires that vendors' disks hold what the FAT says, but for what each device may keep to itself.
async fn check_disks(cluster: &Cluster, stored: u64) -> anyhow::Result<()> {
    let devices = (0..cluster.agents.len())
        .map(|agent| cluster.devices(agent).len() as u64)
        .sum::<u64>();
    settle::until(settle::deadline(), async || {
        let Status { room, .. } = cluster.admin(0).status()?;
        let disk = cluster.device_bytes();
        let allowed = room.used + devices * (2 * SEGMENT_BYTES + GARBAGE_BYTES);
        ensure!(
            disk <= allowed,
            "{disk} bytes on disk, {} used, {allowed} allowed",
            room.used
        );
        ensure!(disk >= stored, "only {disk} bytes on disk, {stored} are stored");
        ensure!(
            room.used >= stored,
            "only {} bytes used, {stored} are stored",
            room.used
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_all_sizes_go_up_by_one_gateway_and_down_by_the_other() -> anyhow::Result<()> {
    let name = "files_of_all_sizes_go_up_by_one_gateway_and_down_by_the_other";
    let seed = seed::announce(name);
    let cluster = Cluster::start_default().await?;
    let (Some(one), Some(other)) = (cluster.client(name, "aws", 0), cluster.client(name, "aws", 1)) else {
        return Ok(());
    };
    let before = cluster.admin(0).status()?;
    let work = tempfile::tempdir()?;
    let up = work.path().join("up");
    std::fs::create_dir(&up)?;
    let contents: Vec<(String, Content)> = sizes()
        .into_iter()
        .map(|length| {
            (
                format!("{length}"),
                Content::new(seed, &format!("{length}"), length),
            )
        })
        .collect();
    for (key, content) in &contents {
        content.write_file(&up.join(key))?;
    }
    one.run(work.path(), &["s3", "mb", &format!("s3://{BUCKET}")])?;
    let tree = format!("s3://{BUCKET}/tree");
    one.run(
        work.path(),
        &["s3", "cp", "--recursive", "--only-show-errors", "up", &tree],
    )?;
    std::fs::remove_dir_all(&up)?;
    let listed = other.run(work.path(), &["s3", "ls", "--recursive", &tree])?;
    assert_eq!(listed.lines().count(), contents.len(), "{listed}");
    other.run(
        work.path(),
        &["s3", "cp", "--recursive", "--only-show-errors", &tree, "down"],
    )?;
    for (key, content) in &contents {
        content.check_file(&work.path().join("down").join(key))?;
    }
    // The largest in one piece too, and at the gateway that did not take it.
    let (_, largest) = *contents.last().context("sizes")?;
    cluster.s3(1).put(BUCKET, "whole", Body::Content(largest)).await?;
    cluster.s3(0).check(BUCKET, "whole", largest).await?;

    check_placement(&cluster, "whole", largest.length)?;
    let stored: u64 = contents
        .iter()
        .map(|(_, content)| content.length)
        .filter(|length| *length > 64 * KIB)
        .sum();
    cluster.settle(0).await?;
    check_disks(&cluster, 2 * (stored + largest.length)).await?;

    other.run(
        work.path(),
        &[
            "s3",
            "rm",
            "--recursive",
            "--only-show-errors",
            &format!("s3://{BUCKET}"),
        ],
    )?;
    one.run(work.path(), &["s3", "rb", &format!("s3://{BUCKET}")])?;
    assert_eq!(other.run(work.path(), &["s3", "ls"])?, "");
    settle::until(settle::deadline(), async || {
        let used = cluster.admin(1).status()?.room.used;
        ensure!(
            used == before.room.used,
            "{used} bytes used, {} before",
            before.room.used
        );
        Ok(())
    })
    .await?;
    cluster.settle(1).await?;
    check_disks(&cluster, 0).await
}

/// Two copies of each chunk, at two vendors, and chunks at all vendors.
fn check_placement(cluster: &Cluster, key: &str, length: u64) -> anyhow::Result<()> {
    let shown = cluster.admin(1).fat_show(BUCKET, key)?;
    assert_eq!((shown.length, shown.inline), (length, false));
    let mut all = BTreeSet::new();
    let mut offset = 0;
    for chunk in &shown.chunks {
        assert_eq!(chunk.offset, offset, "chunks follow each other");
        offset += chunk.length;
        let vendors: BTreeSet<_> = chunk.copies.iter().map(|copy| copy.vendor.clone()).collect();
        assert_eq!((chunk.copies.len(), vendors.len()), (2, 2), "{chunk:?}");
        assert!(chunk.copies.iter().all(|copy| copy.state == "good"), "{chunk:?}");
        all.extend(vendors);
    }
    assert_eq!(offset, length);
    assert_eq!(all.len(), cluster.agents.len(), "every vendor has a part of it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_answered_the_other_shows() -> anyhow::Result<()> {
    let name = "what_one_gateway_answered_the_other_shows";
    let cluster = Cluster::start_default().await?;
    let Some(python) = cluster.client(name, "python3", 0) else {
        return Ok(());
    };
    let work = tempfile::tempdir()?;
    if !python
        .output(work.path(), &["-c", "import boto3"])?
        .status
        .success()
    {
        skip(name, "boto3 is not installed (`make test-tools` installs it)");
        return Ok(());
    }
    let script = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/scripts")
            .join(name)
    };
    let endpoints = [0, 1].map(|gateway: usize| format!("http://{}", cluster.gateways[gateway].address));
    let keys = seed::number_from_env("ULLAGE_TEST_CLUSTER_KEYS", 10_000).to_string();
    let two = script("boto3_two_gateways.py");
    let printed = python.run(
        work.path(),
        &[&two.to_string_lossy(), &endpoints[0], &endpoints[1], &keys],
    )?;
    assert!(printed.trim_end().ends_with("all well"), "{printed}");
    let basics = script("boto3_basics.py");
    let printed = python.run(work.path(), &[&basics.to_string_lossy()])?;
    assert!(printed.trim_end().ends_with("all well"), "{printed}");
    cluster.settle(0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_tells_about_itself() -> anyhow::Result<()> {
    let cluster = Cluster::start_default().await?;
    for gateway in 0..2 {
        let admin = cluster.admin(gateway);
        let members = admin.members()?;
        assert_eq!(members.members.len(), 3);
        assert!(members.members.iter().all(|member| member.voter) && !members.joint);
        assert_eq!(members.members.iter().filter(|member| member.leads).count(), 1);
        for member in &members.members {
            cluster.metad_of(member)?;
        }
        let vendors = admin.vendors()?;
        assert_eq!(vendors.len(), 4);
        assert!(
            vendors
                .iter()
                .all(|vendor| vendor.state == "alive" && vendor.devices.len() == 2)
        );
        settle::until(settle::deadline(), async || {
            let paths = admin.paths()?;
            ensure!(paths.len() == 4, "{paths:?}");
            let measured = paths
                .iter()
                .all(|path| path.rtt_us.is_some() && path.discarded.is_none());
            ensure!(measured, "not all are measured yet: {paths:?}");
            Ok(())
        })
        .await?;
        for arguments in [
            &["status"][..],
            &["metad", "list"],
            &["vendor", "list"],
            &["path"],
            &["class", "list"],
        ] {
            let table = admin.run(arguments)?;
            assert!(table.lines().count() > 1, "{arguments:?}: {table}");
        }
    }
    for node in cluster
        .metads
        .iter()
        .chain(&cluster.agents)
        .chain(&cluster.gateways)
    {
        let page = node.daemon.metrics().await?;
        assert!(page.contains("# TYPE ullage_"), "{}: {page}", node.name);
    }
    Ok(())
}
