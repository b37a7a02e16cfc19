//! The only source of time.
//!
//! Only shells and handles read the clock; the state machines below them take `now` as an argument. The clock is
//! tokio's, so tests can pause and advance it. Wall-clock time is for log lines, signatures and HTTP dates: no policy
//! decision depends on it.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The current monotonic time.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The current wall-clock time.
#[expect(clippy::disallowed_methods, reason = "the only call")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// The time of CLOCK_MONOTONIC, which is the same in all processes of the machine.
pub fn monotonic() -> Duration {
    // The clock never fails and is never negative (clock_gettime(2)).
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// Whole nanoseconds from `origin` to `at`: 0 if `at` is earlier, `u64::MAX` if they do not fit.
pub(crate) fn nanos_between(origin: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX)
}

/// Reads of the clock among which the shortest is kept.
const ANCHOR_READS: usize = 8;
/// A time from another process counts as at most this far in the future.
const FUTURE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How the instants of this process relate to `CLOCK_MONOTONIC`, which the processes of a machine share. Instants cannot cross
/// to another process, nanoseconds of that clock can. Each conversion errs by the time of one read, and to the later side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MonotonicClock {
    /// The clock before and after `instant` was read.
    before: u64,
    after: u64,
    instant: Instant,
}

/// The relation, read once in this process.
pub(crate) fn monotonic_clock() -> MonotonicClock {
    static CLOCK: OnceLock<MonotonicClock> = OnceLock::new();
    *CLOCK.get_or_init(|| {
        let reads = std::iter::repeat_with(MonotonicClock::read).take(ANCHOR_READS);
        reads.min_by_key(|read| read.after.saturating_sub(read.before)).unwrap_or_else(MonotonicClock::read)
    })
}

impl MonotonicClock {
    fn read() -> Self {
        let nanos = || u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX);
        let before = nanos();
        // The real time, also where tests pause the clock of tokio: the relation is one of the process.
        #[expect(clippy::disallowed_methods, reason = "the only call")]
        let instant = Instant::now();
        Self { before, instant, after: nanos() }
    }

    /// An instant as nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        let later = self.after.saturating_add(nanos_between(self.instant, at));
        later.saturating_sub(nanos_between(at, self.instant))
    }

    /// Nanoseconds of `CLOCK_MONOTONIC` as an instant.
    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        let later = Duration::from_nanos(nanos.saturating_sub(self.before));
        let earlier = Duration::from_nanos(self.before.saturating_sub(nanos));
        let at = self.instant.checked_sub(earlier).unwrap_or(self.instant);
        at + later.min(FUTURE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G8: an instant that crosses to another process is the same one, and never an earlier one
    #[test]
    fn instants_cross_as_nanoseconds() {
        let clock = monotonic_clock();
        let t0 = now();
        for offset in [0, 1, 1_000, 5_000_000_000, 3_600_000_000_000] {
            let at = t0 + Duration::from_nanos(offset);
            let crossed = clock.instant(clock.nanos(at));
            assert!(crossed >= at && crossed < at + Duration::from_millis(5), "{offset}");
        }
        assert!(clock.instant(u64::MAX) <= t0 + FUTURE_MAX && clock.instant(0) <= t0);
    }
}
