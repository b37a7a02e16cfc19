//! The history of the status in fixed memory: one point a second for ten minutes (X7), and `GET /status/history`.
//!
//! `sampler.rs` reads the counters and snapshots of the gateway once a second, on the admin thread; it takes no lock that a worker waits
//! for. `series.rs` is the description of a series, `document.rs` its JSON. A point is 4 bytes: the memory is [`MEMORY_MAX`] with the most
//! buckets and sensors, about 60 KiB with one bucket. Names come from the configuration and the code, never from clients.

mod document;
mod plot;
mod quantile;
mod sampler;
mod series;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

pub(super) use document::{HistoryFilter, Point};
pub(super) use plot::PlotFault;
pub(super) use sampler::{BucketSample, Sampler};
use series::SeriesInfo;

/// The time between two points.
pub(super) const POINT_EVERY: Duration = Duration::from_secs(1);
/// The points of a series.
pub(super) const POINTS_MAX: usize = 600;
/// Buckets with series of their own. All further ones are summed.
const BUCKETS_MAX: usize = 64;
const SENSORS_MAX: usize = 32;
/// The memory of all points, in bytes.
pub(super) const MEMORY_MAX: usize = POINTS_MAX
    * size_of::<f32>()
    * (series::OF_PROCESS + (BUCKETS_MAX + 1) * series::PER_BUCKET + SENSORS_MAX);

/// One series with its points.
struct Series {
    info: SeriesInfo,
    /// The oldest first. A second without a value is NaN.
    points: VecDeque<f32>,
}

/// All series.
#[derive(Default)]
pub(super) struct History {
    series: Vec<Series>,
    /// Points of the longest series.
    length: usize,
    /// The time of the newest point.
    end: Option<SystemTime>,
}

impl History {
    /// Adds a series without points.
    pub(super) fn add(&mut self, info: SeriesInfo) {
        let mut points = VecDeque::with_capacity(POINTS_MAX);
        points.extend(std::iter::repeat_n(f32::NAN, self.length));
        self.series.push(Series { info, points });
    }

    /// Replaces the list of series. A series has the points of the one with its name, if there is one.
    pub(super) fn set_series(&mut self, infos: impl Iterator<Item = SeriesInfo>) {
        let mut old = std::mem::take(&mut self.series);
        for info in infos {
            match old.iter().position(|series| series.info.name == info.name) {
                Some(at) => self.series.push(Series { info, points: old.swap_remove(at).points }),
                None => self.add(info),
            }
        }
    }

    /// Adds one point to each series, in the order of the series, after `missed` seconds without a sample.
    pub(super) fn push(&mut self, values: &[f32], missed: usize, at: SystemTime) {
        let missed = missed.min(POINTS_MAX);
        for (at, series) in self.series.iter_mut().enumerate() {
            let value = values.get(at).copied().unwrap_or(f32::NAN);
            for point in std::iter::repeat_n(f32::NAN, missed).chain([value]) {
                if series.points.len() == POINTS_MAX {
                    series.points.pop_front();
                }
                series.points.push_back(point);
            }
        }
        self.length = (self.length + missed + 1).min(POINTS_MAX);
        self.end = Some(at);
    }

    /// The names of all series, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.series.iter().map(|series| series.info.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str) -> SeriesInfo {
        SeriesInfo { name: name.to_owned(), unit: "%", bucket: None, thresholds: None }
    }

    fn points(history: &History, at: usize) -> Vec<Option<f32>> {
        history.series[at].points.iter().map(|point| Some(*point).filter(|point| !point.is_nan())).collect()
    }

    /// X7: the history keeps ten minutes, the oldest point first, and its memory does not grow
    #[test]
    fn the_oldest_point_makes_room() {
        let mut history = History::default();
        history.add(info("a"));
        for second in 0..700_u16 {
            history.push(&[f32::from(second)], 0, SystemTime::UNIX_EPOCH);
        }
        let kept = points(&history, 0);
        assert_eq!((kept.len(), kept[0], kept[599]), (POINTS_MAX, Some(100.0), Some(699.0)));
        assert_eq!(
            history.series[0].points.capacity(),
            VecDeque::<f32>::with_capacity(POINTS_MAX).capacity()
        );
    }

    /// X7: seconds without a sample are empty, and a series that begins later has the same time axis
    #[test]
    fn missing_points_are_empty() {
        let mut history = History::default();
        history.add(info("a"));
        history.push(&[1.0], 0, SystemTime::UNIX_EPOCH);
        history.push(&[2.0], 2, SystemTime::UNIX_EPOCH);
        history.add(info("b"));
        history.push(&[3.0, 9.0], 0, SystemTime::UNIX_EPOCH);
        assert_eq!(points(&history, 0), [Some(1.0), None, None, Some(2.0), Some(3.0)]);
        assert_eq!(points(&history, 1), [None, None, None, None, Some(9.0)]);
        history.push(&[4.0, 9.0], usize::MAX, SystemTime::UNIX_EPOCH);
        let kept = points(&history, 0);
        assert_eq!((kept.len(), kept[598], kept[599]), (POINTS_MAX, None, Some(4.0)));
    }

    /// X7, G3: with another list of series each keeps its points by its name
    #[test]
    fn series_keep_their_points_by_name() {
        let mut history = History::default();
        ["a", "b", "c"].iter().for_each(|name| history.add(info(name)));
        history.push(&[1.0, 2.0, 3.0], 0, SystemTime::UNIX_EPOCH);
        history.set_series(["c", "d", "a"].map(info).into_iter());
        history.push(&[4.0, 5.0, 6.0], 0, SystemTime::UNIX_EPOCH);
        assert_eq!(history.names().collect::<Vec<_>>(), ["c", "d", "a"]);
        assert_eq!(points(&history, 0), [Some(3.0), Some(4.0)]);
        assert_eq!(points(&history, 1), [None, Some(5.0)]);
        assert_eq!(points(&history, 2), [Some(1.0), Some(6.0)]);
    }

    /// X7: the memory of the largest configuration is as documented
    #[test]
    fn the_memory_is_bounded() {
        assert_eq!(MEMORY_MAX, 1_341_600);
    }
}
