//! The session cache's metrics.

use prometheus::{IntCounter, IntGauge, Registry};

/// Entries, and lookups by result.
#[derive(Debug)]
pub(crate) struct SessionsMetrics {
    entries: IntGauge,
    pub(super) hits: IntCounter,
    pub(super) misses: IntCounter,
    pub(super) evicted: IntCounter,
}

impl SessionsMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let this = Self {
            entries: IntGauge::new("session_cache_entries", "cached sessions, signing keys and tokens")?,
            hits: IntCounter::new("session_cache_hits_total", "lookups that found an entry")?,
            misses: IntCounter::new("session_cache_misses_total", "lookups that found no entry")?,
            evicted: IntCounter::new("session_cache_evicted_total", "entries evicted at capacity")?,
        };
        registry.register(Box::new(this.entries.clone()))?;
        for counter in [&this.hits, &this.misses, &this.evicted] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(this)
    }

    pub(super) fn set_entries(&self, entries: usize) {
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
}
