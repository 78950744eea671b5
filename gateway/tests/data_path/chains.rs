//! Chunks that go from vendor to vendor: how often the gateway sends them, hops that cannot be trusted, hops that
//! stand still; and when paths are probed.

use crate::CHUNK;
use crate::agents::Fault;
use crate::harness::{Harness, Setup};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use ullage_gateway::limits::{PATIENCE, PROBE_EVERY};
use ullage_model::command::{Command, Conditions};
use ullage_model::ids::{ChunkId, VendorId};

async fn three_vendors() -> Harness {
    Harness::new(Setup {
        vendors: 3,
        ..Setup::default()
    })
    .await
}

async fn put_triple(harness: &Harness, key: &str, bytes: u64) {
    let body = harness.body(bytes);
    let put = harness.put_as(key, &body, "TRIPLE", Conditions::default()).await;
    put.unwrap_or_else(|error| panic!("{key}: {error}"));
    assert_eq!(harness.get(key).await.unwrap().unwrap(), body, "{key}");
}

fn links_failed(harness: &Harness, from: VendorId) -> u64 {
    let others = harness.agents.vendors().into_iter();
    let count = |to: VendorId| {
        let link = [from.0.to_string(), to.0.to_string()];
        harness
            .metrics
            .links_failed
            .with_label_values(&[&link[0], &link[1]])
            .get()
    };
    others.map(count).sum()
}

#[tokio::test(start_paused = true)]
async fn the_gateway_sends_each_byte_once_and_a_hop_learns_only_of_those_behind_it() {
    let harness = three_vendors().await;
    let bytes = 12 * CHUNK;
    put_triple(&harness, "key", bytes).await;
    let sent = harness.metrics.uplink_bytes.get();
    assert!(sent <= bytes + bytes / 10, "{sent} bytes were sent for {bytes}");
    assert!(
        harness.metrics.sent_bytes.get() >= 3 * bytes,
        "three copies were stored"
    );
    let mut passed: BTreeMap<ChunkId, Vec<VendorId>> = BTreeMap::new();
    for (vendor, chunk, rest) in harness.agents.sent() {
        let passed = passed.entry(chunk).or_default();
        passed.push(vendor);
        assert_eq!(passed.len() + rest.len(), 3, "one chain");
        assert!(
            !rest.iter().any(|hop| passed.contains(hop)),
            "{passed:?}, {rest:?}"
        );
    }
    assert_eq!(passed.len(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_alters_what_it_passes_on_is_named_and_the_copy_sent_again_directly() {
    for fault in [
        Fault::AltersBytes,
        Fault::AltersBytesAndDigest,
        Fault::AltersHeader,
        Fault::AltersReports,
        Fault::BrokenLink,
    ] {
        let harness = three_vendors().await;
        let liar = VendorId(2);
        harness.agents.set_faulty(liar, fault);
        // Until the liar was a hop with others behind it.
        for round in 0..20 {
            put_triple(&harness, &format!("key-{round}"), CHUNK).await;
            if links_failed(&harness, liar) > 0 {
                break;
            }
        }
        assert!(links_failed(&harness, liar) > 0, "{fault:?}: the link is named");
        for sound in [VendorId(1), VendorId(3)] {
            assert_eq!(links_failed(&harness, sound), 0, "{fault:?}: {sound} was blamed");
            let paths = harness.store.paths();
            let path = paths.iter().find(|path| path.vendor == sound).unwrap();
            assert!(!path.cooling, "{fault:?}: {path:?}");
        }
        // From then on each gets its chunks from the gateway.
        let before = harness.metrics.uplink_bytes.get();
        put_triple(&harness, "direct", CHUNK).await;
        assert!(
            harness.metrics.uplink_bytes.get() - before >= 3 * CHUNK,
            "{fault:?}"
        );
        harness.agents.set_write_faults(0, &[]);
        harness.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_stands_still_in_the_middle_of_an_upload_is_left_within_seconds() {
    let harness = Harness::new(Setup::default()).await;
    put_triple(&harness, "warm", 20 * CHUNK).await;
    for vendor in harness.agents.vendors() {
        let mut body = harness.upload("key", &harness.body(20 * CHUNK), Conditions::default());
        body.pause = Duration::from_millis(5);
        let request = ullage_gateway::put::plan::PutRequest {
            class: "TRIPLE".to_owned(),
            bytes: None,
            request_id: 8,
        };
        let began = Instant::now();
        let stop = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            harness.agents.set_stopped(vendor, true);
        };
        let (stored, ()) = tokio::join!(harness.store.put(&request, &mut body), stop);
        stored.unwrap_or_else(|error| panic!("{vendor}: {error}"));
        let took = began.elapsed();
        // As its luck has it, up to three chunks in a row meet it; the upload itself takes less than a second.
        let most = 3 * PATIENCE.0 + Duration::from_secs(1);
        assert!(took < most, "{vendor}: {took:?}");
        harness.agents.set_stopped(vendor, false);
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    harness.settle().await;
}

#[tokio::test(start_paused = true)]
async fn reads_leave_a_vendor_that_stands_still() {
    let harness = Harness::new(Setup::default()).await;
    let body = harness.body(10 * CHUNK);
    harness.put("key", &body).await.unwrap();
    harness.agents.set_stopped(VendorId(1), true);
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(harness.get("key").await.unwrap().unwrap(), body);
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn paths_are_probed_at_times_of_their_own_and_not_when_their_vendors_are_gone() {
    let harness = Harness::new(Setup::default()).await;
    tokio::time::sleep(20 * PROBE_EVERY).await;
    let mut starts = Vec::new();
    for vendor in harness.agents.vendors() {
        let probes = harness.agents.probes(vendor);
        assert!(
            (14..=40).contains(&probes.len()),
            "{vendor}: {} probes",
            probes.len()
        );
        for pair in probes.windows(2) {
            let between = pair[1] - pair[0];
            assert!(
                between >= PROBE_EVERY / 2 && between <= 2 * PROBE_EVERY,
                "{between:?}"
            );
        }
        starts.push(probes[0]);
    }
    starts.dedup();
    assert_eq!(starts.len(), 4, "they do not all begin at once");
    let paths = harness.store.paths();
    assert_eq!(paths[2].hops, Some(3));
    assert!(paths[3].round_trip_ms.unwrap() > paths[0].round_trip_ms.unwrap());

    harness.agents.set_down(VendorId(2), true);
    harness
        .metad
        .command(&Command::RevokeVendor { vendor: VendorId(4) });
    tokio::time::sleep(2 * PROBE_EVERY).await;
    let probes = harness.agents.probes(VendorId(4)).len();
    tokio::time::sleep(10 * PROBE_EVERY).await;
    assert_eq!(harness.agents.probes(VendorId(4)).len(), probes, "it is gone");
    let paths = harness.store.paths();
    assert!(
        paths[1].loss > 0.5 && paths[1].discarded.is_some(),
        "{:?}",
        paths[1]
    );
}
