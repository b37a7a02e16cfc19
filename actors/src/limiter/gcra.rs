//! The generic cell rate algorithm (GCRA) of one limit: one timestamp per key.
//!
//! A request that costs `n` tokens moves the theoretical arrival time (TAT) by `n` intervals. It is admitted if the
//! TAT stays within the burst. All times are whole nanoseconds. The interval is rounded up: rounded down, a high rate
//! would admit more than configured (1.4 ns of 142.9 ns are one percent).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_config::{LimitMode, RateLimit};

use crate::limiter::lease::LEASE_TTL;
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::tat::Tat;

#[expect(clippy::cast_possible_truncation, reason = "milliseconds")]
pub(super) const LEASE_NANOS: u64 = LEASE_TTL.as_nanos() as u64;

/// The highest burst of a configuration, in tokens.
const BURST_MAX: u64 = 10_000_000;

/// Rate and burst of a limit, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pace {
    /// Time between two tokens.
    interval: u64,
    /// How far the arrival time may be ahead of now.
    tolerance: u64,
}

impl Pace {
    /// The arrival times under this limit, which replaces `old`. The tokens in use stay in use: `at` counts at most the whole burst of
    /// them, `uncapped` all.
    ///
    /// `lease_left` is the remaining time of leases that `old` granted. It is added because a faster rate would shorten
    /// the time that these leases have paid for. If no token becomes free by the change, the arrival times stay.
    pub(super) fn convert(self, old: Self, tat: Tat, lease_left: u64, now: u64) -> Tat {
        let ahead = tat.uncapped.saturating_sub(now);
        if ahead == 0 {
            return tat;
        }
        let uncapped = if self.interval == old.interval {
            tat.uncapped
        } else {
            let ahead =
                (u128::from(ahead) * u128::from(self.interval)).div_ceil(u128::from(old.interval.max(1)));
            now.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX)).saturating_add(lease_left)
        };
        let burst_end = now.saturating_add(self.tolerance).saturating_add(lease_left);
        Tat { at: uncapped.min(burst_end), uncapped }
    }
}

/// One limit in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gcra {
    limit: RateLimit,
    /// Time between two tokens at the configured rate.
    interval: u64,
    /// How far the arrival time may be ahead of now: `burst` intervals.
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

    /// Rate and burst, with which arrival times cross to another process.
    pub(super) fn pace(&self) -> Pace {
        Pace { interval: self.interval, tolerance: self.tolerance }
    }

    /// Whole tokens that are free.
    fn free(&self, tat: Tat, now: u64) -> u64 {
        self.tolerance.saturating_sub(tat.ahead(now)) / self.interval
    }

    /// The time of the tokens that a predecessor keeps after a hand-over: one for each of its connections, at most half of the
    /// free ones.
    fn kept(&self, tat: Tat, connections: u64, now: u64) -> u64 {
        connections.min(self.free(tat, now) / 2) * self.interval
    }

    /// The arrival time that crosses to a successor: the tokens that the predecessor keeps are used.
    pub(super) fn debited(&self, tat: Tat, connections: u64, now: u64) -> Tat {
        match self.kept(tat, connections, now) {
            0 => tat,
            kept => tat.charged(kept, now),
        }
    }

    /// The arrival time at the predecessor, at which its clock stops: only the tokens that it keeps are free.
    pub(super) fn frozen(&self, tat: Tat, connections: u64, now: u64) -> Tat {
        let at = now.saturating_add(self.tolerance).saturating_sub(self.kept(tat, connections, now));
        Tat { at, uncapped: tat.uncapped.max(at) }
    }

    /// The arrival time after the clock stopped at `stopped` and goes on. `before` is the time at the stop, `tat` that at the end.
    pub(super) fn thawed(&self, before: Tat, tat: Tat, (connections, stopped): (u64, u64), now: u64) -> Tat {
        match tat.at.saturating_sub(self.frozen(before, connections, stopped).at) {
            0 => before,
            // Used at the latest possible time.
            used => before.charged(used, now),
        }
    }

    /// The arrival time at which at most this many tokens are free.
    pub(super) fn lowered(&self, tat: Tat, tokens: u64, now: u64) -> Tat {
        let free_max = tokens.saturating_mul(self.interval).min(self.tolerance);
        tat.latest(Tat::from(now.saturating_add(self.tolerance - free_max)))
    }

    /// The arrival time with the burst spent as of now.
    pub(super) fn spent(&self, tat: Tat, now: u64) -> Tat {
        let at = now.saturating_add(self.tolerance);
        Tat { at, uncapped: tat.uncapped.max(at) }
    }

    /// Whether both limits have the same rate and burst, so that arrival times have the same meaning.
    pub(super) fn has_pace_of(&self, other: &Self) -> bool {
        (self.interval, self.tolerance) == (other.interval, other.tolerance)
    }

    /// The arrival times of a predecessor's limit under this one, as how far they are ahead `elapsed` nanoseconds after they were
    /// `ahead`.
    pub(super) fn imported(&self, pace: Pace, ahead: u64, lease_left: u64, elapsed: u64) -> Tat {
        let lease_left = lease_left.min(LEASE_NANOS).saturating_sub(elapsed);
        let tat = self.pace().convert(pace, Tat::from(ahead), lease_left, elapsed);
        let left =
            |time: u64, bound: u64| time.saturating_sub(elapsed).min(bound.saturating_add(LEASE_NANOS));
        let uncapped_max = self.interval.saturating_mul(BURST_MAX);
        Tat { at: left(tat.at, self.tolerance), uncapped: left(tat.uncapped, uncapped_max) }
    }

    /// Whether the limit is in shadow mode: it counts what it would refuse and refuses nothing.
    pub(super) fn is_shadow(&self) -> bool {
        self.limit.mode == LimitMode::Shadow
    }

    /// The arrival time after a request of this cost, or the time until it fits.
    pub(super) fn next_tat(&self, tat: Tat, cost: u32, now: u64) -> Result<Tat, u64> {
        let next = tat.charged(u64::from(cost) * self.interval, now);
        let earliest = next.at.saturating_sub(self.tolerance);
        if earliest <= now { Ok(next) } else { Err(earliest - now) }
    }

    /// Checks a request against this limit alone. The arrival time is none if a shadow limit would have refused.
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
            Err(wait) => {
                let refusal = self.status(scope, tat, wait, now);
                if self.is_shadow() { Ok((None, Allowed::shadowed(refusal))) } else { Err(refusal) }
            }
        }
    }

    /// Tokens that may be leased: none unless half of the burst is left afterwards.
    pub(super) fn leasable(&self, tat: Tat, now: u64) -> u32 {
        let ahead = tat.ahead(now).max(LEASE_NANOS);
        if ahead > self.tolerance / 2 { 0 } else { self.limit.burst.get() / 2000 }
    }

    /// Charges leased tokens as if they were used at the end of the lease, see `lease.rs`.
    pub(super) fn charge_lease(&self, tat: Tat, tokens: u32, now: u64) -> Tat {
        if tokens == 0 { tat } else { tat.charged(u64::from(tokens) * self.interval, now + LEASE_NANOS) }
    }

    /// The status of a refused request that fits after `wait` nanoseconds.
    pub(super) fn status(&self, scope: LimitScope, tat: Tat, wait: u64, now: u64) -> LimitStatus {
        let ahead = tat.ahead(now);
        let remaining = self.tolerance.saturating_sub(ahead) / self.interval;
        LimitStatus {
            scope,
            burst: self.limit.burst.get(),
            requests_per_second: self.limit.requests_per_second,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            retry_after: Duration::from_nanos(wait),
        }
    }

    /// The status of an admitted request. `retry_after` is the time until the next token.
    pub(super) fn status_after(&self, scope: LimitScope, tat: Tat, now: u64) -> LimitStatus {
        let ahead = tat.ahead(now);
        let wait = if ahead == 0 { 0 } else { (ahead - 1) % self.interval + 1 };
        self.status(scope, tat, wait, now)
    }
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
            let full = gcra.next_tat(Tat::default(), 10_000_000, 0).unwrap();
            assert!(gcra.next_tat(full, 1, 0).is_err(), "{rate}: one beyond the burst");
            let interval = gcra.next_tat(Tat::default(), 1, 0).unwrap().at;
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let given = 1e9 / interval as f64;
            assert!(given <= rate * (1.0 + 1e-12) && given > rate * 0.99, "{given} of {rate}");
        }
    }

    proptest! {
        /// L1: a request is admitted after `retry_after` and not a nanosecond earlier, whatever its cost
        #[test]
        fn retry_after_is_exact(
            rate in 0.01..1e6f64, burst in 1u32..5000, spent in 1u32..5000, cost in 1u32..1000,
        ) {
            let gcra = gcra(rate, burst);
            let (spent, cost) = (spent.min(burst), cost.min(burst));
            let tat = gcra.next_tat(Tat::default(), spent, 0).unwrap();
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
