//! The simulator: the real services over the real transport on a simulated network, simulated disks and simulated
//! time, with faults that follow from a seed. See docs/testing.md.
//!
//! - [`plan`]: what befalls the cluster; [`driver`]: makes it happen; [`stage`]: how far the run is.
//! - [`raft`], with [`register`]: replication groups alone.
//! - [`network`], [`time`], [`entropy`]: what the services get instead of the machine's.
//! - [`history`], [`linearizability`]: what clients saw, and whether that can be.
//! - [`process`]: one process per seed. [`watch`]: panics, errors, and the digest of a run.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod cluster;
mod driver;
mod entropy;
mod gateway;
mod history;
mod linearizability;
mod metad;
mod network;
mod plan;
mod process;
mod raft;
mod register;
mod stage;
mod time;
mod traffic;
mod vendor;
mod watch;

use cluster::ClusterScenario;
use driver::Driver;
use history::History;
use plan::{Defect, Plan, Shape};
use process::Ended;
use raft::RaftScenario;
use stage::Stage;
use tracing::Level;

/// Seeds of replication groups alone, unless the environment says otherwise.
const RAFT_SEEDS: u64 = 300;
/// Seeds of whole clusters, unless the environment says otherwise.
const CLUSTER_SEEDS: u64 = 120;

/// One seed, as the environment names it. This is what the other tests start in processes of its own, and what
/// replays a seed that failed.
#[test]
#[ignore = "one seed, by ULLAGE_SIM_SEED and ULLAGE_SIM_SHAPE"]
fn one_seed() {
    let seed = process::number(process::SEED).expect("ULLAGE_SIM_SEED names the seed");
    let shape = std::env::var(process::SHAPE).ok();
    let shape = shape.as_deref().map_or(Some(Shape::Cluster), Shape::named);
    let shape = shape.expect("ULLAGE_SIM_SHAPE is cluster or raft");
    let defect = std::env::var(process::DEFECT).ok();
    let defect = defect.map(|name| Defect::named(&name).expect("ULLAGE_SIM_DEFECT names a defect"));
    watch::note_panics();
    let print = std::env::var(process::PRINT).ok();
    let print: Option<Level> = print.map(|level| level.parse().expect("ULLAGE_SIM_PRINT is a log level"));
    let plan = Plan::of(shape, seed, defect);
    // A thread of its own: the order of this one's hash maps was drawn before anybody could seed it.
    let simulated = std::thread::spawn(move || {
        entropy::seed_this_thread(seed);
        simulate(&plan, print)
    });
    if let Err(panic) = simulated.join() {
        std::panic::resume_unwind(panic);
    }
}

fn simulate(plan: &Plan, print: Option<Level>) {
    let subscriber = watch::Subscribed {
        print,
        network: std::env::var_os(process::TRACE).is_some(),
    };
    let result = tracing::subscriber::with_default(subscriber, || run(plan, print.is_some()));
    let transcript = match result {
        Ok(transcript) => transcript,
        Err(error) => {
            println!("{plan:#?}");
            panic!("seed {}: {error:#}", plan.seed);
        }
    };
    let kept = watch::take_kept();
    assert_eq!(watch::panics(), Vec::<String>::new(), "a task panicked");
    assert_eq!(kept.errors, Vec::<String>::new(), "a person must look");
    let transcript = blake3::hash(transcript.as_bytes()).to_hex()[..16].to_owned();
    println!(
        "{}{transcript} {} {}",
        process::DIGEST,
        kept.events,
        kept.digest()
    );
}

fn run(plan: &Plan, verbose: bool) -> anyhow::Result<String> {
    let scratch = tempfile::Builder::new().prefix("ullage-sim-").tempdir()?;
    let (stage, history) = (Stage::default(), History::default());
    match plan.shape {
        Shape::Raft => {
            let scenario = RaftScenario::new(plan, &stage, &history, scratch.path());
            Driver::new(plan.clone(), stage, history.clone(), scenario, verbose).run()?;
        }
        Shape::Cluster => {
            let scenario = ClusterScenario::new(plan, &stage, &history, scratch.path());
            Driver::new(plan.clone(), stage, history.clone(), scenario, verbose).run()?;
        }
    }
    let (answered, open, reads) = history.counts();
    println!("{answered} writes answered, {open} open, {reads} reads");
    Ok(history.transcript())
}

fn all_pass(shape: Shape, count: u64) {
    let seeds = match process::number(process::SEED) {
        Some(seed) => vec![seed],
        None => {
            let first = process::number(process::FIRST).unwrap_or(1);
            let count = process::number(process::SEEDS).unwrap_or(count);
            (first..first + count).collect()
        }
    };
    if let Some(failed) = process::run_all(shape, &seeds) {
        panic!("{}", failed.report(shape));
    }
    println!("{} seeds passed", seeds.len());
}

/// Replication groups keep what they acknowledged, whatever befalls them.
#[test]
fn raft_seeds() {
    all_pass(Shape::Raft, RAFT_SEEDS);
}

/// Clusters keep what they acknowledged, whatever befalls them, and store again when it is over.
#[test]
fn cluster_seeds() {
    all_pass(Shape::Cluster, CLUSTER_SEEDS);
}

fn repeats(shape: Shape, seed: u64) {
    let runs: Vec<Ended> = (0..2).map(|_| process::run(shape, seed, None, true)).collect();
    for run in &runs {
        assert!(run.passed, "{}", run.report(shape));
    }
    assert!(runs[0].digest().is_some(), "a run tells its digest");
    assert_eq!(
        runs[0].digest(),
        runs[1].digest(),
        "seed {seed} does not repeat itself"
    );
}

/// The same seed does the same, message by message.
#[test]
fn a_raft_seed_repeats_itself() {
    repeats(Shape::Raft, 7);
}

/// So it is with a whole cluster.
#[test]
fn a_cluster_seed_repeats_itself() {
    repeats(Shape::Cluster, 2);
}

/// Disks that only say they sync are found out: the simulation can fail.
#[test]
fn lying_disks_are_found_out() {
    let found = (1..=12).any(|seed| {
        let ended = process::run(Shape::Raft, seed, Some("disks-lie"), false);
        !ended.passed && ended.output.contains("is not linearizable")
    });
    assert!(found, "no seed noticed that acknowledged writes were not durable");
}
