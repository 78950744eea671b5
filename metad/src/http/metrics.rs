//! What is counted of calls.

use crate::error::Error;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use ullage_model::wire::metad::MetadError;

/// Counters of the calls of one node.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    calls: IntCounterVec,
    pub(super) in_flight: IntGauge,
    pub(super) in_flight_bytes: IntGauge,
    pub(super) not_admitted: IntCounter,
    pub(super) forwarded: IntCounter,
}

impl CallMetrics {
    /// Counters in `registry`.
    ///
    /// # Errors
    /// When they are there already.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let made = || -> prometheus::Result<Self> {
            let metrics = Self {
                calls: IntCounterVec::new(
                    Opts::new(
                        "ullage_metad_calls_total",
                        "Calls answered by this node, by route and answer.",
                    ),
                    &["route", "answer"],
                )?,
                in_flight: IntGauge::new("ullage_metad_calls_in_flight", "Calls being answered.")?,
                in_flight_bytes: IntGauge::new(
                    "ullage_metad_call_bytes_in_flight",
                    "Bytes of the requests of calls being answered.",
                )?,
                not_admitted: IntCounter::new(
                    "ullage_metad_calls_not_admitted_total",
                    "Calls turned away because too much was in flight, or too many vendors enrolled at once.",
                )?,
                forwarded: IntCounter::new(
                    "ullage_metad_calls_forwarded_total",
                    "Calls passed on to the leader by this node.",
                )?,
            };
            registry.register(Box::new(metrics.calls.clone()))?;
            registry.register(Box::new(metrics.in_flight.clone()))?;
            registry.register(Box::new(metrics.in_flight_bytes.clone()))?;
            registry.register(Box::new(metrics.not_admitted.clone()))?;
            registry.register(Box::new(metrics.forwarded.clone()))?;
            Ok(metrics)
        };
        made().map_err(|error| Error::Setting {
            key: "metrics",
            reason: error.to_string(),
        })
    }

    /// Counts an answer.
    pub(super) fn answered<T>(&self, path: &str, answer: &Result<T, MetadError>) {
        let label = match answer {
            Ok(_) => "done",
            Err(MetadError::Refused(_)) => "refused",
            Err(MetadError::NoRoom(_)) => "no_room",
            Err(MetadError::Overloaded) => "overloaded",
            Err(MetadError::Unavailable(_)) => "unavailable",
            Err(MetadError::NotLeader { .. }) => "not_leader",
            Err(MetadError::Unknown(_)) => "unknown",
        };
        self.calls.with_label_values(&[path, label]).inc();
    }
}
