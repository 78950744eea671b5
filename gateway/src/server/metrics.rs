//! What the listeners count. Handles of each operation are looked up once, so that a request hashes no
//! labels. The data path's own figures are in [`crate::metrics`].

use crate::s3::route::{OperationName, ROUTES};
use http::StatusCode;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};
use std::sync::OnceLock;
use std::time::Duration;

/// Upper bounds of the buckets of request durations, in seconds.
const SECONDS: [f64; 16] = [
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0,
];
/// Label of requests whose operation could not be told.
const UNKNOWN: &str = "Unknown";
/// Statuses that have a handle of their own; others are looked up.
const STATUSES: [u16; 16] = [
    200, 204, 206, 304, 400, 403, 404, 405, 409, 411, 412, 416, 500, 501, 503, 507,
];

/// Figures of one gateway's listeners.
#[derive(Debug)]
pub struct ServerMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    operations: Vec<OnceLock<OfOperation>>,
    unknown: OnceLock<OfOperation>,
    /// Body bytes that S3's clients sent, as they came off the wire.
    pub(super) received: IntCounter,
    /// Body bytes that the admin API's clients sent.
    pub(super) admin_received: IntCounter,
    /// Body bytes sent to clients.
    pub(super) sent: IntCounter,
    /// S3 requests being answered.
    pub(super) in_flight: IntGauge,
    /// Open connections to the S3 listener.
    pub(super) s3_connections: IntGauge,
    /// Open connections to the admin listener.
    pub(super) admin_connections: IntGauge,
}

#[derive(Debug)]
struct OfOperation {
    name: &'static str,
    seconds: Histogram,
    statuses: [OnceLock<IntCounter>; STATUSES.len()],
}

impl ServerMetrics {
    /// Registers the figures.
    ///
    /// # Errors
    /// When `registry` has figures of these names already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let connections = prometheus::IntGaugeVec::new(
            Opts::new("ullage_gateway_connections", "Open connections by listener"),
            &["listener"],
        )?;
        let received = IntCounterVec::new(
            Opts::new(
                "ullage_gateway_http_received_bytes_total",
                "Bytes of request bodies received, by listener",
            ),
            &["listener"],
        )?;
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "ullage_gateway_requests_total",
                    "S3 requests answered, by operation and HTTP status",
                ),
                &["operation", "status"],
            )?,
            durations: HistogramVec::new(
                HistogramOpts::new(
                    "ullage_gateway_request_duration_seconds",
                    "Time from a request's head to its answer's head",
                )
                .buckets(SECONDS.to_vec()),
                &["operation"],
            )?,
            operations: ROUTES.iter().map(|_| OnceLock::new()).collect(),
            unknown: OnceLock::new(),
            received: received.with_label_values(&["s3"]),
            admin_received: received.with_label_values(&["admin"]),
            sent: IntCounter::new(
                "ullage_gateway_http_sent_bytes_total",
                "Bytes of answer bodies sent by the S3 listener",
            )?,
            in_flight: IntGauge::new("ullage_gateway_requests_in_flight", "S3 requests being answered")?,
            s3_connections: connections.with_label_values(&["s3"]),
            admin_connections: connections.with_label_values(&["admin"]),
        };
        registry.register(Box::new(connections))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.durations.clone()))?;
        registry.register(Box::new(received))?;
        registry.register(Box::new(metrics.sent.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }

    /// Counts a request whose answer begins now.
    pub(super) fn answered(&self, operation: Option<OperationName>, status: StatusCode, took: Duration) {
        let of = match operation.map(|name| (name, self.operations.get(name as usize))) {
            Some((name, Some(cell))) => cell.get_or_init(|| self.of(name.as_str())),
            _ => self.unknown.get_or_init(|| self.of(UNKNOWN)),
        };
        of.seconds.observe(took.as_secs_f64());
        let counter = |status: &str| self.requests.with_label_values(&[of.name, status]);
        match STATUSES.iter().position(|known| *known == status.as_u16()) {
            Some(index) => of.statuses[index].get_or_init(|| counter(status.as_str())).inc(),
            None => counter(status.as_str()).inc(),
        }
    }

    fn of(&self, name: &'static str) -> OfOperation {
        OfOperation {
            name,
            seconds: self.durations.with_label_values(&[name]),
            statuses: std::array::from_fn(|_| OnceLock::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_one_place_among_the_cached_handles() {
        let metrics = ServerMetrics::new(&Registry::new()).unwrap();
        for (index, route) in ROUTES.iter().enumerate() {
            assert_eq!(route.operation as usize, index, "{}", route.operation.as_str());
        }
        metrics.answered(
            Some(OperationName::GetObject),
            StatusCode::OK,
            Duration::from_millis(1),
        );
        metrics.answered(
            Some(OperationName::GetObject),
            StatusCode::IM_A_TEAPOT,
            Duration::ZERO,
        );
        metrics.answered(None, StatusCode::BAD_REQUEST, Duration::ZERO);
        let count = |operation, status| metrics.requests.with_label_values(&[operation, status]).get();
        assert_eq!(
            (
                count("GetObject", "200"),
                count("GetObject", "418"),
                count(UNKNOWN, "400")
            ),
            (1, 1, 1)
        );
    }
}
