//! What only the real thing shows: a process killed in the middle, a file system without room.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;

use common::*;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use ullage_model::ids::CopyId;
use ullage_model::wire::agent::DeviceState;
use ullage_model::wire::chunk::ChunkRefusal;

/// Not a test by itself: the process that [`acknowledged_copies_survive_kill_9`] kills. It prints the name of
/// each copy when its receipt is there.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Ok(dir) = std::env::var("ULLAGE_TEST_CHILD_DIR") else {
        return;
    };
    let first: u32 = std::env::var("ULLAGE_TEST_CHILD_FIRST").unwrap().parse().unwrap();
    let metad = FakeMetad::new(1);
    let running = start(Path::new(&dir), 2, &metad).await;
    let mut writers = Vec::new();
    for writer in 0..16 {
        let agent = running.agent.clone();
        writers.push(tokio::spawn(async move {
            for round in 0u32.. {
                let name = copy(1, first + writer * 4096 + round);
                let plaintext = plaintext_of(name);
                put_ok(&agent, name, plaintext, 2).await;
                println!("\nSTORED {}", name.chunk.counter);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

fn plaintext_of(name: CopyId) -> u64 {
    if name.chunk.counter.is_multiple_of(16) {
        500_000
    } else {
        7000
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_copies_survive_kill_9() {
    let dir = TempDir::new().unwrap();
    let mut stored = Vec::new();
    for round in 0..5u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_is_killed", "--exact", "--nocapture"])
            .env("ULLAGE_TEST_CHILD_DIR", dir.path())
            .env("ULLAGE_TEST_CHILD_FIRST", (round * 100_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = stored.len() + 60 + 17 * round as usize;
        while stored.len() < wanted {
            let line = lines.next().expect("the child lives").unwrap();
            if let Some(counter) = line.strip_prefix("STORED ") {
                stored.push(copy(1, counter.parse().unwrap()));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had printed before it died counts, too.
        let rest = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("STORED ")?.parse().ok());
        stored.extend(rest.map(|counter| copy(1, counter)));
        if round == 3 {
            std::fs::remove_dir_all(dir.path().join("agent/index")).unwrap();
        }
    }
    let metad = FakeMetad::new(1);
    let running = start(dir.path(), 2, &metad).await;
    for name in &stored {
        check_copy(&running.agent, *name, plaintext_of(*name)).await;
    }
    // Nothing half-written passes for a copy.
    for listed in running.agent.list_copies(None, 100_000).await.unwrap() {
        if listed.complete {
            check_copy(&running.agent, listed.copy, plaintext_of(listed.copy)).await;
        }
    }
    running.stop().await;
}

/// A small ext4 on a loop device; unmounted when dropped.
struct SmallDisk {
    mount: TempDir,
}

impl SmallDisk {
    fn new(image: &Path, megabytes: u64) -> Option<Self> {
        let mount = TempDir::new().unwrap();
        let file = std::fs::File::create(image).unwrap();
        file.set_len(megabytes << 20).unwrap();
        let run = |command: &mut Command| {
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let made = run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image))
            && run(Command::new("mount")
                .args(["-o", "loop"])
                .arg(image)
                .arg(mount.path()));
        if made {
            return Some(Self { mount });
        }
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must be able to mount a loop device"
        );
        eprintln!(
            "SKIPPED: cannot mount a loop device (not root?); the test of a full file system did not run"
        );
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.mount.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_refuses_puts_reads_on_erases_on_and_takes_puts_again() {
    let dir = TempDir::new().unwrap();
    let Some(disk) = SmallDisk::new(&dir.path().join("image"), 400) else {
        return;
    };
    let metad = FakeMetad::new(1);
    let peers = Arc::new(Peers::default());
    let mut config = config(dir.path(), 1);
    // Promised more than there is: the file system runs out first.
    config.device[0].path = disk.mount.path().to_owned();
    let running = start_with(config, seams(metad.clone(), peers.clone()), metad.clone(), &peers).await;
    // Somebody else fills the disk while the agent writes.
    let mut stored = Vec::new();
    for counter in 0..20 {
        put_ok(&running.agent, copy(1, counter), 4 << 20, 1).await;
        stored.push(copy(1, counter));
    }
    let hog = std::fs::File::create(disk.mount.path().join("hog")).unwrap();
    let mut free = 512 << 20;
    while free > 1 << 20 {
        let old = hog.metadata().unwrap().len();
        if rustix::fs::fallocate(&hog, rustix::fs::FallocateFlags::empty(), old, free).is_err() {
            free /= 2;
        }
    }
    let mut refused = None;
    for counter in 20..80 {
        let bytes = common::stored(4 << 20, u64::from(counter) + 1000);
        match put(&running.agent, copy(1, counter), &bytes, 4 << 20, 1).await {
            Ok(_) => stored.push(copy(1, counter)),
            Err(refusal) => {
                refused = Some(refusal);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(ChunkRefusal::Full { .. })), "{refused:?}");
    running.agent.kick();
    metad
        .until("reported full", |state| {
            state
                .heartbeats
                .last()
                .is_some_and(|beat| beat.devices[0].free == 0)
        })
        .await;
    for name in &stored {
        check_copy(&running.agent, *name, 4 << 20).await;
    }
    let half = stored.split_off(stored.len() / 2);
    metad.erase_and_wait(&running.agent, &half).await;
    drop(hog);
    std::fs::remove_file(disk.mount.path().join("hog")).unwrap();
    metad
        .until("healthy again", |state| {
            state.heartbeats.last().is_some_and(|beat| {
                beat.devices[0].state == DeviceState::Healthy && beat.devices[0].free > 8 << 20
            })
        })
        .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    put_ok(&running.agent, copy(1, 500), 4 << 20, 1).await;
    for name in &stored {
        check_copy(&running.agent, *name, 4 << 20).await;
    }
    running.stop().await;
}
