//! Exponential backoff of a repeated background call.

use std::time::Duration;

/// The pauses after consecutive failures: the shortest one, doubled after each failure, up to the longest.
#[derive(Debug)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, failures: 0 }
    }

    /// Consecutive failures.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Records a failure and returns the pause after it.
    pub(crate) fn record_failure(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.shortest.saturating_mul(2_u32.saturating_pow(self.failures - 1)).min(self.longest)
    }

    /// Records a success: the next failure has the shortest pause.
    pub(crate) const fn record_success(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_its_maximum_and_begins_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
        let mut pauses =
            |count: u32| -> Vec<u128> { (0..count).map(|_| backoff.record_failure().as_millis()).collect() };
        assert_eq!(pauses(7), [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
        assert_eq!(pauses(100).last(), Some(&15_000), "no overflow");
        assert_eq!(backoff.failures(), 107);
        backoff.record_success();
        assert_eq!((backoff.record_failure().as_millis(), backoff.failures()), (500, 1));
    }
}
