//! kill -9 at random instants and power cuts under load: every acknowledged object is there and
//! byte-identical, nothing half-written shows.

use std::time::Duration;

use rand::Rng as _;
use ullage_integration::clients::skip;
use ullage_integration::faults::LoopFileSystem;
use ullage_integration::history::History;
use ullage_integration::seed;
use ullage_integration::standalone::{Options, Standalone};
use ullage_integration::traffic::{Plan, Traffic};
use ullage_integration::validate;

const BUCKET: &str = "crashes";

/// Load for a random while, at least until something was acknowledged.
async fn load_for_a_while(
    standalone: &Standalone,
    plan: &Plan,
    round: u64,
    before: &History,
) -> anyhow::Result<Traffic> {
    let traffic = Traffic::start(&standalone.s3()?, plan, round, before);
    let mut random = seed::generator(plan.seed, 7_000_000 + round);
    let milliseconds = random.random_range(0..700);
    tokio::time::timeout(Duration::from_secs(30), async {
        while traffic.acknowledged() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await?;
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    Ok(traffic)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_at_random_instants_loses_nothing_acknowledged() -> anyhow::Result<()> {
    let seed = seed::announce("kill_nine_at_random_instants_loses_nothing_acknowledged");
    let rounds = seed::number_from_env("ULLAGE_TEST_KILL_ROUNDS", 8);
    let mut standalone = Standalone::start_default().await?;
    standalone.s3()?.create_bucket(BUCKET).await?;
    let plan = Plan::varied(BUCKET, seed);
    let mut history = History::default();
    for round in 0..rounds {
        let traffic = load_for_a_while(&standalone, &plan, round, &history).await?;
        standalone.kill()?;
        history = traffic.finish().await?;
        let (acknowledged, unknown) = (history.acknowledged, history.unknown);
        standalone.restart().await?;
        let seen = validate::check(&standalone.s3()?, BUCKET, &mut history).await?;
        println!("round {round}: {acknowledged} acknowledged, {unknown} unknown, then {seen:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_during_the_start_after_a_kill_loses_nothing() -> anyhow::Result<()> {
    let seed = seed::announce("kill_nine_during_the_start_after_a_kill_loses_nothing");
    let rounds = seed::number_from_env("ULLAGE_TEST_KILL_ROUNDS", 8);
    let mut standalone = Standalone::start_default().await?;
    standalone.s3()?.create_bucket(BUCKET).await?;
    let plan = Plan::varied(BUCKET, seed);
    let mut random = seed::generator(seed, 1);
    let traffic = load_for_a_while(&standalone, &plan, 0, &History::default()).await?;
    standalone.kill()?;
    let mut history = traffic.finish().await?;
    for _ in 0..rounds {
        standalone.spawn()?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        standalone.kill()?;
    }
    standalone.restart().await?;
    validate::check(&standalone.s3()?, BUCKET, &mut history).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_acknowledged() -> anyhow::Result<()> {
    let name = "a_power_cut_loses_nothing_acknowledged";
    let seed = seed::announce(name);
    if let Some(reason) = LoopFileSystem::unavailable() {
        skip(name, &reason);
        return Ok(());
    }
    let rounds = seed::number_from_env("ULLAGE_TEST_POWER_CUT_ROUNDS", 3);
    let directory = tempfile::tempdir()?;
    // Sparse: takes as much of the real disk as is written to it.
    let mut disk = LoopFileSystem::create(directory.path(), 16 << 30)?;
    let options = Options {
        device_capacity: Some(2 << 30),
        ..Options::default()
    }
    .at(&disk.path().join("data"));
    let mut standalone = Standalone::start(options).await?;
    standalone.s3()?.create_bucket(BUCKET).await?;
    let plan = Plan::varied(BUCKET, seed);
    let mut history = History::default();
    for round in 0..rounds {
        let traffic = load_for_a_while(&standalone, &plan, round, &history).await?;
        disk.cut_power()?;
        // The process lives on without its disk for a moment: what it acknowledges now would be lost.
        tokio::time::sleep(Duration::from_millis(200)).await;
        standalone.kill()?;
        history = traffic.finish().await?;
        let (acknowledged, unknown) = (history.acknowledged, history.unknown);
        disk.remount()?;
        standalone.restart().await?;
        let seen = validate::check(&standalone.s3()?, BUCKET, &mut history).await?;
        println!("round {round}: {acknowledged} acknowledged, {unknown} unknown, then {seen:?}");
    }
    standalone.stop().await
}
