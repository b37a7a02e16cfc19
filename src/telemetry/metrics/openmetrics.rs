//! The OpenMetrics 1.0 text format, with exemplars.
//!
//! The `prometheus` crate writes only the older text format, and its families have no exemplars. This is a pure function
//! of the gathered families: a counter's family has no suffix `_total` but its samples do, a unit is named where the name
//! ends with it, bounds are floats with a point, and the last line is `# EOF`.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::histogram::{EXEMPLAR_LABEL, Exemplar, HistogramExemplars};

/// The content type of the format.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Units in names. OpenMetrics requires the unit as the last word of the family's name.
const UNITS: [&str; 2] = ["seconds", "bytes"];
const TOTAL: &str = "_total";

/// The exemplars of one family.
pub(crate) struct FamilyExemplars {
    /// The full name of the family.
    pub(crate) name: String,
    pub(crate) histograms: Vec<HistogramExemplars>,
    /// One moment on both clocks, which gives an exemplar its time.
    pub(crate) now: (Instant, SystemTime),
}

/// Writes the families, which are sorted by name.
pub(crate) fn encode(families: &[MetricFamily], exemplars: &FamilyExemplars) -> String {
    let mut text = String::with_capacity(64 * 1024);
    for family in families {
        // Writing to a string cannot fail.
        let _ = write_family(&mut text, family, exemplars);
    }
    text.push_str("# EOF\n");
    text
}

fn write_family(text: &mut String, family: &MetricFamily, exemplars: &FamilyExemplars) -> fmt::Result {
    let name = family.name();
    let (base, kind) = match family.get_field_type() {
        MetricType::COUNTER => match name.strip_suffix(TOTAL) {
            Some(base) => (base, "counter"),
            None => (name, "unknown"),
        },
        MetricType::GAUGE => (name, "gauge"),
        MetricType::HISTOGRAM => (name, "histogram"),
        MetricType::SUMMARY | MetricType::UNTYPED => (name, "unknown"),
    };
    writeln!(text, "# TYPE {base} {kind}")?;
    if let Some(unit) = UNITS.iter().find(|unit| base.ends_with(&format!("_{unit}"))) {
        writeln!(text, "# UNIT {base} {unit}")?;
    }
    writeln!(text, "# HELP {base} {}", Escaped(family.help()))?;
    for metric in family.get_metric() {
        match family.get_field_type() {
            MetricType::COUNTER => write_sample(text, name, metric, metric.get_counter().get_value())?,
            MetricType::GAUGE => write_sample(text, name, metric, metric.get_gauge().get_value())?,
            MetricType::HISTOGRAM => {
                let of_family = (exemplars.name == name).then_some(exemplars);
                write_histogram(text, name, metric, of_family)?;
            }
            // No metric of the gateway is one.
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
    Ok(())
}

fn write_sample(text: &mut String, name: &str, metric: &Metric, value: f64) -> fmt::Result {
    writeln!(text, "{name}{} {}", Labels(metric.get_label(), None), Number(value))
}

fn write_histogram(
    text: &mut String,
    name: &str,
    metric: &Metric,
    exemplars: Option<&FamilyExemplars>,
) -> fmt::Result {
    let (labels, histogram) = (metric.get_label(), metric.get_histogram());
    let of_metric = exemplars
        .and_then(|family| family.histograms.iter().find(|one| one.labels == labels).zip(Some(family)));
    let write_bucket = |text: &mut String, at: usize, bound: f64, count: u64| {
        write!(text, "{name}_bucket{} {count}", Labels(labels, Some(bound)))?;
        let exemplar = of_metric.and_then(|(one, family)| one.by_bucket.get(at)?.as_ref().zip(Some(family)));
        if let Some((exemplar, family)) = exemplar {
            write_exemplar(text, exemplar, family.now)?;
        }
        text.write_char('\n')
    };
    let buckets = histogram.get_bucket();
    for (at, bucket) in buckets.iter().enumerate() {
        write_bucket(text, at, bucket.upper_bound(), bucket.cumulative_count())?;
    }
    // The families omit the last bucket.
    write_bucket(text, buckets.len(), f64::INFINITY, histogram.get_sample_count())?;
    writeln!(text, "{name}_count{} {}", Labels(labels, None), histogram.get_sample_count())?;
    writeln!(text, "{name}_sum{} {}", Labels(labels, None), Number(histogram.get_sample_sum()))
}

fn write_exemplar(text: &mut String, exemplar: &Exemplar, (now, wall): (Instant, SystemTime)) -> fmt::Result {
    let at = wall.checked_sub(now.saturating_duration_since(exemplar.at));
    let since_epoch = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or(Duration::ZERO);
    write!(
        text,
        " # {{{EXEMPLAR_LABEL}=\"{}\"}} {} {}.{:03}",
        Escaped(&exemplar.id),
        Number(exemplar.duration.as_secs_f64()),
        since_epoch.as_secs(),
        since_epoch.subsec_millis()
    )
}

/// Labels in braces, and the bound of a histogram's bucket.
struct Labels<'a>(&'a [LabelPair], Option<f64>);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(pairs, bound) = self;
        if pairs.is_empty() && bound.is_none() {
            return Ok(());
        }
        let mut separator = "{";
        for pair in *pairs {
            write!(f, "{separator}{}=\"{}\"", pair.name(), Escaped(pair.value()))?;
            separator = ",";
        }
        match bound {
            Some(bound) if bound.is_infinite() => write!(f, "{separator}le=\"+Inf\"")?,
            // A bound has a point. Other formats of floats use exponents for small ones.
            Some(bound) if bound.fract() == 0.0 => write!(f, "{separator}le=\"{bound}.0\"")?,
            Some(bound) => write!(f, "{separator}le=\"{bound}\"")?,
            None => {}
        }
        f.write_char('}')
    }
}

/// Text with escaped backslashes, quotes and line feeds.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value == f64::INFINITY => f.write_str("+Inf"),
            value if value == f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrayvec::ArrayString;
    use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
    use tidegate_actors::clock;

    use super::*;
    use crate::telemetry::metrics::histogram::DurationFamily;

    fn none() -> FamilyExemplars {
        FamilyExemplars { name: String::new(), histograms: Vec::new(), now: (clock::now(), UNIX_EPOCH) }
    }

    /// O3: a counter's family has no suffix, labels are escaped, the unit is named, and the text ends with `# EOF`
    #[test]
    fn counters_and_gauges_follow_openmetrics() {
        let registry = Registry::new_custom(Some("n".to_owned()), None).unwrap();
        let counters =
            IntCounterVec::new(Opts::new("sent_bytes_total", "the \"sent\" bytes\nof a\\b"), &["bucket"])
                .unwrap();
        registry.register(Box::new(counters.clone())).unwrap();
        counters.with_label_values(&["a\"b\\c\nd"]).inc_by(7);
        let gauge = IntGauge::new("depth", "depth").unwrap();
        registry.register(Box::new(gauge)).unwrap();
        assert_eq!(
            encode(&registry.gather(), &none()),
            "# TYPE n_depth gauge\n# HELP n_depth depth\nn_depth 0\n\
             # TYPE n_sent_bytes counter\n# UNIT n_sent_bytes bytes\n\
             # HELP n_sent_bytes the \\\"sent\\\" bytes\\nof a\\\\b\n\
             n_sent_bytes_total{bucket=\"a\\\"b\\\\c\\nd\"} 7\n# EOF\n"
        );
    }

    /// O3: the last bucket is written for both kinds of histograms
    #[test]
    fn histograms_have_an_infinite_bucket() {
        let registry = Registry::new();
        let options = HistogramOpts::new("wait_seconds", "wait").buckets(vec![1.0]);
        let histogram = Histogram::with_opts(options).unwrap();
        registry.register(Box::new(histogram.clone())).unwrap();
        histogram.observe(2.5);
        let expected = "# TYPE wait_seconds histogram\n# UNIT wait_seconds seconds\n# HELP wait_seconds wait\n\
             wait_seconds_bucket{le=\"1.0\"} 0\nwait_seconds_bucket{le=\"+Inf\"} 1\n\
             wait_seconds_count 1\nwait_seconds_sum 2.5\n# EOF\n";
        assert_eq!(encode(&registry.gather(), &none()), expected);
        let registry = Registry::new();
        let bounds = [Duration::from_secs(1)];
        let family = DurationFamily::register(&registry, ("wait_seconds", "wait"), &[], &bounds).unwrap();
        family.histogram(&[]).observe(Duration::from_millis(2500));
        assert_eq!(encode(&registry.gather(), &none()), expected);
    }

    /// O3: an exemplar has the ID, the duration and the time of its request
    #[test]
    fn exemplars_follow_the_count_of_their_bucket() {
        let registry = Registry::new();
        let bounds = [Duration::from_millis(5)];
        let named = ("d_seconds", "d");
        let family = DurationFamily::register_with_exemplars(&registry, named, &["bucket"], &bounds).unwrap();
        let (now, wall) = (clock::now(), UNIX_EPOCH + Duration::from_millis(1_700_000_002_500));
        let histogram = family.histogram(&["b"]);
        histogram.observe_request(Duration::from_millis(4), "an-id", now);
        histogram.observe(Duration::from_secs(1));
        let later = now + Duration::from_secs(2);
        let exemplars = FamilyExemplars {
            name: "d_seconds".to_owned(),
            histograms: family.exemplars(),
            now: (later, wall),
        };
        let text = encode(&registry.gather(), &exemplars);
        let buckets: Vec<_> = text.lines().filter(|line| line.starts_with("d_seconds_bucket")).collect();
        assert_eq!(
            buckets,
            [
                "d_seconds_bucket{bucket=\"b\",le=\"0.005\"} 1 # {request_id=\"an-id\"} 0.004 1700000000.500",
                "d_seconds_bucket{bucket=\"b\",le=\"+Inf\"} 2",
            ]
        );
        let other = FamilyExemplars { name: "other".to_owned(), ..exemplars };
        assert!(!encode(&registry.gather(), &other).contains("request_id"));
    }

    /// O3: an exemplar's labels have at most 128 characters
    #[test]
    fn the_labels_of_an_exemplar_fit_openmetrics() {
        let exemplar =
            Exemplar { id: ArrayString::zero_filled(), duration: Duration::ZERO, at: clock::now() };
        assert_eq!(EXEMPLAR_LABEL.len() + exemplar.id.capacity(), 128);
    }
}
