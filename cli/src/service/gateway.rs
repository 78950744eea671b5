//! `ullage gateway`.

use super::layers::{check_address, load, missing, refused, secret};
use super::{Common, signals};
use crate::BadConfiguration;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use ullage_gateway::config::GatewayConfig;
use ullage_gateway::error::Error;

/// Options of `ullage gateway`: its settings, all of them optional here so that they can be laid over the file's.
#[derive(Debug, Default, clap::Args, Serialize)]
pub struct Options {
    #[command(flatten)]
    #[serde(skip)]
    common: Common,
    /// Directory in which the gateway keeps who it is: started again after a crash, it gets its room back at once.
    #[arg(long, value_name = "DIR", env = "ULLAGE_DATA")]
    data: Option<PathBuf>,
    /// Address of the S3 endpoint [default: 127.0.0.1:9000].
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Address of the admin API, health and metrics [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDRESS", env = "ULLAGE_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    /// Addresses of the metadata nodes, HOST:PORT separated by commas.
    #[arg(long, value_name = "ADDRESSES", env = "ULLAGE_METAD", value_delimiter = ',')]
    metad: Option<Vec<String>>,
    /// File with the cluster secret, as `ullage keygen` makes it.
    #[arg(long, value_name = "FILE", env = "ULLAGE_CLUSTER_SECRET_FILE")]
    cluster_secret_file: Option<PathBuf>,
    /// File with the key-encryption key, as `ullage keygen` makes it: without it, what is stored is lost.
    #[arg(long, value_name = "FILE", env = "ULLAGE_KEK_FILE")]
    kek_file: Option<PathBuf>,
    /// Region that clients sign for [default: us-east-1].
    #[arg(long, value_name = "NAME", env = "ULLAGE_REGION")]
    region: Option<String>,
    /// Domain for virtual-host style: BUCKET.DOMAIN.
    #[arg(long, value_name = "DOMAIN", env = "ULLAGE_DOMAIN")]
    domain: Option<String>,
    /// Access key of the root user.
    #[arg(long, value_name = "KEY", env = "ULLAGE_ROOT_ACCESS_KEY")]
    root_access_key: Option<String>,
    /// File with the access key of the root user.
    #[arg(long, value_name = "FILE", env = "ULLAGE_ROOT_ACCESS_KEY_FILE")]
    #[serde(skip)]
    root_access_key_file: Option<PathBuf>,
    /// Secret key of the root user. Other users of the machine see flags: prefer a file or the environment.
    #[arg(
        long,
        value_name = "KEY",
        env = "ULLAGE_ROOT_SECRET_KEY",
        hide_env_values = true
    )]
    root_secret_key: Option<String>,
    /// File with the secret key of the root user.
    #[arg(long, value_name = "FILE", env = "ULLAGE_ROOT_SECRET_KEY_FILE")]
    #[serde(skip)]
    root_secret_key_file: Option<PathBuf>,
    /// Longest object kept in the FAT itself, in bytes; 0 = none. May only lower the cluster's setting.
    #[arg(long, value_name = "BYTES", env = "ULLAGE_INLINE_BYTES")]
    inline_bytes: Option<u64>,
    /// Memory for bodies being uploaded, in bytes; beyond it, uploads are told to slow down.
    #[arg(long, value_name = "BYTES", env = "ULLAGE_UPLOAD_MEMORY")]
    upload_memory: Option<u64>,
    /// Serve plain HTTP on addresses that other machines reach.
    #[arg(long, env = "ULLAGE_INSECURE", num_args = 0..=1, default_missing_value = "true")]
    insecure: Option<bool>,
}

impl Options {
    /// The settings as they hold.
    fn settings(mut self) -> anyhow::Result<GatewayConfig> {
        let (access_key, file) = (
            self.root_access_key.as_deref(),
            self.root_access_key_file.as_deref(),
        );
        self.root_access_key = secret("root_access_key", access_key, file)?;
        let (secret_key, file) = (
            self.root_secret_key.as_deref(),
            self.root_secret_key_file.as_deref(),
        );
        self.root_secret_key = secret("root_secret_key", secret_key, file)?;
        let file = self.common.config.as_deref();
        let config: GatewayConfig = load(file, &self)?;
        config.check().map_err(|error| refused(file, &error))?;
        let given = [
            ("metad", !config.metad.is_empty()),
            ("cluster_secret_file", config.cluster_secret_file.is_some()),
            ("kek_file", config.kek_file.is_some()),
            ("root_access_key", config.root_access_key.is_some()),
        ];
        if let Some((name, _)) = given.into_iter().find(|(_, given)| !given) {
            return Err(missing(file, name).into());
        }
        for address in &config.metad {
            check_address("metad", address).map_err(|error| refused(file, &error))?;
        }
        Ok(config)
    }
}

/// Runs `ullage gateway`.
pub fn run(options: Options) -> anyhow::Result<()> {
    let common = options.common.clone();
    let config = options.settings()?;
    if common.only_checks() {
        return Ok(());
    }
    signals::serve(|stop| async move {
        ullage_gateway::run(config, ullage_gateway::Seams::real(), stop)
            .await
            .map_err(|error| match error {
                Error::Config(_) | Error::Kek(_) => BadConfiguration(error.to_string()).into(),
                other => anyhow::Error::from(other).context("the gateway ended"),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::Options;
    use crate::service::layers::testing::{flags_of, settings_of};
    use clap::Parser;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use ullage_gateway::config::GatewayConfig;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_setting_has_its_flag_and_its_variable() {
        let mut flags = flags_of::<Line>();
        for twin in ["root_access_key_file", "root_secret_key_file"] {
            assert!(flags.remove(twin));
        }
        assert_eq!(flags, settings_of::<GatewayConfig>());
    }

    #[test]
    fn secrets_come_from_files_and_bad_settings_are_refused_by_name() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let (file, key) = (directory.path().join("g.toml"), directory.path().join("key"));
        let text = "data = \"d\"\nmetad = [\"a:1\"]\ncluster_secret_file = \"s\"\nkek_file = \"k\"\n";
        std::fs::write(&file, format!("{text}root_access_key = \"AK\"\n"))?;
        std::fs::write(&key, "hush\n")?;
        std::fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        let file = file.to_string_lossy().into_owned();
        let key = key.to_string_lossy().into_owned();
        let line = ["ullage", "--config", &file, "--root-secret-key-file", &key];
        let settings = Line::parse_from(line).options.settings()?;
        assert_eq!(settings.root_access_key.as_deref(), Some("AK"));
        assert_eq!(
            settings.root_secret_key.as_ref().map(|key| key.expose()),
            Some("hush")
        );
        let line = [
            "ullage",
            "--config",
            &file,
            "--metad",
            "b:2,c:3",
            "--root-secret-key",
            "x",
        ];
        assert_eq!(Line::parse_from(line).options.settings()?.metad, ["b:2", "c:3"]);
        for (flag, value, named) in [
            ("--listen", "0.0.0.0:9000", "listen"),
            ("--upload-memory", "1", "upload_memory"),
            ("--region", "", "region"),
        ] {
            let line = [&line[..], &[flag, value]].concat();
            let refused = Line::parse_from(line).options.settings();
            let refused = refused.expect_err("a bad setting was taken").to_string();
            assert!(refused.contains(named) && refused.contains(&file), "{refused}");
        }
        Ok(())
    }
}
