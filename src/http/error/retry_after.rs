//! When a refused client may come back: here, and nowhere else, a moment becomes whole seconds.
//!
//! What a guard measured is the earliest moment at which coming back makes sense, so it is rounded up and never shortened
//! (RFC 9110, 10.2.3, knows no fractions). Many are refused for one cause, and would come back as one: each is told another
//! second of those that follow, by chance, over a fifth of the time: at least one second, at most a minute.
//! The exception is the request that an actor crashed over, which is told at most a second (S5): it is one, not many.

use std::time::Duration;

use rand::Rng as _;

/// Over at least so many seconds clients are spread that may come back at the same moment.
const SPREAD_MIN: u64 = 1;
/// Over this share of the time that they stay away, if that is more.
const SPREAD_SHARE: u64 = 5;
/// But never over more than this.
const SPREAD_MAX: u64 = 60;

/// What `Retry-After` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryAfter {
    seconds: u64,
}

impl RetryAfter {
    /// For what may have befallen many at once.
    pub(crate) fn spread(after: Duration) -> Self {
        let seconds = whole_seconds(after);
        let within = seconds.div_ceil(SPREAD_SHARE).clamp(SPREAD_MIN, SPREAD_MAX);
        Self { seconds: seconds.saturating_add(rand::rng().random_range(0..=within)) }
    }

    /// For what befell this request alone.
    pub(crate) fn exact(after: Duration) -> Self {
        Self { seconds: whole_seconds(after) }
    }

    pub(crate) fn seconds(self) -> u64 {
        self.seconds
    }
}

/// Whole seconds, rounded up, at least 1: a client that comes back then is not too early.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    let whole = duration.as_secs();
    if duration.subsec_nanos() > 0 { whole.saturating_add(1) } else { whole.max(1) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// B2: clients refused for the same reason are told every second of a row, and none is told to come too early
    #[test]
    fn retry_after_is_spread_over_clients() {
        for (after_ms, told) in [
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
            assert_eq!(seconds, told.collect(), "{after_ms} ms");
        }
    }

    /// S5: who is the only one is told the moment itself
    #[test]
    fn retry_after_of_one_client_is_exact() {
        assert_eq!(RetryAfter::exact(Duration::from_millis(300)).seconds(), 1);
        assert_eq!(RetryAfter::exact(Duration::from_secs(7)).seconds(), 7);
    }

    /// B2, L1: a client told to come back is not told to come too early, however far away the moment is
    #[test]
    fn retry_after_rounds_up_to_whole_seconds() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(RetryAfter::spread(Duration::MAX).seconds(), u64::MAX);
    }
}
