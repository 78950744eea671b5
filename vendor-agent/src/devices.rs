//! The vendor's devices together: which take a piece, what each reports, and their workers. What lies on them
//! is the local FAT's; when one comes or goes is seen elsewhere.

use crate::compact::{Keeper, SegmentsExist};
use crate::device::{Device, DeviceError, Fault, Location, Space};
use crate::error::AgentError;
use crate::lane::{Lane, LaneListener};
use crate::local_fat::LocalFat;
use crate::metrics::Metrics;
use crate::receipts::Signer;
use crate::sync::{Shared, lock};
use crate::workers::{Worker, Workers};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;
use ullage_model::ids::DeviceId;
use ullage_model::limits::{DEVICE_BYTES_MAX, SEGMENTS_IN_HAND};
use ullage_model::wire::agent::{DeviceReport, DeviceState};

/// One in this many bytes of a device is not offered: the index needs room too.
const INDEX_SHARE: u64 = 64;

/// A device with its workers, from when it came until it goes or the settings for it change.
struct Slot {
    id: DeviceId,
    class: String,
    /// The device; `None` if it is not here.
    opened: Option<Arc<Opened>>,
    /// Bytes that pieces may still take, as of the last look, less what was sent to it since.
    free: AtomicU64,
    /// It took pieces at the last look.
    usable: AtomicBool,
}

impl Slot {
    fn new(id: DeviceId, class: String, opened: Option<Arc<Opened>>) -> Arc<Self> {
        Arc::new(Self {
            id,
            class,
            opened,
            free: AtomicU64::new(0),
            usable: AtomicBool::new(false),
        })
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
    workers: Shared<Vec<Worker>>,
}

impl Opened {
    /// Tells the workers to end when what is queued is written, and gives them to be waited for.
    fn stop(&self) -> Vec<Worker> {
        self.keeper.stop();
        self.lane.stop();
        std::mem::take(&mut *lock(&self.workers))
    }
}

/// All devices of the vendor.
pub struct Devices {
    /// In the order in which they were configured.
    slots: Shared<Arc<Vec<Arc<Slot>>>>,
    links: Arc<Links>,
    turn: AtomicUsize,
    spaces: Shared<BTreeMap<DeviceId, Space>>,
    parts: DeviceParts,
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
    /// Weak, because lanes and keepers hold this.
    opened: Shared<BTreeMap<DeviceId, Weak<Opened>>>,
    signer: Arc<Signer>,
    report: Arc<Notify>,
}

impl Links {
    fn opened(&self, device: DeviceId) -> Option<Arc<Opened>> {
        lock(&self.opened).get(&device)?.upgrade()
    }
}

impl LaneListener for Links {
    fn group_ended(&self) {
        self.signer.wake();
    }

    fn died(&self, locations: Vec<(DeviceId, Location)>) {
        let mut by_device: BTreeMap<DeviceId, Vec<Location>> = BTreeMap::new();
        for (device, location) in locations {
            by_device.entry(device).or_default().push(location);
        }
        for (device, locations) in by_device {
            if let Some(opened) = self.opened(device) {
                opened.keeper.died(locations);
            }
        }
    }

    fn failed(&self, device: DeviceId) {
        self.report.notify_one();
        if let Some(opened) = self.opened(device) {
            opened.keeper.kick();
        }
    }
}

impl SegmentsExist for Links {
    fn may_exist(&self, device: DeviceId, segment: u64) -> bool {
        self.opened(device)
            .is_none_or(|opened| opened.device.has_segment(segment))
    }
}

/// What the devices' workers need.
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
    /// What the workers are.
    pub workers: Workers,
}

impl Devices {
    /// Starts the workers of the devices.
    ///
    /// # Errors
    /// When a worker cannot be started.
    pub fn start(devices: Vec<ToStart>, parts: DeviceParts) -> Result<Self, AgentError> {
        let links = Arc::new(Links {
            opened: Shared::default(),
            signer: Arc::clone(&parts.signer),
            report: Arc::clone(&parts.report),
        });
        let started = Self {
            slots: Shared::default(),
            links,
            turn: AtomicUsize::new(0),
            spaces: Shared::default(),
            parts,
        };
        // Keepers ask about each other's devices: what is not linked yet counts as being there.
        for start in devices {
            started.put(start)?;
        }
        started.look();
        Ok(started)
    }

    /// Starts the workers of a device, in the place of what was known under its id, which must have been
    /// retired.
    ///
    /// # Errors
    /// When a worker cannot be started.
    pub fn put(&self, start: ToStart) -> Result<(), AgentError> {
        let opened = start.device.map(|device| self.open(device)).transpose()?;
        let link = opened.as_ref().map(Arc::downgrade);
        let slot = Slot::new(start.id, start.class, opened);
        if let Some(opened) = &slot.opened {
            let space = opened.device.space();
            self.update(&slot, Some(&space));
            lock(&self.spaces).insert(start.id, space);
        }
        self.replace(slot);
        if let Some(link) = link {
            lock(&self.links.opened).insert(start.id, link);
        }
        self.parts.report.notify_one();
        Ok(())
    }

    fn open(&self, device: Arc<dyn Device>) -> Result<Arc<Opened>, AgentError> {
        let parts = &self.parts;
        let (lane, writer) = Lane::start(
            Arc::clone(&device),
            Arc::clone(&parts.fat),
            Arc::clone(&parts.epoch),
            Arc::clone(&self.links) as Arc<dyn LaneListener>,
            Arc::clone(&parts.metrics),
            parts.workers,
        )?;
        let keeper = Arc::new(Keeper::new(
            Arc::clone(&device),
            Arc::clone(&lane),
            Arc::clone(&parts.fat),
            Arc::clone(&self.links) as Arc<dyn SegmentsExist>,
            parts.compact_rate,
        ));
        let runner = Arc::clone(&keeper);
        let name = format!("keeper-{}", device.id().0);
        let keeping = parts.workers.start(name, async move { runner.run().await });
        let keeping = keeping.inspect_err(|_| lane.stop())?;
        Ok(Arc::new(Opened {
            device,
            lane,
            keeper,
            workers: Shared::new(vec![keeping, writer]),
        }))
    }

    fn replace(&self, slot: Arc<Slot>) {
        let mut slots = lock(&self.slots);
        let mut changed: Vec<Arc<Slot>> = slots.as_ref().clone();
        match changed.iter_mut().find(|known| known.id == slot.id) {
            Some(known) => *known = slot,
            None => changed.push(slot),
        }
        *slots = Arc::new(changed);
    }

    /// Takes a device out: it counts as gone from now on. Its workers end when what is queued is written, or
    /// has failed; nothing else may open it before.
    pub fn retire(&self, id: DeviceId) -> Vec<Worker> {
        let Some(slot) = self.slot(id) else {
            return Vec::new();
        };
        self.replace(Slot::new(id, slot.class.clone(), None));
        lock(&self.links.opened).remove(&id);
        lock(&self.spaces).remove(&id);
        self.parts.report.notify_one();
        slot.opened.as_ref().map_or_else(Vec::new, |opened| opened.stop())
    }

    fn slots(&self) -> Arc<Vec<Arc<Slot>>> {
        Arc::clone(&lock(&self.slots))
    }

    fn slot(&self, id: DeviceId) -> Option<Arc<Slot>> {
        self.slots().iter().find(|slot| slot.id == id).cloned()
    }

    /// The device `id`, if it is here.
    ///
    /// # Errors
    /// When it is not.
    pub fn get(&self, id: DeviceId) -> Result<Arc<Opened>, DeviceError> {
        let slot = self.slot(id);
        slot.and_then(|slot| slot.opened.clone())
            .ok_or_else(|| DeviceError::Gone {
                device: id,
                reason: "it is not in place".to_owned(),
            })
    }

    /// Devices of a class that take `bytes` more now, best first: fewest bytes waiting, then in turn.
    #[must_use]
    pub fn choose(&self, class: &str, bytes: u64, without: &[DeviceId]) -> Vec<DeviceId> {
        let mut fit: Vec<(u64, DeviceId)> = self
            .slots()
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
        if let Some(slot) = self.slot(id) {
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
        let slots = self.slots();
        let spaces = lock(&self.spaces);
        slots
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
        let mut with_pieces = self.parts.fat.devices();
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
        let live = self.parts.fat.live_bytes(opened.device.id());
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
        let slots = self.slots();
        let fresh: BTreeMap<DeviceId, Space> = slots
            .iter()
            .filter_map(|slot| Some((slot.id, slot.opened.as_ref()?.device.space())))
            .collect();
        for slot in slots.iter() {
            self.update(slot, fresh.get(&slot.id));
        }
        *lock(&self.spaces) = fresh.clone();
        fresh
    }

    /// Looks at every device now and says how each is.
    #[must_use]
    pub fn reports(&self) -> Vec<DeviceReport> {
        let fresh = self.look();
        self.slots()
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
        let Some(slot) = self.slot(id) else { return };
        let Some(opened) = &slot.opened else { return };
        let space = opened.device.space();
        self.update(&slot, Some(&space));
        lock(&self.spaces).insert(id, space);
    }

    /// Tells all workers to end when what is queued is written, and gives them to be waited for.
    pub fn stop(&self) -> Vec<Worker> {
        let slots = self.slots();
        let opened = slots.iter().filter_map(|slot| slot.opened.as_ref());
        opened.flat_map(|opened| opened.stop()).collect()
    }
}
