//! Vendors that fail, lie, fill up and go: requests are done all the same, or fail without harm.

use super::CHUNK;
use super::agents::{Fault, WRITE_FAULTS};
use super::harness::{Harness, Setup};
use crate::agents::Agents;
use crate::metad::Metad;
use std::sync::Arc;
use std::time::Duration;
use ullage_gateway::error::Error;
use ullage_model::ids::VendorId;

#[tokio::test(start_paused = true)]
async fn every_fault_of_a_vendor_is_worked_around_within_the_request() {
    for fault in WRITE_FAULTS {
        let harness = Harness::new(Setup::default()).await;
        harness.agents.set_write_faults(30, &[fault]);
        for round in 0..6 {
            let body = harness.body(2 * CHUNK + round);
            harness
                .put("key", &body)
                .await
                .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert_eq!(harness.get("key").await.unwrap().unwrap(), body, "{fault:?}");
        }
        harness.agents.set_write_faults(0, &[]);
        harness.settle().await;
        assert_eq!(
            harness.copies_stored(),
            3 * 2,
            "{fault:?}: what failed was cleaned up"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lying_vendor_loses_its_score() {
    let harness = Harness::new(Setup::default()).await;
    harness.agents.set_write_faults(100, &[Fault::LyingDigest]);
    assert!(matches!(
        harness.put("key", &harness.body(CHUNK)).await,
        Err(Error::NotStored(_))
    ));
    assert!(
        harness
            .store
            .paths()
            .iter()
            .any(|path| path.cooling && path.score < 100)
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_store_says_so_quickly_and_has_room_again_after_deletes() {
    let harness = Harness::new(Setup {
        vendors: 2,
        capacity: 40 << 20,
        ..Setup::default()
    })
    .await;
    let body = harness.body(2 * CHUNK);
    let mut stored = 0;
    let error = loop {
        match harness.put(&format!("key-{stored}"), &body).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 40, "more was stored than there is room");
    };
    assert!(matches!(error, Error::NoRoom(_)), "{error:?}");
    assert!(stored >= 12, "only {stored} bodies of 2 MiB went into 40 MiB");
    let began = tokio::time::Instant::now();
    for _ in 0..20 {
        assert!(matches!(harness.put("more", &body).await, Err(Error::NoRoom(_))));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    harness.put("small", &harness.body(100)).await.unwrap();
    for key in 0..stored {
        harness.delete(&format!("key-{key}")).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    harness.put("more", &body).await.unwrap();
    assert_eq!(harness.get("more").await.unwrap().unwrap(), body);
}

#[tokio::test(start_paused = true)]
async fn damaged_copies_are_passed_over_and_reported_and_no_wrong_byte_leaves() {
    let harness = Harness::new(Setup {
        vendors: 2,
        ..Setup::default()
    })
    .await;
    let body = harness.body(2 * CHUNK + 9);
    harness.put("key", &body).await.unwrap();
    let vendors = harness.agents.vendors();
    harness.agents.damage_all(vendors[0]);
    for _ in 0..4 {
        assert_eq!(harness.get("key").await.unwrap().unwrap(), body);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let version = harness
        .store
        .head(&harness.bucket, &harness.name("key"))
        .await
        .unwrap()
        .found()
        .unwrap()
        .version;
    let damaged = |span: &ullage_model::wire::metad::LocatedSpan| match &span.place {
        ullage_model::wire::metad::SpanPlace::Chunk { row, .. } => row
            .copies
            .iter()
            .any(|copy| copy.vendor == vendors[0] && copy.state != ullage_model::fat::rows::CopyState::Good),
        ullage_model::wire::metad::SpanPlace::Inline(_) => false,
    };
    assert!(
        harness
            .store
            .locate(&version, 0)
            .await
            .unwrap()
            .iter()
            .any(damaged)
    );
    harness.agents.damage_all(vendors[1]);
    assert!(matches!(harness.get("key").await, Err(Error::Unreadable { .. })));
}

#[tokio::test(start_paused = true)]
async fn vendors_that_registered_a_moment_ago_are_written_to_and_read_from_at_once() {
    let setup = Setup::default();
    let agents = Agents::new(setup.vendors, setup.capacity, setup.seed);
    let metad = Metad::empty(Arc::clone(&agents), setup.seed, setup.inline_budget);
    let gateway = || Harness::over(Arc::clone(&agents), Arc::clone(&metad), Setup::default());
    let (one, other) = (gateway().await, gateway().await);
    let known = |gateway: &Harness| gateway.store.view().vendors.len();
    metad.register_vendors();
    assert_eq!((known(&one), known(&other)), (0, 0), "none has been told of");
    let body = one.body(3 * CHUNK);
    one.put("key", &body).await.unwrap();
    assert_eq!(known(&one), setup.vendors);
    assert_eq!(other.get("key").await.unwrap().unwrap(), body);
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_is_down_is_read_and_written_around() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(5 * CHUNK);
    harness.put("key", &body).await.unwrap();
    harness.agents.set_down(VendorId(1), true);
    assert_eq!(harness.get("key").await.unwrap().unwrap(), body);
    harness.put("key", &body).await.unwrap();
    harness.agents.set_down(VendorId(2), true);
    harness.agents.set_down(VendorId(1), false);
    assert_eq!(harness.get("key").await.unwrap().unwrap(), body);
}

#[tokio::test(start_paused = true)]
async fn slow_reads_are_hedged() {
    let harness = Harness::new(Setup {
        vendors: 2,
        ..Setup::default()
    })
    .await;
    let body = harness.body(CHUNK);
    harness.put("key", &body).await.unwrap();
    harness.agents.set_read_faults(30);
    for _ in 0..30 {
        assert_eq!(harness.get("key").await.unwrap().unwrap(), body);
    }
}

#[tokio::test(start_paused = true)]
async fn inlining_over_its_budget_falls_back_to_vendors_in_the_same_request() {
    let harness = Harness::new(Setup {
        inline_budget: 10_000,
        ..Setup::default()
    })
    .await;
    for at in 0..10 {
        let key = format!("key-{at}");
        let body = harness.body(4000);
        harness.put(&key, &body).await.unwrap();
        assert_eq!(harness.get(&key).await.unwrap().unwrap(), body);
    }
    assert!(harness.copies_stored() >= 2 * 7);
}
