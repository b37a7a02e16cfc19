//! The JSON document of the history.

use bytes::Bytes;
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};

use super::series::SeriesInfo;
use super::{History, POINT_EVERY, POINTS_MAX};
use crate::telemetry::{millis, rfc3339};

/// The series of a reply: all, or those of a list of names. A name that ends with a dot stands for all series that begin with it.
pub(in crate::admin::status) enum HistoryFilter<'a> {
    All,
    Names(Vec<&'a str>),
}

#[derive(Serialize)]
struct HistoryDocument<'a> {
    interval_ms: u64,
    points_max: usize,
    end: Option<String>,
    series: Vec<SeriesDocument<'a>>,
}

#[derive(Serialize)]
struct SeriesDocument<'a> {
    #[serde(flatten)]
    info: &'a SeriesInfo,
    values: Points<std::collections::vec_deque::Iter<'a, f32>>,
}

impl<'a> HistoryFilter<'a> {
    /// The names in a list that is separated by commas.
    pub(in crate::admin) fn parse(list: Option<&'a str>) -> Self {
        list.map_or(Self::All, |list| Self::Names(list.split(',').map(str::trim).collect()))
    }

    /// The first name that no series has.
    pub(in crate::admin) fn unknown(&self, history: &History) -> Option<&'a str> {
        let Self::Names(names) = self else { return None };
        let is_known = |name: &&str| history.names().any(|series| selects(name, series));
        names.iter().find(|name| !is_known(name)).copied()
    }

    fn contains(&self, series: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.iter().any(|name| selects(name, series)),
        }
    }
}

fn selects(name: &str, series: &str) -> bool {
    name == series || (name.ends_with('.') && series.starts_with(name))
}

impl History {
    /// The document.
    pub(in crate::admin) fn document(&self, filter: &HistoryFilter<'_>) -> Bytes {
        let chosen = self.series.iter().filter(|series| filter.contains(&series.info.name));
        let document = HistoryDocument {
            interval_ms: millis(POINT_EVERY),
            points_max: POINTS_MAX,
            end: self.end.map(rfc3339),
            series: chosen
                .map(|series| SeriesDocument { info: &series.info, values: Points(series.points.iter()) })
                .collect(),
        };
        // It has only numbers and texts: it is always encoded.
        serde_json::to_vec(&document).unwrap_or_default().into()
    }
}

/// Values as JSON numbers with at most three decimals, and null for NaN.
struct Points<I>(I);

impl<'a, I: Iterator<Item = &'a f32> + Clone> Serialize for Points<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut values = serializer.serialize_seq(None)?;
        for value in self.0.clone() {
            values.serialize_element(&Point(*value))?;
        }
        values.end()
    }
}

/// One value.
pub(in crate::admin) struct Point(pub(in crate::admin) f32);

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rounded = (f64::from(self.0) * 1e3).round() / 1e3;
        if !rounded.is_finite() {
            serializer.serialize_none()
        } else if rounded.fract() == 0.0 && (0.0..9e15).contains(&rounded) {
            serializer.serialize_u64(rounded as u64)
        } else {
            serializer.serialize_f64(rounded)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::{Value, json};

    use super::*;

    fn history() -> History {
        let mut history = History::default();
        let names = ["sensor.memory", "bucket.a.p50", "bucket.a.p99", "bucket.ab.p50"];
        for name in names {
            history.add(SeriesInfo { name: name.to_owned(), unit: "%", bucket: None, thresholds: None });
        }
        history.push(&[1.0, 2.3456, f32::NAN, 0.0], 0, SystemTime::UNIX_EPOCH);
        history
    }

    fn names(filter: &str) -> Vec<String> {
        let document: Value =
            serde_json::from_slice(&history().document(&HistoryFilter::parse(Some(filter)))).unwrap();
        let series = document["series"].as_array().unwrap();
        series.iter().map(|series| series["name"].as_str().unwrap().to_owned()).collect()
    }

    /// X7
    #[test]
    fn values_are_short_numbers_and_null() {
        let document: Value =
            serde_json::from_slice(&history().document(&HistoryFilter::parse(None))).unwrap();
        assert_eq!(document["end"], "1970-01-01T00:00:00.000Z");
        assert_eq!((&document["interval_ms"], &document["points_max"]), (&json!(1000), &json!(600)));
        let values: Vec<_> =
            document["series"].as_array().unwrap().iter().map(|one| one["values"].clone()).collect();
        assert_eq!(values, [json!([1]), json!([2.346]), json!([null]), json!([0])]);
        assert!(document["series"][0].get("warning").is_none(), "{document}");
    }

    /// X7: names select series exactly, and a name with a dot at its end all that begin with it
    #[test]
    fn names_select_series() {
        assert_eq!(names("bucket.a.p50,sensor.memory"), ["sensor.memory", "bucket.a.p50"]);
        assert_eq!(names("bucket.a."), ["bucket.a.p50", "bucket.a.p99"]);
        let unknown = |list| HistoryFilter::parse(Some(list)).unknown(&history()).map(str::to_owned);
        assert_eq!(unknown("sensor."), None);
        assert_eq!(unknown("sensor.memory, bucket.b."), Some("bucket.b.".to_owned()));
        assert_eq!(unknown("sensor"), Some("sensor".to_owned()));
    }
}
