//! Metrics of several vendors in one process: each agent has a registry of its own whose series bear its
//! name, and all of them appear on the one `/metrics` page.

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use std::collections::HashMap;

/// One vendor's registry as a collector of the process's registry.
pub struct VendorMetrics {
    of_vendor: Registry,
    desc: Desc,
}

impl VendorMetrics {
    /// Makes a registry whose series bear `vendor_name`, shown by `registry`.
    pub fn register(registry: &Registry, name: &str) -> prometheus::Result<Registry> {
        let labels = HashMap::from([("vendor_name".to_owned(), name.to_owned())]);
        let of_vendor = Registry::new_custom(None, Some(labels.clone()))?;
        let help = "All metrics of one vendor agent.".to_owned();
        let desc = Desc::new("ullage_agent".to_owned(), help, Vec::new(), labels)?;
        registry.register(Box::new(Self {
            of_vendor: of_vendor.clone(),
            desc,
        }))?;
        Ok(of_vendor)
    }
}

impl Collector for VendorMetrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.of_vendor.gather()
    }
}

#[cfg(test)]
mod tests {
    use super::VendorMetrics;
    use prometheus::{IntCounter, Registry};

    #[test]
    fn vendors_with_the_same_metrics_share_one_page() -> prometheus::Result<()> {
        let registry = Registry::new();
        for name in ["v1", "v2"] {
            let counter = IntCounter::new("ullage_agent_chunks_total", "Chunks.")?;
            VendorMetrics::register(&registry, name)?.register(Box::new(counter))?;
        }
        let page = prometheus::TextEncoder::new().encode_to_string(&registry.gather())?;
        assert!(
            page.contains("ullage_agent_chunks_total{vendor_name=\"v1\"} 0"),
            "{page}"
        );
        assert!(
            page.contains("ullage_agent_chunks_total{vendor_name=\"v2\"} 0"),
            "{page}"
        );
        assert_eq!(page.matches("# TYPE ullage_agent_chunks_total").count(), 1);
        Ok(())
    }
}
