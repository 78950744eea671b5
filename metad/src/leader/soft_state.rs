//! What the leader knows without Raft: when each vendor was last heard and what it said of its load, how far
//! each session's reads have come, where each vendor's erase orders begin, which leases were recalled when.
//! Lost with the leader and learned again by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use ullage_model::ids::{CopyId, LeaseId, SessionId, VendorId};
use ullage_model::limits::COPIES_PER_BATCH;
use ullage_model::wire::agent::{DeviceState, Heartbeat};

/// Orders that are remembered as sent to a vendor, at most; the others are looked up when they are
/// acknowledged.
const ISSUED_MAX: usize = 4 * COPIES_PER_BATCH;

/// A vendor's last words.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When, by the leader's monotonic clock.
    pub at: Duration,
    /// Free bytes it reported, by device class.
    pub free: BTreeMap<String, u64>,
    /// Bytes it was receiving or writing.
    pub in_flight_bytes: u64,
}

/// Where an erase order stands in its vendor's queue: release index, copy.
pub type OrderPlace = (u64, CopyId);

#[derive(Debug, Default)]
struct Orders {
    /// No order before this place is left, nor will one come.
    first: Option<OrderPlace>,
    /// Release indexes of copies lately ordered erased.
    issued: BTreeMap<CopyId, u64>,
}

/// Soft state of a leader.
#[derive(Debug, Default)]
pub struct SoftState {
    vendors: Mutex<BTreeMap<VendorId, Seen>>,
    observed: Mutex<BTreeMap<SessionId, u64>>,
    orders: Mutex<BTreeMap<VendorId, Orders>>,
    recalled: Mutex<BTreeMap<LeaseId, Duration>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SoftState {
    /// Takes in a heartbeat. True if the one before it came within `steady` too: a vendor heard again after
    /// a silence is back only when it keeps talking, else one that stammers would turn its state for ever.
    pub fn heard(&self, heartbeat: &Heartbeat, at: Duration, steady: Duration) -> bool {
        let mut free: BTreeMap<String, u64> = BTreeMap::new();
        for device in &heartbeat.devices {
            // A class whose devices all stand still has nothing free: to be silent of it would say "not known".
            let sum = free.entry(device.class.clone()).or_insert(0);
            if device.state == DeviceState::Healthy {
                *sum = sum.saturating_add(device.free);
            }
        }
        let seen = Seen {
            at,
            free,
            in_flight_bytes: heartbeat.in_flight_bytes,
        };
        let before = lock(&self.vendors).insert(heartbeat.vendor, seen);
        before.is_some_and(|before| at.saturating_sub(before.at) < steady)
    }

    /// A vendor registered, which is a sign of life.
    pub fn registered(&self, vendor: VendorId, at: Duration) {
        lock(&self.vendors).entry(vendor).or_default().at = at;
    }

    /// The last words of `vendor` to this leader.
    #[must_use]
    pub fn vendor(&self, vendor: VendorId) -> Option<Seen> {
        lock(&self.vendors).get(&vendor).cloned()
    }

    /// A session's reads that began before `index` was applied are over.
    pub fn observed(&self, session: SessionId, index: u64) {
        let mut observed = lock(&self.observed);
        let known = observed.entry(session).or_insert(0);
        *known = (*known).max(index);
    }

    /// The index below which no read of any of `sessions` began; 0 while one has not reported to this
    /// leader.
    #[must_use]
    pub fn safe_index(&self, sessions: &BTreeSet<SessionId>) -> u64 {
        let mut observed = lock(&self.observed);
        observed.retain(|session, _| sessions.contains(session));
        let told = sessions
            .iter()
            .map(|session| observed.get(session).copied().unwrap_or(0));
        told.min().unwrap_or(u64::MAX)
    }

    /// The place before which `vendor` has no erase order left.
    #[must_use]
    pub fn first_order(&self, vendor: VendorId) -> Option<OrderPlace> {
        lock(&self.orders).get(&vendor).and_then(|orders| orders.first)
    }

    /// No erase order of `vendor` before `place` is left, nor will one come.
    pub fn no_order_before(&self, vendor: VendorId, place: OrderPlace) {
        let mut orders = lock(&self.orders);
        let orders = orders.entry(vendor).or_default();
        orders.first = orders.first.max(Some(place));
    }

    /// These orders are being sent to `vendor`.
    pub fn issued(&self, vendor: VendorId, sent: &[OrderPlace]) {
        let mut orders = lock(&self.orders);
        let issued = &mut orders.entry(vendor).or_default().issued;
        if issued.len() + sent.len() > ISSUED_MAX {
            issued.clear();
        }
        issued.extend(sent.iter().map(|(index, copy)| (*copy, *index)));
    }

    /// The places of those of `copies` whose orders were sent lately, and the other copies.
    #[must_use]
    pub fn issued_places(&self, vendor: VendorId, copies: &[CopyId]) -> (Vec<OrderPlace>, Vec<CopyId>) {
        let orders = lock(&self.orders);
        let issued = orders.get(&vendor).map(|orders| &orders.issued);
        let (mut found, mut others) = (Vec::new(), Vec::new());
        for copy in copies {
            match issued.and_then(|issued| issued.get(copy)) {
                Some(index) => found.push((*index, *copy)),
                None => others.push(*copy),
            }
        }
        (found, others)
    }

    /// When each of `leases` was recalled, the last time any was: `now` for one that this leader had not seen
    /// recalled before. Leases that are not among them are forgotten.
    pub fn recalled(&self, leases: &[LeaseId], now: Duration) -> Duration {
        let mut recalled = lock(&self.recalled);
        let leases: BTreeSet<LeaseId> = leases.iter().copied().collect();
        recalled.retain(|lease, _| leases.contains(lease));
        for lease in leases {
            recalled.entry(lease).or_insert(now);
        }
        recalled.values().copied().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BTreeSet, CopyId, DeviceState, Duration, Heartbeat, LeaseId, SessionId, SoftState, VendorId,
    };
    use ullage_model::ids::{ChunkId, DeviceId};
    use ullage_model::wire::agent::DeviceReport;

    #[test]
    fn a_session_that_has_not_reported_holds_back_every_erase() {
        let soft = SoftState::default();
        let (one, two) = (SessionId(1), SessionId(2));
        soft.observed(one, 7);
        soft.observed(one, 5);
        assert_eq!(soft.safe_index(&BTreeSet::from([one])), 7);
        assert_eq!(soft.safe_index(&BTreeSet::from([one, two])), 0);
        assert_eq!(soft.safe_index(&BTreeSet::new()), u64::MAX);
    }

    #[test]
    fn a_vendor_is_steady_when_it_is_heard_twice_in_time() {
        let soft = SoftState::default();
        let heartbeat = Heartbeat {
            vendor: VendorId(1),
            devices: Vec::new(),
            in_flight_bytes: 0,
            outcomes: Vec::new(),
            damaged: Vec::new(),
            found: Vec::new(),
            directory: 0,
        };
        let second = Duration::from_secs;
        assert!(!soft.heard(&heartbeat, second(10), second(5)));
        assert!(soft.heard(&heartbeat, second(14), second(5)));
        assert!(!soft.heard(&heartbeat, second(20), second(5)), "it was silent");
        soft.registered(VendorId(1), second(60));
        assert!(soft.heard(&heartbeat, second(61), second(5)));
    }

    #[test]
    fn devices_that_take_nothing_have_nothing_free() {
        let soft = SoftState::default();
        let device = |device, free, state| DeviceReport {
            device: DeviceId(device),
            class: "hdd".to_owned(),
            capacity: 1000,
            free,
            state,
        };
        let mut heartbeat = Heartbeat {
            vendor: VendorId(1),
            devices: vec![
                device(0, 300, DeviceState::Healthy),
                device(1, 400, DeviceState::ReadOnly),
            ],
            in_flight_bytes: 0,
            outcomes: Vec::new(),
            damaged: Vec::new(),
            found: Vec::new(),
            directory: 0,
        };
        let second = Duration::from_secs;
        let free = |heartbeat: &Heartbeat| {
            soft.heard(heartbeat, second(1), second(5));
            soft.vendor(VendorId(1)).unwrap().free["hdd"]
        };
        assert_eq!(free(&heartbeat), 300);
        heartbeat.devices[0].state = DeviceState::ReadOnly;
        assert_eq!(free(&heartbeat), 0, "known to be none, not unknown");
    }

    #[test]
    fn orders_sent_are_found_again_and_the_first_place_only_moves_on() {
        let soft = SoftState::default();
        let vendor = VendorId(1);
        let copy = |counter| CopyId {
            chunk: ChunkId {
                lease: LeaseId(1),
                counter,
            },
            lease: LeaseId(1),
        };
        soft.issued(vendor, &[(7, copy(1)), (8, copy(2))]);
        let (found, others) = soft.issued_places(vendor, &[copy(2), copy(3)]);
        assert_eq!((found, others), (vec![(8, copy(2))], vec![copy(3)]));
        soft.no_order_before(vendor, (8, copy(0)));
        soft.no_order_before(vendor, (7, copy(9)));
        assert_eq!(soft.first_order(vendor), Some((8, copy(0))));
    }
}
