//! The gate and its queue, generic over what a waiter is; the choice of endpoint is `rotation.rs`, that of credential `roster.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::Priority;

use crate::pool::credential::{CredentialId, CredentialTicket};
use crate::pool::credential_selector::{CredentialCapacity, CredentialSelector};
use crate::pool::endpoint_stats::EndpointStatsTable;
use crate::pool::handle::PoolBounds;
use crate::pool::hedge::{HedgeBudget, HedgeRefusal, Hedging, LatencyTails};
use crate::pool::limit_samples::{LimitChange, LimitLearner};
use crate::pool::load_balancer::LoadBalancer;
use crate::pool::queue_throughput::{QueueThroughput, expected_wait};
use crate::pool::retry_budget::{RetryBudget, RetryTicket, RetryWindow};
use crate::pool::ticket::{EndpointId, EndpointTicket, GateShared, Permit};
use crate::pool::wait_queue::WaitQueue;

/// Somebody in the queue.
pub(crate) trait Waiter {
    /// Whether it has left.
    fn is_cancelled(&self) -> bool;
    /// Hands the permit over, or gives it back because the waiter has left.
    fn try_grant(self, permit: Permit) -> Result<(), Permit>;
    /// Tells it that it waits in vain.
    fn reject(self, dismissal: WaitRejection);
}

/// Why somebody waits no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitRejection {
    pub(crate) cause: WaitRejectionCause,
    /// When those that wait will have been served; nothing where that is not known.
    pub(crate) retry_after: Duration,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitRejectionCause {
    /// The queue is full, and one of a higher class came.
    Displaced,
    /// The queue is overloaded, and the newest go first.
    Overload,
}

/// What to do with a request for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcquireDecision {
    /// The gate is free and nobody waits.
    Grant,
    /// Wait for a permit to fall free.
    Queue,
    /// There is no waiting for one.
    Refuse(AcquireRefusal),
}

/// Why a request cannot wait for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcquireRefusal {
    /// Even the queue is full.
    QueueFull {
        /// Waiters.
        queued: usize,
        /// When those will have been served; nothing where that is not known.
        retry_after: Duration,
    },
    /// Its turn would come too late.
    QueueTooLong {
        /// When its turn would come.
        expected: Duration,
        /// How long it could wait.
        left: Duration,
    },
    /// No credential may be used for longer than a request waits.
    NoCredential {
        /// When the first may be used again.
        until: Instant,
        /// Whether the upstream refused it.
        is_refused: bool,
    },
}

/// No other credential has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoCredential;

/// One bucket's pool.
#[derive(Debug)]
pub(crate) struct PoolState<W> {
    shared: Arc<GateShared>,
    bounds: PoolBounds,
    wait_queue: WaitQueue<W>,
    throughput: QueueThroughput,
    endpoint_stats: Arc<EndpointStatsTable>,
    load_balancer: LoadBalancer,
    retry_budget: RetryBudget,
    /// None where there is nothing to choose.
    credential_selector: Option<CredentialSelector>,
    /// How wide the gate is, where that is learnt.
    limit_learner: Option<LimitLearner>,
    /// None where nothing is hedged.
    hedging: Option<Hedging>,
}

impl<W: Waiter> PoolState<W> {
    pub(crate) fn new(
        shared: Arc<GateShared>,
        bounds: PoolBounds,
        signs: Arc<EndpointStatsTable>,
        load_balancer: LoadBalancer,
        budget: RetryBudget,
    ) -> Self {
        let throughput = QueueThroughput::new(bounds.concurrent_max);
        let wait_queue = WaitQueue::new(bounds.overload);
        Self {
            shared,
            bounds,
            wait_queue,
            throughput,
            endpoint_stats: signs,
            load_balancer,
            retry_budget: budget,
            credential_selector: None,
            limit_learner: None,
            hedging: None,
        }
    }

    /// With hedges for slow reads.
    pub(crate) fn with_hedging(self, hedging: Option<Hedging>) -> Self {
        Self { hedging, ..self }
    }

    /// With credentials to choose from.
    pub(crate) fn with_credential_selector(self, roster: Option<CredentialSelector>) -> Self {
        Self { credential_selector: roster, ..self }
    }

    /// The choice among the credentials.
    pub(crate) fn credential_selector(&mut self) -> Option<&mut CredentialSelector> {
        self.credential_selector.as_mut()
    }

    /// Learns how wide the gate is to be, up to its bound.
    pub(crate) fn with_limit_learner(self, learner: Option<LimitLearner>) -> Self {
        Self { limit_learner: learner, ..self }
    }

    /// Permits that may be out now.
    pub(crate) fn limit(&self) -> usize {
        let max = self.bounds.concurrent_max;
        self.limit_learner.as_ref().map_or(max, |learner| learner.limit().min(max))
    }

    /// Looks at what requests have told since. Waiters have a share in a limit that rises.
    pub(crate) fn update_limit(&mut self, now: Instant) -> Option<LimitChange> {
        let moved = self.limit_learner.as_mut()?.update(now)?;
        if moved.to > moved.from {
            self.serve_queue(now);
        }
        Some(moved)
    }

    /// The choice among the endpoints.
    pub(crate) fn load_balancer(&mut self) -> &mut LoadBalancer {
        &mut self.load_balancer
    }

    /// What becomes of a request that must have begun by its deadline.
    pub(crate) fn decide(&self, priority: Priority, deadline: Instant, now: Instant) -> AcquireDecision {
        if self.has_capacity(now) && self.wait_queue.is_all_cancelled() {
            return AcquireDecision::Grant;
        }
        let left = deadline.saturating_duration_since(now).min(self.bounds.queue_timeout);
        let room = self.credential_capacity(now);
        if let CredentialCapacity::OutOfRotation { until, is_refused } = room
            && until > now + left
        {
            return AcquireDecision::Refuse(AcquireRefusal::NoCredential { until, is_refused });
        }
        // While no credential may be used the queue stands still, which says nothing of its pace.
        let pace = self
            .throughput
            .grant_interval(now)
            .filter(|_| !matches!(room, CredentialCapacity::OutOfRotation { .. }));
        let turn = |ahead: usize| pace.map(|pace| expected_wait(pace, ahead));
        let is_late = |ahead: usize| ahead > 0 && turn(ahead).is_some_and(|turn| turn > left);
        // Waiters that left are counted out only where it matters: when the queue looks too long.
        if self.wait_queue.len() < self.bounds.queued_max && !is_late(self.wait_queue.len_ahead(priority)) {
            return AcquireDecision::Queue;
        }
        let (queued, ahead) = (self.wait_queue.live_len(), self.wait_queue.live_len_ahead(priority));
        if queued >= self.bounds.queued_max && !self.wait_queue.has_displaceable(priority) {
            return AcquireDecision::Refuse(AcquireRefusal::QueueFull {
                queued,
                retry_after: turn(ahead).unwrap_or_default(),
            });
        }
        match turn(ahead) {
            Some(expected) if is_late(ahead) => {
                AcquireDecision::Refuse(AcquireRefusal::QueueTooLong { expected, left })
            }
            _ => AcquireDecision::Queue,
        }
    }

    /// Builds a permit, for which there must be a place: the live counts rise here and nowhere else.
    pub(crate) fn grant(&mut self, now: Instant) -> Option<Permit> {
        self.build_permit(None, now)
    }

    fn build_permit(&mut self, avoid: Option<EndpointId>, now: Instant) -> Option<Permit> {
        let credential = match &mut self.credential_selector {
            Some(roster) => Some(roster.pick(None, now)?),
            None => None,
        };
        let endpoint = self.pick_endpoint(avoid, now);
        Some(Permit::new(&self.shared, endpoint, credential))
    }

    /// When to serve the queue again though nobody may have given anything back: a credential comes back then.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        if self.wait_queue.is_empty() || self.shared.gate.live() >= self.limit() {
            return None;
        }
        match self.credential_capacity(now) {
            CredentialCapacity::Available => None,
            CredentialCapacity::Exhausted { next } => next,
            CredentialCapacity::OutOfRotation { until, .. } => Some(until),
        }
    }

    /// Queues a waiter. The gate may have fallen free since `decide`, so the queue is served at once.
    pub(crate) fn enqueue(&mut self, waiter: W, priority: Priority, now: Instant) {
        if self.wait_queue.len() >= self.bounds.queued_max {
            self.wait_queue.prune();
        }
        self.wait_queue.update_overload(now);
        if self.wait_queue.len() >= self.bounds.queued_max
            && let Some(last) = self.wait_queue.displace(priority)
        {
            let is_overloaded = self.wait_queue.is_overloaded();
            let cause =
                if is_overloaded { WaitRejectionCause::Overload } else { WaitRejectionCause::Displaced };
            last.reject(self.wait_rejection(cause, now));
        }
        self.wait_queue.push(waiter, priority, now);
        self.throughput.record_waiting(now);
        self.serve_queue(now);
    }

    /// A permit fell free.
    pub(crate) fn on_wake(&mut self, now: Instant) {
        self.shared.gate.wake_received();
        self.serve_queue(now);
    }

    /// Another endpoint for a retry, the one to avoid only if no other is usable.
    pub(crate) fn pick_other_endpoint(&mut self, avoid: EndpointId, now: Instant) -> EndpointTicket {
        self.pick_endpoint(Some(avoid), now)
    }

    /// Another credential for a retry, if one has room; or, unless it must be another, that one while it is in rotation.
    pub(crate) fn switch_credential(
        &mut self,
        credential: CredentialId,
        must: bool,
        now: Instant,
    ) -> Result<Option<CredentialTicket>, NoCredential> {
        match &mut self.credential_selector {
            None => Ok(None),
            Some(roster) if !must && roster.is_in_rotation(credential, now) => Ok(None),
            Some(roster) => roster.pick(Some(credential), now).map(Some).ok_or(NoCredential),
        }
    }

    /// Whether the bucket may try once more.
    pub(crate) fn decide_retry(&self, now: Instant) -> Option<RetryWindow> {
        self.retry_budget.decide(self.shared.granted(), self.shared.gate.live(), now)
    }

    /// Tries once more.
    pub(crate) fn grant_retry(&mut self, window: RetryWindow) -> RetryTicket {
        let ticket = self.retry_budget.spend(window);
        self.shared.publish_retry_window(self.retry_budget.window());
        ticket
    }

    /// Whether a slow read may be asked for a second time: only into a place that is free at once.
    pub(crate) fn decide_hedge(&self, now: Instant) -> Result<HedgeBudget, HedgeRefusal> {
        let purse = self.hedging.as_ref().and_then(|hedging| hedging.decide(self.shared.granted()));
        let purse = purse.ok_or(HedgeRefusal::Budget)?;
        if self.has_capacity(now) && self.wait_queue.is_all_cancelled() {
            Ok(purse)
        } else {
            Err(HedgeRefusal::Gate)
        }
    }

    /// Asks for it a second time, at another endpoint if one is usable.
    pub(crate) fn grant_hedge(
        &mut self,
        purse: HedgeBudget,
        avoid: EndpointId,
        now: Instant,
    ) -> Option<Permit> {
        let permit = self.build_permit(Some(avoid), now)?;
        if let Some(hedging) = &mut self.hedging {
            hedging.spend(purse);
        }
        self.retry_budget.count_hedge(self.shared.granted(), now);
        self.shared.publish_retry_window(self.retry_budget.window());
        Some(permit)
    }

    /// What the tails are with what was counted by now.
    pub(crate) fn sample_tails(&self, now: Instant) -> Option<LatencyTails> {
        self.hedging.as_ref().map(|hedging| hedging.sample(now))
    }

    pub(crate) fn set_tails(&mut self, tails: LatencyTails) {
        if let Some(hedging) = &mut self.hedging {
            hedging.set_tails(tails);
        }
    }

    /// Drops the waiters, whose callers see the crash; the live tickets keep the counts, and nothing is left to retry with.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        self.retry_budget.exhaust(self.shared.granted(), now);
        if let Some(hedging) = &mut self.hedging {
            hedging.reset(self.shared.granted(), now);
        }
        self.wait_queue.clear();
        self.throughput.reset();
        self.shared.publish_grant_interval(None);
        if let Some(roster) = &mut self.credential_selector {
            roster.rebuild();
        }
        if let Some(learner) = &mut self.limit_learner {
            learner.reset(now);
        }
        self.shared.gate.publish_waiting(0);
        self.shared.gate.wake_received();
        self.load_balancer.publish_all();
    }

    fn serve_queue(&mut self, now: Instant) {
        self.wait_queue.update_overload(now);
        loop {
            self.grant_waiting(now);
            for late in self.wait_queue.shed(now) {
                late.reject(self.wait_rejection(WaitRejectionCause::Overload, now));
            }
            // A ticket that falls from here on sees the waiters and nudges; one that fell before is seen here.
            self.shared.gate.publish_waiting(self.wait_queue.len());
            if self.wait_queue.is_empty() || !self.has_capacity(now) {
                break;
            }
        }
        if self.wait_queue.is_empty() {
            self.wait_queue.update_overload(now);
            self.throughput.record_empty(now);
        }
        self.shared.publish_grant_interval(self.throughput.grant_interval(now));
    }

    fn wait_rejection(&self, cause: WaitRejectionCause, now: Instant) -> WaitRejection {
        let drained =
            self.throughput.grant_interval(now).map(|pace| expected_wait(pace, self.wait_queue.len()));
        WaitRejection { cause, retry_after: drained.unwrap_or_default() }
    }

    /// Hands the places that are free to those whose turn it is.
    fn grant_waiting(&mut self, now: Instant) {
        let somebody_waited = !self.wait_queue.is_empty();
        let mut is_handed = false;
        while self.has_capacity(now) {
            let Some(turn) = self.wait_queue.next_class() else { break };
            let Some(permit) = self.grant(now) else { break };
            let Some(waiter) = self.wait_queue.pop(turn) else { break };
            // One that left in this moment gives the permit back, which then goes to the next.
            if waiter.try_grant(permit).is_ok() {
                self.throughput.record_grant(now);
                is_handed = true;
            }
        }
        if somebody_waited && self.wait_queue.is_empty() && !is_handed {
            // Nobody took it, but it did fall free while somebody seemed to wait.
            self.throughput.record_grant(now);
        }
    }

    /// A place in the gate, and a credential to go with it.
    fn has_capacity(&self, now: Instant) -> bool {
        self.shared.gate.live() < self.limit()
            && self.credential_capacity(now) == CredentialCapacity::Available
    }

    fn credential_capacity(&self, now: Instant) -> CredentialCapacity {
        self.credential_selector.as_ref().map_or(CredentialCapacity::Available, |roster| roster.capacity(now))
    }

    fn pick_endpoint(&mut self, avoid: Option<EndpointId>, now: Instant) -> EndpointTicket {
        let chosen = self.load_balancer.pick(avoid.map(|id| id.0), now);
        EndpointTicket::new(EndpointId(chosen), self.endpoint_stats.endpoint(chosen).in_flight())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
