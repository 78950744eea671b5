//! What is the metadata service's to decide: outcomes that are not known, sessions, settings, uploads in parts, leases.

use super::CHUNK;
use super::harness::{Harness, ROOT, Setup, TestUpload, failed, parts, unannounced};
use super::metad;
use super::metad::MetadFaults;
use std::time::Duration;
use ullage_gateway::directory::bucket_ref;
use ullage_gateway::error::Error;
use ullage_gateway::limits::ROOM_WAIT;
use ullage_gateway::store::{CompleteRequest, NewUpload, Store};
use ullage_model::command::{Command, Conditions, EtagMatch, ListedPart};
use ullage_model::fat::query;
use ullage_model::limits::PART_BYTES_MIN;
use ullage_model::namespace::rows::{BucketAccess, Etag, Metadata, UserPolicy};
use ullage_model::rejection::Rejection;

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
    let mut reading = harness.reading("before").await;
    let first = reading.next().await.unwrap().unwrap();
    let mut slow = harness.upload("slow", &body, Conditions::default());
    slow.pause = Duration::from_millis(300);
    let request = unannounced();
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
async fn settings_that_change_under_an_upload_are_decided_under_again() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(CHUNK / 2);
    let mut upload: TestUpload = harness.upload("key", &body, Conditions::default());
    upload.pause = Duration::from_millis(500);
    let request = unannounced();
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
