//! The lane: one worker per device that gathers what many callers want written, makes it durable as one
//! group, enters it in the local FAT and tells them. What a record means to its sender is not known here.

use crate::device::record::{PieceHeader, Record, RecordBody};
use crate::device::{Device, DeviceError, Location, Purpose, Wait};
use crate::error::AgentError;
use crate::local_fat::{Applied, LocalFat};
use crate::metrics::Metrics;
use crate::sync::{Shared, lock};
use crate::workers::{Worker, Workers};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use ullage_model::ids::{DeviceId, Epoch};

/// Bytes of payload in one group.
const GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Jobs in one group.
const GROUP_JOBS_MAX: usize = 1024;

/// Called by the lane's worker with what became of a piece; must not block.
pub type PutDone = Box<dyn FnOnce(Result<Location, DeviceError>) + Send>;

/// A piece that compaction writes again.
#[derive(Clone, Debug)]
pub struct MovedPiece {
    /// The piece.
    pub header: PieceHeader,
    /// Where it lies now.
    pub from: Location,
    /// Its record's payload, as it is on the medium.
    pub payload: Bytes,
}

/// Something to write.
pub enum Job {
    /// A new piece.
    Put {
        /// Its record's header fields.
        header: PieceHeader,
        /// Its payload.
        payload: Vec<Bytes>,
        /// Told when it is durable and in the local FAT.
        done: PutDone,
    },
    /// A record that is not a piece, and what it means.
    Control {
        /// The record.
        body: RecordBody,
        /// Its meaning for the index.
        applied: Applied,
        /// Told when it is durable and in the local FAT.
        done: oneshot::Sender<Result<(), DeviceError>>,
    },
    /// Pieces to write again unless they are dead meanwhile.
    Move {
        /// The pieces.
        pieces: Vec<MovedPiece>,
        /// Told when they are durable and in the local FAT.
        done: oneshot::Sender<Result<(), DeviceError>>,
    },
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    stopping: bool,
}

/// What the lane tells others after each group.
pub trait LaneListener: Send + Sync + 'static {
    /// A group has been written (or has failed) and its jobs were told.
    fn group_ended(&self);
    /// Records of these locations are dead: their devices may give the room back.
    fn died(&self, locations: Vec<(DeviceId, Location)>);
    /// The device failed.
    fn failed(&self, device: DeviceId);
}

/// The queue in front of one device.
pub struct Lane {
    device: Arc<dyn Device>,
    fat: Arc<LocalFat>,
    epoch: Arc<AtomicU16>,
    queue: Shared<Queue>,
    wake: Notify,
    workers: Workers,
    queued_bytes: AtomicU64,
    index_failure: Shared<Option<String>>,
    listener: Arc<dyn LaneListener>,
    metrics: Arc<Metrics>,
}

impl Lane {
    /// Starts the lane of `device`. Its worker ends after [`Lane::stop`].
    ///
    /// # Errors
    /// When the worker cannot be started.
    pub fn start(
        device: Arc<dyn Device>,
        fat: Arc<LocalFat>,
        epoch: Arc<AtomicU16>,
        listener: Arc<dyn LaneListener>,
        metrics: Arc<Metrics>,
        workers: Workers,
    ) -> Result<(Arc<Self>, Worker), AgentError> {
        let name = format!("lane-{}", device.id().0);
        let lane = Arc::new(Self {
            device,
            fat,
            epoch,
            queue: Shared::default(),
            wake: Notify::new(),
            workers,
            queued_bytes: AtomicU64::new(0),
            index_failure: Shared::default(),
            listener,
            metrics,
        });
        let runner = Arc::clone(&lane);
        let worker = workers.start(name, async move { runner.run().await })?;
        Ok((lane, worker))
    }

    /// Queues a job. Pieces are bounded by the intake's memory, the rest by the batches of the wire.
    pub fn submit(&self, job: Job) {
        let bytes = job_bytes(&job) as u64;
        let mut queue = lock(&self.queue);
        if queue.stopping {
            drop(queue);
            refuse(
                job,
                &DeviceError::Gone {
                    device: self.device.id(),
                    reason: "the agent stops".to_owned(),
                },
            );
            return;
        }
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        queue.jobs.push_back(job);
        drop(queue);
        self.wake.notify_one();
    }

    /// Bytes waiting to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Why the lane writes nothing any more, if the index failed under it.
    #[must_use]
    pub fn index_failure(&self) -> Option<String> {
        lock(&self.index_failure).clone()
    }

    /// Ends the worker when the queue is empty; later jobs are refused.
    pub fn stop(&self) {
        lock(&self.queue).stopping = true;
        self.wake.notify_one();
    }

    async fn run(&self) {
        while let Some(group) = self.next_group().await {
            let bytes: usize = group.iter().map(job_bytes).sum();
            let failed = self.index_failure();
            if let Some(reason) = failed {
                let error = DeviceError::Poisoned {
                    device: self.device.id(),
                    reason,
                };
                group.into_iter().for_each(|job| refuse(job, &error));
            } else {
                self.write(group).await;
            }
            self.queued_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
            self.listener.group_ended();
        }
    }

    /// The jobs that are written together next; `None` when there will be no more.
    async fn next_group(&self) -> Option<Vec<Job>> {
        loop {
            {
                let mut queue = lock(&self.queue);
                if !queue.jobs.is_empty() {
                    return Some(take_group(&mut queue));
                }
                if queue.stopping {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    async fn write(&self, group: Vec<Job>) {
        let epoch = Epoch(self.epoch.load(Ordering::Relaxed));
        let mut records = Vec::with_capacity(group.len());
        let mut meanings = Vec::with_capacity(group.len());
        let mut dones = Vec::with_capacity(group.len());
        let mut purpose = Purpose::Upkeep;
        for job in group {
            match job {
                Job::Put {
                    header,
                    payload,
                    done,
                } => {
                    purpose = Purpose::Store;
                    records.push(Record {
                        epoch,
                        body: RecordBody::Piece(header, payload),
                    });
                    meanings.push(Applied::NewPiece(header));
                    dones.push(Done::Put(done));
                }
                Job::Control { body, applied, done } => {
                    records.push(Record { epoch, body });
                    meanings.push(applied);
                    dones.push(Done::Told(done));
                }
                Job::Move { pieces, done } => {
                    for piece in pieces {
                        if !self.is_current(&piece) {
                            continue;
                        }
                        let body = RecordBody::Piece(piece.header, vec![piece.payload]);
                        records.push(Record { epoch, body });
                        meanings.push(Applied::MovedPiece(piece.header, piece.from));
                    }
                    dones.push(Done::Told(done));
                }
            }
        }
        match self.write_records(&records, meanings, purpose).await {
            Ok(locations) => {
                for (index, done) in dones.into_iter().enumerate() {
                    done.tell(Ok(locations.get(index).copied().unwrap_or_default()));
                }
            }
            Err(error) => {
                dones.into_iter().for_each(|done| done.tell(Err(error.clone())));
                self.listener.failed(self.device.id());
            }
        }
    }

    async fn write_records(
        &self,
        records: &[Record],
        meanings: Vec<Applied>,
        purpose: Purpose,
    ) -> Result<Vec<Location>, DeviceError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        self.pause().await;
        let durable = self.device.put_batch(records, purpose)?;
        self.pause().await;
        self.metrics.group_written(records.len(), begun.elapsed());
        let entered: Vec<(Location, Applied)> = durable.locations.iter().copied().zip(meanings).collect();
        match self.fat.apply(self.device.id(), &entered, durable.end) {
            Ok(dead) => {
                if !dead.is_empty() {
                    self.listener.died(dead);
                }
                Ok(durable.locations)
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(device = %self.device.id(), reason, "index failed; the device takes no more writes");
                *lock(&self.index_failure) = Some(reason.clone());
                Err(DeviceError::Poisoned {
                    device: self.device.id(),
                    reason,
                })
            }
        }
    }

    /// Half of what a medium in memory is said to take: before the bytes are there, and before that is told.
    async fn pause(&self) {
        if let Some(flush) = self.workers.flush() {
            tokio::time::sleep(flush / 2).await;
        }
    }

    fn is_current(&self, piece: &MovedPiece) -> bool {
        match self.fat.lookup(piece.header.copy, Wait::ForMedium) {
            Ok(entry) => entry
                .iter()
                .flat_map(|entry| &entry.pieces)
                .any(|(first_frame, row)| {
                    *first_frame == piece.header.first_frame
                        && row.device == self.device.id()
                        && row.location() == piece.from
                }),
            // Moved for nothing at worst; what matters is decided when the old segment goes.
            Err(_) => false,
        }
    }
}

/// Jobs from the head of the queue that go together: pieces with pieces, control records with their like.
fn take_group(queue: &mut Queue) -> Vec<Job> {
    let mut group = Vec::new();
    let mut bytes = 0;
    while let Some(job) = queue.jobs.front() {
        bytes += job_bytes(job);
        let joins = match (group.first(), job) {
            (None, _) => true,
            (Some(Job::Put { .. }), Job::Put { .. }) | (Some(Job::Control { .. }), Job::Control { .. }) => {
                bytes <= GROUP_BYTES_MAX && group.len() < GROUP_JOBS_MAX
            }
            _ => false,
        };
        if !joins {
            break;
        }
        group.extend(queue.jobs.pop_front());
    }
    group
}

enum Done {
    Put(PutDone),
    Told(oneshot::Sender<Result<(), DeviceError>>),
}

impl Done {
    fn tell(self, result: Result<Location, DeviceError>) {
        match self {
            Self::Put(done) => done(result),
            Self::Told(done) => {
                // A caller that no longer waits needs no answer.
                let _ = done.send(result.map(drop));
            }
        }
    }
}

fn refuse(job: Job, error: &DeviceError) {
    match job {
        Job::Put { done, .. } => done(Err(error.clone())),
        Job::Control { done, .. } | Job::Move { done, .. } => Done::Told(done).tell(Err(error.clone())),
    }
}

fn job_bytes(job: &Job) -> usize {
    match job {
        Job::Put { payload, .. } => payload.iter().map(Bytes::len).sum(),
        Job::Control { .. } => 0,
        Job::Move { pieces, .. } => pieces.iter().map(|piece| piece.payload.len()).sum(),
    }
}
