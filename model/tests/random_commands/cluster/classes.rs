//! Classes and the vendors they choose among: what each vendor offers, classes that change at any time, and
//! whether what was committed, or refused, kept the rule as it stood, told once more in other words.

use super::Cluster;
use crate::Rule;
use crate::agents::Agent;
use crate::support::{HDD, STANDARD, device};
use std::collections::BTreeSet;
use ullage_model::command::{Body, Command, Reply, SessionCommand};
use ullage_model::fat::query;
use ullage_model::fat::rows::{ChunkRow, ClassRow, RoomRow};
use ullage_model::ids::VendorId;
use ullage_model::limits::CHUNK_BYTES_MIN;
use ullage_model::rejection::Rejection;
use ullage_model::units::frames;
use ullage_model::wire::agent::DeviceReport;

/// What a vendor offers, but for its capacity.
#[derive(Debug)]
pub struct Offer {
    pub name: &'static str,
    /// Empty: it stands in no zone.
    pub zone: &'static str,
    pub price: u64,
    pub device_class: &'static str,
    pub devices: u32,
}

const fn offer(
    name: &'static str,
    zone: &'static str,
    price: u64,
    device_class: &'static str,
    devices: u32,
) -> Offer {
    Offer {
        name,
        zone,
        price,
        device_class,
        devices,
    }
}

/// All vendors.
pub const OFFERS: [Offer; 5] = [
    offer("a", "x", 1, HDD, 2),
    offer("b", "x", 2, HDD, 2),
    offer("c", "y", 1, "ssd", 2),
    offer("d", "z", 3, HDD, 1),
    offer("e", "", 1, HDD, 2),
];

impl Offer {
    /// Its devices, with so many bytes in all.
    pub fn reports(&self, capacity: u64) -> Vec<DeviceReport> {
        let of = |number: u32| {
            let (number, devices) = (u64::from(number), u64::from(self.devices));
            capacity * (number + 1) / devices - capacity * number / devices
        };
        let report = |number| device(number, self.device_class, of(number));
        (0..self.devices).map(report).collect()
    }
}

impl Rule {
    fn row(&self) -> ClassRow {
        let device_class = |ssd| if ssd { "ssd" } else { HDD }.to_owned();
        ClassRow {
            name: STANDARD.to_owned(),
            copies: self.copies,
            zones: self.zones.min(self.copies),
            device_class: self.ssd.map(device_class),
            max_price: self.max_price,
            chunk_bytes: CHUNK_BYTES_MIN,
            pieces: self.pieces,
            settings_version: 0,
        }
    }
}

impl Cluster {
    pub(super) fn set_class(&mut self, rule: &Rule) {
        let command = Command::SetClass(rule.row());
        assert_eq!(self.world.decide(&command), Reply::Done);
    }

    /// The class as it stands.
    pub(super) fn class(&self) -> ClassRow {
        query::class(&self.world.rows, STANDARD).unwrap().unwrap()
    }

    /// Room of the devices that a vendor offers.
    pub(super) fn room_of(&self, agent: &Agent) -> RoomRow {
        let rooms = query::rooms(&self.world.rows, agent.vendor).unwrap();
        let such = |room: &(String, RoomRow)| room.0 == agent.offer.device_class;
        rooms
            .into_iter()
            .find(such)
            .map_or_else(RoomRow::default, |room| room.1)
    }

    pub(super) fn agent(&self, vendor: VendorId) -> &Agent {
        self.agents.iter().find(|agent| agent.vendor == vendor).unwrap()
    }

    /// What was committed kept the rule of its class, and what was refused for its placement did not.
    pub(super) fn judge_placement(&self, command: &SessionCommand, reply: &Reply) {
        let body = match command {
            SessionCommand::Slice(slice) => Some((&slice.class, &slice.chunks)),
            SessionCommand::FinalizeObject(finalize) => placed(&finalize.body),
            SessionCommand::FinalizePart(finalize) => placed(&finalize.body),
            _ => None,
        };
        let Some((named, chunks)) = body else { return };
        let class = self.class();
        let kept = chunks.iter().all(|chunk| self.keeps(&class, chunk));
        match reply {
            Reply::Done | Reply::Stored { .. } => {
                assert!(kept, "{chunks:?} was committed under {class:?}");
                assert_eq!(named.1, class.settings_version, "committed under an old rule");
            }
            Reply::Refused(Rejection::Placement(why)) => assert!(!kept, "{chunks:?} was refused: {why}"),
            _ => {}
        }
    }

    fn keeps(&self, class: &ClassRow, chunk: &ChunkRow) -> bool {
        let (mut vendors, mut zones) = (BTreeSet::new(), BTreeSet::new());
        for copy in &chunk.copies {
            let offer = self.agent(copy.vendor).offer;
            let pieces = u64::from(class.pieces).min(frames(chunk.plaintext_bytes));
            let good = class.max_price.is_none_or(|most| offer.price <= most)
                && class
                    .device_class
                    .as_ref()
                    .is_none_or(|wanted| wanted == offer.device_class)
                && u64::from(copy.pieces) >= pieces;
            if !good {
                return false;
            }
            vendors.insert(copy.vendor);
            if !offer.zone.is_empty() {
                zones.insert(offer.zone);
            }
        }
        let spread = class.zones < 2 || zones.len() >= class.zones as usize;
        vendors.len() >= class.copies as usize && vendors.len() == chunk.copies.len() && spread
    }
}

fn placed(body: &Body) -> Option<(&(String, u64), &Vec<ChunkRow>)> {
    match body {
        Body::Chunks { class, chunks, .. } => Some((class, chunks)),
        Body::Empty | Body::Inline { .. } => None,
    }
}
