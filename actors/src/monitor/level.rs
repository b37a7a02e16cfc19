//! The four levels, and the thresholds at which they begin and end.

use tidegate_config::MonitorConfig;

/// How close the process is to its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Far from them.
    Normal,
    /// The change is logged.
    Warning,
    /// Optional work is switched off (`actions.rs`).
    Critical,
    /// New requests are shed (`actions.rs`).
    Exhausted,
}

impl Level {
    /// The value in the status document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Exhausted => "exhausted",
        }
    }

    /// The number of the level in the publication, in metrics and in the history.
    pub fn number(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Exhausted => 3,
        }
    }

    /// The level of a number; numbers above all levels mean the highest.
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Normal,
            1 => Self::Warning,
            2 => Self::Critical,
            _ => Self::Exhausted,
        }
    }

    /// The pressure in percent at which this level begins; for normal, the one below which `warning` ends.
    pub fn begins_at(self, config: &MonitorConfig) -> u8 {
        LevelThresholds::from(config).threshold(self)
    }

    /// The pressure in percent below which this level ends.
    pub fn ends_below(self, config: &MonitorConfig) -> u8 {
        LevelThresholds::from(config).end_threshold(self)
    }
}

/// The thresholds of the levels, in percent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LevelThresholds {
    recover: u8,
    warning: u8,
    critical: u8,
    exhausted: u8,
}

impl From<&MonitorConfig> for LevelThresholds {
    fn from(config: &MonitorConfig) -> Self {
        let MonitorConfig { recover, warning, critical, exhausted, .. } = *config;
        Self { recover, warning, critical, exhausted }
    }
}

impl LevelThresholds {
    /// The level that a reading of this percentage raises to.
    pub(super) fn level_entered(&self, percent: f64) -> Level {
        Self::highest(percent, [self.warning, self.critical, self.exhausted])
    }

    /// The highest level that a reading of this percentage keeps.
    pub(super) fn level_kept(&self, percent: f64) -> Level {
        Self::highest(percent, [self.recover, self.warning, self.critical])
    }

    /// The percentage at which a level begins; for normal, the one below which `warning` ends.
    pub(super) fn threshold(&self, level: Level) -> u8 {
        match level {
            Level::Normal => self.recover,
            Level::Warning => self.warning,
            Level::Critical => self.critical,
            Level::Exhausted => self.exhausted,
        }
    }

    /// The percentage below which a level ends.
    pub(super) fn end_threshold(&self, level: Level) -> u8 {
        match level {
            Level::Normal | Level::Warning => self.recover,
            Level::Critical => self.warning,
            Level::Exhausted => self.critical,
        }
    }

    fn highest(percent: f64, [warning, critical, exhausted]: [u8; 3]) -> Level {
        if percent >= f64::from(exhausted) {
            Level::Exhausted
        } else if percent >= f64::from(critical) {
            Level::Critical
        } else if percent >= f64::from(warning) {
            Level::Warning
        } else {
            Level::Normal
        }
    }
}
