//! One segment file: making, writing, syncing, sealing, punching. Which segment is written to, and when, is
//! decided by the directory device.

use super::direct::{self, Staging};
use super::scan::Source;
use super::{DeviceError, record};
use bytes::{Bytes, BytesMut};
use rustix::fs::{Advice, FallocateFlags};
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ullage_model::ids::DeviceId;
use ullage_model::limits::{ALIGNED_RECORD_BYTES, BLOCK_BYTES};

/// Records from this size on (padding included) are written past the page cache: they lie in blocks of their own.
const DIRECT_RECORD_BYTES: u64 = 512 * 1024;
/// Slices up to this are copied together; longer ones are written from where they are.
const COPIED_SLICE_BYTES: usize = 16 * 1024;
/// Most slices one `pwritev` or `preadv2` takes (Linux `UIO_MAXIOV`).
const SLICES_PER_CALL: usize = 1024;
/// Zeroes for padding.
const PADDING: [u8; 4096] = [0; 4096];

const _: () = assert!(DIRECT_RECORD_BYTES >= 2 * ALIGNED_RECORD_BYTES);

/// The file name of `segment`.
pub(super) fn file_name(segment: u64) -> String {
    format!("{segment:016x}.seg")
}

/// The segment a file name stands for.
pub(super) fn parse_name(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(".seg").filter(|stem| stem.len() == 16)?;
    u64::from_str_radix(stem, 16).ok()
}

/// Makes the file of a segment with its bytes allocated, durably but for its directory entry.
pub(super) fn create(path: &Path, bytes: u64) -> io::Result<Writable> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    let made = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)
        .map_err(io::Error::from)
        .and_then(|()| file.sync_all())
        .and_then(|()| direct::open(path));
    match made {
        Ok(direct) => Ok(Writable {
            file: Arc::new(file),
            direct,
        }),
        Err(error) => {
            drop(file);
            // What was reserved so far must not stay behind; the first error is the one to tell.
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

/// Writes out what is cached of `file` and forgets it, so that what is read next is what the medium has: after a
/// sync that failed, pages may be cached that never got there.
pub(super) fn drop_cached(file: &File) -> io::Result<()> {
    file.sync_data()?;
    Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
}

/// Fills `into` with the bytes of `file` from `offset` on, with `flags` of `preadv2`.
pub(super) fn read(
    file: &File,
    mut offset: u64,
    mut into: &mut [IoSliceMut<'_>],
    flags: ReadWriteFlags,
) -> rustix::io::Result<()> {
    IoSliceMut::advance_slices(&mut into, 0);
    while !into.is_empty() {
        let most = into.len().min(SLICES_PER_CALL);
        match rustix::io::preadv2(file, &mut into[..most], offset, flags) {
            // Shorter than what it is said to hold.
            Ok(0) => return Err(rustix::io::Errno::IO),
            Ok(read) => {
                offset += read as u64;
                IoSliceMut::advance_slices(&mut into, read);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes `file` occupies on its medium.
pub(super) fn allocated(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

/// Gives back the blocks of a dead aligned record but for the first. Returns the bytes given back.
pub(super) fn punch(file: &File, offset: u64, bytes: u64) -> io::Result<u64> {
    let start = offset + BLOCK_BYTES;
    let end = (offset + bytes).next_multiple_of(BLOCK_BYTES);
    if !record::is_aligned(bytes) || end <= start {
        return Ok(0);
    }
    rustix::fs::fallocate(
        file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        start,
        end - start,
    )?;
    Ok(end - start)
}

/// Whether the file system under `directory` punches holes: tried on a scratch file.
pub(super) fn can_punch(directory: &Path) -> io::Result<bool> {
    let path: PathBuf = directory.join("punch.tmp");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    let tried = file.write_all_at(&vec![1; 64 * 1024], 0).and_then(|()| {
        rustix::fs::fallocate(
            &file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            4096,
            16 * 1024,
        )
        .map_err(io::Error::from)
    });
    drop(file);
    std::fs::remove_file(&path)?;
    match tried {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                rustix::io::Errno::from_io_error(&error),
                Some(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS)
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A segment file open for writing.
pub(super) struct Writable {
    pub(super) file: Arc<File>,
    /// The same, past the page cache, where the file system can.
    pub(super) direct: Option<File>,
}

/// Contiguous records waiting to be written, in stretches that are written alike.
pub(super) struct Batch {
    at: u64,
    stretches: Vec<Gather>,
}

impl Batch {
    /// Begins at `at`.
    pub(super) fn new(at: u64) -> Self {
        Self {
            at,
            stretches: Vec::new(),
        }
    }

    /// Adds a record that lies from `offset` to `end`, padding included.
    pub(super) fn record(&mut self, (offset, end): (u64, u64), header: &[u8], payload: &[Bytes]) {
        let direct = end - offset >= DIRECT_RECORD_BYTES;
        if self.at < offset || !direct {
            self.stretch(false).pad(offset);
            self.at = offset;
        }
        let stretch = self.stretch(direct);
        stretch.copy(header);
        payload.iter().for_each(|slice| stretch.push(slice));
        stretch.pad(end);
        self.at = end;
    }

    /// The last stretch, if it is written so, or a new one.
    fn stretch(&mut self, direct: bool) -> &mut Gather {
        let new = self
            .stretches
            .pop_if(|last| last.direct == direct)
            .unwrap_or_else(|| Gather {
                start: self.at,
                direct,
                ..Gather::default()
            });
        self.stretches.push_mut(new)
    }

    /// Writes everything to `to`; `staging` is memory for what goes past the page cache.
    pub(super) fn write(self, to: &mut Writable, staging: &mut Staging) -> io::Result<()> {
        for stretch in self.stretches {
            stretch.write(to, staging)?;
        }
        Ok(())
    }
}

/// Contiguous bytes waiting to be written, small slices copied together and large ones shared.
#[derive(Default)]
struct Gather {
    direct: bool,
    start: u64,
    bytes: u64,
    parts: Vec<Bytes>,
    small: BytesMut,
}

impl Gather {
    /// Adds zeroes up to offset `to`.
    fn pad(&mut self, to: u64) {
        let mut missing = usize::try_from(to - (self.start + self.bytes)).unwrap_or(0);
        while missing > 0 {
            let step = missing.min(PADDING.len());
            self.small.extend_from_slice(&PADDING[..step]);
            self.bytes += step as u64;
            missing -= step;
        }
    }

    /// Adds bytes that are copied.
    fn copy(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Adds a slice.
    fn push(&mut self, slice: &Bytes) {
        if slice.len() <= COPIED_SLICE_BYTES {
            self.copy(slice);
            return;
        }
        if !self.small.is_empty() {
            self.parts.push(self.small.split().freeze());
        }
        self.bytes += slice.len() as u64;
        self.parts.push(slice.clone());
    }

    fn write(mut self, to: &mut Writable, staging: &mut Staging) -> io::Result<()> {
        if !self.small.is_empty() {
            self.parts.push(self.small.split().freeze());
        }
        if let (true, Some(file)) = (self.direct, &to.direct) {
            match staging.write(file, self.start, &self.parts) {
                Err(error) if direct::is_refusal(&error) => to.direct = None,
                done => return done,
            }
        }
        self.write_cached(&to.file)
    }

    fn write_cached(&self, file: &File) -> io::Result<()> {
        let mut at = self.start;
        let mut first = 0;
        let mut skip = 0;
        while first < self.parts.len() {
            let last = self.parts.len().min(first + SLICES_PER_CALL);
            let slices: Vec<IoSlice<'_>> = self.parts[first..last]
                .iter()
                .enumerate()
                .map(|(index, part)| IoSlice::new(if index == 0 { &part[skip..] } else { part }))
                .collect();
            let mut written = match rustix::io::pwritev(file, &slices, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            at += written as u64;
            while first < last && written >= self.parts[first].len() - skip {
                written -= self.parts[first].len() - skip;
                skip = 0;
                first += 1;
            }
            skip += written;
        }
        Ok(())
    }
}

/// A segment file as a source of records.
pub(super) struct FileSource<'a> {
    pub(super) device: DeviceId,
    pub(super) segment: u64,
    pub(super) file: &'a File,
}

impl Source for FileSource<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(DeviceError::Read {
                        device: self.device,
                        segment: self.segment,
                        reason: error.to_string(),
                    });
                }
            }
        }
        Ok(read)
    }
}
