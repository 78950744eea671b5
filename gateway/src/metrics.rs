//! Counters and gauges of the gateway's data path. Requests of clients are counted by the server.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The data path's metrics, `ullage_gateway_…`.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Chunks all of whose copies were stored.
    pub chunks_stored: IntCounter,
    /// Chunks given up.
    pub chunks_failed: IntCounter,
    /// Copies sent again to another vendor, by why the first try failed.
    pub copies_resent: IntCounterVec,
    /// Receipts that did not verify.
    pub receipts_refused: IntCounter,
    /// Stored bytes sent to vendors, each copy counted.
    pub sent_bytes: IntCounter,
    /// Plaintext bytes of bodies that were stored, by where: inline or vendors.
    pub stored_bytes: IntCounterVec,
    /// Plaintext bytes read and verified.
    pub read_bytes: IntCounter,
    /// Read requests to vendors, by outcome.
    pub reads: IntCounterVec,
    /// Reads tried at a second copy because the first was slow.
    pub hedges: IntCounter,
    /// Provisional FATs asked for, by outcome.
    pub leases: IntCounterVec,
    /// Open provisional FATs of this gateway.
    pub leases_open: IntGauge,
    /// Room in them that is not used yet, in bytes.
    pub lease_unused_bytes: IntGauge,
    /// Memory reserved, by what for.
    pub memory_bytes: IntGaugeVec,
    /// Score of the path to each vendor.
    pub path_score: IntGaugeVec,
    /// Probes of paths, by outcome.
    pub probes: IntCounterVec,
    /// Links between vendors that failed, by the vendors on both ends.
    pub links_failed: IntCounterVec,
    /// Stored bytes that left this gateway for vendors: with a chain of hops each byte once.
    pub uplink_bytes: IntCounter,
    /// Sessions opened.
    pub sessions: IntCounter,
    /// Outcomes that had to be asked for.
    pub outcomes_resolved: IntCounter,
    /// Building blobs given up.
    pub blobs_abandoned: IntCounter,
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntGaugeVec, prometheus::Error> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

/// Only pairs of vendors between which something failed appear.
fn links(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let links = IntCounterVec::new(
        Opts::new(
            "ullage_gateway_links_failed_total",
            "Copies that did not come through from one vendor to the next, by the vendors on both ends.",
        ),
        &["from", "to"],
    )?;
    registry.register(Box::new(links.clone()))?;
    Ok(links)
}

impl Metrics {
    /// Registers all metrics of the data path.
    ///
    /// # Errors
    /// When one of the names is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            chunks_stored: counter(
                registry,
                "ullage_gateway_chunks_stored_total",
                "Chunks stored with all copies.",
            )?,
            chunks_failed: counter(registry, "ullage_gateway_chunks_failed_total", "Chunks given up.")?,
            copies_resent: counters(
                registry,
                "ullage_gateway_copies_resent_total",
                "Copies sent again to another vendor, by why the try before failed.",
                "reason",
            )?,
            receipts_refused: counter(
                registry,
                "ullage_gateway_receipts_refused_total",
                "Receipts that did not verify or did not fit what was sent.",
            )?,
            sent_bytes: counter(
                registry,
                "ullage_gateway_sent_bytes_total",
                "Stored bytes of copies that vendors receipted.",
            )?,
            stored_bytes: counters(
                registry,
                "ullage_gateway_stored_bytes_total",
                "Plaintext bytes of finalized bodies, by where they are.",
                "place",
            )?,
            read_bytes: counter(
                registry,
                "ullage_gateway_read_bytes_total",
                "Plaintext bytes read and verified.",
            )?,
            reads: counters(
                registry,
                "ullage_gateway_reads_total",
                "Reads of copies, by outcome.",
                "outcome",
            )?,
            hedges: counter(
                registry,
                "ullage_gateway_read_hedges_total",
                "Reads tried at a second copy because the first was slow.",
            )?,
            leases: counters(
                registry,
                "ullage_gateway_lease_requests_total",
                "Provisional FATs asked for, by outcome.",
                "outcome",
            )?,
            leases_open: gauge(
                registry,
                "ullage_gateway_leases_open",
                "Open provisional FATs of this gateway.",
            )?,
            lease_unused_bytes: gauge(
                registry,
                "ullage_gateway_lease_unused_bytes",
                "Room in provisional FATs that is not used yet.",
            )?,
            memory_bytes: gauges(
                registry,
                "ullage_gateway_memory_bytes",
                "Memory reserved for bodies.",
                "way",
            )?,
            path_score: gauges(
                registry,
                "ullage_gateway_path_score",
                "Score of the path to a vendor.",
                "vendor",
            )?,
            probes: counters(
                registry,
                "ullage_gateway_probes_total",
                "Probes of paths to vendors, by outcome.",
                "outcome",
            )?,
            links_failed: links(registry)?,
            uplink_bytes: counter(
                registry,
                "ullage_gateway_uplink_bytes_total",
                "Stored bytes that left this gateway for vendors.",
            )?,
            sessions: counter(registry, "ullage_gateway_sessions_total", "Sessions opened.")?,
            outcomes_resolved: counter(
                registry,
                "ullage_gateway_outcomes_resolved_total",
                "Unknown outcomes of commands that were asked for.",
            )?,
            blobs_abandoned: counter(
                registry,
                "ullage_gateway_blobs_abandoned_total",
                "Building blobs given up.",
            )?,
        })
    }
}
