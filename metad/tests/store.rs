//! The RocksDB store is the reference store: the same rows after the same changes, whatever lies in
//! memtables, tables or behind a restart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use std::ops::{Bound, ControlFlow};
use std::time::{Duration, Instant};
use ullage_metad::store::{Budget, OpenState, StateWrite, States, Steps};
use ullage_model::store::{Change, Column, Direction, KeyRange, Memory, Read};

const COLUMNS: [Column; 3] = [Column::Live, Column::Inline, Column::System];

#[derive(Clone, Debug)]
enum Act {
    Write(Vec<Change>),
    Flush,
    Reopen,
    Read(Column, Bytes),
    Scan(Column, KeyRange, Direction, usize),
}

fn key() -> impl Strategy<Value = Bytes> {
    // Few and near each other, with prefixes of each other and the borders of a byte among them.
    vec(prop_oneof![Just(0_u8), Just(1), Just(b'a'), Just(255)], 0..4).prop_map(Bytes::from)
}

fn column() -> impl Strategy<Value = Column> {
    (0..COLUMNS.len()).prop_map(|at| COLUMNS[at])
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop_oneof![
        Just(None),
        vec(any::<u8>(), 0..40).prop_map(|value| Some(Bytes::from(value))),
        // Long enough for a blob file.
        (600..1500_usize, any::<u8>()).prop_map(|(length, byte)| Some(Bytes::from(vec![byte; length]))),
    ];
    (column(), key(), value).prop_map(|(column, key, value)| Change { column, key, value })
}

fn bound() -> impl Strategy<Value = Bound<Bytes>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let range = prop_oneof![
        (bound(), bound()).prop_map(|(start, end)| KeyRange { start, end }),
        key().prop_map(|prefix| KeyRange::prefix(&prefix)),
    ];
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    prop_oneof![
        6 => vec(change(), 0..12).prop_map(Act::Write),
        1 => Just(Act::Flush),
        1 => Just(Act::Reopen),
        4 => (column(), key()).prop_map(|(column, key)| Act::Read(column, key)),
        8 => (column(), range, direction, 1..30_usize)
            .prop_map(|(column, range, direction, most)| Act::Scan(column, range, direction, most)),
    ]
}

fn scan(
    rows: &impl Read,
    column: Column,
    range: &KeyRange,
    direction: Direction,
    most: usize,
) -> Vec<(Bytes, Bytes)> {
    let mut found = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if found.len() == most {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    rows.scan(column, range, direction, visit).unwrap();
    found
}

fn write(state: &OpenState, changes: Vec<Change>) {
    state
        .write(&StateWrite {
            changes,
            raft: Vec::new(),
        })
        .unwrap();
}

#[test]
fn behaves_like_the_reference_store() {
    let budget = Budget::new(8 << 20, 16 << 20);
    let mut runner = TestRunner::new(Config {
        cases: 40,
        ..Config::default()
    });
    let check = |acts: Vec<Act>| {
        let home = tempfile::tempdir().unwrap();
        let open = || States::open(home.path(), &budget, Steps::default(), &[]).unwrap();
        let mut states = open();
        let mut memory = Memory::default();
        for act in acts {
            let state = states.current();
            match act {
                Act::Write(changes) => {
                    let before = state.snapshot();
                    let shown = scan(
                        &before,
                        Column::Live,
                        &KeyRange::all(),
                        Direction::Forward,
                        usize::MAX,
                    );
                    memory.apply(changes.clone());
                    write(&state, changes);
                    let still = scan(
                        &before,
                        Column::Live,
                        &KeyRange::all(),
                        Direction::Forward,
                        usize::MAX,
                    );
                    assert_eq!(shown, still, "a snapshot does not move");
                }
                Act::Flush => state.flush().unwrap(),
                Act::Reopen => {
                    drop(state);
                    drop(states);
                    states = open();
                }
                Act::Read(column, key) => {
                    let expected = memory.get(column, &key).unwrap();
                    assert_eq!(state.get(column, &key).unwrap(), expected);
                    assert_eq!(state.snapshot().get(column, &key).unwrap(), expected);
                }
                Act::Scan(column, range, direction, most) => {
                    let expected = scan(&memory, column, &range, direction, most);
                    assert_eq!(
                        scan(&**state, column, &range, direction, most),
                        expected,
                        "{range:?}"
                    );
                    assert_eq!(
                        scan(&state.snapshot(), column, &range, direction, most),
                        expected,
                        "{range:?}"
                    );
                }
            }
        }
        Ok(())
    };
    runner.run(&vec(act(), 1..60), check).unwrap();
}

/// A listing of the few rows left after a mass deletion must not wade through what was deleted.
#[test]
fn scans_stay_fast_after_mass_deletes() {
    const ROWS: u32 = 300_000;
    let home = tempfile::tempdir().unwrap();
    let states = States::open(
        home.path(),
        &Budget::new(32 << 20, 64 << 20),
        Steps::default(),
        &[],
    )
    .unwrap();
    let state = states.current();
    let row = |at: u32, value: Option<&'static [u8]>| Change {
        column: Column::Live,
        key: Bytes::from(format!("bucket/prefix/{at:08}")),
        value: value.map(Bytes::from_static),
    };
    for first in (0..ROWS).step_by(1000) {
        write(
            &state,
            (first..first + 1000).map(|at| row(at, Some(&[5; 100]))).collect(),
        );
    }
    let kept = |at: u32| at.is_multiple_of(ROWS / 10);
    for first in (0..ROWS).step_by(1000) {
        write(
            &state,
            (first..first + 1000)
                .filter(|at| !kept(*at))
                .map(|at| row(at, None))
                .collect(),
        );
    }
    let range = KeyRange::prefix(b"bucket/prefix/");
    let list = || {
        let start = Instant::now();
        let found = scan(&**state, Column::Live, &range, Direction::Forward, 1000);
        assert_eq!(found.len(), 10);
        start.elapsed()
    };
    let first = list();
    // What the task that also condenses the log does every now and then.
    assert!(
        state.tidy().unwrap(),
        "so many deletions in memory have it flushed"
    );
    assert!(!state.tidy().unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let took = list();
        if took < Duration::from_millis(5) {
            println!("first listing {first:?}, then {took:?}");
            return;
        }
        assert!(Instant::now() < deadline, "a listing still takes {took:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
