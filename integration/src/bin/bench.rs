//! The benchmark program: `bench run`, `compare`, `table`, `cluster`, `commits`, `snapshot`, `disk`, `bound`,
//! `start`, `disk-ratio`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand};
use ullage_integration::cluster::{AgentPlan, Cluster, Plan};
use ullage_integration::daemon::showing_logs_of_failures;
use ullage_integration::load::bound::{self, Bound};
use ullage_integration::load::commits;
use ullage_integration::load::compare::Comparison;
use ullage_integration::load::disk;
use ullage_integration::load::garage::Garage;
use ullage_integration::load::report::{Report, show_time};
use ullage_integration::load::run::Prepared;
use ullage_integration::load::stats::median;
use ullage_integration::load::table;
use ullage_integration::load::target::Target;
use ullage_integration::load::workload::{Spec, Workload, show_size};
use ullage_integration::process::disk_bytes;
use ullage_model::units::parse_bytes;

/// Load on S3 endpoints, measured and compared.
///
/// An endpoint is URL[,label=L][,credentials=FILE][,region=R][,bucket=B][,pid=N]...[,data=DIR]; without a
/// credentials file, keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// One workload on one endpoint.
    Run {
        /// The endpoint.
        #[arg(long = "target", value_parser = Target::parse)]
        target: Target,
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        output: Output,
    },
    /// One workload on two endpoints in interleaved rounds, with ratios.
    Compare {
        #[command(flatten)]
        endpoints: Endpoints,
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        output: Output,
    },
    /// The rows of the published table.
    Table {
        #[command(flatten)]
        endpoints: Endpoints,
        /// Only these rows, by name.
        #[arg(long, value_delimiter = ',')]
        rows: Vec<String>,
        /// Seconds of each run.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Client threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Check every byte, length and ETag.
        #[arg(long)]
        verify: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Rows of the table on a cluster of processes, three metadata nodes, three vendors of one device each, one
    /// gateway and three copies, beside a Garage of three nodes with replication 3.
    Cluster {
        /// Where both keep their data.
        #[arg(long)]
        directory: PathBuf,
        /// The Garage binary; without it Ullage is measured alone.
        #[arg(long)]
        garage: Option<PathBuf>,
        /// Garage syncs as Ullage always does.
        #[arg(long)]
        garage_fsync: bool,
        /// These rows, by name.
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "put-4k,get-4k,put-1m,get-1m,put-16m,get-16m"
        )]
        rows: Vec<String>,
        /// Rounds.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Seconds of each run.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Client threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        #[command(flatten)]
        output: Output,
    },
    /// Commits and linearizable reads of three metadata nodes, beside three of etcd.
    Commits {
        /// Where both keep their data.
        #[arg(long)]
        directory: PathBuf,
        /// The etcd binary.
        #[arg(long, default_value = "/usr/bin/etcd")]
        etcd: PathBuf,
        /// Only one of the two.
        #[arg(long, value_enum)]
        only: Option<Only>,
        /// Seconds of each run.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Rounds of each row.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Client threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Only rows with these numbers of clients.
        #[arg(long, value_delimiter = ',')]
        clients: Vec<usize>,
        /// Milliseconds that strace makes each sync of every node take longer; then there is one row, of 64 clients.
        #[arg(long)]
        slow_sync: Option<u64>,
        /// JSON for programs instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// What a snapshot of three metadata nodes costs, and giving it to a fourth that has nothing.
    Snapshot {
        /// Where they keep their data.
        #[arg(long)]
        directory: PathBuf,
        /// Objects of 300 bytes, kept in the FAT itself.
        #[arg(long, default_value_t = 2_000_000)]
        keys: u64,
        /// Client threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// JSON for programs instead of text.
        #[arg(long)]
        json: bool,
    },
    /// What the disk can do: append and fdatasync at the table's sizes.
    Disk {
        /// A directory on that disk.
        #[arg(long)]
        directory: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// A plain HTTP server from memory, as an upper bound; runs until it is stopped.
    Bound {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:9999")]
        listen: SocketAddr,
        /// Seed of the bodies, as in `run --seed`.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Time from starting a server to its first answer; the server is stopped each time.
    Start {
        /// Address that answers once the server is up.
        #[arg(long)]
        address: SocketAddr,
        /// How often.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// The command that starts it, after `--`.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Bytes on disk per user byte after putting many objects; they are left there.
    DiskRatio {
        /// The endpoint, with data=.
        #[arg(long = "target", value_parser = Target::parse)]
        target: Target,
        /// Objects.
        #[arg(long, default_value_t = 1_000_000)]
        objects: u64,
        /// Size of each.
        #[arg(long, default_value = "4KiB", value_parser = parse_bytes)]
        size: u64,
        /// Connections.
        #[arg(long, default_value_t = 64)]
        connections: usize,
    },
}

/// A metadata service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Ullage's.
    Ullage,
    /// etcd.
    Etcd,
}

#[derive(Args)]
struct Endpoints {
    /// The first endpoint.
    #[arg(long, value_parser = Target::parse)]
    a: Target,
    /// The second endpoint.
    #[arg(long, value_parser = Target::parse)]
    b: Option<Target>,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Leave the objects.
    #[arg(long)]
    keep: bool,
}

#[derive(Args)]
struct Output {
    /// JSON for programs instead of a table.
    #[arg(long)]
    json: bool,
    /// Directory on whose disk the bounds are measured; the first endpoint's data directory by default.
    #[arg(long)]
    disk_directory: Option<PathBuf>,
}

#[derive(Args)]
struct Load {
    /// The operation.
    #[arg(long, value_enum)]
    workload: Workload,
    /// Object size.
    #[arg(long, default_value = "4KiB", value_parser = parse_bytes)]
    size: u64,
    /// Connections, each with one request in flight.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Client threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Seconds at most.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Operations at most.
    #[arg(long)]
    count: Option<u64>,
    /// Objects prepared for get, head, mixed, range, list and delete.
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    /// Length of a range.
    #[arg(long, default_value = "64KiB", value_parser = parse_bytes)]
    range: u64,
    /// Length of a part.
    #[arg(long, default_value = "16MiB", value_parser = parse_bytes)]
    part: u64,
    /// Parts of one upload in flight.
    #[arg(long, default_value_t = 4)]
    parts_in_flight: usize,
    /// Keys per listed page.
    #[arg(long, default_value_t = 1_000)]
    page: u32,
    /// Check every byte, length and ETag.
    #[arg(long)]
    verify: bool,
    /// Start of all randomness and contents.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Load {
    fn spec(&self) -> anyhow::Result<Spec> {
        ensure!(
            self.connections > 0 && self.parts_in_flight > 0 && self.part > 0,
            "nothing to do with 0 connections or parts"
        );
        let mut spec = Spec::new(self.workload, self.size, self.connections);
        spec.threads = self.threads;
        spec.limit.time = Duration::from_secs(self.seconds);
        spec.limit.operations = self.count.unwrap_or(u64::MAX);
        spec.keys = self.keys;
        spec.range_bytes = self.range;
        spec.part_bytes = self.part;
        spec.parts_in_flight = self.parts_in_flight;
        spec.page_keys = self.page;
        spec.verify = self.verify;
        spec.seed = self.seed;
        Ok(spec)
    }

    fn name(&self) -> String {
        format!(
            "{}-{}",
            self.workload.name(),
            show_size(self.size).replace(' ', "")
        )
    }
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    showing_logs_of_failures(|| run(command))
}

fn run(command: Commands) -> anyhow::Result<()> {
    match command {
        Commands::Run { target, load, output } => {
            let row = Comparison::measure(&load.name(), &target, None, &load.spec()?, 1, false)?;
            finish(&output, target.data.as_deref(), vec![row])
        }
        Commands::Compare {
            endpoints,
            load,
            output,
        } => {
            let spec = load.spec()?;
            let Endpoints { a, b, rounds, keep } = &endpoints;
            let row = Comparison::measure(&load.name(), a, b.as_ref(), &spec, *rounds, *keep)?;
            finish(&output, a.data.as_deref(), vec![row])
        }
        Commands::Table {
            endpoints,
            rows,
            seconds,
            threads,
            verify,
            output,
        } => {
            let measured = measure_table(&endpoints, &rows, seconds, threads, verify)?;
            finish(&output, endpoints.a.data.as_deref(), measured)
        }
        Commands::Cluster {
            directory,
            garage,
            garage_fsync,
            rows,
            rounds,
            seconds,
            threads,
            output,
        } => {
            std::fs::create_dir_all(&directory).context("make the directory")?;
            // What is compared must lie on one disk. An error means that the directory was set before.
            let _ = tempfile::env::override_temp_dir(&directory);
            let runtime = tokio::runtime::Runtime::new().context("start a runtime")?;
            let mut cluster = runtime.block_on(Cluster::start(three_vendors()))?;
            let garage = garage
                .map(|program| Garage::start(&program, &directory, garage_fsync))
                .transpose()?;
            let endpoints = Endpoints {
                a: Target::of_cluster(&mut cluster)?,
                b: garage.as_ref().map(Garage::target),
                rounds,
                keep: false,
            };
            let measured = measure_table(&endpoints, &rows, seconds, threads, false)?;
            finish(&output, Some(&directory), measured)
        }
        Commands::Commits {
            directory,
            etcd,
            only,
            seconds,
            rounds,
            threads,
            clients,
            slow_sync,
            json,
        } => {
            let time = Duration::from_secs(seconds);
            let options = commits::Options {
                directory,
                etcd: (only != Some(Only::Ullage)).then_some(etcd),
                ullage: only != Some(Only::Etcd),
                time,
                rounds,
                clients,
                slow_sync: slow_sync.map(Duration::from_millis),
            };
            measure_commits(&options, threads, json)
        }
        Commands::Snapshot {
            directory,
            keys,
            threads,
            json,
        } => {
            let report = runtime(threads)?.block_on(commits::snapshot::measure(&directory, keys))?;
            match json {
                true => println!("{}", serde_json::to_string_pretty(&report).context("write JSON")?),
                false => println!("{}", report.text()),
            }
            Ok(())
        }
        Commands::Disk { directory, output } => {
            let output = Output {
                disk_directory: Some(directory),
                ..output
            };
            finish(&output, None, Vec::new())
        }
        Commands::Bound { listen, seed } => {
            let runtime = tokio::runtime::Runtime::new().context("start a runtime")?;
            runtime.block_on(async {
                let bound = Bound::start(listen, bound::Options { seed, etags: false }).await?;
                println!("listening on http://{}", bound.address);
                tokio::signal::ctrl_c().await.context("wait for the end")
            })
        }
        Commands::Start {
            address,
            rounds,
            command,
        } => measure_start(address, rounds, &command),
        Commands::DiskRatio {
            target,
            objects,
            size,
            connections,
        } => disk_ratio(&target, objects, size, connections),
    }
}

/// Three vendors of one device each, and three copies.
fn three_vendors() -> Plan {
    let agent = AgentPlan {
        devices: 1,
        device_capacity: 16 << 30,
        ..AgentPlan::default()
    };
    Plan {
        metads: 3,
        agents: vec![agent; 3],
        gateways: 1,
        copies: 3,
        ..Plan::default()
    }
}

fn measure_table(
    endpoints: &Endpoints,
    names: &[String],
    seconds: u64,
    threads: usize,
    verify: bool,
) -> anyhow::Result<Vec<Comparison>> {
    let rows = table::rows(seconds);
    for name in names {
        let known: Vec<&str> = rows.iter().map(|row| row.name).collect();
        ensure!(
            known.contains(&name.as_str()),
            "no row {name}; there are {}",
            known.join(", ")
        );
    }
    let mut measured = Vec::new();
    for mut row in rows
        .into_iter()
        .filter(|row| names.is_empty() || names.iter().any(|name| name == row.name))
    {
        eprintln!("{} …", row.name);
        row.spec.threads = threads;
        row.spec.verify = verify;
        let Endpoints { a, b, rounds, keep } = endpoints;
        let mut comparison = Comparison::measure(row.name, a, b.as_ref(), &row.spec, *rounds, *keep)?;
        comparison.goal = Some(row.goal.to_owned());
        measured.push(comparison);
    }
    Ok(measured)
}

fn finish(output: &Output, data: Option<&Path>, rows: Vec<Comparison>) -> anyhow::Result<()> {
    let directory = output
        .disk_directory
        .as_deref()
        .or(data)
        .unwrap_or(Path::new("."));
    let sizes = [4 << 10, 64 << 10, 128 << 10, 1 << 20, 16 << 20];
    let report = Report {
        disk: disk::measure(directory, &sizes, Duration::from_secs(1))?,
        rows,
    };
    if output.json {
        println!("{}", serde_json::to_string_pretty(&report).context("write JSON")?);
    } else {
        println!("{}", report.table());
    }
    let failures: u64 = report
        .rows
        .iter()
        .flat_map(|row| row.a.iter().chain(&row.b))
        .map(|summary| summary.errors)
        .sum();
    ensure!(failures == 0, "{failures} operations failed");
    Ok(())
}

fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
        .context("start a runtime")
}

fn measure_commits(options: &commits::Options, threads: usize, json: bool) -> anyhow::Result<()> {
    let report = runtime(threads)?.block_on(commits::measure(options))?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report).context("write JSON")?),
        false => println!("{}", report.table()),
    }
    Ok(())
}

fn measure_start(address: SocketAddr, rounds: u32, command: &[String]) -> anyhow::Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("no command")
    };
    let mut times = Vec::new();
    for round in 0..rounds {
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let answered = wait_answer(address, begun + Duration::from_secs(60), &mut child);
        let time = begun.elapsed();
        child.kill().context("stop the server")?;
        child.wait().context("wait for the server")?;
        answered?;
        println!("round {}: {}", round + 1, show_time(time.as_secs_f64()));
        times.push(time.as_secs_f64());
    }
    println!("median: {}", show_time(median(&times)));
    Ok(())
}

/// Waits for any HTTP answer: a refusal for lack of a signature is one too.
fn wait_answer(
    address: SocketAddr,
    deadline: Instant,
    child: &mut std::process::Child,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    loop {
        let status = runtime.block_on(ullage_integration::http1::http_status(address, "/"));
        if status.is_ok_and(|status| status != 503) {
            return Ok(());
        }
        ensure!(
            child.try_wait().context("look at the server")?.is_none(),
            "the server ended before it answered"
        );
        ensure!(Instant::now() < deadline, "the server did not answer");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn disk_ratio(target: &Target, objects: u64, size: u64, connections: usize) -> anyhow::Result<()> {
    let data = target.data.clone().context("the target needs data=DIR")?;
    let mut spec = Spec::new(Workload::Put, size, connections);
    spec.limit.operations = objects;
    spec.limit.time = Duration::from_secs(24 * 3600);
    let before = disk_bytes(&data);
    let summary = Prepared::new(target, &spec, "disk-ratio")?.run()?;
    let after = disk_bytes(&data);
    let user = (summary.operations * size) as f64;
    println!(
        "{} objects of {}: {} bytes on disk before, {} after, {:.2} per user byte ({} errors)",
        summary.operations,
        show_size(size),
        before,
        after,
        after.saturating_sub(before) as f64 / user.max(1.0),
        summary.errors
    );
    Ok(())
}
