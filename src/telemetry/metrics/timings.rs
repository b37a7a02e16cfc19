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
    pub(super) first_byte: DurationFamily,
    pub(super) phases: DurationFamily,
    pub(super) upstream: DurationFamily,
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

/// Durations of the phases of a request that has ended; none for a phase that was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestDurations {
    pub(crate) total: Duration,
    /// From the head of the request to the head of the upstream's answer.
    pub(crate) to_first_byte: Option<Duration>,
    pub(crate) admission: Option<Duration>,
    pub(crate) queue: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) response: Option<Duration>,
}

impl RequestTimings {
    /// The durations of a request that ends now. Each is the difference of two times since the start, which are computed once:
    /// a difference of two `Instant`s costs more than one of two `Duration`s.
    pub(crate) fn durations(&self, started: Instant, now: Instant) -> RequestDurations {
        let since_start = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(started));
        let between = |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
        let total = now.saturating_duration_since(started);
        let (admitted, permitted) = (since_start(self.admitted), since_start(self.permitted));
        let to_first_byte = since_start(self.first_byte);
        RequestDurations {
            total,
            to_first_byte,
            admission: admitted,
            queue: between(admitted, permitted),
            first_byte: between(permitted, to_first_byte),
            response: between(to_first_byte, Some(total)),
        }
    }
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
    pub(crate) fn observe(&self, id: &str, durations: &RequestDurations, now: Instant, is_detailed: bool) {
        let RequestDurations { total, to_first_byte, admission, queue, first_byte, response } = *durations;
        self.request.observe_request(total, id, now);
        if let Some(to_first_byte) = to_first_byte {
            self.first_byte.observe(to_first_byte);
        }
        if !is_detailed {
            return;
        }
        for (histogram, phase) in self.phases.iter().zip([admission, queue, first_byte, response]) {
            if let Some(phase) = phase {
                histogram.observe(phase);
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

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// O3: a phase is the time between two steps; a step that was not reached has no phase
    #[test]
    fn phases_are_the_times_between_the_steps() {
        let started = clock::now();
        let at = |millis| started + Duration::from_millis(millis);
        let ms = |millis| Some(Duration::from_millis(millis));
        let all = RequestTimings { admitted: Some(at(1)), permitted: Some(at(3)), first_byte: Some(at(7)) };
        let durations = all.durations(started, at(15));
        assert_eq!((durations.total, durations.to_first_byte), (Duration::from_millis(15), ms(7)));
        let phases = [durations.admission, durations.queue, durations.first_byte, durations.response];
        assert_eq!(phases, [ms(1), ms(2), ms(4), ms(8)]);
        let refused = RequestTimings { admitted: Some(at(1)), ..RequestTimings::default() };
        let durations = refused.durations(started, at(2));
        let phases = [durations.admission, durations.queue, durations.first_byte, durations.response];
        assert_eq!(phases, [ms(1), None, None, None]);
    }
}
