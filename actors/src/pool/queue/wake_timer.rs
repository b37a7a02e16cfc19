//! Wakes the actor at the time when a credential returns to rotation, so that the queue is served without a released
//! permit (C3).
//!
//! One sleeping task suffices, for the earliest such time; the actor then schedules the next. The task outlives a crash
//! of the actor, and a spurious wake-up does no harm.

use std::sync::Arc;
use std::time::Instant;

use crate::pool::gate::ticket::GateShared;

/// The scheduled wake-up.
#[derive(Debug)]
pub(crate) struct WakeTimer {
    gate: Arc<GateShared>,
    scheduled_for: Option<Instant>,
}

impl WakeTimer {
    pub(crate) fn new(gate: Arc<GateShared>) -> Self {
        Self { gate, scheduled_for: None }
    }

    /// Wakes the actor at `due`, unless an earlier wake-up is scheduled.
    pub(crate) fn schedule(&mut self, due: Instant, now: Instant) {
        if self.scheduled_for.is_some_and(|set_for| set_for > now && set_for <= due) {
            return;
        }
        self.scheduled_for = Some(due);
        let gate = Arc::clone(&self.gate);
        actix_rt::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            gate.wake();
        });
    }
}
