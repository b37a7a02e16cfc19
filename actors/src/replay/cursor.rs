//! The cursor of one bucket in a replay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::{ConcurrencyConfig, Priority};

use crate::pool::{PoolState, QueueCursor, Waiter};
use crate::replay::{Arrival, ReplayCaller};
use crate::shedding::{Shedder, SheddingDecision};

/// What the cursor decides about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CursorAnswer {
    Admitted,
    /// It would be refused, and the mode is `shadow`.
    Shadowed,
    Refused,
}

/// The cursor and what requests read of it.
pub(super) struct BucketCursor {
    shedder: Arc<Shedder>,
    cursor: QueueCursor,
    /// The update that the replay has scheduled.
    scheduled: Option<Instant>,
}

impl BucketCursor {
    pub(super) fn new(concurrency: &ConcurrencyConfig, seed: u64, origin: Instant) -> Self {
        let shedder = Arc::new(Shedder::of_queue(concurrency, origin).with_hash_seed(seed));
        Self { cursor: QueueCursor::new(Arc::clone(&shedder), origin), shedder, scheduled: None }
    }

    /// Charges a request to its client, as the gateway does after authentication.
    pub(super) fn charge(&self, arrival: &Arrival<'_>, class: Priority, cost: u32) {
        if self.shedder.is_tracking()
            && let Some(client) = arrival.client_id()
        {
            self.shedder.charge(client, class, f64::from(cost));
        }
    }

    /// Decides about a request before the queue. Untracked clients cannot be told apart, and none of them is refused.
    pub(super) fn decide(&self, arrival: &Arrival<'_>, class: Priority, now: Instant) -> CursorAnswer {
        if !self.shedder.is_active() || arrival.caller == ReplayCaller::Untracked {
            return CursorAnswer::Admitted;
        }
        match self.shedder.decide(arrival.client_id(), class, now) {
            SheddingDecision::Admit { .. } => CursorAnswer::Admitted,
            SheddingDecision::Shadow(_) => CursorAnswer::Shadowed,
            SheddingDecision::Refuse(_) => CursorAnswer::Refused,
        }
    }

    /// Records the wait of a request that left the queue, permitted or refused.
    pub(super) fn record_wait(&self, waited: Duration) {
        self.shedder.record_queue_wait(waited);
    }

    /// Moves the cursor if its period is over. Returns the time of the next update if it is not scheduled yet.
    pub(super) fn update<W: Waiter>(&mut self, queue: &PoolState<W>, now: Instant) -> Option<Instant> {
        let due = match self.cursor.is_idle() && queue.is_queue_empty() {
            true => None,
            false => self.cursor.update(|| queue.queue_reading(now), now),
        };
        let is_new = due != self.scheduled;
        self.scheduled = due;
        due.filter(|_| is_new)
    }
}
