//! Measures durable commits per second of a group of one: 300-byte commands, a number of clients that each
//! wait for their answer.
//!
//! `cargo run --release -p ullage-metad --example commits [SECONDS] [DIRECTORY] [CLIENTS,CLIENTS,…]`

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{put, start_proposing};
use ullage_metad::propose::Proposer;
use ullage_metad::raft::Group;
use ullage_metad::reads::Reads;
use ullage_model::store::{Column, Read};

const COMMAND_BYTES: usize = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let home = match arguments.next() {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let clients = arguments.next().unwrap_or_else(|| "1,64,256,1024".to_owned());
    let clients = clients
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<u64>, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    print_sync(home.path())?;
    runtime.block_on(measure(home.path(), Duration::from_secs(seconds), &clients))
}

/// What the disk itself does: appends of one command's size, each followed by fdatasync.
fn print_sync(home: &Path) -> std::io::Result<()> {
    let path = home.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..500 {
        let start = Instant::now();
        file.write_all(&[7; COMMAND_BYTES])?;
        file.sync_data()?;
        took.push(start.elapsed());
    }
    took.sort();
    println!("append + fdatasync: p50 {:?}, p99 {:?}", took[250], took[495]);
    std::fs::remove_file(path)
}

async fn measure(home: &Path, duration: Duration, clients: &[u64]) -> Result<(), Box<dyn Error>> {
    let opening = Instant::now();
    let (group, proposer) = start_proposing(home).await?;
    println!(
        "first start: {:?}; resident {} MiB",
        opening.elapsed(),
        resident_mib()
    );
    for &clients in clients {
        let (syncs, cpu) = (group.metrics().syncs.get(), cpu_time());
        let (commits, took, latency) = commit(&proposer, clients, duration).await?;
        let (syncs, cpu) = (group.metrics().syncs.get() - syncs, cpu_time() - cpu);
        let rate = commits as f64 / took.as_secs_f64();
        println!(
            "{clients:>5} clients: {rate:>8.0} commits/s, {:>5.1} entries/sync, {:>4.1} µs CPU, p50 {:?}, p99 {:?}",
            commits as f64 / syncs.max(1) as f64,
            cpu.as_secs_f64() * 1e6 / commits as f64,
            latency[latency.len() / 2],
            latency[latency.len() * 99 / 100],
        );
    }
    reads(&group, duration).await?;
    println!(
        "resident {} MiB; {:?}",
        resident_mib(),
        group.status().applied_index
    );
    drop(proposer);
    if let Some(group) = Arc::into_inner(group) {
        group.shutdown().await;
    }
    let opening = Instant::now();
    let (_group, _proposer) = start_proposing(home).await?;
    println!(
        "restart: {:?}; resident {} MiB",
        opening.elapsed(),
        resident_mib()
    );
    Ok(())
}

async fn commit(
    proposer: &Proposer,
    clients: u64,
    duration: Duration,
) -> Result<(u64, Duration, Vec<Duration>), Box<dyn Error>> {
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut running = Vec::new();
    for client in 0..clients {
        let (proposer, done) = (proposer.clone(), Arc::clone(&done));
        running.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut serial = 0_u64;
            while start.elapsed() < duration {
                let key = format!("{client:08}/{serial:08}");
                let began = Instant::now();
                proposer
                    .propose_bytes(put(key.as_bytes(), &[7; COMMAND_BYTES - 19]))
                    .await?;
                latencies.push(began.elapsed());
                serial += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, ullage_metad::Error>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for client in running {
        latencies.extend(client.await??);
    }
    let took = start.elapsed();
    latencies.sort();
    Ok((done.load(Ordering::Relaxed), took, latencies))
}

async fn reads(group: &Arc<Group>, duration: Duration) -> Result<(), Box<dyn Error>> {
    let reads = Reads::new(Arc::clone(group), Duration::from_secs(5));
    let start = Instant::now();
    let mut running = Vec::new();
    for client in 0..64_u64 {
        let reads = reads.clone();
        running.push(tokio::spawn(async move {
            let mut done = 0_u64;
            while start.elapsed() < duration {
                for _ in 0..100 {
                    let state = reads.linearizable().await?;
                    let key = format!("{:08}/{:08}", client, done % 1000);
                    state.snapshot().get(Column::Versions, key.as_bytes())?;
                    done += 1;
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, ullage_metad::Error>(done)
        }));
    }
    let mut done = 0;
    for client in running {
        done += client.await??;
    }
    println!(
        "   64 readers: {:>8.0} linearizable reads/s",
        done as f64 / start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Anonymous resident memory of this process.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

/// Processor time this process has used, clients included.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // USER_HZ is 100 on Linux.
    Duration::from_millis(ticks * 10)
}
