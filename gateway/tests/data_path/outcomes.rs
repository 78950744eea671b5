//! Commands whose answers are lost, sessions that end without a word: what clients are told is true.

use crate::CHUNK;
use crate::harness::{Harness, Setup, unannounced};
use crate::metad::{Loss, MetadFaults};
use std::time::Duration;
use tokio::time::Instant;
use ullage_gateway::error::Error;
use ullage_gateway::limits::RESOLVE_PATIENCE;
use ullage_model::command::{Conditions, EtagMatch};
use ullage_model::rejection::Rejection;

fn absent() -> Conditions {
    Conditions {
        if_none_match: Some(EtagMatch::Any),
        ..Conditions::default()
    }
}

fn faults(finalizes: &[Loss], unresolved: u64) -> MetadFaults {
    MetadFaults {
        finalizes: finalizes.iter().copied().collect(),
        unresolved,
        ..MetadFaults::default()
    }
}

/// A PUT of an object that must not exist, under these losses: whether it is told to be there, and whether it is.
async fn check(
    losses: &[Loss],
    unresolved: u64,
    told: impl FnOnce(&Result<(), Error>) -> bool,
    is_there: bool,
) {
    for bytes in [100, CHUNK + 1] {
        let harness = Harness::new(Setup::default()).await;
        let body = harness.body(bytes);
        harness.metad.set_faults(faults(losses, unresolved));
        let put = harness
            .put_as("key", &body, "STANDARD", absent())
            .await
            .map(|_| ());
        harness.metad.set_faults(MetadFaults::default());
        assert_eq!(
            harness.get("key").await.unwrap().is_some(),
            is_there,
            "{losses:?}: {put:?}"
        );
        if bytes > CHUNK {
            assert!(told(&put), "{losses:?}: {put:?}");
            harness.settle().await;
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_that_was_applied_is_a_success() {
    check(&[Loss::After], 0, Result::is_ok, true).await;
    // However long an election takes, within the request's patience.
    check(&[Loss::After], 80, Result::is_ok, true).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_that_was_not_applied_is_tried_again_under_a_new_sequence() {
    check(&[Loss::Before], 0, Result::is_ok, true).await;
    check(
        &[Loss::Before, Loss::Before, Loss::After],
        50,
        Result::is_ok,
        true,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_told_after_its_session_has_ended_and_what_was_not_done_is_not_stored() {
    check(&[Loss::AfterAndEnded], 0, Result::is_ok, true).await;
    let lost = |put: &Result<(), Error>| *put == Err(Error::SessionLost);
    check(&[Loss::BeforeAndEnded], 0, lost, false).await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_learned_is_unknown_and_never_a_failed_precondition() {
    let began = Instant::now();
    let unknown = |put: &Result<(), Error>| matches!(put, Err(Error::OutcomeUnknown(_)));
    check(&[Loss::After], 100, unknown, true).await;
    assert!(began.elapsed() < 4 * RESOLVE_PATIENCE, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_cut_off_past_its_sessions_end_stores_nothing_then_and_everything_afterwards() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(6 * CHUNK);
    harness.put("before", &body).await.unwrap();
    let mut reading = harness.reading("before").await;
    let mut read = reading.next().await.unwrap().unwrap().to_vec();
    let mut slow = harness.upload("slow", &body, absent());
    slow.pause = Duration::from_secs(3);
    let request = unannounced();
    let outage = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        harness.metad.set_faults(MetadFaults {
            unavailable: 100,
            ..MetadFaults::default()
        });
        tokio::time::sleep(Duration::from_secs(45)).await;
        harness.metad.set_faults(MetadFaults::default());
        // The first request already finds out, and is stored under another session.
        harness
            .put_as("after", &body, "STANDARD", absent())
            .await
            .unwrap();
    };
    let (stored, ()) = tokio::join!(harness.store.put(&request, &mut slow), outage);
    assert!(stored.is_err(), "its session ended in the middle");
    assert_eq!(harness.get("slow").await.unwrap(), None);
    while let Some(bytes) = reading.next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert!(read == body, "the read was located again");
    let again = harness.put_as("after", &body, "STANDARD", absent()).await;
    assert_eq!(again.unwrap_err(), Error::Rejected(Rejection::PreconditionFailed));
    harness.settle().await;
    assert_eq!(harness.copies_stored(), 2 * 2 * 6);
}

#[tokio::test(start_paused = true)]
async fn requests_do_not_queue_up_behind_a_metadata_service_that_is_away() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(10);
    harness.metad.set_faults(MetadFaults {
        unavailable: 100,
        slow: Duration::from_secs(6),
        ..MetadFaults::default()
    });
    // So long that the session may have ended.
    tokio::time::sleep(Duration::from_secs(45)).await;
    let began = tokio::time::Instant::now();
    let puts = (0..50).map(|_| harness.put("key", &body));
    let outcomes = futures::future::join_all(puts).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Err(Error::Unavailable(_)))),
        "{outcomes:?}"
    );
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(30),
        "{took:?} for requests that nobody answers"
    );
    harness.metad.set_faults(MetadFaults::default());
    harness.put("key", &body).await.unwrap();
}
