//! A histogram of latencies with atomic counters, so that requests count without a message to the actor.
//!
//! Eight slots per power of two: the median is exact to 1/8, finer than any decision based on it. A sample costs one
//! atomic increment. Latencies above 19 hours count in the last slot.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const EXACT: u64 = 16;
const EXPONENT_MAX: u32 = 35;
const SLOTS: usize = 272;

/// Counts by latency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LatencyHistogram([u32; SLOTS]);

/// The same with atomic counters.
#[derive(Debug)]
pub(crate) struct SharedLatencyHistogram([AtomicU32; SLOTS]);

fn slot(latency: Duration) -> usize {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min((1 << (EXPONENT_MAX + 1)) - 1);
    if us < EXACT {
        return us as usize;
    }
    let exponent = us.ilog2();
    EXACT as usize + (exponent as usize - 4) * 8 + (us >> (exponent - 3) & 7) as usize
}

/// The lower bound of a slot; for the slot after the last, the upper bound of the last.
fn lower_us(slot: usize) -> f64 {
    match slot.checked_sub(EXACT as usize) {
        None => slot as f64,
        Some(above) => ((8 + above as u64 % 8) << (above / 8 + 1)) as f64,
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self([0; SLOTS])
    }
}

impl LatencyHistogram {
    pub(crate) fn count(&self) -> u32 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The median in microseconds; none without samples.
    pub(crate) fn median_us(&self) -> Option<f64> {
        let middle = f64::from(self.count()) / 2.0;
        let mut below = 0.0;
        for (slot, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            if below + count >= middle {
                let (from, to) = (lower_us(slot), lower_us(slot + 1));
                return Some(from + (to - from) * (middle - below) / count);
            }
            below += count;
        }
        None
    }

    /// Approximate sum of all latencies.
    pub(crate) fn sum_us(&self) -> f64 {
        let middle = |slot| f64::midpoint(lower_us(slot), lower_us(slot + 1));
        self.0.iter().enumerate().map(|(slot, count)| f64::from(*count) * middle(slot)).sum()
    }

    #[cfg(test)]
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0[slot(latency)] += 1;
    }
}

impl SharedLatencyHistogram {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    pub(crate) fn record(&self, latency: Duration) {
        self.0[slot(latency)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(count.load(Ordering::Relaxed)))
    }

    /// Moves the counts out and resets the counters.
    pub(crate) fn drain_counts(&self) -> LatencyHistogram {
        let drain = |count: &AtomicU32| match count.load(Ordering::Relaxed) {
            0 => 0,
            _ => count.swap(0, Ordering::Relaxed),
        };
        LatencyHistogram(std::array::from_fn(|slot| drain(&self.0[slot])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P7: slots neither overlap nor leave gaps, and the longest latency has a slot
    #[test]
    fn every_latency_has_a_slot_of_its_size() {
        for us in (0..4_000).chain([65_535, 65_536, 1_000_003, 40_000_000, u64::from(u32::MAX) * 9]) {
            let slot = slot(Duration::from_micros(us));
            assert!(lower_us(slot) <= us as f64 && (us as f64) < lower_us(slot + 1), "{us} in {slot}");
        }
        assert_eq!(slot(Duration::MAX), SLOTS - 1);
    }

    /// P7: the median is exact to 1/8, and draining resets the counters
    #[test]
    fn the_median_is_in_the_middle() {
        let shared = SharedLatencyHistogram::new();
        assert_eq!(shared.drain_counts().median_us(), None);
        for ms in [5, 20, 20, 20, 900] {
            shared.record(Duration::from_millis(ms));
        }
        assert_eq!(shared.count(), 5);
        let drained = shared.drain_counts();
        let (median, sum) = (drained.median_us().unwrap(), drained.sum_us());
        assert!(
            (median / 20_000.0 - 1.0).abs() < 0.125 && (sum / 965_000.0 - 1.0).abs() < 0.07,
            "{median} {sum}"
        );
        assert_eq!(shared.count(), 0);
    }
}
