//! Tests of the stores below openraft: its own suite, crashes between any two writes, failing disks.

mod admission;
mod crash;
mod flush;
mod suite;

use super::digest::DigestPoints;
use super::log_store::LogStore;
use super::machine::{Applied, Machine};
use super::metrics::Metrics;
use super::state_machine::{RAFT_ROWS, StateMachine};
use super::types::{CommandBytes, Entry, LogId, TypeConfig, log_id};
use crate::store::{Budget, LogDatabase, States, Steps};
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use ullage_model::store::{Change, Column, Read, StoreError};

/// Appends each command's bytes to the row of its first byte, in a hot and in a cold column.
pub(super) struct Appender;

impl Machine for Appender {
    fn apply(&self, state: &dyn Read, _index: u64, command: &[u8]) -> Result<Applied, StoreError> {
        let key = Bytes::copy_from_slice(command.get(..1).unwrap_or_default());
        let mut changes = Vec::new();
        for column in [Column::System, Column::Live] {
            let before = state.get(column, &key)?.unwrap_or_default();
            let value = Some(Bytes::from([&before, command].concat()));
            changes.push(Change {
                column,
                key: key.clone(),
                value,
            });
        }
        let reply = changes[0].value.clone().unwrap_or_default();
        Ok(Applied { changes, reply })
    }

    fn understands(&self, _command: &[u8]) -> bool {
        true
    }
}

/// The stores of one directory.
pub(super) struct Stores {
    pub(super) log: LogStore,
    pub(super) machine: StateMachine,
    pub(super) states: Arc<States>,
    pub(super) digests: Arc<DigestPoints>,
}

pub(super) fn open(home: &Path, steps: &Steps) -> Result<Stores, crate::Error> {
    let budget = Budget::new(8 << 20, 16 << 20).with_recent_rows(1 << 20);
    let metrics = Metrics::new(&prometheus::Registry::new())?;
    let states = Arc::new(States::open(
        &home.join("state"),
        &budget,
        steps.clone(),
        RAFT_ROWS,
    )?);
    let log = LogDatabase::open(&home.join("raft-log"), &budget, steps.clone())?;
    let log = LogStore::new(log, metrics.clone())?;
    let digests = Arc::new(DigestPoints::default());
    let machine = StateMachine::new(
        Arc::clone(&states),
        Arc::new(Appender),
        Arc::clone(&digests),
        metrics,
    )?;
    Ok(Stores {
        log,
        machine,
        states,
        digests,
    })
}

pub(super) fn at(index: u64) -> LogId {
    log_id(1, 1, index)
}

pub(super) fn command(index: u64, text: &str) -> Entry {
    Entry::new(
        at(index),
        EntryPayload::Normal(CommandBytes(Bytes::copy_from_slice(text.as_bytes()))),
    )
}

/// Commands at `indexes`, each its index in letters and figures.
pub(super) fn commands(indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes
        .map(|index| command(index, &format!("k{index};")))
        .collect()
}

/// Appends and waits for the sync.
pub(super) async fn append(log: &mut LogStore, entries: Vec<Entry>) -> std::io::Result<()> {
    let (tell, told) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::<TypeConfig>::signal(tell)).await?;
    told.await.map_err(std::io::Error::other)?
}

pub(super) async fn apply(machine: &mut StateMachine, entries: Vec<Entry>) -> std::io::Result<()> {
    let entries = entries.into_iter().map(|entry| Ok((entry, None)));
    machine.apply(futures::stream::iter(entries)).await
}

/// What killing the process now would leave: a copy of all files (what the kernel holds survives a process).
pub(super) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), &target) {
            // RocksDB may delete an obsolete file while the tree is walked.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}
