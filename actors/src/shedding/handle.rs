//! The cursors of the process and of all buckets, for the request path, the status and the metrics.

use std::sync::Arc;
use std::time::Instant;

use prometheus::Registry;
use tidegate_config::Config;

use crate::shedding::metrics::{PROCESS, SheddingMetrics, bucket_scope};
use crate::shedding::process_waits::ProcessWaits;
use crate::shedding::shedder::Shedder;

/// All cursors.
#[derive(Clone)]
pub struct SheddingHandle {
    /// The cursor of the process.
    pub process: Arc<Shedder>,
    /// The waits inside the gateway.
    pub waits: Arc<ProcessWaits>,
    /// The cursor of each bucket, with its scope in metrics.
    buckets: Vec<(String, Arc<Shedder>)>,
    metrics: SheddingMetrics,
}

impl SheddingHandle {
    /// `buckets` are the cursors of the buckets in the order of the configuration.
    pub(crate) fn new(
        config: &Config,
        pressure_threshold: f64,
        buckets: impl Iterator<Item = Arc<Shedder>>,
        registry: &Registry,
        now: Instant,
    ) -> Result<Self, prometheus::Error> {
        let scopes = config.buckets.keys().map(|name| bucket_scope(name));
        Ok(Self {
            process: Arc::new(Shedder::of_process(config, pressure_threshold, now)),
            waits: Arc::new(ProcessWaits::new(now)),
            buckets: scopes.zip(buckets).collect(),
            metrics: SheddingMetrics::register(registry)?,
        })
    }

    /// Updates the metrics; called before a scrape is answered.
    pub(crate) fn observe(&self, now: Instant) {
        self.metrics.observe(PROCESS, &self.process, now);
        for (scope, shedder) in &self.buckets {
            self.metrics.observe(scope, shedder, now);
        }
        self.metrics.observe_waits(&self.waits, now);
    }
}
