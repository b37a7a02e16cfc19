//! A counter of a family that is exposed at 0 only where the configuration lets it count.

use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec};

/// A counter with fixed label values. It is in its family from the start if it can count, else from its first count on.
#[derive(Debug, Clone)]
pub struct LazyCounter {
    family: IntCounterVec,
    labels: Vec<String>,
    counter: OnceLock<IntCounter>,
}

impl LazyCounter {
    /// The counter of `family` with these label values; `can_count` exposes it at 0.
    pub fn new(family: &IntCounterVec, labels: &[&str], can_count: bool) -> Self {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let this = Self { family: family.clone(), labels, counter: OnceLock::new() };
        if can_count {
            this.expose();
        }
        this
    }

    /// Exposes it, at 0 if it has counted nothing.
    pub fn expose(&self) {
        self.counter();
    }

    /// Counts one.
    pub fn inc(&self) {
        self.counter().inc();
    }

    /// What it has counted.
    pub fn get(&self) -> u64 {
        self.counter.get().map_or(0, IntCounter::get)
    }

    fn counter(&self) -> &IntCounter {
        self.counter.get_or_init(|| self.family.with_label_values(&self.labels))
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use prometheus::core::Collector;

    use super::*;

    /// O3: a series at 0 only where it can count, and no count is lost
    #[test]
    fn a_counter_is_exposed_at_zero_or_with_its_first_count() {
        let family = IntCounterVec::new(Opts::new("c_total", "c"), &["bucket"]).unwrap();
        let exposed = || family.collect()[0].get_metric().len();
        let possible = LazyCounter::new(&family, &["a"], true);
        let impossible = LazyCounter::new(&family, &["b"], false);
        assert_eq!(exposed(), 1);
        possible.inc();
        impossible.inc();
        impossible.inc();
        assert_eq!(exposed(), 2);
        assert_eq!(family.with_label_values(&["a"]).get(), 1);
        assert_eq!(family.with_label_values(&["b"]).get(), 2);
    }
}
