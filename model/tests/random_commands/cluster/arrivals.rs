//! Vendors that come by invitation and are shut out, and metadata nodes that come and go. The newcomers offer
//! nothing, so that the sums of the others stay as they are. What must come of each command is kept beside the
//! table, in a simpler form, and compared.

use crate::support::{World, registration};
use std::collections::{BTreeMap, BTreeSet};
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::cluster::FORMAT_LEVEL;
use ullage_model::fat::query;
use ullage_model::ids::{Digest, VendorId};
use ullage_model::limits::GRANT_MS;
use ullage_model::rejection::Rejection;
use ullage_model::wire::chunk::PublicKey;

const NEWCOMERS: u8 = 6;
const INVITES: u8 = 4;
const NODES: u8 = 5;

/// What is known of newcomers without the table.
#[derive(Debug, Default)]
pub struct Arrivals {
    invites: BTreeMap<u8, ClusterTime>,
    vendors: BTreeMap<u8, VendorId>,
    revoked: BTreeSet<u8>,
    nodes: BTreeMap<u8, Option<ClusterTime>>,
}

fn secret(number: u8) -> Digest {
    Digest::of(&[number])
}

fn now(world: &World) -> ClusterTime {
    query::cluster_time(&world.rows).unwrap()
}

impl Arrivals {
    pub fn invite(&mut self, world: &mut World, number: u8, life_ms: u64) {
        let number = number % INVITES;
        let secret = secret(number);
        let there = query::invite(&world.rows, &secret).unwrap().is_some();
        match world.decide(&Command::Invite { secret, life_ms }) {
            Reply::Done => {
                assert!(!there, "invited twice");
                self.invites.insert(number, now(world).plus(life_ms));
            }
            Reply::Refused(Rejection::Invalid(_)) => assert!(there),
            reply => panic!("{reply:?}"),
        }
    }

    pub fn enrol(&mut self, world: &mut World, newcomer: u8, invite: u8) {
        let newcomer = newcomer % NEWCOMERS;
        let number = invite % (INVITES + 1);
        let shown = (number < INVITES).then_some(number);
        let command = Command::EnrolVendor {
            register: registration(&format!("newcomer {newcomer}"), "x", vec![]),
            invite: shown.map(secret),
        };
        let reply = world.decide(&command);
        let invited = shown.is_some_and(|number| {
            let expires = self.invites.get(&number);
            expires.is_some_and(|expires| *expires > now(world))
        });
        match self.vendors.get(&newcomer) {
            Some(vendor) if self.revoked.contains(&newcomer) => {
                assert_eq!(reply, Reply::Refused(Rejection::VendorRevoked(*vendor)));
            }
            Some(vendor) => assert_eq!(reply, Reply::Vendor(*vendor)),
            None if !invited => assert_eq!(reply, Reply::Refused(Rejection::NotInvited)),
            None => {
                let Reply::Vendor(vendor) = reply else {
                    panic!("{reply:?}")
                };
                self.vendors.insert(newcomer, vendor);
                self.invites.remove(&number);
            }
        }
    }

    pub fn revoke(&mut self, world: &mut World, newcomer: u8) {
        let newcomer = newcomer % NEWCOMERS;
        if let Some(&vendor) = self.vendors.get(&newcomer) {
            assert_eq!(world.decide(&Command::RevokeVendor { vendor }), Reply::Done);
            self.revoked.insert(newcomer);
        }
    }

    pub fn member(&mut self, world: &mut World, node: u8, leaves: bool) {
        let node = node % NODES;
        let id = node.into();
        if leaves {
            assert_eq!(world.decide(&Command::RemoveMember { node: id }), Reply::Done);
            let left = now(world);
            if let Some(row) = self.nodes.get_mut(&node) {
                row.get_or_insert(left);
            }
        } else {
            let command = Command::SetMember {
                node: id,
                address: String::new(),
                issuer: PublicKey([node; 32]),
                format_level: FORMAT_LEVEL,
            };
            assert_eq!(world.decide(&command), Reply::Done);
            self.nodes.insert(node, None);
        }
    }

    /// Everybody's grants are good as long as they may run, and those shut out are known.
    pub fn check(&self, world: &World) {
        let issuers = query::issuers(&world.rows).unwrap();
        for (node, left) in &self.nodes {
            let good = left.is_none_or(|left| now(world).since(left) <= GRANT_MS);
            assert!(!good || issuers.contains(&PublicKey([*node; 32])), "node {node}");
        }
        let revoked: BTreeSet<VendorId> = query::revoked(&world.rows).unwrap().into_iter().collect();
        let expected: BTreeSet<VendorId> = self.revoked.iter().map(|number| self.vendors[number]).collect();
        assert_eq!(revoked, expected);
    }
}
