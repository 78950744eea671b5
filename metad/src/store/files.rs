//! Durable file operations: synced files and directories, atomic replacement, linking a database's files.

use crate::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Syncs a directory: its entries are durable afterwards.
pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("sync", path))
}

/// Syncs every file of a directory, then the directory and its parent.
pub(super) fn sync_tree(path: &Path) -> Result<(), Error> {
    for file in list(path)? {
        File::open(&file)
            .and_then(|opened| opened.sync_all())
            .map_err(Error::io("sync", &file))?;
    }
    sync_directory(path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes a directory and its entry in the parent durable. An existing one is fine.
pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::io("make", path))?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Writes `content` to a new file beside `path` and syncs it; returns its name.
pub(super) fn write_beside(path: &Path, content: &[u8]) -> Result<PathBuf, Error> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(Error::io("write", &beside))?;
    Ok(beside)
}

/// The paths in a directory, sorted.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(path).map_err(Error::io("list", path))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::io("list", path))?;
    paths.sort();
    Ok(paths)
}

/// Whether a file belongs to a database: its lock and its own log lines do not.
pub(super) fn is_database_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name != "LOCK" && !name.starts_with("LOG")
}

/// Gives `to` the files of the database in `from`: immutable ones (tables, blob files) as hard links, the
/// others as copies. `first` runs after the first file.
pub(super) fn link_database(
    from: &Path,
    to: &Path,
    mut first: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    fs::create_dir(to).map_err(Error::io("make", to))?;
    for (index, file) in list(from)?
        .iter()
        .filter(|file| is_database_file(file))
        .enumerate()
    {
        let Some(name) = file.file_name() else { continue };
        let immutable = file
            .extension()
            .is_some_and(|kind| kind == "sst" || kind == "blob");
        if immutable {
            fs::hard_link(file, to.join(name)).map_err(Error::io("link", file))?;
        } else {
            fs::copy(file, to.join(name)).map_err(Error::io("copy", file))?;
        }
        if index == 0 {
            first()?;
        }
    }
    Ok(())
}

/// Removes a directory and all in it. One that is not there is fine.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
