//! The monitor's metrics (O3): what is used, the level, and what was refused for it.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::monitor::level::Level;
use crate::monitor::state::{Reading, Readings};

/// Set at each sample, but for the requests in flight, which are counted when somebody scrapes.
#[derive(Debug, Clone)]
pub(crate) struct MonitorMetrics {
    descriptors: IntGauge,
    memory: IntGauge,
    in_flight: IntGauge,
    level: IntGauge,
    pub(super) full: IntCounter,
    pub(super) shed: IntCounter,
    pub(super) client_full: IntCounter,
    pub(super) forms_full: IntCounter,
}

impl MonitorMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let this = Self {
            descriptors: IntGauge::new("file_descriptors_used", "descriptors the process has open")?,
            memory: IntGauge::new("memory_allocated_bytes", "resident memory of the process")?,
            in_flight: IntGauge::new("requests_in_flight", "requests that hold a slot")?,
            level: IntGauge::new("degradation_level", "0 normal, 1 warning, 2 critical, 3 exhausted")?,
            full: IntCounter::new(
                "concurrency_limit_rejections_total",
                "requests refused because all slots were taken",
            )?,
            shed: IntCounter::new("load_shed_total", "requests refused because the level was exhausted")?,
            client_full: IntCounter::new(
                "client_concurrency_rejections_total",
                "requests refused because their client had as many in flight as one client may",
            )?,
            forms_full: IntCounter::new(
                "form_rejections_total",
                "POST forms refused because as many were being read as may be",
            )?,
        };
        for gauge in [&this.descriptors, &this.memory, &this.in_flight, &this.level] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for counter in [&this.full, &this.shed, &this.client_full, &this.forms_full] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(this)
    }

    pub(super) fn sampled(&self, readings: &Readings, level: Level) {
        for (gauge, reading) in [(&self.memory, readings.memory), (&self.descriptors, readings.descriptors)] {
            if let Reading::Known { used, .. } = reading {
                gauge.set(i64::try_from(used).unwrap_or(i64::MAX));
            }
        }
        self.level.set(i64::from(level.number()));
    }

    pub(super) fn in_flight(&self, requests: usize) {
        self.in_flight.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }
}
