//! What the leader knows without Raft: when each vendor was last heard and what it said of its load, and how
//! far each session's reads have come. Lost with the leader and learned again by the next one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use ullage_model::ids::{SessionId, VendorId};
use ullage_model::wire::agent::{DeviceState, Heartbeat};

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

/// Soft state of a leader.
#[derive(Debug, Default)]
pub struct SoftState {
    vendors: Mutex<BTreeMap<VendorId, Seen>>,
    observed: Mutex<BTreeMap<SessionId, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SoftState {
    /// Takes in a heartbeat.
    pub fn heard(&self, heartbeat: &Heartbeat, at: Duration) {
        let mut free = BTreeMap::new();
        for device in heartbeat
            .devices
            .iter()
            .filter(|device| device.state == DeviceState::Healthy)
        {
            *free.entry(device.class.clone()).or_insert(0) += device.free;
        }
        let seen = Seen {
            at,
            free,
            in_flight_bytes: heartbeat.in_flight_bytes,
        };
        lock(&self.vendors).insert(heartbeat.vendor, seen);
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
    pub fn safe_index(&self, sessions: &[SessionId]) -> u64 {
        let mut observed = lock(&self.observed);
        observed.retain(|session, _| sessions.contains(session));
        let told = sessions
            .iter()
            .map(|session| observed.get(session).copied().unwrap_or(0));
        told.min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{SessionId, SoftState};

    #[test]
    fn a_session_that_has_not_reported_holds_back_every_erase() {
        let soft = SoftState::default();
        let (one, two) = (SessionId(1), SessionId(2));
        soft.observed(one, 7);
        soft.observed(one, 5);
        assert_eq!(soft.safe_index(&[one]), 7);
        assert_eq!(soft.safe_index(&[one, two]), 0);
        assert_eq!(soft.safe_index(&[]), u64::MAX);
    }
}
