//! The metrics that Prometheus scrapes: their prefix, and the bounds of histograms.

use std::time::Duration;

use crate::schema::key;
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{List, Seconds, ValueError, ValueErrors, ValueType, list, quoted, seconds};

/// Maximum length of the namespace.
const NAMESPACE_MAX: usize = 64;
/// Maximum number of bounds: each is a series per label of each histogram.
const BOUNDS_MAX: usize = 32;
/// The default bounds in microseconds.
const DEFAULT_BOUNDS: [u64; 16] = [
    100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

section! {
    /// The metrics.
    pub struct MetricsConfig {
        /// prefix of the metric names; empty gives names without a prefix
        ///
        /// An underscore separates it from the rest. `process_*` metrics have no prefix.
        pub namespace: String = key("namespace", Namespace, "tidegate".to_owned());
        /// upper bounds of the histograms' buckets
        ///
        /// They apply to the durations of requests, phases, upstream calls and queue waits. Each bound adds one series for each
        /// bucket, phase and endpoint.
        pub buckets: Vec<Duration> = key("buckets", BOUNDS, DEFAULT_BOUNDS.map(Duration::from_micros).to_vec());
    }
}

/// The part of a metric name before its first underscore, or nothing.
struct Namespace;

impl ValueType for Namespace {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let text = raw.text()?.trim();
        let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !text.starts_with(|first: char| first.is_ascii_digit())
            && !text.ends_with('_');
        if is_name && text.len() <= NAMESPACE_MAX {
            return Ok(text.to_owned());
        }
        let message = format!("{} is not a prefix of metric names", quoted(text));
        let hint = format!(
            "use at most {NAMESPACE_MAX} letters, digits and underscores, no digit at the start and no underscore at the end"
        );
        Err(ValueError::new(message).with_hint(hint).into())
    }

    fn accepts(&self) -> String {
        format!("at most {NAMESPACE_MAX} letters, digits and underscores, or empty")
    }

    fn to_toml(&self, value: &String) -> String {
        quoted(value)
    }
}

/// Upper bounds of a histogram.
struct Bounds(List<Seconds>);

const BOUNDS: Bounds = Bounds(list(seconds(0.000_001..=86_400.0)));

impl ValueType for Bounds {
    type Value = Vec<Duration>;

    fn parse(&self, raw: &Raw) -> Result<Self::Value, ValueErrors> {
        let bounds = self.0.parse(raw)?;
        if bounds.is_empty() || bounds.len() > BOUNDS_MAX {
            let message = format!("has {} bounds, but a histogram has 1 to {BOUNDS_MAX}", bounds.len());
            return Err(ValueError::new(message).into());
        }
        match bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
            None => Ok(bounds),
            Some(pair) => {
                let [first, second] = [pair[0], pair[1]].map(|bound| bound.as_secs_f64());
                let message =
                    format!("{second} follows {first}, but each bound must be greater than the last");
                Err(ValueError::new(message).with_hint("sort the bounds, and list each only once").into())
            }
        }
    }

    fn accepts(&self) -> String {
        format!("{}, ascending, 1–{BOUNDS_MAX} items", self.0.accepts())
    }

    fn to_toml(&self, value: &Self::Value) -> String {
        self.0.to_toml(value)
    }
}
