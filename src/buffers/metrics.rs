//! Metrics of socket buffers, and of transfers that were paused or cut because memory was exhausted.

use prometheus::{IntCounter, IntGauge, Registry};

/// Metrics of the whole process.
#[derive(Debug, Clone)]
pub(crate) struct BufferMetrics {
    reserved: IntGauge,
    pub(super) paused: IntCounter,
    pub(super) cut: IntCounter,
    pub(super) spliced: IntCounter,
}

impl BufferMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reserved = IntGauge::new(
            "buffer_reserved_bytes",
            "bytes of server.buffer_budget that are reserved for socket buffers",
        )?;
        let paused =
            IntCounter::new("transfers_paused_total", "pauses of transfers because memory was exhausted")?;
        let cut = IntCounter::new("transfers_cut_total", "transfers cut off because memory was exhausted")?;
        let spliced = IntCounter::new(
            "spliced_bytes_total",
            "bytes of answers that were moved from the upstream's socket by splice(2), without a copy into the process",
        )?;
        registry.register(Box::new(spliced.clone()))?;
        registry.register(Box::new(reserved.clone()))?;
        registry.register(Box::new(paused.clone()))?;
        registry.register(Box::new(cut.clone()))?;
        Ok(Self { reserved, paused, cut, spliced })
    }

    /// Sets the gauge. Called for each scrape.
    pub(crate) fn observe_reserved(&self, bytes: u64) {
        self.reserved.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
