//! Durations of requests: in total, to the first byte, by phase, and of each upstream call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use tidegate_config::BucketConfig;

use super::histogram::{DurationFamily, DurationHistogram};

/// Phases of a request, in their order.
const PHASES: [&str; 4] = ["admission", "queue", "first_byte", "response"];

/// The families.
pub(crate) struct TimingFamilies {
    pub(crate) requests: DurationFamily,
    first_byte: DurationFamily,
    phases: DurationFamily,
    upstream: DurationFamily,
}

/// The histograms of one bucket.
pub(crate) struct RequestTimes {
    request: Arc<DurationHistogram>,
    first_byte: Arc<DurationHistogram>,
    phases: [Arc<DurationHistogram>; PHASES.len()],
    /// In the order of the configured endpoints.
    upstream: Vec<Arc<DurationHistogram>>,
}

/// Times of the phases of a request; none for a phase that was not reached.
#[derive(Default, Clone, Copy)]
pub(crate) struct RequestTimings {
    /// The request was admitted.
    pub(crate) admitted: Option<Instant>,
    /// The pool granted the permit.
    pub(crate) permitted: Option<Instant>,
    /// The head of the upstream's answer arrived.
    pub(crate) first_byte: Option<Instant>,
}

impl TimingFamilies {
    pub(super) fn register(registry: &Registry, bounds: &[Duration]) -> Result<Self, prometheus::Error> {
        let family = |named, labels: &[&str]| DurationFamily::register(registry, named, labels, bounds);
        Ok(Self {
            requests: DurationFamily::register_with_exemplars(
                registry,
                (
                    "request_duration_seconds",
                    "time from the head of a request to the last byte of its answer, in seconds",
                ),
                &["bucket"],
                bounds,
            )?,
            first_byte: family(
                (
                    "first_byte_seconds",
                    "time from the head of a request to the head of the upstream's answer, or to the failure of the last attempt",
                ),
                &["bucket"],
            )?,
            phases: family(
                (
                    "request_phase_seconds",
                    "time in each phase of a request: admission, queue, first_byte, response; off while the level is critical",
                ),
                &["bucket", "phase"],
            )?,
            upstream: family(
                (
                    "upstream_duration_seconds",
                    "time from the start of an upstream call to the head of its answer",
                ),
                &["bucket", "endpoint"],
            )?,
        })
    }

    pub(super) fn bucket(&self, name: &str, config: &BucketConfig) -> RequestTimes {
        let endpoints = config.upstream.endpoints.iter();
        RequestTimes {
            request: self.requests.histogram(&[name]),
            first_byte: self.first_byte.histogram(&[name]),
            phases: PHASES.map(|phase| self.phases.histogram(&[name, phase])),
            upstream: endpoints
                .map(|endpoint| self.upstream.histogram(&[name, &endpoint.authority]))
                .collect(),
        }
    }
}

impl RequestTimes {
    /// The histogram of whole requests.
    pub(crate) fn requests(&self) -> &DurationHistogram {
        &self.request
    }

    /// Observes a request that ends now. Without `is_detailed` the phases are left out.
    pub(crate) fn observe(
        &self,
        id: &str,
        started: Instant,
        timings: &RequestTimings,
        now: Instant,
        is_detailed: bool,
    ) {
        self.request.observe_request(now.saturating_duration_since(started), id, now);
        let RequestTimings { admitted, permitted, first_byte } = *timings;
        if let Some(first_byte) = first_byte {
            self.first_byte.observe(first_byte.saturating_duration_since(started));
        }
        if !is_detailed {
            return;
        }
        let phases = [
            (Some(started), admitted),
            (admitted, permitted),
            (permitted, first_byte),
            (first_byte, Some(now)),
        ];
        for (histogram, (from, to)) in self.phases.iter().zip(phases) {
            if let (Some(from), Some(to)) = (from, to) {
                histogram.observe(to.saturating_duration_since(from));
            }
        }
    }

    /// Observes an upstream call that has got the head of its answer.
    pub(crate) fn observe_call(&self, endpoint: usize, duration: Duration) {
        if let Some(histogram) = self.upstream.get(endpoint) {
            histogram.observe(duration);
        }
    }
}
