//! The stores' twin in memory against the databases it stands for: the same answers to the same calls, and after a
//! crash what a synced disk would have, never less.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use std::ops::ControlFlow;
use std::path::Path;
use ullage_metad::Error;
use ullage_metad::store::{
    Budget, DataDirectory, DiskBehaviour, LogDatabase, LogEntry, MemoryDisk, StateDatabase, StateWrite,
    States, Steps,
};
use ullage_model::store::{Change, Column, Direction, KeyRange, Read};

const COLUMNS: [Column; 3] = [Column::Live, Column::Inline, Column::System];
const RAFT_ROWS: &[&str] = &["applied"];

fn disk(scratch: &Path) -> MemoryDisk {
    MemoryDisk::new(1, DiskBehaviour::default(), scratch.to_path_buf())
}

fn runner() -> TestRunner {
    TestRunner::new(Config {
        cases: 60,
        ..Config::default()
    })
}

#[derive(Clone, Debug)]
enum LogAct {
    Append(Vec<Vec<u8>>),
    Sync,
    Vote(Vec<u8>),
    Committed(Vec<u8>),
    Purge(Vec<u8>),
    Truncate(u64),
    Read(u64, u64, usize),
}

fn log_act() -> impl Strategy<Value = LogAct> {
    let mark = || vec(any::<u8>(), 0..5);
    prop_oneof![
        6 => vec(vec(any::<u8>(), 0..30), 1..6).prop_map(LogAct::Append),
        3 => Just(LogAct::Sync),
        1 => mark().prop_map(LogAct::Vote),
        1 => mark().prop_map(LogAct::Committed),
        1 => mark().prop_map(LogAct::Purge),
        2 => (0..6_u64).prop_map(LogAct::Truncate),
        4 => (0..30_u64, 0..10_u64, 0..200_usize).prop_map(|(from, count, most)| LogAct::Read(from, count, most)),
    ]
}

fn append(log: &LogDatabase, payloads: &[Vec<u8>]) {
    let first = log.last().unwrap().map_or(0, |(index, _)| index + 1);
    let entries = (first..).zip(payloads).map(|(index, payload)| LogEntry {
        index,
        header: b"head",
        payload,
    });
    log.append(entries, None).unwrap();
}

/// Does it, and answers what it showed.
fn act_on(log: &LogDatabase, act: &LogAct) -> Vec<(u64, Bytes)> {
    match act {
        LogAct::Append(payloads) => append(log, payloads),
        LogAct::Sync => log.sync().unwrap(),
        LogAct::Vote(mark) => log.put_vote(mark).unwrap(),
        LogAct::Committed(mark) => log.put_committed(mark).unwrap(),
        LogAct::Purge(mark) => log.purge(mark).unwrap(),
        LogAct::Truncate(back) => {
            let end = log.last().unwrap().map_or(0, |(index, _)| index + 1);
            log.truncate(end.saturating_sub(*back)).unwrap();
        }
        LogAct::Read(from, count, most) => return log.entries(*from..from + count, *most).unwrap(),
    }
    Vec::new()
}

type Shown = (
    Option<u64>,
    Option<(u64, Bytes)>,
    [Option<Bytes>; 3],
    Vec<(u64, Bytes)>,
);

fn shown(log: &LogDatabase) -> Shown {
    let marks = [
        log.vote().unwrap(),
        log.committed().unwrap(),
        log.purged().unwrap(),
    ];
    let all = log.entries(0..u64::MAX, usize::MAX).unwrap();
    (log.first().unwrap(), log.last().unwrap(), marks, all)
}

#[test]
fn the_log_behaves_like_the_database() {
    let budget = Budget::new(8 << 20, 16 << 20);
    let check = |acts: Vec<LogAct>| {
        let home = tempfile::tempdir().unwrap();
        let database = LogDatabase::open(&home.path().join("log"), &budget, Steps::default()).unwrap();
        let twin = LogDatabase::in_memory(&disk(home.path()), Steps::default());
        for act in &acts {
            assert_eq!(act_on(&database, act), act_on(&twin, act), "{act:?}");
            assert_eq!(shown(&database), shown(&twin), "after {act:?}");
        }
        Ok(())
    };
    runner().run(&vec(log_act(), 1..40), check).unwrap();
}

#[test]
fn a_crash_leaves_the_synced_log_and_a_prefix_of_the_rest() {
    let check = |(acts, seed): (Vec<LogAct>, u64)| {
        let home = tempfile::tempdir().unwrap();
        let disk = MemoryDisk::new(seed, DiskBehaviour::default(), home.path().to_path_buf());
        let log = LogDatabase::in_memory(&disk, Steps::default());
        // What a crash may leave: the log as it was at the last sync, or after any batch since.
        let mut allowed = vec![shown(&log)];
        for act in &acts {
            act_on(&log, act);
            let syncs = matches!(
                act,
                LogAct::Sync | LogAct::Vote(_) | LogAct::Purge(_) | LogAct::Truncate(_)
            );
            if syncs {
                allowed.clear();
            }
            allowed.push(shown(&log));
        }
        disk.crash();
        // What a task of the crashed node still does has no effect.
        append(&log, &[vec![0xee]]);
        log.sync().unwrap();
        let left = shown(&LogDatabase::in_memory(&disk, Steps::default()));
        assert!(
            allowed.contains(&left),
            "{left:?} is none of the {} states allowed",
            allowed.len()
        );
        Ok(())
    };
    runner()
        .run(&(vec(log_act(), 1..40), any::<u64>()), check)
        .unwrap();
}

#[test]
fn a_sync_covers_what_was_written_when_it_began() {
    let home = tempfile::tempdir().unwrap();
    let disk = disk(home.path());
    let log = LogDatabase::in_memory(&disk, Steps::default());
    append(&log, &[b"before".to_vec()]);
    let written = log.written();
    append(&log, &[b"during".to_vec()]);
    log.sync_written(written).unwrap();
    disk.crash();
    let left = LogDatabase::in_memory(&disk, Steps::default());
    assert!(left.get(0).unwrap().is_some(), "what a sync covers is there");
}

#[derive(Clone, Debug)]
enum StateAct {
    Write(Vec<Change>),
    Flush,
    Snapshot,
    Install,
    Reopen,
}

fn change() -> impl Strategy<Value = Change> {
    let column = (0..COLUMNS.len()).prop_map(|at| COLUMNS[at]);
    let key = vec(prop_oneof![Just(0_u8), Just(b'a'), Just(255)], 0..3).prop_map(Bytes::from);
    let value = prop_oneof![
        Just(None),
        vec(any::<u8>(), 0..40).prop_map(|value| Some(Bytes::from(value))),
    ];
    (column, key, value).prop_map(|(column, key, value)| Change { column, key, value })
}

fn state_act() -> impl Strategy<Value = StateAct> {
    prop_oneof![
        6 => vec(change(), 0..8).prop_map(StateAct::Write),
        1 => Just(StateAct::Flush),
        1 => Just(StateAct::Snapshot),
        1 => Just(StateAct::Install),
        1 => Just(StateAct::Reopen),
    ]
}

fn rows(state: &impl Read, direction: Direction) -> Vec<(Column, Bytes, Bytes)> {
    let mut found = Vec::new();
    for column in COLUMNS {
        let visit = &mut |key: &[u8], value: &[u8]| {
            found.push((column, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        };
        state.scan(column, &KeyRange::all(), direction, visit).unwrap();
    }
    found
}

fn everything(state: &StateDatabase) -> Vec<(Column, Bytes, Bytes)> {
    let mut all = rows(state, Direction::Forward);
    all.extend(rows(&state.snapshot(), Direction::Backward));
    let raft = state.raft_row("applied").unwrap().unwrap_or_default();
    all.push((Column::System, Bytes::from_static(b"raft row"), raft));
    all
}

fn write(states: &States, number: u64, changes: &[Change]) {
    let write = StateWrite {
        changes: changes.to_vec(),
        raft: vec![("applied", Bytes::copy_from_slice(&number.to_be_bytes()))],
    };
    states.current().write(&write).unwrap();
}

fn state_act_on(states: &States, number: u64, act: &StateAct) {
    match act {
        StateAct::Write(changes) => write(states, number, changes),
        StateAct::Flush | StateAct::Reopen => states.current().flush().unwrap(),
        StateAct::Snapshot => {
            let made = states.checkpoint().unwrap();
            assert!(states.publish(&made, |_, _| false).unwrap());
        }
        StateAct::Install => {
            if let Some(snapshot) = states.snapshot() {
                states.install(&snapshot).unwrap();
            }
        }
    }
}

#[test]
fn the_state_behaves_like_the_database() {
    let budget = Budget::new(8 << 20, 16 << 20);
    let check = |acts: Vec<StateAct>| {
        let home = tempfile::tempdir().unwrap();
        let disk = disk(&home.path().join("twin"));
        let open = || {
            let path = home.path().join("database");
            let database = States::open(&path, &budget, Steps::default(), RAFT_ROWS).unwrap();
            let twin = States::in_memory(&disk, Steps::default(), RAFT_ROWS).unwrap();
            (database, twin)
        };
        let (mut database, mut twin) = open();
        for (number, act) in (1..).zip(&acts) {
            let held = (database.current(), twin.current());
            let before = everything(&held.1);
            state_act_on(&database, number, act);
            state_act_on(&twin, number, act);
            if matches!(act, StateAct::Install) {
                assert_eq!(everything(&held.1), before, "a replaced state stays as it was");
            }
            drop(held);
            if matches!(act, StateAct::Reopen) {
                drop((database, twin));
                (database, twin) = open();
            }
            assert_eq!(
                everything(&database.current()),
                everything(&twin.current()),
                "after {act:?}"
            );
            let covered = |states: &States| states.snapshot().map(|found| found.raft_rows().to_vec());
            assert_eq!(covered(&database), covered(&twin));
        }
        Ok(())
    };
    runner().run(&vec(state_act(), 1..30), check).unwrap();
}

#[test]
fn a_crash_leaves_the_state_of_the_last_flush() {
    let check = |acts: Vec<StateAct>| {
        let home = tempfile::tempdir().unwrap();
        let disk = disk(home.path());
        let states = States::in_memory(&disk, Steps::default(), RAFT_ROWS).unwrap();
        let mut flushed = everything(&states.current());
        for (number, act) in (1..).zip(&acts) {
            let nothing_to_install = states.snapshot().is_none() && matches!(act, StateAct::Install);
            state_act_on(&states, number, act);
            if !matches!(act, StateAct::Write(_)) && !nothing_to_install {
                flushed = everything(&states.current());
            }
        }
        let snapshot = states.snapshot().map(|found| found.raft_rows().to_vec());
        disk.crash();
        // What a task of the crashed node still does has no effect.
        states.current().flush().unwrap();
        let left = States::in_memory(&disk, Steps::default(), RAFT_ROWS).unwrap();
        assert_eq!(everything(&left.current()), flushed);
        assert_eq!(left.snapshot().map(|found| found.raft_rows().to_vec()), snapshot);
        Ok(())
    };
    runner().run(&vec(state_act(), 1..30), check).unwrap();
}

#[test]
fn a_snapshot_travels_as_files() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = (disk(&home.path().join("one")), disk(&home.path().join("other")));
    let from = States::in_memory(&one, Steps::default(), RAFT_ROWS).unwrap();
    let to = States::in_memory(&other, Steps::default(), RAFT_ROWS).unwrap();
    let change = Change {
        column: Column::Live,
        key: Bytes::from_static(b"key"),
        value: Some(Bytes::from_static(b"value")),
    };
    write(&from, 7, &[change]);
    let made = from.checkpoint().unwrap();
    from.publish(&made, |_, _| false).unwrap();
    let incoming = to.incoming().unwrap();
    for (name, length) in made.files().unwrap() {
        let length = usize::try_from(length).unwrap();
        incoming
            .write(&name, 0, &made.read(&name, 0, length).unwrap())
            .unwrap();
    }
    let received = to.received(incoming).unwrap();
    assert_eq!(received.raft_rows(), made.raft_rows());
    to.install(&received).unwrap();
    other.crash();
    let left = States::in_memory(&other, Steps::default(), RAFT_ROWS).unwrap();
    assert_eq!(everything(&left.current()), everything(&from.current()));
}

/// A node that has run does not become another one because the file that says who it is went away.
#[test]
fn a_disk_without_its_marker_is_damaged() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = disk(scratch.path());
    let mut random = |bytes: &mut [u8]| bytes.fill(7);
    let data = DataDirectory::open_member_in_memory(&disk, 0, &mut random).unwrap();
    drop(States::in_memory(&disk, Steps::default(), &[]).unwrap());
    drop(data);
    DataDirectory::open_member_in_memory(&disk, 0, &mut random).unwrap();
    std::fs::remove_dir_all(scratch.path().join("data")).unwrap();
    let opened = DataDirectory::open_member_in_memory(&disk, 0, &mut random);
    assert!(matches!(opened, Err(Error::Damaged { .. })));
}
