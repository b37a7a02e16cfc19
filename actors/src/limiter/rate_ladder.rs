//! One rate limit at many rates at once, to find the lowest rate that refuses few requests (`tidegate simulate --suggest`).
//!
//! Each rate has the burst of one second, as a limit without a configured burst. The rates are the E24 series of IEC 60063, so neighbours
//! differ by 10 % and the numbers are short.

use std::num::NonZeroU32;

use tidegate_config::{LimitMode, RateLimit};

use crate::limiter::gcra::Gcra;

/// The E24 series, in tenths.
const SERIES: [u32; 24] =
    [10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30, 33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91];
/// Decades: from 0.1 to 910,000 requests per second.
const DECADES: u32 = 7;
/// Number of rates.
const RATES: usize = SERIES.len() * DECADES as usize;

/// The limits at all rates, and what each has refused.
#[derive(Debug)]
pub struct RateLadder {
    limits: Vec<(RateLimit, Gcra)>,
    refused: Vec<u64>,
}

/// The arrival times of one key of a limit, at each rate.
#[derive(Debug, Clone)]
pub struct LadderKey(Box<[u64; RATES]>);

impl Default for LadderKey {
    fn default() -> Self {
        Self(Box::new([0; RATES]))
    }
}

impl Default for RateLadder {
    fn default() -> Self {
        // Whole numbers by 100, so that each rate is the nearest to its decimal text.
        let decade = |exponent: u32| SERIES.map(|tenths| f64::from(tenths * 10_u32.pow(exponent)) / 100.0);
        let limit = |requests_per_second: f64| {
            let burst = burst(requests_per_second);
            let limit = RateLimit { requests_per_second, burst, mode: LimitMode::Enforce };
            (limit, Gcra::new(limit))
        };
        let limits = (0..DECADES).flat_map(decade).map(limit).collect();
        Self { limits, refused: vec![0; RATES] }
    }
}

/// The burst of a limit without one, see `rate_limit.burst`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below a million")]
fn burst(requests_per_second: f64) -> NonZeroU32 {
    NonZeroU32::new(requests_per_second as u32).unwrap_or(NonZeroU32::MIN)
}

impl RateLadder {
    /// Charges a request to a key at every rate. `now` is in nanoseconds.
    pub fn charge(&mut self, key: &mut LadderKey, cost: u32, now: u64) {
        for (((_, gcra), tat), refused) in self.limits.iter().zip(key.0.iter_mut()).zip(&mut self.refused) {
            match gcra.next_tat((*tat).into(), cost, now) {
                Ok(next) => *tat = next.at,
                Err(_) => *refused += 1,
            }
        }
    }

    /// The lowest rate that has refused at most `refused_max` requests, as all higher rates did: rate, burst, refused.
    pub fn lowest(&self, refused_max: u64) -> Option<(f64, u32, u64)> {
        let fits =
            self.limits.iter().zip(&self.refused).rev().take_while(|(_, refused)| **refused <= refused_max);
        fits.last().map(|((limit, _), refused)| (limit.requests_per_second, limit.burst.get(), *refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L1: a steady stream of 100 requests per second fits the next rate of the series and not the one below
    #[test]
    fn the_lowest_rate_is_found() {
        let (mut ladder, mut key) = (RateLadder::default(), LadderKey::default());
        for at in 0..10_000_u64 {
            ladder.charge(&mut key, 1, at * 10_000_000);
        }
        let (rate, burst, refused) = ladder.lowest(10).unwrap();
        assert!((99.0..=110.0).contains(&rate) && burst >= 99 && refused <= 10, "{rate} {burst} {refused}");
        let (lower, _, refused) = ladder.lowest(2_000).unwrap();
        assert!(lower < rate && refused > 10);
        assert_eq!(RateLadder::default().lowest(0).map(|(rate, burst, _)| (rate, burst)), Some((0.1, 1)));
    }
}
