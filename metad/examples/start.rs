//! Measures how long the whole service takes to start: in a new directory, and again after a shutdown.
//!
//! `cargo run --release -p ullage-metad --example start [ROUNDS] [DIRECTORY]`

use prometheus::Registry;
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ullage_metad::clock::SystemClock;
use ullage_metad::config::MetadConfig;
use ullage_metad::service::Metad;
use ullage_metad::store::Budget;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(9), |text| text.parse())?;
    let parent = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let home = tempfile::tempdir_in(&parent)?;
        first.push(runtime.block_on(start(home.path()))?);
        again.push(runtime.block_on(start(home.path()))?);
    }
    for (what, mut took) in [("first start", first), ("start again", again)] {
        took.sort();
        println!(
            "{what}: median {:?}, longest {:?}",
            took[rounds / 2],
            took[rounds - 1]
        );
    }
    Ok(())
}

async fn start(home: &Path) -> Result<Duration, ullage_metad::Error> {
    let began = Instant::now();
    let budget = Budget::new(64 << 20, 64 << 20);
    let clock = Arc::new(SystemClock::default());
    let config = MetadConfig::new(home.to_path_buf());
    let metad = Metad::start(config, budget, &Registry::new(), clock, &mut OsRng.unwrap_err()).await?;
    let took = began.elapsed();
    metad.shutdown().await;
    Ok(took)
}
