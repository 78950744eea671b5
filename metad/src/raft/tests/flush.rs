//! The log under slow and failing syncs: the order of completions, what they promise, and that a failure is
//! final.

use super::{append, at, command, commands, copy_tree, open};
use crate::raft::types::{TypeConfig, Vote};
use crate::store::{Step, Steps};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn vote(term: u64) -> Vote {
    Vote::new(term, 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_come_in_order_and_after_their_sync() {
    let home = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&syncs);
    let steps = Steps::hooked(move |step| {
        if step == Step::LogSync {
            std::thread::sleep(Duration::from_millis(10));
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let mut log = open(home.path(), &steps).unwrap().log;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for index in 0..50 {
        let (tell, told) = TypeConfig::oneshot();
        let syncs_before = syncs.load(Ordering::SeqCst);
        log.append([command(index, "x")], IOFlushed::signal(tell))
            .await
            .unwrap();
        let readable = log.try_get_log_entries(index..=index).await.unwrap();
        assert_eq!(readable.len(), 1, "an entry can be read when append returns");
        let (order, syncs) = (Arc::clone(&order), Arc::clone(&syncs));
        waiting.push(async move {
            told.await.unwrap().unwrap();
            order.lock().unwrap().push(index);
            assert!(
                syncs.load(Ordering::SeqCst) > syncs_before,
                "completed without a sync of its own"
            );
        });
        if index % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    // Polled in order and completed in order: the order they are seen in is the order they came in.
    for one in waiting {
        one.await;
    }
    assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    assert!(syncs.load(Ordering::SeqCst) < 50, "appends share syncs");
}

#[tokio::test]
async fn later_appends_never_complete_before_earlier_ones() {
    let home = tempfile::tempdir().unwrap();
    let gate = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&gate);
    let steps = Steps::hooked(move |step| {
        while step == Step::LogSync && !held.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(())
    });
    let mut log = open(home.path(), &steps).unwrap().log;
    let mut told = Vec::new();
    for index in 0..10 {
        let (tell, receiver) = TypeConfig::oneshot();
        log.append([command(index, "x")], IOFlushed::signal(tell))
            .await
            .unwrap();
        told.push(receiver);
    }
    for receiver in &mut told {
        let early = tokio::time::timeout(Duration::from_millis(1), receiver).await;
        assert!(early.is_err(), "nothing completes while the sync hangs");
    }
    gate.store(true, Ordering::SeqCst);
    for receiver in told {
        receiver.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_failed_sync_is_final() {
    let home = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&broken);
    let steps = Steps::hooked(move |step| match step {
        // Fails once: a disk that recovers must not be believed either.
        Step::LogSync if breaks.swap(false, Ordering::SeqCst) => Err(io::Error::other("no disk")),
        _ => Ok(()),
    });
    let mut log = open(home.path(), &steps).unwrap().log;
    append(&mut log, commands(0..3)).await.unwrap();
    broken.store(true, Ordering::SeqCst);
    append(&mut log, commands(3..4)).await.unwrap_err();
    assert!(!broken.load(Ordering::SeqCst));
    for attempt in 0..3 {
        let refused = append(&mut log, commands(4..5)).await.unwrap_err();
        assert!(
            refused.to_string().contains("no disk"),
            "attempt {attempt}: {refused}"
        );
    }
    log.save_vote(&vote(9)).await.unwrap_err();
    log.purge(at(1)).await.unwrap_err();
    log.truncate_after(Some(at(1))).await.unwrap_err();
    log.save_committed(Some(at(1))).await.unwrap_err();
}

#[tokio::test]
async fn a_failed_append_stops_the_log() {
    let home = tempfile::tempdir().unwrap();
    let steps = Steps::hooked(|step| match step {
        Step::VoteWrite => Err(io::Error::other("no disk")),
        _ => Ok(()),
    });
    let mut log = open(home.path(), &steps).unwrap().log;
    append(&mut log, commands(0..3)).await.unwrap();
    log.save_vote(&vote(2)).await.unwrap_err();
    append(&mut log, commands(3..4)).await.unwrap_err();
    assert_eq!(
        log.read_vote().await.unwrap(),
        None,
        "a vote that may be lost is not shown"
    );
}

#[tokio::test]
async fn reads_are_bounded_in_bytes_and_complete() {
    let home = tempfile::tempdir().unwrap();
    let mut log = open(home.path(), &Steps::default()).unwrap().log;
    let long = "y".repeat(1 << 20);
    // More than is kept in memory, so that both sources are read.
    for index in 0..24 {
        append(&mut log, vec![command(index, &long)]).await.unwrap();
    }
    let first = log.limited_get_log_entries(0, 24).await.unwrap();
    assert!((1..24).contains(&first.len()), "{} entries", first.len());
    assert_eq!(log.try_get_log_entries(0..24).await.unwrap().len(), 24);
    let streamed = log.entries_stream(0..24).await;
    let indexes: Vec<u64> = futures::StreamExt::collect::<Vec<_>>(streamed)
        .await
        .into_iter()
        .map(|entry| entry.unwrap().log_id.index)
        .collect();
    assert_eq!(indexes, (0..24).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_committed_mark_never_runs_ahead_of_the_log() {
    let home = tempfile::tempdir().unwrap();
    {
        let mut log = open(home.path(), &Steps::default()).unwrap().log;
        append(&mut log, commands(0..5)).await.unwrap();
        log.save_committed(Some(at(4))).await.unwrap();
        log.truncate_after(Some(at(2))).await.unwrap();
        assert_eq!(log.read_committed().await.unwrap(), Some(at(2)));
    }
    let copy = tempfile::tempdir().unwrap();
    copy_tree(home.path(), copy.path());
    let mut log = open(copy.path(), &Steps::default()).unwrap().log;
    assert_eq!(log.read_committed().await.unwrap(), Some(at(2)));
}

#[tokio::test]
async fn bytes_are_counted_across_purges_truncations_and_restarts() {
    let home = tempfile::tempdir().unwrap();
    let check = |log: &crate::raft::LogStore, what: &str| {
        let behind = |index| log.bytes_behind(index).unwrap();
        assert_eq!(behind(Some(29)), 0, "{what}");
        assert_eq!(behind(None), behind(Some(9)), "{what}");
        let target = log.purge_target(behind(Some(19)), 29).unwrap();
        assert_eq!(target, Some(19), "{what}");
        assert_eq!(
            log.purge_target(behind(Some(19)), 12).unwrap(),
            Some(12),
            "{what}"
        );
        assert_eq!(log.purge_target(u64::MAX, 29).unwrap(), None, "{what}");
    };
    {
        let mut log = open(home.path(), &Steps::default()).unwrap().log;
        append(&mut log, commands(0..40)).await.unwrap();
        log.truncate_after(Some(at(24))).await.unwrap();
        append(&mut log, commands(25..30)).await.unwrap();
        log.purge(at(9)).await.unwrap();
        check(&log, "before the restart");
    }
    check(
        &open(home.path(), &Steps::default()).unwrap().log,
        "after the restart",
    );
}
