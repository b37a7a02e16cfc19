//! Refusals by bucket and reason: totals, peaks, and the periods in which they came.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::replay::names::LogNames;
use crate::replay::report::time_text;

/// A pause beyond this ends a period.
const PAUSE_US: u64 = 60_000_000;
/// The time of a peak.
const PEAK_US: u64 = 10_000_000;
/// Buckets and reasons with figures of their own; further ones share one row.
const ROWS_MAX: usize = 10_000;
/// Periods that are kept of one bucket and reason.
const PERIODS_MAX: usize = 100;

/// Refusals of one bucket for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalRow {
    /// The bucket's section; none without one.
    pub bucket: Option<String>,
    /// The reason.
    pub reason: String,
    /// Requests.
    pub count: u64,
    /// The first one.
    pub first: String,
    /// The last one.
    pub last: String,
    /// The most within 10 s.
    pub peak: u64,
}

/// Refusals without a pause.
#[derive(Debug, Clone, Copy)]
struct Period {
    begin_us: u64,
    end_us: u64,
    count: u64,
}

#[derive(Debug, Default)]
struct Series {
    count: u64,
    peak: u64,
    /// Counts of the last tenths of the time of a peak: time and count.
    recent: VecDeque<(u64, u64)>,
    periods: Vec<Period>,
}

impl Series {
    fn add(&mut self, at_us: u64) {
        self.count += 1;
        let cell = at_us / (PEAK_US / 10);
        match self.recent.back_mut() {
            Some((last, count)) if *last >= cell => *count += 1,
            _ => self.recent.push_back((cell, 1)),
        }
        while self.recent.front().is_some_and(|(first, _)| first + 10 <= cell) {
            self.recent.pop_front();
        }
        self.peak = self.peak.max(self.recent.iter().map(|(_, count)| count).sum());
        let is_full = self.periods.len() >= PERIODS_MAX;
        match self.periods.last_mut() {
            // The clock of a log may step back.
            Some(last) if is_full || at_us <= last.end_us.saturating_add(PAUSE_US) => {
                last.count += 1;
                last.begin_us = last.begin_us.min(at_us);
                last.end_us = last.end_us.max(at_us);
            }
            _ => self.periods.push(Period { begin_us: at_us, end_us: at_us, count: 1 }),
        }
    }
}

/// All refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    series: BTreeMap<(Option<u32>, u32), Series>,
}

impl Refusals {
    /// Adds a refusal by the numbers of its bucket and reason.
    pub(super) fn add(&mut self, key: (Option<u32>, u32), at_us: u64) {
        let is_new = self.series.len() >= ROWS_MAX && !self.series.contains_key(&key);
        let key =
            if is_new { (Some(crate::replay::names::OTHERS), crate::replay::names::OTHERS) } else { key };
        self.series.entry(key).or_default().add(at_us);
    }

    /// The rows, the most refusals first, and the periods with their texts.
    pub(super) fn finish(self, names: &LogNames) -> (Vec<RefusalRow>, Vec<(u64, String)>) {
        let (mut rows, mut periods) = (Vec::new(), Vec::new());
        for ((bucket, reason), series) in self.series {
            let bucket = bucket.map(|bucket| names.buckets.name(bucket).to_owned());
            let reason = names.reasons.name(reason).to_owned();
            let place = bucket.as_deref().map_or_else(String::new, |bucket| format!(" in {bucket}"));
            periods.extend(series.periods.iter().map(|period| {
                let Period { begin_us, end_us, count } = *period;
                (begin_us, format!("{reason}{place}: {count} requests until {}", time_text(end_us)))
            }));
            let first = series.periods.iter().map(|period| period.begin_us).min().unwrap_or_default();
            let last = series.periods.iter().map(|period| period.end_us).max().unwrap_or_default();
            rows.push(RefusalRow {
                bucket,
                reason,
                count: series.count,
                first: time_text(first),
                last: time_text(last),
                peak: series.peak,
            });
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        (rows, periods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pause of a minute begins a new period, and the peak is within ten seconds.
    #[test]
    fn periods_end_with_a_pause() {
        let mut names = LogNames::default();
        let (bucket, reason) = (names.buckets.id("b"), names.reasons.id("queue_full"));
        let mut refusals = Refusals::default();
        for second in [0, 1, 2, 3, 100, 101, 300] {
            (0..5).for_each(|_| refusals.add((Some(bucket), reason), second * 1_000_000));
        }
        let (rows, periods) = refusals.finish(&names);
        assert_eq!((rows.len(), rows[0].count, rows[0].peak, periods.len()), (1, 35, 20, 3));
        assert_eq!(periods[0].1, "queue_full in b: 20 requests until 1970-01-01T00:00:03.000Z");
    }

    /// Reasons beyond the maximum share a row, and the periods of one row are bounded.
    #[test]
    fn rows_are_bounded() {
        let mut refusals = Refusals::default();
        (0..20_000).for_each(|reason| refusals.add((None, reason), 0));
        (0..1_000).for_each(|hour| refusals.add((None, 0), hour * 3_600_000_000));
        assert_eq!(refusals.series.len(), ROWS_MAX + 1);
        assert_eq!(refusals.series[&(None, 0)].periods.len(), PERIODS_MAX);
        assert_eq!(refusals.series[&(None, 0)].count, 1_001);
    }
}
