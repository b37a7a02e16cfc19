//! The state machine of the level: from readings to a level, its cause and its history.
//!
//! A level rises with the first sample that needs it. It falls when no sample of the last `dwell` has needed it: a
//! load that comes and goes faster than `dwell` raises the level once and does not make it flap. Memory raises it to
//! `exhausted` only while requests in flight can hold enough of it, because refusing requests frees no other memory
//! (X8).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidegate_config::MonitorConfig;

use crate::monitor::headroom::Headroom;
use crate::monitor::level::{Level, LevelThresholds};
use crate::monitor::reading::Readings;
use crate::monitor::reason::{Comparison, LevelReason};
use crate::monitor::relief::{LevelStep, Relief, SensorPressure};
use crate::monitor::sensor::{SENSORS, Sensor};

/// Length of the history.
const TRANSITIONS_MAX: usize = 64;
/// The last reading of a failed sensor still counts for this number of intervals, and at least for `STALE_MIN`.
const STALE_INTERVALS: u32 = 4;
/// A thread that has to wait for a processor may miss some short intervals.
const STALE_MIN: Duration = Duration::from_secs(1);

/// One change of the level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelTransition {
    /// Before.
    pub from: Level,
    /// After.
    pub to: Level,
    /// When.
    pub at: Instant,
    /// The cause of this change; none where no sensor had answered.
    pub reason: Option<LevelReason>,
}

/// The last known pressure of a sensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LastReading {
    sensor: Sensor,
    percent: f64,
    /// The highest level that this reading may cause.
    level_max: Level,
    at: Instant,
}

/// The last sample that needed a level, and the sensor that needed it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct LevelNeed {
    sensor: Sensor,
    at: Instant,
}

/// Levels above normal.
const RAISED: [Level; 3] = [Level::Warning, Level::Critical, Level::Exhausted];

/// The changes that a sample makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LevelUpdate {
    last: [Option<LastReading>; SENSORS],
    needs: [Option<LevelNeed>; RAISED.len()],
    transition: Option<LevelTransition>,
    headroom: Headroom,
    relief: Relief,
}

/// The level and its history.
#[derive(Debug)]
pub(crate) struct MonitorState {
    thresholds: LevelThresholds,
    dwell: Duration,
    stale_after: Duration,
    /// Without `monitor.cpu_pressure_limit` CPU pressure causes no level: a busy host is not an overloaded gateway.
    rates_cpu_pressure: bool,
    level: Level,
    since: Instant,
    reason: Option<LevelReason>,
    last: [Option<LastReading>; SENSORS],
    /// One for each level of `RAISED`.
    needs: [Option<LevelNeed>; RAISED.len()],
    transitions: VecDeque<LevelTransition>,
    headroom: Headroom,
    relief: Relief,
}

impl MonitorState {
    pub(crate) fn new(config: &MonitorConfig, now: Instant) -> Self {
        Self {
            thresholds: LevelThresholds::from(config),
            dwell: config.dwell,
            stale_after: stale_after(config),
            rates_cpu_pressure: config.cpu_pressure_limit.is_some(),
            level: Level::Normal,
            since: now,
            reason: None,
            last: [None; SENSORS],
            needs: [None; RAISED.len()],
            transitions: VecDeque::new(),
            headroom: Headroom::default(),
            relief: Relief::default(),
        }
    }

    /// Continues with other thresholds. The level stays until the next sample, and a level that is not needed any more falls
    /// after `dwell`.
    pub(crate) fn reconfigure(&mut self, config: &MonitorConfig) {
        self.thresholds = LevelThresholds::from(config);
        self.dwell = config.dwell;
        self.stale_after = stale_after(config);
        self.rates_cpu_pressure = config.cpu_pressure_limit.is_some();
    }

    /// The changes that a sample makes.
    pub(crate) fn evaluate(&self, readings: &Readings, now: Instant) -> LevelUpdate {
        let last = self.last_readings(readings, now);
        let needs = self.needs(&last, now);
        let entered = level_of(&last, |percent| self.thresholds.level_entered(percent));
        let next = if entered > self.level { entered } else { self.kept_level(&needs, now) };
        let transition = (next != self.level).then(|| LevelTransition {
            from: self.level,
            to: next,
            at: now,
            reason: if next > self.level {
                self.rise_reason(next, &last)
            } else {
                self.fall_reason(next, &last)
            },
        });
        let headroom = self.headroom.with_sample(readings, self.thresholds.threshold(Level::Exhausted), now);
        let relief = self.next_relief(readings, &last, next, now);
        LevelUpdate { last, needs, transition, headroom, relief }
    }

    fn next_relief(
        &self,
        readings: &Readings,
        last: &[Option<LastReading>; SENSORS],
        after: Level,
        now: Instant,
    ) -> Relief {
        let pressure = |last: &LastReading| {
            let LastReading { sensor, percent, level_max, .. } = *last;
            SensorPressure { sensor, percent, level_max }
        };
        let step = LevelStep { before: self.level, after, since: self.since, dwell: self.dwell };
        let left = readings.memory_left_by_refusing();
        let pressures = last.iter().flatten().map(pressure);
        self.relief.with_sample(pressures, left, (&self.thresholds, step), now)
    }

    /// Applies an update.
    pub(crate) fn apply(&mut self, update: LevelUpdate) -> Option<LevelTransition> {
        let LevelUpdate { last, needs, transition, headroom, relief } = update;
        (self.headroom, self.relief) = (headroom, relief);
        self.last = last;
        self.needs = needs;
        let transition = transition?;
        self.level = transition.to;
        self.since = transition.at;
        self.reason = transition.reason;
        if self.transitions.len() == TRANSITIONS_MAX {
            self.transitions.pop_front();
        }
        self.transitions.push_back(transition);
        Some(transition)
    }

    /// Starts over from the last published level. Earlier readings are not trusted; the level is held for `dwell` at most.
    pub(crate) fn rebuild(
        &mut self,
        (level, since): (Level, Instant),
        relief: Relief,
        transitions: &[LevelTransition],
    ) {
        self.level = level;
        self.since = since;
        self.reason = transitions.last().and_then(|last| last.reason);
        self.last = [None; SENSORS];
        self.needs = [None; RAISED.len()];
        self.transitions = transitions.iter().copied().collect();
        self.headroom = Headroom::default();
        self.relief = relief.without_samples();
    }

    /// For which levels fewer requests would help.
    pub(crate) fn relief(&self) -> Relief {
        self.relief
    }

    /// The most requests in flight for which the memory is enough; none if it is unknown.
    pub(crate) fn in_flight_max(&self) -> Option<usize> {
        self.headroom.in_flight_max()
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn reason(&self) -> Option<LevelReason> {
        self.reason
    }

    pub(crate) fn transitions(&self) -> Vec<LevelTransition> {
        self.transitions.iter().copied().collect()
    }

    pub(crate) fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// The highest level that a sensor may cause with this configuration.
    pub(crate) fn level_max(&self, sensor: Sensor) -> Level {
        if sensor == Sensor::Cpu && !self.rates_cpu_pressure { Level::Normal } else { sensor.level_max() }
    }

    fn last_readings(&self, readings: &Readings, now: Instant) -> [Option<LastReading>; SENSORS] {
        let mut last = self.last;
        let left = readings.memory_left_by_refusing();
        let refusing_helps =
            left.is_none_or(|percent| self.thresholds.level_kept(percent) < Level::Exhausted);
        let sensors = Sensor::ALL.into_iter().zip(readings.in_order());
        for (last, (sensor, reading)) in last.iter_mut().zip(sensors) {
            let level_max = match sensor {
                Sensor::Memory if !refusing_helps => Level::Critical,
                _ => self.level_max(sensor),
            };
            *last = match reading.percent() {
                Some(percent) => Some(LastReading { sensor, percent, level_max, at: now }),
                None => last.filter(|last| now.saturating_duration_since(last.at) < self.stale_after),
            };
        }
        last
    }

    /// Records for each level whether this sample needs it. A level is needed until the reading is below the
    /// threshold under it (hysteresis). A level above the present one is never needed.
    fn needs(
        &self,
        last: &[Option<LastReading>; SENSORS],
        now: Instant,
    ) -> [Option<LevelNeed>; RAISED.len()] {
        let mut needs = self.needs;
        for (need, level) in needs.iter_mut().zip(RAISED) {
            let needing = last.iter().flatten().filter(|last| {
                let entered = self.thresholds.level_entered(last.percent);
                let kept = self.thresholds.level_kept(last.percent).min(self.level);
                entered.max(kept).min(last.level_max) >= level
            });
            if let Some(LastReading { sensor, .. }) = main_cause(needing) {
                *need = Some(LevelNeed { sensor: *sensor, at: now });
            }
        }
        needs
    }

    /// The highest level, up to the present one, that a sample of the last `dwell` needed.
    fn kept_level(&self, needs: &[Option<LevelNeed>; RAISED.len()], now: Instant) -> Level {
        let since_start = now.saturating_duration_since(self.since);
        let is_held = |level: Level, need: &Option<LevelNeed>| match need {
            Some(need) => need.at == now || now.saturating_duration_since(need.at) < self.dwell,
            // Nothing is known after a rebuild: the level counts as needed when it began.
            None => level <= self.level && since_start < self.dwell,
        };
        let held = RAISED.into_iter().zip(needs).filter(|(level, need)| is_held(*level, need));
        held.map(|(level, _)| level).max().unwrap_or(Level::Normal).min(self.level)
    }

    /// The cause of a rise: the sensor with the highest pressure among those that reach the level.
    fn rise_reason(&self, level: Level, last: &[Option<LastReading>; SENSORS]) -> Option<LevelReason> {
        let reaching = last
            .iter()
            .flatten()
            .filter(|last| last.level_max >= level && self.thresholds.level_entered(last.percent) >= level);
        let highest = main_cause(reaching)?;
        let (threshold, comparison) = (self.thresholds.threshold(level), Comparison::Reached);
        Some(LevelReason { sensor: highest.sensor, percent: Some(highest.percent), threshold, comparison })
    }

    /// The cause of a fall: the sensor that was the last to need a higher level, and the threshold under which it fell.
    fn fall_reason(&self, level: Level, last: &[Option<LastReading>; SENSORS]) -> Option<LevelReason> {
        let lost = RAISED.into_iter().position(|raised| raised > level)?;
        let sensor = self.needs[lost]
            .map_or_else(|| self.reason.map(|reason| reason.sensor), |need| Some(need.sensor))?;
        let threshold = self.thresholds.end_threshold(RAISED[lost]);
        let reading = last.iter().flatten().find(|last| last.sensor == sensor);
        let percent = reading.map(|reading| reading.percent);
        let comparison = match percent {
            None => Comparison::Unknown,
            Some(percent) if percent < f64::from(threshold) => Comparison::Below,
            Some(_) => Comparison::NotByRequests,
        };
        Some(LevelReason { sensor, percent, threshold, comparison })
    }
}

fn stale_after(config: &MonitorConfig) -> Duration {
    config.interval.saturating_mul(STALE_INTERVALS).max(STALE_MIN)
}

/// The reading to name as the cause: the highest, but own memory before the memory of all, of which it is a part.
fn main_cause<'a>(readings: impl Iterator<Item = &'a LastReading>) -> Option<&'a LastReading> {
    readings.max_by(|a, b| {
        let is_own = |reading: &LastReading| reading.sensor != Sensor::MemoryTotal;
        is_own(a).cmp(&is_own(b)).then(a.percent.total_cmp(&b.percent))
    })
}

fn level_of(last: &[Option<LastReading>; SENSORS], rate: impl Fn(f64) -> Level) -> Level {
    let levels = last.iter().flatten().map(|last| rate(last.percent).min(last.level_max));
    levels.max().unwrap_or(Level::Normal)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "noise_tests.rs"]
mod noise_tests;
