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

thread_local! {
    static CLOCKS: Cell<Option<ClockPair>> = const { Cell::new(None) };
}

/// Microseconds from 1970 to the start of a request that took `total` until now.
pub(super) fn start_us(total: Duration, now: Instant) -> u64 {
    let age =
        |pair: &ClockPair| now.checked_duration_since(pair.monotonic).filter(|age| *age < RENEWED_AFTER);
    let pair = CLOCKS.get().and_then(|pair| Some((pair, age(&pair)?)));
    let (pair, age) = pair.unwrap_or_else(|| {
        let wall = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let pair = ClockPair { monotonic: now, wall_us: micros(wall) };
        CLOCKS.set(Some(pair));
        (pair, Duration::ZERO)
    });
    pair.wall_us.saturating_add(micros(age)).saturating_sub(micros(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O2: a pair of clocks is used for a second, and times before and after it are exact
    #[test]
    fn times_are_relative_to_the_pair() {
        let now = clock::now();
        CLOCKS.set(Some(ClockPair { monotonic: now, wall_us: 1_000_000 }));
        let at = |micros| now + Duration::from_micros(micros);
        assert_eq!(start_us(Duration::ZERO, at(7)), 1_000_007);
        assert_eq!(start_us(Duration::from_micros(9), at(7)), 999_998);
        assert_eq!(start_us(Duration::ZERO, at(999_999)), 1_999_999);
        assert!(start_us(Duration::ZERO, at(1_000_000)) > 1_700_000_000_000_000, "the wall clock was read");
    }

    /// O2: the start of a request is its duration before now
    #[test]
    fn the_start_is_before_now() {
        let now = clock::now();
        let [late, early] = [0, 250].map(|millis| start_us(Duration::from_millis(millis), now));
        assert_eq!(late - early, 250_000);
    }
}
