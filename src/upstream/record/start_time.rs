//! The wall-clock time at which a request began, for its access line.
//!
//! A request has only a monotonic time. Each thread keeps one pair of both clocks and renews it once a second, so a line needs no further
//! read of a clock, and a correction of the wall clock shifts the times within a second.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use tidegate_actors::clock;

use crate::upstream::record::micros;

/// A pair of clocks is renewed after this time.
const RENEWED_AFTER: Duration = Duration::from_secs(1);

/// The same moment on both clocks.
#[derive(Clone, Copy)]
struct ClockPair {
    monotonic: Instant,
    wall_us: u64,
}

impl ClockPair {
    /// Microseconds since 1970 at `at`.
    fn wall_us_at(self, at: Instant) -> u64 {
        match at.checked_duration_since(self.monotonic) {
            Some(later) => self.wall_us.saturating_add(micros(later)),
            None => self.wall_us.saturating_sub(micros(self.monotonic.saturating_duration_since(at))),
        }
    }
}

thread_local! {
    static CLOCKS: Cell<Option<ClockPair>> = const { Cell::new(None) };
}

/// Microseconds from 1970 to the moment `started`; `now` is the current time.
pub(super) fn start_us(started: Instant, now: Instant) -> u64 {
    let is_current = |pair: &ClockPair| {
        now.saturating_duration_since(pair.monotonic) < RENEWED_AFTER && now >= pair.monotonic
    };
    let pair = CLOCKS.get().filter(is_current).unwrap_or_else(|| {
        let wall = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let pair = ClockPair { monotonic: now, wall_us: micros(wall) };
        CLOCKS.set(Some(pair));
        pair
    });
    pair.wall_us_at(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O2: times before and after the pair of clocks are exact
    #[test]
    fn times_are_relative_to_the_pair() {
        let now = clock::now();
        let pair = ClockPair { monotonic: now, wall_us: 1_000_000 };
        assert_eq!(pair.wall_us_at(now + Duration::from_micros(7)), 1_000_007);
        assert_eq!(pair.wall_us_at(now - Duration::from_micros(7)), 999_993);
    }

    /// O2: a request's start is its distance to now before the wall clock
    #[test]
    fn the_start_is_before_now() {
        let now = clock::now();
        let [late, early] = [now, now - Duration::from_millis(250)].map(|at| start_us(at, now));
        assert_eq!(late - early, 250_000);
    }
}
