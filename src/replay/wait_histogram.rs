//! Waits in a queue, in classes that grow by an eighth, so that a percentile is exact to 12.5 %.

use std::time::Duration;

/// Classes: 8 for each power of two of microseconds.
const CLASSES: usize = 64 * 8;

/// A histogram of waits. It allocates with the first wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct WaitHistogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl WaitHistogram {
    pub(crate) fn observe(&mut self, wait: Duration) {
        self.total += 1;
        if wait.is_zero() {
            return;
        }
        self.max = self.max.max(wait);
        if self.counts.is_empty() {
            self.counts = vec![0; CLASSES];
        }
        self.counts[class(micros(wait))] += 1;
    }

    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    /// The upper bound of the class in which this share of all waits ends.
    pub(crate) fn quantile(&self, thousandths: u64) -> Duration {
        let mut above = self.total.saturating_mul(1000 - thousandths.min(1000)) / 1000;
        for (class, count) in self.counts.iter().enumerate().rev() {
            if *count > above {
                return Duration::from_micros(upper_bound(class)).min(self.max);
            }
            above -= count;
        }
        Duration::ZERO
    }
}

fn micros(wait: Duration) -> u64 {
    u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)
}

fn class(micros: u64) -> usize {
    let micros = micros.max(8);
    let power = 63 - micros.leading_zeros();
    let eighth = (micros >> (power - 3)) & 7;
    (power as usize * 8 + usize::try_from(eighth).unwrap_or(0)).min(CLASSES - 1)
}

fn upper_bound(class: usize) -> u64 {
    let (power, eighth) = (class / 8, class as u128 % 8);
    u64::try_from((9 + eighth) << power.saturating_sub(3)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Percentiles are exact to an eighth, and most requests do not wait.
    #[test]
    fn percentiles_are_close() {
        let mut waits = WaitHistogram::default();
        (0..900).for_each(|_| waits.observe(Duration::ZERO));
        (1..=100).for_each(|millis| waits.observe(Duration::from_millis(millis)));
        assert_eq!(waits.quantile(500), Duration::ZERO);
        let p99 = waits.quantile(990).as_millis();
        assert!((90..=102).contains(&p99), "{p99}");
        assert_eq!(
            (waits.quantile(1000), waits.max()),
            (Duration::from_millis(100), Duration::from_millis(100))
        );
        for micros in [1, 8, 9, 1_000, 123_456, u64::MAX] {
            assert!(upper_bound(class(micros)) >= micros.min(1 << 62), "{micros}");
        }
    }
}
