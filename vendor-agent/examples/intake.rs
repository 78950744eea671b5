//! Measures chunk puts per second in process, beside the raw synced-write rate of the same disk.
//! `cargo run --release -p ullage-vendor-agent --example intake [DIRECTORY] [SECONDS]`

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a measurement that goes wrong ends by panicking"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use bytes::Bytes;
use common::{FakeMetad, SESSION, copy, header, parts, read_grant, start, stored};
use futures::StreamExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use ullage_model::ids::VendorId;
use ullage_model::units;
use ullage_model::wire::chunk::{HopReport, ReadRequest};
use ullage_vendor_agent::Agent;

const CALLERS: u32 = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let directory = arguments.get(1).cloned().unwrap_or_else(|| ".".to_owned());
    let seconds: u64 = arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(3);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        println!("| chunk | puts/s | MiB/s | raw synced writes/s (one thread, overwriting) | reads/s |");
        println!("|---|---|---|---|---|");
        for plaintext in [4096, 8192, 65_536, 4 << 20] {
            let dir = tempfile::TempDir::new_in(&directory).unwrap();
            let raw = raw_rate(dir.path(), plaintext, Duration::from_secs(1));
            let metad = FakeMetad::new(1);
            let running = start(dir.path(), 1, &metad).await;
            let (puts, last) = puts(&running.agent, plaintext, Duration::from_secs(seconds)).await;
            let reads = reads(&running.agent, plaintext, last, Duration::from_secs(1)).await;
            println!(
                "| {plaintext} | {puts:.0} | {:.0} | {raw:.0} | {reads:.0} |",
                puts * plaintext as f64 / f64::from(1 << 20)
            );
            running.stop().await;
        }
    });
}

fn raw_rate(dir: &Path, bytes: u64, time: Duration) -> f64 {
    let file = std::fs::File::create(dir.join("raw")).unwrap();
    let block = vec![7; bytes as usize];
    for index in 0..4 {
        file.write_all_at(&block, index * bytes).unwrap();
    }
    file.sync_all().unwrap();
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < time {
        file.write_all_at(&block, count % 4 * bytes).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    std::fs::remove_file(dir.join("raw")).unwrap();
    rate
}

async fn puts(agent: &Arc<Agent>, plaintext: u64, time: Duration) -> (f64, u32) {
    let bytes: Bytes = stored(plaintext, 1);
    let next = Arc::new(AtomicU32::new(0));
    let done = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let template = header(VendorId(1), copy(1, 0), plaintext, 1);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (agent, bytes, next, done) = (agent.clone(), bytes.clone(), next.clone(), done.clone());
            let template = template.clone();
            tokio::spawn(async move {
                // A device of 2 GiB minus what is in hand holds about this many bytes.
                while begun.elapsed() < time && done.load(Ordering::Relaxed) * plaintext < 1600 << 20 {
                    let mut header = template.clone();
                    header.chunk.counter = next.fetch_add(1, Ordering::Relaxed);
                    let reports: Vec<HopReport> = agent
                        .put_chunk(header, parts(&bytes, 256 * 1024))
                        .await
                        .collect()
                        .await;
                    assert!(matches!(reports[..], [HopReport::Stored { .. }]), "{reports:?}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    (
        done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64(),
        next.load(Ordering::Relaxed),
    )
}

async fn reads(agent: &Arc<Agent>, plaintext: u64, last: u32, time: Duration) -> f64 {
    let done = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let grant = read_grant(VendorId(1));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (agent, done, grant) = (agent.clone(), done.clone(), grant.clone());
            tokio::spawn(async move {
                let mut counter = caller * 7919;
                while begun.elapsed() < time {
                    counter = counter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let request = ReadRequest {
                        session: SESSION,
                        grant: grant.clone(),
                        copy: copy(1, counter % last),
                        first_frame: 0,
                        frames: units::frames(plaintext) as u32,
                        request_id: 1,
                    };
                    let mut stream = agent.read(request).await.unwrap();
                    while let Some(frame) = stream.next().await {
                        frame.unwrap();
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}
