//! Reads the counters of all limits. It takes no lock that a worker waits for, and sends no message.

use std::sync::Arc;
use std::time::Instant;

use tidegate_actors::{BreakerHandle, Level, MonitorPeaks, MonitorView, PoolHandle, SessionsReport};

use super::limit_entry::{HitSource, LimitEntry, PeakSource};
use crate::admin::error_tally::ErrorTally;
use crate::process::Shared;
use crate::server::connection_reserve::ConnectionReserve;

/// The counters of one limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LimitReading {
    /// Hits since the start.
    pub(super) hits_total: u64,
    /// The peak since the last reading; NaN if it is unknown.
    pub(super) peak: f32,
}

impl LimitReading {
    #[cfg(test)]
    pub(super) const NONE: Self = Self { hits_total: 0, peak: f32::NAN };
}

/// The reader, with what it has counted itself.
pub(super) struct LimitReader {
    reserve: Arc<ConnectionReserve>,
    /// The last report of the session cache.
    pub(super) sessions: Option<SessionsReport>,
    /// How often each level has begun: warning, critical, exhausted.
    level_begins: [u64; 3],
    /// The last counted transition.
    last_transition: Option<Instant>,
}

impl LimitReader {
    pub(super) fn new(reserve: &Arc<ConnectionReserve>) -> Self {
        let reserve = Arc::clone(reserve);
        Self { reserve, sessions: None, level_begins: [0; 3], last_transition: None }
    }

    /// One reading of each limit.
    pub(super) fn read<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a LimitEntry>,
        (shared, errors): (&Shared, &ErrorTally),
        now: Instant,
    ) -> Vec<LimitReading> {
        let view = shared.actors.monitor.view();
        self.count_level_begins(&view);
        let peaks = shared.actors.monitor.take_peaks();
        entries
            .map(|entry| LimitReading {
                hits_total: self.hits(entry, shared, errors),
                peak: self.peak(entry, shared, (&view, peaks, now)),
            })
            .collect()
    }

    fn hits(&self, entry: &LimitEntry, shared: &Shared, errors: &ErrorTally) -> u64 {
        let pool = entry.bucket.map(|at| &shared.router.buckets()[at].pool);
        match entry.hits {
            HitSource::Reasons(reasons) => {
                reasons.iter().map(|reason| errors.of_reason(reason, entry.bucket)).sum()
            }
            HitSource::Waits => pool.map_or(0, PoolHandle::waited_total),
            HitSource::Retries => pool.map_or(0, PoolHandle::refused_retries),
            HitSource::Openings(rule) => breaker(entry, shared).map_or(0, |breaker| breaker.opened_by(rule)),
            HitSource::Ejections(rule) => pool.map_or(0, |pool| pool.ejected_by(rule)),
            HitSource::LevelBegins(level) => self.level_begins[level_index(level)],
            HitSource::AdminConnections => self.reserve.refused_ordinary(),
            HitSource::AdminStreams => self.reserve.refused_streams(),
            HitSource::SessionEvictions => self.sessions.map_or(0, |report| report.evicted),
        }
    }

    fn peak(
        &self,
        entry: &LimitEntry,
        shared: &Shared,
        (view, peaks, now): (&MonitorView, MonitorPeaks, Instant),
    ) -> f32 {
        let pool = || entry.bucket.map(|at| &shared.router.buckets()[at].pool);
        let limiter = &shared.actors.limiter;
        // Tokens of a burst from its used share.
        let burst = |share: Option<f64>| share.map(|share| share * entry.limit);
        let peak = match entry.peak {
            PeakSource::Unknown => None,
            PeakSource::InFlight => Some(peaks.in_flight as f64),
            PeakSource::OneClient => Some(peaks.of_client as f64),
            PeakSource::Calls => pool().map(|pool| pool.take_calls_peak() as f64),
            PeakSource::Queue => pool().map(|pool| pool.take_waiting_peak() as f64),
            PeakSource::GlobalBurst => burst(limiter.take_global_peak()),
            PeakSource::IpBurst => burst(limiter.take_ip_peak()),
            PeakSource::BucketBurst => {
                let bucket = entry.bucket.map(|at| shared.router.buckets()[at].id);
                burst(bucket.and_then(|id| limiter.take_bucket_peak(id)))
            }
            PeakSource::KeyBurst => burst(limiter.take_key_peak()),
            PeakSource::SubjectBurst => burst(limiter.take_subject_peak()),
            PeakSource::FailedAuthBurst => burst(limiter.take_failed_auth_peak()),
            PeakSource::CircuitFailures => {
                breaker(entry, shared).map(|breaker| breaker.take_failures_peak().into())
            }
            PeakSource::EndpointFailures => pool().map(|pool| pool.take_failures_peak().into()),
            PeakSource::AdminConnections => Some(self.reserve.take_ordinary_peak() as f64),
            PeakSource::AdminStreams => Some(self.reserve.take_streams_peak() as f64),
            PeakSource::Wait => {
                let shedder = pool().map_or(&shared.actors.shedding.process, PoolHandle::shedder);
                let wait = shedder.view(now).wait.filter(|wait| !wait.is_stale());
                wait.map(|wait| wait.wait.as_secs_f64() * 1e3)
            }
            PeakSource::Pressure(level) => pressure(view, level),
            PeakSource::SessionEntries => self.sessions.map(|report| report.len as f64),
        };
        peak.map_or(f32::NAN, |peak| peak as f32)
    }

    fn count_level_begins(&mut self, view: &MonitorView) {
        let last = self.last_transition;
        let new = view.transitions.iter().filter(|transition| last.is_none_or(|last| transition.at > last));
        for transition in new {
            let begun = [Level::Warning, Level::Critical, Level::Exhausted].into_iter();
            let begun = begun.filter(|level| transition.from < *level && *level <= transition.to);
            begun.for_each(|level| self.level_begins[level_index(level)] += 1);
        }
        self.last_transition = view.transitions.last().map(|transition| transition.at).or(last);
    }
}

/// The breaker of the bucket of a limit.
fn breaker<'a>(entry: &LimitEntry, shared: &'a Shared) -> Option<&'a BreakerHandle> {
    entry.bucket.map(|at| &shared.router.buckets()[at].breaker)
}

/// The highest pressure among the sensors that can cause this level, in percent.
fn pressure(view: &MonitorView, level: Level) -> Option<f64> {
    let readings = view.readings();
    let causing = readings.filter(|(sensor, _)| view.level_max(*sensor) >= level);
    causing.filter_map(|(_, reading)| reading.percent()).reduce(f64::max)
}

/// The index of a level above normal.
fn level_index(level: Level) -> usize {
    match level {
        Level::Normal | Level::Warning => 0,
        Level::Critical => 1,
        Level::Exhausted => 2,
    }
}
