//! The gate and its queue, generic over what a waiter is; the choice of endpoint is `rotation.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::budget::{Budget, RetryTicket, Window};
use crate::pool::drain::{Drain, turn};
use crate::pool::handle::PoolBounds;
use crate::pool::rotation::Rotation;
use crate::pool::signs::Signs;
use crate::pool::ticket::{EndpointId, EndpointTicket, GateShared, Permit};

/// Somebody in the queue.
pub(crate) trait Waiter {
    /// Whether it has left.
    fn gone(&self) -> bool;
    /// Hands the permit over, or gives it back because the waiter has left.
    fn hand(self, permit: Permit) -> Result<(), Permit>;
}

/// What to do with a request for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The gate is free and nobody waits.
    Grant,
    /// Wait for a permit to fall free.
    Queue,
    /// There is no waiting for one.
    Refuse(Refusal),
}

/// Why a request cannot wait for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Even the queue is full.
    Full {
        /// Waiters.
        queued: usize,
        /// When those will have been served; nothing where that is not known.
        retry_after: Duration,
    },
    /// Its turn would come too late.
    Late {
        /// When its turn would come.
        expected: Duration,
        /// How long it could wait.
        left: Duration,
    },
}

/// One bucket's pool.
#[derive(Debug)]
pub(crate) struct PoolState<W> {
    shared: Arc<GateShared>,
    bounds: PoolBounds,
    queue: VecDeque<W>,
    drain: Drain,
    signs: Arc<Signs>,
    rotation: Rotation,
    budget: Budget,
}

impl<W: Waiter> PoolState<W> {
    pub(crate) fn new(
        shared: Arc<GateShared>,
        bounds: PoolBounds,
        signs: Arc<Signs>,
        rotation: Rotation,
        budget: Budget,
    ) -> Self {
        let drain = Drain::new(bounds.concurrent_max);
        Self { shared, bounds, queue: VecDeque::new(), drain, signs, rotation, budget }
    }

    /// The choice among the endpoints.
    pub(crate) fn rotation(&mut self) -> &mut Rotation {
        &mut self.rotation
    }

    /// What becomes of a request that must have begun by its deadline.
    pub(crate) fn decide(&self, deadline: Instant, now: Instant) -> Decision {
        if self.shared.gate.live() < self.bounds.concurrent_max && self.queue.iter().all(Waiter::gone) {
            return Decision::Grant;
        }
        let left = deadline.saturating_duration_since(now).min(self.bounds.queue_timeout);
        let pace = self.drain.pace(now);
        let turn = |ahead: usize| pace.map(|pace| turn(pace, ahead));
        let is_late = |ahead: usize| ahead > 0 && turn(ahead).is_some_and(|turn| turn > left);
        // Waiters that left are counted out only where it matters: when the queue looks too long.
        let queued = self.queue.len();
        if queued < self.bounds.queued_max && !is_late(queued) {
            return Decision::Queue;
        }
        let queued = self.queue.iter().filter(|waiter| !waiter.gone()).count();
        if queued >= self.bounds.queued_max {
            return Decision::Refuse(Refusal::Full { queued, retry_after: turn(queued).unwrap_or_default() });
        }
        match turn(queued) {
            Some(expected) if is_late(queued) => Decision::Refuse(Refusal::Late { expected, left }),
            _ => Decision::Queue,
        }
    }

    /// Builds a permit: the live count rises here and nowhere else.
    pub(crate) fn grant(&mut self, now: Instant) -> Permit {
        let endpoint = self.pick(None, now);
        Permit::new(&self.shared, endpoint)
    }

    /// Queues a waiter. The gate may have fallen free since `decide`, so the queue is served at once.
    pub(crate) fn enqueue(&mut self, waiter: W, now: Instant) {
        if self.queue.len() >= self.bounds.queued_max {
            self.queue.retain(|waiter| !waiter.gone());
        }
        self.queue.push_back(waiter);
        self.drain.waits(now);
        self.serve_queue(now);
    }

    /// A permit fell free.
    pub(crate) fn nudge(&mut self, now: Instant) {
        self.shared.gate.nudge_received();
        self.serve_queue(now);
    }

    /// Another endpoint for a retry, the one to avoid only if no other is usable.
    pub(crate) fn repick(&mut self, avoid: EndpointId, now: Instant) -> EndpointTicket {
        self.pick(Some(avoid), now)
    }

    /// Whether the bucket may try once more.
    pub(crate) fn decide_retry(&self, now: Instant) -> Option<Window> {
        self.budget.decide(self.shared.granted(), self.shared.gate.live(), now)
    }

    /// Tries once more.
    pub(crate) fn retry(&mut self, window: Window) -> RetryTicket {
        let ticket = self.budget.spend(window);
        self.shared.publish_spent(self.budget.spent());
        ticket
    }

    /// Drops the waiters, whose callers see the crash; the live tickets keep the counts, and nothing is left to retry with.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        self.budget.forfeit(self.shared.granted(), now);
        self.queue.clear();
        self.drain.forget();
        self.shared.publish_pace(None);
        self.shared.gate.publish_waiting(0);
        self.shared.gate.nudge_received();
        self.rotation.publish_all();
    }

    fn serve_queue(&mut self, now: Instant) {
        loop {
            self.hand_on(now);
            // A ticket that falls from here on sees the waiters and nudges; one that fell before is seen here.
            let live = self.shared.gate.publish_waiting(self.queue.len());
            if self.queue.is_empty() || live >= self.bounds.concurrent_max {
                break;
            }
        }
        if self.queue.is_empty() {
            self.drain.emptied(now);
        }
        self.shared.publish_pace(self.drain.pace(now));
    }

    /// Hands the places that are free to those who waited longest.
    fn hand_on(&mut self, now: Instant) {
        while self.shared.gate.live() < self.bounds.concurrent_max {
            let Some(waiter) = self.queue.pop_front() else { break };
            if !waiter.gone() {
                let permit = self.grant(now);
                // One that left in this moment gives the permit back, which then goes to the next.
                if waiter.hand(permit).is_ok() {
                    self.drain.handed(now);
                }
            } else if self.queue.is_empty() {
                // Nobody took it, but it did fall free while somebody seemed to wait.
                self.drain.handed(now);
            }
        }
    }

    fn pick(&mut self, avoid: Option<EndpointId>, now: Instant) -> EndpointTicket {
        let chosen = self.rotation.pick(avoid.map(|id| id.0), now);
        EndpointTicket::new(EndpointId(chosen), self.signs.of(chosen).in_flight())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
