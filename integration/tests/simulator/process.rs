//! Each seed runs in a process of its own, this test binary started again: nothing that earlier seeds left in
//! memory changes it, so that it replays exactly, and what fails takes no other seed along.

use crate::plan::Shape;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The environment variable that names the one seed to run.
pub const SEED: &str = "ULLAGE_SIM_SEED";
/// The environment variable that says how many seeds to run.
pub const SEEDS: &str = "ULLAGE_SIM_SEEDS";
/// The environment variable that names the first of them.
pub const FIRST: &str = "ULLAGE_SIM_FIRST";
/// The environment variable that puts a defect into the simulated cluster; see [`super::plan::Defect`].
pub const DEFECT: &str = "ULLAGE_SIM_DEFECT";

/// The environment variable that says what is simulated: `cluster` or `raft`.
pub const SHAPE: &str = "ULLAGE_SIM_SHAPE";
/// The environment variable that makes a run print what happens, from this log level up.
pub const PRINT: &str = "ULLAGE_SIM_PRINT";
/// The environment variable that takes every message of the network into the digest.
pub const TRACE: &str = "ULLAGE_SIM_TRACE";

/// A number from the environment.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
    )
}

/// Prefix of the line in which a run tells its digest.
pub const DIGEST: &str = "digest of the run: ";

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which.
    pub seed: u64,
    /// Whether all held.
    pub passed: bool,
    /// What it printed.
    pub output: String,
}

impl Ended {
    /// The digest of everything that happened in it.
    pub fn digest(&self) -> Option<&str> {
        self.output.lines().find_map(|line| line.strip_prefix(DIGEST))
    }

    /// How to have it again, and what it said.
    pub fn report(&self, shape: Shape) -> String {
        let output: Vec<&str> = self.output.lines().collect();
        let tail = output[output.len().saturating_sub(250)..].join("\n");
        let Self { seed, .. } = self;
        let shape = shape.name();
        format!(
            "seed {seed} failed; again: {SEED}={seed} {SHAPE}={shape} {PRINT}=info cargo test --release \
             --workspace --test simulator -- --ignored --exact one_seed --nocapture\n{tail}"
        )
    }
}

/// Runs one seed in a process of its own.
pub fn run(shape: Shape, seed: u64, defect: Option<&str>, trace: bool) -> Ended {
    let binary = std::env::current_exe().expect("this binary has a path");
    let mut command = Command::new(binary);
    command
        .args([
            "--ignored",
            "--exact",
            "one_seed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(SEED, seed.to_string())
        .env(SHAPE, shape.name())
        .env_remove(DEFECT)
        .env_remove(PRINT)
        .env_remove(TRACE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(defect) = defect {
        command.env(DEFECT, defect);
    }
    if trace {
        command.env(TRACE, "1");
    }
    let mut child = command.spawn().expect("this binary starts again");
    let mut stderr = child.stderr.take().expect("its output is ours");
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What cannot be read any more is not there.
        let _ = stderr.read_to_end(&mut text);
        text
    });
    let mut output = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let _ = stdout.read_to_end(&mut output);
    }
    let status = child.wait().expect("it ends");
    output.extend(errors.join().unwrap_or_default());
    Ended {
        seed,
        passed: status.success(),
        output: String::from_utf8_lossy(&output).into_owned(),
    }
}

/// Runs seeds, as many at a time as there are processors, until one fails. Answers the first that failed.
pub fn run_all(shape: Shape, seeds: &[u64]) -> Option<Ended> {
    let lanes = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failed = Mutex::new(None::<Ended>);
    std::thread::scope(|scope| {
        for _ in 0..lanes.min(seeds.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed)
                    && let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let ended = run(shape, seed, None, false);
                    if !ended.passed {
                        stop.store(true, Ordering::Relaxed);
                        failed.lock().expect("nobody panicked").get_or_insert(ended);
                    }
                }
            });
        }
    });
    failed.into_inner().expect("nobody panicked")
}
