//! Expectations of a scenario: ranges of statistics, absolute or relative to another statistic of the same run.
//!
//! A relative range ("p99 at most twice that of the quiet run, plus a millisecond") expresses isolation independently of the machine's
//! speed. A statistic that was not measured misses its range.

use serde::Deserialize;

use crate::statistics::Statistics;

/// A range for one statistic.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expectation {
    /// The statistic's name.
    pub(crate) statistic: String,
    /// Lower bound, inclusive.
    pub(crate) min: Option<f64>,
    /// Upper bound, inclusive.
    pub(crate) max: Option<f64>,
    /// The bounds are factors of this statistic.
    pub(crate) of: Option<String>,
    /// Added to the upper and subtracted from the lower bound.
    #[serde(default)]
    pub(crate) slack: f64,
    /// The property that this range checks.
    pub(crate) why: String,
}

/// The result of checking one expectation.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct CheckResult {
    /// Whether it held.
    pub(crate) held: bool,
    /// One line with the expected range and the measured value.
    pub(crate) text: String,
}

impl Expectation {
    /// Checks a run. `latency_tolerance` multiplies upper bounds in milliseconds, for shared machines.
    pub(crate) fn check(&self, statistics: &Statistics, latency_tolerance: f64) -> CheckResult {
        let Some(value) = statistics.value(&self.statistic) else {
            return self.unmeasured(&self.statistic);
        };
        let unit = match &self.of {
            None => 1.0,
            Some(of) => match statistics.value(of) {
                None => return self.unmeasured(of),
                Some(unit) => unit,
            },
        };
        let stretch = if self.statistic.ends_with("_ms") { latency_tolerance } else { 1.0 };
        let lower = self.min.map(|min| min * unit - self.slack);
        let upper = self.max.map(|max| (max * unit + self.slack) * stretch);
        let held = lower.is_none_or(|lower| value >= lower) && upper.is_none_or(|upper| value <= upper);
        CheckResult { held, text: self.describe(value, unit, (lower, upper)) }
    }

    fn describe(&self, value: f64, unit: f64, bounds: (Option<f64>, Option<f64>)) -> String {
        let bounds = match bounds {
            (Some(lower), Some(upper)) => format!("{lower:.2} to {upper:.2}"),
            (Some(lower), None) => format!("at least {lower:.2}"),
            (None, Some(upper)) => format!("at most {upper:.2}"),
            (None, None) => "anything".to_owned(),
        };
        let ratio = match &self.of {
            Some(of) if unit > 0.0 => format!(" ({:.2} times {of})", value / unit),
            _ => String::new(),
        };
        format!("{} = {value:.2}{ratio}, expected {bounds} ({})", self.statistic, self.why)
    }

    fn unmeasured(&self, name: &str) -> CheckResult {
        let text = format!("{}: no measurement of {name} ({})", self.statistic, self.why);
        CheckResult { held: false, text }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::Scenario;

    fn expectation(text: &str) -> Expectation {
        toml::from_str(text).unwrap()
    }

    fn measured(pairs: &[(&str, f64)]) -> Statistics {
        let mut statistics = Statistics::default();
        for (name, value) in pairs {
            statistics.set(*name, *value);
        }
        statistics
    }

    #[test]
    fn bounds_are_inclusive_and_a_miss_has_a_description() {
        let range = expectation("statistic = 'a.x'\nmin = 1\nmax = 2\nwhy = 'because'");
        for (value, held) in [(0.99, false), (1.0, true), (2.0, true), (2.01, false)] {
            let result = range.check(&measured(&[("a.x", value)]), 1.0);
            assert_eq!(result.held, held, "{}", result.text);
        }
        let miss = range.check(&measured(&[("a.x", 3.0)]), 1.0);
        assert_eq!(miss.text, "a.x = 3.00, expected 1.00 to 2.00 (because)");
    }

    #[test]
    fn a_relative_range_multiplies_and_adds_its_slack() {
        let range = expectation("statistic = 'b.p99_ms'\nmax = 2\nof = 'a.p99_ms'\nslack = 1\nwhy = 'w'");
        let result = range.check(&measured(&[("a.p99_ms", 3.0), ("b.p99_ms", 7.0)]), 1.0);
        assert!(result.held);
        assert_eq!(result.text, "b.p99_ms = 7.00 (2.33 times a.p99_ms), expected at most 7.00 (w)");
        assert!(!range.check(&measured(&[("a.p99_ms", 3.0), ("b.p99_ms", 7.1)]), 1.0).held);
    }

    #[test]
    fn a_missing_statistic_misses_its_range() {
        let range = expectation("statistic = 'b.x'\nmax = 2\nof = 'a.x'\nwhy = 'w'");
        let result = range.check(&measured(&[("b.x", 1.0)]), 1.0);
        assert!(!result.held);
        assert!(result.text.contains("no measurement of a.x"), "{}", result.text);
    }

    #[test]
    fn tolerance_stretches_latencies_only() {
        let latency = expectation("statistic = 'a.p99_ms'\nmax = 10\nwhy = 'w'");
        let count = expectation("statistic = 'a.errors'\nmax = 10\nwhy = 'w'");
        let run = measured(&[("a.p99_ms", 25.0), ("a.errors", 25.0)]);
        assert!(latency.check(&run, 3.0).held);
        assert!(!count.check(&run, 3.0).held);
    }

    #[test]
    fn the_share_of_the_low_class_is_expected_at_any_scale() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let scenario = Scenario::read(&folder, "low-tier-overload").unwrap();
        let of_low = |expectation: &&Expectation| expectation.statistic == "low-tier.low.ok";
        let expectation = scenario.expectations.iter().find(of_low).unwrap();
        for (requests, ok, held) in
            [(24_000.0, 1_200.0, true), (6_000.0, 300.0, true), (24_000.0, 800.0, false)]
        {
            let run = measured(&[("low-tier.low.requests", requests), ("low-tier.low.ok", ok)]);
            let result = expectation.check(&run, 1.0);
            assert_eq!(result.held, held, "{}", result.text);
        }
    }
}
