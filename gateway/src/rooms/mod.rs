//! Provisional FATs as a gateway holds them: room by class and vendor, taken locally, and what must be asked,
//! renewed or returned when. Pure but for a lock; who talks to the metadata service is `session.rs`.

mod taken;
#[cfg(test)]
mod tests;

use crate::error::Error;
use crate::limits::{
    DIRTY_LEASE_KEPT, GRANT_MARGIN_MS, GRANT_SUCCESSOR_MS, LEASE_BYTES, LEASE_GROWS_BELOW, LEASE_IDLE,
    LEASE_RENEWED_MS, LEASES_PER_CLASS,
};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use taken::Stage;
use tokio::sync::Notify;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec;
use ullage_model::fat::placement;
use ullage_model::fat::rows::ClassRow;
use ullage_model::ids::{ChunkId, LeaseId, VendorId};
use ullage_model::limits::FRAME_BYTES;
use ullage_model::units::room;
use ullage_model::wire::chunk::{Grant, GrantBody};
use ullage_model::wire::metad::ProvisionalFat;

pub use taken::Placement;

/// Now, by both clocks that matter for leases.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The gateway's monotonic clock.
    pub local: Duration,
    /// Cluster time, extrapolated.
    pub cluster: ClusterTime,
}

/// All room one session holds.
#[derive(Debug, Default)]
pub struct Rooms {
    classes: Mutex<BTreeMap<String, ClassRoom>>,
}

#[derive(Debug)]
struct ClassRoom {
    leases: Vec<Lease>,
    /// Bytes per vendor to ask for next.
    wanted: u64,
    asking: bool,
    refused: Option<(Duration, Error)>,
    changed: Arc<Notify>,
    used_at: Duration,
}

impl Default for ClassRoom {
    fn default() -> Self {
        Self {
            leases: Vec::new(),
            wanted: LEASE_BYTES.0,
            asking: false,
            refused: None,
            changed: Arc::new(Notify::new()),
            used_at: Duration::ZERO,
        }
    }
}

#[derive(Debug)]
struct Lease {
    lease: LeaseId,
    rows: Vec<Row>,
    locked: u64,
    grant_deadline: ClusterTime,
    deadline: ClusterTime,
    opened: Duration,
    next_chunk: u32,
    /// Copies placed under it that are neither committed nor given up.
    outstanding: u32,
    dirty_since: Option<Duration>,
    /// Takes no more copies; returned when nothing is outstanding.
    retiring: bool,
}

#[derive(Debug)]
struct Row {
    vendor: VendorId,
    device_class: String,
    unused: u64,
    grant: Grant,
}

impl Row {
    fn fits(&self, class: &ClassRow, room: u64) -> bool {
        self.unused >= room && placement::allows_device_class(class, &self.device_class)
    }
}

impl Lease {
    fn unused(&self) -> u64 {
        self.rows.iter().map(|row| row.unused).sum()
    }

    fn takes(&self, now: Now) -> bool {
        // A lease is renewed long before; one that could not be must not take what it may not keep.
        let until = self.grant_deadline.min(self.deadline);
        !self.retiring && now.cluster.plus(GRANT_MARGIN_MS) < until
    }

    fn row(&mut self, vendor: VendorId) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.vendor == vendor)
    }
}

fn find<'a>(
    classes: &'a mut BTreeMap<String, ClassRoom>,
    class: &str,
    lease: LeaseId,
) -> Option<&'a mut Lease> {
    classes
        .get_mut(class)?
        .leases
        .iter_mut()
        .find(|held| held.lease == lease)
}

/// What must be said to the metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseDuty {
    /// Return it: it has been forgotten here.
    Return(LeaseId),
    /// Renew it: chunks placed under it are not committed yet.
    Renew(LeaseId),
    /// Ask for another one of this class before grants end.
    Ask(String),
}

impl Rooms {
    /// Vendors that have `room` bytes left for `class`, with what they have. Room of devices that the class, as
    /// it is now, does not allow (it was locked before the class changed) is passed over.
    #[must_use]
    pub fn vendors(&self, class: &ClassRow, room: u64, now: Now) -> Vec<(VendorId, u64)> {
        let classes = self.lock();
        let mut vendors: Vec<(VendorId, u64)> = Vec::new();
        for lease in classes
            .get(&class.name)
            .iter()
            .flat_map(|class| &class.leases)
            .filter(|it| it.takes(now))
        {
            for row in lease.rows.iter().filter(|row| row.fits(class, room)) {
                match vendors.iter_mut().find(|(vendor, _)| *vendor == row.vendor) {
                    Some((_, unused)) => *unused += row.unused,
                    None => vendors.push((row.vendor, row.unused)),
                }
            }
        }
        vendors
    }

    /// Takes `room` bytes at `vendor`, if a lease still has them.
    #[must_use]
    pub fn take(
        self: &Arc<Self>,
        class: &ClassRow,
        vendor: VendorId,
        room: u64,
        now: Now,
    ) -> Option<Placement> {
        let mut classes = self.lock();
        let held = classes.get_mut(&class.name)?;
        // Oldest first, so that leases are used up and returned one after the other.
        let lease = held
            .leases
            .iter_mut()
            .filter(|lease| lease.takes(now))
            .find(|lease| {
                lease
                    .rows
                    .iter()
                    .any(|row| row.vendor == vendor && row.fits(class, room))
            })?;
        let id = lease.lease;
        let row = lease.row(vendor)?;
        row.unused -= room;
        let placement = Placement {
            vendor,
            lease: id,
            device_class: row.device_class.clone(),
            grant: row.grant.clone(),
            score: 0,
            room,
            stage: Stage::Reserved,
            class: class.name.clone(),
            rooms: Arc::clone(self),
            local: now.local,
        };
        lease.outstanding += 1;
        Some(placement)
    }

    /// A new chunk id under `lease`; `None` when the lease has gone or its numbers are used up.
    #[must_use]
    pub fn name_chunk(&self, class: &str, lease: LeaseId) -> Option<ChunkId> {
        let mut classes = self.lock();
        let held = find(&mut classes, class, lease)?;
        let counter = held.next_chunk;
        held.next_chunk = counter.checked_add(1)?;
        Some(ChunkId { lease, counter })
    }

    /// Whether the next lease of `class` should be asked for now: less than a quarter of the room is left.
    #[must_use]
    pub fn is_low(&self, class: &str, now: Now) -> bool {
        let (locked, unused) = {
            let classes = self.lock();
            let Some(held) = classes.get(class) else {
                return true;
            };
            let taking = held.leases.iter().filter(|lease| lease.takes(now));
            taking.fold((0, 0), |(locked, unused), lease| {
                (locked + lease.locked, unused + lease.unused())
            })
        };
        unused < locked / 4
    }

    /// Room of `class` is wanted now: it is not idle. Answers what is notified when room came, or did not come.
    #[must_use]
    pub fn wanted(&self, class: &str, now: Duration) -> Arc<Notify> {
        let mut classes = self.lock();
        let held = match classes.get_mut(class) {
            Some(held) => held,
            None => classes.entry(class.to_owned()).or_default(),
        };
        held.used_at = now;
        Arc::clone(&held.changed)
    }

    /// Why room was refused, if that was a moment ago.
    #[must_use]
    pub fn refused(&self, class: &str, now: Duration) -> Option<Error> {
        let classes = self.lock();
        let (until, reason) = classes.get(class)?.refused.as_ref()?;
        (now < *until).then(|| reason.clone())
    }

    /// Begins to ask for a lease of `class`: how much per vendor; `None` when somebody asks already or a refusal
    /// is fresh. The caller must call [`Rooms::answered`].
    #[must_use]
    pub fn begin_asking(&self, class: &str, now: Now) -> Option<u64> {
        let mut classes = self.lock();
        let held = classes.entry(class.to_owned()).or_default();
        if held.asking || held.refused.as_ref().is_some_and(|(until, _)| now.local < *until) {
            return None;
        }
        held.asking = true;
        let newest = held
            .leases
            .iter()
            .filter(|lease| lease.takes(now))
            .map(|lease| lease.opened)
            .max();
        if newest.is_some_and(|opened| now.local.saturating_sub(opened) < LEASE_GROWS_BELOW) {
            held.wanted = (held.wanted * 2).min(LEASE_BYTES.1);
        }
        Some(held.wanted)
    }

    /// What became of asking.
    pub fn answered(&self, class: &str, now: Now, answer: Result<ProvisionalFat, (Duration, Error)>) {
        let mut classes = self.lock();
        let held = classes.entry(class.to_owned()).or_default();
        held.asking = false;
        match answer {
            Ok(fat) => {
                held.refused = None;
                held.add(fat, now);
            }
            Err((kept, reason)) => held.refused = Some((now.local + kept, reason)),
        }
        held.changed.notify_waiters();
    }

    /// What is due now. Leases to be returned are forgotten here.
    #[must_use]
    pub fn duties(&self, now: Now) -> Vec<LeaseDuty> {
        let mut duties = Vec::new();
        for (class, held) in self.lock().iter_mut() {
            held.duties(class, now, &mut duties);
        }
        duties
    }

    /// Stops using all leases, for good: their session ends. Answers them.
    #[must_use]
    pub fn retire_all(&self) -> Vec<LeaseId> {
        let mut classes = self.lock();
        let leases = classes.values_mut().flat_map(|class| &mut class.leases);
        leases
            .map(|lease| {
                lease.retiring = true;
                lease.lease
            })
            .collect()
    }

    /// All leases held.
    #[must_use]
    pub fn held(&self) -> BTreeSet<LeaseId> {
        let classes = self.lock();
        classes
            .values()
            .flat_map(|class| &class.leases)
            .map(|lease| lease.lease)
            .collect()
    }

    /// Number of leases and their unused bytes.
    #[must_use]
    pub fn sums(&self) -> (usize, u64) {
        let classes = self.lock();
        let leases = classes.values().flat_map(|class| &class.leases);
        leases.fold((0, 0), |(count, unused), lease| {
            (count + 1, unused + lease.unused())
        })
    }

    /// Gives up the unused room of `lease` (it was recalled): what to shrink it by.
    #[must_use]
    pub fn recall(&self, lease: LeaseId) -> Vec<(VendorId, u64)> {
        let mut classes = self.lock();
        let lease = classes
            .values_mut()
            .flat_map(|class| &mut class.leases)
            .find(|held| held.lease == lease);
        lease.map(Lease::empty).unwrap_or_default()
    }

    /// Gives up the unused room of all classes but `class`: it is wanted there.
    #[must_use]
    pub fn give_up_others(&self, class: &str) -> Vec<(LeaseId, Vec<(VendorId, u64)>)> {
        let mut classes = self.lock();
        let others = classes.iter_mut().filter(|(name, _)| name.as_str() != class);
        let leases = others.flat_map(|(_, held)| &mut held.leases);
        leases
            .map(|lease| (lease.lease, lease.empty()))
            .filter(|(_, rows)| !rows.is_empty())
            .collect()
    }

    /// The metadata service knows `lease` as closing or not at all: nothing more is placed under it.
    pub fn closed(&self, lease: LeaseId) {
        let mut classes = self.lock();
        for held in classes.values_mut() {
            held.leases.retain(|it| it.lease != lease);
        }
    }

    /// The new deadline of a lease.
    pub fn renewed(&self, lease: LeaseId, deadline: ClusterTime) {
        let mut classes = self.lock();
        for held in classes.values_mut().flat_map(|class| &mut class.leases) {
            if held.lease == lease {
                held.deadline = deadline;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ClassRoom>> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    fn empty(&mut self) -> Vec<(VendorId, u64)> {
        let rows = self.rows.iter_mut().filter(|row| row.unused > 0);
        rows.map(|row| (row.vendor, std::mem::take(&mut row.unused)))
            .collect()
    }
}

impl ClassRoom {
    fn add(&mut self, fat: ProvisionalFat, now: Now) {
        // A grant that says nothing else ends with its lease.
        let deadline_of = |grant: &Grant| {
            codec::decode::<GrantBody>(&grant.body)
                .ok()
                .map(|body| body.deadline)
        };
        let grants = fat.rows.iter().filter_map(|row| deadline_of(&row.grant)).min();
        // The new one is never retired: what it has may be just what the others lack.
        let taking = self.leases.iter().filter(|lease| !lease.retiring).count();
        if taking >= LEASES_PER_CLASS {
            let emptiest = self.leases.iter_mut().filter(|lease| !lease.retiring);
            if let Some(lease) = emptiest.min_by_key(|lease| lease.unused()) {
                lease.retiring = true;
            }
        }
        self.leases.push(Lease {
            lease: fat.lease,
            locked: fat.rows.iter().map(|row| row.bytes).sum(),
            grant_deadline: grants.unwrap_or(fat.deadline),
            deadline: fat.deadline,
            opened: now.local,
            next_chunk: 0,
            outstanding: 0,
            dirty_since: None,
            retiring: false,
            rows: fat
                .rows
                .into_iter()
                .map(|row| Row {
                    vendor: row.vendor,
                    device_class: row.device_class,
                    unused: row.bytes,
                    grant: row.grant,
                })
                .collect(),
        });
    }

    fn duties(&mut self, class: &str, now: Now, duties: &mut Vec<LeaseDuty>) {
        let idle = now.local.saturating_sub(self.used_at) > LEASE_IDLE;
        let least = room(FRAME_BYTES, 1);
        for lease in &mut self.leases {
            let kept = |since: Duration| now.local.saturating_sub(since);
            let aged = now.cluster.plus(GRANT_MARGIN_MS) >= lease.grant_deadline;
            let dirty = lease
                .dirty_since
                .is_some_and(|since| kept(since) > DIRTY_LEASE_KEPT);
            let used_up = lease.rows.iter().all(|row| row.unused < least);
            if aged && !lease.retiring && lease.unused() > lease.locked / 4 * 3 {
                self.wanted = (self.wanted / 2).max(LEASE_BYTES.2);
            }
            lease.retiring |= aged || dirty || used_up || idle;
        }
        let ends_soon = |lease: &Lease| now.cluster.plus(GRANT_SUCCESSOR_MS) >= lease.grant_deadline;
        let all_end = self.leases.iter().all(|lease| lease.retiring || ends_soon(lease));
        if !idle && all_end && !self.leases.is_empty() {
            duties.push(LeaseDuty::Ask(class.to_owned()));
        }
        self.leases.retain(|lease| {
            let over = lease.retiring && lease.outstanding == 0;
            if over {
                duties.push(LeaseDuty::Return(lease.lease));
            } else if now.cluster.plus(LEASE_RENEWED_MS) >= lease.deadline {
                duties.push(LeaseDuty::Renew(lease.lease));
            }
            !over
        });
    }
}
