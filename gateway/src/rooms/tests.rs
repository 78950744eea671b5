//! What becomes of leases and of the room taken from them.

use super::{LeaseDuty, Now, Rooms};
use crate::error::Error;
use crate::limits::DIRTY_LEASE_KEPT;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::fat::rows::ClassRow;
use ullage_model::ids::{LeaseId, VendorId};
use ullage_model::wire::chunk::{Grant, PublicKey, Signature};
use ullage_model::wire::metad::{ProvisionalFat, ProvisionalRow};

fn now(seconds: u64) -> Now {
    Now {
        local: Duration::from_secs(seconds),
        cluster: ClusterTime(seconds * 1000),
    }
}

fn rooms(bytes: u64) -> Arc<Rooms> {
    let rooms = Arc::new(Rooms::default());
    let grant = Grant {
        body: Bytes::new(),
        issuer: PublicKey::default(),
        signature: Signature(Bytes::new()),
    };
    let row = |vendor| ProvisionalRow {
        vendor: VendorId(vendor),
        device_class: "ssd".to_owned(),
        bytes,
        grant: grant.clone(),
    };
    let fat = ProvisionalFat {
        lease: LeaseId(1),
        class: "A".to_owned(),
        deadline: ClusterTime(60_000),
        rows: vec![row(1), row(2)],
    };
    assert!(rooms.begin_asking("A", now(0)).is_some());
    assert!(rooms.begin_asking("A", now(0)).is_none(), "one asks at a time");
    rooms.answered("A", now(0), Ok(fat));
    rooms
}

/// Class `A`.
fn class(device_class: Option<&str>) -> ClassRow {
    ClassRow {
        name: "A".to_owned(),
        copies: 1,
        zones: 0,
        device_class: device_class.map(str::to_owned),
        max_price: None,
        chunk_bytes: 1 << 20,
        pieces: 1,
        settings_version: 1,
    }
}

#[test]
fn room_locked_before_the_class_changed_serves_only_as_far_as_the_new_rule_goes() {
    let rooms = rooms(100_000);
    assert_eq!(rooms.vendors(&class(Some("ssd")), 1000, now(1)).len(), 2);
    let other = class(Some("hdd"));
    assert!(rooms.vendors(&other, 1000, now(1)).is_empty());
    assert!(rooms.take(&other, VendorId(1), 1000, now(1)).is_none());
    assert!(rooms.take(&class(None), VendorId(1), 1000, now(1)).is_some());
}

#[test]
fn room_that_no_vendor_heard_of_comes_back_and_sent_room_does_not() {
    let rooms = rooms(100_000);
    let placement = rooms.take(&class(None), VendorId(1), 60_000, now(1)).unwrap();
    assert!(rooms.take(&class(None), VendorId(1), 60_000, now(1)).is_none());
    drop(placement);
    let mut placement = rooms.take(&class(None), VendorId(1), 60_000, now(1)).unwrap();
    placement.sent(Duration::from_secs(1));
    drop(placement);
    assert!(rooms.take(&class(None), VendorId(1), 60_000, now(1)).is_none());
    assert!(rooms.duties(now(2)).is_empty());
    let later = now(2 + DIRTY_LEASE_KEPT.as_secs());
    assert_eq!(
        rooms.duties(later),
        [LeaseDuty::Ask("A".to_owned()), LeaseDuty::Return(LeaseId(1))]
    );
}

#[test]
fn a_lease_with_uncommitted_chunks_is_renewed_and_not_returned() {
    let rooms = rooms(100_000);
    let mut placement = rooms.take(&class(None), VendorId(1), 60_000, now(1)).unwrap();
    placement.sent(Duration::from_secs(1));
    let duties = rooms.duties(now(50));
    assert_eq!(
        duties,
        [LeaseDuty::Ask("A".to_owned()), LeaseDuty::Renew(LeaseId(1))]
    );
    assert!(
        rooms.take(&class(None), VendorId(2), 1000, now(50)).is_none(),
        "its grants end soon"
    );
    placement.settled(50_000);
    drop(placement);
    assert!(rooms.duties(now(51)).contains(&LeaseDuty::Return(LeaseId(1))));
}

#[test]
fn a_refusal_is_remembered_for_a_moment() {
    let rooms = Rooms::default();
    assert!(rooms.begin_asking("A", now(0)).is_some());
    rooms.answered(
        "A",
        now(0),
        Err((Duration::from_millis(500), Error::NoRoom("full".to_owned()))),
    );
    assert_eq!(
        rooms.refused("A", Duration::from_millis(499)),
        Some(Error::NoRoom("full".to_owned()))
    );
    assert!(rooms.begin_asking("A", now(0)).is_none());
    assert_eq!(rooms.refused("A", Duration::from_millis(500)), None);
    assert!(rooms.begin_asking("A", now(1)).is_some());
}

#[test]
fn a_recalled_lease_gives_up_what_is_unused() {
    let rooms = rooms(100_000);
    let _taken = rooms.take(&class(None), VendorId(1), 60_000, now(1)).unwrap();
    assert_eq!(
        rooms.recall(LeaseId(1)),
        [(VendorId(1), 40_000), (VendorId(2), 100_000)]
    );
    assert!(rooms.vendors(&class(None), 1, now(1)).is_empty());
}
