//! Has the queue served at a moment at which nobody gives anything back: when a credential may be used again (C3).
//!
//! One sleeping task at a time is enough, for the earliest such moment; when it is over the actor looks for the next. The task
//! outlives a crash of the actor, and a nudge that comes for nothing does no harm.

use std::sync::Arc;
use std::time::Instant;

use crate::pool::ticket::GateShared;

/// The wake-up that is set.
#[derive(Debug)]
pub(crate) struct Alarm {
    gate: Arc<GateShared>,
    set_for: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new(gate: Arc<GateShared>) -> Self {
        Self { gate, set_for: None }
    }

    /// Nudges the actor then, unless it will be nudged before.
    pub(crate) fn set(&mut self, due: Instant, now: Instant) {
        if self.set_for.is_some_and(|set_for| set_for > now && set_for <= due) {
            return;
        }
        self.set_for = Some(due);
        let gate = Arc::clone(&self.gate);
        actix_rt::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            gate.nudge();
        });
    }
}
