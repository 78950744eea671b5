//! A standalone store's data directory: what lies where, who has it open, and what the first start makes.
//!
//! ```text
//! DIR/lock            held while a process serves the store
//! DIR/store.toml      vendors, devices and capacity as settled by the first start
//! DIR/credentials     root keys (AWS credentials-file format, profile default), mode 0600
//! DIR/kek             key-encryption key, 64 hexadecimal digits, mode 0600
//! DIR/metad/          the metadata service
//! DIR/vendors/vN/     vendor N: its agent's data, and its devices in dM/
//! ```

use super::settings::{DEVICE_BYTES_MIN, Settings};
use crate::BadConfiguration;
use crate::admin::{CREDENTIALS_FILE, Credentials};
use crate::keygen::{write_private, write_secret};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Part of a file system's free bytes that a store made without `--device-capacity` leaves to others, in
/// percent; the metadata service lives from it too.
const LEFT_FREE_PERCENT: u64 = 10;

/// What the first start settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// Vendors.
    pub vendors: u32,
    /// Devices of each vendor.
    pub devices_per_vendor: u32,
    /// Bytes that each device may take.
    pub device_capacity: u64,
}

/// An open data directory; locked until dropped.
#[derive(Debug)]
pub struct Layout {
    /// The directory.
    pub root: PathBuf,
    /// Whether this start made it.
    pub is_new: bool,
    /// Vendors, devices, capacity.
    pub settled: Settled,
    /// Root keys.
    pub credentials: Credentials,
    _lock: File,
}

impl Layout {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// When it is in use, was made with other vendors or devices than asked for, or is damaged.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let root = settings.data.clone();
        let keys = root_keys()?;
        refuse_foreign(&root)?;
        make(&root)?;
        let lock = lock(&root)?;
        let file = root.join("store.toml");
        let (is_new, settled) = match fs::read_to_string(&file) {
            Ok(text) => (false, reopen(&file, &text, settings)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (true, first(&root, settings)?),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let kek = root.join("kek");
        if is_new && !kek.exists() {
            let beside = kek.with_extension("new");
            remove(&beside)?;
            write_secret(&beside)?;
            fs::rename(&beside, &kek).with_context(|| format!("cannot make {}", kek.display()))?;
        }
        let credentials = credentials(&root, keys)?;
        let text = toml::to_string(&settled).context("cannot write settings as TOML")?;
        replace(&file, &text)?;
        Ok(Self {
            root,
            is_new,
            settled,
            credentials,
            _lock: lock,
        })
    }

    /// The metadata service's directory.
    pub fn metad(&self) -> PathBuf {
        self.root.join("metad")
    }

    /// The key-encryption key.
    pub fn kek(&self) -> PathBuf {
        self.root.join("kek")
    }

    /// Vendor `number`'s directory, from 1.
    pub fn vendor(&self, number: u32) -> PathBuf {
        self.root.join("vendors").join(format!("v{number}"))
    }

    /// Device `device` of vendor `number`, both from 1.
    pub fn device(&self, number: u32, device: u32) -> PathBuf {
        self.vendor(number).join(format!("d{device}"))
    }
}

fn root_keys() -> anyhow::Result<Option<Credentials>> {
    let access_key = secret("ULLAGE_ROOT_ACCESS_KEY")?;
    let secret_key = secret("ULLAGE_ROOT_SECRET_KEY")?;
    match (access_key, secret_key) {
        (None, None) => Ok(None),
        (Some(access_key), Some(secret_key)) => Ok(Some(Credentials {
            access_key,
            secret_key,
        })),
        (Some(_), None) => anyhow::bail!(BadConfiguration(
            "ULLAGE_ROOT_ACCESS_KEY is set, ULLAGE_ROOT_SECRET_KEY is not: give both or none".to_owned()
        )),
        (None, Some(_)) => anyhow::bail!(BadConfiguration(
            "ULLAGE_ROOT_SECRET_KEY is set, ULLAGE_ROOT_ACCESS_KEY is not: give both or none".to_owned()
        )),
    }
}

/// The environment variable `name`, or the content of the file that `name`_FILE names.
fn secret(name: &str) -> anyhow::Result<Option<String>> {
    let text = match (std::env::var(name), std::env::var(format!("{name}_FILE"))) {
        (Ok(text), Err(_)) => text,
        (Err(_), Ok(path)) => fs::read_to_string(&path)
            .map_err(|error| BadConfiguration(format!("{name}_FILE: cannot read {path}: {error}")))?,
        (Err(_), Err(_)) => return Ok(None),
        (Ok(_), Ok(_)) => {
            anyhow::bail!(BadConfiguration(format!(
                "{name} and {name}_FILE are both set: give one"
            )))
        }
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        anyhow::bail!(BadConfiguration(format!("{name} is empty")));
    }
    Ok(Some(text))
}

/// A directory with something else in it is not taken over.
fn refuse_foreign(root: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", root.display())),
    };
    if root.join("store.toml").exists() {
        return Ok(());
    }
    let known = [
        "lock",
        "kek",
        "kek.new",
        "credentials",
        "credentials.new",
        "store.new",
        "lost+found",
    ];
    for entry in entries {
        let name = entry
            .with_context(|| format!("cannot read {}", root.display()))?
            .file_name();
        if !known.iter().any(|known| name == *known) {
            anyhow::bail!(BadConfiguration(format!(
                "--data {}: it holds {}, which is not Ullage's; name an empty or new directory",
                root.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

fn lock(root: &Path) -> anyhow::Result<File> {
    let path = root.join("lock");
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!(BadConfiguration(format!(
                "--data {}: another process serves it",
                root.display()
            )))
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn reopen(file: &Path, text: &str, settings: &Settings) -> anyhow::Result<Settled> {
    let settled: Settled = toml::from_str(text)
        .map_err(|error| BadConfiguration(format!("{}: {}", file.display(), error.message())))?;
    let told = [
        ("--vendors", settings.vendors, settled.vendors),
        (
            "--devices-per-vendor",
            settings.devices_per_vendor,
            settled.devices_per_vendor,
        ),
    ];
    for (flag, asked, made) in told {
        if asked < made {
            anyhow::bail!(BadConfiguration(format!(
                "{flag} {asked}: the store in {} was made with {made}, and data may lie on each of them",
                settings.data.display()
            )));
        }
    }
    Ok(Settled {
        vendors: settings.vendors,
        devices_per_vendor: settings.devices_per_vendor,
        device_capacity: settings.device_capacity.unwrap_or(settled.device_capacity),
    })
}

fn first(root: &Path, settings: &Settings) -> anyhow::Result<Settled> {
    let devices = u64::from(settings.vendors) * u64::from(settings.devices_per_vendor);
    let share = || -> anyhow::Result<u64> {
        let space = rustix::fs::statvfs(root)
            .with_context(|| format!("cannot ask for the free space of {}", root.display()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let share = free / 100 * (100 - LEFT_FREE_PERCENT) / devices;
        if share < DEVICE_BYTES_MIN {
            anyhow::bail!(BadConfiguration(format!(
                "--data {}: {free} bytes are free there, too few for {devices} devices of {} bytes at least; \
                 name another directory, or fewer --vendors and --devices-per-vendor",
                root.display(),
                DEVICE_BYTES_MIN
            )));
        }
        Ok(share)
    };
    Ok(Settled {
        vendors: settings.vendors,
        devices_per_vendor: settings.devices_per_vendor,
        device_capacity: settings.device_capacity.map_or_else(share, Ok)?,
    })
}

fn credentials(root: &Path, given: Option<Credentials>) -> anyhow::Result<Credentials> {
    let file = root.join(CREDENTIALS_FILE);
    if let Some(given) = given {
        if !file.exists() || Credentials::read(&file)? != given {
            replace(&file, &given.to_text())?;
        }
        return Ok(given);
    }
    if file.exists() {
        return Credentials::read(&file);
    }
    let made = Credentials::fresh()?;
    replace(&file, &made.to_text())?;
    Ok(made)
}

/// Replaces a private file as a whole, durably.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    remove(&beside)?;
    write_private(&beside, text.as_bytes())?;
    fs::rename(&beside, path).with_context(|| format!("cannot replace {}", path.display()))?;
    sync_parent(path)
}

/// Makes a directory and those above it, durably.
fn make(path: &Path) -> anyhow::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    make(path.parent().unwrap_or(Path::new("")))?;
    fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> anyhow::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("cannot sync {}", parent.display()))
}

/// Removes what an interrupted start may have left.
fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
