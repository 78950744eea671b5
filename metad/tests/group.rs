//! A group of one on real databases: what is acknowledged is there, after a restart and after a kill; bounds
//! hold; failures are told apart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{put, start, start_proposing};
use ullage_metad::Error;
use ullage_metad::propose::{ProposalLimits, Proposer};
use ullage_metad::raft::{Group, GroupConfig};
use ullage_metad::reads::Reads;
use ullage_metad::store::{Step, Steps};
use ullage_model::limits::COMMAND_BYTES_MAX;
use ullage_model::store::{Column, Read};

const CHILD_HOME: &str = "ULLAGE_TEST_CHILD_HOME";

async fn stop(group: Arc<Group>, proposer: Proposer) {
    drop(proposer);
    Arc::into_inner(group).expect("the only handle").shutdown().await;
}

fn value(group: &Group, key: &str) -> Option<Bytes> {
    group
        .state()
        .snapshot()
        .get(Column::Versions, key.as_bytes())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_write_is_read_at_once_and_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let (group, proposer) = start_proposing(home.path()).await.unwrap();
    let reads = Reads::new(Arc::clone(&group), Duration::from_secs(5));
    for round in 0..20 {
        let text = format!("value {round}");
        let before = proposer
            .propose_bytes(put(b"key", text.as_bytes()))
            .await
            .unwrap();
        assert_eq!(
            before,
            if round == 0 {
                String::new()
            } else {
                format!("value {}", round - 1)
            }
        );
        let state = reads.linearizable().await.unwrap();
        assert_eq!(
            state.get(Column::Versions, b"key").unwrap(),
            Some(Bytes::from(text))
        );
    }
    // The round that larger groups take works in a group of one, too, and says the same.
    let index = group.read_index(Duration::from_secs(5)).await.unwrap();
    group.wait_applied(index, Duration::from_secs(5)).await.unwrap();
    assert!(group.applied_index() >= index.0);
    let many = (0..300).map(|serial| put(format!("many/{serial}").as_bytes(), b"x"));
    assert!(
        proposer
            .propose_many(many)
            .await
            .into_iter()
            .all(|answer| answer.is_ok())
    );
    let identity = group.status().identity;
    drop(reads);
    stop(group, proposer).await;

    let (group, proposer) = start_proposing(home.path()).await.unwrap();
    assert_eq!(group.status().identity, identity);
    assert_eq!(value(&group, "key"), Some(Bytes::from("value 19")));
    assert_eq!(value(&group, "many/299"), Some(Bytes::from("x")));
    stop(group, proposer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_from_snapshot_plus_log() {
    let home = tempfile::tempdir().unwrap();
    let config = GroupConfig {
        snapshot_after_bytes: 200_000,
        keep_log_bytes: 100_000,
        ..GroupConfig::default()
    };
    let group = Arc::new(start(home.path(), &config, Steps::default()).await.unwrap());
    let proposer = Proposer::new(Arc::clone(&group), ProposalLimits::default());
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut written = 0_u64;
    while group.status().purged_index.is_none_or(|purged| purged < 500) {
        assert!(
            Instant::now() < deadline,
            "the log is never purged: {:?}",
            group.status()
        );
        let commands = (written..written + 100).map(|at| put(format!("k{at}").as_bytes(), &[9; 400]));
        assert!(
            proposer
                .propose_many(commands)
                .await
                .into_iter()
                .all(|answer| answer.is_ok())
        );
        written += 100;
    }
    let kept = group.metrics().log_bytes.get();
    let status = group.status();
    assert!(status.purged_index <= status.snapshot_index, "{status:?}");
    assert!(kept >= 100_000, "{kept} bytes of log are kept");
    stop(group, proposer).await;

    let group = Arc::new(start(home.path(), &config, Steps::default()).await.unwrap());
    for at in 0..written {
        assert!(value(&group, &format!("k{at}")).is_some(), "k{at} of {written}");
    }
    let count = group.state().get(Column::System, b"count").unwrap().unwrap();
    assert_eq!(count, written.to_be_bytes().as_slice(), "each is applied once");
    let proposer = Proposer::new(Arc::clone(&group), ProposalLimits::default());
    proposer.propose_bytes(put(b"after", b"x")).await.unwrap();
    stop(group, proposer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_is_refused_before_raft_sees_it() {
    let home = tempfile::tempdir().unwrap();
    let hangs = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&hangs);
    let steps = Steps::hooked(move |step| {
        while step == Step::LogSync && hook.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    let group = Arc::new(start(home.path(), &GroupConfig::default(), steps).await.unwrap());
    let limits = ProposalLimits {
        count: 10,
        bytes: 2000,
        patience: Duration::from_millis(200),
    };
    let proposer = Proposer::new(Arc::clone(&group), limits);
    let long = Bytes::from(vec![0; COMMAND_BYTES_MAX + 1]);
    assert!(matches!(
        proposer.propose_bytes(long).await,
        Err(Error::CommandTooLong { .. })
    ));

    hangs.store(true, Ordering::SeqCst);
    let many = (0..12).map(|at| put(format!("k{at}").as_bytes(), b"x"));
    let answers = proposer.propose_many(many).await;
    let unknown = |answer: &&Result<Bytes, Error>| matches!(answer, Err(Error::OutcomeUnknown { .. }));
    assert_eq!(answers.iter().filter(unknown).count(), 10);
    assert!(
        answers[10..]
            .iter()
            .all(|answer| matches!(answer, Err(Error::Overloaded)))
    );
    // Their callers are gone, but they still are in flight.
    assert!(matches!(
        proposer.propose_bytes(put(b"later", b"x")).await,
        Err(Error::Overloaded)
    ));
    assert_eq!(group.metrics().proposals_in_flight.get(), 10);

    hangs.store(false, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(10);
    while group.metrics().proposals_in_flight.get() > 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(group.metrics().proposal_bytes_in_flight.get(), 0);
    assert_eq!(
        value(&group, "k9"),
        Some(Bytes::from("x")),
        "an unknown outcome may be success"
    );
    assert_eq!(value(&group, "k10"), None, "a refused proposal was not appended");
    let wide = put(b"wide", &[0; 2500]);
    assert!(
        matches!(proposer.propose_bytes(wide).await, Err(Error::Overloaded)),
        "bytes are bounded, too"
    );
    proposer.propose_bytes(put(b"later", b"x")).await.unwrap();
    stop(group, proposer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_stops_the_node_and_acknowledges_nothing() {
    let home = tempfile::tempdir().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&fails);
    let steps = Steps::hooked(move |step| match step {
        Step::LogSync if hook.load(Ordering::SeqCst) => Err(std::io::Error::other("no disk")),
        _ => Ok(()),
    });
    let group = Arc::new(start(home.path(), &GroupConfig::default(), steps).await.unwrap());
    let limits = ProposalLimits {
        patience: Duration::from_secs(5),
        ..ProposalLimits::default()
    };
    let proposer = Proposer::new(Arc::clone(&group), limits);
    proposer.propose_bytes(put(b"before", b"x")).await.unwrap();
    fails.store(true, Ordering::SeqCst);
    let lost = proposer.propose_bytes(put(b"lost", b"x")).await;
    assert!(matches!(lost, Err(Error::OutcomeUnknown { .. })), "{lost:?}");
    fails.store(false, Ordering::SeqCst);
    // Until Raft has wound up, a proposal may still get into its queue: its outcome is unknown then.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match proposer.propose_bytes(put(b"after", b"x")).await {
            Err(Error::Stopped { .. }) => break,
            Err(Error::OutcomeUnknown { .. }) => assert!(Instant::now() < deadline),
            answer => panic!("a stopped node answered {answer:?}"),
        }
    }
    assert!(
        group
            .status()
            .failure
            .is_some_and(|failure| failure.contains("no disk"))
    );
    stop(group, proposer).await;
    let (group, proposer) = start_proposing(home.path()).await.unwrap();
    assert!(value(&group, "before").is_some());
    assert!(value(&group, "after").is_none());
    stop(group, proposer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_user_of_the_directory_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let first = start(home.path(), &GroupConfig::default(), Steps::default())
        .await
        .unwrap();
    let second = start(home.path(), &GroupConfig::default(), Steps::default()).await;
    assert!(matches!(second, Err(Error::InUse { .. })));
    first.shutdown().await;
    start(home.path(), &GroupConfig::default(), Steps::default())
        .await
        .unwrap()
        .shutdown()
        .await;
}

/// Runs only as a child of the next test: proposes until it is killed and prints what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_proposes_until_it_is_killed() {
    let Ok(home) = std::env::var(CHILD_HOME) else {
        return;
    };
    let config = GroupConfig {
        snapshot_after_bytes: 150_000,
        keep_log_bytes: 80_000,
        ..GroupConfig::default()
    };
    let group = Arc::new(start(Path::new(&home), &config, Steps::default()).await.unwrap());
    let proposer = Proposer::new(Arc::clone(&group), ProposalLimits::default());
    let mut clients = Vec::new();
    for client in 0..16_u32 {
        let proposer = proposer.clone();
        clients.push(tokio::spawn(async move {
            let run = std::process::id();
            for serial in 0_u64.. {
                let (key, text) = (
                    format!("{client}/{}", serial % 50),
                    format!("{run} {serial} {}", "v".repeat(200)),
                );
                proposer
                    .propose_bytes(put(key.as_bytes(), text.as_bytes()))
                    .await
                    .unwrap();
                println!("acknowledged {key} {run} {serial}");
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}

#[test]
fn after_a_kill_everything_acknowledged_is_there() {
    let home = tempfile::tempdir().unwrap();
    let mut acknowledged: HashMap<String, (u32, u64)> = HashMap::new();
    for round in 0..6_u64 {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_proposes_until_it_is_killed",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD_HOME, home.path())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 1500 + 700 * usize::try_from(round).unwrap();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let Some((_, rest)) = line.split_once("acknowledged ") else {
                continue;
            };
            let fields: Vec<&str> = rest.split(' ').collect();
            // The kill may cut the last line short; what it would have said is not claimed.
            let [key, run, serial] = fields[..] else { continue };
            let (Ok(run), Ok(serial)) = (run.parse(), serial.parse()) else {
                continue;
            };
            acknowledged.insert(key.to_owned(), (run, serial));
            seen += 1;
            if seen == wanted {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(
            seen >= wanted,
            "round {round}: the child stopped by itself after {seen}"
        );
        verify(home.path(), &acknowledged, round);
    }
}

fn verify(home: &Path, acknowledged: &HashMap<String, (u32, u64)>, round: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (group, proposer) = start_proposing(home).await.unwrap();
        for (key, (run, serial)) in acknowledged {
            let found = value(&group, key).unwrap_or_else(|| panic!("round {round}: {key} is gone"));
            let text = String::from_utf8(found.to_vec()).unwrap();
            let mut fields = text.split(' ');
            let (found_run, found_serial) = (fields.next().unwrap(), fields.next().unwrap());
            // A later write of the same key may have been applied without its answer being printed.
            let newer = found_run == run.to_string() && found_serial.parse::<u64>().unwrap() >= *serial;
            assert!(
                newer,
                "round {round}: {key} is {text:.40}, acknowledged was {run} {serial}"
            );
        }
        stop(group, proposer).await;
    });
}
