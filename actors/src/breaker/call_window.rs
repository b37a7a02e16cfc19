//! The calls a closed circuit judges by: failures in a row, and the last calls as bits, once for failed and once for slow.

use std::time::Duration;

use tidegate_config::BreakerConfig;

use crate::breaker::outcome::{AdverseOutcome, FailureCause};

/// Bits there are; the configuration's window is no longer.
const BITS: u32 = u128::BITS;

/// From where on a tally is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TripThresholds {
    failures_in_a_row: u32,
    failure_percent: u32,
    /// None: no call is slow.
    slow_percent: Option<u32>,
    window_calls: u32,
    minimum_calls: u32,
}

impl From<&BreakerConfig> for TripThresholds {
    fn from(config: &BreakerConfig) -> Self {
        Self {
            failures_in_a_row: config.failure_threshold.get(),
            failure_percent: config.failure_rate_threshold.get(),
            slow_percent: config.slow_call_duration.map(|_: Duration| config.slow_call_rate_threshold.get()),
            window_calls: config.window_calls.get().min(BITS),
            minimum_calls: config.minimum_calls.get(),
        }
    }
}

/// What is remembered of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CallWindow {
    consecutive_failures: u32,
    /// Whether one of them got further than to a connection that failed: its upstream answered, or was silent.
    was_answered: bool,
    /// The newest call is the lowest bit.
    failed: u128,
    slow: u128,
    calls: u32,
}

impl CallWindow {
    pub(super) fn record_successes(&mut self, times: u32) {
        if times > 0 {
            self.consecutive_failures = 0;
            self.was_answered = false;
            self.calls = self.calls.saturating_add(times).min(BITS);
            self.failed = self.failed.checked_shl(times).unwrap_or(0);
            self.slow = self.slow.checked_shl(times).unwrap_or(0);
        }
    }

    /// A time-out is the slowest of calls, so it is both.
    pub(super) fn record_adverse(&mut self, adverse: AdverseOutcome) {
        let (failed, slow) = match adverse {
            AdverseOutcome::Failed(failure) => {
                (true, matches!(failure.cause, FailureCause::Timeout | FailureCause::ConnectTimeout))
            }
            AdverseOutcome::Slow => (false, true),
        };
        self.consecutive_failures = if failed { self.consecutive_failures.saturating_add(1) } else { 0 };
        // A connection that breaks is how the end of a process begins.
        let cause = adverse.failure().cause;
        self.was_answered =
            failed && (self.was_answered || !(cause.is_unreachable() || cause == FailureCause::Reset));
        self.calls = (self.calls + 1).min(BITS);
        self.failed = self.failed << 1 | u128::from(failed);
        self.slow = self.slow << 1 | u128::from(slow);
    }

    /// Too many failures in a row, or too many of the last calls failed or slow.
    pub(super) fn is_bad(&self, thresholds: &TripThresholds) -> bool {
        let calls = self.calls.min(thresholds.window_calls);
        let recent = u128::MAX >> (BITS - thresholds.window_calls.clamp(1, BITS));
        let reaches =
            |bits: u128, percent: u32| (bits & recent).count_ones() * 100 >= calls.saturating_mul(percent);
        let is_rate_bad = calls >= thresholds.minimum_calls
            && (reaches(self.failed, thresholds.failure_percent)
                || thresholds.slow_percent.is_some_and(|percent| reaches(self.slow, percent)));
        self.consecutive_failures >= thresholds.failures_in_a_row || is_rate_bad
    }

    /// Whether a row of failures is bad in which nobody answered. A share of failures has others between them.
    pub(super) fn is_unreachable(&self, thresholds: &TripThresholds) -> bool {
        self.consecutive_failures >= thresholds.failures_in_a_row && !self.was_answered
    }

    pub(super) fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::outcome::CallFailure;

    const BY_DEFAULT: TripThresholds = TripThresholds {
        failures_in_a_row: 5,
        failure_percent: 50,
        slow_percent: None,
        window_calls: 100,
        minimum_calls: 20,
    };
    const NO_ROW: TripThresholds = TripThresholds { failures_in_a_row: 1000, ..BY_DEFAULT };

    fn failure(cause: FailureCause) -> AdverseOutcome {
        AdverseOutcome::Failed(CallFailure { cause, retry_after: None })
    }

    /// A success, a failure, a time-out, a slow success.
    fn tally(calls: &str) -> CallWindow {
        let mut tally = CallWindow::default();
        for call in calls.chars() {
            match call {
                'f' => tally.record_adverse(failure(FailureCause::Reset)),
                't' => tally.record_adverse(failure(FailureCause::Timeout)),
                'w' => tally.record_adverse(AdverseOutcome::Slow),
                _ => tally.record_successes(1),
            }
        }
        tally
    }

    /// B1
    #[test]
    fn failures_in_a_row_are_bad_and_a_success_starts_the_row_over() {
        assert!(!tally("ffff").is_bad(&BY_DEFAULT));
        assert!(tally("fffff").is_bad(&BY_DEFAULT));
        assert!(!tally("ffffsffff").is_bad(&BY_DEFAULT));
        assert!(!tally("ffffwffff").is_bad(&BY_DEFAULT), "slow is no failure");
    }

    /// B1
    #[test]
    fn half_of_at_least_twenty_calls_is_bad() {
        assert!(!tally(&"sf".repeat(9)).is_bad(&BY_DEFAULT), "18 calls are no rate");
        assert!(tally(&"sf".repeat(10)).is_bad(&BY_DEFAULT));
        assert!(!tally(&"ssf".repeat(30)).is_bad(&BY_DEFAULT), "a third");
        let third = TripThresholds { failure_percent: 33, ..BY_DEFAULT };
        assert!(tally(&"ssf".repeat(30)).is_bad(&third));
        let few = TripThresholds { minimum_calls: 4, ..BY_DEFAULT };
        assert!(tally("sfsf").is_bad(&few) && !tally("sff").is_bad(&few));
    }

    /// B1
    #[test]
    fn only_the_last_hundred_calls_count() {
        assert!(tally(&"sf".repeat(50)).is_bad(&BY_DEFAULT));
        let mut mixed = tally(&"f".repeat(100));
        mixed.record_successes(51);
        assert!(!mixed.is_bad(&NO_ROW), "49 of the last 100 failed");
        assert!(tally(&format!("{}{}", "s".repeat(500), "f".repeat(50))).is_bad(&NO_ROW));
        let mut old = tally(&"f".repeat(500));
        old.record_successes(1000);
        assert!(!old.is_bad(&NO_ROW));
        let short = TripThresholds { window_calls: 20, ..NO_ROW };
        assert!(tally(&format!("{}{}", "s".repeat(90), "sf".repeat(10))).is_bad(&short));
        let long = TripThresholds { window_calls: 128, failure_percent: 100, ..NO_ROW };
        assert!(
            tally(&"f".repeat(200)).is_bad(&long) && !tally(&format!("s{}", "f".repeat(127))).is_bad(&long)
        );
    }

    /// B1: the slow-call rate, in which a time-out counts too
    #[test]
    fn half_of_the_calls_slow_is_bad_where_slow_calls_count() {
        let slow = TripThresholds { slow_percent: Some(50), ..BY_DEFAULT };
        assert!(tally(&"sw".repeat(10)).is_bad(&slow));
        assert!(!tally(&"sw".repeat(10)).is_bad(&BY_DEFAULT), "nobody said what is slow");
        assert!(!tally(&"sw".repeat(9)).is_bad(&slow), "18 calls are no rate");
        assert!(!tally(&"ssw".repeat(30)).is_bad(&slow), "a third");
        assert!(tally(&"swst".repeat(5)).is_bad(&slow), "a quarter slow, a quarter timed out");
        assert!(!tally(&"swsf".repeat(5)).is_bad(&slow), "a quarter slow, a quarter failed at once");
    }
}
