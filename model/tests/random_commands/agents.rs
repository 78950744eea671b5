//! Vendor agents as far as the FAT sees them: they hold copies under leases they know to be open, judge what
//! they hold when a lease closes, and erase what they are ordered to.

use crate::cluster::classes::Offer;
use crate::support::World;
use std::collections::{BTreeMap, BTreeSet};
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::query::{self, ErasePermit};
use ullage_model::ids::{CopyId, LeaseId, VendorId};
use ullage_model::wire::agent::{DamagedCopy, JudgeRequest, Judgement};

/// One vendor's local FAT.
#[derive(Debug)]
pub struct Agent {
    /// Who it is.
    pub vendor: VendorId,
    /// Room of each copy it holds.
    pub copies: BTreeMap<CopyId, u64>,
    /// What it offers.
    pub offer: &'static Offer,
    /// Least capacity it ever had, and most.
    pub offered: (u64, u64),
    closed: BTreeSet<LeaseId>,
}

impl Agent {
    pub fn new(vendor: VendorId, offer: &'static Offer, capacity: u64) -> Self {
        Self {
            vendor,
            offer,
            copies: BTreeMap::new(),
            offered: (capacity, capacity),
            closed: BTreeSet::new(),
        }
    }

    /// Stores a copy, unless its lease is closed here.
    pub fn store(&mut self, copy: CopyId, room: u64) -> bool {
        if self.closed.contains(&copy.lease) {
            return false;
        }
        assert!(self.copies.insert(copy, room).is_none(), "{copy} comes twice");
        true
    }

    /// Bytes it holds.
    pub fn stored(&self) -> u64 {
        self.copies.values().sum()
    }

    /// Confirms so many closes and acknowledges so many erases; whether there was anything to do.
    pub fn work(&mut self, world: &mut World, closes: usize, erases: usize) -> bool {
        let leases = query::leases_to_confirm(&world.rows, self.vendor, closes).unwrap();
        for lease in &leases {
            self.close(world, *lease);
        }
        let permit = ErasePermit {
            below_index: u64::MAX,
            released_before: ClusterTime(0),
        };
        let orders = query::erase_orders(&world.rows, self.vendor, &permit, erases).unwrap();
        let busy = !leases.is_empty() || !orders.is_empty();
        for (_, copy) in &orders {
            self.copies.remove(copy);
        }
        let acknowledge = Command::AcknowledgeErased {
            vendor: self.vendor,
            copies: orders,
        };
        assert_eq!(world.decide(&acknowledge), Reply::Done);
        busy
    }

    fn close(&mut self, world: &mut World, lease: LeaseId) {
        self.closed.insert(lease);
        let copies: Vec<CopyId> = self
            .copies
            .keys()
            .filter(|copy| copy.lease == lease)
            .copied()
            .collect();
        let request = JudgeRequest {
            vendor: self.vendor,
            copies,
        };
        let judged = query::judge(&world.rows, &request).unwrap().judgements;
        for (copy, judgement) in request.copies.iter().zip(judged) {
            match judgement {
                Judgement::Keep => {}
                Judgement::Erase => drop(self.copies.remove(copy)),
                Judgement::Undecided => panic!("{copy}: its lease closes and nobody knows"),
            }
        }
        let confirm = Command::ConfirmClose {
            lease,
            vendor: self.vendor,
        };
        assert_eq!(world.decide(&confirm), Reply::Done);
    }

    /// Loses the picked copy and reports it.
    pub fn lose(&mut self, world: &mut World, pick: u8) {
        let Some(copy) = self
            .copies
            .keys()
            .nth(usize::from(pick) % self.copies.len().max(1))
            .copied()
        else {
            return;
        };
        self.copies.remove(&copy);
        let copies = vec![DamagedCopy { copy, lost: true }];
        let report = Command::ReportDamaged {
            vendor: self.vendor,
            copies,
        };
        assert_eq!(world.decide(&report), Reply::Done);
    }
}
