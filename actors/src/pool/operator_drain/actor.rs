//! The message that begins, changes or ends a drain, and the expiry of drains.

use std::sync::Arc;
use std::time::Instant;

use slog::info;

use crate::actor_shell::MessageHandler;
use crate::mailbox::ActorMessage;
use crate::pool::actor::Pool;
use crate::pool::operator_drain::{Drain, DrainOrder, DrainTarget};

/// Begins a drain, changes its reason and end, or ends it.
pub(crate) struct SetDrain {
    pub(crate) target: DrainTarget,
    /// None ends the drain.
    pub(crate) order: Option<DrainOrder>,
}

impl ActorMessage for SetDrain {
    /// Whether the target was draining before.
    type Reply = bool;
    const NAME: &'static str = "pool.drain";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

impl MessageHandler<SetDrain> for Pool {
    /// Whether the target drains now.
    type Decision = bool;

    fn decide(&self, message: &SetDrain, now: Instant) -> bool {
        self.state.endpoint_stats().drain_cells(&message.target).any(|cell| cell.is_draining(now))
    }

    fn apply(&mut self, SetDrain { target, order }: SetDrain, was_draining: bool, now: Instant) -> bool {
        self.end_expired_drains(now);
        let drain = order.map(|order| order.begin(now));
        for cell in self.state.endpoint_stats().drain_cells(&target) {
            match &drain {
                Some(drain) => cell.set(drain.clone()),
                None => drop(cell.end()),
            }
        }
        self.state.follow_drains(now);
        self.log_events();
        self.schedule_drain_expiry(now);
        was_draining
    }
}

impl Pool {
    /// Goes on with the drains of a predecessor, which are in the cells.
    pub(in crate::pool) fn follow_imported_drains(&mut self, now: Instant) {
        let stats = Arc::clone(self.state.endpoint_stats());
        let (log, bucket) = (&self.log, self.names.bucket.as_str());
        let goes_on = |drain: &Drain, endpoint: Option<&str>| {
            info!(log, "drain goes on after the upgrade"; "bucket" => bucket, "endpoint" => endpoint, "by" => &drain.ordered_by,
                "reason" => &drain.reason);
        };
        if let Some(drain) = stats.bucket_drain().drain(now) {
            goes_on(&drain, None);
        }
        for (at, name) in self.names.endpoints.iter().enumerate() {
            if let Some(drain) = stats.endpoint(at).drain().drain(now) {
                goes_on(&drain, Some(name));
            }
        }
        self.state.follow_drains(now);
        self.log_events();
        self.schedule_drain_expiry(now);
    }

    /// Removes the drains that have expired, and logs them. The pools of other configurations may do it before.
    pub(in crate::pool) fn end_expired_drains(&mut self, now: Instant) {
        let stats = Arc::clone(self.state.endpoint_stats());
        if !stats.all_drain_cells().any(|cell| cell.is_set()) {
            return;
        }
        let (log, bucket) = (&self.log, self.names.bucket.as_str());
        let expired = |drain: &Drain, endpoint: Option<&str>| {
            info!(log, "drain expired"; "bucket" => bucket, "endpoint" => endpoint, "reason" => &drain.reason);
        };
        if let Some(drain) = stats.bucket_drain().take_expired(now) {
            expired(&drain, None);
        }
        for (at, name) in self.names.endpoints.iter().enumerate() {
            if let Some(drain) = stats.endpoint(at).drain().take_expired(now) {
                expired(&drain, Some(name));
            }
        }
        self.state.follow_drains(now);
        self.log_events();
        self.schedule_drain_expiry(now);
    }

    /// Schedules a wake-up for the next expiry.
    pub(in crate::pool) fn schedule_drain_expiry(&mut self, now: Instant) {
        let stats = Arc::clone(self.state.endpoint_stats());
        if let Some(due) = stats.all_drain_cells().filter_map(|cell| cell.until()).min() {
            self.wake_timer.schedule(due, now);
        }
    }
}
