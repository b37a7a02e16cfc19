//! The acceptor's metrics.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::pause::Cause;

/// How often accepting paused, by cause.
#[derive(Clone)]
pub(crate) struct AcceptMetrics {
    failures: [IntCounter; Cause::ALL.len()],
}

impl AcceptMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "accept_failures_total",
            "times that accepting connections paused because of a shortage",
        );
        let family = IntCounterVec::new(opts, &["cause"])?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self { failures: Cause::ALL.map(|cause| family.with_label_values(&[cause.as_str()])) })
    }

    pub(super) fn failed(&self, cause: Cause) {
        let place = Cause::ALL.iter().position(|each| *each == cause);
        if let Some(counter) = place.and_then(|place| self.failures.get(place)) {
            counter.inc();
        }
    }
}
