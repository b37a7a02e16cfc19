//! How near each limit was to acting in the last hour: hits, peak use, and a suggested value (G2).
//!
//! `limit_entry.rs` is a limit, `table.rs` and `bucket_table.rs` have all, `readings.rs` reads their counters once a second,
//! `suggestion.rs` derives values. Peaks are kept where a counter changes anyway, so that a request costs no more than a
//! comparison. The minutes are in fixed memory: 488 bytes for each limit, of at most [`table::BUCKETS_MAX`] buckets.

mod bucket_table;
mod limit_entry;
mod readings;
mod suggestion;
mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tidegate_actors::SessionsReport;
use tidegate_config::Config;

use crate::admin::error_tally::ErrorTally;
use crate::process::Shared;
use crate::server::connection_reserve::ConnectionReserve;

use limit_entry::LimitEntry;
use readings::{LimitReader, LimitReading};
use suggestion::Suggestion;

/// The complete minutes that are kept.
const MINUTES_MAX: u64 = 60;
/// The complete minutes and the present one.
const MINUTES_KEPT: usize = 61;
const SECONDS_PER_MINUTE: u64 = 60;

/// The use of one limit in one minute.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Minute {
    hits: u32,
    /// NaN if it is unknown.
    peak: f32,
}

impl Minute {
    const EMPTY: Self = Self { hits: 0, peak: f32::NAN };
}

/// One limit with its last hour.
struct TrackedLimit {
    entry: LimitEntry,
    /// A ring; the present minute is at the minute's number modulo its length.
    minutes: Box<[Minute; MINUTES_KEPT]>,
    hits_total: u64,
}

/// The last hour of all limits.
struct LimitHours {
    limits: Vec<TrackedLimit>,
    by_key: HashMap<String, usize>,
    started: Instant,
    /// The number of the present minute.
    minute: u64,
}

/// The use of all limits, and the reader of their counters.
pub(super) struct LimitUse {
    hours: LimitHours,
    reader: LimitReader,
}

impl LimitUse {
    pub(super) fn new(config: &Config, reserve: &Arc<ConnectionReserve>, now: Instant) -> Self {
        Self { hours: LimitHours::new(config, now), reader: LimitReader::new(reserve) }
    }

    /// Continues with the limits of another configuration.
    pub(super) fn set_config(&mut self, config: &Config) {
        self.hours.set_config(config);
    }

    /// Reads all counters. Called once a second.
    pub(super) fn sample(&mut self, shared: &Shared, errors: &ErrorTally, now: Instant) {
        let readings = self.reader.read(self.hours.entries(), (shared, errors), now);
        self.hours.record(&readings, now);
    }

    /// Sets the last report of the session cache; none if there was no reply.
    pub(super) fn set_sessions(&mut self, report: Option<SessionsReport>) {
        self.reader.sessions = report;
    }

    /// The last hour of a limit by its key; none if the key is no limit.
    pub(super) fn last_hour(&self, key: &str) -> Option<LastHour> {
        self.hours.last_hour(key)
    }
}

/// The last hour of one limit.
#[derive(Debug, PartialEq, Serialize)]
pub(in crate::admin) struct LastHour {
    /// Complete minutes that it covers; it covers the present one too.
    minutes: u64,
    /// How often the limit acted.
    hits: u64,
    hit: &'static str,
    peak: Option<f64>,
    limit: f64,
    unit: &'static str,
    suggestion: Option<Suggestion>,
}

impl LimitHours {
    fn new(config: &Config, now: Instant) -> Self {
        let mut this = Self { limits: Vec::new(), by_key: HashMap::new(), started: now, minute: 0 };
        this.set_config(config);
        this
    }

    /// Replaces the limits. A limit keeps its last hour by its key.
    fn set_config(&mut self, config: &Config) {
        let mut old: Vec<_> = std::mem::take(&mut self.limits).into_iter().map(Some).collect();
        let track = |entry: LimitEntry| {
            let own = self.by_key.get(&entry.key).and_then(|at| old[*at].take());
            let new = || (Box::new([Minute::EMPTY; MINUTES_KEPT]), 0);
            let (minutes, hits_total) = own.map_or_else(new, |own| (own.minutes, own.hits_total));
            TrackedLimit { entry, minutes, hits_total }
        };
        let limits: Vec<TrackedLimit> = table::entries(config).into_iter().map(track).collect();
        let by_key = limits.iter().enumerate().map(|(at, limit)| (limit.entry.key.clone(), at)).collect();
        (self.limits, self.by_key) = (limits, by_key);
    }

    /// The limits, in the order of their readings.
    fn entries(&self) -> impl Iterator<Item = &LimitEntry> {
        self.limits.iter().map(|limit| &limit.entry)
    }

    /// Adds one reading of each limit.
    fn record(&mut self, readings: &[LimitReading], now: Instant) {
        let minute = now.saturating_duration_since(self.started).as_secs() / SECONDS_PER_MINUTE;
        let passed = minute.saturating_sub(self.minute).min(MINUTES_KEPT as u64);
        self.minute = self.minute.max(minute);
        let at = |minute: u64| (minute % MINUTES_KEPT as u64) as usize;
        for (limit, reading) in self.limits.iter_mut().zip(readings) {
            for past in 0..passed {
                limit.minutes[at(self.minute - past)] = Minute::EMPTY;
            }
            let new = reading.hits_total.saturating_sub(limit.hits_total);
            limit.hits_total = reading.hits_total;
            let minute = &mut limit.minutes[at(self.minute)];
            minute.hits = minute.hits.saturating_add(u32::try_from(new).unwrap_or(u32::MAX));
            // The maximum of a number and NaN is the number.
            minute.peak = minute.peak.max(reading.peak);
        }
    }

    /// The last hour of a key; none if it is no limit.
    fn last_hour(&self, key: &str) -> Option<LastHour> {
        let TrackedLimit { entry, minutes, .. } = &self.limits[*self.by_key.get(key)?];
        let hits = minutes.iter().map(|minute| u64::from(minute.hits)).sum();
        let peak = minutes.iter().map(|minute| minute.peak).fold(f32::NAN, f32::max);
        let peak =
            Some(f64::from(peak)).filter(|peak| peak.is_finite()).map(|peak| (peak * 10.0).round() / 10.0);
        let covered = self.minute.min(MINUTES_MAX);
        Some(LastHour {
            minutes: covered,
            hits,
            hit: entry.hit(),
            peak,
            limit: entry.limit,
            unit: entry.unit,
            suggestion: suggestion::suggest(entry, (hits, peak), covered),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_actors::clock;

    use super::*;

    fn recorded(readings: &[(u64, u64, f32)]) -> LastHour {
        let start = clock::now();
        let mut limits = LimitHours::new(&Config::default(), start);
        let key = "server.max_concurrent_requests";
        let at = limits.by_key[key];
        for (second, hits_total, peak) in readings {
            let mut all = vec![LimitReading::NONE; limits.limits.len()];
            all[at] = LimitReading { hits_total: *hits_total, peak: *peak };
            limits.record(&all, start + Duration::from_secs(*second));
        }
        limits.last_hour(key).unwrap()
    }

    /// G2: hits add up and the highest peak counts, for an hour and no longer
    #[test]
    fn the_last_hour_is_kept() {
        let hour = recorded(&[(1, 5, 10.0), (30, 7, 40.0), (61, 7, f32::NAN), (3000, 8, 3.0)]);
        assert_eq!((hour.minutes, hour.hits, hour.peak, hour.limit), (50, 8, Some(40.0), 1000.0));
        let later =
            recorded(&[(1, 5, 10.0), (30, 7, 40.0), (61, 7, f32::NAN), (3000, 8, 3.0), (3661, 8, 1.0)]);
        assert_eq!((later.minutes, later.hits, later.peak), (60, 1, Some(3.0)));
        let complete = recorded(&[(1, 5, 10.0), (30, 7, 40.0), (3659, 8, 1.0)]);
        assert_eq!((complete.minutes, complete.hits), (60, 8), "sixty minutes are complete");
        let after_a_pause = recorded(&[(1, 5, 10.0), (1_000_000, 5, f32::NAN)]);
        assert_eq!((after_a_pause.minutes, after_a_pause.hits, after_a_pause.peak), (60, 0, None));
    }

    /// G2, G3: in another configuration a limit keeps its last hour, with its new value
    #[test]
    fn a_limit_keeps_its_hour_by_its_key() {
        let start = clock::now();
        let mut limits = LimitHours::new(&Config::default(), start);
        let key = "admin.max_connections";
        let mut all = vec![LimitReading::NONE; limits.limits.len()];
        all[limits.by_key[key]] = LimitReading { hits_total: 4, peak: 9.0 };
        limits.record(&all, start);
        let mut config = Config::default();
        config.admin.max_connections = 77.try_into().unwrap();
        config.concurrency.max_per_client = 3;
        limits.set_config(&config);
        let hour = limits.last_hour(key).unwrap();
        assert_eq!((hour.hits, hour.peak, hour.limit), (4, Some(9.0), 77.0));
    }

    /// G2: a key that is no limit has no hour
    #[test]
    fn other_keys_have_none() {
        let limits = LimitHours::new(&Config::default(), clock::now());
        assert_eq!(limits.last_hour("server.port"), None);
        assert!(limits.last_hour("admin.max_connections").is_some());
    }
}
