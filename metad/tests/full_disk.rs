//! The metadata's own disk runs full: what adds data is refused, what gives back goes on, and when there is
//! room again everything is as before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fakes;

use fakes::{GIB, Gateway, Node, Vendor, eventually};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use ullage_model::command::{Reply, SessionCommand};
use ullage_model::wire::metad::MetadError;

const MIB: u64 = 1 << 20;

/// A small ext4 on a loop device; unmounted when dropped.
struct SmallDisk {
    mount: TempDir,
    _image: TempDir,
}

impl SmallDisk {
    fn new(mebibytes: u64) -> Option<Self> {
        let (mount, images) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let image = images.path().join("image");
        File::create(&image).unwrap().set_len(mebibytes * MIB).unwrap();
        let run = |command: &mut Command| {
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let made = run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))
            && run(Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(mount.path()));
        if made {
            return Some(Self {
                mount,
                _image: images,
            });
        }
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "CI must be able to mount a loop device"
        );
        eprintln!("SKIPPED: cannot mount a loop device (not root?); the test of a full disk did not run");
        None
    }

    fn data(&self) -> std::path::PathBuf {
        self.mount.path().join("data")
    }

    /// Fills the disk until about `left` bytes are free.
    fn fill(&self, left: u64) {
        let free = free(self.mount.path());
        let hog = File::create(self.hog()).unwrap();
        rustix::fs::fallocate(
            &hog,
            rustix::fs::FallocateFlags::empty(),
            0,
            free.saturating_sub(left),
        )
        .unwrap();
    }

    fn empty(&self) {
        std::fs::remove_file(self.hog()).unwrap();
    }

    fn hog(&self) -> std::path::PathBuf {
        self.mount.path().join("hog")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.mount.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

fn free(path: &Path) -> u64 {
    let found = rustix::fs::statvfs(path).unwrap();
    found.f_bavail * found.f_frsize
}

fn is_full<T>(answer: &Result<T, MetadError>) -> bool {
    matches!(answer, Err(MetadError::NoRoom(reason)) if reason.contains("disk is full"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_data_and_takes_deletes_until_there_is_room_again() {
    let Some(disk) = SmallDisk::new(512) else {
        return;
    };
    let home = disk.data();
    let node = Node::start_with(&home, |config| {
        config.free_mark_bytes = 48 * MIB;
        config.ballast_bytes = 64 * MIB;
    })
    .await;
    let ballast = home.join("ballast");
    let laid = std::fs::metadata(&ballast).unwrap().len();
    assert!(
        (8 * MIB..=16 * MIB).contains(&laid),
        "at most a 32nd of the disk: {laid}"
    );
    let vendors = [
        Vendor::register(&node, "a", GIB).await,
        Vendor::register(&node, "b", GIB).await,
    ];
    for vendor in &vendors {
        vendor.heartbeat(&node).await;
    }
    let gateway = Gateway::open(&node).await;
    let fat = gateway.allocate(&node, 300 * MIB).await;
    for object in 0..200 {
        let key = format!("key {object}");
        gateway
            .put(&node, &key, fat.lease, &[&vendors[0], &vendors[1]])
            .await;
        gateway
            .put_inline(&node, &format!("inline {object}"))
            .await
            .unwrap();
        if object >= 40 {
            gateway.delete(&node, &key).await;
        }
    }

    disk.fill(30 * MIB);
    eventually("the disk counts as full", async || {
        node.metric("ullage_metad_disk_low", &[]) == Some(1.0)
    })
    .await;
    assert!(ballast.exists(), "there is room for deletes yet");
    assert!(is_full(&gateway.put_inline(&node, "more").await));
    assert!(is_full(&node.metad.allocate(gateway.asking(MIB)).await));
    gateway.delete(&node, "key 0").await;

    std::fs::write(disk.mount.path().join("hog2"), vec![1; 24 << 20]).unwrap();
    eventually("the ballast is given up", async || !ballast.exists()).await;
    assert!(is_full(&gateway.put_inline(&node, "more").await));
    for object in 1..40 {
        gateway.delete(&node, &format!("key {object}")).await;
    }
    gateway.renew(&node, u64::MAX).await.unwrap();
    let returned = SessionCommand::ReturnLease { lease: fat.lease };
    assert_eq!(gateway.submit(&node, returned).await, Ok(Reply::Done));
    eventually("all room is free again on a full disk", async || {
        gateway.renew(&node, u64::MAX).await.unwrap();
        for vendor in &vendors {
            vendor.heartbeat(&node).await;
        }
        let rooms = node.vendors().await;
        rooms.iter().all(|(_, _, room)| room.free() == room.capacity)
    })
    .await;

    disk.empty();
    std::fs::remove_file(disk.mount.path().join("hog2")).unwrap();
    eventually("data is taken again", async || {
        gateway.put_inline(&node, "more").await.is_ok()
    })
    .await;
    eventually("the ballast is laid down again", async || ballast.exists()).await;
    node.stop(&home).await;
}
