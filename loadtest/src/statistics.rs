//! Statistics of a run: a flat map from dotted names to values, and functions that derive statistics from readings.
//!
//! The map is flat because expectations, the table and the JSON file use the same names. A statistic that could not be measured is absent,
//! not zero.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Values by name, such as `overload.clients.p99_ms`.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Statistics(BTreeMap<String, f64>);

impl Statistics {
    /// Sets one value.
    pub(crate) fn set(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), value);
    }

    /// Sets one value if there is one.
    pub(crate) fn set_if_present(&mut self, name: impl Into<String>, value: Option<f64>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// The value of `name`, if it was measured.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// The median of each statistic over several rounds.
    pub(crate) fn median_of_rounds(rounds: &[Self]) -> Self {
        let names = rounds.iter().flat_map(|round| round.0.keys());
        let middle = |name: &String| {
            let values: Vec<_> = rounds.iter().filter_map(|round| round.value(name)).collect();
            Some((name.clone(), median(&values)?))
        };
        Self(names.collect::<BTreeSet<_>>().into_iter().filter_map(middle).collect())
    }

    /// All statistics, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Sets minimum, median, maximum and last of `readings`, which are in order of time. Sets nothing if there are none.
    pub(crate) fn set_spread(&mut self, name: &str, readings: &[f64]) {
        self.set_if_present(format!("{name}_min"), readings.iter().copied().reduce(f64::min));
        self.set_if_present(format!("{name}_median"), median(readings));
        self.set_if_present(format!("{name}_max"), readings.iter().copied().reduce(f64::max));
        self.set_if_present(format!("{name}_last"), readings.last().copied());
    }
}

/// The value below which a share `q` of `readings` lies (nearest rank).
pub(crate) fn percentile(readings: &[f64], q: f64) -> Option<f64> {
    let sorted = sorted(readings);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// The median; the mean of the middle two of an even number.
pub(crate) fn median(readings: &[f64]) -> Option<f64> {
    let sorted = sorted(readings);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

fn sorted(readings: &[f64]) -> Vec<f64> {
    let mut sorted = readings.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Growth of the readings in percent, from the median of the second fifth to that of the last; none below ten readings.
///
/// The first fifth is ignored, because connections, buffers and tables fill during it, which is not a leak.
pub(crate) fn growth_percent(readings: &[f64]) -> Option<f64> {
    let fifth = readings.len() / 5;
    if fifth < 2 {
        return None;
    }
    let early = median(&readings[fifth..2 * fifth])?;
    let late = median(&readings[readings.len() - fifth..])?;
    (early > 0.0).then(|| (late / early - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_readings_by_nearest_rank() {
        let readings: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&readings, 0.5), Some(50.0));
        assert_eq!(percentile(&readings, 0.99), Some(99.0));
        assert_eq!(percentile(&readings, 1.0), Some(100.0));
        assert_eq!(percentile(&readings, 0.0), Some(1.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn one_outlier_round_does_not_change_the_median() {
        let round = |value: f64| Statistics([("a.p99_ms".to_owned(), value)].into());
        let rounds = [round(1.0), round(90.0), round(2.0), Statistics::default()];
        assert_eq!(Statistics::median_of_rounds(&rounds).value("a.p99_ms"), Some(2.0));
        assert_eq!(Statistics::median_of_rounds(&[]).iter().count(), 0);
    }

    #[test]
    fn growth_ignores_the_warm_up_and_sees_a_leak() {
        let warm_then_flat: Vec<f64> = [10.0, 50.0].into_iter().chain([100.0; 18]).collect();
        assert_eq!(growth_percent(&warm_then_flat), Some(0.0));
        let leak: Vec<f64> = (0..20).map(|k| 100.0 + f64::from(k)).collect();
        assert!(growth_percent(&leak).unwrap() > 10.0);
        assert_eq!(growth_percent(&[1.0; 9]), None);
    }

    #[test]
    fn a_spread_of_nothing_sets_nothing() {
        let mut statistics = Statistics::default();
        statistics.set_spread("rss", &[]);
        assert_eq!(statistics.iter().count(), 0);
        statistics.set_spread("rss", &[3.0, 1.0, 2.0]);
        let all: Vec<_> = statistics.iter().collect();
        assert_eq!(all, [("rss_last", 2.0), ("rss_max", 3.0), ("rss_median", 2.0), ("rss_min", 1.0)]);
    }
}
