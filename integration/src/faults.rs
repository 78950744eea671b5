//! What goes wrong on purpose: bits that flip in segment files, file systems that lose power or fill up.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use rand::Rng as _;
use rand::rngs::StdRng;
use rustix::ioctl;

/// The unit in which a file is searched for bytes that are not zero.
const BLOCK_BYTES: usize = 4096;
/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)` in the kernel's fs/ext4/ext4.h.
const EXT4_IOC_SHUTDOWN: ioctl::Opcode = ioctl::opcode::read::<u32>(b'X', 125);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: stop without flushing the journal, as a power cut does.
const NO_LOG_FLUSH: u32 = 2;

/// The blocks of a file that hold anything but zeros, as offsets; the last block may be short.
///
/// # Errors
/// If the file cannot be read.
pub fn written_blocks(path: &Path) -> anyhow::Result<Vec<u64>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let blocks = bytes.chunks(BLOCK_BYTES).enumerate();
    let written = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
    Ok(written.map(|(index, _)| (index * BLOCK_BYTES) as u64).collect())
}

/// Flips one bit of the byte at `offset`.
///
/// # Errors
/// If the file cannot be written, or has no such byte.
pub fn flip_bit(path: &Path, offset: u64, bit: u8) -> anyhow::Result<()> {
    let described = || format!("flip a bit at {offset} of {}", path.display());
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .with_context(described)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).with_context(described)?;
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, offset).with_context(described)
}

/// Flips one random bit in one random written block; returns where.
///
/// # Errors
/// If the file has no written block or cannot be written.
pub fn flip_random_bit(path: &Path, random: &mut StdRng) -> anyhow::Result<u64> {
    let blocks = written_blocks(path)?;
    ensure!(!blocks.is_empty(), "{} holds nothing", path.display());
    let end = std::fs::metadata(path)?.len();
    let block = blocks[random.random_range(0..blocks.len())];
    let offset = random.random_range(block..(block + BLOCK_BYTES as u64).min(end));
    flip_bit(path, offset, random.random_range(0..8))?;
    Ok(offset)
}

/// Flips a bit in every 16 bytes of every written block, so that no frame of any record stays whole: the smallest,
/// of one byte, is stored as 17.
///
/// # Errors
/// If the file cannot be read or written.
pub fn ruin(path: &Path, random: &mut StdRng) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    for block in written_blocks(path)? {
        let mut bytes = vec![0; BLOCK_BYTES];
        let length = file.read_at(&mut bytes, block)?;
        for some in bytes[..length].chunks_mut(16) {
            let at = random.random_range(0..some.len());
            some[at] ^= 1 << random.random_range(0..8);
        }
        file.write_all_at(&bytes[..length], block)?;
    }
    Ok(())
}

/// An ext4 file system in a file, mounted through a loop device. Needs root.
pub struct LoopFileSystem {
    image: PathBuf,
    mount_point: PathBuf,
    mounted: bool,
}

impl LoopFileSystem {
    /// Why such a file system cannot be made here, if it cannot.
    #[must_use]
    pub fn unavailable() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("needs root to mount".to_owned());
        }
        if !Path::new("/dev/loop-control").exists() {
            return Some("no loop devices".to_owned());
        }
        ["mkfs.ext4", "mount", "umount"]
            .into_iter()
            .find(|program| {
                crate::clients::find(program).is_none() && !Path::new("/usr/sbin").join(program).exists()
            })
            .map(|program| format!("no {program}"))
    }

    /// Makes and mounts one of `bytes` in `directory`.
    ///
    /// # Errors
    /// If a step fails.
    pub fn create(directory: &Path, bytes: u64) -> anyhow::Result<Self> {
        let (image, mount_point) = (directory.join("file-system.img"), directory.join("mounted"));
        File::create(&image)
            .context("make the image")?
            .set_len(bytes)
            .context("size the image")?;
        std::fs::create_dir(&mount_point).context("make the mount point")?;
        // No blocks kept back for root: the tests run as root and are to see the disk full at its end.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(&image))?;
        let mut file_system = Self {
            image,
            mount_point,
            mounted: false,
        };
        file_system.mount()?;
        Ok(file_system)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Cuts the power: from now on every operation on it fails, and what was not synced is lost.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn cut_power(&self) -> anyhow::Result<()> {
        let directory = File::open(&self.mount_point).context("open the mount point")?;
        shut_down(&directory).context("EXT4_IOC_SHUTDOWN")
    }

    /// Unmounts and mounts again, which replays the journal.
    ///
    /// # Errors
    /// If a process still holds files in it.
    pub fn remount(&mut self) -> anyhow::Result<()> {
        run(Command::new("umount").arg(&self.mount_point))?;
        self.mounted = false;
        self.mount()
    }

    fn mount(&mut self) -> anyhow::Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.mount_point))?;
        self.mounted = true;
        Ok(())
    }
}

impl Drop for LoopFileSystem {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a process that failed to end must not keep the loop device for ever.
            let _ = Command::new("umount").arg("-l").arg(&self.mount_point).status();
        }
    }
}

#[allow(unsafe_code)]
fn shut_down(directory: &File) -> rustix::io::Result<()> {
    // SAFETY: the request takes a pointer to a __u32 of flags, reads it and writes nothing; `Setter`
    // passes a pointer to a u32 that lives through the call.
    unsafe {
        let request = ioctl::Setter::<EXT4_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH);
        ioctl::ioctl(directory, request)
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    // Mount tools live in directories that a user's PATH may lack.
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command.env("PATH", format!("{path}:/usr/sbin:/sbin")).output();
    let output = output.with_context(|| format!("start {command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {complaint}",
        output.status
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn one_bit_is_flipped_in_a_written_block() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("a.seg");
        let mut bytes = vec![0; 5 * BLOCK_BYTES + 100];
        bytes[2 * BLOCK_BYTES + 17] = 9;
        std::fs::write(&path, &bytes).expect("write");
        assert_eq!(written_blocks(&path).expect("blocks"), [2 * BLOCK_BYTES as u64]);
        let offset = flip_random_bit(&path, &mut crate::seed::generator(1, 1)).expect("flip");
        let after = std::fs::read(&path).expect("read");
        let changed: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != after[*at]).collect();
        assert_eq!(changed, [usize::try_from(offset).expect("offset")]);
        assert_eq!(offset / BLOCK_BYTES as u64, 2);
        assert_eq!(crate::layout::segment_files(directory.path()), [path]);
    }

    #[test]
    fn a_power_cut_loses_what_was_not_synced_and_keeps_what_was() {
        if let Some(reason) = LoopFileSystem::unavailable() {
            crate::clients::skip(
                "a_power_cut_loses_what_was_not_synced_and_keeps_what_was",
                &reason,
            );
            return;
        }
        let directory = tempfile::tempdir().expect("directory");
        let mut file_system = LoopFileSystem::create(directory.path(), 64 << 20).expect("file system");
        let synced = file_system.path().join("synced");
        let mut file = File::create(&synced).expect("file");
        file.write_all(b"kept").expect("write");
        file.sync_all().expect("sync");
        File::open(file_system.path())
            .expect("directory")
            .sync_all()
            .expect("sync");
        let lost = file_system.path().join("lost");
        std::fs::write(&lost, b"gone").expect("write");
        file_system.cut_power().expect("power cut");
        assert!(
            std::fs::write(file_system.path().join("after"), b"x").is_err(),
            "the disk must be dead"
        );
        drop(file);
        file_system.remount().expect("remount");
        assert_eq!(std::fs::read(&synced).expect("read"), b"kept");
        assert!(!lost.exists());
    }
}
