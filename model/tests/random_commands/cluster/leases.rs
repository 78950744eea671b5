//! Gateways and their leases: asked for as the leader would or blindly, moved, shrunk, given back.

use super::{Cluster, pick};
use crate::agents::Agent;
use crate::support::STANDARD;
use ullage_model::command::{Reply, SessionCommand};
use ullage_model::fat::choice::{Choice, VendorLoad, choose_rows};
use ullage_model::ids::LeaseId;
use ullage_model::limits::LEASE_MS;
use ullage_model::rejection::Rejection;

impl Cluster {
    pub(super) fn lease_of(&self, at: usize, number: u8) -> Option<LeaseId> {
        let mut leases: Vec<LeaseId> = self.gateways[at].grants.keys().map(|key| key.0).collect();
        leases.dedup();
        pick(&leases, number).map(|at| leases[at])
    }

    /// The picked lease or one behind it, the first with room for enough copies.
    pub(super) fn roomy_lease(
        &self,
        at: usize,
        number: u8,
        (copies, needed): (usize, u64),
    ) -> Option<LeaseId> {
        let grants = &self.gateways[at].grants;
        let roomy = |lease: &LeaseId| {
            let rows = grants.iter().filter(|((held, _), _)| held == lease);
            rows.filter(|(_, (granted, sent))| sent + needed <= *granted)
                .count()
                >= copies
        };
        let behind = (0..=u8::MAX).filter_map(|offset| self.lease_of(at, number.wrapping_add(offset)));
        behind
            .take(grants.len())
            .find(roomy)
            .or_else(|| self.lease_of(at, number))
    }

    pub(super) fn with_lease(&mut self, at: usize, number: u8, command: impl Fn(LeaseId) -> SessionCommand) {
        if let Some(lease) = self.lease_of(at, number) {
            self.submit(at, command(lease));
        }
    }

    pub(super) fn choose(&mut self, at: usize, bytes: u64, least_bytes: u64) {
        let choice = Choice {
            class: STANDARD,
            bytes,
            least_bytes,
            avoid: &[],
        };
        let load = |vendor| {
            let agent = self.agents.iter().find(|agent| agent.vendor == vendor);
            let free = agent.map_or(0, |agent| agent.offered.1.saturating_sub(agent.stored()));
            VendorLoad {
                reported_free: agent
                    .map(|agent| (agent.offer.device_class.to_owned(), free))
                    .into_iter()
                    .collect(),
                in_flight_bytes: 0,
            }
        };
        if let Ok(rows) = choose_rows(&self.world.rows, &choice, &load).unwrap() {
            let class = STANDARD.to_owned();
            self.allocate(
                at,
                SessionCommand::Allocate {
                    class,
                    rows,
                    duration_ms: LEASE_MS,
                },
            );
        }
    }

    /// Asks for `bytes` at each vendor of the mask.
    pub(super) fn blindly(&self, mask: u8, bytes: u64) -> SessionCommand {
        let named = self
            .agents
            .iter()
            .enumerate()
            .filter(|(at, _)| mask & (1 << at) != 0);
        let row = |(_, agent): (usize, &Agent)| (agent.vendor, agent.offer.device_class.to_owned(), bytes);
        SessionCommand::Allocate {
            class: STANDARD.to_owned(),
            rows: named.map(row).collect(),
            duration_ms: LEASE_MS,
        }
    }

    pub(super) fn allocate(&mut self, at: usize, command: SessionCommand) {
        let SessionCommand::Allocate { rows, .. } = command.clone() else {
            panic!("not an allocation")
        };
        let free: Vec<u64> = rows
            .iter()
            .map(|row| self.room_of(self.agent(row.0)).free())
            .collect();
        match self.submit(at, command) {
            Reply::Lease { lease, .. } => {
                let grants = rows
                    .into_iter()
                    .map(|(vendor, _, bytes)| ((lease, vendor), (bytes, 0)));
                self.gateways[at].grants.extend(grants);
            }
            Reply::Refused(Rejection::NoRoom {
                vendor,
                free: said,
                asked,
            }) => {
                let named = rows.iter().position(|row| row.0 == vendor).unwrap();
                assert_eq!((said, asked), (free[named], rows[named].2));
                assert!(asked > said, "falsely full");
            }
            Reply::Refused(
                Rejection::Placement(_)
                | Rejection::SessionGone
                | Rejection::WindowFull
                | Rejection::SequenceAbandoned(_),
            ) => {}
            reply => panic!("allocate: {reply:?}"),
        }
    }

    pub(super) fn shrink(&mut self, at: usize, (lease, vendor): (u8, u8), bytes: u64) {
        let Some(lease) = self.lease_of(at, lease) else {
            return;
        };
        let vendor = self.agents[pick(&self.agents, vendor).unwrap()].vendor;
        let Some((granted, sent)) = self.gateways[at].grants.get(&(lease, vendor)).copied() else {
            return;
        };
        let bytes = bytes.min(granted - sent);
        let rows = vec![(vendor, bytes)];
        if self.submit(at, SessionCommand::ShrinkLease { lease, rows }) == Reply::Done {
            self.gateways[at]
                .grants
                .insert((lease, vendor), (granted - bytes, sent));
        }
    }
}
