//! Room for one copy, from being taken to being settled or given back.

use super::{Rooms, find};
use std::sync::Arc;
use std::time::Duration;
use ullage_model::ids::{LeaseId, VendorId};
use ullage_model::wire::chunk::Grant;

/// Room for one copy, taken from a lease. What becomes of it when dropped depends on how far it came.
#[derive(Debug)]
pub struct Placement {
    /// Where.
    pub vendor: VendorId,
    /// The placement lease.
    pub lease: LeaseId,
    /// Device class whose room it is.
    pub device_class: String,
    /// Made out to the vendor for the lease.
    pub grant: Grant,
    /// The vendor's score when it was chosen.
    pub score: u16,
    pub(super) room: u64,
    pub(super) stage: Stage,
    pub(super) class: String,
    pub(super) rooms: Arc<Rooms>,
    pub(super) local: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No vendor has heard of it: the room can be used again.
    Reserved,
    /// The vendor may hold the copy: the room comes back when the lease is closed.
    Sent,
    /// Committed.
    Settled,
}

impl Placement {
    /// The grant leaves this process now.
    pub fn sent(&mut self, now: Duration) {
        self.stage = Stage::Sent;
        self.local = now;
    }

    /// The vendor surely stored nothing: the room can be used again.
    pub fn refused(&mut self) {
        self.stage = Stage::Reserved;
    }

    /// The vendor has no room for its grants, or does not take them any more: nothing further is placed under
    /// this lease there.
    pub fn exhausted(&mut self) {
        self.stage = Stage::Reserved;
        self.room = 0;
        let mut classes = self.rooms.lock();
        if let Some(lease) = find(&mut classes, &self.class, self.lease)
            && let Some(row) = lease.row(self.vendor)
        {
            row.unused = 0;
        }
    }

    /// The copy was committed with `room` bytes.
    pub fn settled(&mut self, room: u64) {
        self.stage = Stage::Settled;
        let unused = self.room.saturating_sub(room);
        self.room = 0;
        if unused > 0 {
            let mut classes = self.rooms.lock();
            if let Some(row) = find(&mut classes, &self.class, self.lease).and_then(|it| it.row(self.vendor))
            {
                row.unused += unused;
            }
        }
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        let mut classes = self.rooms.lock();
        let Some(lease) = find(&mut classes, &self.class, self.lease) else {
            return;
        };
        lease.outstanding = lease.outstanding.saturating_sub(1);
        match self.stage {
            Stage::Reserved => {
                let room = self.room;
                if let Some(row) = lease.row(self.vendor) {
                    row.unused += room;
                }
            }
            Stage::Sent => {
                lease.dirty_since.get_or_insert(self.local);
            }
            Stage::Settled => {}
        }
    }
}
