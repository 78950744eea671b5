//! The agent's settings, as an operator writes them. Reading files, environment and flags is the command
//! line's.

use crate::error::AgentError;
use crate::opening::check_config;
use serde::Deserialize;
use std::path::PathBuf;
use ullage_model::ids::ClusterId;
use ullage_model::wire::agent::Characteristics;

/// Settings of `ullage vendor-agent`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Data directory: identity, key, list of devices and the local FAT's index.
    pub data: PathBuf,
    /// Name for people, unique in the cluster.
    pub name: String,
    /// Address for services; the path probe listens on UDP on the same number.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// `host:port` where gateways and other vendors reach this agent. `listen` if empty.
    #[serde(default)]
    pub advertise: String,
    /// Address for health and metrics.
    #[serde(default = "default_admin_listen")]
    pub admin_listen: String,
    /// Addresses of the metadata service.
    #[serde(default)]
    pub metad: Vec<String>,
    /// File with the one-time join token.
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
    /// Who offers the room.
    #[serde(default)]
    pub owner: String,
    /// Region.
    #[serde(default)]
    pub region: String,
    /// Failure zone.
    #[serde(default)]
    pub zone: String,
    /// Rack.
    #[serde(default)]
    pub rack: String,
    /// Price in micro-units per GiB and month.
    #[serde(default)]
    pub price: u64,
    /// The devices.
    #[serde(default)]
    pub device: Vec<DeviceConfig>,
    /// Memory for chunks being received or written, in bytes; more is refused as overloaded.
    #[serde(default = "default_intake_memory")]
    pub intake_memory: u64,
    /// Memory for the index's cache and write buffers, in bytes, when the process shares none.
    #[serde(default = "default_index_memory")]
    pub index_memory: usize,
    /// Bytes per second that compaction moves when there is no hurry.
    #[serde(default = "default_compact_rate")]
    pub compact_rate: u64,
    /// Bytes per second that the scrubber reads; 0 turns it off.
    #[serde(default = "default_scrub_rate")]
    pub scrub_rate: u64,
    /// Seconds between the end of one scrub and the next.
    #[serde(default = "default_scrub_pause_s")]
    pub scrub_pause_s: u64,
    /// Seconds for which a device must be gone before its copies are reported lost. Until then reads go to other
    /// copies, and nothing is copied for what a mount that comes back brings back.
    #[serde(default = "default_lost_after_s")]
    pub lost_after_s: u64,
    /// The cluster it is for, where whoever starts it knows: a data directory of another one is refused before
    /// anything is written. Not a setting of operators.
    #[serde(skip)]
    pub cluster: Option<ClusterId>,
}

/// Settings of one device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// Its directory: empty at first, on a file system that punches holes.
    pub path: PathBuf,
    /// Bytes that its segments may occupy; what the file system has, if 0.
    #[serde(default)]
    pub capacity: u64,
    /// Device class, e.g. `hdd`, `ssd`.
    #[serde(default = "default_class")]
    pub class: String,
}

impl Config {
    /// Settings with everything at its default but the data directory, the name and the devices.
    #[must_use]
    pub fn new(data: PathBuf, name: String, device: Vec<DeviceConfig>) -> Self {
        Self {
            data,
            name,
            listen: default_listen(),
            advertise: String::new(),
            admin_listen: default_admin_listen(),
            metad: Vec::new(),
            join_token_file: None,
            owner: String::new(),
            region: String::new(),
            zone: String::new(),
            rack: String::new(),
            price: 0,
            device,
            intake_memory: default_intake_memory(),
            index_memory: default_index_memory(),
            compact_rate: default_compact_rate(),
            scrub_rate: default_scrub_rate(),
            scrub_pause_s: default_scrub_pause_s(),
            lost_after_s: default_lost_after_s(),
            cluster: None,
        }
    }
}

impl Config {
    /// Checks what can be checked without looking at anything else.
    ///
    /// # Errors
    /// `AgentError::Config`, naming the key.
    pub fn check(&self) -> Result<(), AgentError> {
        check_config(self, false)
    }

    /// Where and whose the vendor is.
    pub(crate) fn characteristics(&self) -> Characteristics {
        let address = if self.advertise.is_empty() {
            &self.listen
        } else {
            &self.advertise
        };
        Characteristics {
            owner: self.owner.clone(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            rack: self.rack.clone(),
            price: self.price,
            address: address.clone(),
        }
    }
}

fn default_listen() -> String {
    "0.0.0.0:9320".to_owned()
}

fn default_admin_listen() -> String {
    "0.0.0.0:9321".to_owned()
}

fn default_class() -> String {
    "ssd".to_owned()
}

fn default_intake_memory() -> u64 {
    256 * 1024 * 1024
}

fn default_index_memory() -> usize {
    64 * 1024 * 1024
}

fn default_compact_rate() -> u64 {
    64 * 1024 * 1024
}

fn default_scrub_rate() -> u64 {
    16 * 1024 * 1024
}

fn default_scrub_pause_s() -> u64 {
    24 * 3600
}

fn default_lost_after_s() -> u64 {
    120
}
