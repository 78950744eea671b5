//! What `ullage vendor-agent --show` lists: the local FAT, from the running agent if there is one, else from data
//! directory and devices themselves.
//!
//! The running agent answers at the socket `show` of its data directory, which only the owner of that directory
//! can open (mode 0600): whoever connects gets all copies, one JSON object per line, and the end.

use crate::agent::{Agent, LocalCopy};
use crate::config::Config;
use crate::device::data_dir::{DataDir, private_socket};
use crate::error::AgentError;
use crate::local_fat::{IndexHome, LocalFat};
use crate::metrics::Metrics;
use crate::opening;
use crate::workers::Workers;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

/// Copies listed at once.
const PAGE: usize = 512;
/// How long whoever asks may take for a page.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause after the operating system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn socket(data: &Path) -> PathBuf {
    data.join("show")
}

/// Answers at the data directory's socket, one after the other, until it is dropped.
pub(crate) async fn answer_forever(agent: Arc<Agent>) {
    let path = socket(&agent.config.data);
    let listener = match private_socket(&path).and_then(UnixListener::from_std) {
        Ok(listener) => listener,
        Err(error) => {
            // Nobody but `--show` misses it: a path longer than sockets have is no reason not to serve.
            tracing::warn!(path = %path.display(), %error, "the local FAT cannot be shown while this agent runs");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = answer(&agent, stream).await {
                    tracing::debug!(%error, "the local FAT was not shown to its end");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection for showing the local FAT");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(agent: &Arc<Agent>, stream: UnixStream) -> io::Result<()> {
    let mut out = BufWriter::new(stream);
    let mut after = None;
    loop {
        let page = agent.list_copies(after, PAGE).await.map_err(io::Error::other)?;
        let Some(last) = page.last() else { break };
        after = Some(last.copy);
        timeout(PATIENCE, write(&mut out, &page)).await??;
    }
    out.shutdown().await
}

async fn write(out: &mut BufWriter<UnixStream>, page: &[LocalCopy]) -> io::Result<()> {
    for copy in page {
        let mut line = serde_json::to_vec(copy)?;
        line.push(b'\n');
        out.write_all(&line).await?;
    }
    out.flush().await
}

/// Shows every copy of the local FAT of `config`'s agent to `each`, in order of their names.
///
/// # Errors
/// When there is no such data directory, an agent holds it and does not answer, or index or devices cannot be read.
pub async fn show(config: Config, mut each: impl FnMut(LocalCopy)) -> Result<(), AgentError> {
    let opened = Workers::Threads.blocking(move || open(&config)).await?;
    let fat = match opened {
        Ok(fat) => Arc::new(fat),
        Err(AgentError::Locked(data)) => return ask(&data, each).await,
        Err(error) => return Err(error),
    };
    let mut after = None;
    loop {
        let from = Arc::clone(&fat);
        let page = Workers::Threads
            .blocking(move || from.0.list(after, PAGE))
            .await??;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.copy);
        page.into_iter().map(LocalCopy::from).for_each(&mut each);
    }
}

/// The local FAT of an agent that does not run, brought up to what its devices hold, and the lock.
fn open(config: &Config) -> Result<(LocalFat, DataDir), AgentError> {
    let mut data_dir = DataDir::open_existing(&config.data)?;
    let fat = LocalFat::open(&data_dir.index_path(), &IndexHome::OnDisk, config.index_memory)?;
    let metrics = Metrics::new(&prometheus::Registry::new())?;
    // Devices that were never used have nothing to show, and are not made by looking.
    let known = data_dir.device_paths();
    let used: Vec<_> = config
        .device
        .iter()
        .filter(|device| known.iter().any(|(_, path)| *path == device.path))
        .cloned()
        .collect();
    for start in opening::open_devices(&used, &mut data_dir)? {
        opening::replay(&fat, start, &metrics);
    }
    Ok((fat, data_dir))
}

async fn ask(data: &Path, mut each: impl FnMut(LocalCopy)) -> Result<(), AgentError> {
    let path = socket(data);
    let failed = |action| AgentError::file(action, path.clone());
    let stream = UnixStream::connect(&path)
        .await
        .map_err(failed("ask the running agent at"))?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines
        .next_line()
        .await
        .map_err(failed("hear the running agent at"))?
    {
        let copy = serde_json::from_str(&line).map_err(io::Error::from);
        each(copy.map_err(failed("understand the running agent at"))?);
    }
    Ok(())
}
