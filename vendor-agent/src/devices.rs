//! The vendor's devices together: which take a piece, what each reports, and their threads. What lies on them
//! is the local FAT's.

use crate::compact::{Keeper, SegmentsExist};
use crate::device::{Device, DeviceError, Fault, Location, Space};
use crate::error::AgentError;
use crate::lane::{Lane, LaneListener};
use crate::local_fat::LocalFat;
use crate::metrics::Metrics;
use crate::receipts::Signer;
use crate::sync::{Shared, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use tokio::sync::Notify;
use ullage_model::ids::DeviceId;
use ullage_model::limits::{DEVICE_BYTES_MAX, SEGMENTS_IN_HAND};
use ullage_model::wire::agent::{DeviceReport, DeviceState};

/// One in this many bytes of a device is not offered: the index needs room too.
const INDEX_SHARE: u64 = 64;

/// A device with its threads.
pub struct Slot {
    /// Its id.
    pub id: DeviceId,
    /// Its class, e.g. `ssd`.
    pub class: String,
    /// The device; `None` if it could not be opened.
    pub opened: Option<Opened>,
    /// Bytes that pieces may still take, as of the last look, less what was sent to it since.
    free: AtomicU64,
    /// It took pieces at the last look.
    usable: AtomicBool,
}

impl Slot {
    fn new(id: DeviceId, class: String, opened: Option<Opened>) -> Self {
        Self {
            id,
            class,
            opened,
            free: AtomicU64::new(0),
            usable: AtomicBool::new(false),
        }
    }
}

/// A device that was opened.
pub struct Opened {
    /// The device.
    pub device: Arc<dyn Device>,
    /// Its queue.
    pub lane: Arc<Lane>,
    /// Its keeper.
    pub keeper: Arc<Keeper>,
}

/// All devices of the vendor.
pub struct Devices {
    slots: Vec<Slot>,
    links: Arc<Links>,
    turn: AtomicUsize,
    spaces: Shared<BTreeMap<DeviceId, Space>>,
    threads: Shared<Vec<JoinHandle<()>>>,
    fat: Arc<LocalFat>,
}

/// A device to be started.
pub struct ToStart {
    /// Its id.
    pub id: DeviceId,
    /// Its class.
    pub class: String,
    /// The device; `None` if it could not be opened: its copies are still known.
    pub device: Option<Arc<dyn Device>>,
}

/// What ties lanes and keepers to each other and to the agent.
struct Links {
    /// Weak, because keepers hold this.
    keepers: OnceLock<BTreeMap<DeviceId, Weak<Keeper>>>,
    devices: BTreeMap<DeviceId, Arc<dyn Device>>,
    signer: Arc<Signer>,
    report: Arc<Notify>,
}

impl LaneListener for Links {
    fn group_ended(&self) {
        self.signer.wake();
    }

    fn died(&self, locations: Vec<(DeviceId, Location)>) {
        let Some(keepers) = self.keepers.get() else { return };
        for (device, keeper) in keepers {
            let own: Vec<Location> = locations
                .iter()
                .filter(|(home, _)| home == device)
                .map(|(_, location)| *location)
                .collect();
            if !own.is_empty()
                && let Some(keeper) = keeper.upgrade()
            {
                keeper.died(own);
            }
        }
    }

    fn failed(&self, device: DeviceId) {
        self.report.notify_one();
        if let Some(keeper) = self
            .keepers
            .get()
            .and_then(|keepers| keepers.get(&device)?.upgrade())
        {
            keeper.kick();
        }
    }
}

impl SegmentsExist for Links {
    fn may_exist(&self, device: DeviceId, segment: u64) -> bool {
        self.devices
            .get(&device)
            .is_none_or(|found| found.has_segment(segment))
    }
}

/// What the devices' threads need.
pub struct DeviceParts {
    /// The index.
    pub fat: Arc<LocalFat>,
    /// The epoch known now.
    pub epoch: Arc<AtomicU16>,
    /// Signs receipts when groups end.
    pub signer: Arc<Signer>,
    /// Asks for a heartbeat.
    pub report: Arc<Notify>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Bytes per second that compaction may move.
    pub compact_rate: u64,
}

impl Devices {
    /// Starts the threads of the devices.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(devices: Vec<ToStart>, parts: DeviceParts) -> Result<Self, AgentError> {
        let opened = devices
            .iter()
            .filter_map(|start| Some((start.id, start.device.clone()?)))
            .collect();
        let links = Arc::new(Links {
            keepers: OnceLock::new(),
            devices: opened,
            signer: parts.signer,
            report: parts.report,
        });
        let mut slots = Vec::new();
        let mut threads = Vec::new();
        let mut keepers = BTreeMap::new();
        for start in devices {
            let Some(device) = start.device else {
                slots.push(Slot::new(start.id, start.class, None));
                continue;
            };
            let (lane, thread) = Lane::start(
                Arc::clone(&device),
                Arc::clone(&parts.fat),
                Arc::clone(&parts.epoch),
                Arc::clone(&links) as Arc<dyn LaneListener>,
                Arc::clone(&parts.metrics),
            )?;
            threads.push(thread);
            let keeper = Arc::new(Keeper::new(
                Arc::clone(&device),
                Arc::clone(&lane),
                Arc::clone(&parts.fat),
                Arc::clone(&links) as Arc<dyn SegmentsExist>,
                parts.compact_rate,
            ));
            keepers.insert(start.id, Arc::downgrade(&keeper));
            let runner = Arc::clone(&keeper);
            let name = format!("keeper-{}", start.id.0);
            let thread = std::thread::Builder::new()
                .name(name.clone())
                .spawn(move || runner.run())
                .map_err(|source| AgentError::Thread { name, source })?;
            threads.push(thread);
            slots.push(Slot::new(
                start.id,
                start.class,
                Some(Opened { device, lane, keeper }),
            ));
        }
        // Set once, here: nothing has been written yet.
        let _ = links.keepers.set(keepers);
        let devices = Self {
            slots,
            links,
            turn: AtomicUsize::new(0),
            spaces: Shared::default(),
            threads: Shared::new(threads),
            fat: parts.fat,
        };
        devices.look();
        Ok(devices)
    }

    /// The device `id`, if it was opened.
    ///
    /// # Errors
    /// When it was not.
    pub fn get(&self, id: DeviceId) -> Result<&Opened, DeviceError> {
        let slot = self.slots.iter().find(|slot| slot.id == id);
        slot.and_then(|slot| slot.opened.as_ref())
            .ok_or_else(|| DeviceError::Gone {
                device: id,
                reason: "it could not be opened".to_owned(),
            })
    }

    /// Devices of a class that take `bytes` more now, best first: fewest bytes waiting, then in turn.
    #[must_use]
    pub fn choose(&self, class: &str, bytes: u64, without: &[DeviceId]) -> Vec<DeviceId> {
        let mut fit: Vec<(u64, DeviceId)> = self
            .slots
            .iter()
            .filter(|slot| slot.class == class && !without.contains(&slot.id))
            .filter_map(|slot| {
                let opened = slot.opened.as_ref()?;
                (slot.usable.load(Ordering::Relaxed) && slot.free.load(Ordering::Relaxed) >= bytes)
                    .then(|| (opened.lane.queued_bytes(), slot.id))
            })
            .collect();
        if !fit.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % fit.len();
            fit.rotate_left(turn);
        }
        fit.sort_by_key(|(waiting, _)| *waiting);
        fit.into_iter().map(|(_, id)| id).collect()
    }

    /// Notes that `bytes` more were sent to a device, until the next look counts what is there.
    pub fn take(&self, id: DeviceId, bytes: u64) {
        if let Some(slot) = self.slots.iter().find(|slot| slot.id == id) {
            // The closure always answers, so this cannot fail.
            let _ = slot
                .free
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                    Some(free.saturating_sub(bytes))
                });
        }
    }

    /// Devices that take control records now.
    #[must_use]
    pub fn writable(&self) -> Vec<DeviceId> {
        let spaces = lock(&self.spaces);
        self.slots
            .iter()
            .filter(|slot| {
                slot.opened
                    .as_ref()
                    .is_some_and(|opened| opened.lane.index_failure().is_none())
                    && matches!(
                        spaces.get(&slot.id).map(|space| &space.fault),
                        Some(None | Some(Fault::Full))
                    )
            })
            .map(|slot| slot.id)
            .collect()
    }

    /// Devices that have pieces but are not here, as of the last look.
    #[must_use]
    pub fn gone(&self) -> BTreeSet<DeviceId> {
        let mut with_pieces = self.fat.devices();
        let spaces = lock(&self.spaces);
        with_pieces.retain(|id| {
            let space = spaces.get(id);
            space.is_none_or(|space| matches!(space.fault, Some(Fault::Gone(_))))
        });
        with_pieces
    }

    fn offered(&self, opened: &Opened, space: &Space) -> u64 {
        let in_hand = SEGMENTS_IN_HAND * opened.device.segment_bytes();
        let offered = space
            .capacity
            .saturating_sub(in_hand)
            .saturating_sub(space.capacity / INDEX_SHARE);
        offered.min(DEVICE_BYTES_MAX)
    }

    /// Bytes that records may still take, when `sharers` devices draw on the same file system.
    fn free(&self, opened: &Opened, space: &Space, sharers: u64) -> u64 {
        let live = self.fat.live_bytes(opened.device.id());
        let by_capacity = self.offered(opened, space).saturating_sub(live);
        // Garbage and preallocated bytes come back when they are needed, so they count as free too.
        let reclaimable = space.allocated.saturating_sub(live);
        let in_hand = SEGMENTS_IN_HAND * opened.device.segment_bytes();
        let by_medium = (space.file_system_free / sharers.max(1) + reclaimable).saturating_sub(in_hand);
        by_capacity.min(by_medium)
    }

    fn update(&self, slot: &Slot, space: Option<&Space>) {
        let (Some(opened), Some(space)) = (&slot.opened, space) else {
            return;
        };
        let free = self
            .free(opened, space, 1)
            .saturating_sub(opened.lane.queued_bytes());
        slot.free.store(free, Ordering::Relaxed);
        let usable = space.fault.is_none() && opened.lane.index_failure().is_none();
        slot.usable.store(usable, Ordering::Relaxed);
    }

    /// Looks at every device now.
    fn look(&self) -> BTreeMap<DeviceId, Space> {
        let fresh: BTreeMap<DeviceId, Space> = self
            .slots
            .iter()
            .filter_map(|slot| Some((slot.id, slot.opened.as_ref()?.device.space())))
            .collect();
        for slot in &self.slots {
            self.update(slot, fresh.get(&slot.id));
        }
        *lock(&self.spaces) = fresh.clone();
        fresh
    }

    /// Looks at every device now and says how each is.
    #[must_use]
    pub fn reports(&self) -> Vec<DeviceReport> {
        let fresh = self.look();
        self.slots
            .iter()
            .map(|slot| {
                let (Some(opened), Some(space)) = (&slot.opened, fresh.get(&slot.id)) else {
                    return DeviceReport {
                        device: slot.id,
                        class: slot.class.clone(),
                        capacity: 0,
                        free: 0,
                        state: DeviceState::Gone,
                    };
                };
                let sharers = fresh
                    .values()
                    .filter(|other| other.share == space.share && other.fault.is_none());
                let state = match &space.fault {
                    Some(Fault::Gone(_)) => DeviceState::Gone,
                    Some(_) => DeviceState::ReadOnly,
                    None if opened.lane.index_failure().is_some() => DeviceState::ReadOnly,
                    None => DeviceState::Healthy,
                };
                let free = match state {
                    DeviceState::Healthy => self.free(opened, space, sharers.count() as u64),
                    _ => 0,
                };
                DeviceReport {
                    device: slot.id,
                    class: slot.class.clone(),
                    capacity: self.offered(opened, space),
                    free,
                    state,
                }
            })
            .collect()
    }

    /// Notes at once that a device failed, so that nothing else is sent to it.
    pub fn look_again(&self, id: DeviceId) {
        let Some(slot) = self.slots.iter().find(|slot| slot.id == id) else {
            return;
        };
        let Some(opened) = &slot.opened else { return };
        let space = opened.device.space();
        self.update(slot, Some(&space));
        lock(&self.spaces).insert(id, space);
    }

    /// Ends all threads when what is queued is written.
    pub fn stop(&self) {
        for opened in self.slots.iter().filter_map(|slot| slot.opened.as_ref()) {
            opened.keeper.stop();
            opened.lane.stop();
        }
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a device thread panicked");
            }
        }
        self.links.signer.wake();
    }
}
