//! One limit in nanoseconds: the generic cell rate algorithm, a timestamp per key.
//!
//! A request that costs `n` moves the theoretical arrival time by `n` intervals, and is admitted while that stays within the
//! burst. Everything is in whole nanoseconds, the interval rounded up: rounded down, a high rate would let more pass than
//! was set (1.4 ns of 142.9 are one percent).

use std::time::{Duration, Instant};

use tidegate_config::{LimitMode, RateLimit};

use crate::limiter::lease::LEASE_TTL;
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};

/// Nanoseconds since the limiter was made: a theoretical arrival time.
pub(super) type Tat = u64;

#[expect(clippy::cast_possible_truncation, reason = "milliseconds")]
const LEASE_NANOS: u64 = LEASE_TTL.as_nanos() as u64;

/// One limit in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gcra {
    limit: RateLimit,
    /// Between two tokens at the rate.
    interval: u64,
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
        let interval = (1e9 / limit.requests_per_second).ceil().max(1.0) as u64;
        Self { limit, interval, tolerance: interval.saturating_mul(u64::from(limit.burst.get())) }
    }

    /// Whether it only counts whom it would refuse.
    pub(super) fn is_shadow(&self) -> bool {
        self.limit.mode == LimitMode::Shadow
    }

    /// The arrival time after a request that costs so much, or for how long it does not fit.
    pub(super) fn next_tat(&self, tat: Tat, cost: u32, now: u64) -> Result<Tat, u64> {
        let next = tat.max(now) + u64::from(cost) * self.interval;
        let earliest = next.saturating_sub(self.tolerance);
        if earliest <= now { Ok(next) } else { Err(earliest - now) }
    }

    /// What comes of a request that only this limit has a say in: its next arrival time, none where a shadow would have refused.
    pub(super) fn check(
        &self,
        scope: LimitScope,
        tat: Tat,
        cost: u32,
        sends_headers: bool,
        now: u64,
    ) -> Result<(Option<Tat>, Allowed), LimitStatus> {
        match self.next_tat(tat, cost, now) {
            Ok(next) => {
                let tightest =
                    (sends_headers && !self.is_shadow()).then(|| self.status_after(scope, next, now));
                Ok((Some(next), Allowed { tightest, ..Allowed::default() }))
            }
            Err(_) if self.is_shadow() => Ok((None, Allowed::shadowed(scope))),
            Err(wait) => Err(self.status(scope, tat, wait, now)),
        }
    }

    /// How many tokens more may be charged in advance: nothing unless half of the burst is left then.
    pub(super) fn leasable(&self, tat: Tat, now: u64) -> u32 {
        let ahead = tat.max(now + LEASE_NANOS) - now;
        if ahead > self.tolerance / 2 { 0 } else { self.limit.burst.get() / 2000 }
    }

    /// Charges tokens in advance, as if they were used when their lease ends: used before that, they are never more than
    /// the limit allows, see `lease.rs`.
    pub(super) fn charge_lease(&self, tat: Tat, tokens: u32, now: u64) -> Tat {
        if tokens == 0 { tat } else { tat.max(now + LEASE_NANOS) + u64::from(tokens) * self.interval }
    }

    /// What a client is told who must wait so long.
    pub(super) fn status(&self, scope: LimitScope, tat: Tat, wait: u64, now: u64) -> LimitStatus {
        let ahead = tat.saturating_sub(now);
        let remaining = self.tolerance.saturating_sub(ahead) / self.interval;
        LimitStatus {
            scope,
            burst: self.limit.burst.get(),
            requests_per_second: self.limit.requests_per_second,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            retry_after: Duration::from_nanos(wait),
        }
    }

    /// What a client is told who was admitted: more is there when the next token is.
    pub(super) fn status_after(&self, scope: LimitScope, tat: Tat, now: u64) -> LimitStatus {
        let ahead = tat.saturating_sub(now);
        let wait = if ahead == 0 { 0 } else { (ahead - 1) % self.interval + 1 };
        self.status(scope, tat, wait, now)
    }
}

/// Nanoseconds from `origin` to `now`.
pub(super) fn nanos(origin: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gcra(requests_per_second: f64, burst: u32) -> Gcra {
        let burst = burst.try_into().unwrap();
        Gcra::new(RateLimit { requests_per_second, burst, mode: LimitMode::Enforce })
    }

    /// L2: neither the rate nor the burst is rounded up, however high they are
    #[test]
    fn rounding_never_adds_a_token() {
        for rate in [0.001, 3.0, 7.0, 700_000.0, 7_000_000.0, 9_999_999.0] {
            let gcra = gcra(rate, 10_000_000);
            let full = gcra.next_tat(0, 10_000_000, 0).unwrap();
            assert!(gcra.next_tat(full, 1, 0).is_err(), "{rate}: one beyond the burst");
            let interval = gcra.next_tat(0, 1, 0).unwrap();
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let given = 1e9 / interval as f64;
            assert!(given <= rate * (1.0 + 1e-12) && given > rate * 0.99, "{given} of {rate}");
        }
    }

    proptest! {
        /// L1: who comes back when he was told to is admitted, a nanosecond earlier he is not, whatever his request costs
        #[test]
        fn the_wait_is_true(
            rate in 0.01..1e6f64, burst in 1u32..5000, spent in 1u32..5000, cost in 1u32..1000,
        ) {
            let gcra = gcra(rate, burst);
            let (spent, cost) = (spent.min(burst), cost.min(burst));
            let tat = gcra.next_tat(0, spent, 0).unwrap();
            prop_assert_eq!(gcra.status_after(LimitScope::Ip, tat, 0).remaining, burst - spent);
            match gcra.next_tat(tat, cost, 0) {
                Ok(_) => prop_assert!(spent + cost <= burst),
                Err(wait) => {
                    prop_assert!(spent + cost > burst);
                    prop_assert!(gcra.next_tat(tat, cost, wait).is_ok());
                    prop_assert!(gcra.next_tat(tat, cost, wait - 1).is_err());
                }
            }
            let more = gcra.status_after(LimitScope::Ip, tat, 0).retry_after;
            let later = u64::try_from(more.as_nanos()).unwrap();
            prop_assert_eq!(gcra.status_after(LimitScope::Ip, tat, later).remaining, burst - spent + 1);
            prop_assert_eq!(gcra.status_after(LimitScope::Ip, tat, later - 1).remaining, burst - spent);
        }
    }
}
