//! Settings of `ullage standalone`: a TOML file, then the environment, then flags; what cannot be is refused by
//! the name of its flag.

use crate::BadConfiguration;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use ullage_gateway::config::GatewayConfig;
use ullage_model::limits::{COPIES_MAX, SEGMENT_BYTES};
use ullage_model::units::parse_bytes;

/// Vendors of one standalone store at most.
const VENDORS_MAX: u32 = 64;
/// Devices of one of its vendors at most.
const DEVICES_MAX: u32 = 16;
/// A device below this could not hold one segment beside those it keeps in hand.
pub const DEVICE_BYTES_MIN: u64 = 4 * SEGMENT_BYTES;

/// What the command line, the environment or the file may say. All of it is optional here, so that one can be
/// laid over the other.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// TOML file with settings named like these flags (`device_capacity = 1000000000`). Environment and flags
    /// win over it.
    #[arg(long, value_name = "FILE", env = "ULLAGE_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Directory for everything; made on first start.
    #[arg(long, value_name = "DIR", env = "ULLAGE_DATA")]
    data: Option<PathBuf>,
    /// Vendors: servers with a directory each, as far as the store is concerned [default: 3].
    #[arg(long, value_name = "N", env = "ULLAGE_VENDORS")]
    vendors: Option<u32>,
    /// Devices (directories) of each vendor [default: 2].
    #[arg(long, value_name = "N", env = "ULLAGE_DEVICES_PER_VENDOR")]
    devices_per_vendor: Option<u32>,
    /// Copies of each chunk, each at a vendor of its own, in the class STANDARD of a store made by this start
    /// [default: 2]. `ullage admin class set` changes it later.
    #[arg(long, value_name = "N", env = "ULLAGE_COPIES")]
    copies: Option<u32>,
    /// Bytes that each device may take. On first start an equal share of what the file system has free, if not
    /// given; later, what it was.
    /// In the flag and the variable also with KiB, MiB, GiB or TiB (k, m, g, t for short).
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, env = "ULLAGE_DEVICE_CAPACITY")]
    device_capacity: Option<u64>,
    /// Address of the S3 endpoint [default: 127.0.0.1:9000].
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Address of the admin API, health and metrics [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    /// Listen with plain HTTP on addresses that other machines reach.
    #[arg(long, env = "ULLAGE_INSECURE", num_args = 0..=1, default_missing_value = "true")]
    insecure: Option<bool>,
    /// Region that clients sign for [default: us-east-1].
    #[arg(long, value_name = "NAME", env = "ULLAGE_REGION")]
    region: Option<String>,
    /// Domain for virtual-host style: BUCKET.DOMAIN.
    #[arg(long, value_name = "DOMAIN", env = "ULLAGE_DOMAIN")]
    domain: Option<String>,
    /// Longest object kept in the FAT itself, in bytes; 0 = none. May only lower the store's setting.
    #[arg(long, value_name = "BYTES", env = "ULLAGE_INLINE_BYTES")]
    inline_bytes: Option<u64>,
    /// Memory for bodies being uploaded, in bytes; beyond it, uploads are told to slow down.
    #[arg(long, value_name = "BYTES", env = "ULLAGE_UPLOAD_MEMORY")]
    upload_memory: Option<u64>,
}

/// Settings as they hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory for everything.
    pub data: PathBuf,
    /// Vendors.
    pub vendors: u32,
    /// Devices of each.
    pub devices_per_vendor: u32,
    /// Copies in the class STANDARD of a new store.
    pub copies: u32,
    /// Bytes of each device, if said.
    pub device_capacity: Option<u64>,
    /// S3.
    pub listen: SocketAddr,
    /// Admin API, health, metrics.
    pub admin_listen: SocketAddr,
    /// Region.
    pub region: String,
    /// Domain for virtual-host style.
    pub domain: Option<String>,
    /// Longest inlined object, if said.
    pub inline_bytes: Option<u64>,
    /// Memory for uploads, if said.
    pub upload_memory: Option<u64>,
}

impl Settings {
    /// Lays flags and environment over the file, fills in defaults, and checks.
    ///
    /// # Errors
    /// Names the file and the key, or the flag.
    pub fn resolve(given: Options) -> anyhow::Result<Self> {
        let file = given.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let missing = || match &given.config {
            Some(file) => BadConfiguration(format!(
                "data is missing: give --data DIR, or set it in {}",
                file.display()
            )),
            None => BadConfiguration("data is missing: give --data DIR".to_owned()),
        };
        let settings = Self {
            data: given.data.clone().or(file.data).ok_or_else(missing)?,
            vendors: given.vendors.or(file.vendors).unwrap_or(3),
            devices_per_vendor: given.devices_per_vendor.or(file.devices_per_vendor).unwrap_or(2),
            copies: given.copies.or(file.copies).unwrap_or(2),
            device_capacity: given.device_capacity.or(file.device_capacity),
            listen: given.listen.or(file.listen).unwrap_or(loopback(9000)),
            admin_listen: given.admin_listen.or(file.admin_listen).unwrap_or(loopback(9001)),
            region: given
                .region
                .or(file.region)
                .unwrap_or_else(|| "us-east-1".to_owned()),
            domain: given.domain.or(file.domain),
            inline_bytes: given.inline_bytes.or(file.inline_bytes),
            upload_memory: given.upload_memory.or(file.upload_memory),
        };
        let insecure = given.insecure.or(file.insecure).unwrap_or(false);
        settings.check(insecure).map_err(|bad| match &given.config {
            // What is wrong may be said there.
            Some(file) => BadConfiguration(format!("{bad} (settings are from {} too)", file.display())),
            None => bad,
        })?;
        Ok(settings)
    }

    fn check(&self, insecure: bool) -> Result<(), BadConfiguration> {
        let bad = |text: String| Err(BadConfiguration(text));
        let Self {
            vendors,
            devices_per_vendor: devices,
            copies,
            ..
        } = *self;
        if !(1..=VENDORS_MAX).contains(&vendors) {
            return bad(format!("--vendors {vendors}: give 1 to {VENDORS_MAX}"));
        }
        if !(1..=DEVICES_MAX).contains(&devices) {
            return bad(format!("--devices-per-vendor {devices}: give 1 to {DEVICES_MAX}"));
        }
        if !(1..=vendors.min(COPIES_MAX)).contains(&copies) {
            return bad(format!(
                "--copies {copies}: each copy of a chunk needs a vendor of its own, and --vendors is {vendors}"
            ));
        }
        if let Some(capacity) = self
            .device_capacity
            .filter(|capacity| *capacity < DEVICE_BYTES_MIN)
        {
            return bad(format!(
                "--device-capacity {capacity}: a device needs {DEVICE_BYTES_MIN} bytes at least"
            ));
        }
        let defaults = GatewayConfig::default();
        let gateway = GatewayConfig {
            region: self.region.clone(),
            inline_bytes: self.inline_bytes.unwrap_or(defaults.inline_bytes),
            upload_memory: self.upload_memory.unwrap_or(defaults.upload_memory),
            ..defaults
        };
        if let Err(error) = gateway.check() {
            return bad(error.to_string());
        }
        for (flag, address) in [("--listen", self.listen), ("--admin-listen", self.admin_listen)] {
            if !address.ip().is_loopback() && !insecure {
                return bad(format!(
                    "{flag} {address}: this is plain HTTP, and other machines reach that address; put a TLS \
                     proxy in front of a loopback address, or give --insecure"
                ));
            }
        }
        Ok(())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn read(path: &Path) -> anyhow::Result<Options> {
    let bad = |error: String| BadConfiguration(format!("--config {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    Ok(toml::from_str(&text).map_err(|error| bad(error.to_string()))?)
}

#[cfg(test)]
mod tests {
    use super::{BadConfiguration, Options, Settings};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn resolve(flags: &[&str]) -> anyhow::Result<Settings> {
        Settings::resolve(Line::parse_from(["ullage"].iter().chain(flags)).options)
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_name_of_its_flag() {
        assert!(resolve(&["--data", "d"]).is_ok());
        let bad = [
            (&["--vendors", "0"][..], "--vendors"),
            (&["--devices-per-vendor", "99"], "--devices-per-vendor"),
            (&["--copies", "4"], "--copies"),
            (&["--device-capacity", "1000"], "--device-capacity"),
            (&["--listen", "0.0.0.0:9000"], "--listen"),
            (&["--admin-listen", "10.0.0.1:9001"], "--admin-listen"),
        ];
        for (flags, named) in bad {
            let refused = resolve(&[&["--data", "d"], flags].concat()).expect_err("a bad setting was taken");
            assert!(refused.is::<BadConfiguration>());
            assert!(refused.to_string().starts_with(named), "{refused}");
        }
        for (flags, named) in [
            (["--upload-memory", "1024"], "upload_memory"),
            (["--inline-bytes", "1000000"], "inline_bytes"),
            (["--region", ""], "region"),
        ] {
            let refused =
                resolve(&[&["--data", "d"], &flags[..]].concat()).expect_err("a bad setting was taken");
            assert!(refused.to_string().contains(named), "{refused}");
        }
        assert!(resolve(&["--data", "d", "--listen", "0.0.0.0:9000", "--insecure"]).is_ok());
        assert!(resolve(&[]).is_err_and(|error| error.to_string().contains("--data")));
    }

    #[test]
    fn flags_win_over_the_file_and_bad_files_are_refused_by_key_and_name() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("store.toml");
        let path = file.to_string_lossy().into_owned();
        std::fs::write(&file, "data = \"there\"\nvendors = 5\ncopies = 3\n")?;
        let settings = resolve(&["--config", &path, "--copies", "1"])?;
        assert_eq!((settings.vendors, settings.copies), (5, 1));
        assert_eq!(settings.data.to_str(), Some("there"));
        for (text, key) in [
            ("data = \"d\"\nbrightness = 11\n", "brightness"),
            ("data = [1]\n", "data"),
            ("vendors = 3\n", "data"),
            ("data = \"d\"\nvendors = 0\n", "--vendors"),
        ] {
            std::fs::write(&file, text)?;
            let refused = resolve(&["--config", &path])
                .expect_err("a bad file was taken")
                .to_string();
            assert!(refused.contains(key) && refused.contains(&path), "{refused}");
        }
        Ok(())
    }
}
