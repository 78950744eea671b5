//! Leases at this vendor: which are closed, how much of each is used, which copies are in flight. Persisting
//! a close and judging copies happen elsewhere.

use crate::device::record::ClosedState;
use crate::sync::{Shared, lock};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::Notify;
use ullage_model::ids::{CopyId, LeaseId};
use ullage_model::wire::agent::ClosedLeases;
use ullage_model::wire::chunk::ChunkRefusal;

impl ClosedState {
    /// Whether `lease` is closed.
    #[must_use]
    pub fn is_closed(&self, lease: LeaseId) -> bool {
        (lease < self.mark && self.open.binary_search(&lease).is_err())
            || self.closed.binary_search(&lease).is_ok()
    }

    /// Closes `lease`. Returns whether it was open.
    pub fn close(&mut self, lease: LeaseId) -> bool {
        if self.is_closed(lease) {
            return false;
        }
        if lease < self.mark {
            self.open.retain(|open| *open != lease);
        } else {
            self.closed.push(lease);
            self.closed.sort_unstable();
        }
        true
    }

    /// Adds what `other` knows: what is closed in either is closed.
    pub fn merge(&mut self, other: &ClosedState) {
        let mark = self.mark.max(other.mark);
        let mut open: Vec<LeaseId> = self
            .open
            .iter()
            .chain(&other.open)
            .copied()
            .filter(|lease| !self.is_closed(*lease) && !other.is_closed(*lease))
            .collect();
        open.sort_unstable();
        open.dedup();
        let mut closed: Vec<LeaseId> = self
            .closed
            .iter()
            .chain(&other.closed)
            .copied()
            .filter(|lease| *lease >= mark)
            .collect();
        closed.sort_unstable();
        closed.dedup();
        *self = Self { mark, open, closed };
    }
}

impl From<ClosedLeases> for ClosedState {
    fn from(leases: ClosedLeases) -> Self {
        let mut open = leases.open;
        open.sort_unstable();
        Self {
            mark: leases.mark,
            open,
            closed: Vec::new(),
        }
    }
}

#[derive(Default)]
struct LeaseUse {
    room: u64,
    in_flight: u64,
}

#[derive(Default)]
struct Inner {
    closed: ClosedState,
    uses: HashMap<LeaseId, LeaseUse>,
    in_flight: HashSet<CopyId>,
}

/// The leases of one agent.
#[derive(Default)]
pub struct Leases {
    inner: Shared<Inner>,
    idle: Notify,
}

/// A copy being received: its name and its room are taken until this is dropped.
pub struct Admission {
    leases: Arc<Leases>,
    copy: CopyId,
    room: u64,
    stored: bool,
}

impl Admission {
    /// The copy is stored: its room stays used.
    pub fn stored(&mut self) {
        self.stored = true;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inner = lock(&self.leases.inner);
        inner.in_flight.remove(&self.copy);
        let closed = inner.closed.is_closed(self.copy.lease);
        if let Some(used) = inner.uses.get_mut(&self.copy.lease) {
            used.in_flight -= 1;
            if !self.stored {
                used.room -= self.room;
            }
            if used.in_flight == 0 && closed {
                inner.uses.remove(&self.copy.lease);
                self.leases.idle.notify_waiters();
            }
        }
    }
}

impl Leases {
    /// Leases with what the devices recorded as closed.
    #[must_use]
    pub fn new(closed: ClosedState) -> Self {
        Self {
            inner: Shared::new(Inner {
                closed,
                ..Inner::default()
            }),
            idle: Notify::new(),
        }
    }

    /// Whether the room used under `lease` is known.
    #[must_use]
    pub fn is_counted(&self, lease: LeaseId) -> bool {
        lock(&self.inner).uses.contains_key(&lease)
    }

    /// Sets the room used under `lease` unless it is known.
    pub fn count(&self, lease: LeaseId, room: u64) {
        lock(&self.inner)
            .uses
            .entry(lease)
            .or_insert(LeaseUse { room, in_flight: 0 });
    }

    /// Takes the name of `copy` and `room` bytes of its lease's `cap`.
    ///
    /// # Errors
    /// When the lease is closed or has not that much left, or the copy is already being received.
    pub fn admit(self: &Arc<Self>, copy: CopyId, room: u64, cap: u64) -> Result<Admission, ChunkRefusal> {
        let mut inner = lock(&self.inner);
        if inner.closed.is_closed(copy.lease) {
            return Err(ChunkRefusal::LeaseClosed(copy.lease));
        }
        if inner.in_flight.contains(&copy) {
            return Err(ChunkRefusal::Header(format!("{copy} is already being received")));
        }
        let used = inner.uses.entry(copy.lease).or_default();
        if used.room.saturating_add(room) > cap {
            return Err(ChunkRefusal::Grant(format!(
                "{} of the {cap} bytes granted under {} are used, {room} more are wanted",
                used.room, copy.lease
            )));
        }
        used.room += room;
        used.in_flight += 1;
        inner.in_flight.insert(copy);
        Ok(Admission {
            leases: Arc::clone(self),
            copy,
            room,
            stored: false,
        })
    }

    /// Whether `lease` is known to be closed.
    #[must_use]
    pub fn is_closed(&self, lease: LeaseId) -> bool {
        lock(&self.inner).closed.is_closed(lease)
    }

    /// All that is known of closed leases.
    #[must_use]
    pub fn closed(&self) -> ClosedState {
        lock(&self.inner).closed.clone()
    }

    /// Learns of closed leases; from here on chunks under them are refused.
    pub fn learn(&self, closed: &ClosedState) {
        let mut inner = lock(&self.inner);
        inner.closed.merge(closed);
        let Inner { closed, uses, .. } = &mut *inner;
        uses.retain(|lease, used| used.in_flight > 0 || !closed.is_closed(*lease));
    }

    /// Closes leases; from here on chunks under them are refused.
    pub fn close(&self, leases: &[LeaseId]) {
        let mut inner = lock(&self.inner);
        for lease in leases {
            inner.closed.close(*lease);
        }
    }

    /// Returns when no copy under `lease` is in flight any more.
    pub async fn wait_idle(&self, lease: LeaseId) {
        loop {
            let notified = self.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if lock(&self.inner)
                .uses
                .get(&lease)
                .is_none_or(|used| used.in_flight == 0)
            {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ClosedState;
    use ullage_model::ids::LeaseId;

    fn state(mark: u64, open: &[u64], closed: &[u64]) -> ClosedState {
        let ids = |list: &[u64]| list.iter().copied().map(LeaseId).collect();
        ClosedState {
            mark: LeaseId(mark),
            open: ids(open),
            closed: ids(closed),
        }
    }

    #[test]
    fn a_merge_closes_what_either_side_closed_and_opens_nothing() {
        let sides = [
            state(5, &[2, 3], &[7]),
            state(9, &[3, 4, 7, 8], &[]),
            state(0, &[], &[1, 12]),
            state(20, &[8, 13], &[21]),
        ];
        for left in &sides {
            for right in &sides {
                let mut merged = left.clone();
                merged.merge(right);
                for lease in (0..25).map(LeaseId) {
                    let expected = left.is_closed(lease) || right.is_closed(lease);
                    assert_eq!(
                        merged.is_closed(lease),
                        expected,
                        "{lease} of {left:?} and {right:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn closing_below_and_above_the_mark_holds() {
        let mut state = state(5, &[2, 3], &[]);
        assert!(state.close(LeaseId(2)) && state.close(LeaseId(6)) && !state.close(LeaseId(1)));
        assert!(state.is_closed(LeaseId(2)) && state.is_closed(LeaseId(6)) && !state.is_closed(LeaseId(3)));
    }
}
