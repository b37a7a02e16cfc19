//! The gate, its queue and the choice of endpoint, generic over what a waiter is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::pool::budget::{Budget, RetryTicket, Window};
use crate::pool::ticket::{EndpointId, EndpointTicket, GateShared, Permit};

/// How long an endpoint that refused a connection rests while others are there.
const REST: Duration = Duration::from_secs(1);

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

/// One endpoint's load and health.
#[derive(Debug, Default)]
pub(crate) struct EndpointState {
    in_flight: Arc<AtomicUsize>,
    resting_until: Option<Instant>,
}

/// One bucket's pool.
#[derive(Debug)]
pub(crate) struct PoolState<W> {
    shared: Arc<GateShared>,
    concurrent_max: usize,
    queued_max: usize,
    queue: VecDeque<W>,
    endpoints: Vec<EndpointState>,
    budget: Budget,
    random: u64,
}

impl<W: Waiter> PoolState<W> {
    pub(crate) fn new(
        shared: Arc<GateShared>,
        concurrent_max: usize,
        queued_max: usize,
        endpoints: usize,
        budget: Budget,
        seed: u64,
    ) -> Self {
        let endpoints = (0..endpoints).map(|_| EndpointState::default()).collect();
        let queue = VecDeque::new();
        Self { shared, concurrent_max, queued_max, queue, endpoints, budget, random: seed | 1 }
    }

    /// The endpoints' live counts, for views.
    pub(crate) fn loads(&self) -> Vec<Arc<AtomicUsize>> {
        self.endpoints.iter().map(|endpoint| Arc::clone(&endpoint.in_flight)).collect()
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

    /// Another endpoint for a retry, the one to avoid only if there is no other.
    pub(crate) fn repick(&mut self, avoid: EndpointId, now: Instant) -> EndpointTicket {
        self.pick(Some(avoid), now)
    }

    /// Whether the bucket may try once more.
    pub(crate) fn decide_retry(&self, now: Instant) -> Option<Window> {
        self.budget.decide(self.shared.asked(), self.shared.gate.live(), now)
    }

    /// Tries once more.
    pub(crate) fn retry(&mut self, window: Window) -> RetryTicket {
        self.budget.spend(window)
    }

    /// An endpoint refused a connection; it rests unless it is the last one.
    pub(crate) fn ail(&mut self, id: EndpointId, now: Instant) {
        let others = self.endpoints.iter().enumerate().any(|(i, other)| i != id.0 && !other.rests(now));
        if others && let Some(endpoint) = self.endpoints.get_mut(id.0) {
            endpoint.resting_until = Some(now + REST);
        }
    }

    /// Drops the waiters, whose callers see the crash; the live tickets keep the counts, and nothing is left to retry with.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        self.budget.forfeit(self.shared.asked(), now);
        self.queue.clear();
        self.shared.gate.publish_waiting(0);
        self.shared.gate.nudge_received();
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

    /// The less loaded of two random ones among those that do not rest.
    fn pick(&mut self, avoid: Option<EndpointId>, now: Instant) -> EndpointTicket {
        let first = self.candidate(avoid, now);
        let second = self.candidate(avoid, now);
        let load = |i: usize| self.endpoints[i].in_flight.load(Ordering::Relaxed);
        let chosen = if load(second) < load(first) { second } else { first };
        EndpointTicket::new(EndpointId(chosen), &self.endpoints[chosen].in_flight)
    }

    /// A random place, and from there the first endpoint that may be used.
    fn candidate(&mut self, avoid: Option<EndpointId>, now: Instant) -> usize {
        let count = self.endpoints.len();
        if count == 1 {
            return 0;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        #[expect(clippy::cast_possible_truncation, reason = "any place will do")]
        let start = self.random as usize % count;
        let places = || (0..count).map(|step| (start + step) % count);
        let other = |i: &usize| avoid != Some(EndpointId(*i));
        places()
            .find(|i| other(i) && !self.endpoints[*i].rests(now))
            .or_else(|| places().find(other))
            .unwrap_or(start)
    }
}

impl EndpointState {
    fn rests(&self, now: Instant) -> bool {
        self.resting_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
