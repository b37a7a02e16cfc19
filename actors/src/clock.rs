//! The only source of time.
//!
//! Only shells and handles read the clock; the state machines below them take `now` as an argument. The clock is
//! tokio's, so tests can pause and advance it. Wall-clock time is for log lines, signatures and HTTP dates: no policy
//! decision depends on it.

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
