//! Memory figures of a monitor sample: whether buffers may grow, and how many bytes transfers must free.

use tidegate_actors::{Action, InForce, Level, MonitorView, OverloadActions, Sensor};
use tidegate_config::MonitorConfig;

use crate::buffers::cut::MemoryCut;

/// Memory in one sample.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct MemorySample {
    /// The memory limit, in bytes; none if unknown.
    pub(super) limit_bytes: Option<u64>,
    /// The memory for buffers below `exhausted`, those in use included; none if unknown.
    pub(super) buffers_max: Option<u64>,
    /// Memory is at the level of the action `receive_buffers`, or was and has not ended.
    is_short: bool,
    /// How the action acts, while memory is short.
    pub(super) shrinking: Option<InForce>,
    /// The action `pause_transfers`, while it is in force and the process's own memory is at its level.
    pub(super) pausing: Option<MemoryExcess>,
    /// The same of the action `cut_transfers`.
    pub(super) cutting: Option<MemoryExcess>,
}

/// What transfers must free.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct MemoryExcess {
    pub(super) in_force: InForce,
    /// The bytes above the end of the level.
    pub(super) bytes: u64,
    pub(super) figures: MemoryCut,
}

/// The levels of the actions on transfers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransferLevels {
    shrink: Level,
    pause: Level,
    cut: Level,
}

impl TransferLevels {
    pub(crate) fn of(actions: &OverloadActions) -> Self {
        let level = |action| actions.rule(action).on_level;
        Self {
            shrink: level(Action::ReceiveBuffers),
            pause: level(Action::PauseTransfers),
            cut: level(Action::CutTransfers),
        }
    }
}

impl MemorySample {
    /// Reads a view. `before` is the previous sample: memory stays at a level until it is below the end of the level.
    pub(crate) fn from_view(
        view: &MonitorView,
        (config, levels): (&MonitorConfig, TransferLevels),
        before: &Self,
    ) -> Self {
        let percent = |sensor| view.pressure_percent(sensor).unwrap_or_default();
        let own_percent = percent(Sensor::Memory);
        let is_at = |percent: f64, level: Level, was_at: bool| {
            let from = if was_at { level.ends_below(config) } else { level.begins_at(config) };
            percent >= f64::from(from)
        };
        let excess = |action: Action, level: Level, before: Option<MemoryExcess>| {
            let in_force = view.actions.check(action)?;
            let memory = view.memory().filter(|_| is_at(own_percent, level, before.is_some()))?;
            let bytes = bytes_above((memory.own_bytes, memory.own_limit_bytes), level.ends_below(config));
            let figures = MemoryCut::new(own_percent, (level, before.is_some()), config);
            Some(MemoryExcess { in_force, bytes, figures })
        };
        let any_percent = own_percent.max(percent(Sensor::MemoryTotal));
        let is_short = is_at(any_percent, levels.shrink, before.is_short);
        Self {
            limit_bytes: view.memory().map(|memory| memory.limit_bytes),
            buffers_max: view.memory().map(|memory| {
                let usable = memory.own_limit_bytes / 100 * u64::from(config.exhausted);
                usable.saturating_sub(memory.own_bytes.saturating_sub(memory.sockets_bytes))
            }),
            is_short,
            shrinking: view.actions.check(Action::ReceiveBuffers).filter(|_| is_short),
            pausing: excess(Action::PauseTransfers, levels.pause, before.pausing),
            cutting: excess(Action::CutTransfers, levels.cut, before.cutting),
        }
    }

    /// Whether memory is at the level of an action on transfers.
    pub(crate) fn is_acting(&self) -> bool {
        self.is_short || self.pausing.is_some()
    }
}

/// The bytes above `percent` of the limit.
fn bytes_above((own_bytes, limit_bytes): (u64, u64), percent: u8) -> u64 {
    own_bytes.saturating_sub(limit_bytes / 100 * u64::from(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X1: the excess is what is above the end of the level
    #[test]
    fn the_excess_is_above_the_end_of_the_level() {
        assert_eq!(bytes_above((950, 1000), 90), 50);
        assert_eq!(bytes_above((900, 1000), 90), 0);
        assert_eq!(bytes_above((899, 1000), 90), 0);
    }
}
