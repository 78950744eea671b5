//! What the tests know of standalone's data directory: the one place to change when it does.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::process::visit_files;

/// The directory of the metadata service.
#[must_use]
pub fn metad(data: &Path) -> PathBuf {
    data.join("metad")
}

/// The directory that holds one directory for each vendor.
#[must_use]
pub fn vendors(data: &Path) -> PathBuf {
    data.join("vendors")
}

/// The file of the key-encryption key.
#[must_use]
pub fn kek(data: &Path) -> PathBuf {
    data.join("kek")
}

/// The file of the root credentials.
#[must_use]
pub fn credentials(data: &Path) -> PathBuf {
    data.join("credentials")
}

/// The vendors' own directories in order.
///
/// # Errors
/// If there are none.
pub fn vendor_directories(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let all = vendors(data);
    let entries = std::fs::read_dir(&all).with_context(|| format!("read {}", all.display()))?;
    let mut found: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    Ok(found)
}

/// Every segment file below a directory.
#[must_use]
pub fn segment_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    visit_files(directory, &mut |path| {
        if path.extension().is_some_and(|extension| extension == "seg") {
            found.push(path.to_owned());
        }
    });
    found
}
