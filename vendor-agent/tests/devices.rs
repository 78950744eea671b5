//! Devices that come and go while the agent runs: pulled directories, settings that are read again, copies that are
//! lost and found.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;

use common::cluster::until;
use common::{
    CAPACITY, FakeMetad, Peers, check_copy, config, copy, put_ok, read, seams, start_on, start_with,
};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use ullage_model::ids::{CopyId, DeviceId, LeaseId};
use ullage_model::wire::agent::DeviceState;
use ullage_model::wire::chunk::ChunkRefusal;
use ullage_vendor_agent::device::Device;
use ullage_vendor_agent::device::memory::{Faults, MemoryDevice};
use ullage_vendor_agent::{AgentError, DeviceConfig};

async fn start(home: &Path, metad: &Arc<FakeMetad>, devices: usize, lost_after_s: u64) -> common::Running {
    let peers = Arc::new(Peers::default());
    let mut config = config(home, devices);
    config.lost_after_s = lost_after_s;
    let seams = seams(Arc::clone(metad), Arc::clone(&peers));
    start_with(config, seams, Arc::clone(metad), &peers).await
}

/// Stores a copy of two pieces on as many devices for each of `counters`.
async fn fill(running: &common::Running, counters: std::ops::Range<u32>) -> BTreeSet<CopyId> {
    let mut copies = BTreeSet::new();
    for counter in counters {
        let receipt = put_ok(&running.agent, copy(1, counter), 200_000, 2).await;
        assert_eq!(receipt.pieces.len(), 2);
        copies.insert(copy(1, counter));
    }
    copies
}

async fn until_state(metad: &FakeMetad, running: &common::Running, device: u32, wanted: DeviceState) {
    running.agent.kick();
    metad
        .until(&format!("device {device} is {wanted:?}"), |state| {
            let last = state.heartbeats.last();
            last.is_some_and(|beat| {
                let mut devices = beat.devices.iter();
                devices.any(|report| report.device == DeviceId(device) && report.state == wanted)
            })
        })
        .await;
}

/// Copies that any report so far named damaged, and found.
fn told(metad: &FakeMetad) -> (BTreeSet<CopyId>, BTreeSet<CopyId>) {
    metad.with(|state| (state.damaged.clone(), state.found.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_back_soon_has_cost_nothing_and_is_in_use_again() {
    let home = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(home.path(), &metad, 2, 3600).await;
    let copies = fill(&running, 0..5).await;
    let (here, away) = (home.path().join("device-0"), home.path().join("away"));
    for _ in 0..2 {
        std::fs::rename(&here, &away).unwrap();
        until_state(&metad, &running, 0, DeviceState::Gone).await;
        // The other one goes on.
        let only = put_ok(&running.agent, copy(2, rand::random()), 200_000, 2).await;
        assert!(only.pieces.iter().all(|piece| piece.device == DeviceId(1)));
        std::fs::rename(&away, &here).unwrap();
        until_state(&metad, &running, 0, DeviceState::Healthy).await;
        for copy in &copies {
            check_copy(&running.agent, *copy, 200_000).await;
        }
    }
    let both = put_ok(&running.agent, copy(3, 1), 200_000, 2).await;
    let devices: BTreeSet<DeviceId> = both.pieces.iter().map(|piece| piece.device).collect();
    assert_eq!(devices.len(), 2, "both take pieces again");
    assert_eq!(told(&metad), Default::default(), "nothing was said to be lost");
    running.stop().await;
    // What was written after the return is on the medium and known there.
    std::fs::remove_dir_all(home.path().join("agent/index")).unwrap();
    let running = start(home.path(), &metad, 2, 3600).await;
    for copy in copies.into_iter().chain([copy(3, 1)]) {
        check_copy(&running.agent, copy, 200_000).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_there_at_the_start_is_used_when_it_comes() {
    let home = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(home.path(), &metad, 2, 3600).await;
    let copies = fill(&running, 0..5).await;
    running.stop().await;
    let (here, away) = (home.path().join("device-0"), home.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let running = start(home.path(), &metad, 2, 3600).await;
    until_state(&metad, &running, 0, DeviceState::Gone).await;
    let refused = read(&running.agent, copy(1, 0), 0, 1).await;
    let other = read(&running.agent, copy(1, 0), 6, 1).await;
    let refusals: Vec<_> = [refused, other].into_iter().filter_map(Result::err).collect();
    assert!(
        matches!(refusals.as_slice(), [ChunkRefusal::Devices(_)]),
        "one half is away and no reader calls it damaged: {refusals:?}"
    );
    // A mount point without its device is not the device.
    std::fs::create_dir(&here).unwrap();
    until_state(&metad, &running, 0, DeviceState::Gone).await;
    std::fs::remove_dir(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    until_state(&metad, &running, 0, DeviceState::Healthy).await;
    for copy in copies {
        check_copy(&running.agent, copy, 200_000).await;
    }
    assert_eq!(told(&metad), Default::default());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_device_that_stays_away_are_lost_and_found_when_it_is_back_even_after_a_restart() {
    let home = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(home.path(), &metad, 2, 0).await;
    let copies = fill(&running, 0..5).await;
    let listed = running.agent.list_copies(None, 1).await.unwrap().remove(0);
    let mut pieces = listed.pieces.into_iter();
    let piece = pieces.find(|piece| piece.device == DeviceId(0)).unwrap();
    let (here, away) = (home.path().join("device-0"), home.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    metad
        .until("lost", |state| state.damaged == copies && state.found.is_empty())
        .await;
    running.stop().await;
    std::fs::rename(&away, &here).unwrap();
    // One did not survive its time away.
    let segment = format!("segments/{:016x}.seg", piece.segment);
    let file = File::options()
        .read(true)
        .write(true)
        .open(here.join(segment))
        .unwrap();
    let (mut byte, at) = ([0], u64::from(piece.offset) + 10_000);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let running = start(home.path(), &metad, 2, 0).await;
    metad
        .until("all but one found", |state| state.found.len() == copies.len() - 1)
        .await;
    let noted = home.path().join("agent/lost");
    until("nothing is owed any more", || {
        std::fs::read_to_string(&noted).unwrap().trim() == "[]"
    })
    .await;
    let (_, found) = told(&metad);
    assert_eq!(found.len(), copies.len() - 1);
    assert!(found.is_subset(&copies) && !found.contains(&listed.copy));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_read_again_bring_devices_and_take_them_away() {
    let home = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(home.path(), &metad, 2, 3600).await;
    let copies = fill(&running, 0..5).await;
    let device = |name: &str, class: &str| DeviceConfig {
        path: home.path().join(name),
        capacity: CAPACITY,
        class: class.to_owned(),
    };
    let (first, second, third) = (
        device("device-0", "ssd"),
        device("device-1", "ssd"),
        device("new", "ssd"),
    );
    let settings = vec![first.clone(), third.clone()];
    running.agent.set_devices(settings).await.unwrap();
    until_state(&metad, &running, 1, DeviceState::Gone).await;
    until_state(&metad, &running, 2, DeviceState::Healthy).await;
    let placed = put_ok(&running.agent, copy(2, 1), 200_000, 2).await;
    let devices: BTreeSet<u32> = placed.pieces.iter().map(|piece| piece.device.0).collect();
    assert_eq!(devices, BTreeSet::from([0, 2]));
    // What is wrong is said, and what is right is done.
    std::fs::create_dir(home.path().join("full-of-files")).unwrap();
    std::fs::write(home.path().join("full-of-files/precious"), "x").unwrap();
    let wrong = device("full-of-files", "ssd");
    let settings = vec![wrong, first.clone(), second.clone(), third.clone()];
    let error = running.agent.set_devices(settings).await.unwrap_err();
    assert!(matches!(error, AgentError::Foreign { .. }), "{error}");
    until_state(&metad, &running, 1, DeviceState::Healthy).await;
    for copy in copies {
        check_copy(&running.agent, copy, 200_000).await;
    }
    check_copy(&running.agent, copy(2, 1), 200_000).await;
    let twice = running
        .agent
        .set_devices(vec![first.clone(), first.clone()])
        .await;
    assert!(matches!(twice, Err(AgentError::Config { .. })));
    // Another class is another promise.
    let archive = DeviceConfig {
        class: "archive".to_owned(),
        ..second
    };
    running
        .agent
        .set_devices(vec![first, archive, third])
        .await
        .unwrap();
    running.agent.kick();
    metad
        .until("another class", |state| {
            let last = state.heartbeats.last();
            last.is_some_and(|beat| beat.devices.iter().any(|report| report.class == "archive"))
        })
        .await;
    let placed = put_ok(&running.agent, copy(2, 2), 200_000, 2).await;
    assert!(placed.pieces.iter().all(|piece| piece.device != DeviceId(1)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_devices_take_no_records_reads_on_and_confirms_no_close() {
    let home = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let device = Arc::new(MemoryDevice::new(DeviceId(0), 1 << 30, 8 << 20));
    let running = start_on(home.path(), vec![Arc::clone(&device) as Arc<dyn Device>], &metad).await;
    put_ok(&running.agent, copy(1, 1), 100_000, 1).await;
    running.stop().await;
    let worn = Arc::new(device.restarted());
    worn.set_faults(Faults {
        fail_write: true,
        ..Faults::default()
    });
    metad.with(|state| {
        state.closed.mark = LeaseId(2);
        state.named.insert(copy(1, 1));
    });
    metad.order_close(LeaseId(1));
    let running = start_on(home.path(), vec![Arc::clone(&worn) as Arc<dyn Device>], &metad).await;
    check_copy(&running.agent, copy(1, 1), 100_000).await;
    until_state(&metad, &running, 0, DeviceState::ReadOnly).await;
    assert!(
        metad.with(|state| state.close.contains(&LeaseId(1))),
        "not confirmed"
    );
    running.stop().await;
}
