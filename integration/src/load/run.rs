//! A run: prepare objects, start the workers on all threads at one moment, count, clean up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::load::lane::{Context, Failure, Lane, after, insist, upload};
use crate::load::stats::{Counts, Summary};
use crate::load::target::Target;
use crate::load::workload::{Spec, Workload};
use crate::process::{processor_time, processor_times};
use crate::seed::generator;

/// Connections that prepare and remove objects.
const SETUP_CONNECTIONS: usize = 64;
/// Of ten operations of a mixed run, those that are GETs.
const MIXED_GETS: u32 = 7;
/// Failures after which a worker gives up: a server that is gone would otherwise be asked without end.
const FAILURES: u64 = 1_000;

/// Objects of one workload at one endpoint, ready to be measured.
pub struct Prepared {
    target: Target,
    spec: Spec,
    prefix: String,
    prepared: u64,
    written: u64,
    rounds: u64,
}

impl Prepared {
    /// Makes the bucket and what the workload needs. `name` sets the keys of different workloads apart.
    ///
    /// # Errors
    /// If an object cannot be put.
    pub fn new(target: &Target, spec: &Spec, name: &str) -> anyhow::Result<Self> {
        let prefix = format!("bench-{:016x}/{name}", rand::random::<u64>());
        let mut prepared = Self {
            target: target.clone(),
            spec: spec.clone(),
            prefix,
            prepared: 0,
            written: 0,
            rounds: 0,
        };
        let context = prepared.context();
        on_one_thread(async move { Lane::new(&context).ensure_bucket().await })?;
        prepared.prepare()?;
        Ok(prepared)
    }

    fn context(&self) -> Arc<Context> {
        Context::new(&self.target, &self.spec, &self.prefix)
    }

    /// Puts the prepared objects that are not there (yet, or any more).
    ///
    /// # Errors
    /// If an object cannot be put.
    pub fn prepare(&mut self) -> anyhow::Result<()> {
        if self.spec.workload.needs_objects() && self.prepared == 0 {
            let context = self.context();
            for_each(&context, self.spec.keys, async |lane, index| {
                let key = lane.context.prepared_key(index);
                insist(async || lane.put(&key).await).await
            })?;
            self.prepared = self.spec.keys;
        }
        Ok(())
    }

    /// One measured run.
    ///
    /// # Errors
    /// If no connection can be opened, or a worker fails beyond its operations.
    pub fn run(&mut self) -> anyhow::Result<Summary> {
        self.prepare()?;
        self.rounds += 1;
        let next = Arc::new(AtomicU64::new(0));
        let threads = self.spec.threads.clamp(1, self.spec.connections.max(1));
        let barrier = Arc::new(Barrier::new(threads + 1));
        let mut workers = Vec::new();
        for thread in 0..threads {
            let connections =
                self.spec.connections / threads + usize::from(thread < self.spec.connections % threads);
            let share = Share {
                context: self.context(),
                next: Arc::clone(&next),
                connections,
                base: self.written,
                seed: self.spec.seed ^ (self.rounds << 32) ^ ((thread as u64) << 16),
            };
            let barrier = Arc::clone(&barrier);
            workers.push(std::thread::spawn(move || on_one_thread(share.work(&barrier))));
        }
        let pids = &self.target.pids;
        let server_before = processor_times(pids)?;
        let client_before = processor_time(std::process::id())?;
        barrier.wait();
        let begun = Instant::now();
        let mut counts = Counts::default();
        let mut last = begun;
        let mut failed = None;
        for worker in workers {
            match worker.join().map_err(|_| anyhow!("a client thread panicked"))? {
                Ok((part, ended)) => {
                    counts.merge(part);
                    last = last.max(ended);
                }
                Err(error) => failed = Some(error),
            }
        }
        let server = processor_times(pids)?.saturating_sub(server_before);
        let server = (!pids.is_empty()).then_some(server);
        let client = processor_time(std::process::id())?.saturating_sub(client_before);
        let taken = next.load(Ordering::Relaxed);
        match self.spec.workload {
            Workload::Put | Workload::Mixed | Workload::Multipart => self.written += taken,
            Workload::Delete => self.remove_prepared()?,
            _ => {}
        }
        failed.map_or(Ok(()), Err)?;
        Ok(Summary::new(
            &self.target.label,
            &counts,
            last - begun,
            server,
            client,
        ))
    }

    /// Removes every object that this one made.
    ///
    /// # Errors
    /// If one cannot be deleted.
    pub fn clean_up(&mut self) -> anyhow::Result<()> {
        self.remove_prepared()?;
        let context = self.context();
        let written = std::mem::take(&mut self.written);
        for_each(&context, written, async |lane, index| {
            let key = lane.context.new_key(index);
            insist(async || lane.delete(&key).await).await
        })
    }

    fn remove_prepared(&mut self) -> anyhow::Result<()> {
        let context = self.context();
        let prepared = std::mem::take(&mut self.prepared);
        for_each(&context, prepared, async |lane, index| {
            let key = lane.context.prepared_key(index);
            insist(async || lane.delete(&key).await).await
        })
    }
}

fn on_one_thread<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(future)
}

/// Does something for each index below `count`, over many connections; not measured.
fn for_each<F>(context: &Arc<Context>, count: u64, operation: F) -> anyhow::Result<()>
where
    F: AsyncFn(&mut Lane, u64) -> anyhow::Result<u64>,
{
    if count == 0 {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    let next = AtomicU64::new(0);
    let lanes = (0..SETUP_CONNECTIONS.min(usize::try_from(count).unwrap_or(usize::MAX))).map(|_| async {
        let mut lane = Lane::new(context);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return anyhow::Ok(());
            }
            operation(&mut lane, index).await?;
        }
    });
    runtime.block_on(futures::future::try_join_all(lanes)).map(|_| ())
}

/// One client thread's share of a run.
struct Share {
    context: Arc<Context>,
    next: Arc<AtomicU64>,
    connections: usize,
    base: u64,
    seed: u64,
}

impl Share {
    async fn work(self, barrier: &Barrier) -> anyhow::Result<(Counts, Instant)> {
        let multipart = self.context.spec.workload == Workload::Multipart;
        let lanes_each = if multipart {
            self.context.spec.parts_in_flight
        } else {
            1
        };
        let mut workers = Vec::new();
        let mut refused = None;
        for index in 0..self.connections {
            let mut lanes: Vec<Lane> = (0..lanes_each).map(|_| Lane::new(&self.context)).collect();
            for lane in &mut lanes {
                if let Err(error) = lane.connect().await {
                    refused = Some(error);
                }
            }
            workers.push(Worker {
                lanes,
                next: Arc::clone(&self.next),
                base: self.base,
                random: generator(self.seed, index as u64),
                counts: Counts::default(),
                token: None,
            });
        }
        // Every thread meets at the barrier, also one that cannot go on: the others wait for it there.
        barrier.wait();
        if let Some(error) = refused {
            return Err(error);
        }
        let deadline = Instant::now() + self.context.spec.limit.time;
        let mut tasks = Vec::new();
        for mut worker in workers {
            tasks.push(tokio::spawn(async move {
                worker.work(deadline).await;
                worker.counts
            }));
        }
        let mut counts = Counts::default();
        for task in tasks {
            counts.merge(task.await.context("join a worker")?);
        }
        Ok((counts, Instant::now()))
    }
}

struct Worker {
    lanes: Vec<Lane>,
    next: Arc<AtomicU64>,
    base: u64,
    random: StdRng,
    counts: Counts,
    token: Option<String>,
}

impl Worker {
    async fn work(&mut self, deadline: Instant) {
        let Some(spec) = self.lanes.first().map(|lane| lane.context.spec.clone()) else {
            return;
        };
        let bound = match spec.workload {
            Workload::Delete => spec.limit.operations.min(spec.keys),
            _ => spec.limit.operations,
        };
        let mut failures = 0;
        while failures < FAILURES && Instant::now() < deadline {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= bound {
                break;
            }
            let begun = Instant::now();
            match self.operation(&spec, index).await {
                Ok(bytes) => {
                    self.counts.latencies.record(begun.elapsed());
                    self.counts.operations += 1;
                    self.counts.bytes += bytes;
                }
                Err(failure) => match after(failure).await {
                    None => self.counts.refused += 1,
                    Some(words) => {
                        self.counts.errors += 1;
                        failures += 1;
                        self.counts.first_error.get_or_insert(words);
                    }
                },
            }
        }
    }

    async fn operation(&mut self, spec: &Spec, index: u64) -> Result<u64, Failure> {
        if spec.workload == Workload::Multipart {
            let Some(lane) = self.lanes.first() else {
                return Ok(0);
            };
            let key = lane.context.new_key(self.base + index);
            return upload(&mut self.lanes, &key).await;
        }
        let Some(lane) = self.lanes.first_mut() else {
            return Ok(0);
        };
        let context = Arc::clone(&lane.context);
        let random = self.random.random_range(0..spec.keys.max(1));
        match spec.workload {
            Workload::Put | Workload::Multipart => lane.put(&context.new_key(self.base + index)).await,
            Workload::Get => lane.get(&context.prepared_key(random), None).await,
            Workload::Head => lane.head(&context.prepared_key(random)).await,
            Workload::Mixed if self.random.random_range(0..10) < MIXED_GETS => {
                lane.get(&context.prepared_key(random), None).await
            }
            Workload::Mixed => lane.put(&context.new_key(self.base + index)).await,
            Workload::Range => {
                let offset = self
                    .random
                    .random_range(0..=spec.size.saturating_sub(spec.range_bytes));
                lane.get(&context.prepared_key(random), Some((offset, spec.range_bytes)))
                    .await
            }
            Workload::List => {
                let (bytes, token) = lane.list(self.token.as_deref()).await?;
                self.token = token;
                Ok(bytes)
            }
            Workload::Delete => lane.delete(&context.prepared_key(index)).await,
        }
    }
}
