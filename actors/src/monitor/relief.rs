//! Whether fewer requests would lower the level (X8), as a pure state machine.
//!
//! Only a sensor that refusals relieve counts (`sensor.rs`). Like a level, relief holds for the dwell time after the last sample that
//! needed it.

use std::time::{Duration, Instant};

use crate::monitor::level::{Level, LevelThresholds};
use crate::monitor::sensor::Sensor;

/// Levels above normal.
const RAISED: [Level; 3] = [Level::Warning, Level::Critical, Level::Exhausted];

/// For each level above normal, whether fewer requests would end it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Relief {
    /// The last sample in which a sensor that refusals lower needed the level.
    needed: [Option<Instant>; RAISED.len()],
    may_end: [bool; RAISED.len()],
}

/// A pressure of a sensor, in percent, and the highest level that it may cause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SensorPressure {
    pub(crate) sensor: Sensor,
    pub(crate) percent: f64,
    pub(crate) level_max: Level,
}

/// The level before and after a sample, and how long a need holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LevelStep {
    pub(crate) before: Level,
    pub(crate) after: Level,
    /// Start of the level before.
    pub(crate) since: Instant,
    pub(crate) dwell: Duration,
}

impl Relief {
    /// After a sample. `left`: own memory without the requests in flight, in percent of its limit.
    pub(crate) fn with_sample(
        mut self,
        pressures: impl Iterator<Item = SensorPressure> + Clone,
        left: Option<f64>,
        (thresholds, step): (&LevelThresholds, LevelStep),
        now: Instant,
    ) -> Self {
        for (at, level) in RAISED.into_iter().enumerate() {
            let needs = |pressure: SensorPressure| {
                let entered = thresholds.level_entered(pressure.percent);
                let kept = thresholds.level_kept(pressure.percent).min(step.before);
                pressure.sensor.is_relieved_by_refusals(level, left, thresholds)
                    && entered.max(kept).min(pressure.level_max) >= level
            };
            if pressures.clone().any(needs) {
                self.needed[at] = Some(now);
            }
            let holds = match self.needed[at] {
                Some(needed) => needed == now || now.saturating_duration_since(needed) < step.dwell,
                // Nothing is known after a rebuild: the last publication counts as needed when the level began.
                None => self.may_end[at] && now.saturating_duration_since(step.since) < step.dwell,
            };
            self.may_end[at] = holds && step.after >= level;
        }
        self
    }

    /// After a crash: the publication holds until the next sample, and earlier samples are not trusted.
    pub(crate) fn without_samples(self) -> Self {
        Self { needed: [None; RAISED.len()], ..self }
    }

    /// Whether fewer requests would end this level.
    pub(crate) fn may_end(&self, level: Level) -> bool {
        RAISED.into_iter().zip(self.may_end).any(|(raised, may_end)| raised == level && may_end)
    }
}
