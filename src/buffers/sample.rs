//! Memory figures of a monitor sample: whether buffers may grow, and how many bytes are used in excess.

use tidegate_actors::{Level, MonitorView, Sensor};
use tidegate_config::MonitorConfig;

/// Memory in one sample.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemorySample {
    /// The memory limit, in bytes; none if unknown.
    pub(super) limit_bytes: Option<u64>,
    /// Memory is at `warning` or above: buffers must shrink.
    pub(super) is_short: bool,
    /// The bytes above `critical` while the process's own memory is exhausted.
    pub(super) excess_bytes: Option<u64>,
}

impl MemorySample {
    /// Whether buffers must shrink.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Reads a view. `was_short`: `is_short` of the previous sample, because memory stays short until it is below `recover`.
    pub(crate) fn from_view(view: &MonitorView, config: &MonitorConfig, was_short: bool) -> Self {
        let percent = |sensor| view.pressure_percent(sensor).unwrap_or_default();
        let own_percent = percent(Sensor::Memory);
        let own = view.memory().map(|memory| (memory.own_bytes, memory.own_limit_bytes));
        let limit_bytes = view.memory().map(|memory| memory.limit_bytes);
        let short_from = if was_short { config.recover } else { config.warning };
        let is_exhausted = view.level == Level::Exhausted;
        Self {
            limit_bytes,
            is_short: own_percent.max(percent(Sensor::MemoryTotal)) >= f64::from(short_from),
            excess_bytes: own.filter(|_| is_exhausted).and_then(|own| excess(own, config.critical)),
        }
    }
}

/// The bytes above `percent` of the limit; none below it.
fn excess((own_bytes, limit_bytes): (u64, u64), percent: u8) -> Option<u64> {
    let share_bytes = limit_bytes / 100 * u64::from(percent);
    own_bytes.checked_sub(share_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X1: bytes below critical are no excess
    #[test]
    fn the_excess_is_above_critical() {
        assert_eq!(excess((950, 1000), 90), Some(50));
        assert_eq!(excess((900, 1000), 90), Some(0));
        assert_eq!(excess((899, 1000), 90), None);
    }
}
