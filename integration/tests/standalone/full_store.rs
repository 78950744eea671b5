//! A full store answers with a clear S3 error, reads and deletes go on, and room comes back after deletes.

use anyhow::{bail, ensure};
use ullage_integration::clients::skip;
use ullage_integration::content::Content;
use ullage_integration::faults::LoopFileSystem;
use ullage_integration::http1::Body;
use ullage_integration::s3::{Request, Response, S3};
use ullage_integration::standalone::{Options, Standalone};
use ullage_integration::{seed, settle};

const BUCKET: &str = "full";
const MIB: u64 = 1 << 20;
const OBJECT_BYTES: u64 = 8 * MIB;

/// Puts objects until one is refused; what was stored, and the refusal.
async fn fill(s3: &S3, seed: u64, at_most: u64) -> anyhow::Result<(Vec<(String, Content)>, Response)> {
    let mut stored = Vec::new();
    for index in 0..at_most {
        let key = format!("fill/{index:04}");
        let content = Content::new(seed, &key, OBJECT_BYTES);
        let answer = s3
            .send(&Request::object("PUT", BUCKET, &key), Body::Content(content))
            .await?;
        if answer.status() != 200 {
            return Ok((stored, answer));
        }
        stored.push((key, content));
    }
    bail!("{at_most} objects of {OBJECT_BYTES} bytes went into a store too small for them")
}

fn assert_says_full(answer: &Response) {
    assert_eq!(answer.status(), 507, "{}", answer.text());
    assert_eq!(
        answer.element("Code").as_deref(),
        Some("InsufficientStorage"),
        "{}",
        answer.text()
    );
    assert!(
        answer
            .element("Message")
            .is_some_and(|message| message.len() > 10),
        "{}",
        answer.text()
    );
}

/// Everything about a store that has become full.
async fn check_full_store(s3: &S3, seed: u64, at_most: u64) -> anyhow::Result<()> {
    let (stored, refusal) = fill(s3, seed, at_most).await?;
    println!("{} objects, then {}", stored.len(), refusal.text());
    ensure!(stored.len() >= 3, "full after {} objects", stored.len());
    assert_says_full(&refusal);
    for (key, content) in &stored {
        s3.check(BUCKET, key, *content).await?;
    }
    assert_eq!(
        s3.list_keys(BUCKET, "").await?.len(),
        stored.len(),
        "the refused object does not show"
    );
    for (key, _) in &stored {
        s3.delete(BUCKET, key).await?;
    }
    assert!(s3.list_keys(BUCKET, "").await?.is_empty());
    let again = Content::new(seed, "again", OBJECT_BYTES);
    for index in 0..stored.len() / 2 {
        let key = format!("again/{index}");
        settle::until(settle::deadline(), async || {
            s3.put(BUCKET, &key, Body::Content(again)).await?;
            Ok(())
        })
        .await?;
    }
    for index in 0..stored.len() / 2 {
        s3.check(BUCKET, &format!("again/{index}"), again).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_at_its_capacity_says_so_and_recovers() -> anyhow::Result<()> {
    let seed = seed::announce("a_store_at_its_capacity_says_so_and_recovers");
    let options = Options {
        device_capacity: Some(512 * MIB),
        ..Options::single()
    };
    let standalone = Standalone::start(options).await?;
    let s3 = standalone.s3()?;
    s3.create_bucket(BUCKET).await?;
    check_full_store(&s3, seed, 512 * MIB / OBJECT_BYTES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_are_refused_when_only_one_fits() -> anyhow::Result<()> {
    let seed = seed::announce("two_copies_are_refused_when_only_one_fits");
    let options = Options {
        vendors: 2,
        devices_per_vendor: 1,
        device_capacity: Some(512 * MIB),
        ..Options::default()
    };
    let standalone = Standalone::start(options).await?;
    let s3 = standalone.s3()?;
    s3.create_bucket(BUCKET).await?;
    check_full_store(&s3, seed, 512 * MIB / OBJECT_BYTES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_says_so_and_recovers() -> anyhow::Result<()> {
    let name = "a_full_file_system_says_so_and_recovers";
    let seed = seed::announce(name);
    if let Some(reason) = LoopFileSystem::unavailable() {
        skip(name, &reason);
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let disk = LoopFileSystem::create(directory.path(), 1 << 30)?;
    // More is promised than the disk has: the file system itself runs full.
    let options = Options {
        device_capacity: Some(4 << 30),
        ..Options::single()
    }
    .at(&disk.path().join("data"));
    let mut standalone = Standalone::start(options).await?;
    let s3 = standalone.s3()?;
    s3.create_bucket(BUCKET).await?;
    check_full_store(&s3, seed, (1 << 30) / OBJECT_BYTES).await?;
    standalone.stop().await
}
