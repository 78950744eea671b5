//! Settings of the metadata service: a node's own ([`MetadConfig`]), and the file they come from when the node is
//! a process ([`MetadFile`]).

use crate::error::Error;
use crate::raft::GroupConfig;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// Settings of one metadata node.
#[derive(Clone, Debug)]
pub struct MetadConfig {
    /// Data directory: log, state, snapshots, this node's grant key.
    pub data: PathBuf,
    /// `host:port` where gateways, vendor agents and other nodes reach this one; empty in one process.
    pub advertise: String,
    /// Block cache shared by its databases, in bytes.
    pub cache_bytes: usize,
    /// Bound on memtables of its databases, in bytes.
    pub write_buffer_bytes: usize,
    /// Rows of objects written lately that are kept in memory, in bytes.
    pub recent_bytes: usize,
    /// Copies that the class `STANDARD` asks for when this node makes a new cluster.
    pub first_copies: u32,
    /// Longest inlined object when this node makes a new cluster, in bytes; 0 = off.
    pub first_inline_bytes: u64,
    /// Most bytes inlined in all when this node makes a new cluster.
    pub first_inline_budget_bytes: u64,
    /// How often agents are asked to report, in ms.
    pub heartbeat_ms: u64,
    /// Silence after which a vendor gets no new room locked, in ms.
    pub stale_ms: u64,
    /// Silence after which a vendor counts as dead, in ms. A new leader waits this long before it declares
    /// anybody dead.
    pub dead_ms: u64,
    /// Interval of cluster-time ticks, in ms.
    pub tick_ms: u64,
    /// Bytes that must stay free on the file system of `data`, at most an eighth of it; below, writes are
    /// refused and deletes go on. 0 = never refuse.
    pub free_mark_bytes: u64,
    /// Bytes of a file that is given up when the file system is nearly full all the same, so that deletes can
    /// go on; at most a 32nd of it. 0 = none.
    pub ballast_bytes: u64,
}

/// Block cache of a node that is a process of its own, in bytes.
const PROCESS_CACHE_BYTES: usize = 128 * 1024 * 1024;
/// Rows written lately that such a node keeps, in bytes.
const PROCESS_RECENT_BYTES: usize = 128 * 1024 * 1024;
/// Bound on memtables of such a node, in bytes: the more, the less often the same rows are written again.
const PROCESS_WRITE_BUFFER_BYTES: usize = 128 * 1024 * 1024;

impl MetadConfig {
    /// The same settings for a node that has a process to itself.
    #[must_use]
    pub fn in_its_own_process(self) -> Self {
        Self {
            cache_bytes: PROCESS_CACHE_BYTES,
            write_buffer_bytes: PROCESS_WRITE_BUFFER_BYTES,
            recent_bytes: PROCESS_RECENT_BYTES,
            ..self
        }
    }

    /// Defaults for a node in `data`.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            advertise: String::new(),
            cache_bytes: 64 * 1024 * 1024,
            write_buffer_bytes: 64 * 1024 * 1024,
            recent_bytes: 32 * 1024 * 1024,
            first_copies: 2,
            first_inline_bytes: ullage_model::limits::INLINE_BYTES_DEFAULT,
            first_inline_budget_bytes: 16 * 1024 * 1024 * 1024,
            heartbeat_ms: 1_000,
            stale_ms: 5_000,
            dead_ms: 60_000,
            tick_ms: 1_000,
            free_mark_bytes: 256 * 1024 * 1024,
            ballast_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A node's settings file (TOML), as `ullage metad --config` reads it. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadFile {
    /// Data directory.
    pub data: PathBuf,
    /// `host:port` to listen at for gateways, vendor agents and other nodes.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// `host:port` where those reach this node; `listen`, if that names a host.
    #[serde(default)]
    pub advertise: Option<String>,
    /// `host:port` to listen at for health and metrics.
    #[serde(default = "default_admin_listen")]
    pub admin_listen: String,
    /// Addresses of the first members, this node among them; the same list, in the same order, at each. The
    /// first one, if all are empty, makes the cluster. A node that is not among them asks them to take it in.
    pub peers: Vec<String>,
    /// File with the cluster secret, made by `ullage keygen`.
    pub cluster_secret_file: PathBuf,
    /// Timings and sizes of the replication.
    #[serde(default)]
    pub raft: RaftSection,
    /// Timings of the vendors' reports.
    #[serde(default)]
    pub vendors: VendorsSection,
}

/// `[raft]`: what is absent has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaftSection {
    /// Interval of the leader's heartbeats, in ms; must exceed a round trip plus the p99.9 of a sync.
    pub heartbeat_ms: Option<u64>,
    /// Shortest silence after which a follower stands for election, in ms.
    pub election_min_ms: Option<u64>,
    /// Longest such silence, in ms.
    pub election_max_ms: Option<u64>,
    /// Bytes of log behind a snapshot that make the next one due.
    pub snapshot_after_bytes: Option<u64>,
    /// Bytes of log kept although they are in a snapshot.
    pub keep_log_bytes: Option<u64>,
}

/// `[vendors]`: what is absent has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorsSection {
    /// How often agents are asked to report, in ms.
    pub heartbeat_ms: Option<u64>,
    /// Silence after which a vendor gets no new room locked, in ms.
    pub stale_ms: Option<u64>,
    /// Silence after which a vendor counts as dead, in ms.
    pub dead_ms: Option<u64>,
}

/// Most first members: more voters make every write slower and nothing safer.
const PEERS_MAX: usize = 7;

fn default_listen() -> String {
    "0.0.0.0:9310".to_owned()
}

fn default_admin_listen() -> String {
    "0.0.0.0:9311".to_owned()
}

fn wrong(key: &'static str, reason: impl Into<String>) -> Error {
    Error::Setting {
        key,
        reason: reason.into(),
    }
}

impl MetadFile {
    /// The settings in `text`, checked.
    ///
    /// # Errors
    /// [`Error::Setting`] with the key that is at fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let table = text
            .parse()
            .map_err(|error: toml::de::Error| wrong("file", error.to_string()))?;
        Self::of_table(table)
    }

    /// The settings in `table`, checked: for callers that lay the environment over the file first.
    ///
    /// # Errors
    /// As [`MetadFile::parse`].
    pub fn of_table(table: toml::Table) -> Result<Self, Error> {
        let file: Self = table
            .try_into()
            .map_err(|error: toml::de::Error| wrong("file", error.message()))?;
        file.check()?;
        Ok(file)
    }

    /// Where others reach this node.
    #[must_use]
    pub fn advertised(&self) -> &str {
        self.advertise.as_deref().unwrap_or(&self.listen)
    }

    /// Checks what types do not.
    ///
    /// # Errors
    /// [`Error::Setting`] with the key that is at fault.
    pub fn check(&self) -> Result<(), Error> {
        if self.data.as_os_str().is_empty() {
            return Err(wrong("data", "it is empty"));
        }
        address("listen", &self.listen)?;
        address("admin_listen", &self.admin_listen)?;
        let advertised = self.advertised();
        let key = if self.advertise.is_some() {
            "advertise"
        } else {
            "listen"
        };
        if address(key, advertised)?
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
        {
            return Err(wrong(
                "advertise",
                format!("{advertised} names no host that others can reach: set advertise"),
            ));
        }
        self.check_peers()?;
        self.check_timings()
    }

    fn check_peers(&self) -> Result<(), Error> {
        if self.peers.is_empty() || self.peers.len() > PEERS_MAX {
            return Err(wrong("peers", format!("1 to {PEERS_MAX} addresses are wanted")));
        }
        for (at, peer) in self.peers.iter().enumerate() {
            address("peers", peer)?;
            if self.peers[..at].contains(peer) {
                return Err(wrong("peers", format!("{peer} is named twice")));
            }
        }
        Ok(())
    }

    fn check_timings(&self) -> Result<(), Error> {
        let RaftSection {
            heartbeat_ms,
            election_min_ms,
            election_max_ms,
            ..
        } = self.raft;
        let defaults = GroupConfig::default();
        let heartbeat = heartbeat_ms.unwrap_or(defaults.heartbeat_ms);
        let shortest = election_min_ms.unwrap_or(defaults.election_min_ms);
        let longest = election_max_ms.unwrap_or(defaults.election_max_ms);
        if heartbeat == 0 || heartbeat.saturating_mul(2) > shortest {
            return Err(wrong(
                "raft.heartbeat_ms",
                format!("{heartbeat} ms is not at most half of election_min_ms, {shortest} ms"),
            ));
        }
        if shortest >= longest {
            return Err(wrong(
                "raft.election_max_ms",
                format!("{longest} ms is not more than election_min_ms, {shortest} ms"),
            ));
        }
        let node = MetadConfig::new(PathBuf::new());
        let VendorsSection {
            heartbeat_ms,
            stale_ms,
            dead_ms,
        } = self.vendors;
        let heartbeat = heartbeat_ms.unwrap_or(node.heartbeat_ms);
        let stale = stale_ms.unwrap_or(node.stale_ms);
        let dead = dead_ms.unwrap_or(node.dead_ms);
        if heartbeat == 0 || heartbeat.saturating_mul(2) > stale {
            return Err(wrong(
                "vendors.heartbeat_ms",
                format!("{heartbeat} ms is not at most half of stale_ms, {stale} ms"),
            ));
        }
        if stale >= dead {
            return Err(wrong(
                "vendors.dead_ms",
                format!("{dead} ms is not more than stale_ms, {stale} ms"),
            ));
        }
        Ok(())
    }
}

/// The host of a `host:port`.
fn address<'a>(key: &'static str, address: &'a str) -> Result<&'a str, Error> {
    let parts = address.rsplit_once(':');
    let named = parts.filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let (host, _) = named.ok_or_else(|| wrong(key, format!("{address:?} is no host:port")))?;
    Ok(host.trim_start_matches('[').trim_end_matches(']'))
}

#[cfg(test)]
mod tests {
    use super::MetadFile;
    use crate::error::Error;

    const LEAST: &str = r#"
        data = "/var/lib/ullage/metad"
        listen = "10.0.0.1:9310"
        peers = ["10.0.0.1:9310", "10.0.0.2:9310", "10.0.0.3:9310"]
        cluster_secret_file = "/etc/ullage/cluster-secret"
    "#;

    #[track_caller]
    fn refused(text: &str, key: &str) -> String {
        match MetadFile::parse(text) {
            Err(Error::Setting { key: named, reason }) => {
                assert_eq!(named, key, "{reason}");
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let file = MetadFile::parse(LEAST).unwrap();
        assert_eq!(file.advertised(), "10.0.0.1:9310");
        assert_eq!(file.admin_listen, "0.0.0.0:9311");
        let named = format!("{LEAST}\nadvertise = \"metad-1:9310\"\n[raft]\nheartbeat_ms = 100\n");
        let file = MetadFile::parse(&named).unwrap();
        assert_eq!(file.advertised(), "metad-1:9310");
        assert_eq!(file.raft.heartbeat_ms, Some(100));
    }

    #[test]
    fn a_key_that_nobody_knows_or_that_is_missing_is_named() {
        assert!(refused(&format!("{LEAST}\nlisten_at = \"x\""), "file").contains("listen_at"));
        assert!(refused(&format!("{LEAST}\n[raft]\nbeat = 1"), "file").contains("beat"));
        assert!(refused(&LEAST.replace("peers", "pears"), "file").contains("pears"));
        assert!(refused("data = \"/x\"", "file").contains("peers"));
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_by_its_key() {
        let with = |from: &str, to: &str| LEAST.replace(from, to);
        refused(&with("/var/lib/ullage/metad", ""), "data");
        refused(
            &with("listen = \"10.0.0.1:9310\"", "listen = \"10.0.0.1\""),
            "listen",
        );
        refused(
            &with("listen = \"10.0.0.1:9310\"", "listen = \"0.0.0.0:9310\""),
            "advertise",
        );
        refused(
            &with("listen = \"10.0.0.1:9310\"", "listen = \"[::]:9310\""),
            "advertise",
        );
        refused(&with("10.0.0.2", "10.0.0.3"), "peers");
        refused(&with("10.0.0.2:9310", "10.0.0.2:"), "peers");
        for (section, key) in [
            ("[raft]\nheartbeat_ms = 400", "raft.heartbeat_ms"),
            ("[raft]\nelection_min_ms = 1000", "raft.election_max_ms"),
            ("[vendors]\nheartbeat_ms = 4000", "vendors.heartbeat_ms"),
            ("[vendors]\ndead_ms = 4000", "vendors.dead_ms"),
        ] {
            refused(&format!("{LEAST}\n{section}"), key);
        }
    }
}
