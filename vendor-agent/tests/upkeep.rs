//! Giving copies up, restarts, damage, full and lost devices: on real files with real syncs.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;

use common::*;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use ullage_model::codec;
use ullage_model::ids::{ClusterId, CopyId, DeviceId, LeaseId, VendorId};
use ullage_model::wire::agent::{ClosedLeases, CommandOutcome, DeviceState, ERASED_CONTEXT, ErasedList};
use ullage_model::wire::chunk::{ChunkPart, ChunkRefusal, HopReport};
use ullage_vendor_agent::device::Device;
use ullage_vendor_agent::device::memory::{Faults, MemoryDevice};
use ullage_vendor_agent::{Agent, AgentError};

#[tokio::test(flavor = "multi_thread")]
async fn erase_orders_are_durable_signed_idempotent_and_give_the_room_back() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 2, &metad).await;
    let mut copies = Vec::new();
    for counter in 0..40 {
        put_ok(&running.agent, copy(1, counter), 4 << 20, 2).await;
        copies.push(copy(1, counter));
    }
    for counter in 40..140 {
        put_ok(&running.agent, copy(1, counter), 8192, 1).await;
        copies.push(copy(1, counter));
    }
    let kept = copy(1, 200);
    put_ok(&running.agent, kept, 100_000, 2).await;
    let full = du(dir.path());
    copies.push(copy(9, 9));
    metad.erase_and_wait(&running.agent, &copies).await;
    metad.erase_and_wait(&running.agent, &copies[..3]).await;
    let outcomes = metad.with(|state| state.outcomes.clone());
    let key = ed25519_dalek::VerifyingKey::from_bytes(&running.agent.public_key().0).unwrap();
    for outcome in outcomes {
        let CommandOutcome::Erased { copies, signature } = outcome else {
            panic!("{outcome:?}")
        };
        let list = ErasedList {
            cluster: CLUSTER,
            vendor: VendorId(1),
            copies,
        };
        let signature: [u8; 64] = signature.0.as_ref().try_into().unwrap();
        let message = [ERASED_CONTEXT, &codec::encode(&list)].concat();
        key.verify_strict(&message, &ed25519_dalek::Signature::from_bytes(&signature))
            .unwrap();
    }
    assert!(matches!(
        read(&running.agent, copies[0], 0, 1).await,
        Err(ChunkRefusal::NotFound(_))
    ));
    check_copy(&running.agent, kept, 100_000).await;
    // A name that was erased does not come back.
    let again = put(&running.agent, copies[50], &stored(8192, 1), 8192, 1).await;
    assert!(matches!(again, Err(ChunkRefusal::Header(_))), "{again:?}");
    let bound = 2 * 2 * (64 << 20) + (8 << 20);
    for _ in 0..400 {
        if du(dir.path()) < bound {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let now = du(dir.path());
    assert!(now < bound, "{now} bytes are still taken, of {full}");
    running.stop().await;
    let running = start(dir.path(), 2, &metad).await;
    assert_eq!(
        running
            .agent
            .list_copies(None, 500)
            .await
            .unwrap()
            .iter()
            .filter(|copy| !copy.pieces.is_empty())
            .count(),
        1
    );
    check_copy(&running.agent, kept, 100_000).await;
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("agent/index")).unwrap();
    let running = start(dir.path(), 2, &metad).await;
    let listed = running.agent.list_copies(None, 500).await.unwrap();
    assert_eq!(listed.iter().filter(|copy| !copy.pieces.is_empty()).count(), 1);
    check_copy(&running.agent, kept, 100_000).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_lease_refuses_judges_erases_and_keeps_and_survives_the_index() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 2, &metad).await;
    let agent = running.agent.clone();
    for counter in 0..600 {
        put_ok(&agent, copy(1, counter), 5000, 1).await;
    }
    put_ok(&agent, copy(2, 0), 5000, 1).await;
    metad.with(|state| {
        state
            .named
            .extend((0..600).step_by(2).map(|counter| copy(1, counter)))
    });
    // An upload in the middle of its body does not hold the close up for ever.
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<ChunkPart, ChunkRefusal>>(1);
    let body = futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    let mut hanging = agent
        .put_chunk(header(VendorId(1), copy(1, 999), 5000, 1), body.boxed())
        .await;
    metad.close_and_wait(&agent, LeaseId(1)).await;
    let report = hanging.next().await;
    assert!(matches!(
        report,
        Some(HopReport::Failed {
            refusal: ChunkRefusal::LeaseClosed(LeaseId(1)),
            ..
        })
    ));
    drop(sender);
    let late = put(&agent, copy(1, 1000), &stored(100, 1), 100, 1).await;
    assert_eq!(late, Err(ChunkRefusal::LeaseClosed(LeaseId(1))));
    let here = async |agent: &Arc<Agent>| {
        let all = agent.list_copies(None, 2000).await.unwrap();
        all.into_iter()
            .filter(|copy| !copy.pieces.is_empty())
            .collect::<Vec<_>>()
    };
    let left = here(&agent).await;
    assert_eq!(left.len(), 301);
    assert!(
        left.iter()
            .filter(|copy| copy.copy.lease == LeaseId(1))
            .all(|copy| copy.kept)
    );
    drop((agent, hanging));
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("agent/index")).unwrap();
    metad.with(|state| state.judged.clear());
    let running = start(dir.path(), 2, &metad).await;
    assert_eq!(here(&running.agent).await, left);
    let late = put(&running.agent, copy(1, 1000), &stored(100, 1), 100, 1).await;
    assert_eq!(
        late,
        Err(ChunkRefusal::LeaseClosed(LeaseId(1))),
        "the close is persisted"
    );
    assert!(
        metad.with(|state| state.judged.is_empty()),
        "what was kept is not judged again"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_was_away_is_reconciled_before_it_serves_and_leaves_the_undecided_alone() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 1, &metad).await;
    for lease in 1..=3 {
        put_ok(&running.agent, copy(lease, 0), 5000, 1).await;
        put_ok(&running.agent, copy(lease, 1), 5000, 1).await;
    }
    running.stop().await;
    metad.with(|state| {
        state.closed = ClosedLeases {
            mark: LeaseId(10),
            open: vec![LeaseId(3)],
        };
        state.named.insert(copy(1, 0));
        state.undecided.insert(copy(2, 1));
        state.silent = true;
    });
    let peers = Arc::new(Peers::default());
    let agent = Agent::open(config(dir.path(), 1), seams(metad.clone(), peers.clone())).unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(agent.clone().run(stopped));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!agent.is_ready());
    assert_eq!(
        read(&agent, copy(1, 0), 0, 1).await.unwrap_err(),
        ChunkRefusal::NotReady
    );
    metad.with(|state| state.silent = false);
    for _ in 0..1000 {
        if agent.is_ready() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left: Vec<CopyId> = agent
        .list_copies(None, 10)
        .await
        .unwrap()
        .into_iter()
        .filter(|copy| !copy.pieces.is_empty())
        .map(|copy| copy.copy)
        .collect();
    assert_eq!(left, [copy(1, 0), copy(2, 1), copy(3, 0), copy(3, 1)]);
    // Words of an older term count for nothing.
    metad.with(|state| {
        state.term = 0;
        state.erase.insert(copy(1, 0));
    });
    agent.kick();
    tokio::time::sleep(Duration::from_millis(200)).await;
    check_copy(&agent, copy(1, 0), 5000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_copied_at_any_instant_holds_every_acknowledged_copy() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(&dir.path().join("live"), 2, &metad).await;
    let acknowledged = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut writers = Vec::new();
    for writer in 0..8u32 {
        let agent = running.agent.clone();
        let acknowledged = acknowledged.clone();
        writers.push(tokio::spawn(async move {
            for round in 0..60 {
                let plaintext = if round % 10 == 0 { 300_000 } else { 6000 };
                let name = copy(1, writer * 1000 + round);
                put_ok(&agent, name, plaintext, 1 + round % 3).await;
                acknowledged.lock().unwrap().push((name, plaintext));
            }
        }));
    }
    let mut trees = Vec::new();
    for round in 0..4 {
        let before: Vec<_> = acknowledged.lock().unwrap().clone();
        let to = dir.path().join(format!("crash-{round}"));
        // The devices last: what is acknowledged before is on them.
        let from = dir.path().join("live");
        let at = to.clone();
        tokio::task::spawn_blocking(move || copy_tree(&from, &at))
            .await
            .unwrap();
        if round % 2 == 0 {
            std::fs::remove_dir_all(to.join("agent/index")).unwrap();
        }
        trees.push((to, before));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    running.stop().await;
    for (tree, before) in trees {
        // A copied index may be torn in ways a crash does not tear it: it is thrown away in every second
        // tree, and in the others whenever it does not open.
        if Agent::open(config(&tree, 2), seams(metad.clone(), Arc::default())).is_err() {
            std::fs::remove_dir_all(tree.join("agent/index")).unwrap();
        }
        let running = start(&tree, 2, &metad).await;
        for (name, plaintext) in before {
            check_copy(&running.agent, name, plaintext).await;
        }
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_are_never_sent_and_are_reported() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 1, &metad).await;
    for counter in 0..10 {
        put_ok(&running.agent, copy(1, counter), 100_000, 1).await;
    }
    let listed = running.agent.list_copies(None, 100).await.unwrap();
    let victim = &listed[4].pieces[0];
    let path = segments(&dir.path().join("device-0"))[0].clone();
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let at = u64::from(victim.offset) + 112 + 40_000;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    // The first frame is good, the second is not.
    assert!(read(&running.agent, listed[4].copy, 0, 1).await.is_ok());
    let bad = read(&running.agent, listed[4].copy, 0, 4).await;
    assert_eq!(bad, Err(ChunkRefusal::CopyDamaged(listed[4].copy)));
    let name = listed[4].copy;
    metad
        .until("damage reported", |state| {
            state.heartbeats.iter().any(|beat| {
                beat.damaged
                    .iter()
                    .any(|damaged| damaged.copy == name && !damaged.lost)
            })
        })
        .await;
    assert_eq!(running.agent.scrub_once(u64::MAX).await.unwrap(), 1);
    for listed in listed.iter().filter(|listed| listed.copy != name) {
        check_copy(&running.agent, listed.copy, 100_000).await;
    }
    // A damaged header in the middle hides one record and no other, even when the index is gone.
    file.write_all_at(&[0xff; 4], u64::from(listed[7].pieces[0].offset))
        .unwrap();
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("agent/index")).unwrap();
    let running = start(dir.path(), 1, &metad).await;
    let after = running.agent.list_copies(None, 100).await.unwrap();
    assert!(after.iter().all(|copy| copy.copy != listed[7].copy));
    check_copy(&running.agent, listed[8].copy, 100_000).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_whose_device_fails_goes_to_another_and_the_device_is_reported() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let devices: Vec<Arc<MemoryDevice>> = (0..3)
        .map(|id| Arc::new(MemoryDevice::new(DeviceId(id), 1 << 30, 8 << 20)))
        .collect();
    let list = devices
        .iter()
        .map(|device| device.clone() as Arc<dyn Device>)
        .collect();
    let running = start_on(dir.path(), list, &metad).await;
    devices[0].set_faults(Faults {
        tear_after: Some(5000),
        ..Faults::default()
    });
    for counter in 0..20 {
        let receipt = put_ok(&running.agent, copy(1, counter), 200_000, 3).await;
        if counter > 0 {
            assert!(receipt.pieces.iter().all(|piece| piece.device != DeviceId(0)));
        }
        check_copy(&running.agent, copy(1, counter), 200_000).await;
    }
    metad
        .until("read-only", |state| {
            state
                .heartbeats
                .last()
                .is_some_and(|beat| beat.devices[0].state == DeviceState::ReadOnly)
        })
        .await;
    devices[1].set_faults(Faults {
        gone: true,
        ..Faults::default()
    });
    devices[2].set_faults(Faults {
        full: true,
        ..Faults::default()
    });
    let refused = put(&running.agent, copy(1, 50), &stored(8192, 1), 8192, 1).await;
    assert!(
        matches!(refused, Err(ChunkRefusal::Devices(_) | ChunkRefusal::Full { .. })),
        "{refused:?}"
    );
    // One device is away: that is no damage of the copy.
    let lost = read(&running.agent, copy(1, 3), 0, 7).await;
    assert!(matches!(lost, Err(ChunkRefusal::Devices(_))), "{lost:?}");
    metad
        .until("gone", |state| {
            state
                .heartbeats
                .last()
                .is_some_and(|beat| beat.devices[1].state == DeviceState::Gone)
        })
        .await;
    // Room again.
    devices[2].set_faults(Faults::default());
    running.agent.kick();
    tokio::time::sleep(Duration::from_millis(200)).await;
    put_ok(&running.agent, copy(1, 51), 8192, 1).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_directory_takes_its_device_away_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 2, &metad).await;
    for counter in 0..20 {
        put_ok(&running.agent, copy(1, counter), 8192, 1).await;
    }
    std::fs::rename(dir.path().join("device-0"), dir.path().join("pulled")).unwrap();
    running.agent.kick();
    metad
        .until("gone", |state| {
            state.heartbeats.last().is_some_and(|beat| {
                beat.devices[0].state == DeviceState::Gone && beat.devices[1].state == DeviceState::Healthy
            })
        })
        .await;
    for counter in 20..40 {
        let receipt = put_ok(&running.agent, copy(1, counter), 8192, 1).await;
        assert_eq!(receipt.pieces[0].device, DeviceId(1));
    }
    // Erased while its device is away: it stays erased when the device is back.
    let gone: Vec<CopyId> = (0..20).map(|counter| copy(1, counter)).collect();
    metad.erase_and_wait(&running.agent, &gone).await;
    running.stop().await;
    let running = start(dir.path(), 2, &metad).await;
    check_copy(&running.agent, copy(1, 30), 8192).await;
    running.stop().await;
    std::fs::rename(dir.path().join("pulled"), dir.path().join("device-0")).unwrap();
    std::fs::remove_dir_all(dir.path().join("agent/index")).unwrap();
    let running = start(dir.path(), 2, &metad).await;
    let here = running.agent.list_copies(None, 100).await.unwrap();
    let here: Vec<CopyId> = here
        .into_iter()
        .filter(|copy| !copy.pieces.is_empty())
        .map(|copy| copy.copy)
        .collect();
    assert_eq!(here, (20..40).map(|counter| copy(1, counter)).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_directories_and_second_processes_are_refused_and_not_written_to() {
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 1, &metad).await;
    let open = |path: &Path| Agent::open(config(path, 1), seams(metad.clone(), Arc::default())).map(drop);
    assert!(matches!(open(dir.path()), Err(AgentError::Locked(_))));
    running.stop().await;
    // Another cluster.
    metad.with(|state| state.cluster = ClusterId(78));
    let agent = Agent::open(config(dir.path(), 1), seams(metad.clone(), Arc::default())).unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let ended = agent.clone().run(stopped).await;
    assert!(matches!(ended, Err(AgentError::OtherCluster { .. })), "{ended:?}");
    drop(agent);
    // A newer format.
    let marker = dir.path().join("agent/ullage-vendor-agent");
    let text = std::fs::read_to_string(&marker).unwrap();
    let newer = text.replace("\"format\": 1", "\"format\": 2");
    assert_ne!(text, newer);
    std::fs::write(&marker, &newer).unwrap();
    assert!(matches!(open(dir.path()), Err(AgentError::Foreign { .. })));
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), newer);
    std::fs::write(&marker, text).unwrap();
    // The device of another vendor.
    let other = TempDir::new().unwrap();
    std::fs::create_dir_all(other.path()).unwrap();
    copy_tree(&dir.path().join("device-0"), &other.path().join("device-0"));
    let stranger = FakeMetad::new(2);
    let refused = Agent::open(config(other.path(), 1), seams(stranger, Arc::default())).map(drop);
    assert!(matches!(refused, Err(AgentError::Foreign { .. })), "{refused:?}");
    // A directory with something else in it.
    let odd = TempDir::new().unwrap();
    std::fs::create_dir_all(odd.path().join("agent")).unwrap();
    std::fs::write(odd.path().join("agent/letter"), "dear").unwrap();
    assert!(matches!(open(odd.path()), Err(AgentError::Foreign { .. })));
    assert_eq!(std::fs::read_dir(odd.path().join("agent")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_puts_erases_closes_and_restarts_agree_with_a_map() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random::<u64>);
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let metad = FakeMetad::new(1);
    let mut devices: Vec<Arc<MemoryDevice>> = (0..2)
        .map(|id| Arc::new(MemoryDevice::new(DeviceId(id), 64 << 20, 1 << 20)))
        .collect();
    let list = |devices: &[Arc<MemoryDevice>]| {
        devices
            .iter()
            .map(|device| device.clone() as Arc<dyn Device>)
            .collect()
    };
    let mut running = start_on(dir.path(), list(&devices), &metad).await;
    let mut model: BTreeMap<CopyId, u64> = BTreeMap::new();
    let mut counter = 0;
    let mut lease = 1;
    for step in 0..400 {
        match random.random_range(0..20) {
            0..12 => {
                counter += 1;
                let plaintext = if random.random_range(0..4) == 0 {
                    random.random_range(1..400_000)
                } else {
                    random.random_range(1..20_000)
                };
                put_ok(
                    &running.agent,
                    copy(lease, counter),
                    plaintext,
                    random.random_range(1..5),
                )
                .await;
                model.insert(copy(lease, counter), plaintext);
            }
            12..17 => {
                let names: Vec<CopyId> = model
                    .keys()
                    .copied()
                    .filter(|_| random.random_bool(0.2))
                    .collect();
                metad.erase_and_wait(&running.agent, &names).await;
                for name in names {
                    model.remove(&name);
                }
            }
            17 => {
                let named: Vec<CopyId> = model
                    .keys()
                    .copied()
                    .filter(|_| random.random_bool(0.7))
                    .collect();
                metad.with(|state| state.named = named.iter().copied().collect());
                metad.with(|state| {
                    state
                        .named
                        .extend(model.keys().filter(|copy| copy.lease.0 < lease))
                });
                metad.close_and_wait(&running.agent, LeaseId(lease)).await;
                model.retain(|copy, _| copy.lease.0 < lease || named.contains(copy));
                lease += 1;
            }
            18 => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => {
                running.stop().await;
                if random.random_bool(0.5) {
                    std::fs::remove_dir_all(dir.path().join("agent/index")).unwrap();
                }
                metad.with(|state| state.named.extend(model.keys()));
                devices = devices
                    .iter()
                    .map(|device| Arc::new(device.restarted()))
                    .collect();
                running = start_on(dir.path(), list(&devices), &metad).await;
            }
        }
        if step % 20 == 0 {
            let here: Vec<CopyId> = running
                .agent
                .list_copies(None, 10_000)
                .await
                .unwrap()
                .into_iter()
                .filter(|copy| !copy.pieces.is_empty())
                .map(|copy| copy.copy)
                .collect();
            assert_eq!(
                here,
                model.keys().copied().collect::<Vec<_>>(),
                "SEED={seed} step {step}"
            );
        }
    }
    for (name, plaintext) in &model {
        check_copy(&running.agent, *name, *plaintext).await;
    }
    let live: u64 = model
        .values()
        .map(|plaintext| ullage_model::units::room(*plaintext, 4))
        .sum();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let allocated: u64 = devices.iter().map(|device| device.space().allocated).sum();
    assert!(
        allocated <= live * 4 / 3 + 2 * 2 * (1 << 20) + (1 << 20),
        "SEED={seed}: {allocated} for {live}"
    );
    running.stop().await;
}
