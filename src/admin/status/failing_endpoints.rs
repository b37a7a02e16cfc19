//! Whether calls to every endpoint of a bucket fail although the endpoints stay in rotation, because no other is left.

use tidegate_actors::{BreakerView, CircuitState, PoolView};
use tidegate_config::BreakerMode;

/// Failures in a row after which the only endpoint of a bucket fails, if no circuit decides.
pub(super) const FAILURES_MIN: u32 = 5;

/// What shows that all endpoints fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailingEndpoints {
    /// All of several endpoints failed, so all are called.
    All,
    /// The only endpoint failed this often in a row, in calls of this class. No circuit refuses them.
    InARow { class: &'static str, failures: u32 },
    /// A circuit of the only endpoint is not closed. It is a cause of its own.
    Circuit,
}

impl FailingEndpoints {
    pub(super) fn of(pool: &PoolView, mode: BreakerMode, circuits: &[BreakerView]) -> Option<Self> {
        if pool.serving.is_panicking {
            return Some(Self::All);
        }
        if pool.endpoints.len() > 1 {
            return None;
        }
        let worst = circuits.iter().max_by_key(|view| view.consecutive_failures);
        let is_tripped = circuits.iter().any(|view| view.state != CircuitState::Closed);
        let in_a_row = worst
            .filter(|view| view.consecutive_failures >= FAILURES_MIN)
            .map(|view| Self::InARow { class: view.class, failures: view.consecutive_failures });
        match mode {
            BreakerMode::ForcedOpen => None,
            BreakerMode::Off => in_a_row,
            BreakerMode::Shadow => in_a_row.or(is_tripped.then_some(Self::Circuit)),
            // Its threshold may be far above the failures that show that the endpoint fails.
            BreakerMode::On => is_tripped.then_some(Self::Circuit).or(in_a_row),
        }
    }
}
