//! The tools that people use against S3, run as they run them: the AWS CLI, Python with boto3, rclone, restic and more.
//! A tool that is missing skips its test loudly, and fails it where `CI=true`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, ensure};

use crate::sign::Credentials;
use crate::standalone::Standalone;

/// The environment variable that names a directory of tools to look into before `PATH`.
pub const TOOLS_VARIABLE: &str = "ULLAGE_TEST_TOOLS";

/// Whether something that a test needs may be missing.
#[must_use]
pub fn must_have_all() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Says that a test is skipped, and why.
///
/// # Panics
/// Where `CI=true`: there nothing may be skipped.
pub fn skip(test: &str, reason: &str) {
    assert!(
        !must_have_all(),
        "{test} cannot run: {reason}; under CI=true nothing is skipped"
    );
    // Past the harness's capture, so that a passing run shows it too.
    let line = format!("\nSKIPPED {test}: {reason}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Finds a program in `ULLAGE_TEST_TOOLS`, then in `PATH`.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    candidates(program).into_iter().next()
}

/// Every file of this name, in the order in which a program is looked for.
fn candidates(program: &str) -> Vec<PathBuf> {
    let tools = std::env::var_os(TOOLS_VARIABLE).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&tools)
        .chain(std::env::split_paths(&path))
        .filter(|directory| !directory.as_os_str().is_empty())
        .map(|directory| directory.join(program))
        .filter(|candidate| candidate.is_file())
        .collect()
}

/// Finds the program of this name that says `version` when it is asked with `argument`; two versions of one client may be
/// installed side by side.
#[must_use]
pub fn find_version(program: &str, argument: &str, version: &str) -> Option<PathBuf> {
    candidates(program).into_iter().find(|candidate| {
        let asked = Command::new(candidate).arg(argument).output();
        asked.is_ok_and(|output| {
            [&output.stdout, &output.stderr]
                .iter()
                .any(|said| String::from_utf8_lossy(said).contains(version))
        })
    })
}

/// A tool ready to be run against one endpoint.
#[derive(Clone)]
pub struct Client {
    program: PathBuf,
    environment: Vec<(String, String)>,
}

impl Client {
    /// The tool if it is there; otherwise the test is skipped.
    ///
    /// # Errors
    /// If the credentials of the standalone cannot be read.
    ///
    /// # Panics
    /// If it is missing where `CI=true`.
    pub fn of(test: &str, program: &str, standalone: &Standalone) -> anyhow::Result<Option<Self>> {
        let credentials = standalone.credentials()?;
        Ok(Self::at(test, program, standalone.s3_address(), &credentials))
    }

    /// The tool for the endpoint at `address` if it is there; otherwise the test is skipped.
    ///
    /// # Panics
    /// If it is missing where `CI=true`.
    #[must_use]
    pub fn at(test: &str, program: &str, address: SocketAddr, credentials: &Credentials) -> Option<Self> {
        let Some(found) = find(program) else {
            skip(
                test,
                &format!("{program} is not installed (`make test-tools` installs it)"),
            );
            return None;
        };
        Some(Self::new(found, address, credentials))
    }

    /// This version of the tool for a standalone if it is there, as [`find_version`] finds it; otherwise the test is skipped.
    ///
    /// # Errors
    /// If the credentials of the standalone cannot be read.
    ///
    /// # Panics
    /// If it is missing where `CI=true`.
    pub fn version(
        test: &str,
        program: &str,
        (argument, version): (&str, &str),
        standalone: &Standalone,
    ) -> anyhow::Result<Option<Self>> {
        let credentials = standalone.credentials()?;
        let Some(found) = find_version(program, argument, version) else {
            skip(
                test,
                &format!("no {program} says \"{version}\" (`make test-tools` installs it)"),
            );
            return Ok(None);
        };
        Ok(Some(Self::new(found, standalone.s3_address(), &credentials)))
    }

    fn new(program: PathBuf, address: SocketAddr, credentials: &Credentials) -> Self {
        let endpoint = format!("http://{address}");
        let environment = [
            ("AWS_ACCESS_KEY_ID", credentials.access_key.as_str()),
            ("AWS_SECRET_ACCESS_KEY", credentials.secret_key.as_str()),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_PAGER", ""),
            ("S3_ENDPOINT_URL", endpoint.as_str()),
            ("RCLONE_CONFIG", "/dev/null"),
            ("RCLONE_CONFIG_ULLAGE_TYPE", "s3"),
            ("RCLONE_CONFIG_ULLAGE_PROVIDER", "Other"),
            ("RCLONE_CONFIG_ULLAGE_ENV_AUTH", "true"),
            ("RCLONE_CONFIG_ULLAGE_REGION", "us-east-1"),
            ("RCLONE_CONFIG_ULLAGE_ENDPOINT", endpoint.as_str()),
        ];
        let environment = environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        Self { program, environment }
    }

    /// With a further environment variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it in a directory, whatever its exit code.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn output(&self, directory: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
        self.command(directory, arguments)
            .output()
            .with_context(|| format!("start {}", self.program.display()))
    }

    /// The command as it would be run.
    #[must_use]
    pub fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(directory);
        // The surroundings' profiles, certificates and proxies are not part of the test.
        let foreign = |name: &str| {
            let upper = name.to_ascii_uppercase();
            let ours = ["AWS_", "RCLONE_", "RESTIC_", "S3_"];
            ours.iter().any(|prefix| upper.starts_with(prefix)) || upper.ends_with("_PROXY")
        };
        for (name, _) in std::env::vars().filter(|(name, _)| foreign(name)) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it in a directory; returns what it printed.
    ///
    /// # Errors
    /// If it fails; what it printed is part of the error.
    pub fn run(&self, directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let printed = self.bytes(directory, arguments)?;
        String::from_utf8(printed).context("read what was printed as UTF-8")
    }

    /// Runs it in a directory; returns the bytes that it printed.
    ///
    /// # Errors
    /// If it fails; what it printed is part of the error.
    pub fn bytes(&self, directory: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self.output(directory, arguments)?;
        let (printed, complaint) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let program = self.program.display();
        ensure!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{printed}\n{complaint}",
            output.status
        );
        Ok(output.stdout)
    }
}

/// The root of this repository's sources, which tests store as a real directory tree.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")))
}
