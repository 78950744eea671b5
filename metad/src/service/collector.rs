//! Figures that are read from the state when somebody asks for the metrics: room, vendors, leases, sessions,
//! backlogs. What is counted row by row is counted up to a bound.

use super::Metad;
use crate::error::Error;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use ullage_model::fat::query;
use ullage_model::fat::rows::{LeaseState, SessionState, VendorState};
use ullage_model::limits::{BACKLOG_COUNTED_MAX, BUCKETS_COUNTED_MAX};
use ullage_model::namespace::bucket;
use ullage_model::store::{Read, StoreError};

/// Reads a node's state on each scrape. It keeps no node alive.
struct StateCollector {
    metad: Weak<Metad>,
    gauges: Mutex<Gauges>,
    descriptions: Vec<Desc>,
}

struct Gauges {
    capacity: IntGaugeVec,
    room: IntGaugeVec,
    vendors: IntGaugeVec,
    leases: IntGaugeVec,
    sessions: IntGaugeVec,
    erase_backlog: IntGauge,
    release_backlog: IntGauge,
    inline: IntGauge,
    buckets: IntGaugeVec,
    bucket_items: IntGaugeVec,
    object_bytes: IntGaugeVec,
    disk_free: IntGauge,
    disk_low: IntGauge,
    leads: IntGauge,
    members: IntGaugeVec,
}

/// Registers the figures of `metad`.
pub(super) fn register(metad: &Arc<Metad>, registry: &Registry) -> Result<(), Error> {
    let refused = |error: prometheus::Error| Error::Setting {
        key: "metrics",
        reason: error.to_string(),
    };
    let gauges = Gauges::new().map_err(refused)?;
    let collector = StateCollector {
        metad: Arc::downgrade(metad),
        descriptions: gauges.descriptions(),
        gauges: Mutex::new(gauges),
    };
    registry.register(Box::new(collector)).map_err(refused)
}

fn many(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    IntGaugeVec::new(Opts::new(format!("ullage_metad_{name}"), help), labels)
}

fn one(name: &str, help: &str) -> prometheus::Result<IntGauge> {
    IntGauge::new(format!("ullage_metad_{name}"), help)
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Gauges {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            capacity: many(
                "capacity_bytes",
                "Bytes that a vendor's devices offer.",
                &["vendor", "device_class"],
            )?,
            room: many(
                "room_bytes",
                "Bytes of a vendor's room by what holds them.",
                &["vendor", "device_class", "state"],
            )?,
            vendors: many("vendors", "Vendors by state.", &["state"])?,
            leases: many("leases", "Provisional FATs by state.", &["state"])?,
            sessions: many("sessions", "Sessions of gateways by state.", &["state"])?,
            erase_backlog: one(
                "erase_backlog_copies",
                "Erase orders not acknowledged, counted up to 10000.",
            )?,
            release_backlog: one(
                "release_backlog_items",
                "Releases not drained, counted up to 10000.",
            )?,
            inline: one("inline_bytes", "Bytes of objects kept in the FAT itself.")?,
            buckets: many(
                "buckets",
                "Buckets by what is used of their quotas, counted up to 10000.",
                &["quota"],
            )?,
            bucket_items: many(
                "bucket_items",
                "Objects, versions of them, delete markers and open uploads of those buckets.",
                &["kind"],
            )?,
            object_bytes: many(
                "object_bytes",
                "Plaintext bytes of versions and of parts in those buckets.",
                &["of"],
            )?,
            disk_free: one(
                "disk_free_bytes",
                "Bytes free on the file system of the data directory.",
            )?,
            disk_low: one(
                "disk_low",
                "1 while writes are refused because the disk is nearly full.",
            )?,
            leads: one("leads", "1 while this node leads, as far as it knows.")?,
            members: many(
                "members",
                "Metadata nodes by role, as this node knows them.",
                &["role"],
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 15] {
        [
            &self.capacity,
            &self.room,
            &self.vendors,
            &self.leases,
            &self.sessions,
            &self.erase_backlog,
            &self.release_backlog,
            &self.inline,
            &self.buckets,
            &self.bucket_items,
            &self.object_bytes,
            &self.disk_free,
            &self.disk_low,
            &self.leads,
            &self.members,
        ]
    }

    fn descriptions(&self) -> Vec<Desc> {
        let descriptions = |gauge: &dyn Collector| gauge.desc().into_iter().cloned().collect::<Vec<_>>();
        self.all().into_iter().flat_map(descriptions).collect()
    }

    fn read(&self, metad: &Metad) -> Result<(), StoreError> {
        let state = metad.stale();
        let rows = state.snapshot();
        for gauge in [&self.capacity, &self.room] {
            gauge.reset();
        }
        self.zero();
        for (vendor, rooms) in query::vendors(&rows)? {
            let healthy = match vendor.state {
                VendorState::Healthy => "healthy",
                VendorState::Stale => "stale",
                VendorState::Dead => "dead",
                VendorState::Revoked => "revoked",
            };
            self.vendors.with_label_values(&[healthy]).inc();
            for (class, room) in rooms {
                let (name, class) = (vendor.name.as_str(), class.as_str());
                self.capacity
                    .with_label_values(&[name, class])
                    .set(number(room.capacity));
                for (state, bytes) in [
                    ("free", room.free()),
                    ("leased", room.leased),
                    ("used", room.used),
                    ("erasing", room.erasing),
                ] {
                    self.room
                        .with_label_values(&[name, class, state])
                        .set(number(bytes));
                }
            }
        }
        for (lease, _) in query::leases(&rows)? {
            let state = match lease.state {
                LeaseState::Open => "open",
                LeaseState::Closing => "closing",
            };
            self.leases.with_label_values(&[state]).inc();
        }
        for session in query::sessions(&rows)? {
            let state = match session.state {
                SessionState::Live => "live",
                SessionState::Ended { .. } => "ended",
            };
            self.sessions.with_label_values(&[state]).inc();
        }
        let counts = query::counts(&rows, BACKLOG_COUNTED_MAX)?;
        self.erase_backlog.set(number(counts.erase_orders));
        self.release_backlog.set(number(counts.releases));
        self.inline.set(number(query::inline(&rows)?.used_bytes));
        self.read_buckets(&rows)?;
        self.disk_free.set(number(metad.space().free_bytes()));
        self.disk_low.set(i64::from(metad.space().is_low()));
        self.leads.set(i64::from(metad.group.term_led().is_some()));
        for member in metad.group.members().members {
            let role = if member.voter { "voter" } else { "learner" };
            self.members.with_label_values(&[role]).inc();
        }
        Ok(())
    }

    fn read_buckets(&self, rows: &impl Read) -> Result<(), StoreError> {
        let totals = bucket::totals(rows, BUCKETS_COUNTED_MAX)?;
        for (quota, buckets) in [
            ("none", totals.without_quota),
            ("below", totals.within_quota),
            ("near", totals.near_quota),
            ("full", totals.full),
        ] {
            self.buckets.with_label_values(&[quota]).set(number(buckets));
        }
        for (kind, items) in [
            ("objects", totals.usage.objects),
            ("versions", totals.usage.versions),
            ("delete_markers", totals.usage.delete_markers),
            ("uploads", totals.usage.uploads),
        ] {
            self.bucket_items.with_label_values(&[kind]).set(number(items));
        }
        for (of, bytes) in [
            ("versions", totals.usage.bytes),
            ("parts", totals.usage.part_bytes),
        ] {
            self.object_bytes.with_label_values(&[of]).set(number(bytes));
        }
        Ok(())
    }

    /// States that nothing is in are shown as 0, not left out.
    fn zero(&self) {
        for (gauge, states) in [
            (&self.vendors, &["healthy", "stale", "dead", "revoked"][..]),
            (&self.leases, &["open", "closing"][..]),
            (&self.sessions, &["live", "ended"][..]),
            (&self.members, &["voter", "learner"][..]),
        ] {
            for state in states {
                gauge.with_label_values(&[*state]).set(0);
            }
        }
    }
}

impl Collector for StateCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    /// Nothing when the node has stopped or its state cannot be read: a figure that is not known is not shown.
    fn collect(&self) -> Vec<MetricFamily> {
        let Some(metad) = self.metad.upgrade() else {
            return Vec::new();
        };
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = gauges.read(&metad) {
            tracing::error!(%error, "cannot read the figures of the metadata service");
            return Vec::new();
        }
        gauges.all().into_iter().flat_map(Collector::collect).collect()
    }
}
