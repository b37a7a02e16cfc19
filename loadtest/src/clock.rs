//! The only module of this crate that reads the clocks.
//!
//! Instants are those of tokio's clock, so that timers and measurements agree. Only signatures need the time of day.

use std::time::{Duration, Instant, SystemTime};

/// The current time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time of day, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "signatures have the time of day")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A duration in milliseconds, the unit of every reported latency.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Date and time of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UtcTime {
    pub(crate) year: u64,
    pub(crate) month: u64,
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
}

impl UtcTime {
    /// From seconds since 1970, by the civil calendar with years that begin in March.
    pub(crate) fn of(unix_seconds: u64) -> Self {
        let (days, of_day) = (unix_seconds / 86_400 + 719_468, unix_seconds % 86_400);
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            hour: of_day / 3_600,
            minute: of_day % 3_600 / 60,
            second: of_day % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let of = |seconds| {
            let UtcTime { year, month, day, hour, minute, second } = UtcTime::of(seconds);
            [year, month, day, hour, minute, second]
        };
        assert_eq!(of(0), [1970, 1, 1, 0, 0, 0]);
        assert_eq!(of(951_782_399), [2000, 2, 28, 23, 59, 59]);
        assert_eq!(of(951_782_400), [2000, 2, 29, 0, 0, 0]);
        assert_eq!(of(1_767_323_045), [2026, 1, 2, 3, 4, 5]);
        assert_eq!(of(4_102_444_799), [2099, 12, 31, 23, 59, 59]);
    }
}
