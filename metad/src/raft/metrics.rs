//! What the log, the state machine and the proposals count. Names start with `ullage_metad_`.

use crate::error::Error;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry, core::Collector};

/// The counters of one replication group.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Entries appended to the log.
    pub entries: IntCounter,
    /// Bytes of each appended entry, its header included.
    pub entry_bytes: Histogram,
    /// Syncs of the log's write-ahead file for entries.
    pub syncs: IntCounter,
    /// Seconds each took.
    pub sync_seconds: Histogram,
    /// Appends completed by one sync.
    pub sync_appends: Histogram,
    /// Entries of one append.
    pub append_entries: Histogram,
    /// Entries of one apply batch.
    pub apply_entries: Histogram,
    /// Seconds that one apply batch took.
    pub apply_seconds: Histogram,
    /// Index of the last applied entry.
    pub applied_index: IntGauge,
    /// Bytes of log that are kept.
    pub log_bytes: IntGauge,
    /// Snapshots built.
    pub snapshots: IntCounter,
    /// Seconds that building each took.
    pub snapshot_seconds: Histogram,
    /// Seconds from the offer of a snapshot by a leader until it was installed.
    pub snapshot_received_seconds: Histogram,
    /// Proposals under way.
    pub proposals_in_flight: IntGauge,
    /// Their bytes.
    pub proposal_bytes_in_flight: IntGauge,
    /// Proposals refused because too many were under way.
    pub proposals_refused: IntCounter,
    /// Proposals whose outcome stayed unknown to the caller.
    pub proposals_unknown: IntCounter,
    /// Rounds that confirmed leadership for waiting reads.
    pub read_rounds: IntCounter,
    /// Bytes of snapshots received.
    pub snapshot_bytes_received: IntCounter,
    /// Bytes of snapshots that were there already, from an interrupted transfer.
    pub snapshot_bytes_resumed: IntCounter,
    /// Most requests to append that were under way to one member at a time.
    pub appends_in_flight_most: IntGauge,
}

impl Metrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// When `registry` has counters of these names already.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let counts = doubling(1.0, 14);
        let bytes = doubling(64.0, 16);
        let seconds = doubling(0.000_05, 18);
        Ok(Self {
            entries: counter(
                registry,
                "raft_entries_total",
                "Entries appended to the Raft log.",
            )?,
            entry_bytes: histogram(registry, "raft_entry_bytes", "Bytes of a Raft entry.", &bytes)?,
            syncs: counter(registry, "raft_syncs_total", "Syncs of the Raft log for entries.")?,
            sync_seconds: histogram(registry, "raft_sync_seconds", "Duration of a log sync.", &seconds)?,
            sync_appends: histogram(
                registry,
                "raft_sync_appends",
                "Appends made durable by a sync.",
                &counts,
            )?,
            append_entries: histogram(registry, "raft_append_entries", "Entries of one append.", &counts)?,
            apply_entries: histogram(
                registry,
                "raft_apply_entries",
                "Entries of one apply batch.",
                &counts,
            )?,
            apply_seconds: histogram(
                registry,
                "raft_apply_seconds",
                "Duration of an apply batch.",
                &seconds,
            )?,
            applied_index: gauge(registry, "raft_applied_index", "Index of the last applied entry.")?,
            log_bytes: gauge(registry, "raft_log_bytes", "Bytes of Raft log that are kept.")?,
            snapshots: counter(registry, "raft_snapshots_total", "Snapshots built.")?,
            snapshot_seconds: histogram(
                registry,
                "raft_snapshot_seconds",
                "Time to build a snapshot.",
                &seconds,
            )?,
            snapshot_received_seconds: histogram(
                registry,
                "raft_snapshot_received_seconds",
                "Time to receive and install a snapshot.",
                &seconds,
            )?,
            proposals_in_flight: gauge(registry, "proposals_in_flight", "Proposals under way.")?,
            proposal_bytes_in_flight: gauge(
                registry,
                "proposal_bytes_in_flight",
                "Bytes of proposals under way.",
            )?,
            proposals_refused: counter(
                registry,
                "proposals_refused_total",
                "Proposals refused by overload.",
            )?,
            proposals_unknown: counter(
                registry,
                "proposals_unknown_total",
                "Proposals of unknown outcome.",
            )?,
            snapshot_bytes_received: counter(
                registry,
                "raft_snapshot_received_bytes_total",
                "Bytes of snapshots received.",
            )?,
            snapshot_bytes_resumed: counter(
                registry,
                "raft_snapshot_resumed_bytes_total",
                "Bytes of snapshots that an interrupted transfer had left there.",
            )?,
            appends_in_flight_most: gauge(
                registry,
                "raft_appends_in_flight_most",
                "Most requests to append under way to one member at a time.",
            )?,
            read_rounds: counter(
                registry,
                "raft_read_rounds_total",
                "Rounds that confirmed leadership.",
            )?,
        })
    }
}

fn doubling(first: f64, count: i32) -> Vec<f64> {
    (0..count).map(|step| first * 2f64.powi(step)).collect()
}

fn named(name: &str) -> String {
    format!("ullage_metad_{name}")
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> Result<C, Error> {
    let registered = made.and_then(|made| registry.register(Box::new(made.clone())).map(|()| made));
    registered.map_err(|error| Error::Setting {
        key: "metrics",
        reason: error.to_string(),
    })
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    register(registry, IntCounter::new(named(name), help))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    register(registry, IntGauge::new(named(name), help))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
    register(
        registry,
        Histogram::with_opts(HistogramOpts::new(named(name), help).buckets(buckets.to_vec())),
    )
}
