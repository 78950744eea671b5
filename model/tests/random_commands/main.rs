//! Random commands of a few sessions that contend for the last bytes of a few vendors, decided on a table in
//! memory. After each command the table's invariants hold, vendors hold every good copy and never more bytes
//! than they offered; after everything is closed and erased nothing is left.
//!
//! An action is drawn blind (plain numbers) and acts on what is there when its turn comes, so that sequences
//! shrink well. To add a command: add an [`Action`], draw it in [`action`], act on it in `cluster.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod cluster;

use cluster::Cluster;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

/// Something a gateway, a vendor, the leader or an operator does. Numbers pick among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Opens a session, if there are few.
    OpenSession,
    /// Its gateway ends a session, or just falls silent.
    LoseGateway { gateway: u8, silently: bool },
    /// A sign of life; forgets this many outcomes.
    Renew { gateway: u8, acknowledge: u8 },
    /// Locks room as the leader would choose.
    Choose { gateway: u8, bytes: u64, least: u64 },
    /// Locks room blindly at the vendors of this mask.
    Allocate { gateway: u8, vendors: u8, bytes: u64 },
    /// Moves a deadline.
    RenewLease {
        gateway: u8,
        lease: u8,
        duration_ms: u64,
    },
    /// Gives back a part of what was not sent anywhere.
    Shrink {
        gateway: u8,
        lease: u8,
        vendor: u8,
        bytes: u64,
    },
    /// Returns a lease.
    Return { gateway: u8, lease: u8 },
    /// The leader asks for a lease's unused room.
    Recall { gateway: u8, lease: u8 },
    /// The leader closes a lease, due or not.
    Expire { gateway: u8, lease: u8 },
    /// Sends a chunk to vendors and never speaks of it again.
    Stray {
        gateway: u8,
        lease: u8,
        vendors: u8,
        bytes: u64,
    },
    /// Sends chunks and commits them as a slice of the building blob.
    Slice {
        gateway: u8,
        lease: u8,
        vendors: u8,
        chunks: u8,
    },
    /// Gives up the building blob.
    AbandonBlob { gateway: u8 },
    /// Sends a last chunk (or none) and finalizes an object.
    Finalize {
        gateway: u8,
        lease: u8,
        vendors: u8,
        bytes: u64,
        key: u8,
    },
    /// Stores a small object in the FAT itself.
    Inline { gateway: u8, bytes: u16, key: u8 },
    /// Copies an object, maybe to itself, maybe one that is not there.
    Copy { gateway: u8, from: u8, to: u8 },
    /// Deletes an object.
    Delete { gateway: u8, key: u8 },
    /// Replaces the tags of an object that may not be there.
    Tag { gateway: u8, key: u8 },
    /// Sets a document of the bucket's settings; of no bytes, deletes it.
    Document { gateway: u8, kind: u8, bytes: u8 },
    /// Deletes one of its versions for good.
    DeleteVersion { gateway: u8, key: u8, version: u8 },
    /// An operator sets what the bucket may hold.
    SetQuota {
        gateway: u8,
        bytes: Option<u64>,
        objects: Option<u64>,
    },
    /// Switches versioning on, or suspends it.
    SetVersioning { gateway: u8, enabled: bool },
    /// Begins a multipart upload.
    CreateUpload { gateway: u8, key: u8 },
    /// Sends a last chunk (or none) and finalizes a part.
    Part {
        gateway: u8,
        upload: u8,
        part: u8,
        lease: u8,
        vendors: u8,
        bytes: u64,
    },
    /// Completes an upload with the parts of this mask, or leaves the manifest half made.
    Complete {
        gateway: u8,
        upload: u8,
        parts: u8,
        whole: bool,
    },
    /// Aborts an upload, completed or not.
    AbortUpload { gateway: u8, upload: u8 },
    /// Sends an earlier command again.
    Repeat { back: u8 },
    /// Asks what became of a sequence, maybe one that was never used.
    Resolve { gateway: u8, ahead: u8, back: u8 },
    /// Time passes.
    Tick { ms: u64 },
    /// A step of draining the release queue.
    Drain,
    /// A step of abandoning an ended session.
    Abandon { gateway: u8 },
    /// A vendor does what heartbeats ask of it, a part of it.
    Vendor { vendor: u8, closes: u8, erases: u8 },
    /// A vendor loses a copy and says so.
    Damage { vendor: u8, copy: u8 },
    /// A vendor's device grows, shrinks or vanishes.
    Devices { vendor: u8, capacity: u64 },
    /// A vendor turns stale, dead or healthy.
    VendorState { vendor: u8, state: u8 },
    /// An operator invites vendors.
    Invite { number: u8, life_ms: u64 },
    /// A vendor enrols: one that is there, or a new one; with an invitation, maybe used or expired, or none.
    Enrol { vendor: u8, invite: u8 },
    /// A new vendor is shut out.
    Revoke { vendor: u8 },
    /// A metadata node tells of itself, or leaves.
    Member { node: u8, leaves: bool },
    /// The class gets another rule.
    SetClass { rule: Rule },
}

/// What a class asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rule {
    copies: u32,
    zones: u32,
    /// Only such devices; `None`: any.
    ssd: Option<bool>,
    max_price: Option<u64>,
    pieces: u32,
}

impl Rule {
    /// Copies anywhere.
    fn plain(copies: u32) -> Self {
        let (zones, ssd, max_price, pieces) = (0, None, None, 1);
        Self {
            copies,
            zones,
            ssd,
            max_price,
            pieces,
        }
    }
}

/// Mostly rules that some vendors can keep: a copy, two, now and then three.
fn rule() -> impl Strategy<Value = Rule> {
    let copies = prop_oneof![3 => Just(1_u32), 3 => Just(2), 1 => Just(3)];
    let ssd = prop_oneof![4 => Just(None), 2 => Just(Some(false)), 1 => Just(Some(true))];
    let max_price = prop_oneof![2 => Just(None), 1 => (0..4_u64).prop_map(Some)];
    let pieces = prop_oneof![2 => Just(1_u32), 1 => Just(2)];
    (copies, 0..4_u32, ssd, max_price, pieces).prop_map(|(copies, zones, ssd, max_price, pieces)| Rule {
        copies,
        zones,
        ssd,
        max_price,
        pieces,
    })
}

fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![1..200_u64, 1..200_000_u64, 900_000..1_100_000_u64]
}

fn lease_bytes() -> impl Strategy<Value = u64> {
    prop_oneof![1 => bytes(), 4 => 1_000_000..5_000_000_u64]
}

fn gateway_action() -> impl Strategy<Value = Action> {
    let (gateway, lease, vendors) = (any::<u8>(), any::<u8>(), any::<u8>());
    let g = || any::<u8>();
    prop_oneof![
        4 => (g(), lease_bytes(), lease_bytes()).prop_map(|(gateway, bytes, least)| {
            Action::Choose { gateway, bytes, least }
        }),
        3 => (g(), 0..32_u8, lease_bytes()).prop_map(|(gateway, vendors, bytes)| {
            Action::Allocate { gateway, vendors, bytes }
        }),
        1 => (g(), g(), 0..70_000_u64).prop_map(|(gateway, lease, duration_ms)| {
            Action::RenewLease { gateway, lease, duration_ms }
        }),
        2 => (g(), g(), g(), bytes()).prop_map(|(gateway, lease, vendor, bytes)| {
            Action::Shrink { gateway, lease, vendor, bytes }
        }),
        2 => (g(), g()).prop_map(|(gateway, lease)| Action::Return { gateway, lease }),
        2 => (gateway, lease, vendors, bytes()).prop_map(|(gateway, lease, vendors, bytes)| {
            Action::Stray { gateway, lease, vendors, bytes }
        }),
        6 => (g(), g(), g(), 1..4_u8).prop_map(|(gateway, lease, vendors, chunks)| {
            Action::Slice { gateway, lease, vendors, chunks }
        }),
        1 => g().prop_map(|gateway| Action::AbandonBlob { gateway }),
        10 => (g(), g(), g(), bytes(), g()).prop_map(|(gateway, lease, vendors, bytes, key)| {
            Action::Finalize { gateway, lease, vendors, bytes, key }
        }),
        2 => (g(), prop_oneof![0..600_u16, 0..5000_u16], g()).prop_map(|(gateway, bytes, key)| Action::Inline { gateway, bytes, key }),
        4 => (g(), g(), g()).prop_map(|(gateway, from, to)| Action::Copy { gateway, from, to }),
        4 => (g(), g()).prop_map(|(gateway, key)| Action::Delete { gateway, key }),
        1 => (g(), g()).prop_map(|(gateway, key)| Action::Tag { gateway, key }),
        1 => (g(), g(), 0..3_u8).prop_map(|(gateway, kind, bytes)| Action::Document { gateway, kind, bytes }),
        4 => (g(), g(), g()).prop_map(|(gateway, key, version)| Action::DeleteVersion { gateway, key, version }),
        1 => (g(), prop::option::of(0..3_000_000_u64), prop::option::of(0..6_u64)).prop_map(
            |(gateway, bytes, objects)| Action::SetQuota { gateway, bytes, objects }
        ),
        1 => (g(), any::<bool>()).prop_map(|(gateway, enabled)| Action::SetVersioning { gateway, enabled }),
        5 => upload_action(),
        2 => g().prop_map(|back| Action::Repeat { back }),
        1 => (g(), 0..3_u8, g()).prop_map(|(gateway, ahead, back)| Action::Resolve { gateway, ahead, back }),
        3 => (g(), g()).prop_map(|(gateway, acknowledge)| Action::Renew { gateway, acknowledge }),
    ]
}

fn upload_action() -> impl Strategy<Value = Action> {
    let g = || any::<u8>();
    prop_oneof![
        2 => (g(), g()).prop_map(|(gateway, key)| Action::CreateUpload { gateway, key }),
        6 => (g(), g(), 0..3_u8, g(), g(), bytes()).prop_map(|(gateway, upload, part, lease, vendors, bytes)| {
            Action::Part { gateway, upload, part, lease, vendors, bytes }
        }),
        4 => (g(), g(), 1..8_u8, any::<bool>()).prop_map(|(gateway, upload, parts, whole)| {
            Action::Complete { gateway, upload, parts, whole }
        }),
        1 => (g(), g()).prop_map(|(gateway, upload)| Action::AbortUpload { gateway, upload }),
    ]
}

fn upkeep_action() -> impl Strategy<Value = Action> {
    let g = || any::<u8>();
    prop_oneof![
        2 => Just(Action::OpenSession),
        1 => (g(), any::<bool>()).prop_map(|(gateway, silently)| Action::LoseGateway { gateway, silently }),
        1 => (g(), g()).prop_map(|(gateway, lease)| Action::Recall { gateway, lease }),
        1 => (g(), g()).prop_map(|(gateway, lease)| Action::Expire { gateway, lease }),
        6 => prop_oneof![1..1000_u64, 1000..15_000_u64].prop_map(|ms| Action::Tick { ms }),
        5 => Just(Action::Drain),
        3 => g().prop_map(|gateway| Action::Abandon { gateway }),
        10 => (g(), 0..4_u8, 0..8_u8).prop_map(|(vendor, closes, erases)| {
            Action::Vendor { vendor, closes, erases }
        }),
        1 => (g(), g()).prop_map(|(vendor, copy)| Action::Damage { vendor, copy }),
        1 => (g(), 0..9_000_000_u64).prop_map(|(vendor, capacity)| Action::Devices { vendor, capacity }),
        1 => (g(), g()).prop_map(|(vendor, state)| Action::VendorState { vendor, state }),
        2 => rule().prop_map(|rule| Action::SetClass { rule }),
        4 => arrival_action(),
    ]
}

fn arrival_action() -> impl Strategy<Value = Action> {
    let g = || any::<u8>();
    prop_oneof![
        2 => (g(), 1..100_000_u64).prop_map(|(number, life_ms)| Action::Invite { number, life_ms }),
        4 => (g(), g()).prop_map(|(vendor, invite)| Action::Enrol { vendor, invite }),
        1 => g().prop_map(|vendor| Action::Revoke { vendor }),
        1 => (g(), any::<bool>()).prop_map(|(node, leaves)| Action::Member { node, leaves }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![3 => gateway_action(), 2 => upkeep_action()]
}

fn run(rule: Rule, actions: &[Action]) {
    let mut cluster = Cluster::new(rule);
    for action in actions {
        cluster.act(action);
        cluster.check();
    }
    cluster.close_everything();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_room_leaks_and_none_is_sold_twice(
        rule in rule(),
        actions in prop::collection::vec(action(), 1..250),
    ) {
        run(rule, &actions);
    }
}
