//! What a process and a directory look like from outside: memory, processor time, bytes on disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// The kernel's clock ticks per second in `/proc/PID/stat` (`USER_HZ`, 100 on every Linux of today).
const TICKS_PER_SECOND: u64 = 100;
/// Size of a block in `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// Anonymous resident memory of a process in bytes: what it allocated, without the page cache.
///
/// # Errors
/// If the process is gone.
pub fn anonymous_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .context("no RssAnon line")?;
    let kib: u64 = line
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .context("RssAnon is no number")?;
    Ok(kib * 1024)
}

/// Processor time that a process has used, user and system.
///
/// # Errors
/// If the process is gone.
pub fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The second field is the command in parentheses and may hold anything; count from behind it.
    let (_, rest) = stat.rsplit_once(')').context("no command in stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let tick = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
            .context("short stat line")
    };
    Ok(Duration::from_millis(
        (tick(11)? + tick(12)?) * 1000 / TICKS_PER_SECOND,
    ))
}

/// Processor time that processes have used together, user and system.
///
/// # Errors
/// If one is gone.
pub fn processor_times(pids: &[u32]) -> anyhow::Result<Duration> {
    pids.iter().map(|pid| processor_time(*pid)).sum()
}

/// Bytes that a directory tree occupies on disk, as `du` counts them: blocks, holes not counted. Files
/// that vanish during the walk count as nothing.
#[must_use]
pub fn disk_bytes(directory: &Path) -> u64 {
    let mut total = 0;
    visit_files(directory, &mut |path| {
        if let Ok(metadata) = path.symlink_metadata() {
            total += metadata.blocks() * BLOCK_BYTES;
        }
    });
    total
}

/// Calls `visit` with every file below a directory. Entries that vanish during the walk are passed over.
pub fn visit_files(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else {
            continue;
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match path.symlink_metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(path),
                Ok(_) => visit(&path),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(anonymous_bytes(pid).expect("memory") > 100_000);
        assert!(processor_time(pid).expect("time") < Duration::from_secs(100_000));
        assert!(anonymous_bytes(u32::MAX).is_err());
    }

    #[test]
    fn disk_bytes_count_blocks_and_not_lengths() {
        let directory = tempfile::tempdir().expect("directory");
        let sparse = std::fs::File::create(directory.path().join("sparse")).expect("file");
        sparse.set_len(100 << 20).expect("length");
        std::fs::create_dir(directory.path().join("sub")).expect("directory");
        std::fs::write(directory.path().join("sub/full"), vec![1; 1 << 20]).expect("write");
        std::fs::File::open(directory.path().join("sub/full"))
            .expect("open")
            .sync_all()
            .expect("sync");
        let bytes = disk_bytes(directory.path());
        assert!((1 << 20..4 << 20).contains(&bytes), "{bytes}");
    }
}
