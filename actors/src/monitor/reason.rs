//! The cause of a level: a sensor, its reading, and the threshold that it crossed.

use std::fmt;

use crate::monitor::sensor::Sensor;

/// How a reading stood to the threshold when the level changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// At or above: the level rose.
    Reached,
    /// Below: the level fell.
    Below,
    /// Still above, but requests in flight do not hold this memory: refusing requests would not free it, and the level fell.
    NotByRequests,
    /// The sensor gave no reading any more: the level fell.
    Unknown,
}

/// Why the level changed to its present value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelReason {
    /// The sensor.
    pub sensor: Sensor,
    /// Its reading at the change, in percent; none if it was unknown.
    pub percent: Option<f64>,
    /// The threshold, in percent.
    pub threshold: u8,
    /// How the reading stood to the threshold.
    pub comparison: Comparison,
}

impl fmt::Display for LevelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sensor, percent, threshold, comparison } = self;
        let sensor = sensor.as_str();
        match (percent, comparison) {
            (None, _) => write!(f, "{sensor} is unknown"),
            (Some(percent), Comparison::Reached | Comparison::Unknown) => {
                write!(f, "{sensor} at {percent:.1} %, threshold {threshold} %")
            }
            (Some(percent), Comparison::Below) => {
                write!(f, "{sensor} at {percent:.1} %, below {threshold} %")
            }
            (Some(percent), Comparison::NotByRequests) => {
                write!(f, "{sensor} at {percent:.1} %, not held by requests in flight")
            }
        }
    }
}
