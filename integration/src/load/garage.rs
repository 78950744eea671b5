//! A Garage of three nodes with replication 3 on loopback, from a binary given by its path: what Ullage's
//! cluster of three vendors and three copies is compared with.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::load::commits::etcd::free_ports;
use crate::load::target::Target;
use crate::sign::Credentials;

/// Nodes, and copies of everything.
const NODES: usize = 3;
/// How long the nodes may take to answer.
const START: Duration = Duration::from_secs(60);
/// The bucket that is measured.
const BUCKET: &str = "bench";

/// A running cluster. Its processes end, and its files go, when it is dropped.
pub struct Garage {
    program: PathBuf,
    nodes: Vec<Child>,
    address: SocketAddr,
    credentials: Credentials,
    directory: TempDir,
}

impl Garage {
    /// Starts three nodes with data below `directory`; `fsync`: they sync metadata and data as Ullage always
    /// does.
    ///
    /// # Errors
    /// If a node or one of the commands that set the cluster up fails; what it printed is part of the error.
    pub fn start(program: &Path, directory: &Path, fsync: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory).context("make the directory")?;
        let directory = tempfile::Builder::new()
            .prefix("garage-")
            .tempdir_in(directory)
            .context("make a directory")?;
        let ports = free_ports(2 * NODES)?;
        let hexadecimal = |bytes: usize| hex::encode((0..bytes).map(|_| rand::random()).collect::<Vec<u8>>());
        let mut garage = Self {
            program: program.to_owned(),
            nodes: Vec::new(),
            address: SocketAddr::from(([127, 0, 0, 1], ports[NODES])),
            credentials: Credentials {
                access_key: format!("GK{}", hexadecimal(12)),
                secret_key: hexadecimal(32),
            },
            directory,
        };
        let secret = hexadecimal(32);
        for at in 0..NODES {
            let settings = settings(
                &garage.directory.path().join(format!("{at}")),
                (ports[at], ports[NODES + at]),
                &secret,
                fsync,
            );
            std::fs::write(garage.settings(at), settings).context("write settings")?;
            let log =
                File::create(garage.directory.path().join(format!("{at}.log"))).context("make a log")?;
            let node = garage
                .command(at)
                .arg("server")
                .stdin(Stdio::null())
                .stdout(log.try_clone().context("share the log")?)
                .stderr(log)
                .spawn()
                .with_context(|| format!("start {}", program.display()))?;
            garage.nodes.push(node);
        }
        garage.set_up()?;
        Ok(garage)
    }

    /// The endpoint to be measured: the first node.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            label: "garage".to_owned(),
            address: self.address,
            host: self.address.to_string(),
            credentials: self.credentials.clone(),
            region: "us-east-1".to_owned(),
            bucket: BUCKET.to_owned(),
            pids: self.nodes.iter().map(Child::id).collect(),
            data: Some(self.directory.path().to_owned()),
        }
    }

    /// Connects the nodes, gives each a zone of its own, and makes key and bucket.
    fn set_up(&mut self) -> anyhow::Result<()> {
        let mut names = Vec::new();
        for at in 0..NODES {
            names.push(self.wait_for_node(at)?);
        }
        for name in &names[1..] {
            self.run(&["node", "connect", name])?;
        }
        for (at, name) in names.iter().enumerate() {
            let id = name.get(..16).with_context(|| format!("{name:?} is no node"))?;
            self.run(&["layout", "assign", "-z", &format!("zone-{at}"), "-c", "50G", id])?;
        }
        self.run(&["layout", "apply", "--version", "1"])?;
        let Credentials {
            access_key,
            secret_key,
        } = self.credentials.clone();
        self.run(&["key", "import", "--yes", "-n", "bench", &access_key, &secret_key])?;
        self.run(&["bucket", "create", BUCKET])?;
        let allow = [
            "bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", "bench",
        ];
        self.run(&allow)?;
        Ok(())
    }

    /// The node's own name, `ID@ADDRESS`, once it answers.
    fn wait_for_node(&mut self, at: usize) -> anyhow::Result<String> {
        let until = Instant::now() + START;
        loop {
            let asked = self
                .run_at(at, &["status"])
                .and_then(|_| self.run_at(at, &["node", "id", "-q"]));
            match asked {
                Ok(name) => return Ok(name.trim().to_owned()),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = self.nodes[at].try_wait().context("look at garage")? {
                bail!("garage ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn settings(&self, at: usize) -> PathBuf {
        self.directory.path().join(format!("{at}.toml"))
    }

    fn command(&self, at: usize) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.settings(at)).env("RUST_LOG", "warn");
        command
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run_at(0, arguments)
    }

    fn run_at(&self, at: usize, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(at).args(arguments).output().context("run garage")?;
        ensure!(
            output.status.success(),
            "garage {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended already; either way it is gone after the wait.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn settings(directory: &Path, (rpc, s3): (u16, u16), secret: &str, fsync: bool) -> String {
    let (metadata, data) = (directory.join("meta"), directory.join("data"));
    format!(
        "metadata_dir = {metadata:?}\ndata_dir = {data:?}\ndb_engine = \"lmdb\"\nreplication_factor = {NODES}\n\
         metadata_fsync = {fsync}\ndata_fsync = {fsync}\n\
         rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{secret}\"\n\
         [s3_api]\ns3_region = \"us-east-1\"\napi_bind_addr = \"127.0.0.1:{s3}\"\nroot_domain = \".s3.localhost\"\n"
    )
}
