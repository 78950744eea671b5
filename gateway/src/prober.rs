//! When the paths to vendors are probed: each every so often, at a time of its own, a bounded number at once, and
//! those that are gone no more. How a probe is sent is the agent client's business, what it means the path table's.

use crate::engine::Engine;
use crate::limits::{PROBE_EVERY, PROBES_IN_FLIGHT, UPKEEP_EVERY};
use crate::session::View;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use ullage_model::fat::rows::VendorState;
use ullage_model::ids::VendorId;

/// Probes for ever.
pub async fn run(engine: Arc<Engine>) {
    let mut due: BTreeMap<VendorId, Instant> = BTreeMap::new();
    let mut under_way: BTreeSet<VendorId> = BTreeSet::new();
    let mut probes = FuturesUnordered::new();
    loop {
        let view = engine.keeper.session().view();
        follow(&engine, &view, &mut due);
        let now = Instant::now();
        let ready: Vec<VendorId> = due
            .iter()
            .filter(|(vendor, at)| **at <= now && !under_way.contains(*vendor))
            .map(|(vendor, _)| *vendor)
            .take(PROBES_IN_FLIGHT.saturating_sub(probes.len()))
            .collect();
        for vendor in ready {
            due.insert(vendor, now + spread(&engine, PROBE_EVERY));
            if let Some(probe) = engine.around.agents.probe(vendor) {
                under_way.insert(vendor);
                probes.push(probe.map(move |probed| (vendor, probed)));
            }
        }
        // New vendors are looked for as often.
        let next = due.values().min().copied().unwrap_or(now + UPKEEP_EVERY);
        let look = next.clamp(now + UPKEEP_EVERY / 10, now + UPKEEP_EVERY);
        tokio::select! {
            biased;
            Some((vendor, probed)) = probes.next(), if !probes.is_empty() => {
                under_way.remove(&vendor);
                if due.contains_key(&vendor) {
                    take(&engine, vendor, probed);
                }
            }
            () = tokio::time::sleep_until(look) => {}
        }
    }
}

/// Vendors that came are probed soon, each at a time of its own; those that went, or are given up, no more.
fn follow(engine: &Engine, view: &View, due: &mut BTreeMap<VendorId, Instant>) {
    let is_gone = |state| matches!(state, VendorState::Dead | VendorState::Revoked);
    due.retain(|&vendor, _| !is_gone(view.state(vendor)));
    for (&vendor, info) in &view.vendors {
        if !is_gone(info.row.state) && !due.contains_key(&vendor) {
            due.insert(vendor, Instant::now() + spread(engine, UPKEEP_EVERY));
        }
    }
    engine
        .around
        .paths
        .keep(|vendor| view.vendors.contains_key(&vendor));
}

fn take(
    engine: &Engine,
    vendor: VendorId,
    probed: Result<crate::agent_client::Echo, ullage_model::wire::chunk::ChunkRefusal>,
) {
    let metrics = &engine.around.metrics;
    match probed {
        Ok(echo) => {
            let outcome = if echo.lost > 0 { "lost" } else { "answered" };
            metrics.probes.with_label_values(&[outcome]).inc();
            let paths = &engine.around.paths;
            paths.probed(vendor, echo.round_trip, echo.hops, echo.lost);
        }
        Err(refusal) => {
            tracing::debug!(%vendor, %refusal, "a vendor is not reached by probes");
            metrics.probes.with_label_values(&["unreached"]).inc();
            engine.around.paths.unreached(vendor);
        }
    }
}

/// Half of `around` to one and a half.
fn spread(engine: &Engine, around: Duration) -> Duration {
    let span = u64::try_from(around.as_millis()).unwrap_or(u64::MAX).max(1);
    around / 2 + Duration::from_millis(engine.around.random.number() % span)
}
