//! Random choices of a scenario.

use crate::seeded_rng::SeededRng;

impl SeededRng {
    /// A number from 0 to `end`, exclusive; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next_u64() % end).unwrap_or(0)
    }

    /// A number from `low` to `high`, inclusive.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next_u64() % (high.saturating_sub(low) + 1)
    }

    /// True once in `times` times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several values.
    pub(crate) fn choose<T: Copy, const N: usize>(&mut self, several: [T; N]) -> T {
        several[self.below(N)]
    }
}
