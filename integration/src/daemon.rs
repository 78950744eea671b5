//! A service as a child process: started with a log of its own, waited for, signalled, killed and started
//! again. Which service it is and with what settings is [`crate::standalone`]'s and [`crate::cluster`]'s.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;

use crate::http1::{http_get, http_status};
use crate::seed::number_from_env;

/// How often a state is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(10);
/// Lines of the log shown when a test fails.
const LOG_LINES: usize = 80;

/// The last lines of the logs of those that are gone, where nobody keeps back what is printed.
static KEPT_TAILS: OnceLock<Mutex<Vec<String>>> = OnceLock::new();

/// Runs a program that is no test, which shows the last lines of the logs only if it fails.
///
/// # Errors
/// Its own.
pub fn showing_logs_of_failures<T>(run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let kept = KEPT_TAILS.get_or_init(Mutex::default);
    let done = run();
    if done.is_err() {
        for tail in kept.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            eprintln!("{tail}");
        }
    }
    done
}

/// A service that runs, or does not at the moment.
pub struct Daemon {
    name: String,
    log: PathBuf,
    health: SocketAddr,
    child: Option<Child>,
}

impl Daemon {
    /// Not started yet. `health` is where `/health/ready` and `/metrics` will be answered.
    #[must_use]
    pub fn new(name: String, log: PathBuf, health: SocketAddr) -> Self {
        Self {
            name,
            log,
            health,
            child: None,
        }
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes where it is looked at, before the next start.
    pub fn set_health(&mut self, health: SocketAddr) {
        self.health = health;
    }

    /// Starts without waiting.
    ///
    /// # Errors
    /// If it runs already or the program cannot be started.
    pub fn spawn(&mut self, mut command: Command) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "{} already runs", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .context("open the log")?;
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
        self.wait_health("/health/ready", limit).await
    }

    /// Waits until `/health/live` answers 200: it serves, if not everything yet.
    ///
    /// # Errors
    /// If the process exits first, or the time is over.
    pub async fn wait_live(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.wait_health("/health/live", limit).await
    }

    async fn wait_health(&mut self, path: &str, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status()? {
                self.child = None;
                bail!(
                    "{} exited with {status} before {path} was well:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            // One that listens and does not answer must not stop the test.
            let asked = tokio::time::timeout(limit, http_status(self.health, path)).await;
            if matches!(asked, Ok(Ok(200))) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{}: {path} not well after {limit:?}:\n{}",
                self.name,
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
                "{} still runs after {limit:?}:\n{}",
                self.name,
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
        let mut child = self.child.take().with_context(|| self.not_running())?;
        child.kill().with_context(|| format!("kill {}", self.name))?;
        child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If it does not end in time or its exit code is not 0.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait_exit(ready_deadline()).await?;
        ensure!(
            status.success(),
            "{} ended with {status}:\n{}",
            self.name,
            self.log_tail()
        );
        Ok(())
    }

    /// SIGSTOP: it stands still, connections and all.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on after [`Daemon::pause`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()?)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("no process id")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Its process id (the wrapper's, if there is one that stays).
    ///
    /// # Errors
    /// If it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().with_context(|| self.not_running())?.id())
    }

    /// Whether it was started and has not been stopped from here.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// The `/metrics` page.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let (status, body) = http_get(self.health, "/metrics").await?;
        ensure!(status == 200, "/metrics of {} answered {status}", self.name);
        Ok(body)
    }

    /// The last lines that it printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Everything that it printed since the first start.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("read the log of {}", self.name))
    }

    fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let context = format!("wait for {}", self.name);
        let not_running = self.not_running();
        self.child
            .as_mut()
            .context(not_running)?
            .try_wait()
            .context(context)
    }

    fn not_running(&self) -> String {
        format!("{} does not run", self.name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing to be done about a child that cannot be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
        let tail = format!("--- the last lines of {}'s log:\n{}", self.name, self.log_tail());
        match KEPT_TAILS.get() {
            Some(kept) if !std::thread::panicking() => {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(tail)
            }
            // The test harness keeps this back unless the test fails.
            _ => eprintln!("{tail}"),
        }
    }
}

/// A program, or a wrapper of it (its name and its arguments), if there is one.
#[must_use]
pub fn wrapped(wrapper: &[String], program: &Path) -> Command {
    match wrapper.split_first() {
        None => Command::new(program),
        Some((wrapper, arguments)) => {
            let mut command = Command::new(wrapper);
            command.args(arguments).arg(program);
            command
        }
    }
}

/// The `ullage` binary, or a wrapper of it, in an environment without settings of the surroundings.
///
/// # Errors
/// If the binary is not there.
pub fn ullage(wrapper: &[String]) -> anyhow::Result<Command> {
    let mut command = wrapped(wrapper, &binary()?);
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("ULLAGE_") || name.starts_with("AWS_"))
    {
        command.env_remove(name);
    }
    Ok(command)
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

/// How long a start or a stop may take: `ULLAGE_TEST_READY_SECONDS`, or a minute.
#[must_use]
pub fn ready_deadline() -> Duration {
    Duration::from_secs(number_from_env("ULLAGE_TEST_READY_SECONDS", 60))
}
