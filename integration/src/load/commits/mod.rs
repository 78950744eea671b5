//! Commits and linearizable reads of a metadata service of three nodes, beside a three-node etcd on the same
//! machine in the same minutes: who of the two begins a round alternates, and round by round ratios are
//! printed. Both write keys and values of 300 bytes in all, and both sync their logs. Ullage is asked as one gateway
//! asks it, whose calls share what is under way; etcd by unary calls over several HTTP/2 connections to its leader,
//! as its own clients do.

pub mod etcd;
pub mod grpc;
pub mod metad;
pub mod snapshot;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::load::disk::{self, DiskBound};
use crate::load::report::{show_rate, show_time};
use crate::load::stats::{Counts, Latencies, Summary, median};
use crate::process::{processor_time, processor_times};

/// Bytes of a key and its value together, or of a whole command.
pub const COMMAND_BYTES: usize = 300;
/// Connections to etcd's leader, shared by all clients.
pub const CONNECTIONS: usize = 8;
/// Distinct keys that are written and read.
pub const KEYS: u64 = 100_000;
/// Part of a run that is not counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// Failures of a client after which it gives up.
const FAILURES: u64 = 100;

/// A replicated store under load.
pub trait Service: Send + Sync + 'static {
    /// Its name.
    fn label(&self) -> &'static str;
    /// Its processes.
    fn pids(&self) -> Vec<u32>;
    /// Commits one command.
    fn commit(&self, client: usize, number: u64) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Reads one key, linearizably.
    fn read(&self, client: usize, number: u64) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// [`Service::commit`].
    Commit,
    /// [`Service::read`].
    Read,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    /// What is done.
    pub operation: Operation,
    /// By how many at once, each with one request under way.
    pub clients: usize,
    /// The goal: times etcd's rate.
    pub goal: f64,
}

/// The rows of the published table.
#[must_use]
pub fn rows() -> Vec<Row> {
    let row = |operation, clients, goal| Row {
        operation,
        clients,
        goal,
    };
    vec![
        row(Operation::Commit, 1, 1.5),
        row(Operation::Commit, 64, 3.0),
        row(Operation::Commit, 256, 4.0),
        row(Operation::Commit, 1024, 4.0),
        row(Operation::Read, 1024, 10.0),
    ]
}

/// The only row when every sync is made slower: one with enough clients that others commit meanwhile.
#[must_use]
pub fn slow_rows() -> Vec<Row> {
    vec![Row {
        operation: Operation::Commit,
        clients: 64,
        goal: 2.0,
    }]
}

/// A program before that of each node which makes each of its syncs take `delay` longer: strace, told to look at
/// syncs alone, so that everything else goes on at its own pace.
fn slowed(delay: Duration) -> Vec<String> {
    let inject = format!("inject=fsync,fdatasync:delay_exit={}", delay.as_micros());
    let arguments = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"];
    let syscalls = ["-e", "trace=fsync,fdatasync", "-e", &inject];
    arguments
        .iter()
        .chain(&syscalls)
        .map(ToString::to_string)
        .collect()
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where both keep their data: a directory on the disk that matters.
    pub directory: PathBuf,
    /// The etcd binary; `None`: Ullage's metadata service alone.
    pub etcd: Option<PathBuf>,
    /// Whether Ullage's metadata service is measured.
    pub ullage: bool,
    /// Length of each counted run.
    pub time: Duration,
    /// Rounds of each row.
    pub rounds: u32,
    /// Only rows with these numbers of clients; all if empty.
    pub clients: Vec<usize>,
    /// What each sync of a node takes longer, both of etcd's and Ullage's; then there is one row.
    pub slow_sync: Option<Duration>,
}

/// The rounds of one row.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The row.
    pub row: Row,
    /// Rounds of Ullage's metadata service; none if it was not there.
    pub ullage: Vec<Summary>,
    /// Rounds of etcd.
    pub etcd: Vec<Summary>,
    /// Rate by rate, round by round.
    pub ratios: Vec<f64>,
}

/// Everything measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine's disk.
    pub disk: Vec<DiskBound>,
    /// What each sync of each node took longer than the disk.
    pub slow_sync: Option<Duration>,
    /// The rows.
    pub rows: Vec<Measured>,
}

/// Measures the rows.
///
/// # Errors
/// If a service does not come up, or operations fail.
pub async fn measure(options: &Options) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&options.directory).context("make the directory")?;
    let disk = disk::measure(&options.directory, &[300, 4 << 10], Duration::from_secs(1))?;
    let wrapper = options.slow_sync.map(slowed).unwrap_or_default();
    let etcd = match &options.etcd {
        Some(program) => {
            let etcd = etcd::Etcd::start(program, &options.directory, &wrapper).await?;
            Some(Arc::new(etcd))
        }
        None => None,
    };
    let metad = match options.ullage {
        true => Some(Arc::new(metad::Metad::start(&options.directory, &wrapper).await?)),
        false => None,
    };
    let mut measured = Vec::new();
    let rows = options.slow_sync.map_or_else(rows, |_| slow_rows());
    for row in rows {
        if !options.clients.is_empty() && !options.clients.contains(&row.clients) {
            continue;
        }
        let mut result = Measured {
            row,
            ullage: Vec::new(),
            etcd: Vec::new(),
            ratios: Vec::new(),
        };
        eprintln!("{:?}, {} clients …", row.operation, row.clients);
        for round in 0..options.rounds {
            result
                .round(round, metad.as_ref(), etcd.as_ref(), options.time)
                .await?;
        }
        measured.push(result);
    }
    Ok(Report {
        disk,
        slow_sync: options.slow_sync,
        rows: measured,
    })
}

impl Measured {
    /// One after the other, so that neither takes the processor from the other; who begins alternates.
    async fn round(
        &mut self,
        round: u32,
        ullage: Option<&Arc<metad::Metad>>,
        etcd: Option<&Arc<etcd::Etcd>>,
        time: Duration,
    ) -> anyhow::Result<()> {
        if round.is_multiple_of(2)
            && let Some(service) = ullage
        {
            self.ullage.push(run(service, self.row, time).await?);
        }
        if let Some(service) = etcd {
            self.etcd.push(run(service, self.row, time).await?);
        }
        if !round.is_multiple_of(2)
            && let Some(service) = ullage
        {
            self.ullage.push(run(service, self.row, time).await?);
        }
        if let (Some(ours), Some(theirs)) = (self.ullage.last(), self.etcd.last())
            && theirs.operations_per_second > 0.0
        {
            self.ratios
                .push(ours.operations_per_second / theirs.operations_per_second);
        }
        Ok(())
    }
}

/// One run of a row.
async fn run<S: Service>(service: &Arc<S>, row: Row, time: Duration) -> anyhow::Result<Summary> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + time;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..row.clients {
        let service = Arc::clone(service);
        clients.spawn(async move { work(&*service, client, row.operation, begin, end).await });
    }
    tokio::time::sleep_until(begin.into()).await;
    let server_before = processor_times(&service.pids())?;
    let client_before = processor_time(std::process::id())?;
    tokio::time::sleep_until(end.into()).await;
    let server = processor_times(&service.pids())?.saturating_sub(server_before);
    let client = processor_time(std::process::id())?.saturating_sub(client_before);
    let mut counts = Counts::default();
    while let Some(counted) = clients.join_next().await {
        counts.merge(counted.context("a client ended")?);
    }
    let summary = Summary::new(service.label(), &counts, time, Some(server), client);
    ensure!(
        summary.errors == 0,
        "{} of {} operations failed at {}: {}",
        summary.errors,
        summary.operations,
        summary.target,
        summary.first_error.unwrap_or_default()
    );
    Ok(summary)
}

/// One client: an operation after the other, those counted that end within the time.
async fn work<S: Service>(
    service: &S,
    client: usize,
    operation: Operation,
    begin: Instant,
    end: Instant,
) -> Counts {
    let mut counts = Counts {
        latencies: Latencies::default(),
        ..Counts::default()
    };
    // Keys far apart for each client, and other ones in each step.
    let mut number = (client as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while counts.errors < FAILURES {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = (number >> 33) % KEYS;
        let started = Instant::now();
        let done = match operation {
            Operation::Commit => service.commit(client, key).await,
            Operation::Read => service.read(client, key).await,
        };
        let now = Instant::now();
        match done {
            Ok(()) if now < begin => {}
            Ok(()) if now <= end => {
                counts.operations += 1;
                counts.latencies.record(now - started);
            }
            Ok(()) => break,
            Err(error) => {
                counts.errors += 1;
                counts.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
        if now >= end {
            break;
        }
    }
    counts
}

impl Report {
    /// As Markdown: medians over the rounds.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from("Disk, one thread, append and fdatasync:");
        for bound in &self.disk {
            text.push_str(&format!(
                " {} bytes p50 {}, {};",
                bound.write_bytes,
                show_time(bound.p50_seconds),
                show_rate(bound.writes_per_second, false)
            ));
        }
        if let Some(delay) = self.slow_sync {
            text.push_str(&format!(" in the nodes each sync takes {delay:?} longer;"));
        }
        text.push_str("\n\n| clients | ullage | p50 | p99 | CPU | etcd | p50 | p99 | CPU | ratio | goal |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
        for measured in &self.rows {
            let name = match measured.row.operation {
                Operation::Commit => format!("{}", measured.row.clients),
                Operation::Read => format!("reads, {}", measured.row.clients),
            };
            let ratio = match measured.ratios.is_empty() {
                true => "–".to_owned(),
                false => format!("{:.2} ×", median(&measured.ratios)),
            };
            text.push_str(&format!(
                "| {name} |{}{} {ratio} | {} × |\n",
                cells(&measured.ullage),
                cells(&measured.etcd),
                measured.row.goal
            ));
        }
        text
    }
}

fn cells(rounds: &[Summary]) -> String {
    if rounds.is_empty() {
        return " – | – | – | – |".to_owned();
    }
    let middle = |of: fn(&Summary) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
    format!(
        " {} | {} | {} | {} |",
        show_rate(middle(|it| it.operations_per_second), false),
        show_time(middle(|it| it.p50_seconds)),
        show_time(middle(|it| it.p99_seconds)),
        show_time(middle(|it| it.server_seconds_per_operation.unwrap_or_default())),
    )
}
