//! Random traffic under faults, against a map.

use super::CHUNK;
use super::agents::WRITE_FAULTS;
use super::harness::{Harness, Setup};
use super::metad::MetadFaults;
use bytes::Bytes;
use std::collections::BTreeMap;
use ullage_gateway::error::Error;
use ullage_model::limits::FRAME_BYTES;
use ullage_model::wire::metad::ListRequest;

/// Random puts, overwrites, deletes, ranges, listings under faults against a map.
async fn random_traffic(seed: u64) {
    let harness = Harness::new(Setup {
        seed,
        vendors: 5,
        ..Setup::default()
    })
    .await;
    let mut reference: BTreeMap<String, Bytes> = BTreeMap::new();
    harness.agents.set_write_faults(8, &WRITE_FAULTS);
    harness.agents.set_read_faults(8);
    harness.metad.set_faults(MetadFaults {
        lost_before: 5,
        lost_after: 5,
        unavailable: 5,
        ..MetadFaults::default()
    });
    for _ in 0..60 {
        let key = format!("key-{}", harness.random.below(8));
        match harness.random.below(10) {
            0..=4 => {
                let sizes = [0, 10, 4096, 5000, FRAME_BYTES, CHUNK, 3 * CHUNK + 5, 9 * CHUNK];
                let bytes = sizes[harness.random.below(sizes.len() as u64) as usize];
                let body = harness.body(bytes);
                match harness.put(&key, &body).await {
                    Ok(_) => drop(reference.insert(key, body)),
                    Err(Error::NotStored(_)) => {}
                    Err(error) => panic!("seed {seed}: put {key}: {error:?}"),
                }
            }
            5 => {
                let existed = harness.delete(&key).await.unwrap();
                assert_eq!(
                    existed,
                    reference.remove(&key).is_some(),
                    "seed {seed}: delete {key}"
                );
            }
            6..=8 => {
                let expected = reference.get(&key);
                let length = expected.map_or(0, |body| body.len() as u64);
                let first = harness.random.below(length + 1);
                let bytes = harness.random.below(2 * CHUNK);
                let got = harness.get_range(&key, first, bytes).await;
                let got = got.unwrap_or_else(|error| panic!("seed {seed}: get {key}: {error:?}"));
                let end = first.saturating_add(bytes).min(length);
                let expected = expected.map(|body| body.slice(first as usize..end as usize));
                assert_eq!(got, expected, "seed {seed}: {first}+{bytes} of {key}");
            }
            _ => {
                let request = ListRequest {
                    bucket: harness.bucket.bucket,
                    prefix: String::new(),
                    delimiter: String::new(),
                    after: None,
                    limit: 1000,
                };
                let page = harness.store.list(&harness.bucket, request).await.unwrap();
                let listed: Vec<(String, u64)> = page
                    .objects
                    .into_iter()
                    .map(|(key, row)| (key, row.bytes))
                    .collect();
                let expected: Vec<(String, u64)> = reference
                    .iter()
                    .map(|(key, body)| (key.clone(), body.len() as u64))
                    .collect();
                assert_eq!(listed, expected, "seed {seed}");
            }
        }
    }
    harness.agents.set_write_faults(0, &[]);
    harness.agents.set_read_faults(0);
    harness.metad.set_faults(MetadFaults::default());
    for (key, body) in &reference {
        assert_eq!(
            harness.get(key).await.unwrap().as_ref(),
            Some(body),
            "seed {seed}: {key}"
        );
    }
    harness.settle().await;
}

#[tokio::test(start_paused = true)]
async fn random_traffic_under_faults_is_what_a_map_would_answer() {
    let seeds = match std::env::var("ULLAGE_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("a seed is a number")],
        Err(_) => (1..=12).collect(),
    };
    for seed in seeds {
        println!("ULLAGE_TEST_SEED={seed}");
        random_traffic(seed).await;
    }
}
