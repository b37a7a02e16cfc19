//! The calls that open a closed circuit: consecutive failures, and the last calls as two bit fields, failed and slow.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_config::BreakerConfig;

use crate::breaker::outcome::{AdverseOutcome, FailureCause};
use crate::trip::{Trip, TripRule};

/// Bits of the window; `window_calls` in the configuration is at most this.
const BITS: u32 = u128::BITS;

/// The thresholds that open a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TripThresholds {
    consecutive_failures: u32,
    failure_percent: u32,
    /// None: no call counts as slow.
    slow_percent: Option<u32>,
    window_calls: u32,
    minimum_calls: u32,
}

impl From<&BreakerConfig> for TripThresholds {
    fn from(config: &BreakerConfig) -> Self {
        Self {
            consecutive_failures: config.failure_threshold.get(),
            failure_percent: config.failure_rate_threshold.get(),
            slow_percent: config.slow_call_duration.map(|_: Duration| config.slow_call_rate_threshold.get()),
            window_calls: config.window_calls.get().min(BITS),
            minimum_calls: config.minimum_calls.get(),
        }
    }
}

/// The recorded calls of a closed circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CallWindow {
    consecutive_failures: u32,
    /// Whether a failure among them came after the connection was made: the upstream answered, or did not answer in
    /// time.
    was_answered: bool,
    /// The newest call is the lowest bit.
    failed: u128,
    slow: u128,
    calls: u32,
}

/// The recorded calls as they cross to a successor: the bit fields as two words each, the higher one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedWindow {
    consecutive_failures: u32,
    was_answered: bool,
    failed: [u64; 2],
    slow: [u64; 2],
    calls: u32,
}

impl CallWindow {
    /// The window as it crosses to a successor.
    pub(super) fn exported(&self) -> ExportedWindow {
        let Self { consecutive_failures, was_answered, failed, slow, calls } = *self;
        let words = |bits: u128| {
            [u64::try_from(bits >> 64).unwrap_or(0), u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0)]
        };
        let (failed, slow) = (words(failed), words(slow));
        ExportedWindow { consecutive_failures, was_answered, failed, slow, calls }
    }

    /// The window of a predecessor.
    pub(super) fn imported(exported: ExportedWindow) -> Self {
        let ExportedWindow { consecutive_failures, was_answered, failed, slow, calls } = exported;
        let bits = |[high, low]: [u64; 2]| u128::from(high) << 64 | u128::from(low);
        let calls = calls.min(BITS);
        Self { consecutive_failures, was_answered, failed: bits(failed), slow: bits(slow), calls }
    }

    pub(super) fn record_successes(&mut self, times: u32) {
        if times > 0 {
            self.consecutive_failures = 0;
            self.was_answered = false;
            self.calls = self.calls.saturating_add(times).min(BITS);
            self.failed = self.failed.checked_shl(times).unwrap_or(0);
            self.slow = self.slow.checked_shl(times).unwrap_or(0);
        }
    }

    /// Records a failed or slow call. A timeout counts as both.
    pub(super) fn record_adverse(&mut self, adverse: AdverseOutcome) {
        let (failed, slow) = match adverse {
            AdverseOutcome::Failed(failure) => {
                (true, matches!(failure.cause, FailureCause::Timeout | FailureCause::ConnectTimeout))
            }
            AdverseOutcome::Slow => (false, true),
        };
        self.consecutive_failures = if failed { self.consecutive_failures.saturating_add(1) } else { 0 };
        // A reset does not count as answered: connections break when the upstream's process ends.
        let cause = adverse.failure().cause;
        self.was_answered =
            failed && (self.was_answered || !(cause.is_unreachable() || cause == FailureCause::Reset));
        self.calls = (self.calls + 1).min(BITS);
        self.failed = self.failed << 1 | u128::from(failed);
        self.slow = self.slow << 1 | u128::from(slow);
    }

    /// The first rule that is broken: the consecutive failures, or the rate of failed or slow calls in the window, reach their
    /// threshold.
    pub(super) fn trip(&self, thresholds: &TripThresholds) -> Option<Trip> {
        if self.consecutive_failures >= thresholds.consecutive_failures {
            let (measured, threshold) = (self.consecutive_failures, thresholds.consecutive_failures);
            return Some(Trip { rule: TripRule::ConsecutiveFailures, measured, threshold });
        }
        let calls = self.calls.min(thresholds.window_calls);
        if calls < thresholds.minimum_calls {
            return None;
        }
        let recent = u128::MAX >> (BITS - thresholds.window_calls.clamp(1, BITS));
        let rate = |rule, bits: u128, threshold: u32| {
            let hits = (bits & recent).count_ones() * 100;
            let measured = hits / calls.max(1);
            (hits >= calls.saturating_mul(threshold)).then_some(Trip { rule, measured, threshold })
        };
        let slow = || rate(TripRule::SlowCallRate, self.slow, thresholds.slow_percent?);
        rate(TripRule::FailureRate, self.failed, thresholds.failure_percent).or_else(slow)
    }

    /// Whether the consecutive failures reach the threshold and no call among them was answered. A failure rate does
    /// not count: it has successes between the failures.
    pub(super) fn is_unreachable(&self, thresholds: &TripThresholds) -> bool {
        self.consecutive_failures >= thresholds.consecutive_failures && !self.was_answered
    }

    /// Forgets which calls were slow but the timeouts, which are slow by any duration. For a new `slow_call_duration_ms`.
    pub(super) fn forget_slow(&mut self) {
        self.slow &= self.failed;
    }

    pub(super) fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::outcome::CallFailure;

    const DEFAULT: TripThresholds = TripThresholds {
        consecutive_failures: 5,
        failure_percent: 50,
        slow_percent: None,
        window_calls: 100,
        minimum_calls: 20,
    };
    const NO_CONSECUTIVE: TripThresholds = TripThresholds { consecutive_failures: 1000, ..DEFAULT };

    fn failure(cause: FailureCause) -> AdverseOutcome {
        AdverseOutcome::Failed(CallFailure { cause, retry_after: None })
    }

    impl CallWindow {
        fn is_bad(&self, thresholds: &TripThresholds) -> bool {
            self.trip(thresholds).is_some()
        }
    }

    /// Records one call per character: `s` success, `f` failure, `t` timeout, `w` slow success.
    fn record(outcomes: &str) -> CallWindow {
        let mut window = CallWindow::default();
        for call in outcomes.chars() {
            match call {
                'f' => window.record_adverse(failure(FailureCause::Reset)),
                't' => window.record_adverse(failure(FailureCause::Timeout)),
                'w' => window.record_adverse(AdverseOutcome::Slow),
                _ => window.record_successes(1),
            }
        }
        window
    }

    /// B1
    #[test]
    fn consecutive_failures_open_and_a_success_resets_them() {
        assert!(!record("ffff").is_bad(&DEFAULT));
        assert!(record("fffff").is_bad(&DEFAULT));
        assert!(!record("ffffsffff").is_bad(&DEFAULT));
        assert!(!record("ffffwffff").is_bad(&DEFAULT), "a slow call is no failure");
    }

    /// B1
    #[test]
    fn half_of_at_least_twenty_calls_opens() {
        assert!(!record(&"sf".repeat(9)).is_bad(&DEFAULT), "18 calls are below the minimum");
        assert!(record(&"sf".repeat(10)).is_bad(&DEFAULT));
        assert!(!record(&"ssf".repeat(30)).is_bad(&DEFAULT), "a third");
        let third = TripThresholds { failure_percent: 33, ..DEFAULT };
        assert!(record(&"ssf".repeat(30)).is_bad(&third));
        let few = TripThresholds { minimum_calls: 4, ..DEFAULT };
        assert!(record("sfsf").is_bad(&few) && !record("sff").is_bad(&few));
    }

    /// B1
    #[test]
    fn only_the_last_hundred_calls_count() {
        assert!(record(&"sf".repeat(50)).is_bad(&DEFAULT));
        let mut mixed = record(&"f".repeat(100));
        mixed.record_successes(51);
        assert!(!mixed.is_bad(&NO_CONSECUTIVE), "49 of the last 100 failed");
        assert!(record(&format!("{}{}", "s".repeat(500), "f".repeat(50))).is_bad(&NO_CONSECUTIVE));
        let mut old = record(&"f".repeat(500));
        old.record_successes(1000);
        assert!(!old.is_bad(&NO_CONSECUTIVE));
        let short = TripThresholds { window_calls: 20, ..NO_CONSECUTIVE };
        assert!(record(&format!("{}{}", "s".repeat(90), "sf".repeat(10))).is_bad(&short));
        let long = TripThresholds { window_calls: 128, failure_percent: 100, ..NO_CONSECUTIVE };
        assert!(
            record(&"f".repeat(200)).is_bad(&long) && !record(&format!("s{}", "f".repeat(127))).is_bad(&long)
        );
    }

    /// B1, O4: the rule that opens is named, with what it measured and its threshold
    #[test]
    fn a_trip_has_the_rule_that_opened() {
        let slow = TripThresholds { slow_percent: Some(40), ..DEFAULT };
        let trip =
            |calls: &str| record(calls).trip(&slow).map(|trip| (trip.rule, trip.measured, trip.threshold));
        assert_eq!(trip("ffffff"), Some((TripRule::ConsecutiveFailures, 6, 5)));
        assert_eq!(trip(&"sff".repeat(10)), Some((TripRule::FailureRate, 66, 50)));
        assert_eq!(trip(&"sw".repeat(10)), Some((TripRule::SlowCallRate, 50, 40)));
        assert_eq!(trip(&"s".repeat(50)), None);
    }

    /// B1: the slow-call rate, in which a timeout counts too
    #[test]
    fn half_of_the_calls_slow_opens_where_slow_calls_count() {
        let slow = TripThresholds { slow_percent: Some(50), ..DEFAULT };
        assert!(record(&"sw".repeat(10)).is_bad(&slow));
        assert!(!record(&"sw".repeat(10)).is_bad(&DEFAULT), "no call counts as slow");
        assert!(!record(&"sw".repeat(9)).is_bad(&slow), "18 calls are below the minimum");
        assert!(!record(&"ssw".repeat(30)).is_bad(&slow), "a third");
        assert!(record(&"swst".repeat(5)).is_bad(&slow), "a quarter slow, a quarter timed out");
        assert!(!record(&"swsf".repeat(5)).is_bad(&slow), "a quarter slow, a quarter failed at once");
    }
}
