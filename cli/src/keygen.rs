//! `ullage keygen`: 32 random bytes as 64 hexadecimal digits in a new file that only its owner can read.

use crate::BadConfiguration;
use anyhow::Context;
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Options of `ullage keygen`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The file to make. An existing one is never overwritten.
    file: PathBuf,
}

/// Runs `ullage keygen`.
pub fn run(options: &Options) -> anyhow::Result<()> {
    write_secret(&options.file)?;
    println!(
        "wrote a fresh secret to {}; keep a copy in a safe place",
        options.file.display()
    );
    Ok(())
}

/// Writes a fresh secret to a new file, durably.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_secret(path: &Path) -> anyhow::Result<()> {
    let mut secret = [0; 32];
    OsRng
        .try_fill_bytes(&mut secret)
        .context("cannot get random bytes from the system")?;
    write_private(path, format!("{}\n", hex::encode(secret)).as_bytes())
}

/// Writes a new file that only its owner can read, durably.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = match file {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = format!("{} exists already; it was not changed", path.display());
            return Err(BadConfiguration(text).into());
        }
        other => other.with_context(|| format!("cannot make {}", path.display()))?,
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(directory)?.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::write_secret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_private_hexadecimal_and_never_overwritten() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("kek");
        write_secret(&path)?;
        let text = std::fs::read_to_string(&path)?;
        assert_eq!(hex::decode(text.trim())?.len(), 32);
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        let refused = write_secret(&path).expect_err("an existing file must not be replaced");
        assert!(refused.to_string().contains("exists already"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path)?, text);
        Ok(())
    }
}
