//! How near the endpoints of a bucket were to an ejection, for advice on the thresholds. No decision reads it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::pool::PoolHandle;
use crate::trip::EjectionRule;

/// The counts of all endpoints of a bucket.
#[derive(Debug, Default)]
pub(crate) struct EjectionCounts {
    /// The most failures in a row of an endpoint since the peak was read.
    failures_peak: AtomicU32,
    by_rule: [AtomicU64; EjectionRule::COUNT],
}

impl EjectionCounts {
    /// Records the failures in a row of an endpoint after a failed call.
    pub(crate) fn record_failures(&self, in_a_row: u32) {
        self.failures_peak.fetch_max(in_a_row, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, rule: EjectionRule) {
        self.by_rule[rule as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn take_failures_peak(&self) -> u32 {
        self.failures_peak.swap(0, Ordering::Relaxed)
    }

    fn by(&self, rule: EjectionRule) -> u64 {
        self.by_rule[rule as usize].load(Ordering::Relaxed)
    }
}

impl PoolHandle {
    /// The most failures in a row of an endpoint since the last call.
    pub fn take_failures_peak(&self) -> u32 {
        self.endpoint_stats.ejection_counts().take_failures_peak()
    }

    /// How often a rule has ejected an endpoint.
    pub fn ejected_by(&self, rule: EjectionRule) -> u64 {
        self.endpoint_stats.ejection_counts().by(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G2: each rule has its own count, and the peak starts again when it is read
    #[test]
    fn counts_are_kept_by_rule() {
        let counts = EjectionCounts::default();
        [2, 4, 1].into_iter().for_each(|failures| counts.record_failures(failures));
        assert_eq!((counts.take_failures_peak(), counts.take_failures_peak()), (4, 0));
        counts.count(EjectionRule::FailureRate);
        let rules = [EjectionRule::ConsecutiveFailures, EjectionRule::FailureRate, EjectionRule::Probation];
        assert_eq!(rules.map(|rule| counts.by(rule)), [0, 1, 0]);
    }
}
