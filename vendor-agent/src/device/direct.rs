//! Writing past the page cache: large records are not copied into pages that nobody may ever read. What is written
//! so, and that it is synced, is the directory device's.
//!
//! Whole blocks only, and only such as no other write touches: a page of the cache that was changed beside such a
//! write could hide it. Pages that were merely read are dropped by the kernel.

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use ullage_model::limits::BLOCK_BYTES;

/// Bytes that are put together for one call: enough to keep a medium busy while it waits for nothing else.
const STAGING_BYTES: usize = 4 * 1024 * 1024;

/// `path` opened so that what is written to it does not go into the page cache; `None` where the file system cannot.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
    match File::options().write(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `error` says that the file system does not write so, or not in such blocks.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

/// Memory that begins at a block's border, kept from write to write: made by the first one.
#[derive(Default)]
pub(super) struct Staging {
    bytes: Vec<u8>,
    start: usize,
}

impl Staging {
    /// Memory that begins where no block does.
    #[cfg(test)]
    pub(super) fn misaligned() -> Self {
        let mut staging = Self::default();
        staging.whole();
        staging.start = (staging.start + 1) % 4096;
        staging
    }

    fn whole(&mut self) -> &mut [u8] {
        let block = usize::try_from(BLOCK_BYTES).unwrap_or(4096);
        if self.bytes.is_empty() {
            self.bytes = vec![0; STAGING_BYTES + block];
            // Not where there is no such place within it, which a block's worth of slack rules out.
            self.start = self.bytes.as_ptr().align_offset(block).min(block);
        }
        &mut self.bytes[self.start..self.start + STAGING_BYTES]
    }

    /// Writes `parts`, whole blocks in all, to `file` from `at` on, a block's border.
    pub(super) fn write(&mut self, file: &File, mut at: u64, parts: &[Bytes]) -> io::Result<()> {
        let staging = self.whole();
        let mut filled = 0;
        for part in parts {
            let mut rest: &[u8] = part;
            while !rest.is_empty() {
                let step = rest.len().min(staging.len() - filled);
                staging[filled..filled + step].copy_from_slice(&rest[..step]);
                filled += step;
                rest = &rest[step..];
                if filled == staging.len() {
                    file.write_all_at(staging, at)?;
                    at += filled as u64;
                    filled = 0;
                }
            }
        }
        file.write_all_at(&staging[..filled], at)
    }
}
