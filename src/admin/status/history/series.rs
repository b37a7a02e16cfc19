//! The description of a series: its name, unit and thresholds.

use serde::Serialize;
use tidegate_actors::{Level, MonitorView, Sensor};
use tidegate_config::MonitorConfig;

/// The series of the process without those of its sensors.
pub(super) const OF_PROCESS: usize = 7;
/// The series of one bucket.
pub(super) const PER_BUCKET: usize = 8;

const REQUESTS: (&str, &str) = ("requests_per_second", "requests/s");
const IN_FLIGHT: (&str, &str) = ("in_flight", "requests");

/// A series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::admin) struct SeriesInfo {
    pub(super) name: String,
    pub(super) unit: &'static str,
    /// The bucket of its values; none for the process and for buckets that are summed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bucket: Option<String>,
    #[serde(flatten)]
    pub(super) thresholds: Option<Thresholds>,
}

/// The values at which levels begin, in the unit of the series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(in crate::admin) struct Thresholds {
    pub(super) warning: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) critical: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exhausted: Option<u8>,
}

impl Thresholds {
    /// The thresholds of a sensor. A level that it cannot cause has none.
    fn of_sensor(level_max: Level, config: &MonitorConfig) -> Self {
        let threshold = |level: Level, percent| (level_max >= level).then_some(percent);
        Self {
            warning: config.warning,
            critical: threshold(Level::Critical, config.critical),
            exhausted: threshold(Level::Exhausted, config.exhausted),
        }
    }
}

impl SeriesInfo {
    /// The use of a sensor's resource in percent of its limit.
    pub(super) fn sensor(sensor: Sensor, view: &MonitorView, config: &MonitorConfig) -> Self {
        let thresholds = Some(Thresholds::of_sensor(view.level_max(sensor), config));
        Self { name: format!("sensor.{}", sensor.as_str()), unit: "%", bucket: None, thresholds }
    }

    /// The series of the process, in the order of their values.
    pub(super) fn of_process() -> [Self; OF_PROCESS] {
        let series = [
            REQUESTS,
            ("refusals_per_second", "refusals/s"),
            IN_FLIGHT,
            ("level", "level"),
            ("shedding_cursor", "cursor"),
            ("event_loop_lag", "ms"),
            ("mailbox_wait", "ms"),
        ];
        series.map(|(name, unit)| Self { name: name.to_owned(), unit, bucket: None, thresholds: None })
    }

    /// The series of a bucket, or of all further buckets, in the order of their values.
    pub(super) fn of_bucket(bucket: Option<&str>) -> [Self; PER_BUCKET] {
        let series = [
            REQUESTS,
            ("errors_per_second", "errors/s"),
            IN_FLIGHT,
            ("queued", "requests"),
            ("queue_wait", "ms"),
            ("p50", "ms"),
            ("p95", "ms"),
            ("p99", "ms"),
        ];
        let prefix = bucket.map_or_else(|| "other_buckets".to_owned(), |bucket| format!("bucket.{bucket}"));
        series.map(|(name, unit)| Self {
            name: format!("{prefix}.{name}"),
            unit,
            bucket: bucket.map(str::to_owned),
            thresholds: None,
        })
    }
}
