//! The bounds of the machine's disk, printed beside every result: they move from host to host.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use crate::content::Content;
use crate::load::stats::Latencies;

/// The most bytes written for one measurement.
const BYTES: u64 = 512 << 20;

/// Appending and syncing one size, one thread.
#[derive(Clone, Debug, Serialize)]
pub struct DiskBound {
    /// Bytes of each write.
    pub write_bytes: u64,
    /// Median of write and fdatasync together, in seconds.
    pub p50_seconds: f64,
    /// Writes per second.
    pub writes_per_second: f64,
    /// Bytes per second.
    pub bytes_per_second: f64,
}

/// Measures appends of each size to a fresh file, each followed by fdatasync.
///
/// # Errors
/// If the directory cannot be written to.
pub fn measure(directory: &Path, sizes: &[u64], time: Duration) -> anyhow::Result<Vec<DiskBound>> {
    sizes
        .iter()
        .map(|size| measure_one(directory, *size, time))
        .collect()
}

fn measure_one(directory: &Path, size: u64, time: Duration) -> anyhow::Result<DiskBound> {
    let mut file = tempfile_in(directory)?;
    let bytes = Content::new(3, "disk", size).to_vec();
    let mut latencies = Latencies::default();
    let mut writes = 0_u64;
    let begun = Instant::now();
    while begun.elapsed() < time && writes * size < BYTES {
        let start = Instant::now();
        file.write_all(&bytes).context("write")?;
        file.sync_data().context("fdatasync")?;
        latencies.record(start.elapsed());
        writes += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(DiskBound {
        write_bytes: size,
        p50_seconds: latencies.quantile(0.5).as_secs_f64(),
        writes_per_second: writes as f64 / seconds,
        bytes_per_second: (writes * size) as f64 / seconds,
    })
}

fn tempfile_in(directory: &Path) -> anyhow::Result<File> {
    tempfile::tempfile_in(directory).with_context(|| format!("make a file in {}", directory.display()))
}
