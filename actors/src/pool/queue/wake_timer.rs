//! Wakes the actor at the time when a credential returns to rotation, so that the queue is served without a released
//! permit (C3).
//!
//! One sleeping task suffices, for the earliest such time; the actor then schedules the next. The task outlives a crash
//! of the actor, and a spurious wake-up does no harm. It ends with the actor.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::task::AbortHandle;

use crate::pool::gate::ticket::GateShared;

/// The scheduled wake-up.
#[derive(Debug)]
pub(crate) struct WakeTimer {
    /// A sleeping task must not keep the memory of a pool that has ended.
    gate: Weak<GateShared>,
    scheduled_for: Option<Instant>,
    task: Option<AbortHandle>,
}

impl Drop for WakeTimer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl WakeTimer {
    pub(crate) fn new(gate: &Arc<GateShared>) -> Self {
        Self { gate: Arc::downgrade(gate), scheduled_for: None, task: None }
    }

    /// Wakes the actor at `due`, unless an earlier wake-up is scheduled.
    pub(crate) fn schedule(&mut self, due: Instant, now: Instant) {
        if self.scheduled_for.is_some_and(|set_for| set_for > now && set_for <= due) {
            return;
        }
        self.scheduled_for = Some(due);
        let gate = Weak::clone(&self.gate);
        let task = actix_rt::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            if let Some(gate) = gate.upgrade() {
                gate.wake();
            }
        });
        self.task = Some(task.abort_handle());
    }
}
