//! The cursors of the process and of all buckets, for the request path, the status and the metrics.
//!
//! Each configuration has a handle. All share the cursor of the process; the cursors of the buckets are those of its pools.

use std::sync::Arc;
use std::time::Instant;

use prometheus::Registry;
use tidegate_config::Config;

use crate::ids::IdMap;
use crate::shedding::metrics::{PROCESS, SheddingMetrics, bucket_scope};
use crate::shedding::process_waits::ProcessWaits;
use crate::shedding::shedder::Shedder;
use crate::types::BucketId;

/// All cursors.
#[derive(Clone)]
pub struct SheddingHandle {
    /// The cursor of the process.
    pub process: Arc<Shedder>,
    /// The waits inside the gateway.
    pub waits: Arc<ProcessWaits>,
    buckets: IdMap<BucketId, BucketCursor>,
    metrics: SheddingMetrics,
}

/// The cursor of a bucket.
#[derive(Debug, Clone)]
struct BucketCursor {
    /// The label in metrics.
    scope: String,
    shedder: Arc<Shedder>,
}

fn by_id<'a>(
    buckets: impl IntoIterator<Item = (&'a str, BucketId, Arc<Shedder>)>,
) -> IdMap<BucketId, BucketCursor> {
    let cursor = |(name, id, shedder)| (id, BucketCursor { scope: bucket_scope(name), shedder });
    buckets.into_iter().map(cursor).collect()
}

impl SheddingHandle {
    /// `buckets` are the cursors of the buckets, with their names.
    pub(crate) fn new<'a>(
        config: &Config,
        buckets: impl IntoIterator<Item = (&'a str, BucketId, Arc<Shedder>)>,
        registry: &Registry,
        now: Instant,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            process: Arc::new(Shedder::of_process(config, now)),
            waits: Arc::new(ProcessWaits::new(now)),
            buckets: by_id(buckets),
            metrics: SheddingMetrics::register(registry)?,
        })
    }

    /// The handle of another configuration, with the cursors of its buckets. The cursor of the process goes on; the monitor
    /// gives it its new settings.
    #[must_use]
    pub fn reconfigured<'a>(
        &self,
        buckets: impl IntoIterator<Item = (&'a str, BucketId, Arc<Shedder>)>,
    ) -> Self {
        Self {
            process: Arc::clone(&self.process),
            waits: Arc::clone(&self.waits),
            buckets: by_id(buckets),
            metrics: self.metrics.clone(),
        }
    }

    /// Removes the series of a bucket that the current configuration lacks.
    pub fn remove_series(&self, bucket: &str) {
        self.metrics.remove(&bucket_scope(bucket));
    }

    /// Updates the metrics; called before a scrape is answered.
    pub(crate) fn observe(&self, now: Instant) {
        self.metrics.observe(PROCESS, &self.process, now);
        for BucketCursor { scope, shedder } in self.buckets.values() {
            self.metrics.observe(scope, shedder, now);
        }
        self.metrics.observe_waits(&self.waits, now);
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
