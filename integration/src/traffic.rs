//! Seeded load with a record: writers that put, overwrite and delete keys of their own and note what
//! the server said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context as _;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;

use crate::content::Content;
use crate::history::{History, Outcome, State};
use crate::http1::Body;
use crate::patient::FIRST_PAUSE;
use crate::s3::{Request, S3};
use crate::seed::generator;

/// Smallest part of a multipart upload that S3 allows before the last one.
const PART_BYTES: u64 = 5 << 20;

/// What the writers do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The bucket, which must exist.
    pub bucket: String,
    /// Start of all randomness.
    pub seed: u64,
    /// Number of writers, each with one request in flight.
    pub writers: u64,
    /// Keys of each writer; fewer keys mean more overwriting.
    pub keys_per_writer: u64,
    /// Lengths to choose from.
    pub lengths: Vec<u64>,
    /// Every how many operations one is a delete; 0 for never.
    pub delete_every: u64,
    /// How often an operation is tried before its outcome is called unknown: once, or, as SDKs do, a few times
    /// with growing pauses.
    pub attempts: u32,
}

impl Plan {
    /// Small and middle objects, inline ones, ones of one chunk and of several, with overwrites and deletes.
    #[must_use]
    pub fn varied(bucket: &str, seed: u64) -> Self {
        Self {
            bucket: bucket.to_owned(),
            seed,
            writers: 8,
            keys_per_writer: 20,
            lengths: vec![0, 1, 100, 4096, 4097, 40_000, 300_000, 5_000_000, PART_BYTES + 77],
            delete_every: 6,
            attempts: 1,
        }
    }
}

/// Running writers.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    writers: Vec<JoinHandle<History>>,
}

impl Traffic {
    /// Starts the writers. `round` keeps the draws of successive starts apart; `before` is what is known
    /// of the keys so far.
    #[must_use]
    pub fn start(s3: &S3, plan: &Plan, round: u64, before: &History) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let writers = (0..plan.writers)
            .map(|index| {
                let mut writer = Writer {
                    s3: s3.clone(),
                    plan: plan.clone(),
                    index,
                    round,
                    random: generator(plan.seed, round * 1_000 + index),
                    history: own_part(before, index),
                };
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut step = 0;
                    while !stop.load(Ordering::Relaxed) {
                        if writer.step(step).await {
                            done.fetch_add(1, Ordering::Relaxed);
                        } else {
                            // The server is gone or refuses; asking at once again only burns the processor.
                            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                        }
                        step += 1;
                    }
                    writer.history
                })
            })
            .collect();
        Self { stop, done, writers }
    }

    /// Operations acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Lets each writer end the request in flight; returns the record of all.
    ///
    /// # Errors
    /// If a writer panicked.
    pub async fn finish(self) -> anyhow::Result<History> {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for writer in self.writers {
            history.merge(writer.await.context("join a writer")?);
        }
        Ok(history)
    }
}

fn key_of(writer: u64, number: u64) -> String {
    format!("writer-{writer}/key-{number:05}")
}

fn own_part(before: &History, writer: u64) -> History {
    let mut own = History::default();
    let prefix = format!("writer-{writer}/");
    for (key, allowed) in before.keys().filter(|(key, _)| key.starts_with(&prefix)) {
        own.settle(key, allowed.settled);
        for state in &allowed.open {
            own.record(key, *state, Outcome::Unknown);
        }
    }
    own.acknowledged = 0;
    own.unknown = 0;
    own
}

struct Writer {
    s3: S3,
    plan: Plan,
    index: u64,
    round: u64,
    random: StdRng,
    history: History,
}

impl Writer {
    /// One operation; whether it was acknowledged.
    async fn step(&mut self, step: u64) -> bool {
        let key = key_of(self.index, self.random.random_range(0..self.plan.keys_per_writer));
        let delete = self.plan.delete_every > 0 && self.random.random_range(0..self.plan.delete_every) == 0;
        let length = self.plan.lengths[self.random.random_range(0..self.plan.lengths.len())];
        let state = if delete {
            State::Absent
        } else {
            State::Holds(Content::new(
                self.plan.seed,
                &format!("{key}#{}.{step}", self.round),
                length,
            ))
        };
        let outcome = if self.perform_patiently(&key, state).await {
            Outcome::Acknowledged
        } else {
            Outcome::Unknown
        };
        self.history.record(&key, state, outcome);
        outcome == Outcome::Acknowledged
    }

    async fn perform_patiently(&mut self, key: &str, state: State) -> bool {
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=self.plan.attempts {
            match self.perform(key, state).await {
                Ok(true) => return true,
                Ok(false) | Err(_) if attempt == self.plan.attempts => {}
                Ok(false) | Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        false
    }

    async fn perform(&mut self, key: &str, state: State) -> anyhow::Result<bool> {
        let bucket = self.plan.bucket.clone();
        match state {
            State::Absent => {
                let answer = self
                    .s3
                    .send(&Request::object("DELETE", &bucket, key), Body::Empty)
                    .await?;
                Ok(answer.status() == 204)
            }
            State::Holds(content) if content.length > PART_BYTES => self
                .s3
                .put_multipart(&bucket, key, content, PART_BYTES)
                .await
                .map(|_| true),
            State::Holds(content) => {
                let answer = self
                    .s3
                    .send(&Request::object("PUT", &bucket, key), Body::Content(content))
                    .await?;
                Ok(answer.status() == 200)
            }
        }
    }
}
