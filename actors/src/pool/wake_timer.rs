//! Has the queue served at a moment at which nobody gives anything back: when a credential may be used again (C3).
//!
//! One sleeping task at a time is enough, for the earliest such moment; when it is over the actor looks for the next. The task
//! outlives a crash of the actor, and a nudge that comes for nothing does no harm.

use std::sync::Arc;
use std::time::Instant;

use crate::pool::ticket::GateShared;

/// The wake-up that is set.
#[derive(Debug)]
pub(crate) struct WakeTimer {
    gate: Arc<GateShared>,
    scheduled_for: Option<Instant>,
}

impl WakeTimer {
    pub(crate) fn new(gate: Arc<GateShared>) -> Self {
        Self { gate, scheduled_for: None }
    }

    /// Nudges the actor then, unless it will be nudged before.
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
