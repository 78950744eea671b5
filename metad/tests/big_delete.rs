//! Deleting an object of very many chunks: every entry stays short, others keep their pace, and what was
//! drained or erased is never waded through again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fakes;

use fakes::{Gateway, Node, Vendor, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use ullage_model::command::{Reply, SessionCommand};
use ullage_model::limits::{CHUNKS_PER_SLICE, COMMAND_BYTES_MAX, COPIES_PER_BATCH, FRAME_BYTES, LEASE_MS};
use ullage_model::store::{Column, Direction, KeyRange, Read};
use ullage_model::units::room;

const CHUNKS: usize = 100_000;
/// So short that one blob may have so many: all are released at one log index.
const CHUNK_BYTES: u64 = FRAME_BYTES;
/// Slices under way at a time.
const SLICES_AT_ONCE: usize = 16;

async fn store(node: &Node, gateway: &Gateway, vendors: &[Arc<Vendor>; 2]) {
    let chunk_room = room(CHUNK_BYTES, 1);
    let fat = gateway.allocate(node, (CHUNKS as u64 + 1) * chunk_room).await;
    let (blob, class) = (gateway.blob(), gateway.class(node).await);
    let both = [&*vendors[0], &*vendors[1]];
    let (mut first, last) = (0, CHUNKS - CHUNKS_PER_SLICE);
    while first < last {
        // Slices of a blob come in order; several may wait in the queue.
        let mut slices = Vec::new();
        while slices.len() < SLICES_AT_ONCE && first < last {
            let count = CHUNKS_PER_SLICE.min(last - first);
            let chunks = (0..count).map(|_| gateway.chunk(fat.lease, CHUNK_BYTES, &both));
            let first_index = u32::try_from(first).unwrap();
            slices.push(Gateway::slice(blob, first_index, chunks.collect(), class.clone()));
            first += count;
        }
        let submitted = slices.into_iter().map(|slice| gateway.submit(node, slice));
        for reply in futures::future::join_all(submitted).await {
            assert_eq!(reply, Ok(Reply::Done));
        }
        gateway.renew(node, 0).await.unwrap();
        let renewal = SessionCommand::RenewLease {
            lease: fat.lease,
            duration_ms: LEASE_MS,
        };
        let renewed = gateway.submit(node, renewal).await;
        assert!(matches!(renewed, Ok(Reply::Deadline(_))), "{renewed:?}");
    }
    let rest = (0..CHUNKS_PER_SLICE).map(|_| gateway.chunk(fat.lease, CHUNK_BYTES, &both));
    let bytes = CHUNKS as u64 * CHUNK_BYTES;
    let body = Gateway::body(
        blob,
        (bytes, CHUNK_BYTES),
        u32::try_from(last).unwrap(),
        rest.collect(),
        class,
    );
    let stored = gateway.submit(node, gateway.finalize("big", body)).await;
    assert!(matches!(stored, Ok(Reply::Stored { .. })), "{stored:?}");
}

/// Stores small objects one after another until `stop`; how long each took.
async fn others(node: &Node, gateway: &Gateway, name: &str, stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        let reply = gateway.put_inline(node, &format!("{name} {}", took.len())).await;
        assert!(matches!(reply, Ok(Reply::Stored { .. })), "{reply:?}");
        took.push(began.elapsed());
    }
    took
}

fn show(what: &str, mut took: Vec<Duration>) -> (Duration, Duration) {
    took.sort();
    let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{what}: {} of them, p50 {half:?}, p99 {most:?}", took.len());
    (half, most)
}

/// Reports as often as it is asked to until it holds nothing; how long each report took.
async fn erase(node: &Node, vendor: &Vendor) -> Vec<Duration> {
    let mut took = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(300);
    while !vendor.held.lock().unwrap().is_empty() || !vendor.outcomes.lock().unwrap().is_empty() {
        let began = Instant::now();
        vendor.heartbeat(node).await;
        took.push(began.elapsed());
        assert!(Instant::now() < deadline, "copies are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    took
}

fn longest_entry_is_bounded(node: &Node) {
    let families = node.registry.gather();
    let family = families
        .iter()
        .find(|family| family.name() == "ullage_metad_raft_entry_bytes")
        .expect("the metric is there");
    let histogram = family.get_metric()[0].get_histogram();
    let bounded = histogram
        .get_bucket()
        .iter()
        .filter(|bucket| bucket.upper_bound() <= COMMAND_BYTES_MAX as f64)
        .map(|bucket| bucket.cumulative_count())
        .max();
    assert_eq!(bounded, Some(histogram.get_sample_count()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_100000_chunks_goes_while_others_keep_their_pace() {
    let home = TempDir::new().unwrap();
    let node = Node::start_with(home.path(), |config| config.tick_ms = 1000).await;
    let vendors = [
        Vendor::register(&node, "a", 1 << 40).await,
        Vendor::register(&node, "b", 1 << 40).await,
    ];
    for vendor in &vendors {
        vendor.heartbeat(&node).await;
    }
    let gateway = Gateway::open(&node).await;
    let began = Instant::now();
    store(&node, &gateway, &vendors).await;
    println!("stored in {:?}", began.elapsed());

    let stop = AtomicBool::new(false);
    let pause = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (before, ()) = tokio::join!(others(&node, &gateway, "before", &stop), pause);
    let before = show("small objects before", before);

    let began = Instant::now();
    gateway.delete(&node, "big").await;
    println!("deleted in {:?}", began.elapsed());
    gateway.renew(&node, u64::MAX).await.unwrap();
    stop.store(false, Ordering::SeqCst);
    let drained = async {
        eventually("the queue is drained", async || {
            gateway.renew(&node, u64::MAX).await.unwrap();
            node.metad.status().unwrap().release_backlog == 0
        })
        .await;
        println!("drained in {:?}", began.elapsed());
        let (a, b) = tokio::join!(erase(&node, &vendors[0]), erase(&node, &vendors[1]));
        println!("erased in {:?}", began.elapsed());
        stop.store(true, Ordering::SeqCst);
        [a, b].concat()
    };
    let (during, reports) = tokio::join!(others(&node, &gateway, "during", &stop), drained);
    let during = show("small objects during", during);
    show("reports of vendors", reports.clone());
    // They are in order per vendor: the last ones would wade through what the first ones acknowledged.
    let (early, late) = (reports[..20].to_vec(), reports[reports.len() - 20..].to_vec());
    show("first reports", early);
    show("last reports", late);
    assert!(
        during.1 < before.1 * 20 + Duration::from_millis(250),
        "others wait for the drain: {during:?}, before {before:?}"
    );
    assert!(reports.len() >= 2 * CHUNKS / COPIES_PER_BATCH);
    longest_entry_is_bounded(&node);
    for vendor in &vendors {
        let room = node.room(vendor.id).await;
        assert_eq!((room.used, room.erasing), (0, 0));
    }
    node.stop(home.path()).await;
    let rows = fakes::rows(home.path());
    for column in [
        Column::Chunks,
        Column::Copies,
        Column::EraseOrders,
        Column::Releases,
    ] {
        rows.scan(column, &KeyRange::all(), Direction::Forward, &mut |key, _| {
            panic!("{column:?} still has {key:?}")
        })
        .unwrap();
    }
}
