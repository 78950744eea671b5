//! `ullage standalone` as a child process: the real binary on free ports and a directory of its own,
//! started, waited for, killed and started again.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::http1::{Body, Connection};
use crate::s3::S3;
use crate::seed::number_from_env;
use crate::sign::Credentials;

/// How often a state is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(10);
/// Lines of the log shown when a test fails.
const LOG_LINES: usize = 80;
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
    // Held for its drop, which removes the directory.
    _temporary: TempDir,
    log: PathBuf,
    s3_address: SocketAddr,
    admin_address: SocketAddr,
    child: Option<Child>,
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
        let log = temporary.path().join("standalone.log");
        let (s3_address, admin_address) = free_addresses()?;
        let mut started = Self {
            options,
            data,
            log,
            _temporary: temporary,
            s3_address,
            admin_address,
            child: None,
        };
        for attempt in 1.. {
            match started.restart().await {
                Ok(()) => break,
                Err(error) if attempt < START_ATTEMPTS && format!("{error:#}").contains("in use") => {
                    (started.s3_address, started.admin_address) = free_addresses()?;
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
        ensure!(self.child.is_none(), "standalone already runs");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .context("open the log")?;
        let mut command = command(&self.options, &self.data, self.s3_address, self.admin_address)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("start {command:?}"))?);
        Ok(())
    }

    /// Waits until `/health/ready` answers 200.
    ///
    /// # Errors
    /// If the process exits first, or the time is over.
    pub async fn wait_ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status()? {
                self.child = None;
                bail!(
                    "standalone exited with {status} before it was ready:\n{}",
                    self.log_tail()
                );
            }
            if http_status(self.admin_address, "/health/ready")
                .await
                .is_ok_and(|status| status == 200)
            {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "standalone not ready after {limit:?}:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until it exits by itself.
    ///
    /// # Errors
    /// If it still runs when the time is over.
    pub async fn wait_exit(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status()? {
                self.child = None;
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "standalone still runs after {limit:?}:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// kill -9: the process is gone when this returns, its files are as the kernel has them. One that
    /// ended by itself, because its disk failed for instance, is as good.
    ///
    /// # Errors
    /// If it was not started.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("standalone does not run")?;
        child.kill().context("kill standalone")?;
        child.wait().context("wait for standalone")?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If it does not end in time or its exit code is not 0.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = self.pid()?;
        signal(pid, rustix::process::Signal::TERM)?;
        let status = self.wait_exit(ready_deadline()).await?;
        ensure!(
            status.success(),
            "standalone ended with {status}:\n{}",
            self.log_tail()
        );
        Ok(())
    }

    /// The process id of standalone (of the wrapper, if there is one that stays).
    ///
    /// # Errors
    /// If it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().context("standalone does not run")?.id())
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
        let (status, body) = http_get(self.admin_address, "/metrics").await?;
        ensure!(status == 200, "/metrics answered {status}");
        Ok(body)
    }

    /// The last lines that standalone printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Everything that standalone printed since the first start.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log).context("read the log")
    }

    fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child
            .as_mut()
            .context("standalone does not run")?
            .try_wait()
            .context("wait for standalone")
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing to be done about a child that cannot be killed; the temporary directory goes anyway.
            let _ = child.kill();
            let _ = child.wait();
        }
        // The test harness keeps this back unless the test fails.
        println!("--- the last lines of standalone's log:\n{}", self.log_tail());
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
    let binary = binary()?;
    let mut command = match options.wrapper.split_first() {
        None => Command::new(&binary),
        Some((program, arguments)) => {
            let mut wrapped = Command::new(program);
            wrapped.args(arguments).arg(&binary);
            wrapped
        }
    };
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
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("ULLAGE_") || name.starts_with("AWS_"))
    {
        command.env_remove(name);
    }
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

/// Runs a command that must end by itself; one that does not is killed.
///
/// # Errors
/// If it cannot be started or does not end in time.
pub fn output_within(command: &mut Command, limit: Duration) -> anyhow::Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child
        .as_mut()
        .map_err(|error| anyhow::anyhow!("start {command:?}: {error}"))?;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let drain = |pipe: Option<&mut dyn Read>| {
        let mut bytes = Vec::new();
        pipe.map_or(Ok(0), |pipe| pipe.read_to_end(&mut bytes))
            .map(|_| bytes)
    };
    let deadline = Instant::now() + limit;
    std::thread::scope(|scope| {
        // Both pipes are emptied while it runs, so that it never waits for a reader.
        let out = scope.spawn(move || drain(stdout.as_mut().map(|pipe| pipe as &mut dyn Read)));
        let err = scope.spawn(move || drain(stderr.as_mut().map(|pipe| pipe as &mut dyn Read)));
        let status = loop {
            match child.try_wait().context("wait for a command")? {
                Some(status) => break Some(status),
                None if Instant::now() >= deadline => break None,
                None => std::thread::sleep(POLL),
            }
        };
        if status.is_none() {
            child.kill().context("kill a command")?;
            child.wait().context("wait for a command")?;
        }
        let joined = |thread: std::thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a reader panicked"))?
                .context("read a command's output")
        };
        let (stdout, stderr) = (joined(out)?, joined(err)?);
        let status = status.with_context(|| {
            format!(
                "{command:?} still ran after {limit:?}:\n{}",
                String::from_utf8_lossy(&stderr)
            )
        })?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    })
}

/// The `ullage` binary: `ULLAGE_BIN`, or the one built beside this test.
///
/// # Errors
/// If there is none; says how to build it.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("ULLAGE_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "ULLAGE_BIN={} is no file", path.display());
        return Ok(path);
    }
    let this = std::env::current_exe().context("find this executable")?;
    let found = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("ullage"))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no `ullage` near {}: run `cargo build --release --workspace --bins` first, or set ULLAGE_BIN",
            this.display()
        )
    })
}

/// Two addresses on loopback whose ports are free now.
///
/// # Errors
/// If the system has none.
pub fn free_addresses() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    // Both are bound at once, so that they differ.
    let first = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    let second = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok((first.local_addr()?, second.local_addr()?))
}

/// How long a start or a stop may take: `ULLAGE_TEST_READY_SECONDS`, or a minute.
#[must_use]
pub fn ready_deadline() -> Duration {
    Duration::from_secs(number_from_env("ULLAGE_TEST_READY_SECONDS", 60))
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

/// Sends a signal.
///
/// # Errors
/// If there is no such process.
pub fn signal(pid: u32, signal: rustix::process::Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("no process id")?;
    rustix::process::kill_process(pid, signal).context("send a signal")
}

/// A plain GET without a signature: status and body.
///
/// # Errors
/// If no whole answer came.
pub async fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut connection = Connection::open(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.send(request.into_bytes(), Body::Empty).await?;
    let mut head = connection.read_head(false).await?;
    let body = connection.read_body(&mut head).await?;
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}

/// The status of a plain GET.
///
/// # Errors
/// If no answer came.
pub async fn http_status(address: SocketAddr, path: &str) -> anyhow::Result<u16> {
    Ok(http_get(address, path).await?.0)
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
