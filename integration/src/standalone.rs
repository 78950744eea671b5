//! `ullage standalone` as a child process: the real binary on free ports and a directory of its own,
//! started, waited for, killed and started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::daemon::{Daemon, ready_deadline, ullage};
use crate::s3::S3;
use crate::sign::Credentials;

/// Tries to find ports that nobody else takes in between.
const START_ATTEMPTS: usize = 5;

/// How standalone is started; the defaults are those of the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of vendors.
    pub vendors: u32,
    /// Devices of each vendor.
    pub devices_per_vendor: u32,
    /// Copies of each chunk.
    pub copies: u32,
    /// Bytes that each device offers; the command line's default if `None`.
    pub device_capacity: Option<u64>,
    /// The data directory; a temporary one if `None`.
    pub data: Option<PathBuf>,
    /// Further environment variables.
    pub environment: Vec<(String, String)>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// A program that runs the binary, such as strace, with its own arguments.
    pub wrapper: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            vendors: 3,
            devices_per_vendor: 2,
            copies: 2,
            device_capacity: None,
            data: None,
            environment: Vec::new(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
        }
    }
}

impl Options {
    /// One vendor, one device, one copy: what is compared with other servers on one disk.
    #[must_use]
    pub fn single() -> Self {
        Self {
            vendors: 1,
            devices_per_vendor: 1,
            copies: 1,
            ..Self::default()
        }
    }

    /// With this data directory, which stays when the test ends.
    #[must_use]
    pub fn at(self, data: &Path) -> Self {
        Self {
            data: Some(data.to_owned()),
            ..self
        }
    }
}

/// A running, or stopped, standalone.
pub struct Standalone {
    options: Options,
    data: PathBuf,
    s3_address: SocketAddr,
    admin_address: SocketAddr,
    // Ended before the directory below goes.
    daemon: Daemon,
    // Held for its drop, which removes the directory.
    _temporary: TempDir,
}

impl Standalone {
    /// Starts and waits until it is ready.
    ///
    /// # Errors
    /// If it exits or does not become ready in time; the log is part of the error.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("ullage-test-")
            .tempdir()
            .context("make a directory")?;
        let data = options
            .data
            .clone()
            .unwrap_or_else(|| temporary.path().join("data"));
        let (s3_address, admin_address) = free_addresses()?;
        let log = temporary.path().join("standalone.log");
        let daemon = Daemon::new("standalone".to_owned(), log, admin_address);
        let mut started = Self {
            options,
            data,
            s3_address,
            admin_address,
            daemon,
            _temporary: temporary,
        };
        for attempt in 1.. {
            match started.restart().await {
                Ok(()) => break,
                Err(error) if attempt < START_ATTEMPTS && format!("{error:#}").contains("in use") => {
                    (started.s3_address, started.admin_address) = free_addresses()?;
                    started.daemon.set_health(started.admin_address);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(started)
    }

    /// Starts with the default options.
    ///
    /// # Errors
    /// As [`Standalone::start`].
    pub async fn start_default() -> anyhow::Result<Self> {
        Self::start(Options::default()).await
    }

    /// Starts again after a kill or a stop, with the same options, ports and directory.
    ///
    /// # Errors
    /// As [`Standalone::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.wait_ready(ready_deadline()).await
    }

    /// Starts without waiting.
    ///
    /// # Errors
    /// If it runs already or the program cannot be started.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        let command = command(&self.options, &self.data, self.s3_address, self.admin_address)?;
        self.daemon.spawn(command)
    }

    /// Waits until `/health/ready` answers 200.
    ///
    /// # Errors
    /// If the process exits first, or the time is over.
    pub async fn wait_ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.daemon.wait_ready(limit).await
    }

    /// Waits until it exits by itself.
    ///
    /// # Errors
    /// If it still runs when the time is over.
    pub async fn wait_exit(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.daemon.wait_exit(limit).await
    }

    /// kill -9, as [`Daemon::kill`].
    ///
    /// # Errors
    /// If it was not started.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.daemon.kill()
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If it does not end in time or its exit code is not 0.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.daemon.stop().await
    }

    /// The process id of standalone (of the wrapper, if there is one that stays).
    ///
    /// # Errors
    /// If it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.daemon.pid()
    }

    /// A client with the root credentials and connections of its own.
    ///
    /// # Errors
    /// If the credentials file cannot be read.
    pub fn s3(&self) -> anyhow::Result<S3> {
        Ok(S3::new(self.s3_address, self.credentials()?))
    }

    /// The root credentials that standalone keeps in its data directory.
    ///
    /// # Errors
    /// If the file is missing or has no default profile.
    pub fn credentials(&self) -> anyhow::Result<Credentials> {
        read_credentials(&self.data.join("credentials"))
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Address of the S3 listener.
    #[must_use]
    pub fn s3_address(&self) -> SocketAddr {
        self.s3_address
    }

    /// Address of the admin listener.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The `/metrics` page.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        self.daemon.metrics().await
    }

    /// The last lines that standalone printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.daemon.log_tail()
    }

    /// Everything that standalone printed since the first start.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        self.daemon.log()
    }
}

/// The command that starts standalone.
///
/// # Errors
/// If the binary is not there.
pub fn command(
    options: &Options,
    data: &Path,
    s3_address: SocketAddr,
    admin_address: SocketAddr,
) -> anyhow::Result<Command> {
    let mut command = ullage(&options.wrapper)?;
    command.arg("standalone").arg("--data").arg(data);
    command.args(["--vendors", &options.vendors.to_string()]);
    command.args(["--devices-per-vendor", &options.devices_per_vendor.to_string()]);
    command.args(["--copies", &options.copies.to_string()]);
    if let Some(bytes) = options.device_capacity {
        command.args(["--device-capacity", &bytes.to_string()]);
    }
    command.args([
        "--listen",
        &s3_address.to_string(),
        "--admin-listen",
        &admin_address.to_string(),
    ]);
    command.args(&options.arguments);
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

/// Two addresses on loopback whose ports are free now, and stay so while nobody listens there: no connection
/// begins at such an address, as it might at 127.0.0.1.
///
/// # Errors
/// If the system has none.
pub fn free_addresses() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let ip = Ipv4Addr::new(127, 16, rand::random(), rand::random_range(1..=254));
    // Both are bound at once, so that they differ.
    let first = TcpListener::bind((ip, 0)).context("find a free port")?;
    let second = TcpListener::bind((ip, 0)).context("find a free port")?;
    Ok((first.local_addr()?, second.local_addr()?))
}

/// Reads the default profile of a file in AWS's credentials format.
///
/// # Errors
/// If the file cannot be read or lacks a key.
pub fn read_credentials(path: &Path) -> anyhow::Result<Credentials> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut in_default = false;
    let mut credentials = Credentials {
        access_key: String::new(),
        secret_key: String::new(),
    };
    for line in text.lines().map(str::trim) {
        match line
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
        {
            None if line.starts_with('[') => in_default = line == "[default]",
            Some(("aws_access_key_id", value)) if in_default => credentials.access_key = value.to_owned(),
            Some(("aws_secret_access_key", value)) if in_default => credentials.secret_key = value.to_owned(),
            _ => {}
        }
    }
    let complete = !credentials.access_key.is_empty() && !credentials.secret_key.is_empty();
    ensure!(complete, "{} has no complete [default] profile", path.display());
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_is_read_and_no_other() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("credentials");
        let other = "[other]\naws_access_key_id = X\naws_secret_access_key = Y\n";
        std::fs::write(&path, other).expect("write");
        assert!(read_credentials(&path).is_err());
        let text =
            format!("# comment\n[default]\naws_access_key_id=A\naws_secret_access_key = b=c/d+\n{other}");
        std::fs::write(&path, text).expect("write");
        let credentials = read_credentials(&path).expect("credentials");
        assert_eq!(
            (credentials.access_key.as_str(), credentials.secret_key.as_str()),
            ("A", "b=c/d+")
        );
    }
}
