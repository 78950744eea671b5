//! Compaction against what is going on at the same time, and against restarts after it: no acknowledged copy
//! may be lost.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;

use common::*;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use ullage_model::ids::{CopyId, DeviceId};
use ullage_model::wire::agent::DeviceState;
use ullage_vendor_agent::device::memory::MemoryDevice;
use ullage_vendor_agent::device::record::Record;
use ullage_vendor_agent::device::scan::{ScanSummary, Scanned};
use ullage_vendor_agent::device::{
    Device, DeviceError, Durable, Location, Position, Purpose, SegmentInfo, Space, Wait,
};

/// A device that is slow to answer for groups that go on in another segment: long enough for compaction to
/// look while they are durable and nobody knows.
struct SlowToAnswer(MemoryDevice);

/// Longer than compaction waits between two looks.
const ANSWER_PAUSE: Duration = Duration::from_millis(1300);

impl Device for SlowToAnswer {
    fn id(&self) -> DeviceId {
        self.0.id()
    }

    fn put_batch(&self, records: &[Record], purpose: Purpose) -> Result<Durable, DeviceError> {
        let durable = self.0.put_batch(records, purpose)?;
        if durable.locations.first().map(|first| first.segment) != Some(durable.end.segment) {
            std::thread::sleep(ANSWER_PAUSE);
        }
        Ok(durable)
    }

    fn read_into(
        &self,
        segment: u64,
        offset: u64,
        into: &mut [IoSliceMut<'_>],
        wait: Wait,
    ) -> Result<(), DeviceError> {
        self.0.read_into(segment, offset, into, wait)
    }

    fn release(&self, locations: &[Location]) -> Result<u64, DeviceError> {
        self.0.release(locations)
    }

    fn scan(
        &self,
        from: Option<Position>,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError> {
        self.0.scan(from, each)
    }

    fn scan_segment(
        &self,
        segment: u64,
        each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
    ) -> Result<ScanSummary, DeviceError> {
        self.0.scan_segment(segment, each)
    }

    fn remove_segment(&self, segment: u64) -> Result<(), DeviceError> {
        self.0.remove_segment(segment)
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        self.0.segments()
    }

    fn has_segment(&self, segment: u64) -> bool {
        self.0.has_segment(segment)
    }

    fn space(&self) -> Space {
        self.0.space()
    }

    fn segment_bytes(&self) -> u64 {
        self.0.segment_bytes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_leaves_alone_what_is_durable_and_not_yet_in_the_index() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let device = Arc::new(SlowToAnswer(MemoryDevice::new(DeviceId(0), 1 << 30, 1 << 20)));
    let running = start_on(dir.path(), vec![device.clone() as Arc<dyn Device>], &metad).await;
    // Each round is more than a segment, so its groups cross segment ends.
    let mut stored = Vec::new();
    for round in 0..3u32 {
        let puts = (0..100u32).map(|number| {
            let agent = running.agent.clone();
            tokio::spawn(async move { put_ok(&agent, copy(1, round * 1000 + number), 30_000, 1).await })
        });
        for put in puts.collect::<Vec<_>>() {
            put.await.unwrap();
        }
        stored.extend((0..100).map(|number| copy(1, round * 1000 + number)));
    }
    assert!(device.0.segments().len() > 3);
    for name in &stored {
        check_copy(&running.agent, *name, 30_000).await;
    }
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("agent/index")).unwrap();
    let again = Arc::new(device.0.restarted());
    let running = start_on(dir.path(), vec![again as Arc<dyn Device>], &metad).await;
    for name in &stored {
        check_copy(&running.agent, *name, 30_000).await;
    }
    running.stop().await;
}

/// Copies what a killed agent leaves, starts an agent on it and stops the other one.
async fn kill_and_start(running: Running, from: &TempDir, metad: &Arc<FakeMetad>) -> (Running, TempDir) {
    let to = TempDir::new().unwrap();
    copy_tree(from.path(), to.path());
    running.stop().await;
    let running = start(to.path(), 2, metad).await;
    (running, to)
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_stored_after_compaction_removed_the_newest_segment_survive_kills() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let device = dir.path().join("device-0");
    let running = start(dir.path(), 2, &metad).await;
    let first: Vec<CopyId> = (0..40).map(|counter| copy(1, counter)).collect();
    for name in &first {
        put_ok(&running.agent, *name, 30_000, 1).await;
    }
    // Erased while their device is away: the tombstones lie on the other, and nothing follows on this one.
    std::fs::rename(&device, dir.path().join("pulled")).unwrap();
    running.agent.kick();
    metad
        .until("gone", |state| {
            let last = state.heartbeats.last();
            last.is_some_and(|beat| beat.devices[0].state == DeviceState::Gone)
        })
        .await;
    metad.erase_and_wait(&running.agent, &first).await;
    running.stop().await;
    std::fs::rename(dir.path().join("pulled"), &device).unwrap();
    let running = start(dir.path(), 2, &metad).await;
    for _ in 0..1000 {
        if segments(&device).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(segments(&device), Vec::<std::path::PathBuf>::new());
    let (running, second_dir) = kill_and_start(running, &dir, &metad).await;
    let mut devices = std::collections::BTreeSet::new();
    let second: Vec<CopyId> = (100..110).map(|counter| copy(1, counter)).collect();
    for name in &second {
        let receipt = put_ok(&running.agent, *name, 30_000, 1).await;
        devices.extend(receipt.pieces.iter().map(|piece| piece.device));
    }
    assert!(devices.contains(&DeviceId(0)), "{devices:?}");
    let (running, _third_dir) = kill_and_start(running, &second_dir, &metad).await;
    for name in &second {
        check_copy(&running.agent, *name, 30_000).await;
    }
    running.stop().await;
}
