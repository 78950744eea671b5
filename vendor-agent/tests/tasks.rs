//! An agent without threads, as a simulator runs it: tasks on one thread, paused time, everything in memory.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;

use bytes::Bytes;
use common::{FakeMetad, Peers, check_copy, config, copy, header, put_ok, seams, start_with};
use futures::StreamExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use ullage_model::ids::{DeviceId, VendorId};
use ullage_model::wire::chunk::{ChunkPart, ChunkRefusal, HopReport};
use ullage_vendor_agent::device::Device;
use ullage_vendor_agent::device::memory::MemoryDevice;
use ullage_vendor_agent::local_fat::{IndexHome, MemoryIndex};
use ullage_vendor_agent::{Seams, Workers};

const FLUSH: Duration = Duration::from_millis(8);
const PLAINTEXT: u64 = 100_000;

struct Machine {
    devices: Vec<Arc<MemoryDevice>>,
    index: MemoryIndex,
    metad: Arc<FakeMetad>,
}

impl Machine {
    fn new() -> Self {
        let device = |id| Arc::new(MemoryDevice::new(DeviceId(id), 64 << 20, 1 << 20));
        Self {
            devices: (0..2).map(device).collect(),
            index: MemoryIndex::default(),
            metad: FakeMetad::new(1),
        }
    }

    fn seams(&self, peers: &Arc<Peers>) -> Seams {
        let devices = self.devices.iter().cloned();
        Seams {
            index: IndexHome::InMemory(self.index.clone()),
            devices: Some(
                devices
                    .map(|device| ("ssd".to_owned(), device as Arc<dyn Device>))
                    .collect(),
            ),
            workers: Workers::Tasks { flush: FLUSH },
            ..seams(Arc::clone(&self.metad), Arc::clone(peers))
        }
    }

    /// Loses what was not durable.
    fn crash(&mut self) {
        self.index.crash();
        for device in &mut self.devices {
            *device = Arc::new(device.restarted());
        }
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

/// Threads of this process that agents start.
fn workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names
        .filter(|name| {
            ["lane-", "keeper-", "signer"]
                .iter()
                .any(|kind| name.starts_with(kind))
        })
        .count()
}

async fn run(machine: &Machine, home: &Path, first: u32, count: u32) {
    let peers = Arc::new(Peers::default());
    let running = start_with(
        config(home, 0),
        machine.seams(&peers),
        Arc::clone(&machine.metad),
        &peers,
    )
    .await;
    for counter in 0..first {
        check_copy(&running.agent, copy(1, counter), PLAINTEXT).await;
    }
    for counter in first..first + count {
        let before = Instant::now();
        put_ok(&running.agent, copy(1, counter), PLAINTEXT, 2).await;
        assert!(before.elapsed() >= FLUSH, "becoming durable takes its time");
        check_copy(&running.agent, copy(1, counter), PLAINTEXT).await;
    }
    assert_eq!(workers(), 0, "nothing runs on threads");
    // Nothing is said to the agent: it goes with the runtime and all its tasks.
}

/// A sender who lets a byte go now and then is never silent for long, and holds the memory of a whole chunk.
#[test]
fn a_sender_who_only_drips_is_given_up() {
    let home = tempfile::tempdir().unwrap();
    let machine = Machine::new();
    runtime().block_on(async {
        let peers = Arc::new(Peers::default());
        let seams = machine.seams(&peers);
        let running = start_with(config(home.path(), 0), seams, Arc::clone(&machine.metad), &peers).await;
        let drip = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Some((Ok(ChunkPart::Data(Bytes::from_static(b"x"))), ()))
        });
        let header = header(VendorId(1), copy(1, 1), 1 << 20, 1);
        let began = Instant::now();
        let reports = running.agent.put_chunk(header, drip.boxed()).await;
        let reports: Vec<HopReport> = tokio::time::timeout(Duration::from_secs(600), reports.collect())
            .await
            .unwrap();
        assert!(
            matches!(
                reports[..],
                [HopReport::Failed {
                    refusal: ChunkRefusal::Cut,
                    ..
                }]
            ),
            "{reports:?}"
        );
        assert!(
            began.elapsed() > Duration::from_secs(60),
            "a slow line has its time"
        );
        assert_eq!(running.agent.in_flight_bytes(), 0);
    });
}

#[test]
fn what_was_acknowledged_is_there_after_each_crash() {
    let home = tempfile::tempdir().unwrap();
    let mut machine = Machine::new();
    let mut stored = 0;
    for _ in 0..4 {
        runtime().block_on(run(&machine, home.path(), stored, 3));
        stored += 3;
        machine.crash();
    }
}
