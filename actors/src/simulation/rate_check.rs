//! Checks rate limits with a leaky bucket, independently of the product's algorithm.
//!
//! Each admission adds its cost, the rate drains the bucket, and the level never exceeds the burst. That is equivalent
//! to "at most rate · window + burst in any window". Decisions are seen later than they were made and out of order, so
//! they are kept sorted by time until all clients have seen theirs.

use std::collections::HashMap;
use std::hash::Hash;

use tidegate_config::RateLimit;

/// Admissions of one key.
#[derive(Debug, Default)]
struct LeakyBucket {
    /// Time, cost, and level after the admission, by time.
    charges: Vec<(u64, f64, f64)>,
}

impl LeakyBucket {
    /// Adds an admission; returns the highest level from it on.
    fn charge(&mut self, cost: f64, at: u64, per_nanosecond: f64) -> f64 {
        let index = self.charges.partition_point(|(time, ..)| *time <= at);
        self.charges.insert(index, (at, cost, 0.0));
        let mut highest: f64 = 0.0;
        for i in index..self.charges.len() {
            let (time, cost, _) = self.charges[i];
            let before = match i.checked_sub(1).map(|before| self.charges[before]) {
                Some((earlier, _, level)) => (level - nanoseconds(time - earlier) * per_nanosecond).max(0.0),
                None => 0.0,
            };
            self.charges[i].2 = before + cost;
            highest = highest.max(before + cost);
        }
        highest
    }

    /// Drops earlier admissions; none can arrive any more.
    fn discard_history(&mut self) {
        if let Some(last) = self.charges.pop() {
            self.charges.clear();
            self.charges.push(last);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "days in nanoseconds fit")]
fn nanoseconds(span: u64) -> f64 {
    span as f64
}

/// One limit with its keys.
#[derive(Debug)]
pub(super) struct RateCheck<K> {
    per_nanosecond: f64,
    burst: f64,
    keys: HashMap<K, LeakyBucket>,
}

impl<K: Eq + Hash + Copy + std::fmt::Debug> RateCheck<K> {
    pub(super) fn new(limit: RateLimit) -> Self {
        let burst = limit.burst.get();
        Self {
            per_nanosecond: limit.requests_per_second / 1e9,
            burst: f64::from(burst) + 1e-3,
            keys: HashMap::new(),
        }
    }

    /// Records an admission; fails if the limit is exceeded.
    pub(super) fn record_admitted(&mut self, key: K, cost: u32, at: u64) -> Result<(), String> {
        let level = self.keys.entry(key).or_default().charge(f64::from(cost), at, self.per_nanosecond);
        if level <= self.burst {
            return Ok(());
        }
        Err(format!("{key:?}: level {level:.3}, burst {:.3}", self.burst))
    }

    pub(super) fn discard_history(&mut self) {
        self.keys.values_mut().for_each(LeakyBucket::discard_history);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::LimitMode;

    use super::*;

    fn rates() -> RateCheck<u8> {
        RateCheck::new(RateLimit {
            requests_per_second: 10.0,
            burst: 2.try_into().unwrap(),
            mode: LimitMode::Enforce,
        })
    }

    /// L1: the burst, then the rate, in any order of reports
    #[test]
    fn more_than_the_burst_is_found_in_any_order() {
        let mut in_order = rates();
        assert!(in_order.record_admitted(1, 1, 0).is_ok() && in_order.record_admitted(1, 1, 0).is_ok());
        assert!(in_order.record_admitted(2, 1, 0).is_ok(), "another key");
        assert!(in_order.record_admitted(1, 1, 100_000_000).is_ok());
        in_order.discard_history();
        assert!(in_order.record_admitted(1, 1, 150_000_000).is_err());
        let mut out_of_order = rates();
        assert!(
            out_of_order.record_admitted(1, 1, 50_000_000).is_ok()
                && out_of_order.record_admitted(1, 1, 60_000_000).is_ok()
        );
        assert!(out_of_order.record_admitted(1, 1, 0).is_err(), "the first of three within 60 ms");
    }
}
