//! The highest used share of each burst since it was last read, for advice on the limits. No decision reads it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limiter::gcra::Gcra;

/// The peak of one limit.
#[derive(Debug)]
pub(super) struct BurstPeak {
    /// How far the arrival time was ahead, in nanoseconds.
    ahead: AtomicU64,
    tolerance: u64,
}

impl BurstPeak {
    pub(super) fn new(gcra: &Gcra) -> Self {
        Self { ahead: AtomicU64::new(0), tolerance: gcra.tolerance }
    }

    /// Records how far the arrival time is ahead after a charge.
    pub(super) fn record(&self, ahead: u64) {
        // A load is cheaper than a read-modify-write, and most charges are below the peak.
        if ahead > self.ahead.load(Ordering::Relaxed) {
            self.ahead.fetch_max(ahead, Ordering::Relaxed);
        }
    }

    /// The used share of the burst, from 0 to 1; the peak starts again.
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub(super) fn take(&self) -> f64 {
        let ahead = self.ahead.swap(0, Ordering::Relaxed);
        (ahead as f64 / self.tolerance.max(1) as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::{LimitMode, RateLimit};

    use super::*;
    use crate::limiter::tat::Tat;

    /// G2: the peak is the highest share of the burst, and starts again when it is read
    #[test]
    fn the_highest_share_is_kept() {
        let limit =
            RateLimit { requests_per_second: 10.0, burst: 10.try_into().unwrap(), mode: LimitMode::Enforce };
        let gcra = Gcra::new(limit);
        let peak = BurstPeak::new(&gcra);
        assert_eq!(peak.take(), 0.0);
        let ahead = |cost| gcra.next_tat(Tat::default(), cost, 0).unwrap().at;
        [ahead(4), ahead(1), 0].into_iter().for_each(|ahead| peak.record(ahead));
        assert_eq!(peak.take(), 0.4);
        assert_eq!(peak.take(), 0.0);
    }
}
