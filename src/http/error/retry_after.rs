//! Converts the time until a retry makes sense into the whole seconds of `Retry-After`; no other module does.
//!
//! The time is the earliest at which a retry can succeed, so it is rounded up and never shortened (RFC 9110, 10.2.3,
//! has no fractions). Many requests are refused for one cause and would be retried at the same moment. So each reply
//! adds a random number of seconds, up to a fifth of the time: at least one second, at most a minute. The exception
//! is the one request over which an actor crashed: it gets the exact time, at most a second (S5).

use std::time::Duration;

use rand::Rng as _;

/// The shortest range of seconds over which retries are spread.
const SPREAD_MIN: u64 = 1;
/// The range is the time divided by this number, if that is longer.
const SPREAD_SHARE: u64 = 5;
/// The longest range in seconds.
const SPREAD_MAX: u64 = 60;

/// The value of `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryAfter {
    seconds: u64,
}

impl RetryAfter {
    /// For a cause that may affect many requests: the time plus a random part.
    pub(crate) fn spread(after: Duration) -> Self {
        let seconds = whole_seconds(after);
        let within = seconds.div_ceil(SPREAD_SHARE).clamp(SPREAD_MIN, SPREAD_MAX);
        Self { seconds: seconds.saturating_add(rand::rng().random_range(0..=within)) }
    }

    /// For a cause that affects this request alone: the exact time.
    pub(crate) fn exact(after: Duration) -> Self {
        Self { seconds: whole_seconds(after) }
    }

    pub(crate) fn seconds(self) -> u64 {
        self.seconds
    }
}

/// Whole seconds, rounded up, at least 1, so a client that waits so long is not too early.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    let whole = duration.as_secs();
    if duration.subsec_nanos() > 0 { whole.saturating_add(1) } else { whole.max(1) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// B2: clients refused for the same reason get every value of the range, and none is too early
    #[test]
    fn retry_after_is_spread_over_clients() {
        for (after_ms, expected) in [
            (0, 1..=2),
            (1, 1..=2),
            (1_000, 1..=2),
            (1_001, 2..=3),
            (10_000, 10..=12),
            (59_900, 60..=72),
            (3_600_000, 3_600..=3_660),
        ] {
            let after = Duration::from_millis(after_ms);
            let seconds: BTreeSet<u64> = (0..1_000).map(|_| RetryAfter::spread(after).seconds()).collect();
            assert_eq!(seconds, expected.collect(), "{after_ms} ms");
        }
    }

    /// S5: a single affected request gets the exact time
    #[test]
    fn retry_after_of_one_client_is_exact() {
        assert_eq!(RetryAfter::exact(Duration::from_millis(300)).seconds(), 1);
        assert_eq!(RetryAfter::exact(Duration::from_secs(7)).seconds(), 7);
    }

    /// B2, L1: `Retry-After` is never too early, however long the time is
    #[test]
    fn retry_after_rounds_up_to_whole_seconds() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(RetryAfter::spread(Duration::MAX).seconds(), u64::MAX);
    }
}
