//! The gateway's data path against a metadata service made of the real `decide` and vendors in memory that fail in
//! every way a vendor can. Time is paused: waits cost nothing.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod agents;
mod chains;
mod clients;
mod commands;
mod harness;
#[allow(dead_code)]
mod metad;
mod outcomes;
mod random;
mod traffic;
mod vendors;

use agents::Agents;
use harness::{Harness, Setup, parts};
use metad::Metad;
use std::sync::Arc;
use ullage_gateway::error::Error;
use ullage_gateway::kek::Kek;
use ullage_gateway::store::Store;
use ullage_model::limits::{CHUNKS_PER_SLICE, FRAME_BYTES};

const CHUNK: u64 = 32 * FRAME_BYTES;

#[tokio::test(start_paused = true)]
async fn bodies_of_every_size_come_back_whole_and_in_ranges() {
    let harness = Harness::new(Setup::default()).await;
    let slices = CHUNKS_PER_SLICE as u64 * CHUNK + 5;
    for bytes in [
        0,
        1,
        4096,
        4097,
        FRAME_BYTES,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        3 * CHUNK + 77,
        slices,
    ] {
        let body = harness.body(bytes);
        let stored = harness.put("key", &body).await.unwrap();
        assert_eq!(stored.bytes, bytes);
        assert_eq!(harness.get("key").await.unwrap().unwrap(), body, "{bytes} bytes");
        for (first, length) in [
            (0, 1),
            (bytes / 2, 100_000),
            (bytes.saturating_sub(3), 10),
            (bytes, 5),
        ] {
            let part = harness.get_range("key", first, length).await.unwrap().unwrap();
            let end = first.saturating_add(length).min(bytes);
            assert_eq!(
                part,
                body.slice(first as usize..end as usize),
                "{first}+{length} of {bytes}"
            );
        }
    }
    assert_eq!(harness.get("no such key").await.unwrap(), None);
    assert!(harness.delete("key").await.unwrap());
    assert_eq!(harness.get("key").await.unwrap(), None);
    harness.settle().await;
    assert_eq!(harness.copies_stored(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_kek_is_told_at_the_start() {
    let setup = Setup::default();
    let agents = Agents::new(2, 1 << 30, 1);
    let metad = Metad::new(Arc::clone(&agents), 1, 0);
    Store::start(parts(&metad, &agents, &setup)).await.unwrap();
    let mut other = parts(&metad, &agents, &setup);
    other.kek = Kek::new(&[8; 32]);
    let wrong = Kek::new(&[8; 32]).id();
    assert_eq!(Store::start(other).await.unwrap_err(), Error::WrongKek(wrong));
}
