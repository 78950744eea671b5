//! `ullage vendor-agent`: the agent, and a look at its local FAT.

use super::layers::{check_address, load, refused};
use super::{Common, signals};
use crate::BadConfiguration;
use anyhow::Context;
use prometheus::Registry;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use ullage_transport::network::TokioNetwork;
use ullage_vendor_agent::{AgentError, Config, DeviceConfig, Randomness, RunSeams};

/// Options of `ullage vendor-agent`: its settings, all of them optional here so that they can be laid over the
/// file's.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct Options {
    #[command(flatten)]
    #[serde(skip)]
    common: Common,
    /// List the local FAT, copy by copy, and start nothing. Asks the agent if it runs.
    #[arg(long)]
    #[serde(skip)]
    show: bool,
    /// Directory for identity, key and the index of the local FAT; made on first start.
    #[arg(long, value_name = "DIR", env = "ULLAGE_DATA")]
    data: Option<PathBuf>,
    /// Name for people, unique in the cluster.
    #[arg(long, value_name = "NAME", env = "ULLAGE_NAME")]
    name: Option<String>,
    /// Address for gateways and other vendors; the path probe listens on UDP on the same number
    /// [default: 0.0.0.0:9320].
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_LISTEN")]
    listen: Option<String>,
    /// HOST:PORT where gateways and other vendors reach this agent, if that is not what it listens on.
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_ADVERTISE")]
    advertise: Option<String>,
    /// Address for health and metrics [default: 0.0.0.0:9321].
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_ADMIN_LISTEN")]
    admin_listen: Option<String>,
    /// Addresses of the metadata nodes, HOST:PORT separated by commas; those in the join token, if none are given.
    #[arg(long, value_name = "ADDRESSES", env = "ULLAGE_METAD", value_delimiter = ',')]
    metad: Option<Vec<String>>,
    /// File with the join token, needed until the vendor is registered. `ullage admin invite vendor` makes one.
    #[arg(long, value_name = "FILE", env = "ULLAGE_JOIN_TOKEN_FILE")]
    join_token_file: Option<PathBuf>,
    /// Who offers the room.
    #[arg(long, value_name = "NAME", env = "ULLAGE_OWNER")]
    owner: Option<String>,
    /// Region it is in.
    #[arg(long, value_name = "NAME", env = "ULLAGE_REGION")]
    region: Option<String>,
    /// Failure zone it is in: what fails together has the same.
    #[arg(long, value_name = "NAME", env = "ULLAGE_ZONE")]
    zone: Option<String>,
    /// Rack it is in.
    #[arg(long, value_name = "NAME", env = "ULLAGE_RACK")]
    rack: Option<String>,
    /// Price, in millionths of a unit of money per GiB and month.
    #[arg(long, value_name = "PRICE", env = "ULLAGE_PRICE")]
    price: Option<u64>,
    /// A device: PATH[,capacity=BYTES][,class=NAME]. May be given several times (in the environment: separated by
    /// ;) and then stands for all devices of the file. Capacity is what the file system has, class is ssd, unless
    /// said.
    #[arg(long, value_name = "DEVICE", env = "ULLAGE_DEVICE", value_delimiter = ';')]
    device: Option<Vec<DeviceFlag>>,
    /// Memory for chunks being received or written, in bytes; beyond it, chunks are refused as too many.
    #[arg(long, value_name = "BYTES", env = "ULLAGE_INTAKE_MEMORY")]
    intake_memory: Option<u64>,
    /// Memory for the index's cache and write buffers, in bytes.
    #[arg(long, value_name = "BYTES", env = "ULLAGE_INDEX_MEMORY")]
    index_memory: Option<u64>,
    /// Bytes per second that compaction moves when there is no hurry.
    #[arg(long, value_name = "BYTES", env = "ULLAGE_COMPACT_RATE")]
    compact_rate: Option<u64>,
    /// Bytes per second that the scrubber reads; 0 turns it off.
    #[arg(long, value_name = "BYTES", env = "ULLAGE_SCRUB_RATE")]
    scrub_rate: Option<u64>,
    /// Seconds between the end of one scrub and the next.
    #[arg(long, value_name = "SECONDS", env = "ULLAGE_SCRUB_PAUSE_S")]
    scrub_pause_s: Option<u64>,
    /// Seconds for which a device must be away before its copies are reported lost [default: 120].
    #[arg(long, value_name = "SECONDS", env = "ULLAGE_LOST_AFTER_S")]
    lost_after_s: Option<u64>,
}

/// A device as a flag gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DeviceFlag {
    path: PathBuf,
    capacity: Option<u64>,
    class: Option<String>,
}

impl FromStr for DeviceFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let path = parts.next().filter(|path| !path.is_empty());
        let mut device = Self {
            path: path.ok_or("a device needs a path")?.into(),
            capacity: None,
            class: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("capacity", bytes)) => {
                    let bytes = bytes.parse();
                    device.capacity = Some(bytes.map_err(|_| format!("{part}: give bytes as a number"))?);
                }
                Some(("class", name)) if !name.is_empty() => device.class = Some(name.to_owned()),
                _ => return Err(format!("{part:?} is neither capacity=BYTES nor class=NAME")),
            }
        }
        Ok(device)
    }
}

impl Options {
    /// The settings as they hold.
    fn settings(&self) -> anyhow::Result<Config> {
        let file = self.common.config.as_deref();
        let config: Config = load(file, self)?;
        config.check().map_err(|error| refused(file, &error))?;
        let addresses = [
            ("listen", &config.listen),
            ("admin_listen", &config.admin_listen),
            ("advertise", &config.advertise),
        ];
        let addresses = addresses.into_iter().filter(|(_, address)| !address.is_empty());
        for (name, address) in addresses.chain(config.metad.iter().map(|address| ("metad", address))) {
            check_address(name, address).map_err(|error| refused(file, &error))?;
        }
        Ok(config)
    }
}

/// Runs `ullage vendor-agent`.
pub fn run(options: Options) -> anyhow::Result<()> {
    let config = options.settings()?;
    if options.common.only_checks() {
        return Ok(());
    }
    if options.show {
        return super::show::show(config);
    }
    signals::serve(|stop| async move {
        let random: Randomness = Arc::new(random_bytes);
        let mut seams = RunSeams::real(Arc::new(TokioNetwork), random, Registry::new());
        seams.new_devices = Some(devices_at_hang_up(options)?);
        ullage_vendor_agent::run(config, seams, stop)
            .await
            .map_err(|error| match error {
                AgentError::Config { .. } | AgentError::Trust(_) | AgentError::Listen { .. } => {
                    BadConfiguration(error.to_string()).into()
                }
                other => anyhow::Error::from(other).context("the vendor agent ended"),
            })
    })
}

fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::RngCore::fill_bytes(&mut OsRng.unwrap_err(), &mut bytes);
    bytes
}

/// The devices as the settings have them, read anew at each SIGHUP.
fn devices_at_hang_up(options: Options) -> anyhow::Result<mpsc::Receiver<Vec<DeviceConfig>>> {
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            match options.settings() {
                Ok(config) => {
                    if sender.send(config.device).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::error!("SIGHUP: the devices stay as they are: {error:#}"),
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::{DeviceFlag, Options};
    use crate::service::layers::testing::{flags_of, settings_of};
    use clap::Parser;
    use std::path::PathBuf;
    use ullage_vendor_agent::Config;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_setting_has_its_flag_and_its_variable() {
        assert_eq!(flags_of::<Line>(), settings_of::<Config>());
    }

    #[test]
    fn devices_are_given_by_flags_in_the_place_of_those_in_the_file() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("agent.toml");
        std::fs::write(
            &file,
            "data = \"d\"\nname = \"v\"\nmetad = [\"a:1\"]\n[[device]]\npath = \"/p\"\ncapacity = 1000000000\n",
        )?;
        let file = file.to_string_lossy().into_owned();
        let line = ["ullage", "--config", &file];
        let settings = Line::parse_from(line).options.settings()?;
        assert_eq!(settings.device[0].path, PathBuf::from("/p"));
        let flags = ["--device", "/q,capacity=2000000000,class=hdd", "--device", "/r"];
        let settings = Line::parse_from([&line[..], &flags].concat())
            .options
            .settings()?;
        let [q, r] = &settings.device[..] else {
            panic!("{:?}", settings.device);
        };
        assert_eq!((q.capacity, q.class.as_str()), (2_000_000_000, "hdd"));
        assert_eq!((r.capacity, r.class.as_str()), (0, "ssd"));
        Ok(())
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert!("/p,capacity=7".parse::<DeviceFlag>().is_ok());
        for text in ["", ",class=ssd", "/p,capacity=much", "/p,size=7", "/p,class="] {
            assert!(text.parse::<DeviceFlag>().is_err(), "{text}");
        }
    }
}
