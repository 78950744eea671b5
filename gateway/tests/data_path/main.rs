//! The gateway's data path against a metadata service made of the real `decide` and vendors in memory that fail in
//! every way a vendor can. Time is paused: waits cost nothing.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod agents;
mod chains;
mod harness;
#[allow(dead_code)]
mod metad;
mod outcomes;
mod random;

use agents::{Agents, Fault, WRITE_FAULTS};
use bytes::Bytes;
use harness::{Harness, ROOT, Setup, TestUpload, failed, parts};
use metad::{Metad, MetadFaults};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use ullage_gateway::directory::bucket_ref;
use ullage_gateway::error::Error;
use ullage_gateway::kek::Kek;
use ullage_gateway::limits::ROOM_WAIT;
use ullage_gateway::put::plan::PutRequest;
use ullage_gateway::store::{CompleteRequest, NewUpload, Store};
use ullage_model::command::{Command, Conditions, EtagMatch, ListedPart};
use ullage_model::fat::query;
use ullage_model::ids::VendorId;
use ullage_model::limits::{CHUNKS_PER_SLICE, FRAME_BYTES, PART_BYTES_MIN};
use ullage_model::namespace::rows::{BucketAccess, Etag, Metadata, UserPolicy};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{ByteRange, ListRequest};

const CHUNK: u64 = 32 * FRAME_BYTES;

#[tokio::test(start_paused = true)]
async fn bodies_of_every_size_come_back_whole_and_in_ranges() {
    let harness = Harness::new(Setup::default()).await;
    let slices = CHUNKS_PER_SLICE as u64 * CHUNK + 5;
    for bytes in [
        0,
        1,
        4096,
        4097,
        FRAME_BYTES,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        3 * CHUNK + 77,
        slices,
    ] {
        let body = harness.body(bytes);
        let stored = harness.put("key", &body).await.unwrap();
        assert_eq!(stored.bytes, bytes);
        assert_eq!(harness.get("key").await.unwrap().unwrap(), body, "{bytes} bytes");
        for (first, length) in [
            (0, 1),
            (bytes / 2, 100_000),
            (bytes.saturating_sub(3), 10),
            (bytes, 5),
        ] {
            let part = harness.get_range("key", first, length).await.unwrap().unwrap();
            let end = first.saturating_add(length).min(bytes);
            assert_eq!(
                part,
                body.slice(first as usize..end as usize),
                "{first}+{length} of {bytes}"
            );
        }
    }
    assert_eq!(harness.get("no such key").await.unwrap(), None);
    assert!(harness.delete("key").await.unwrap());
    assert_eq!(harness.get("key").await.unwrap(), None);
    harness.settle().await;
    assert_eq!(harness.copies_stored(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_kek_is_told_at_the_start() {
    let setup = Setup::default();
    let agents = Agents::new(2, 1 << 30, 1);
    let metad = Metad::new(Arc::clone(&agents), 1, 0);
    Store::start(parts(&metad, &agents, &setup)).await.unwrap();
    let mut other = parts(&metad, &agents, &setup);
    other.kek = Kek::new(&[8; 32]);
    let wrong = Kek::new(&[8; 32]).id();
    assert_eq!(Store::start(other).await.unwrap_err(), Error::WrongKek(wrong));
}

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
async fn unknown_outcomes_are_asked_for_and_never_decided_twice() {
    let harness = Harness::new(Setup::default()).await;
    let faults = MetadFaults {
        lost_before: 20,
        lost_after: 20,
        unavailable: 20,
        ..MetadFaults::default()
    };
    harness.metad.set_faults(faults);
    let absent = Conditions {
        if_none_match: Some(EtagMatch::Any),
        ..Conditions::default()
    };
    for round in 0..40 {
        let key = format!("key-{round}");
        let body = harness.body(if round % 4 == 0 { CHUNK + 1 } else { 100 });
        // A client never gets a failed precondition for its own win.
        harness
            .put_as(&key, &body, "STANDARD", absent.clone())
            .await
            .unwrap();
        assert_eq!(harness.get(&key).await.unwrap().unwrap(), body);
        let again = harness.put_as(&key, &body, "STANDARD", absent.clone()).await;
        assert_eq!(again.unwrap_err(), Error::Rejected(Rejection::PreconditionFailed));
    }
    harness.metad.set_faults(MetadFaults::default());
    harness.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_is_replaced_and_its_writes_fail_as_not_done() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(3 * CHUNK);
    harness.put("before", &body).await.unwrap();
    let object = harness
        .store
        .open(&harness.bucket, harness.name("before"), ByteRange::Last(1))
        .await;
    let mut reading = object.unwrap().found().unwrap().read(0, u64::MAX);
    let first = reading.next().await.unwrap().unwrap();
    let mut slow = harness.upload("slow", &body, Conditions::default());
    slow.pause = Duration::from_millis(300);
    let request = PutRequest {
        class: "STANDARD".to_owned(),
        bytes: None,
        request_id: 2,
    };
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sessions = harness.metad.read(|rows| query::sessions(rows).unwrap());
        for row in sessions {
            harness
                .metad
                .command(&Command::EndSession { session: row.session });
        }
    };
    let (stored, ()) = tokio::join!(harness.store.put(&request, &mut slow), end);
    assert_eq!(failed(stored.unwrap_err()), Error::SessionLost);
    tokio::time::sleep(Duration::from_secs(15)).await;
    harness.put("after", &body).await.unwrap();
    assert_eq!(harness.get("slow").await.unwrap(), None);
    let mut whole = first.to_vec();
    while let Some(bytes) = reading.next().await.unwrap() {
        whole.extend_from_slice(&bytes);
    }
    assert_eq!(whole, body, "a read goes on under the next session");
    harness.settle().await;
    assert_eq!(harness.copies_stored(), 2 * 3 * 2);
}

#[tokio::test(start_paused = true)]
async fn a_metadata_service_that_is_slow_is_no_full_store() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(CHUNK + 1);
    harness.metad.set_faults(MetadFaults {
        slow: 2 * ROOM_WAIT,
        ..MetadFaults::default()
    });
    // Clients ask again after this one, and not after a full store.
    match harness.put("key", &body).await {
        Err(Error::Unavailable(reason)) => assert!(reason.contains("came in time"), "{reason}"),
        other => panic!("{other:?}"),
    }
    harness.metad.set_faults(MetadFaults::default());
    tokio::time::sleep(2 * ROOM_WAIT).await;
    harness.put("key", &body).await.unwrap();
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
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body((CHUNKS_PER_SLICE as u64 + 20) * CHUNK);
    for cut_ms in [1, 50, 300, 1000, 2500, 4000] {
        let mut upload = harness.upload("key", &body, Conditions::default());
        upload.pause = Duration::from_millis(10);
        let request = PutRequest {
            class: "STANDARD".to_owned(),
            bytes: None,
            request_id: 3,
        };
        let cut = Duration::from_millis(cut_ms);
        let put = tokio::time::timeout(cut, harness.store.put(&request, &mut upload)).await;
        assert!(put.is_err(), "cut after {cut_ms} ms");
    }
    harness.settle().await;
    assert_eq!(harness.copies_stored(), 0);
    assert_eq!(harness.get("key").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn overwriting_and_deleting_do_not_harm_a_slow_read() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(12 * CHUNK);
    harness.put("key", &body).await.unwrap();
    let object = harness.store.open(
        &harness.bucket,
        harness.name("key"),
        ByteRange::From { first: 0, bytes: 1 },
    );
    let mut reading = object.await.unwrap().found().unwrap().read(0, u64::MAX);
    let mut whole = Vec::new();
    harness.put("key", &harness.body(CHUNK)).await.unwrap();
    harness.delete("key").await.unwrap();
    while let Some(bytes) = reading.next().await.unwrap() {
        whole.extend_from_slice(&bytes);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(whole, body);
    drop(reading);
    harness.settle().await;
    assert_eq!(harness.copies_stored(), 0, "after the read its bytes are erased");
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
async fn a_body_that_comes_too_slowly_loses_its_place_and_one_that_lies_about_its_length_is_refused() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(2 * CHUNK);
    let mut upload = harness.upload("key", &body, Conditions::default());
    upload.pause = Duration::from_secs(60);
    let request = PutRequest {
        class: "STANDARD".to_owned(),
        bytes: None,
        request_id: 4,
    };
    assert_eq!(
        failed(harness.store.put(&request, &mut upload).await.unwrap_err()),
        Error::SlowBody
    );
    for announced in [2 * CHUNK - 1, 2 * CHUNK + 1, 10, 0] {
        let mut upload = harness.upload("key", &body, Conditions::default());
        let request = PutRequest {
            bytes: Some(announced),
            ..request.clone()
        };
        let refused = failed(harness.store.put(&request, &mut upload).await.unwrap_err());
        assert_eq!(refused, Error::BodyLength { announced });
    }
    harness.settle().await;
    assert_eq!(harness.copies_stored(), 0);
}

#[tokio::test(start_paused = true)]
async fn more_uploads_than_memory_wait_or_are_told_to_slow_down() {
    let harness = Harness::new(Setup {
        upload_memory: 16 << 20,
        ..Setup::default()
    })
    .await;
    let body = harness.body(4 * CHUNK);
    let uploads = (0..40).map(|at| {
        let harness = &harness;
        let body = &body;
        async move { harness.put(&format!("key-{at}"), body).await }
    });
    let stored = futures::future::join_all(uploads).await;
    assert!(
        stored.iter().all(Result::is_ok),
        "{:?}",
        stored.iter().find(|it| it.is_err())
    );
    // Those that go on sending, however slowly they do within bounds, keep their places.
    let held = hold(&harness, Duration::from_millis(900));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = harness.put("one too many", &body).await.unwrap_err();
    assert!(matches!(refused, Error::SlowDown(_)), "{refused:?}");
    held.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(Duration::from_secs(1)).await;
    harness.put("one too many", &body).await.unwrap();
}

/// As many uploads as there is memory for, each with pauses between its bytes.
fn hold(harness: &Harness, pause: Duration) -> Vec<tokio::task::JoinHandle<Option<Error>>> {
    let body = harness.body(4 * CHUNK);
    let hold = |at| {
        let mut upload = harness.upload(&format!("held-{at}"), &body, Conditions::default());
        upload.pause = pause;
        let store = harness.store.clone();
        tokio::spawn(async move {
            let request = PutRequest {
                class: "STANDARD".to_owned(),
                bytes: None,
                request_id: 5,
            };
            store.put(&request, &mut upload).await.err().map(failed)
        })
    };
    (0..16).map(hold).collect()
}

#[tokio::test(start_paused = true)]
async fn bodies_that_send_nothing_give_way_to_those_who_wait_for_memory() {
    let harness = Harness::new(Setup {
        upload_memory: 16 << 20,
        ..Setup::default()
    })
    .await;
    let held = hold(&harness, Duration::from_secs(15));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        held.iter().all(|it| !it.is_finished()),
        "nobody waits for their memory"
    );
    harness.put("quick", &harness.body(100)).await.unwrap();
    let gone = held.iter().filter(|it| it.is_finished()).count();
    assert_eq!(gone, 1, "one made room, the others go on");
    for ended in held.into_iter().filter(tokio::task::JoinHandle::is_finished) {
        assert!(matches!(ended.await.unwrap(), Some(Error::SlowDown(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn reads_whose_clients_take_nothing_give_way_and_lose_nothing() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(3 * CHUNK + 5);
    harness.put("key", &body).await.unwrap();
    let range = ByteRange::From {
        first: 0,
        bytes: u64::MAX,
    };
    let mut stalled = Vec::new();
    for at in 0..600 {
        let object = harness.store.open(&harness.bucket, harness.name("key"), range);
        let mut stream = object.await.unwrap().found().unwrap().read(0, u64::MAX);
        // The connection keeps what its client does not take.
        match stream.next().await {
            Ok(first) => stalled.push((stream, first.unwrap())),
            Err(error) => panic!("read {at}: {error}"),
        }
    }
    assert_eq!(harness.get("key").await.unwrap().unwrap(), body);
    // Clients that were only slow read on, while the others still hold what they were handed.
    for at in [599, 400, 250, 0] {
        let (mut stream, first) = stalled.swap_remove(at);
        let mut whole = first.to_vec();
        drop(first);
        while let Some(bytes) = stream.next().await.unwrap() {
            whole.extend_from_slice(&bytes);
        }
        assert!(whole == body, "read {at}");
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

#[tokio::test(start_paused = true)]
async fn settings_that_change_under_an_upload_are_decided_under_again() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(CHUNK / 2);
    let mut upload: TestUpload = harness.upload("key", &body, Conditions::default());
    upload.pause = Duration::from_millis(500);
    let request = PutRequest {
        class: "STANDARD".to_owned(),
        bytes: None,
        request_id: 6,
    };
    let change = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let mut class = metad::classes()[0].clone();
        class.max_price = Some(1_000_000);
        harness.metad.command(&Command::SetClass(class));
    };
    let (stored, ()) = tokio::join!(harness.store.put(&request, &mut upload), change);
    stored.unwrap();
    assert_eq!(upload.asked, 1, "the caller was asked again");
    assert_eq!(harness.get("key").await.unwrap().unwrap(), body);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_made_again_elsewhere_is_not_answered_from_the_cache() {
    let harness = Harness::new(Setup::default()).await;
    let other = Store::start(parts(&harness.metad, &harness.agents, &Setup::default()))
        .await
        .unwrap();
    let bucket = other.directory().bucket("bucket").await.unwrap();
    other.delete_bucket(ROOT, bucket_ref(&bucket)).await.unwrap();
    let gone = Error::Rejected(Rejection::NoSuchBucket);
    assert_eq!(harness.get("key").await.unwrap_err(), gone);
    assert_eq!(
        other.directory().bucket("bucket").await.unwrap_err(),
        gone,
        "absence is not cached"
    );
    other
        .create_bucket(ROOT, "bucket", "us-east-1", BucketAccess::default())
        .await
        .unwrap();
    assert_eq!(harness.get("key").await.unwrap_err(), Error::StaleSettings);
    let put = harness.put("key", &harness.body(10)).await.unwrap_err();
    assert!(
        matches!(
            put,
            Error::Rejected(Rejection::NoSuchBucket) | Error::StaleSettings
        ),
        "{put:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn users_are_known_by_their_access_keys_with_their_secrets() {
    let harness = Harness::new(Setup::default()).await;
    harness
        .store
        .create_user("ann", UserPolicy::ReadWrite, "AKIA1", "secret")
        .await
        .unwrap();
    let user = harness.store.user("AKIA1").await.unwrap();
    assert_eq!((user.secret.as_str(), user.row.name.as_str()), ("secret", "ann"));
    harness.store.delete_access_key("AKIA1").await.unwrap();
    let gone = harness.store.user("AKIA1").await.unwrap_err();
    assert_eq!(gone, Error::Rejected(Rejection::NoSuchAccessKey));
}

#[tokio::test(start_paused = true)]
async fn a_multipart_upload_becomes_one_object_and_a_repeated_complete_answers_the_same() {
    let harness = Harness::new(Setup::default()).await;
    let bucket = bucket_ref(&harness.bucket);
    let new = NewUpload {
        actor: ROOT,
        bucket,
        key: "key".to_owned(),
        class: "STANDARD".to_owned(),
        metadata: Metadata::default(),
        checksum: None,
    };
    let upload = harness.store.create_upload(new).await.unwrap();
    let mut whole = Vec::new();
    let mut listed = Vec::new();
    for number in 1..=4 {
        let bytes = if number == 4 {
            100
        } else {
            PART_BYTES_MIN + u64::from(number)
        };
        let body = harness.body(bytes);
        harness
            .put_part("key", upload, number, &harness.body(PART_BYTES_MIN))
            .await
            .unwrap();
        let part = harness.put_part("key", upload, number, &body).await.unwrap();
        whole.extend_from_slice(&body);
        listed.push(ListedPart {
            number,
            etag: part.etag,
            checksum: None,
        });
    }
    assert_eq!(harness.store.parts(upload, 1, 10).await.unwrap().0.len(), 3);
    let request = CompleteRequest {
        actor: ROOT,
        bucket,
        key: "key".to_owned(),
        upload,
        parts: listed,
        conditions: Conditions::default(),
        expected_bytes: Some(whole.len() as u64),
    };
    let combine = |parts: &[ullage_gateway::store::PartFacts]| {
        Ok::<_, std::convert::Infallible>((Etag::Multipart([9; 16], parts.len() as u32), None))
    };
    let completed = harness
        .store
        .complete_upload(&request, combine)
        .await
        .map_err(failed)
        .unwrap();
    assert_eq!(completed.etag, Etag::Multipart([9; 16], 4));
    assert_eq!(harness.get("key").await.unwrap().unwrap(), whole);
    let across = harness
        .get_range("key", PART_BYTES_MIN - 10, 50)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        across,
        whole[PART_BYTES_MIN as usize - 10..PART_BYTES_MIN as usize + 40]
    );
    let again = harness
        .store
        .complete_upload(&request, combine)
        .await
        .map_err(failed)
        .unwrap();
    assert_eq!(again, completed);
    let aborted = harness
        .store
        .abort_upload(ROOT, bucket, "key".to_owned(), upload)
        .await
        .unwrap_err();
    assert_eq!(aborted, Error::Rejected(Rejection::NoSuchUpload));
    harness.settle().await;
}

#[tokio::test(start_paused = true)]
async fn leases_are_rotated_or_renewed_before_their_end_and_returned_when_idle() {
    for seed in [1, 2] {
        let harness = Harness::new(Setup {
            seed,
            ..Setup::default()
        })
        .await;
        let body = harness.body(CHUNK);
        for round in 0..30 {
            harness.put(&format!("key-{round}"), &body).await.unwrap();
            tokio::time::sleep(Duration::from_secs(9)).await;
            assert!(harness.store.leases().await.unwrap().len() < 6);
        }
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(harness.store.leases().await.unwrap().len(), 0);
    }
}

/// Random puts, overwrites, deletes, ranges, listings under faults against a map.
async fn random_traffic(seed: u64) {
    let harness = Harness::new(Setup {
        seed,
        vendors: 5,
        ..Setup::default()
    })
    .await;
    let mut reference: BTreeMap<String, Bytes> = BTreeMap::new();
    harness.agents.set_write_faults(8, &WRITE_FAULTS);
    harness.agents.set_read_faults(8);
    harness.metad.set_faults(MetadFaults {
        lost_before: 5,
        lost_after: 5,
        unavailable: 5,
        ..MetadFaults::default()
    });
    for _ in 0..60 {
        let key = format!("key-{}", harness.random.below(8));
        match harness.random.below(10) {
            0..=4 => {
                let sizes = [0, 10, 4096, 5000, FRAME_BYTES, CHUNK, 3 * CHUNK + 5, 9 * CHUNK];
                let bytes = sizes[harness.random.below(sizes.len() as u64) as usize];
                let body = harness.body(bytes);
                match harness.put(&key, &body).await {
                    Ok(_) => drop(reference.insert(key, body)),
                    Err(Error::NotStored(_)) => {}
                    Err(error) => panic!("seed {seed}: put {key}: {error:?}"),
                }
            }
            5 => {
                let existed = harness.delete(&key).await.unwrap();
                assert_eq!(
                    existed,
                    reference.remove(&key).is_some(),
                    "seed {seed}: delete {key}"
                );
            }
            6..=8 => {
                let expected = reference.get(&key);
                let length = expected.map_or(0, |body| body.len() as u64);
                let first = harness.random.below(length + 1);
                let bytes = harness.random.below(2 * CHUNK);
                let got = harness.get_range(&key, first, bytes).await;
                let got = got.unwrap_or_else(|error| panic!("seed {seed}: get {key}: {error:?}"));
                let end = first.saturating_add(bytes).min(length);
                let expected = expected.map(|body| body.slice(first as usize..end as usize));
                assert_eq!(got, expected, "seed {seed}: {first}+{bytes} of {key}");
            }
            _ => {
                let request = ListRequest {
                    bucket: harness.bucket.bucket,
                    prefix: String::new(),
                    delimiter: String::new(),
                    after: None,
                    limit: 1000,
                };
                let page = harness.store.list(&harness.bucket, request).await.unwrap();
                let listed: Vec<(String, u64)> = page
                    .objects
                    .into_iter()
                    .map(|(key, row)| (key, row.bytes))
                    .collect();
                let expected: Vec<(String, u64)> = reference
                    .iter()
                    .map(|(key, body)| (key.clone(), body.len() as u64))
                    .collect();
                assert_eq!(listed, expected, "seed {seed}");
            }
        }
    }
    harness.agents.set_write_faults(0, &[]);
    harness.agents.set_read_faults(0);
    harness.metad.set_faults(MetadFaults::default());
    for (key, body) in &reference {
        assert_eq!(
            harness.get(key).await.unwrap().as_ref(),
            Some(body),
            "seed {seed}: {key}"
        );
    }
    harness.settle().await;
}

#[tokio::test(start_paused = true)]
async fn random_traffic_under_faults_is_what_a_map_would_answer() {
    let seeds = match std::env::var("ULLAGE_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("a seed is a number")],
        Err(_) => (1..=12).collect(),
    };
    for seed in seeds {
        println!("ULLAGE_TEST_SEED={seed}");
        random_traffic(seed).await;
    }
}
