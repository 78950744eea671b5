//! A small state machine and a group of one around it, shared by tests and benchmarks.

#![allow(dead_code, reason = "each user takes a part")]

use bytes::Bytes;
use prometheus::Registry;
use std::path::Path;
use std::sync::Arc;
use ullage_metad::Error;
use ullage_metad::propose::{ProposalLimits, Proposer};
use ullage_metad::raft::{Applied, Group, GroupConfig, GroupParts, Machine, Metrics};
use ullage_metad::store::{Budget, DataDirectory, Steps};
use ullage_model::store::{Change, Column, Read, StoreError};

/// A command is a row: two bytes of key length, key, value. The reply is the row it replaced.
#[derive(Debug)]
pub struct Puts;

impl Machine for Puts {
    fn apply(&self, state: &dyn Read, _index: u64, command: &[u8]) -> Result<Applied, StoreError> {
        let malformed = || StoreError::Inconsistent("a malformed row".to_owned());
        let (length, rest) = command.split_first_chunk::<2>().ok_or_else(malformed)?;
        let (key, value) = rest
            .split_at_checked(usize::from(u16::from_be_bytes(*length)))
            .ok_or_else(malformed)?;
        let before = state.get(Column::Versions, key)?;
        let change = |column, value| Change {
            column,
            key: Bytes::copy_from_slice(key),
            value: Some(Bytes::copy_from_slice(value)),
        };
        // About what a small PUT writes: a version, a row for LIST, a counter.
        let mut changes = vec![
            change(Column::Versions, value),
            change(Column::Live, &value[..value.len().min(64)]),
        ];
        let count = state
            .get(Column::System, b"count")?
            .and_then(|count| count.first_chunk().copied());
        let count = count.map_or(0, u64::from_be_bytes) + 1;
        changes.push(Change {
            column: Column::System,
            key: Bytes::from_static(b"count"),
            value: Some(Bytes::copy_from_slice(&count.to_be_bytes())),
        });
        Ok(Applied {
            changes,
            reply: before.unwrap_or_default(),
        })
    }

    fn understands(&self, command: &[u8]) -> bool {
        command.len() >= 2
    }
}

/// The command that puts `value` at `key`.
pub fn put(key: &[u8], value: &[u8]) -> Bytes {
    let length = u16::try_from(key.len()).expect("a short key");
    Bytes::from([&length.to_be_bytes(), key, value].concat())
}

/// Starts the group of one in `home`.
pub async fn start(home: &Path, config: &GroupConfig, steps: Steps) -> Result<Group, Error> {
    let mut seed = u8::try_from(home.as_os_str().len() % 251).unwrap_or_default();
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            seed = seed.wrapping_mul(17).wrapping_add(29);
            *byte = seed;
        }
    };
    let data = DataDirectory::open(home, None, 0, &mut random)?;
    let parts = GroupParts {
        data,
        budget: Budget::new(32 << 20, 64 << 20),
        machine: Arc::new(Puts),
        metrics: Metrics::new(&Registry::new())?,
        steps,
        peers: None,
        seed: None,
    };
    Group::start(config, parts).await
}

/// Starts the group of one in `home` with a proposer.
pub async fn start_proposing(home: &Path) -> Result<(Arc<Group>, Proposer), Error> {
    let group = Arc::new(start(home, &GroupConfig::default(), Steps::default()).await?);
    let proposer = Proposer::new(Arc::clone(&group), ProposalLimits::default());
    Ok((group, proposer))
}
