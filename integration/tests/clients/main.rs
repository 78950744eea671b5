//! The clients that people use, each doing its everyday job whole against the real binary: what it stored is compared byte
//! for byte, what it lists by name. docs/clients.md has the settings that are used here.
//!
//! The tests share one store as long as they overlap, and have a bucket each. A client that is missing skips its test
//! loudly; where `CI=true` it fails.

mod aws_v2;
mod object_store;
mod rclone;
mod restic;
mod s3cmd;
mod s3fs;
mod s5cmd;
mod sdks;

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use tempfile::TempDir;
use tokio::sync::Mutex;
use ullage_integration::clients::{Client, repository};
use ullage_integration::standalone::Standalone;
use ullage_integration::trees;

/// The store that tests which run at the same time share; it ends with the last of them.
async fn store() -> anyhow::Result<Arc<Standalone>> {
    static SHARED: Mutex<Weak<Standalone>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(running) = shared.upgrade() {
        return Ok(running);
    }
    let started = Arc::new(Standalone::start_default().await?);
    *shared = Arc::downgrade(&started);
    Ok(started)
}

/// A directory to work in, with a tree of odd names in `tree`.
struct Work {
    directory: TempDir,
}

impl Work {
    fn new() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("ullage-client-").tempdir()?;
        trees::make_odd_tree(&directory.path().join("tree"))?;
        Ok(Self { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, client: &Client, arguments: &[&str]) -> anyhow::Result<String> {
        client.run(self.directory.path(), arguments)
    }

    /// What a client complains of when it fails.
    fn fails(&self, client: &Client, arguments: &[&str]) -> anyhow::Result<String> {
        let output = client.output(self.directory.path(), arguments)?;
        anyhow::ensure!(!output.status.success(), "{arguments:?} succeeded");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Checks that a directory holds what `tree` holds.
    fn is_tree(&self, name: &str) -> anyhow::Result<()> {
        trees::assert_same_trees(&self.path("tree"), &self.path(name))
    }

    /// Checks that a file holds the bytes of `tree/large`.
    fn is_large(&self, name: &str) -> anyhow::Result<()> {
        trees::large().check_file(&self.path(name))
    }
}

/// A file beside these.
fn script(name: &str) -> PathBuf {
    repository().join("integration/tests/clients").join(name)
}

/// The lines that were printed, sorted.
fn sorted_lines(printed: &str) -> Vec<&str> {
    let mut lines: Vec<_> = printed.lines().collect();
    lines.sort_unstable();
    lines
}

/// The names in `tree`, sorted as they are listed.
fn tree_names() -> Vec<&'static str> {
    let mut names: Vec<_> = trees::ODD_NAMES.into_iter().chain(["large"]).collect();
    names.sort_unstable();
    names
}
