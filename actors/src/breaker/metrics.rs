//! The breaker's metrics (B5), set by the actor as it publishes.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::breaker::decision::{CircuitState, Snapshot};
use crate::types::BucketId;

/// Per bucket.
#[derive(Debug)]
pub(crate) struct BreakerMetrics {
    buckets: Vec<PerBucket>,
}

#[derive(Debug)]
struct PerBucket {
    state: IntGauge,
    failures: IntGauge,
    opened: IntCounter,
}

impl BreakerMetrics {
    pub(crate) fn register(registry: &Registry, buckets: &[String]) -> Result<Self, prometheus::Error> {
        let labels = &["bucket"];
        let state = IntGaugeVec::new(
            Opts::new(
                "circuit_breaker_state",
                "state of the bucket's circuit: 0 closed, 1 open, 2 half-open",
            ),
            labels,
        )?;
        let failures = IntGaugeVec::new(
            Opts::new("circuit_breaker_failures", "failures of the upstream in a row"),
            labels,
        )?;
        let opened = IntCounterVec::new(
            Opts::new("circuit_breaker_opened_total", "times the bucket's circuit opened"),
            labels,
        )?;
        registry.register(Box::new(state.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(opened.clone()))?;
        let buckets = buckets
            .iter()
            .map(|name| PerBucket {
                state: state.with_label_values(&[name]),
                failures: failures.with_label_values(&[name]),
                opened: opened.with_label_values(&[name]),
            })
            .collect();
        Ok(Self { buckets })
    }

    pub(crate) fn published(&self, bucket: BucketId, snapshot: &Snapshot) {
        if let Some(bucket) = self.buckets.get(bucket.index()) {
            bucket.state.set(match snapshot.state {
                CircuitState::Closed => 0,
                CircuitState::Open => 1,
                CircuitState::HalfOpen => 2,
            });
            bucket.failures.set(i64::from(snapshot.consecutive_failures));
        }
    }

    pub(crate) fn opened(&self, bucket: BucketId) {
        if let Some(bucket) = self.buckets.get(bucket.index()) {
            bucket.opened.inc();
        }
    }
}
