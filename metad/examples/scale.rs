//! Measures what one more commit, one page of a listing and the node's memory cost at 10^5, 10^6, … objects.
//!
//! `cargo build --release --workspace --locked --example scale && target/release/examples/scale [OBJECTS] [DIRECTORY]`:
//! up to OBJECTS (default 10^6) in a directory that is made below DIRECTORY and removed. Objects are kept in the FAT,
//! 100 bytes each; their keys come in random order. 10^7 take a quarter of an hour and some 10 GB.

#[path = "../tests/fakes/mod.rs"]
mod fakes;

use fakes::{Gateway, Node};
use futures::future::try_join_all;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ullage_model::wire::metad::{Answer, ListRequest, MetadError, Query};

/// Commits under way at a time.
const CLIENTS: usize = 256;
/// Commits between two signs of life of the session: less than its window.
const ROUND: u64 = 8 * 1024;
/// Commits and pages that are measured at each size.
const MEASURED: u64 = 3 * ROUND;
const PAGES: u64 = 200;
const KEYS_PER_PAGE: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let objects: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let parent = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let home = tempfile::tempdir_in(parent)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(home.path(), objects))
}

async fn measure(home: &Path, objects: u64) -> Result<(), Box<dyn Error>> {
    let node = Node::start(home).await;
    let gateway = Gateway::open(&node).await;
    println!(
        "objects | commits/s | CPU per commit | page of {KEYS_PER_PAGE} keys: median | longest | memory | disk"
    );
    let mut stored = 0;
    let mut size = 100_000;
    while size <= objects {
        while stored < size {
            stored += round(&node, &gateway, stored).await?;
        }
        let (began, cpu) = (Instant::now(), cpu_time());
        let before = stored;
        while stored < before + MEASURED {
            stored += round(&node, &gateway, stored).await?;
        }
        let commits = (stored - before) as f64;
        let (took, cpu) = (began.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
        let pages = pages(&node, &gateway).await?;
        println!(
            "{stored:>9} | {:>6.0} | {:>5.1} µs | {:>5.2} ms | {:>5.2} ms | {} MiB | {} MiB",
            commits / took,
            cpu * 1e6 / commits,
            pages[pages.len() / 2].as_secs_f64() * 1e3,
            pages[pages.len() - 1].as_secs_f64() * 1e3,
            resident_mib(),
            disk_bytes(home)? >> 20,
        );
        size *= 10;
    }
    Ok(())
}

/// The key of an object: numbers in an order of their own, spread evenly over all keys.
fn key(serial: u64) -> String {
    // The finalizer of SplitMix64, which maps numbers one to one.
    let mut mixed = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}/an-object-of-ordinary-name", mixed ^ (mixed >> 31))
}

async fn round(node: &Node, gateway: &Arc<Gateway>, stored: u64) -> Result<u64, Box<dyn Error>> {
    let clients = (0..CLIENTS as u64).map(|client| async move {
        for serial in (stored + client..stored + ROUND).step_by(CLIENTS) {
            gateway.put_inline(node, &key(serial)).await?;
        }
        Ok::<(), MetadError>(())
    });
    try_join_all(clients)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let renewed = gateway.renew(node, 0).await;
    renewed.map_err(|error| format!("{error:?}"))?;
    Ok(ROUND)
}

/// How long pages from all over the bucket took, the shortest first.
async fn pages(node: &Node, gateway: &Gateway) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut took = Vec::new();
    for page in 0..PAGES {
        let request = ListRequest {
            bucket: gateway.bucket.bucket,
            prefix: String::new(),
            delimiter: String::new(),
            after: Some(key(page)),
            limit: KEYS_PER_PAGE,
        };
        let began = Instant::now();
        let answer = node.ask(Query::List(request)).await;
        took.push(began.elapsed());
        let Answer::List(page) = answer else {
            return Err("not a listing".into());
        };
        drop(page);
    }
    took.sort();
    Ok(took)
}

/// Anonymous resident memory of this process.
fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

/// Processor time this process has used, clients included.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // USER_HZ is 100 on Linux.
    Duration::from_millis(ticks * 10)
}

fn disk_bytes(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(bytes)
}
