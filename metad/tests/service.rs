//! The service on a real store, with a vendor and a gateway of the test's own: the ways of room, sessions
//! and erase orders, and what a restart in the middle of them changes, which is nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fakes;

use fakes::{GIB, Gateway, Node, Vendor, eventually, opening};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::query::ErasePermit;
use ullage_model::fat::rows::VendorState;
use ullage_model::limits::{CHUNK_BYTES_DEFAULT, SESSION_MS};
use ullage_model::rejection::Rejection;
use ullage_model::store::{Column, Direction, KeyRange, Read};
use ullage_model::wire::agent::CommandOutcome;
use ullage_model::wire::metad::{Answer, ByteRange, Found, MetadError, PageSize, Query, SpanPlace};

/// A node with two vendors and a session.
async fn cluster(home: &TempDir) -> (Node, [Arc<Vendor>; 2], Arc<Gateway>) {
    let node = Node::start(home.path()).await;
    let vendors = [
        Vendor::register(&node, "a", GIB).await,
        Vendor::register(&node, "b", GIB).await,
    ];
    for vendor in &vendors {
        vendor.heartbeat(&node).await;
    }
    let gateway = Gateway::open(&node).await;
    (node, vendors, gateway)
}

async fn beat(node: &Node, vendors: &[Arc<Vendor>]) -> usize {
    let mut done = 0;
    for vendor in vendors {
        done += vendor.heartbeat(node).await;
    }
    done
}

/// Lets vendors work until nothing is left to do and all their room is free.
async fn until_all_is_free(node: &Node, vendors: &[Arc<Vendor>]) {
    eventually("all room is free", async || {
        beat(node, vendors).await;
        let rooms = node.vendors().await;
        rooms.iter().all(|(_, _, room)| room.free() == room.capacity)
    })
    .await;
}

fn left(rows: &impl Read, column: Column) -> usize {
    let mut left = 0;
    rows.scan(column, &KeyRange::all(), Direction::Forward, &mut |_, _| {
        left += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_stored_found_deleted_and_its_room_is_free_again() {
    let home = TempDir::new().unwrap();
    let (node, vendors, gateway) = cluster(&home).await;
    let fat = gateway.allocate(&node, 64 << 20).await;
    assert_eq!(fat.rows.len(), 2);
    gateway
        .put(&node, "key", fat.lease, &[&vendors[0], &vendors[1]])
        .await;

    let object = |key: &str| Query::Object {
        bucket: gateway.bucket.bucket,
        key: key.to_owned(),
        version: None,
        range: Some((
            ByteRange::From {
                first: 0,
                bytes: u64::MAX,
            },
            PageSize(64),
        )),
    };
    match node.ask(object("key")).await {
        Answer::Object(Found::Object(found)) => match &found.spans[0].place {
            SpanPlace::Chunk { row, .. } => assert_eq!(row.copies.len(), 2),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    let room = node.room(vendors[0].id).await;
    assert!(
        room.used > 1 << 20 && room.leased + room.used == 64 << 20,
        "{room:?}"
    );
    assert_eq!(
        node.metric("ullage_metad_room_bytes", &["a", "hdd", "used"]),
        Some(room.used as f64)
    );
    assert_eq!(node.metric("ullage_metad_vendors", &["healthy"]), Some(2.0));
    assert_eq!(node.metric("ullage_metad_sessions", &["live"]), Some(1.0));
    assert_eq!(node.metric("ullage_metad_leases", &["open"]), Some(1.0));
    assert_eq!(node.metric("ullage_metad_buckets", &["none"]), Some(1.0));
    assert_eq!(node.metric("ullage_metad_bucket_items", &["objects"]), Some(1.0));
    assert_eq!(node.metric("ullage_metad_bucket_items", &["uploads"]), Some(0.0));
    assert!(node.metric("ullage_metad_object_bytes", &["versions"]) > Some(0.0));

    gateway.renew(&node, 0).await.unwrap();
    let released_at = gateway.delete(&node, "key").await;
    assert!(matches!(
        node.ask(object("key")).await,
        Answer::Object(Found::Nothing)
    ));
    eventually("the queue is drained", async || {
        node.metad.status().unwrap().release_backlog == 0
    })
    .await;
    assert_eq!(node.metric("ullage_metad_erase_backlog_copies", &[]), Some(2.0));

    // A read that began before the release may still be going on.
    gateway.renew(&node, released_at).await.unwrap();
    assert_eq!(vendors[0].report(&node).await.unwrap().erase, []);
    gateway.renew(&node, released_at + 1).await.unwrap();
    let erase = vendors[0].report(&node).await.unwrap().erase;
    assert_eq!(erase.len(), 1);
    assert!(vendors[0].held.lock().unwrap().contains(&erase[0]));
    beat(&node, &vendors).await;
    beat(&node, &vendors).await;
    assert_eq!(node.room(vendors[0].id).await.erasing, 0);
    assert_eq!(node.metric("ullage_metad_erase_backlog_copies", &[]), Some(0.0));
    for vendor in &vendors {
        let copies = Query::Copies {
            vendor: vendor.id,
            after: None,
            limit: 9,
        };
        assert!(matches!(node.ask(copies).await, Answer::Copies(copies, false) if copies.is_empty()));
        assert!(vendor.held.lock().unwrap().is_empty());
    }
    let returned = SessionCommand::ReturnLease { lease: fat.lease };
    assert_eq!(gateway.submit(&node, returned).await, Ok(Reply::Done));
    until_all_is_free(&node, &vendors).await;
    node.stop(home.path()).await;
    let rows = fakes::rows(home.path());
    for column in [
        Column::Chunks,
        Column::Copies,
        Column::EraseOrders,
        Column::Releases,
        Column::Leases,
    ] {
        assert_eq!(left(&rows, column), 0, "{column:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_lease_frees_what_each_vendor_confirms_and_unknown_copies_are_erased() {
    let home = TempDir::new().unwrap();
    let (node, vendors, gateway) = cluster(&home).await;
    let fat = gateway.allocate(&node, 32 << 20).await;
    gateway
        .put(&node, "kept", fat.lease, &[&vendors[0], &vendors[1]])
        .await;
    // Sent, but never finalized.
    gateway.chunk(fat.lease, 1 << 20, &[&vendors[0]]);
    assert_eq!(vendors[0].held.lock().unwrap().len(), 2);
    let returned = SessionCommand::ReturnLease { lease: fat.lease };
    assert_eq!(gateway.submit(&node, returned).await, Ok(Reply::Done));
    let late = gateway.chunk(fat.lease, 1 << 20, &[&vendors[1], &vendors[0]]);
    let body = Gateway::body(
        gateway.blob(),
        (1 << 20, 1 << 20),
        0,
        vec![late],
        gateway.class(&node).await,
    );
    let late = gateway
        .submit(&node, gateway.finalize("late", body))
        .await
        .unwrap();
    assert_eq!(late, Reply::Refused(Rejection::LeaseClosed(fat.lease)));

    beat(&node, &vendors[..1]).await;
    beat(&node, &vendors[..1]).await;
    assert_eq!(vendors[0].held.lock().unwrap().len(), 1, "what is kept");
    let rooms = [node.room(vendors[0].id).await, node.room(vendors[1].id).await];
    assert_eq!(rooms[0].leased, 0, "vendor by vendor");
    assert!(rooms[1].leased > 0);
    assert_eq!(node.metric("ullage_metad_leases", &["closing"]), Some(1.0));
    beat(&node, &vendors).await;
    beat(&node, &vendors).await;
    assert_eq!(node.room(vendors[1].id).await.leased, 0);
    assert!(matches!(node.ask(Query::Leases).await, Answer::Leases(leases) if leases.is_empty()));
    node.stop(home.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_another_kek_is_refused() {
    let home = TempDir::new().unwrap();
    let node = Node::start(home.path()).await;
    let first = node.metad.open_session(opening(1, "check")).await.unwrap();
    assert_eq!(first.kek_value, "check");
    for (kek, value) in [(1, "another value"), (2, "another key")] {
        let refused = node.metad.open_session(opening(kek, value)).await;
        assert!(
            matches!(refused, Err(MetadError::Refused(Rejection::Invalid(_)))),
            "{refused:?}"
        );
    }
    node.metad.open_session(opening(1, "check")).await.unwrap();
    assert_eq!(node.metad.status().unwrap().sessions, 2);
    node.stop(home.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_erasure_and_a_wrong_close_change_nothing_and_hold_up_nothing() {
    let home = TempDir::new().unwrap();
    let (node, vendors, gateway) = cluster(&home).await;
    let fat = gateway.allocate(&node, 32 << 20).await;
    gateway
        .put(&node, "key", fat.lease, &[&vendors[0], &vendors[1]])
        .await;
    let released_at = gateway.delete(&node, "key").await;
    gateway.renew(&node, released_at + 1).await.unwrap();
    let mut erase = Vec::new();
    eventually("erase orders come", async || {
        erase = vendors[0].report(&node).await.unwrap().erase;
        !erase.is_empty()
    })
    .await;
    let forged = match vendors[1].erased(erase.clone()) {
        CommandOutcome::Erased { signature, .. } => CommandOutcome::Erased {
            copies: erase.clone(),
            signature,
        },
        other => panic!("{other:?}"),
    };
    let other_lease = gateway.allocate(&node, 1 << 20).await;
    let returned = SessionCommand::ReturnLease {
        lease: other_lease.lease,
    };
    gateway.submit(&node, returned).await.unwrap();
    *vendors[0].outcomes.lock().unwrap() = vec![
        forged,
        // Open still: the vendor is wrong.
        CommandOutcome::LeaseClosed { lease: fat.lease },
        CommandOutcome::LeaseClosed {
            lease: other_lease.lease,
        },
    ];
    let reply = vendors[0].report(&node).await.unwrap();
    assert_eq!(reply.erase, erase, "ordered again");
    assert_eq!(reply.close, [], "what was right in the same report was taken");
    assert!(node.room(vendors[0].id).await.erasing > 0);

    vendors[0].outcomes.lock().unwrap().push(vendors[0].erased(erase));
    vendors[0].report(&node).await.unwrap();
    assert_eq!(node.room(vendors[0].id).await.erasing, 0);
    node.stop(home.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_recalled_before_full_is_answered() {
    let home = TempDir::new().unwrap();
    let (node, vendors, gateway) = cluster(&home).await;
    let greedy = gateway.allocate(&node, GIB - (4 << 20)).await;
    let other = Gateway::open(&node).await;

    // Nobody gives anything back: full, after a while; the next one need not wait again.
    let full = node.metad.allocate(other.asking(64 << 20)).await;
    assert!(matches!(full, Err(MetadError::NoRoom(_))), "{full:?}");
    let began = std::time::Instant::now();
    assert!(matches!(
        node.metad.allocate(other.asking(64 << 20)).await,
        Err(MetadError::NoRoom(_))
    ));
    assert!(began.elapsed() < Duration::from_secs(1));
    let told = gateway.renew(&node, 0).await.unwrap();
    assert!(told.leases[0].recalled);
    // What is there is given meanwhile, and what never can be is refused at once.
    node.metad.allocate(other.asking(1 << 20)).await.unwrap();
    let began = std::time::Instant::now();
    assert!(matches!(
        node.metad.allocate(other.asking(2 * GIB)).await,
        Err(MetadError::NoRoom(_))
    ));
    let unknown = ullage_model::wire::metad::AllocateRequest {
        class: "NONE".to_owned(),
        ..other.asking(1)
    };
    assert!(matches!(
        node.metad.allocate(unknown).await,
        Err(MetadError::Refused(Rejection::NoSuchClass(_)))
    ));
    assert!(began.elapsed() < Duration::from_secs(1));

    let rows = vendors.iter().map(|vendor| (vendor.id, 512 << 20)).collect();
    let shrink = SessionCommand::ShrinkLease {
        lease: greedy.lease,
        rows,
    };
    assert_eq!(gateway.submit(&node, shrink).await, Ok(Reply::Done));
    let asked = other.asking(64 << 20);
    let fat = node.metad.allocate(asked.clone()).await.unwrap();
    let again = node.metad.allocate(asked).await.unwrap();
    assert_eq!(fat.lease, again.lease, "a repeated sequence");
    node.stop(home.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_session_ends_and_leaves_nothing_behind() {
    let home = TempDir::new().unwrap();
    let (node, vendors, gateway) = cluster(&home).await;
    let fat = gateway.allocate(&node, 64 << 20).await;
    let blob = gateway.blob();
    let chunks = (0..8).map(|_| gateway.chunk(fat.lease, CHUNK_BYTES_DEFAULT, &[&vendors[0], &vendors[1]]));
    let slice = Gateway::slice(blob, 0, chunks.collect(), gateway.class(&node).await);
    assert_eq!(gateway.submit(&node, slice).await, Ok(Reply::Done));
    assert!(node.room(vendors[0].id).await.used > 0);
    let before = node.cluster_time();
    eventually("cluster time goes on by itself", async || {
        node.cluster_time() > before
    })
    .await;

    node.pass(SESSION_MS + 1000).await;
    let gone = gateway.renew(&node, 0).await;
    assert_eq!(gone, Err(MetadError::Refused(Rejection::SessionGone)));
    until_all_is_free(&node, &vendors).await;
    assert!(
        vendors
            .iter()
            .all(|vendor| vendor.held.lock().unwrap().is_empty())
    );
    assert_eq!(node.metad.status().unwrap().leases, 0);
    node.stop(home.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_vendor_turns_stale_then_dead_and_is_back_when_it_keeps_talking() {
    let home = TempDir::new().unwrap();
    let (node, vendors, gateway) = cluster(&home).await;
    let state = async |vendor: &Vendor| {
        let vendors = node.vendors().await;
        vendors.iter().find(|row| row.0 == vendor.id).unwrap().1
    };
    node.clock.forward(6_000);
    vendors[0].heartbeat(&node).await;
    eventually("the silent one is stale", async || {
        state(&vendors[1]).await == VendorState::Stale
    })
    .await;
    assert_eq!(state(&vendors[0]).await, VendorState::Healthy);
    let refused = node.metad.allocate(gateway.asking(1 << 20)).await;
    assert!(
        matches!(refused, Err(MetadError::NoRoom(_))),
        "two copies, one vendor"
    );
    node.clock.forward(60_000);
    eventually("both are dead", async || {
        state(&vendors[1]).await == VendorState::Dead && state(&vendors[0]).await == VendorState::Dead
    })
    .await;
    let reply = vendors[0].report(&node).await.unwrap();
    assert_eq!(state(&vendors[0]).await, VendorState::Dead, "once may be chance");
    assert!(reply.interval_ms < 5_000, "it is asked to talk on");
    vendors[0].report(&node).await.unwrap();
    assert_eq!(state(&vendors[0]).await, VendorState::Healthy);
    Vendor::register(&node, "b", GIB).await;
    assert_eq!(state(&vendors[1]).await, VendorState::Healthy);
    // One that registers late in a leadership is not silent for as long as the leader leads.
    node.clock.forward(100_000);
    let new = Vendor::register(&node, "c", GIB).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(state(&new).await, VendorState::Healthy);
    node.stop(home.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_of_everything_changes_nothing() {
    let home = TempDir::new().unwrap();
    let (mut node, vendors, gateway) = cluster(&home).await;
    let fat = gateway.allocate(&node, 64 << 20).await;
    let both = [&*vendors[0], &*vendors[1]];
    for object in 0..20 {
        gateway
            .put(&node, &format!("key {object}"), fat.lease, &both)
            .await;
    }
    let asked = gateway.asking(8 << 20);
    let closing = node.metad.allocate(asked.clone()).await.unwrap();
    let building = gateway.blob();
    let chunks = vec![gateway.chunk(fat.lease, CHUNK_BYTES_DEFAULT, &both)];
    let class = gateway.class(&node).await;
    let slice = Gateway::slice(building, 0, chunks, class.clone());
    assert_eq!(gateway.submit(&node, slice).await, Ok(Reply::Done));
    for stage in 0..4 {
        // Each restart finds something else half done.
        match stage {
            0 => {
                gateway.delete(&node, "key 0").await;
            }
            1 => {
                let returned = SessionCommand::ReturnLease { lease: closing.lease };
                assert_eq!(gateway.submit(&node, returned).await, Ok(Reply::Done));
                beat(&node, &vendors[..1]).await;
            }
            2 => {
                for object in 1..20 {
                    gateway.delete(&node, &format!("key {object}")).await;
                }
            }
            _ => {
                gateway.renew(&node, u64::MAX).await.unwrap();
                beat(&node, &vendors).await;
            }
        }
        node.stop(home.path()).await;
        node = Node::start(home.path()).await;
        let again = node.metad.allocate(asked.clone()).await;
        match again {
            Ok(again) => assert!(stage == 0 && again.lease == closing.lease, "a repeated sequence"),
            Err(error) => {
                assert_eq!(error, MetadError::Refused(Rejection::LeaseClosed(closing.lease)));
                assert!(stage > 0);
            }
        }
    }
    let chunks = vec![gateway.chunk(fat.lease, 1000, &both)];
    let body = Gateway::body(
        building,
        (CHUNK_BYTES_DEFAULT + 1000, CHUNK_BYTES_DEFAULT),
        1,
        chunks,
        class,
    );
    let stored = gateway.submit(&node, gateway.finalize("long", body)).await;
    assert!(matches!(stored, Ok(Reply::Stored { .. })), "{stored:?}");
    gateway.delete(&node, "long").await;
    node.metad.end_session(gateway.session).await.unwrap();
    until_all_is_free(&node, &vendors).await;
    assert_eq!(
        node.metad
            .operate(Command::DrainReleases {
                permit: ErasePermit::ALL
            })
            .await,
        Ok(Reply::Progress { more: false })
    );
    node.stop(home.path()).await;
    let rows = fakes::rows(home.path());
    for column in [
        Column::Chunks,
        Column::Copies,
        Column::EraseOrders,
        Column::Releases,
        Column::Leases,
    ] {
        assert_eq!(left(&rows, column), 0, "{column:?}");
    }
}
