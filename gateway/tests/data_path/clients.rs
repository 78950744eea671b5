//! Clients that go away, send slowly or not at all, and do not take what they asked for.

use super::CHUNK;
use super::harness::{Harness, Setup, failed, unannounced};
use std::time::Duration;
use ullage_gateway::error::Error;
use ullage_gateway::put::plan::PutRequest;
use ullage_model::command::Conditions;
use ullage_model::limits::CHUNKS_PER_SLICE;
use ullage_model::wire::metad::ByteRange;

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body((CHUNKS_PER_SLICE as u64 + 20) * CHUNK);
    for cut_ms in [1, 50, 300, 1000, 2500, 4000] {
        let mut upload = harness.upload("key", &body, Conditions::default());
        upload.pause = Duration::from_millis(10);
        let request = unannounced();
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
async fn a_body_that_comes_too_slowly_loses_its_place_and_one_that_lies_about_its_length_is_refused() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(2 * CHUNK);
    let mut upload = harness.upload("key", &body, Conditions::default());
    upload.pause = Duration::from_secs(60);
    let request = unannounced();
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
            let request = unannounced();
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
