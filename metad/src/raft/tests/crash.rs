//! A crash between any two writes of purge, truncate, snapshot build and install: what a restart finds is
//! either the state before or the state after, and always complete.
//!
//! A crash is a copy of the directory taken at a step, as a killed process leaves it; the original goes on
//! with an error. Each scenario is crashed at its first step, then at its second, until it runs through.

use super::{Appender, Stores, append, apply, at, commands, copy_tree, open};
use crate::raft::machine::Machine;
use crate::raft::snapshot::meta_of;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{TypeConfig, Vote};
use crate::store::{Step, Steps};
use openraft::EntryPayload;
use openraft::StorageHelper;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use ullage_model::store::{Column, Direction, KeyRange, Memory, Overlay, Read};

/// Crashes at the step it is armed for.
struct Crash {
    home: TempDir,
    left: TempDir,
    /// Steps to let pass; `None` while disarmed.
    after: Mutex<Option<usize>>,
    crashed: Mutex<Option<Step>>,
}

impl Crash {
    fn new() -> Arc<Self> {
        let dir = || tempfile::tempdir().unwrap();
        Arc::new(Self {
            home: dir(),
            left: dir(),
            after: Mutex::new(None),
            crashed: Mutex::new(None),
        })
    }

    fn steps(self: &Arc<Self>) -> Steps {
        let this = Arc::clone(self);
        Steps::hooked(move |step| this.at(step))
    }

    fn at(&self, step: Step) -> io::Result<()> {
        let mut after = self.after.lock().unwrap();
        match &mut *after {
            Some(0) => {
                *after = None;
                copy_tree(self.home.path(), self.left.path());
                *self.crashed.lock().unwrap() = Some(step);
                Err(io::Error::other("crashed here"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn arm(&self, after: usize) {
        *self.after.lock().unwrap() = Some(after);
    }

    fn disarm(&self) {
        *self.after.lock().unwrap() = None;
    }

    /// Where it crashed, and what it left there.
    fn result(&self) -> Option<(Step, PathBuf)> {
        self.crashed
            .lock()
            .unwrap()
            .map(|step| (step, self.left.path().to_path_buf()))
    }
}

/// Runs `prepare`, then `scenario` crashed at every step in turn, and has `check` look at what each crash
/// left. Returns the steps it crashed at.
async fn crash_everywhere(
    prepare: impl AsyncFn(&mut Stores),
    scenario: impl AsyncFn(&mut Stores) -> io::Result<()>,
    check: impl AsyncFn(Step, &Path),
) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        let crash = Crash::new();
        let mut stores = open(crash.home.path(), &crash.steps()).unwrap();
        prepare(&mut stores).await;
        crash.arm(steps.len());
        let done = scenario(&mut stores).await;
        crash.disarm();
        let Some((step, left)) = crash.result() else {
            done.unwrap();
            return steps;
        };
        done.unwrap_err();
        drop(stores);
        check(step, &left).await;
        steps.push(step);
        assert!(steps.len() < 200, "the scenario never runs through");
    }
}

/// The state after the commands up to `end`, exclusive.
fn reference(end: u64) -> Memory {
    let mut memory = Memory::default();
    for entry in commands(0..end) {
        let EntryPayload::Normal(command) = entry.payload else {
            continue;
        };
        let overlay = Overlay::new(&memory);
        let applied = Appender.apply(&overlay, entry.log_id.index, &command.0).unwrap();
        memory.apply(applied.changes);
    }
    memory
}

fn rows(state: &impl Read, column: Column) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    state
        .scan(column, &KeyRange::all(), Direction::Forward, visit)
        .unwrap();
    rows
}

fn assert_state(state: &impl Read, end: u64, when: &str) {
    let expected = reference(end);
    for column in Column::ALL {
        assert_eq!(rows(state, column), rows(&expected, column), "{when}: {column:?}");
    }
}

async fn applied(machine: &mut StateMachine) -> u64 {
    machine
        .applied_state()
        .await
        .unwrap()
        .0
        .map_or(0, |log_id| log_id.index + 1)
}

/// Starts like openraft does: every entry up to `end` must be in the state or in the log.
async fn assert_recovers(home: &Path, end: u64, when: &str) {
    let Stores {
        mut log,
        mut machine,
        states,
        ..
    } = open(home, &Steps::default()).unwrap();
    log.save_committed(Some(at(end - 1))).await.unwrap();
    StorageHelper::<TypeConfig, _, _>::new(&mut log, &mut machine)
        .with_id(1)
        .get_initial_state()
        .await
        .unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(applied(&mut machine).await, end, "{when}");
    assert_state(&**states.current(), end, when);
}

async fn build(machine: &mut StateMachine) -> io::Result<()> {
    let mut builder = machine.try_create_snapshot_builder(true).await.unwrap();
    builder.build_snapshot().await.map(drop)
}

async fn write(stores: &mut Stores, range: std::ops::Range<u64>) {
    append(&mut stores.log, commands(range.clone())).await.unwrap();
    apply(&mut stores.machine, commands(range)).await.unwrap();
}

#[tokio::test]
async fn purge_and_truncate_leave_no_hole() {
    let prepare = async |stores: &mut Stores| append(&mut stores.log, commands(0..30)).await.unwrap();
    let scenario = async |stores: &mut Stores| {
        stores.log.purge(at(9)).await?;
        stores.log.truncate_after(Some(at(24))).await?;
        stores.log.purge(at(19)).await
    };
    let steps = crash_everywhere(prepare, scenario, async |step, left| {
        let mut log = open(left, &Steps::default()).unwrap().log;
        let state = log.get_log_state().await.unwrap();
        let purged = state.last_purged_log_id.map_or(0, |mark| mark.index + 1);
        let last = state.last_log_id.unwrap().index;
        assert!(
            [0, 10, 20].contains(&purged) && [29, 24].contains(&last),
            "{step:?}: {purged}..={last}"
        );
        let entries = log.try_get_log_entries(..).await.unwrap();
        let indexes: Vec<_> = entries.iter().map(|entry| entry.log_id.index).collect();
        assert_eq!(indexes, (purged..=last).collect::<Vec<_>>(), "{step:?}");
    });
    let steps = steps.await;
    assert_eq!(steps.len(), 6, "{steps:?}");
}

#[tokio::test]
async fn a_vote_is_old_or_new() {
    let prepare = async |stores: &mut Stores| stores.log.save_vote(&Vote::new(1, 1)).await.unwrap();
    let scenario = async |stores: &mut Stores| stores.log.save_vote(&Vote::new(2, 1)).await;
    crash_everywhere(prepare, scenario, async |step, left| {
        let vote = open(left, &Steps::default())
            .unwrap()
            .log
            .read_vote()
            .await
            .unwrap()
            .unwrap();
        let expected = if step == Step::VoteWrite { 1 } else { 2 };
        assert_eq!(vote.leader_id.term, expected, "{step:?}");
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_build_and_the_purge_behind_it_lose_nothing() {
    let prepare = async |stores: &mut Stores| {
        write(stores, 0..10).await;
        build(&mut stores.machine).await.unwrap();
        write(stores, 10..30).await;
    };
    let scenario = async |stores: &mut Stores| {
        build(&mut stores.machine).await?;
        let covered = meta_of(&stores.states.snapshot().unwrap())?.last_log_id.unwrap();
        stores.log.purge(covered).await
    };
    let steps = crash_everywhere(prepare, scenario, async |step, left| {
        let when = format!("{step:?}");
        {
            let stores = open(left, &Steps::default()).unwrap();
            let snapshot = stores.states.snapshot().unwrap();
            let covered = meta_of(&snapshot).unwrap().last_log_id.unwrap().index;
            assert!(
                covered == 9 || covered == 29,
                "{when}: the old or the new snapshot, not {covered}"
            );
            // A complete one: it can be installed elsewhere.
            let elsewhere = tempfile::tempdir().unwrap();
            let other = open(elsewhere.path(), &Steps::default()).unwrap();
            other.states.install(&snapshot).unwrap();
            assert_state(&**other.states.current(), covered + 1, &when);
        }
        assert_recovers(left, 30, &when).await;
        let remains = std::fs::read_dir(left.join("state")).unwrap().count();
        assert_eq!(remains, 3, "{when}: pointer, state and snapshot, nothing else");
    });
    let steps = steps.await;
    for step in [
        Step::CheckpointMade,
        Step::CheckpointSynced,
        Step::PointerRenamed,
        Step::PurgeWritten,
    ] {
        assert!(steps.contains(&step), "{step:?} in {steps:?}");
    }
}

#[tokio::test]
async fn an_install_replaces_all_or_nothing() {
    let sender = tempfile::tempdir().unwrap();
    let mut leader = open(sender.path(), &Steps::default()).unwrap();
    write(&mut leader, 0..30).await;
    build(&mut leader.machine).await.unwrap();
    let snapshot = leader.states.snapshot().unwrap();
    let meta = meta_of(&snapshot).unwrap();
    let prepare = async |stores: &mut Stores| {
        write(stores, 0..10).await;
        build(&mut stores.machine).await.unwrap();
        write(stores, 10..12).await;
    };
    let scenario = async |stores: &mut Stores| {
        let reader = stores.states.current();
        stores
            .machine
            .install_snapshot(&meta, Arc::clone(&snapshot))
            .await?;
        assert_state(&**reader, 12, "a reader that holds the old state");
        stores.log.purge(at(29)).await
    };
    let steps = crash_everywhere(prepare, scenario, async |step, left| {
        let when = format!("{step:?}");
        let (covered, applied) = {
            let mut stores = open(left, &Steps::default()).unwrap();
            let covered = meta_of(&stores.states.snapshot().unwrap())
                .unwrap()
                .last_log_id
                .unwrap()
                .index;
            let applied = applied(&mut stores.machine).await;
            assert_state(&**stores.states.current(), applied, &when);
            (covered, applied)
        };
        // The state database alone may be behind: what it had not flushed comes from the log.
        assert!(
            (covered == 9 && (10..=12).contains(&applied)) || (covered, applied) == (29, 30),
            "{when}"
        );
        assert_recovers(left, if covered == 29 { 30 } else { 12 }, &when).await;
    });
    let steps = steps.await;
    for step in [
        Step::InstallLinking,
        Step::InstallSynced,
        Step::InstallOpened,
        Step::PointerWritten,
    ] {
        assert!(steps.contains(&step), "{step:?} in {steps:?}");
    }
}

#[tokio::test]
async fn a_late_build_never_replaces_a_newer_install() {
    let sender = tempfile::tempdir().unwrap();
    let mut leader = open(sender.path(), &Steps::default()).unwrap();
    write(&mut leader, 0..30).await;
    build(&mut leader.machine).await.unwrap();
    let snapshot = leader.states.snapshot().unwrap();
    let meta = meta_of(&snapshot).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut follower = open(home.path(), &Steps::default()).unwrap();
    write(&mut follower, 0..10).await;
    let mut late = follower.machine.try_create_snapshot_builder(true).await.unwrap();
    follower.machine.install_snapshot(&meta, snapshot).await.unwrap();
    let built = late.build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, Some(at(9)));
    let current = follower.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(at(29)));
    assert_eq!(applied(&mut follower.machine).await, 30);
}

#[tokio::test]
async fn a_snapshot_in_use_outlives_its_successor_and_goes_with_its_last_user() {
    let home = tempfile::tempdir().unwrap();
    let mut stores = open(home.path(), &Steps::default()).unwrap();
    write(&mut stores, 0..5).await;
    build(&mut stores.machine).await.unwrap();
    let sent = stores.states.snapshot().unwrap();
    write(&mut stores, 5..9).await;
    build(&mut stores.machine).await.unwrap();
    assert!(
        !sent.files().unwrap().is_empty(),
        "a snapshot being sent is not deleted"
    );
    let path = sent.path().to_path_buf();
    drop(sent);
    assert!(!path.exists(), "nobody sends it any more");
}

#[tokio::test]
async fn installs_its_own_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let mut stores = open(home.path(), &Steps::default()).unwrap();
    write(&mut stores, 0..5).await;
    build(&mut stores.machine).await.unwrap();
    let current = stores.machine.get_current_snapshot().await.unwrap().unwrap();
    write(&mut stores, 5..9).await;
    stores
        .machine
        .install_snapshot(&current.meta, current.snapshot)
        .await
        .unwrap();
    assert_eq!(applied(&mut stores.machine).await, 5);
    apply(&mut stores.machine, commands(5..9)).await.unwrap();
    assert_state(&**stores.states.current(), 9, "after its own snapshot");
}

#[tokio::test]
async fn digests_are_the_same_after_a_replay() {
    let home = tempfile::tempdir().unwrap();
    let live = {
        let mut stores = open(home.path(), &Steps::default()).unwrap();
        let long = crate::raft::DIGEST_EVERY_ENTRIES * 2 + 5;
        for start in (0..long).step_by(1000) {
            apply(&mut stores.machine, commands(start..(start + 1000).min(long)))
                .await
                .unwrap();
        }
        stores.digests.all()
    };
    assert_eq!(live.len(), 3, "at 0, 4096 and 8192");
    let again = tempfile::tempdir().unwrap();
    let mut stores = open(again.path(), &Steps::default()).unwrap();
    apply(
        &mut stores.machine,
        commands(0..crate::raft::DIGEST_EVERY_ENTRIES + 1),
    )
    .await
    .unwrap();
    assert_eq!(stores.digests.all(), live[..2], "batching does not matter");
}
