//! The agent's data directory and the markers of its devices: whose they are, and that nobody else uses
//! them. What lies in devices is not known here.
//!
//! # Layout of the data directory
//!
//! | file | what |
//! |---|---|
//! | `ullage-vendor-agent` | marker: JSON with `format`, and, once registered, `cluster` and `vendor` |
//! | `key` | the vendor's Ed25519 secret key, 32 bytes as hex, mode 0600 |
//! | `credentials` | JSON, mode 0600: what the vendor proves itself with to other services, see [`StoredCredentials`] |
//! | `devices` | JSON: the path at which each device was last seen, in order of their ids |
//! | `lost` | JSON: ids of the devices whose copies were reported lost and have not been reported found since |
//! | `show` | socket, mode 0600, at which a running agent lists its local FAT |
//! | `lock` | locked (flock) while an agent runs |
//! | `index/` | the local FAT's index; may be deleted while no agent runs |
//!
//! Every file is replaced by writing a new one, syncing it, renaming it and syncing the directory.

use crate::error::AgentError;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use ullage_model::ids::{ClusterId, DeviceId, VendorId};
use ullage_model::limits::DEVICES_PER_VENDOR;
use zeroize::{Zeroize as _, Zeroizing};

/// The format level this build writes; it refuses greater ones.
pub const FORMAT: u32 = 1;
/// Name of the marker in a device's directory.
pub const DEVICE_MARKER: &str = "ullage-device";
const AGENT_MARKER: &str = "ullage-vendor-agent";
const CREDENTIALS: &str = "credentials";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct AgentMarker {
    format: u32,
    /// 32 hex digits.
    cluster: Option<String>,
    vendor: Option<u64>,
}

/// What a vendor was given when it enrolled: the file `credentials`, in which bytes are hexadecimal digits.
#[derive(Clone)]
pub(crate) struct StoredCredentials {
    /// SHA-256 of the authority's certificate.
    pub(crate) authority: [u8; 32],
    /// That certificate, DER.
    pub(crate) authority_certificate: Vec<u8>,
    /// The vendor's certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// Its key, DER (PKCS #8).
    pub(crate) tls_key: Zeroizing<Vec<u8>>,
    /// Addresses of the metadata nodes as last heard.
    pub(crate) metad: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct CredentialsFile {
    authority: String,
    authority_certificate: String,
    certificate: String,
    tls_key: String,
    metad: Vec<String>,
}

impl Drop for CredentialsFile {
    fn drop(&mut self) {
        self.tls_key.zeroize();
    }
}

impl From<&StoredCredentials> for CredentialsFile {
    fn from(stored: &StoredCredentials) -> Self {
        Self {
            authority: hex_of(&stored.authority),
            authority_certificate: hex_of(&stored.authority_certificate),
            certificate: hex_of(&stored.certificate),
            tls_key: hex_of(&stored.tls_key),
            metad: stored.metad.clone(),
        }
    }
}

impl TryFrom<CredentialsFile> for StoredCredentials {
    type Error = hex::FromHexError;

    fn try_from(file: CredentialsFile) -> Result<Self, hex::FromHexError> {
        let mut authority = [0; 32];
        hex::decode_to_slice(&file.authority, &mut authority)?;
        Ok(Self {
            authority,
            authority_certificate: hex::decode(&file.authority_certificate)?,
            certificate: hex::decode(&file.certificate)?,
            tls_key: Zeroizing::new(hex::decode(&file.tls_key)?),
            metad: file.metad.clone(),
        })
    }
}

/// What a device's marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMarker {
    /// Format level.
    pub format: u32,
    /// Its id at its vendor.
    pub device: DeviceId,
    /// Public key of the vendor, as hex.
    pub vendor_key: String,
}

/// The open data directory; holds the lock.
pub struct DataDir {
    path: PathBuf,
    marker: AgentMarker,
    key: SigningKey,
    devices: Vec<PathBuf>,
    lost: BTreeSet<DeviceId>,
    _lock: File,
}

impl DataDir {
    /// Where the devices are, as last seen, in order of their ids.
    pub(crate) fn device_paths(&self) -> Vec<(DeviceId, PathBuf)> {
        (0..).map(DeviceId).zip(self.devices.iter().cloned()).collect()
    }

    /// Opens the directory or, if it is empty or not there, makes it with a key from `seed`.
    ///
    /// # Errors
    /// When another process has it, a newer build wrote it, or it holds something else. Then nothing is
    /// changed.
    pub fn open(path: &Path, seed: impl FnOnce() -> [u8; 32]) -> Result<Self, AgentError> {
        make_directories(path)?;
        let marker_path = path.join(AGENT_MARKER);
        if !marker_path.exists() && !is_fresh(path)? {
            return Err(AgentError::Foreign {
                path: path.to_owned(),
                reason: format!("it has files but no {AGENT_MARKER}"),
            });
        }
        if let Some(marker) = read_json::<AgentMarker>(&marker_path)? {
            check_format(path, marker.format)?;
        }
        let lock = take_lock(path)?;
        let key_path = path.join("key");
        let key = match std::fs::read_to_string(&key_path) {
            Ok(text) => parse_key(&key_path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !marker_path.exists() => {
                let key = SigningKey::from_bytes(&seed());
                replace(&key_path, hex_of(key.as_bytes()).as_bytes())?;
                key
            }
            Err(error) => return Err(AgentError::file("read", key_path)(error)),
        };
        let marker = match read_json::<AgentMarker>(&marker_path)? {
            Some(marker) => marker,
            None => {
                let marker = AgentMarker {
                    format: FORMAT,
                    cluster: None,
                    vendor: None,
                };
                write_json(&marker_path, &marker)?;
                marker
            }
        };
        let devices = read_json(&path.join("devices"))?.unwrap_or_default();
        let lost = read_json(&path.join("lost"))?.unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            marker,
            key,
            devices,
            lost,
            _lock: lock,
        })
    }

    /// Opens a directory that is an agent's already.
    ///
    /// # Errors
    /// As [`DataDir::open`], and when it is none.
    pub(crate) fn open_existing(path: &Path) -> Result<Self, AgentError> {
        if !path.join(AGENT_MARKER).exists() {
            return Err(AgentError::Foreign {
                path: path.to_owned(),
                reason: "it is not a vendor agent's data directory".to_owned(),
            });
        }
        // The key is there, so that none is made.
        Self::open(path, || [0; 32])
    }

    /// The vendor's key.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Cluster and vendor, once registered.
    ///
    /// # Errors
    /// When the marker is damaged.
    pub fn identity(&self) -> Result<Option<(ClusterId, VendorId)>, AgentError> {
        let (Some(cluster), Some(vendor)) = (&self.marker.cluster, self.marker.vendor) else {
            return Ok(None);
        };
        let cluster = u128::from_str_radix(cluster, 16).map_err(|error| AgentError::Foreign {
            path: self.path.join(AGENT_MARKER),
            reason: format!("cluster is not a hex number: {error}"),
        })?;
        Ok(Some((ClusterId(cluster), VendorId(vendor))))
    }

    /// Binds the directory to a cluster and a vendor id.
    ///
    /// # Errors
    /// When it is bound to others, or the marker cannot be written.
    pub fn bind(&mut self, cluster: ClusterId, vendor: VendorId) -> Result<(), AgentError> {
        match self.identity()? {
            Some((ours, _)) if ours != cluster => Err(AgentError::OtherCluster {
                ours,
                theirs: cluster,
            }),
            Some((_, ours)) if ours != vendor => Err(AgentError::Foreign {
                path: self.path.clone(),
                reason: format!("it belongs to {ours}, the metadata service says {vendor}"),
            }),
            Some(_) => Ok(()),
            None => {
                self.marker.cluster = Some(cluster.to_string());
                self.marker.vendor = Some(vendor.0);
                write_json(&self.path.join(AGENT_MARKER), &self.marker)
            }
        }
    }

    /// The id of the device at `path`: what its marker says (a directory may have been moved), else the one
    /// it had there before, else the next. The second value says whether it is new.
    ///
    /// # Errors
    /// When the marker cannot be read.
    pub fn device_id(&mut self, path: &Path) -> Result<(DeviceId, bool), AgentError> {
        let vendor_key = hex_of(self.key.verifying_key().as_bytes());
        if let Some(marker) = read_json::<DeviceMarker>(&path.join(DEVICE_MARKER))?
            && marker.vendor_key == vendor_key
        {
            let index = marker.device.0 as usize;
            if index >= DEVICES_PER_VENDOR {
                return Err(AgentError::Foreign {
                    path: path.to_owned(),
                    reason: format!("{} is out of bounds", marker.device),
                });
            }
            while self.devices.len() <= index {
                self.devices.push(PathBuf::new());
            }
            path.clone_into(&mut self.devices[index]);
            return Ok((marker.device, false));
        }
        if let Some(index) = self.devices.iter().position(|known| known == path) {
            return Ok((DeviceId(u32::try_from(index).unwrap_or(u32::MAX)), false));
        }
        let index = self.devices.len();
        self.devices.push(path.to_owned());
        Ok((DeviceId(u32::try_from(index).unwrap_or(u32::MAX)), true))
    }

    /// Writes the list of devices: called after new ones were made, so that one whose making failed is tried
    /// again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_devices(&self) -> Result<(), AgentError> {
        write_json(&self.path.join("devices"), &self.devices)
    }

    /// Devices whose copies were reported lost and have not been reported found since.
    pub(crate) fn lost_devices(&self) -> BTreeSet<DeviceId> {
        self.lost.clone()
    }

    /// Notes devices whose copies are reported lost, or found again, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save_lost(
        &mut self,
        lost: &BTreeSet<DeviceId>,
        found: &BTreeSet<DeviceId>,
    ) -> Result<(), AgentError> {
        let all: BTreeSet<DeviceId> = self.lost.union(lost).copied().collect();
        let all: BTreeSet<DeviceId> = all.difference(found).copied().collect();
        write_json(&self.path.join("lost"), &all)?;
        self.lost = all;
        Ok(())
    }

    /// What the vendor was given when it enrolled, if it has.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn credentials(&self) -> Result<Option<StoredCredentials>, AgentError> {
        let path = self.path.join(CREDENTIALS);
        let file = read_json::<CredentialsFile>(&path)?;
        file.map(StoredCredentials::try_from)
            .transpose()
            .map_err(|error| AgentError::Foreign {
                path,
                reason: error.to_string(),
            })
    }

    /// Keeps what the vendor was given, durably.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn save_credentials(&self, credentials: &StoredCredentials) -> Result<(), AgentError> {
        write_json(&self.path.join(CREDENTIALS), &CredentialsFile::from(credentials))
    }

    /// Keeps where the metadata nodes are now, durably.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn save_addresses(&self, metad: Vec<String>) -> Result<(), AgentError> {
        match self.credentials()? {
            Some(stored) if stored.metad != metad => {
                self.save_credentials(&StoredCredentials { metad, ..stored })
            }
            _ => Ok(()),
        }
    }

    /// Where the local FAT's index lies.
    #[must_use]
    pub fn index_path(&self) -> PathBuf {
        self.path.join("index")
    }
}

/// A socket at `path` that only the owner of the data directory can open, ready for a runtime; one that was left
/// behind there goes.
pub(crate) fn private_socket(path: &Path) -> io::Result<UnixListener> {
    // It gets its name when nobody else can open it any more.
    let nameless = path.with_extension("tmp");
    match std::fs::remove_file(&nameless) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&nameless)?;
    std::fs::set_permissions(&nameless, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&nameless, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Makes a device's directory with its marker.
pub(crate) fn make_device(path: &Path, marker: &DeviceMarker) -> Result<(), AgentError> {
    make_directories(path)?;
    let marker_path = path.join(DEVICE_MARKER);
    match read_json::<DeviceMarker>(&marker_path)? {
        Some(found) => check_marker(path, &found, marker),
        None if has_entries(path)? => Err(AgentError::Foreign {
            path: path.to_owned(),
            reason: "a new device must be an empty directory".to_owned(),
        }),
        None => {
            write_json(&marker_path, marker)?;
            path.parent().map_or(Ok(()), sync_directory)
        }
    }
}

/// Checks that a device's directory is there and this vendor's.
pub(crate) fn check_device(path: &Path, marker: &DeviceMarker) -> Result<(), AgentError> {
    match read_json::<DeviceMarker>(&path.join(DEVICE_MARKER))? {
        Some(found) => check_marker(path, &found, marker),
        None => Err(crate::device::DeviceError::Gone {
            device: marker.device,
            reason: format!("{} has no {DEVICE_MARKER}; is it mounted?", path.display()),
        }
        .into()),
    }
}

fn check_marker(path: &Path, found: &DeviceMarker, expected: &DeviceMarker) -> Result<(), AgentError> {
    check_format(path, found.format)?;
    if found.vendor_key != expected.vendor_key || found.device != expected.device {
        return Err(AgentError::Foreign {
            path: path.to_owned(),
            reason: format!(
                "it is {} of the vendor with key {}, expected {} of {}",
                found.device, found.vendor_key, expected.device, expected.vendor_key
            ),
        });
    }
    Ok(())
}

fn check_format(path: &Path, format: u32) -> Result<(), AgentError> {
    if format > FORMAT {
        return Err(AgentError::Foreign {
            path: path.to_owned(),
            reason: format!("it has format {format}, this build knows formats up to {FORMAT}"),
        });
    }
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, AgentError> {
    let lock_path = path.join("lock");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(AgentError::file("open", &lock_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AgentError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(AgentError::file("lock", lock_path)(error)),
    }
}

/// Whether the directory holds nothing but what an interrupted first start leaves.
fn is_fresh(path: &Path) -> Result<bool, AgentError> {
    for entry in std::fs::read_dir(path).map_err(AgentError::file("list", path))? {
        let name = entry.map_err(AgentError::file("list", path))?.file_name();
        let ours = ["lock", "key", "lost+found"];
        if !ours.iter().any(|known| name == *known) && !name.to_string_lossy().ends_with(".tmp") {
            return Ok(false);
        }
    }
    Ok(!path.join("key").exists() || parse_key_file(path))
}

fn parse_key_file(path: &Path) -> bool {
    let key = path.join("key");
    std::fs::read_to_string(&key).is_ok_and(|text| parse_key(&key, &text).is_ok())
}

fn has_entries(path: &Path) -> Result<bool, AgentError> {
    for entry in std::fs::read_dir(path).map_err(AgentError::file("list", path))? {
        let name = entry.map_err(AgentError::file("list", path))?.file_name();
        if name != "lost+found" && !name.to_string_lossy().ends_with(".tmp") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parse_key(path: &Path, text: &str) -> Result<SigningKey, AgentError> {
    let text = text.trim();
    let mut key = [0; 32];
    let good = text.len() == 64
        && key.iter_mut().enumerate().all(|(index, byte)| {
            text.get(index * 2..index * 2 + 2)
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .is_some_and(|value| {
                    *byte = value;
                    true
                })
        });
    if good {
        Ok(SigningKey::from_bytes(&key))
    } else {
        Err(AgentError::Foreign {
            path: path.to_owned(),
            reason: "it is not 64 hex digits".to_owned(),
        })
    }
}

/// `bytes` as lower-case hex.
#[must_use]
pub fn hex_of(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AgentError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AgentError::file("read", path)(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| AgentError::Foreign {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), AgentError> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| AgentError::Foreign {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    replace(path, &text)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(AgentError::file("write", path))?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes a directory and what is missing above it, with their entries durable.
fn make_directories(path: &Path) -> Result<(), AgentError> {
    let missing = path
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.exists());
    let missing: Vec<&Path> = missing.collect();
    std::fs::create_dir_all(path).map_err(AgentError::file("make", path))?;
    let mut above = missing.iter().rev().filter_map(|made| made.parent());
    above.try_for_each(sync_directory)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), AgentError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(AgentError::file("sync", path))
}
