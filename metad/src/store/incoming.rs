//! A snapshot on its way in: its files as far as they have come, in a directory that survives an interrupted
//! transfer and a restart, so that the next attempt goes on with what is there.

use super::files::{list, make_directory, remove_tree, sync_tree};
use crate::error::Error;
use bytes::Bytes;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files of a snapshot that are there, whole or in part. Names are plain file names; whoever brings them from
/// elsewhere has checked that.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
}

impl Incoming {
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        make_directory(&path)?;
        Ok(Self { path })
    }

    /// Names and lengths of what is there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn files(&self) -> Result<Vec<(String, u64)>, Error> {
        let describe = |path: PathBuf| {
            let found = fs::metadata(&path).map_err(Error::io("inspect", &path))?;
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Ok((name, found.len()))
        };
        list(&self.path)?.into_iter().map(describe).collect()
    }

    /// Writes `bytes` at `offset` of a file, making it if it is not there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        let write = || {
            let file = File::options()
                .create(true)
                .write(true)
                .truncate(false)
                .open(&path)?;
            file.write_all_at(bytes, offset)
        };
        write().map_err(Error::io("write", &path))
    }

    /// At most `bytes` bytes from `offset` of a file on; fewer at its end.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read(&self, name: &str, offset: u64, bytes: usize) -> Result<Bytes, Error> {
        read_at(&self.path.join(name), offset, bytes)
    }

    /// Removes a file. One that is not there is fine.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes all of it durable and gives the directory the name `to`.
    pub(super) fn finish(self, to: &Path) -> Result<(), Error> {
        sync_tree(&self.path)?;
        remove_tree(to)?;
        fs::rename(&self.path, to).map_err(Error::io("rename", &self.path))?;
        to.parent().map_or(Ok(()), super::files::sync_directory)
    }
}

/// At most `bytes` bytes from `offset` of a file on.
pub(super) fn read_at(path: &Path, offset: u64, bytes: usize) -> Result<Bytes, Error> {
    let read = || {
        let file = File::open(path)?;
        let mut buffer = vec![0; bytes];
        let mut filled = 0;
        while filled < bytes {
            match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
                0 => break,
                more => filled += more,
            }
        }
        buffer.truncate(filled);
        Ok(Bytes::from(buffer))
    };
    read().map_err(Error::io("read", path))
}
