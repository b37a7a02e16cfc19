//! From readings to a level.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use tidegate_config::MonitorConfig;

use crate::monitor::level::{Level, Thresholds};

/// Transitions that are remembered.
const TRANSITIONS_MAX: usize = 64;
/// Intervals for which a sensor's last reading stands in for one that failed.
const STALE_INTERVALS: u32 = 4;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensor {
    /// The process's resident memory.
    Memory,
    /// Its open descriptors.
    Descriptors,
    /// Requests in flight.
    InFlight,
}

impl Sensor {
    /// The word in the status document and in reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::InFlight => "in_flight",
        }
    }

    /// The highest level it may raise to: slots have a hard cap of their own.
    fn level_max(self) -> Level {
        match self {
            Self::Memory | Self::Descriptors => Level::Exhausted,
            Self::InFlight => Level::Critical,
        }
    }
}

/// What a sensor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// So much of so much.
    Known {
        /// In the sensor's unit.
        used: u64,
        /// In the sensor's unit.
        limit: u64,
    },
    /// It failed, or knows no limit.
    Unknown,
}

impl Reading {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn percent(self) -> Option<f64> {
        match self {
            Self::Known { used, limit } if limit > 0 => Some(used as f64 * 100.0 / limit as f64),
            Self::Known { .. } | Self::Unknown => None,
        }
    }
}

/// One sample: what every sensor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readings {
    pub(crate) memory: Reading,
    pub(crate) descriptors: Reading,
    pub(crate) in_flight: Reading,
}

impl Readings {
    /// Before the first sample.
    pub(crate) const NONE: Self =
        Self { memory: Reading::Unknown, descriptors: Reading::Unknown, in_flight: Reading::Unknown };

    pub(super) fn by_sensor(&self) -> [(Sensor, Reading); 3] {
        let Self { memory, descriptors, in_flight } = *self;
        [(Sensor::Memory, memory), (Sensor::Descriptors, descriptors), (Sensor::InFlight, in_flight)]
    }
}

/// Why a level is what it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reason {
    /// The sensor that decides.
    pub sensor: Sensor,
    /// What it measured, in percent of its limit.
    pub percent: f64,
    /// What that was compared with, in percent.
    pub threshold: u8,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sensor, percent, threshold } = self;
        write!(f, "{} at {percent:.1} %, threshold {threshold} %", sensor.as_str())
    }
}

/// The level changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transition {
    /// From this level.
    pub from: Level,
    /// To this.
    pub to: Level,
    /// When.
    pub at: Instant,
    /// Why; going down, the highest pressure left. None if no sensor knew anything.
    pub reason: Option<Reason>,
}

/// A sensor's last known pressure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Held {
    sensor: Sensor,
    percent: f64,
    at: Instant,
}

/// What a sample changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Judgement {
    held: [Option<Held>; 3],
    transition: Option<Transition>,
}

/// The level and its history.
#[derive(Debug)]
pub(crate) struct MonitorState {
    thresholds: Thresholds,
    dwell: Duration,
    stale_after: Duration,
    level: Level,
    since: Instant,
    reason: Option<Reason>,
    held: [Option<Held>; 3],
    transitions: VecDeque<Transition>,
}

impl MonitorState {
    pub(crate) fn new(config: &MonitorConfig, now: Instant) -> Self {
        Self {
            thresholds: Thresholds::from(config),
            dwell: config.dwell,
            stale_after: config.interval.saturating_mul(STALE_INTERVALS),
            level: Level::Normal,
            since: now,
            reason: None,
            held: [None; 3],
            transitions: VecDeque::new(),
        }
    }

    /// What a sample means.
    pub(crate) fn judge(&self, readings: &Readings, now: Instant) -> Judgement {
        let mut held = self.held;
        for (held, (sensor, reading)) in held.iter_mut().zip(readings.by_sensor()) {
            *held = match reading.percent() {
                Some(percent) => Some(Held { sensor, percent, at: now }),
                None => held.filter(|held| now.saturating_duration_since(held.at) < self.stale_after),
            };
        }
        let level_by = |rate: &dyn Fn(f64) -> Level| {
            let levels = held.iter().flatten().map(|held| rate(held.percent).min(held.sensor.level_max()));
            levels.max().unwrap_or(Level::Normal)
        };
        let entered = level_by(&|percent| self.thresholds.entered(percent));
        let kept = level_by(&|percent| self.thresholds.kept(percent)).min(self.level);
        let next = entered.max(kept);
        let dwelt = now.saturating_duration_since(self.since) >= self.dwell;
        let changes = next > self.level || (next < self.level && dwelt);
        let transition = changes.then(|| Transition {
            from: self.level,
            to: next,
            at: now,
            reason: self.reason_for(next, &held),
        });
        Judgement { held, transition }
    }

    /// Takes a judgement over.
    pub(crate) fn apply(&mut self, judgement: Judgement) -> Option<Transition> {
        let Judgement { held, transition } = judgement;
        self.held = held;
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

    /// Starts over from what was published. What the sensors said last is not trusted.
    pub(crate) fn rebuild(&mut self, level: Level, since: Instant, transitions: &[Transition]) {
        self.level = level;
        self.since = since;
        self.reason = transitions.last().and_then(|last| last.reason);
        self.held = [None; 3];
        self.transitions = transitions.iter().copied().collect();
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.reason
    }

    pub(crate) fn transitions(&self) -> Vec<Transition> {
        self.transitions.iter().copied().collect()
    }

    pub(crate) fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// The sensor with the highest pressure among those that may raise to this level.
    fn reason_for(&self, level: Level, held: &[Option<Held>; 3]) -> Option<Reason> {
        let able = held.iter().flatten().filter(|held| held.sensor.level_max() >= level);
        let worst = able.max_by(|a, b| a.percent.total_cmp(&b.percent))?;
        let threshold = self.thresholds.of(level);
        Some(Reason { sensor: worst.sensor, percent: worst.percent, threshold })
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
