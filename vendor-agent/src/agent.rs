//! The agent: its parts, how it starts and stops, and what it tells about itself. What it does with chunks,
//! reads and commands is in modules of their own.

use crate::comings::Configured;
use crate::config::Config;
use crate::device::data_dir::DataDir;
use crate::devices::{DeviceParts, Devices, ToStart};
use crate::error::AgentError;
use crate::grants::{ClusterClock, GrantContext, Grants};
use crate::heartbeat::Outbox;
use crate::ingest::Intake;
use crate::leases::Leases;
use crate::local_fat::{CopyEntry, LocalFat};
use crate::metrics::Metrics;
use crate::opening;
use crate::others::Others;
use crate::read::Buffers;
use crate::receipts::Signer;
use crate::seams::{AgentSeams, MetadClient, PeerSender, Seams};
use crate::sync::{Shared, lock};
use crate::workers::{Worker, Workers};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep};
use ullage_model::ids::{ClusterId, CopyId, DeviceId, Epoch, SessionId, VendorId};
use ullage_model::wire::chunk::{ChunkRefusal, PublicKey};

/// Reads that may wait for a medium at the same time.
const BLOCKING_READS: usize = 32;
/// How often chunks in flight are looked for at the stop.
const IDLE_LOOK: Duration = Duration::from_millis(10);

/// A vendor agent.
pub struct Agent {
    pub(crate) config: Config,
    pub(crate) metad: Arc<dyn MetadClient>,
    pub(crate) peers: Arc<dyn PeerSender>,
    pub(crate) data_dir: Shared<DataDir>,
    pub(crate) key: SigningKey,
    pub(crate) fat: Arc<LocalFat>,
    pub(crate) devices: Devices,
    pub(crate) signer: Arc<Signer>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) grants: Grants,
    pub(crate) time: ClusterClock,
    pub(crate) epoch: Arc<AtomicU16>,
    pub(crate) identity: OnceLock<(ClusterId, VendorId)>,
    pub(crate) ready: AtomicBool,
    pub(crate) stopping: AtomicBool,
    pub(crate) intake: Intake,
    pub(crate) report: Arc<Notify>,
    pub(crate) outbox: Outbox,
    pub(crate) damaged: Shared<BTreeMap<CopyId, bool>>,
    /// Copies reported lost that are here again, to be told.
    pub(crate) found: Shared<BTreeSet<CopyId>>,
    pub(crate) others: Others,
    /// The devices of the settings; held while devices are opened or closed.
    pub(crate) wanted: tokio::sync::Mutex<Vec<Configured>>,
    pub(crate) blocking_reads: Arc<Semaphore>,
    pub(crate) read_buffers: Arc<Buffers>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) workers: Workers,
    signer_worker: Shared<Option<Worker>>,
}

/// A copy as the local FAT lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalCopy {
    /// The copy.
    pub copy: CopyId,
    /// Plaintext bytes of its chunk.
    pub plaintext_bytes: u64,
    /// Every piece is there.
    pub complete: bool,
    /// Its lease is closed and the FAT names it.
    pub kept: bool,
    /// An erasure of it has begun.
    pub erased: bool,
    /// Its pieces.
    pub pieces: Vec<LocalPiece>,
}

/// A piece as the local FAT lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPiece {
    /// The device.
    pub device: DeviceId,
    /// First frame of the chunk in it.
    pub first_frame: u32,
    /// Frames in it.
    pub frames: u32,
    /// The segment it lies in.
    pub segment: u64,
    /// Offset of its record there.
    pub offset: u32,
    /// Bytes of its record.
    pub bytes: u32,
}

impl Agent {
    /// Opens the data directory and the devices and brings the local FAT up to date. Blocks; chunks are
    /// refused until [`Agent::run`] has heard from the metadata service.
    ///
    /// # Errors
    /// When the configuration is bad, or the data directory cannot be used. A device that cannot be used is
    /// reported gone and does not keep the agent from starting, unless it belongs to somebody else.
    pub fn open(config: Config, seams: Seams) -> Result<Arc<Self>, AgentError> {
        // Before anything is written.
        opening::check_config(&config, seams.devices.is_some())?;
        let (key_seed, seams) = seams.split();
        let data_dir = DataDir::open(&config.data, key_seed)?;
        Self::open_in(config, data_dir, seams)
    }

    /// As [`Agent::open`], in a data directory that is open already.
    ///
    /// # Errors
    /// As [`Agent::open`].
    pub(crate) fn open_in(
        config: Config,
        mut data_dir: DataDir,
        seams: AgentSeams,
    ) -> Result<Arc<Self>, AgentError> {
        opening::check_config(&config, seams.devices.is_some())?;
        if let (Some(theirs), Some((ours, _))) = (config.cluster, data_dir.identity()?)
            && ours != theirs
        {
            return Err(AgentError::OtherCluster { ours, theirs });
        }
        let index = LocalFat::open(&data_dir.index_path(), &seams.index, config.index_memory)?;
        let fat = Arc::new(index);
        let metrics = Arc::new(Metrics::new(&seams.registry)?);
        let injected = seams.devices.is_some();
        let to_start = match seams.devices {
            Some(devices) => devices
                .into_iter()
                .map(|(class, device)| ToStart {
                    id: device.id(),
                    class,
                    device: Some(device),
                })
                .collect(),
            None => opening::open_devices(&config.device, &mut data_dir)?,
        };
        let wanted = match injected {
            true => Vec::new(),
            false => Configured::all(&config.device, &to_start),
        };
        let to_start = to_start
            .into_iter()
            .map(|start| opening::replay(&fat, start, &metrics))
            .collect();
        let leases = Arc::new(Leases::new(fat.closed()?));
        let key = data_dir.key().clone();
        let workers = seams.workers;
        let (signer, signer_worker) = Signer::start(key.clone(), Arc::clone(&metrics), workers)?;
        let identity = OnceLock::new();
        if let Some((cluster, vendor)) = data_dir.identity()? {
            signer.set_identity(cluster, vendor);
            // Freshly made: nothing is set yet.
            let _ = identity.set((cluster, vendor));
        }
        let epoch = Arc::new(AtomicU16::new(0));
        let report = Arc::new(Notify::new());
        let devices = Devices::start(
            to_start,
            DeviceParts {
                fat: Arc::clone(&fat),
                epoch: Arc::clone(&epoch),
                signer: Arc::clone(&signer),
                report: Arc::clone(&report),
                metrics: Arc::clone(&metrics),
                compact_rate: config.compact_rate,
                workers,
            },
        )?;
        let intake = Intake::new(config.intake_memory, metrics.in_flight_bytes.clone());
        Ok(Arc::new(Self {
            config,
            metad: seams.metad,
            peers: seams.peers,
            data_dir: Shared::new(data_dir),
            key,
            fat,
            devices,
            signer,
            leases,
            grants: Grants::default(),
            time: ClusterClock::new(seams.clock),
            epoch,
            identity,
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            intake,
            report,
            outbox: Outbox::default(),
            damaged: Shared::default(),
            found: Shared::default(),
            others: Others::default(),
            wanted: tokio::sync::Mutex::new(wanted),
            blocking_reads: Arc::new(Semaphore::new(BLOCKING_READS)),
            read_buffers: Arc::default(),
            metrics,
            workers,
            signer_worker: Shared::new(Some(signer_worker)),
        }))
    }

    /// The vendor's public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// The vendor's id, once registered.
    #[must_use]
    pub fn vendor(&self) -> Option<VendorId> {
        self.identity.get().map(|(_, vendor)| *vendor)
    }

    /// Whether chunks and reads are taken: registered, heard from the metadata service, reconciled.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Bytes of chunks being received or waiting to be written.
    #[must_use]
    pub fn in_flight_bytes(&self) -> u64 {
        self.intake.in_use()
    }

    /// Where the devices are, in order of their ids.
    #[must_use]
    pub fn device_paths(&self) -> Vec<(DeviceId, PathBuf)> {
        lock(&self.data_dir).device_paths()
    }

    /// Asks for a heartbeat now.
    pub fn kick(&self) {
        self.report.notify_one();
    }

    /// The local FAT, copy by copy in order of their names, after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the index fails.
    pub async fn list_copies(
        self: &Arc<Self>,
        after: Option<CopyId>,
        limit: usize,
    ) -> Result<Vec<LocalCopy>, AgentError> {
        let fat = Arc::clone(&self.fat);
        let entries = self.workers.blocking(move || fat.list(after, limit)).await??;
        Ok(entries.into_iter().map(LocalCopy::from).collect())
    }

    /// Takes no more chunks and reads from now on; those under way go on.
    pub fn refuse(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ready.store(false, Ordering::Release);
    }

    /// Returns when no chunk is in flight any more, or `most` has passed.
    pub(crate) async fn wait_idle(&self, most: Duration) {
        let until = Instant::now() + most;
        while self.in_flight_bytes() > 0 && Instant::now() < until {
            sleep(IDLE_LOOK).await;
        }
    }

    /// Stops the workers after what is queued is written, and writes the index out. Blocks. Later chunks are
    /// refused.
    ///
    /// # Errors
    /// When the index cannot be flushed: the next start replays more.
    pub fn close(&self) -> Result<(), AgentError> {
        self.refuse();
        self.devices.stop().into_iter().for_each(Worker::join);
        self.signer.stop();
        if let Some(worker) = lock(&self.signer_worker).take() {
            worker.join();
        }
        self.fat.flush()
    }

    /// As [`Agent::close`], for callers that must not block.
    pub(crate) async fn shut(self: &Arc<Self>) -> Result<(), AgentError> {
        self.refuse();
        self.end(self.devices.stop()).await?;
        self.signer.stop();
        let signer = lock(&self.signer_worker).take();
        self.end(signer).await?;
        let agent = Arc::clone(self);
        self.workers.blocking(move || agent.fat.flush()).await?
    }

    /// Waits for workers that were told to end.
    pub(crate) async fn end(&self, workers: impl IntoIterator<Item = Worker>) -> Result<(), AgentError> {
        let mut threads = Vec::new();
        for worker in workers {
            threads.extend(worker.joined().await);
        }
        if threads.is_empty() {
            return Ok(());
        }
        let joined = move || threads.into_iter().for_each(Worker::join);
        self.workers.blocking(joined).await
    }

    /// Whether chunks may come from `vendor`, which has shown a certificate of this cluster.
    pub(crate) fn takes_from(&self, vendor: VendorId) -> bool {
        !self.others.is_revoked(vendor)
    }

    pub(crate) fn identity(&self) -> Result<(ClusterId, VendorId), ChunkRefusal> {
        self.identity.get().copied().ok_or(ChunkRefusal::NotReady)
    }

    pub(crate) fn grant_context(&self, session: SessionId) -> Result<GrantContext, ChunkRefusal> {
        if !self.is_ready() {
            return Err(ChunkRefusal::NotReady);
        }
        let (cluster, vendor) = self.identity()?;
        let epoch = Epoch(self.epoch.load(Ordering::Relaxed));
        Ok(GrantContext {
            cluster,
            vendor,
            epoch,
            now: self.time.now(),
            session,
        })
    }

    /// Remembers a damaged (or lost) copy for the next heartbeat. When there are too many, it is found again.
    pub(crate) fn note_damaged(&self, copy: CopyId, lost: bool) {
        let known = lock(&self.damaged).contains_key(&copy);
        if self.remember_damaged(copy, lost, crate::heartbeat::DAMAGED_MAX) && !known {
            tracing::warn!(%copy, lost, "copy is damaged");
        }
    }

    /// Remembers a damaged (or lost) copy unless `most` are waiting to be told. Returns whether it will be
    /// told.
    pub(crate) fn remember_damaged(&self, copy: CopyId, lost: bool, most: usize) -> bool {
        let mut damaged = lock(&self.damaged);
        if damaged.len() >= most {
            return damaged.contains_key(&copy);
        }
        if damaged.insert(copy, lost).is_none() {
            self.metrics.damaged.inc();
            self.report.notify_one();
        }
        true
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        match self.workers {
            Workers::Threads => {
                if let Err(error) = self.close() {
                    tracing::warn!(%error, "cannot flush the index");
                }
            }
            // Dropped before it was shut, it has crashed: nothing more is written.
            Workers::Tasks { .. } => {
                self.devices.stop();
                self.signer.stop();
            }
        }
    }
}

impl From<CopyEntry> for LocalCopy {
    fn from(entry: CopyEntry) -> Self {
        Self {
            copy: entry.copy,
            plaintext_bytes: entry.pieces.first().map_or(0, |(_, piece)| piece.plaintext_bytes),
            complete: entry.is_complete(),
            kept: !entry.kept.is_empty(),
            erased: !entry.erased.is_empty(),
            pieces: entry
                .pieces
                .into_iter()
                .map(|(first_frame, piece)| LocalPiece {
                    device: piece.device,
                    first_frame,
                    frames: piece.frames,
                    segment: piece.segment,
                    offset: piece.offset,
                    bytes: piece.bytes,
                })
                .collect(),
        }
    }
}
