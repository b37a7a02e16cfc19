//! One limit in nanoseconds: the generic cell rate algorithm, a timestamp per key.

use std::time::{Duration, Instant};

use tidegate_config::RateLimit;

use crate::limiter::state::{Limited, Scope};

/// Nanoseconds since the limiter was made: a theoretical arrival time.
pub(super) type Tat = u64;

/// One limit in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gcra {
    limit: RateLimit,
    /// Between two requests at the rate.
    pub(super) interval: u64,
    /// How far the arrival time may run ahead.
    pub(super) tolerance: u64,
}

impl Gcra {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and far below 2^64"
    )]
    pub(super) fn new(limit: RateLimit) -> Self {
        let interval = (1e9 / limit.requests_per_second).max(1.0);
        let tolerance = interval * f64::from(limit.burst.get());
        Self { limit, interval: interval as u64, tolerance: tolerance as u64 }
    }

    /// How many requests more may be charged in advance: nothing unless half of the burst is left.
    pub(super) fn spare(&self, tat: Tat, now: u64) -> u32 {
        let ahead = tat.saturating_sub(now);
        if ahead > self.tolerance / 2 { 0 } else { self.limit.burst.get() / 2000 }
    }

    pub(super) fn next(&self, tat: Tat, now: u64) -> Result<Tat, u64> {
        let next = tat.max(now) + self.interval;
        let earliest = next.saturating_sub(self.tolerance);
        if earliest <= now { Ok(next) } else { Err(earliest - now) }
    }

    pub(super) fn refuse(&self, scope: Scope, wait: u64) -> Limited {
        Limited {
            scope,
            burst: self.limit.burst.get(),
            requests_per_second: self.limit.requests_per_second,
            retry_after: Duration::from_nanos(wait),
            reset_after: Duration::from_nanos(wait + self.tolerance.saturating_sub(self.interval)),
        }
    }
}

/// Nanoseconds from `origin` to `now`.
pub(super) fn nanos(origin: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX)
}
