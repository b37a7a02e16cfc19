//! Settings that the handle of a pool and its state share.

use std::time::Duration;

use tidegate_config::{Overload, UpstreamConfig};

use crate::pool::queue::codel::CodelSettings;

/// Bounds of a bucket's gate and queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolBounds {
    pub(crate) concurrent_max: usize,
    pub(crate) queued_max: usize,
    pub(crate) queue_timeout: Duration,
    /// Overload detection; none if it is off.
    pub(crate) overload: Option<CodelSettings>,
}

impl From<&UpstreamConfig> for PoolBounds {
    fn from(upstream: &UpstreamConfig) -> Self {
        let concurrency = &upstream.concurrency;
        Self {
            // Each request needs a connection: beyond the pool size, requests would queue in the HTTP client, where the
            // gate cannot see them.
            concurrent_max: concurrency.max_concurrent.get().min(upstream.connection_pool.size.get()),
            queued_max: concurrency.max_queued,
            queue_timeout: concurrency.queue_timeout,
            overload: (concurrency.overload == Overload::Codel).then_some(CodelSettings {
                target: concurrency.codel_target,
                interval: concurrency.codel_interval,
            }),
        }
    }
}
