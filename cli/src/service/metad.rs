//! `ullage metad`.

use super::layers::{load, refused};
use super::{Common, signals};
use crate::BadConfiguration;
use prometheus::Registry;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use ullage_metad::Error;
use ullage_metad::clock::SystemClock;
use ullage_metad::config::MetadFile;
use ullage_metad::server::{self, Seams};
use ullage_transport::network::TokioNetwork;

/// Options of `ullage metad`: its settings, all of them optional here so that they can be laid over the file's.
#[derive(Debug, Default, clap::Args, Serialize)]
pub struct Options {
    #[command(flatten)]
    #[serde(skip)]
    common: Common,
    /// Directory for the log, the tables, snapshots and this node's keys; made on first start.
    #[arg(long, value_name = "DIR", env = "ULLAGE_DATA")]
    data: Option<PathBuf>,
    /// Address for gateways, vendor agents and other metadata nodes [default: 0.0.0.0:9310].
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_LISTEN")]
    listen: Option<String>,
    /// HOST:PORT where those reach this node, if that is not what it listens on.
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_ADVERTISE")]
    advertise: Option<String>,
    /// Address for health and metrics [default: 0.0.0.0:9311].
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_ADMIN_LISTEN")]
    admin_listen: Option<String>,
    /// Addresses of the nodes that make the cluster, this one among them, HOST:PORT separated by commas: the same
    /// list, in the same order, at each. The first one, if all are empty, makes the cluster.
    #[arg(long, value_name = "ADDRESSES", env = "ULLAGE_PEERS", value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// File with the cluster secret, as `ullage keygen` makes it.
    #[arg(long, value_name = "FILE", env = "ULLAGE_CLUSTER_SECRET_FILE")]
    cluster_secret_file: Option<PathBuf>,
    #[command(flatten)]
    raft: Raft,
    #[command(flatten)]
    vendors: Vendors,
}

/// `[raft]`.
#[derive(Debug, Default, clap::Args, Serialize)]
struct Raft {
    /// Interval of the leader's heartbeats, in ms [default: 150].
    #[arg(
        long = "raft-heartbeat-ms",
        id = "raft.heartbeat_ms",
        value_name = "MS",
        env = "ULLAGE_RAFT_HEARTBEAT_MS"
    )]
    heartbeat_ms: Option<u64>,
    /// Shortest silence after which a follower stands for election, in ms [default: 500].
    #[arg(
        long = "raft-election-min-ms",
        id = "raft.election_min_ms",
        value_name = "MS",
        env = "ULLAGE_RAFT_ELECTION_MIN_MS"
    )]
    election_min_ms: Option<u64>,
    /// Longest such silence, in ms [default: 900].
    #[arg(
        long = "raft-election-max-ms",
        id = "raft.election_max_ms",
        value_name = "MS",
        env = "ULLAGE_RAFT_ELECTION_MAX_MS"
    )]
    election_max_ms: Option<u64>,
    /// Bytes of log behind a snapshot that make the next one due [default: 67108864].
    #[arg(
        long = "raft-snapshot-after-bytes",
        id = "raft.snapshot_after_bytes",
        value_name = "BYTES",
        env = "ULLAGE_RAFT_SNAPSHOT_AFTER_BYTES"
    )]
    snapshot_after_bytes: Option<u64>,
    /// Bytes of log kept although they are in a snapshot, so that a node that was away needs none
    /// [default: 1073741824].
    #[arg(
        long = "raft-keep-log-bytes",
        id = "raft.keep_log_bytes",
        value_name = "BYTES",
        env = "ULLAGE_RAFT_KEEP_LOG_BYTES"
    )]
    keep_log_bytes: Option<u64>,
}

/// `[vendors]`.
#[derive(Debug, Default, clap::Args, Serialize)]
struct Vendors {
    /// How often vendors are asked to report, in ms [default: 1000].
    #[arg(
        long = "vendors-heartbeat-ms",
        id = "vendors.heartbeat_ms",
        value_name = "MS",
        env = "ULLAGE_VENDORS_HEARTBEAT_MS"
    )]
    heartbeat_ms: Option<u64>,
    /// Silence after which a vendor gets no new room locked, in ms [default: 5000].
    #[arg(
        long = "vendors-stale-ms",
        id = "vendors.stale_ms",
        value_name = "MS",
        env = "ULLAGE_VENDORS_STALE_MS"
    )]
    stale_ms: Option<u64>,
    /// Silence after which a vendor counts as dead, in ms [default: 60000].
    #[arg(
        long = "vendors-dead-ms",
        id = "vendors.dead_ms",
        value_name = "MS",
        env = "ULLAGE_VENDORS_DEAD_MS"
    )]
    dead_ms: Option<u64>,
}

impl Options {
    /// The settings as they hold.
    fn settings(&self) -> anyhow::Result<MetadFile> {
        let file = self.common.config.as_deref();
        let settings: MetadFile = load(file, self)?;
        settings.check().map_err(|error| refused(file, &error))?;
        Ok(settings)
    }
}

/// Runs `ullage metad`.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let settings = options.settings()?;
    if options.common.only_checks() {
        return Ok(());
    }
    signals::serve(|stop| async move {
        let seams = Seams {
            network: Arc::new(TokioNetwork),
            clock: Arc::new(SystemClock::default()),
            wall: Arc::new(SystemTime::now),
            random: Box::new(OsRng.unwrap_err()),
            raft_seed: None,
            budget: None,
            data: None,
            registry: Registry::new(),
        };
        let ended = server::run(&settings, seams, stop).await;
        ended.map_err(|error| match error {
            Error::Setting { .. } => BadConfiguration(error.to_string()).into(),
            other => anyhow::Error::from(other).context("the metadata node ended"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::Options;
    use crate::service::layers::testing::{flags_of, settings_of};
    use clap::Parser;
    use std::collections::BTreeSet;
    use ullage_metad::config::{MetadFile, RaftSection, VendorsSection};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_setting_has_its_flag_and_its_variable() {
        let mut settings = settings_of::<MetadFile>();
        for (section, of_section) in [
            ("raft", settings_of::<RaftSection>()),
            ("vendors", settings_of::<VendorsSection>()),
        ] {
            assert!(settings.remove(section));
            settings.extend(of_section.iter().map(|name| format!("{section}.{name}")));
        }
        let flags: BTreeSet<String> = flags_of::<Line>();
        assert_eq!(flags, settings);
    }

    #[test]
    fn timings_are_laid_over_the_files_one_by_one() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("metad.toml");
        let text = "data = \"d\"\nadvertise = \"m:9310\"\npeers = [\"m:9310\"]\ncluster_secret_file = \"s\"\n\
                    [raft]\nheartbeat_ms = 100\nelection_max_ms = 1000\n";
        std::fs::write(&file, text)?;
        let file = file.to_string_lossy().into_owned();
        let line = [
            "ullage",
            "--config",
            &file,
            "--raft-heartbeat-ms",
            "120",
            "--vendors-dead-ms",
            "9000",
        ];
        let settings = Line::parse_from(line).options.settings()?;
        let raft = settings.raft;
        assert_eq!((raft.heartbeat_ms, raft.election_max_ms), (Some(120), Some(1000)));
        assert_eq!(settings.vendors.dead_ms, Some(9000));
        let line = ["ullage", "--config", &file, "--raft-heartbeat-ms", "400"];
        let refused = Line::parse_from(line)
            .options
            .settings()
            .expect_err("too slow a heartbeat");
        assert!(refused.to_string().contains("raft.heartbeat_ms"), "{refused}");
        Ok(())
    }
}
