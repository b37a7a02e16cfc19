//! The minimum rate at which a client must read a response, as a state machine without I/O (T4, V10).
//!
//! Only the time counts in which bytes of the response wait for the client. Every byte that the client reads earns
//! credit, and passing time spends it; a client without credit is too slow. It must also read one byte within
//! `write_stall_timeout`. Sources: nginx `send_timeout` for the stall, Kestrel's `MinResponseDataRate` for the rate.

use std::num::NonZeroU64;
use std::time::Duration;

use tidegate_config::ServerConfig;

use crate::buffers::cut::Cut;

/// The credit before the first byte.
const GRACE: Duration = Duration::from_secs(5);
/// The most credit, unless `write_stall_timeout` is longer.
const CREDIT_MAX: Duration = Duration::from_secs(60);
/// The time by which full credit lasts longer than a stall: waits are measured in steps of 250 ms.
const CREDIT_SPARE: Duration = Duration::from_secs(1);

/// The longest stall of a client of the admin listener.
const ADMIN_STALL: Duration = Duration::from_secs(10);
/// The minimum rate of a client of the admin listener, in bytes a second.
const ADMIN_RATE: u64 = 1 << 10;

/// The limits for all responses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendLimits {
    bytes_per_second: Option<NonZeroU64>,
    stall: Duration,
    credit_max: Duration,
}

impl SendLimits {
    /// The limits of the admin listener. Its responses are short, and its readers are near.
    pub(crate) fn admin(server: &ServerConfig) -> Self {
        let stall = server.write_stall_timeout.min(ADMIN_STALL);
        Self { bytes_per_second: NonZeroU64::new(ADMIN_RATE), stall, credit_max: CREDIT_MAX }
    }

    /// The longest time without a byte.
    pub(crate) fn stall(&self) -> Duration {
        self.stall
    }

    /// The limits of the data listener.
    pub(crate) fn of(server: &ServerConfig) -> Self {
        Self {
            bytes_per_second: NonZeroU64::new(server.min_send_rate),
            stall: server.write_stall_timeout,
            // With less credit the minimum rate would cut a pause that `write_stall_timeout` allows.
            credit_max: CREDIT_MAX.max(server.write_stall_timeout.saturating_add(CREDIT_SPARE)),
        }
    }
}

/// The pace of one response's client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendPace {
    credit: Duration,
    since_last_byte: Duration,
    /// The time since the credit was full, or since the first byte, in which bytes waited.
    since_full: Duration,
    /// The bytes that the client read in that time.
    bytes_since_full: u64,
}

impl Default for SendPace {
    fn default() -> Self {
        Self {
            credit: GRACE,
            since_last_byte: Duration::ZERO,
            since_full: Duration::ZERO,
            bytes_since_full: 0,
        }
    }
}

impl SendPace {
    /// Adds a time in which bytes waited for the client, and the bytes that it read in that time.
    pub(crate) fn advance(&mut self, waited: Duration, read_bytes: u64, limits: &SendLimits) -> Option<Cut> {
        self.since_last_byte = match read_bytes {
            0 => self.since_last_byte.saturating_add(waited),
            _ => Duration::ZERO,
        };
        if self.since_last_byte >= limits.stall {
            return Some(Cut::stalled(self.since_last_byte, limits.stall));
        }
        if let Some(rate) = limits.bytes_per_second {
            let earned = Duration::from_millis(read_bytes.saturating_mul(1000) / rate);
            let credit = self.credit.saturating_add(earned);
            if credit >= limits.credit_max {
                (self.since_full, self.bytes_since_full) = (Duration::ZERO, 0);
            } else {
                self.bytes_since_full = self.bytes_since_full.saturating_add(read_bytes);
            }
            self.since_full = self.since_full.saturating_add(waited);
            let Some(left) = credit.min(limits.credit_max).checked_sub(waited) else {
                self.credit = Duration::ZERO;
                return Some(Cut::slow(self.bytes_per_second(), rate.get()));
            };
            self.credit = left;
        }
        None
    }

    /// The rate since the credit was full. A client without credit is below the minimum rate in that time.
    fn bytes_per_second(&self) -> u64 {
        let millis = u64::try_from(self.since_full.as_millis()).unwrap_or(u64::MAX).max(1);
        self.bytes_since_full.saturating_mul(1000) / millis
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffers::cut::CutReason;

    const SAMPLE: Duration = Duration::from_millis(250);

    fn limits(bytes_per_second: u64, stall_seconds: u64) -> SendLimits {
        SendLimits::of(&ServerConfig {
            min_send_rate: bytes_per_second,
            write_stall_timeout: Duration::from_secs(stall_seconds),
            ..ServerConfig::default()
        })
    }

    /// The time after which a client is cut that reads these bytes every quarter of a second.
    fn cut_after(limits: &SendLimits, read: impl Iterator<Item = u64>) -> Option<(Duration, CutReason)> {
        let mut pace = SendPace::default();
        read.enumerate().find_map(|(at, bytes)| {
            let at = u32::try_from(at + 1).unwrap();
            let Cut { reason, figures } = pace.advance(SAMPLE, bytes, limits)?;
            let (measured, threshold) = (figures.measured.unwrap(), figures.threshold.unwrap());
            // A stall is as long as its limit or longer. A slow client is below the rate.
            let is_over =
                if reason == CutReason::Slow { measured < threshold } else { measured >= threshold };
            assert!(is_over, "{reason:?}: {figures:?}");
            Some((SAMPLE * at, reason))
        })
    }

    /// V10: one byte per 20 s is too slow after the grace
    #[test]
    fn a_client_that_reads_single_bytes_is_cut_soon() {
        let single_bytes = (0..).map(|at| u64::from(at % 80 == 0));
        let (after, cut) = cut_after(&limits(240, 60), single_bytes.take(1000)).unwrap();
        assert_eq!(cut, CutReason::Slow);
        assert!(after > GRACE && after <= GRACE + Duration::from_secs(1), "{after:?}");
    }

    /// T4, V10: a client that pauses with credit is cut as a stall, after the stall's time, whatever its length
    #[test]
    fn a_paused_client_is_cut_as_a_stall() {
        for stall in [20, 60, 300] {
            let played_then_paused = std::iter::once(10 << 20).chain(std::iter::repeat(0)).take(4000);
            let (after, cut) = cut_after(&limits(240, stall), played_then_paused).unwrap();
            assert_eq!(cut, CutReason::Stalled, "{stall} s");
            assert_eq!(after, Duration::from_secs(stall) + SAMPLE);
        }
    }

    /// V10: credit is at most 60 s, however much the client read before
    #[test]
    fn credit_is_capped() {
        let burst_then_single_bytes = std::iter::once(1 << 40).chain((0..).map(|at| u64::from(at % 40 == 0)));
        let (after, cut) = cut_after(&limits(240, 30), burst_then_single_bytes.take(4000)).unwrap();
        assert_eq!(cut, CutReason::Slow);
        assert!(after >= CREDIT_MAX && after < CREDIT_MAX + Duration::from_secs(2), "{after:?}");
    }

    /// V10: without a rate only the stall counts
    #[test]
    fn without_a_rate_single_bytes_are_enough() {
        assert_eq!(cut_after(&limits(0, 60), (0..).map(|at| u64::from(at % 80 == 0)).take(10_000)), None);
    }

    proptest! {
        /// V10: a client that reads at the rate in every sample is never cut; one that reads at half of it always is,
        /// within the credit
        #[test]
        fn only_clients_below_the_rate_are_cut(rate in 8_u64..1_000_000, spare in 0_u64..1000) {
            let limits = limits(rate, 60);
            let fast = rate.div_ceil(4) + spare;
            prop_assert_eq!(cut_after(&limits, std::iter::repeat_n(fast, 2000)), None);
            let slow = cut_after(&limits, std::iter::repeat_n(rate / 8, 2000));
            prop_assert!(matches!(slow, Some((after, CutReason::Slow)) if after <= CREDIT_MAX));
        }
    }
}
