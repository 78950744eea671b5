//! One service of a cluster: its place, its settings file, and how its process is started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::network::Host;
use crate::daemon::{Daemon, ready_deadline, ullage};

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `ullage metad`.
    Metad,
    /// `ullage vendor-agent`.
    Agent,
    /// `ullage gateway`.
    Gateway,
}

impl Service {
    /// Its subcommand.
    #[must_use]
    pub fn subcommand(self) -> &'static str {
        match self {
            Self::Metad => "metad",
            Self::Agent => "vendor-agent",
            Self::Gateway => "gateway",
        }
    }
}

/// A service of a cluster, running or not.
pub struct Node {
    /// Which service it is.
    pub service: Service,
    /// Its name, which its settings and its log bear too.
    pub name: String,
    /// Its place.
    pub host: Host,
    /// The process.
    pub daemon: Daemon,
    /// Environment variables of its next start.
    pub environment: Vec<(String, String)>,
    /// A program that runs the binary at its next start, such as strace, with its own arguments.
    pub wrapper: Vec<String>,
    /// Further arguments of its next start.
    pub arguments: Vec<String>,
    /// What is all its own: settings, data, devices, token.
    pub directory: PathBuf,
    /// Where the others, or S3's clients, reach it.
    pub address: SocketAddr,
}

impl Node {
    /// Its settings file.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        settings_path(&self.directory)
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Starts without waiting.
    ///
    /// # Errors
    /// If it runs already or cannot be started.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        let wrapper: Vec<String> = self
            .host
            .wrapper()
            .into_iter()
            .chain(self.wrapper.clone())
            .collect();
        let mut command = ullage(&wrapper)?;
        command
            .arg(self.service.subcommand())
            .arg("--config")
            .arg(self.settings())
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.daemon.spawn(command)
    }

    /// Starts again after a kill or a stop, and waits until it is ready.
    ///
    /// # Errors
    /// If it exits or does not become ready in time; the log is part of the error.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.wait_ready(ready_deadline()).await
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// If the process exits first, or the time is over.
    pub async fn wait_ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.daemon.wait_ready(limit).await
    }

    /// kill -9, as [`Daemon::kill`].
    ///
    /// # Errors
    /// If it was not started.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.daemon.kill()
    }

    /// SIGTERM, and waits for the end, which must be a good one.
    ///
    /// # Errors
    /// If it does not end in time or its exit code is not 0.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.daemon.stop().await
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.daemon.pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.daemon.resume()
    }
}

/// The settings file in a service's directory.
pub(super) fn settings_path(directory: &Path) -> PathBuf {
    directory.join("ullage.toml")
}
