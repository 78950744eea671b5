//! Devices without room for a single record more, and devices that are gone.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;

use common::*;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use ullage_model::ids::{CopyId, DeviceId, LeaseId};
use ullage_model::wire::agent::{ClosedLeases, CommandOutcome, DeviceState};
use ullage_model::wire::chunk::ChunkRefusal;
use ullage_vendor_agent::device::Device;
use ullage_vendor_agent::device::memory::{Faults, MemoryDevice};

fn no_room() -> Faults {
    Faults {
        no_room: true,
        ..Faults::default()
    }
}

fn devices(count: u32) -> Vec<Arc<MemoryDevice>> {
    (0..count)
        .map(|id| Arc::new(MemoryDevice::new(DeviceId(id), 1 << 30, 8 << 20)))
        .collect()
}

fn list(devices: &[Arc<MemoryDevice>]) -> Vec<Arc<dyn Device>> {
    let each = devices.iter();
    each.map(|device| device.clone() as Arc<dyn Device>).collect()
}

async fn here(running: &Running) -> Vec<CopyId> {
    let all = running.agent.list_copies(None, 10_000).await.unwrap();
    let with_pieces = all.into_iter().filter(|copy| !copy.pieces.is_empty());
    with_pieces.map(|copy| copy.copy).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_devices_are_full_at_start_serves_and_settles_when_there_is_room() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let before = devices(1);
    let running = start_on(dir.path(), list(&before), &metad).await;
    put_ok(&running.agent, copy(1, 0), 5000, 1).await;
    put_ok(&running.agent, copy(1, 1), 5000, 1).await;
    put_ok(&running.agent, copy(20, 0), 5000, 1).await;
    running.stop().await;
    metad.with(|state| {
        state.closed = ClosedLeases {
            mark: LeaseId(10),
            open: vec![],
        };
        state.named.insert(copy(1, 0));
        state.close.insert(LeaseId(1));
    });
    let full: Vec<Arc<MemoryDevice>> = before.iter().map(|device| Arc::new(device.restarted())).collect();
    full[0].set_faults(no_room());
    // It becomes ready.
    let running = start_on(dir.path(), list(&full), &metad).await;
    check_copy(&running.agent, copy(1, 0), 5000).await;
    check_copy(&running.agent, copy(20, 0), 5000).await;
    // What is closed is closed, persisted or not, and is not confirmed.
    let late = put(&running.agent, copy(1, 5), &stored(100, 1), 100, 1).await;
    assert_eq!(late, Err(ChunkRefusal::LeaseClosed(LeaseId(1))));
    let refused = put(&running.agent, copy(20, 5), &stored(100, 1), 100, 1).await;
    assert!(matches!(refused, Err(ChunkRefusal::Full { .. })), "{refused:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(metad.with(|state| state.outcomes.is_empty()));
    // Room again: the close is persisted and the copy that the FAT does not name is erased.
    full[0].set_faults(Faults::default());
    metad
        .until("lease closed", |state| {
            state
                .outcomes
                .contains(&CommandOutcome::LeaseClosed { lease: LeaseId(1) })
        })
        .await;
    assert_eq!(here(&running).await, [copy(1, 0), copy(20, 0)]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_a_full_device_is_erased_by_tombstones_on_another() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let before = devices(2);
    let running = start_on(dir.path(), list(&before), &metad).await;
    let names: Vec<CopyId> = (0..10).map(|counter| copy(1, counter)).collect();
    for name in &names {
        put_ok(&running.agent, *name, 200_000, 2).await;
    }
    before[0].set_faults(no_room());
    metad.erase_and_wait(&running.agent, &names[..5]).await;
    assert_eq!(here(&running).await, names[5..]);
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("agent/index")).unwrap();
    let after: Vec<Arc<MemoryDevice>> = before.iter().map(|device| Arc::new(device.restarted())).collect();
    let running = start_on(dir.path(), list(&after), &metad).await;
    assert_eq!(here(&running).await, names[5..]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copies_of_a_device_that_is_gone_are_reported_lost() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let devices = devices(2);
    let running = start_on(dir.path(), list(&devices), &metad).await;
    // More than one report takes.
    let mut lost = std::collections::BTreeSet::new();
    for counter in 0..1400 {
        let receipt = put_ok(&running.agent, copy(1, counter), 100, 1).await;
        if receipt.pieces[0].device == DeviceId(0) {
            lost.insert(copy(1, counter));
        }
    }
    assert!(lost.len() > 512, "{}", lost.len());
    devices[0].set_faults(Faults {
        gone: true,
        ..Faults::default()
    });
    running.agent.kick();
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..2000 {
        metad.with(|state| {
            for beat in &state.heartbeats {
                assert!(beat.damaged.len() <= 512);
                let gone = beat.devices[0].state == DeviceState::Gone;
                assert!(gone || beat.damaged.is_empty());
                assert!(beat.damaged.iter().all(|damaged| damaged.lost));
                told.extend(beat.damaged.iter().map(|damaged| damaged.copy));
            }
        });
        if told.len() >= lost.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(told, lost);
    running.stop().await;
}
