//! The gate and its queue, generic over what a waiter is; the choice of endpoint is `rotation.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::pool::budget::{Budget, RetryTicket, Window};
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
    /// Even the queue is full.
    Refuse {
        /// Waiters.
        queued: usize,
    },
}

/// One bucket's pool.
#[derive(Debug)]
pub(crate) struct PoolState<W> {
    shared: Arc<GateShared>,
    concurrent_max: usize,
    queued_max: usize,
    queue: VecDeque<W>,
    signs: Arc<Signs>,
    rotation: Rotation,
    budget: Budget,
}

impl<W: Waiter> PoolState<W> {
    pub(crate) fn new(
        shared: Arc<GateShared>,
        concurrent_max: usize,
        queued_max: usize,
        signs: Arc<Signs>,
        rotation: Rotation,
        budget: Budget,
    ) -> Self {
        Self { shared, concurrent_max, queued_max, queue: VecDeque::new(), signs, rotation, budget }
    }

    /// The choice among the endpoints.
    pub(crate) fn rotation(&mut self) -> &mut Rotation {
        &mut self.rotation
    }

    pub(crate) fn decide(&self) -> Decision {
        if self.shared.gate.live() < self.concurrent_max && self.queue.iter().all(Waiter::gone) {
            return Decision::Grant;
        }
        // Waiters that left are counted out only where it matters: when the queue looks full.
        let queued = self.queue.len();
        if queued < self.queued_max {
            return Decision::Queue;
        }
        let queued = self.queue.iter().filter(|waiter| !waiter.gone()).count();
        if queued < self.queued_max { Decision::Queue } else { Decision::Refuse { queued } }
    }

    /// Builds a permit: the live count rises here and nowhere else.
    pub(crate) fn grant(&mut self, now: Instant) -> Permit {
        let endpoint = self.pick(None, now);
        Permit::new(&self.shared, endpoint)
    }

    /// Queues a waiter. The gate may have fallen free since `decide`, so the queue is served at once.
    pub(crate) fn enqueue(&mut self, waiter: W, now: Instant) {
        if self.queue.len() >= self.queued_max {
            self.queue.retain(|waiter| !waiter.gone());
        }
        self.queue.push_back(waiter);
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
        self.shared.gate.publish_waiting(0);
        self.shared.gate.nudge_received();
        self.rotation.publish_all();
    }

    fn serve_queue(&mut self, now: Instant) {
        loop {
            while self.shared.gate.live() < self.concurrent_max {
                let Some(waiter) = self.queue.pop_front() else { break };
                if waiter.gone() {
                    continue;
                }
                let permit = self.grant(now);
                // One that left in this moment gives the permit back, which then goes to the next.
                drop(waiter.hand(permit));
            }
            // A ticket that falls from here on sees the waiters and nudges; one that fell before is seen here.
            let live = self.shared.gate.publish_waiting(self.queue.len());
            if self.queue.is_empty() || live >= self.concurrent_max {
                return;
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
