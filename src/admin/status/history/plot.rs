//! Plots of series of the history.

use std::mem::discriminant;
use std::time::SystemTime;

use thiserror::Error;

use super::{History, POINT_EVERY, POINTS_MAX, Series};
use crate::plots::{LINES_MAX, Line, Plot, Threshold, ThresholdKind, TimeLabels, Unit};

const POINTS_OF_MINUTE: usize = 60;

/// Series that no plot can show.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::admin::status) enum PlotFault {
    #[error("`{0}`, which is not a series; /status/history has all names")]
    Unknown(String),
    #[error("a list of series with different units: `{0}` and `{1}`")]
    Units(&'static str, &'static str),
    #[error("a list of more than {LINES_MAX} series, which cannot be told apart in one plot")]
    TooMany,
}

impl History {
    /// A plot of these series, which share an axis. One series has its thresholds too.
    pub(in crate::admin::status) fn plot(&self, title: &str, names: &[&str]) -> Result<Plot, PlotFault> {
        if names.len() > LINES_MAX {
            return Err(PlotFault::TooMany);
        }
        let found = |name: &&str| {
            let series = self.series.iter().find(|series| series.info.name == *name);
            series.ok_or_else(|| PlotFault::Unknown((*name).to_owned()))
        };
        let series: Vec<&Series> = names.iter().map(found).collect::<Result<_, _>>()?;
        let unit = series.first().map_or("", |first| first.info.unit);
        let is_other =
            |each: &&&Series| discriminant(&Unit::named(each.info.unit)) != discriminant(&Unit::named(unit));
        if let Some(other) = series.iter().find(is_other) {
            return Err(PlotFault::Units(unit, other.info.unit));
        }
        Ok(Plot {
            id: names.join("-"),
            title: title.to_owned(),
            unit: Unit::named(unit),
            end: self.end.unwrap_or(SystemTime::UNIX_EPOCH),
            interval: POINT_EVERY,
            span: POINT_EVERY * u32::try_from(self.points_shown()).unwrap_or(u32::MAX),
            time_labels: TimeLabels::Ago,
            lines: series.iter().map(|each| each.line(&series)).collect(),
            thresholds: if let [only] = series.as_slice() { only.thresholds() } else { Vec::new() },
        })
    }

    /// The points of the time axis: whole minutes, so that the points of a short history fill a part of it that can be read.
    fn points_shown(&self) -> usize {
        self.length.next_multiple_of(POINTS_OF_MINUTE).clamp(POINTS_OF_MINUTE, POINTS_MAX)
    }

    /// The names of the series of the sensors.
    pub(in crate::admin::status) fn sensors(&self) -> impl Iterator<Item = &str> {
        self.names().filter(|name| name.starts_with("sensor."))
    }
}

impl Series {
    /// The name within its bucket or its kind.
    fn short_name(&self) -> &str {
        self.info.name.rsplit('.').next().unwrap_or_default()
    }

    /// The line in a plot of these series. The only line of a plot has no label.
    fn line(&self, all: &[&Self]) -> Line {
        let label = match all.iter().filter(|other| other.short_name() == self.short_name()).count() {
            _ if all.len() == 1 => String::new(),
            1 => self.short_name().trim_end_matches("_per_second").replace('_', " "),
            _ => self.info.name.clone(),
        };
        let values =
            self.points.iter().map(|point| Some(f64::from(*point)).filter(|point| point.is_finite()));
        Line { label, values: values.collect() }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let Some(thresholds) = self.info.thresholds else { return Vec::new() };
        let all = [
            (ThresholdKind::Warning, Some(thresholds.warning)),
            (ThresholdKind::Critical, thresholds.critical),
            (ThresholdKind::Exhausted, thresholds.exhausted),
        ];
        let threshold = |(kind, value): (_, Option<u8>)| Some(Threshold { kind, value: f64::from(value?) });
        all.into_iter().filter_map(threshold).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::{SeriesInfo, Thresholds};
    use super::*;

    fn history() -> History {
        let mut history = History::default();
        let thresholds = Thresholds { warning: 80, critical: Some(90), exhausted: None };
        for (name, unit, thresholds) in [
            ("sensor.memory", "%", Some(thresholds)),
            ("bucket.a.p50", "ms", None),
            ("bucket.a.p99", "ms", None),
            ("bucket.b.p99", "ms", None),
        ] {
            history.add(SeriesInfo { name: name.to_owned(), unit, bucket: None, thresholds });
        }
        history.push(&[10.0, f32::NAN, 2.0, 3.0], 0, SystemTime::UNIX_EPOCH);
        history
    }

    /// X7: a sensor is plotted with its thresholds, and lines have the shortest names that differ
    #[test]
    fn series_become_lines() {
        let history = history();
        let sensor = history.plot("Memory", &["sensor.memory"]).unwrap();
        let kinds: Vec<_> = sensor.thresholds.iter().map(|of| (of.kind, of.value)).collect();
        assert_eq!(kinds, [(ThresholdKind::Warning, 80.0), (ThresholdKind::Critical, 90.0)]);
        assert_eq!((sensor.unit, sensor.lines[0].label.as_str()), (Unit::Percent, ""));
        let labels = |names: &[&str]| {
            let plot = history.plot("x", names).unwrap();
            plot.lines.into_iter().map(|line| (line.label, line.values)).collect::<Vec<_>>()
        };
        let of_bucket = labels(&["bucket.a.p50", "bucket.a.p99"]);
        assert_eq!(of_bucket, [("p50".to_owned(), vec![None]), ("p99".to_owned(), vec![Some(2.0)])]);
        let of_two: Vec<_> =
            labels(&["bucket.a.p99", "bucket.b.p99"]).into_iter().map(|(label, _)| label).collect();
        assert_eq!(of_two, ["bucket.a.p99", "bucket.b.p99"]);
    }

    /// X7: the time axis grows by minutes with the history, up to ten
    #[test]
    fn the_axis_follows_the_history() {
        let mut history = history();
        let spans = [(0, 60), (59, 120), (400, 480), (1000, 600)].map(|(missed, seconds)| {
            if missed > 0 {
                history.push(&[1.0; 4], missed, SystemTime::UNIX_EPOCH);
            }
            (history.plot("x", &["sensor.memory"]).unwrap().span.as_secs(), seconds)
        });
        assert!(spans.iter().all(|(span, expected)| span == expected), "{spans:?}");
    }

    /// X7, E1: unknown series, and series that share no axis, are named
    #[test]
    fn other_series_are_refused() {
        let fault = |names: &[&str]| history().plot("x", names).err().map(|fault| fault.to_string());
        let unknown = "`sensor.x`, which is not a series; /status/history has all names";
        assert_eq!(fault(&["sensor.x"]).as_deref(), Some(unknown));
        let units = "a list of series with different units: `%` and `ms`";
        assert_eq!(fault(&["sensor.memory", "bucket.a.p50"]).as_deref(), Some(units));
        assert_eq!(fault(&["bucket.a.p50"; 5]), Some(PlotFault::TooMany.to_string()));
    }
}
