//! The calls a closed circuit judges by: failures in a row, and the last hundred calls as bits.

/// Calls over which the failure rate is taken.
const RATE_CALLS: u32 = 100;
/// Calls below which there is no rate.
const RATE_CALLS_MIN: u32 = 20;
/// The last `RATE_CALLS` bits.
const RATE_MASK: u128 = (1 << RATE_CALLS) - 1;

/// What is remembered of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    consecutive_failures: u32,
    /// The newest call is the lowest bit; set means failed.
    recent: u128,
    calls: u32,
}

impl Tally {
    pub(super) fn succeed(&mut self, times: u32) {
        if times > 0 {
            self.consecutive_failures = 0;
            self.calls = self.calls.saturating_add(times).min(RATE_CALLS);
            self.recent = if times < RATE_CALLS { (self.recent << times) & RATE_MASK } else { 0 };
        }
    }

    pub(super) fn fail(&mut self) {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.calls = (self.calls + 1).min(RATE_CALLS);
        self.recent = (self.recent << 1 | 1) & RATE_MASK;
    }

    /// Too many failures in a row, or half of the calls failed.
    pub(super) fn is_bad(&self, failure_threshold: u32) -> bool {
        let rate_is_bad = self.calls >= RATE_CALLS_MIN && self.recent.count_ones() * 2 >= self.calls;
        self.consecutive_failures >= failure_threshold || rate_is_bad
    }

    pub(super) fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(calls: &str) -> Tally {
        let mut tally = Tally::default();
        for call in calls.chars() {
            if call == 'f' { tally.fail() } else { tally.succeed(1) }
        }
        tally
    }

    /// B1
    #[test]
    fn failures_in_a_row_are_bad_and_a_success_starts_the_row_over() {
        assert!(!tally("ffff").is_bad(5));
        assert!(tally("fffff").is_bad(5));
        assert!(!tally("ffffsffff").is_bad(5));
    }

    /// B1
    #[test]
    fn half_of_at_least_twenty_calls_is_bad() {
        assert!(!tally(&"sf".repeat(9)).is_bad(5), "18 calls are no rate");
        assert!(tally(&"sf".repeat(10)).is_bad(5));
        assert!(!tally(&"ssf".repeat(30)).is_bad(5), "a third");
    }

    /// B1
    #[test]
    fn only_the_last_hundred_calls_count() {
        let mut old = tally(&"sf".repeat(50));
        assert!(old.is_bad(5));
        old.succeed(100);
        assert_eq!(old, tally(&"s".repeat(100)));
        let mut mixed = tally(&"f".repeat(100));
        mixed.succeed(51);
        assert!(!mixed.is_bad(1000), "49 of the last 100 failed");
        assert!(tally(&format!("{}{}", "s".repeat(500), "f".repeat(50))).is_bad(1000));
    }
}
