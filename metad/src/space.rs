//! Room on the disk of the metadata itself: a mark below which nothing may be added, and a ballast file that
//! is given up when the disk is nearly full all the same, so that deletes, which write too, can go on.

use crate::error::Error;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How often the file system is asked.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The mark is at most this part of the file system.
const MARK_SHARE: u64 = 8;
/// The ballast is at most this part of the file system.
const BALLAST_SHARE: u64 = 32;
/// Below this part of the mark the ballast is given up.
const GIVEN_UP_SHARE: u64 = 4;
/// Data is taken again when this part of the mark is free above it.
const RELIEF_SHARE: u64 = 16;
const BALLAST: &str = "ballast";

/// The free room of one data directory.
#[derive(Debug)]
pub struct Space {
    directory: PathBuf,
    mark: u64,
    ballast_bytes: u64,
    free: AtomicU64,
    low: AtomicBool,
}

impl Space {
    /// Looks at the file system of `directory`, and lays down the ballast if there is room for it.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn open(directory: &Path, mark_bytes: u64, ballast_bytes: u64) -> Result<Self, Error> {
        let (capacity, free) = ask(directory)?;
        let space = Self {
            directory: directory.to_path_buf(),
            mark: mark_bytes.min(capacity / MARK_SHARE),
            ballast_bytes: ballast_bytes.min(capacity / BALLAST_SHARE),
            free: AtomicU64::new(free),
            low: AtomicBool::new(false),
        };
        space.look()?;
        Ok(space)
    }

    /// Whether there is a mark or ballast, so that looking has a point.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.mark > 0 || self.ballast_bytes > 0
    }

    /// Whether so little is free that nothing may be added.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Bytes free when last looked at.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Asks the file system; gives the ballast up or lays it down again.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn look(&self) -> Result<(), Error> {
        let (_, mut free) = ask(&self.directory)?;
        if free < self.mark / GIVEN_UP_SHARE && self.give_up_ballast() {
            free = ask(&self.directory)?.1;
        }
        self.free.store(free, Ordering::Relaxed);
        let was_low = self.is_low();
        let low = free < self.mark || (was_low && free < self.mark + self.mark / RELIEF_SHARE);
        self.low.store(low, Ordering::Relaxed);
        if low && !was_low {
            tracing::error!(free_bytes = free, mark_bytes = self.mark, directory = %self.directory.display(),
                "the metadata's disk is nearly full: writes are refused, deletes go on");
        } else if was_low && !low {
            tracing::info!(free_bytes = free, "the metadata's disk has room again");
        }
        if !low && free >= self.mark + self.mark / RELIEF_SHARE + self.ballast_bytes {
            self.lay_ballast();
        }
        Ok(())
    }

    /// Looks again and again until `stop` resolves.
    pub(crate) async fn watch(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let space = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || space.look()).await;
            if let Ok(Err(error)) = looked {
                tracing::error!(%error, "cannot tell how full the metadata's disk is");
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join(BALLAST)
    }

    /// Whether there was any.
    fn give_up_ballast(&self) -> bool {
        let given_up = fs::remove_file(self.ballast()).is_ok();
        if given_up {
            tracing::error!("the ballast is given up so that deletes can go on");
        }
        given_up
    }

    /// Lays the ballast down if it is not there. Without it deletes may stop on a full disk, but nothing is lost.
    fn lay_ballast(&self) {
        let path = self.ballast();
        if self.ballast_bytes == 0 || path.exists() {
            return;
        }
        let laid = File::create(&path)
            .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, self.ballast_bytes)?));
        if let Err(error) = laid {
            tracing::warn!(%error, path = %path.display(), "cannot reserve ballast");
        }
    }
}

/// Capacity of the file system of `directory`, and what of it is free to this process, in bytes.
fn ask(directory: &Path) -> Result<(u64, u64), Error> {
    let found = statvfs(directory).map_err(|error| Error::io("inspect", directory)(error.into()))?;
    Ok((
        found.f_blocks.saturating_mul(found.f_frsize),
        found.f_bavail.saturating_mul(found.f_frsize),
    ))
}
