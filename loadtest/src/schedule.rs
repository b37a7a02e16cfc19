//! Intended send times of an open loop, fixed before the first request.
//!
//! A schedule is data: phases of rate × duration. It does not depend on answers, so a slow server cannot reduce the offered load, and
//! latencies count from the intended send times. Requests are evenly spaced rather than random, so that runs are comparable; the rate
//! determines queues.

use std::time::Duration;

use serde::Deserialize;

/// A phase of constant rate.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phase {
    /// Requests per second.
    pub(crate) rate: f64,
    /// Length, in seconds.
    pub(crate) seconds: f64,
}

impl Phase {
    fn requests(self) -> u64 {
        (self.rate * self.seconds).round() as u64
    }
}

/// A fixed list of intended send times, as offsets from the start.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    phases: Vec<Phase>,
}

impl Schedule {
    /// A schedule of consecutive phases.
    pub(crate) fn new(phases: Vec<Phase>) -> Self {
        Self { phases }
    }

    /// One phase of constant rate.
    pub(crate) fn constant(rate: f64, seconds: f64) -> Self {
        Self::new(vec![Phase { rate, seconds }])
    }

    /// Total length.
    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs_f64(self.phases.iter().map(|phase| phase.seconds).sum())
    }

    /// The intended send times, in order.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = Duration> {
        let mut begin = 0.0;
        self.phases.iter().flat_map(move |&phase| {
            let phase_begin = begin;
            begin += phase.seconds;
            (0..phase.requests()).map(move |k| Duration::from_secs_f64(phase_begin + k as f64 / phase.rate))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_rate_spaces_requests_evenly_from_zero() {
        let offsets: Vec<_> = Schedule::constant(4.0, 1.0).offsets().collect();
        assert_eq!(offsets, [0, 250, 500, 750].map(Duration::from_millis));
    }

    #[test]
    fn phases_follow_each_other_without_gap_or_overlap() {
        let schedule = Schedule::new(vec![
            Phase { rate: 2.0, seconds: 1.0 },
            Phase { rate: 0.0, seconds: 2.0 },
            Phase { rate: 4.0, seconds: 0.5 },
        ]);
        let offsets: Vec<_> = schedule.offsets().collect();
        assert_eq!(offsets, [0, 500, 3000, 3250].map(Duration::from_millis));
        assert_eq!(schedule.length(), Duration::from_millis(3_500));
    }

    #[test]
    fn a_long_schedule_does_not_drift() {
        let schedule = Schedule::constant(3000.0, 600.0);
        let last = schedule.offsets().last().unwrap();
        assert_eq!(schedule.offsets().count(), 1_800_000);
        assert!((last.as_secs_f64() - (600.0 - 1.0 / 3000.0)).abs() < 1e-6, "{last:?}");
    }
}
