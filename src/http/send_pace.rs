//! The least rate at which a client takes an answer, as a pure state machine (T4, V10).
//!
//! Only time counts in which bytes of the answer wait for the client. Within it the client earns credit with every byte that it
//! takes and spends it as time passes; without credit it is too slow. Apart from that it must take one byte within
//! `write_stall_timeout`. Sources: nginx `send_timeout` for the stall, Kestrel's `MinResponseDataRate` for the rate.

use std::num::NonZeroU64;
use std::time::Duration;

use tidegate_config::ServerConfig;

/// What a client has before its first byte.
const GRACE: Duration = Duration::from_secs(5);
/// The most credit, unless a stall may last longer.
const CREDIT_MAX: Duration = Duration::from_secs(60);
/// How much longer than a stall full credit lasts: waits are measured in steps of 250 ms.
const CREDIT_SPARE: Duration = Duration::from_secs(1);

/// Why an answer is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutReason {
    /// No byte within `server.write_stall_timeout`.
    Stalled,
    /// Fewer bytes than `server.min_send_rate` asks for.
    Slow,
    /// Its client holds too many places with answers that it does not take.
    Crowding,
    /// Memory is exhausted, and this is one of the heaviest transfers.
    Memory,
}

impl CutReason {
    /// The word in logs and metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Stalled => "write_stall",
            Self::Slow => "slow_client_rate",
            Self::Crowding => "slow_client",
            Self::Memory => "memory_pressure",
        }
    }
}

/// The limits for every answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendLimits {
    bytes_per_second: Option<NonZeroU64>,
    stall: Duration,
    credit_max: Duration,
}

impl SendLimits {
    pub(crate) fn of(server: &ServerConfig) -> Self {
        Self {
            bytes_per_second: NonZeroU64::new(server.min_send_rate),
            stall: server.write_stall_timeout,
            // With less credit the rate would end a pause that `write_stall_timeout` allows.
            credit_max: CREDIT_MAX.max(server.write_stall_timeout.saturating_add(CREDIT_SPARE)),
        }
    }
}

/// How one answer's client keeps up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendPace {
    credit: Duration,
    since_last_byte: Duration,
}

impl Default for SendPace {
    fn default() -> Self {
        Self { credit: GRACE, since_last_byte: Duration::ZERO }
    }
}

impl SendPace {
    /// Accounts for a time in which bytes waited for the client, and for the bytes that it took in that time.
    pub(crate) fn advance(
        &mut self,
        waited: Duration,
        taken_bytes: u64,
        limits: &SendLimits,
    ) -> Option<CutReason> {
        self.since_last_byte = match taken_bytes {
            0 => self.since_last_byte.saturating_add(waited),
            _ => Duration::ZERO,
        };
        if self.since_last_byte >= limits.stall {
            return Some(CutReason::Stalled);
        }
        if let Some(rate) = limits.bytes_per_second {
            let earned = Duration::from_millis(taken_bytes.saturating_mul(1000) / rate);
            let credit = self.credit.saturating_add(earned).min(limits.credit_max);
            let Some(left) = credit.checked_sub(waited) else {
                self.credit = Duration::ZERO;
                return Some(CutReason::Slow);
            };
            self.credit = left;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOOK: Duration = Duration::from_millis(250);

    fn limits(bytes_per_second: u64, stall_seconds: u64) -> SendLimits {
        SendLimits::of(&ServerConfig {
            min_send_rate: bytes_per_second,
            write_stall_timeout: Duration::from_secs(stall_seconds),
            ..ServerConfig::default()
        })
    }

    /// When a client is cut that takes these bytes every quarter of a second.
    fn cut_after(limits: &SendLimits, taken: impl Iterator<Item = u64>) -> Option<(Duration, CutReason)> {
        let mut pace = SendPace::default();
        taken.enumerate().find_map(|(at, bytes)| {
            let at = u32::try_from(at + 1).unwrap();
            pace.advance(LOOK, bytes, limits).map(|cut| (LOOK * at, cut))
        })
    }

    /// V10: one byte per 20 s is too slow after the grace
    #[test]
    fn a_client_that_reads_single_bytes_is_cut_soon() {
        let crumbs = (0..).map(|at| u64::from(at % 80 == 0));
        let (after, cut) = cut_after(&limits(240, 60), crumbs.take(1000)).unwrap();
        assert_eq!(cut, CutReason::Slow);
        assert!(after > GRACE && after <= GRACE + Duration::from_secs(1), "{after:?}");
    }

    /// T4, V10: a player that paused with credit is cut by the stall, after the stall's time, however long that is
    #[test]
    fn a_paused_player_is_cut_as_a_stall() {
        for stall in [20, 60, 300] {
            let played_then_paused = std::iter::once(10 << 20).chain(std::iter::repeat(0)).take(4000);
            let (after, cut) = cut_after(&limits(240, stall), played_then_paused).unwrap();
            assert_eq!(cut, CutReason::Stalled, "{stall} s");
            assert_eq!(after, Duration::from_secs(stall) + LOOK);
        }
    }

    /// V10: credit ends at 60 s, however much the client took before
    #[test]
    fn credit_is_capped() {
        let a_lot_then_crumbs = std::iter::once(1 << 40).chain((0..).map(|at| u64::from(at % 40 == 0)));
        let (after, cut) = cut_after(&limits(240, 30), a_lot_then_crumbs.take(4000)).unwrap();
        assert_eq!(cut, CutReason::Slow);
        assert!(after >= CREDIT_MAX && after < CREDIT_MAX + Duration::from_secs(2), "{after:?}");
    }

    /// V10: without a rate only the stall counts
    #[test]
    fn without_a_rate_crumbs_are_enough() {
        assert_eq!(cut_after(&limits(0, 60), (0..).map(|at| u64::from(at % 80 == 0)).take(10_000)), None);
    }

    proptest! {
        /// V10: whoever takes the rate in every look is never cut; whoever takes half of it always is, within the credit
        #[test]
        fn the_rate_divides_the_slow_from_the_fast(rate in 8_u64..1_000_000, spare in 0_u64..1000) {
            let limits = limits(rate, 60);
            let fast = rate.div_ceil(4) + spare;
            prop_assert_eq!(cut_after(&limits, std::iter::repeat_n(fast, 2000)), None);
            let slow = cut_after(&limits, std::iter::repeat_n(rate / 8, 2000));
            prop_assert!(matches!(slow, Some((after, CutReason::Slow)) if after <= CREDIT_MAX));
        }
    }
}
