//! The agent's Prometheus metrics: names and nothing that decides.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::time::Duration;

/// All metrics of one agent.
pub struct Metrics {
    /// Chunks stored here.
    pub chunks_stored: IntCounter,
    /// Chunks refused, by reason.
    pub chunks_refused: IntCounterVec,
    /// Chunks passed on to the next hop.
    pub chunks_forwarded: IntCounter,
    /// Stored bytes received.
    pub bytes_received: IntCounter,
    /// Stored bytes sent to readers.
    pub bytes_read: IntCounter,
    /// Reads, by outcome.
    pub reads: IntCounterVec,
    /// Groups made durable.
    pub fsyncs: IntCounter,
    /// Seconds from the start of a group's write until it was durable.
    pub fsync_seconds: Histogram,
    /// Records in a group.
    pub group_records: Histogram,
    /// Receipts signed.
    pub receipts_signed: IntCounter,
    /// Signatures made for them.
    pub signatures: IntCounter,
    /// Bytes of chunks being received or waiting to be written.
    pub in_flight_bytes: IntGauge,
    /// Room by device and state (`used`, `free`).
    pub room_bytes: IntGaugeVec,
    /// Copies ordered erased and not yet erased.
    pub erase_backlog: IntGauge,
    /// Copies found damaged or lost.
    pub damaged: IntCounter,
    /// Copies erased.
    pub erased: IntCounter,
    /// Pieces re-read by the scrubber.
    pub scrubbed: IntCounter,
    /// Bytes that replays skipped because no header explained them.
    pub replay_damaged_bytes: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When one of the names is taken in `registry`.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let metric = IntCounter::new(format!("ullage_agent_{name}"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counters = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(format!("ullage_agent_{name}"), help), &[label])?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(format!("ullage_agent_{name}"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| -> Result<Histogram, prometheus::Error> {
            let options = HistogramOpts::new(format!("ullage_agent_{name}"), help).buckets(buckets);
            let metric = Histogram::with_opts(options)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let room_bytes = IntGaugeVec::new(
            Opts::new(
                "ullage_agent_room_bytes",
                "Room by device and state (used, free).",
            ),
            &["device", "state"],
        )?;
        registry.register(Box::new(room_bytes.clone()))?;
        Ok(Self {
            chunks_stored: counter("chunks_stored_total", "Chunks stored here.")?,
            chunks_refused: counters("chunks_refused_total", "Chunks refused, by reason.", "reason")?,
            chunks_forwarded: counter("chunks_forwarded_total", "Chunks passed on to the next hop.")?,
            bytes_received: counter("received_bytes_total", "Stored bytes received.")?,
            bytes_read: counter("read_bytes_total", "Stored bytes sent to readers.")?,
            reads: counters("reads_total", "Reads, by outcome.", "outcome")?,
            fsyncs: counter("fsyncs_total", "Groups of records made durable.")?,
            fsync_seconds: histogram(
                "fsync_seconds",
                "Seconds from the start of a group's write until it was durable.",
                prometheus::exponential_buckets(0.000_05, 2.0, 16)?,
            )?,
            group_records: histogram(
                "group_records",
                "Records in one durable group.",
                prometheus::exponential_buckets(1.0, 2.0, 11)?,
            )?,
            receipts_signed: counter("receipts_signed_total", "Receipts signed.")?,
            signatures: counter("signatures_total", "Signatures made over lists of receipts.")?,
            in_flight_bytes: gauge("in_flight_bytes", "Bytes of chunks being received or written.")?,
            room_bytes,
            erase_backlog: gauge(
                "erase_backlog_copies",
                "Copies ordered erased and not yet erased.",
            )?,
            damaged: counter("damaged_copies_total", "Copies found damaged or lost.")?,
            erased: counter("erased_copies_total", "Copies erased.")?,
            scrubbed: counter("scrubbed_pieces_total", "Pieces re-read and verified.")?,
            replay_damaged_bytes: counter(
                "replay_damaged_bytes_total",
                "Bytes skipped at start because no record explained them.",
            )?,
        })
    }

    /// One group became durable.
    pub(crate) fn group_written(&self, records: usize, took: Duration) {
        self.fsyncs.inc();
        self.fsync_seconds.observe(took.as_secs_f64());
        self.group_records.observe(records as f64);
    }
}
