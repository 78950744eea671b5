//! Directory trees that clients store and give back: one with names that are easily got wrong, and the comparison.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::content::Content;
use crate::process::visit_files;

/// Files whose names clients and servers encode, decode, sort or trim; relative to the tree's root.
pub const ODD_NAMES: [&str; 12] = [
    " leading space",
    "#hash;semicolon:colon*",
    ".hidden",
    "a+b%20c/plus+percent%2Fx&y=z?.txt",
    "back\\slash",
    "dot./trailing.",
    "empty",
    "quote'\"<>&amp;",
    "trailing space ",
    "with space/a  b.txt",
    "\u{fc}n\u{ef}/\u{65e5}\u{672c}.txt",
    "\u{1f980}",
];

/// Makes a tree of [`ODD_NAMES`], each with its own name as its content (`empty` is empty), and the file `large` of 12
/// MB, which clients send in parts.
///
/// # Errors
/// If it cannot be written.
pub fn make_odd_tree(root: &Path) -> anyhow::Result<()> {
    for name in ODD_NAMES {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        std::fs::write(&path, if name == "empty" { "" } else { name })
            .with_context(|| format!("write {}", path.display()))?;
    }
    large().write_file(&root.join("large"))
}

/// What `large` holds.
#[must_use]
pub fn large() -> Content {
    Content::new(5, "large", 12_000_000)
}

fn tree(directory: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = Vec::new();
    visit_files(directory, &mut |path| files.push(path.to_owned()));
    let read = |path: PathBuf| Ok((path.strip_prefix(directory)?.to_owned(), std::fs::read(&path)?));
    files.into_iter().map(read).collect()
}

/// Checks that two directories hold the same files with the same bytes; empty directories do not count.
///
/// # Errors
/// If one cannot be read.
///
/// # Panics
/// If they differ.
pub fn assert_same_trees(one: &Path, other: &Path) -> anyhow::Result<()> {
    let (one, other) = (tree(one)?, tree(other)?);
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(other.get(path) == Some(bytes), "{} differs", path.display());
    }
    Ok(())
}
