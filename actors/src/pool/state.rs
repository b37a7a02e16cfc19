//! The gate and its queue, generic over the waiter. `load_balancer/` chooses the endpoint, `credentials/selector.rs`
//! the credential.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::Priority;

use crate::pool::adaptive::limit_samples::{LimitChange, LimitLearner};
use crate::pool::bounds::PoolBounds;
use crate::pool::credentials::credential::{CredentialId, CredentialTicket};
use crate::pool::credentials::selector::{CredentialCapacity, CredentialSelector};
use crate::pool::decision::{
    AcquireDecision, AcquireRefusal, NoCredential, WaitRejection, WaitRejectionCause,
};
use crate::pool::gate::ticket::{EndpointId, EndpointTicket, GateShared, Permit};
use crate::pool::hedge::{HedgeBudget, HedgeRefusal, Hedging, LatencyTails};
use crate::pool::load_balancer::LoadBalancer;
use crate::pool::load_balancer::endpoint_stats::EndpointStatsTable;
use crate::pool::queue::queue_throughput::{QueueThroughput, expected_wait};
use crate::pool::queue::wait_queue::WaitQueue;
use crate::pool::queue_cursor::QueueReading;
use crate::pool::retry_budget::{RetryBudget, RetryTicket, RetryWindow};

/// A request in the queue.
pub(crate) trait Waiter {
    /// Whether the request was cancelled.
    fn is_cancelled(&self) -> bool;
    /// Grants the permit; returns it if the waiter was cancelled.
    fn try_grant(self, permit: Permit) -> Result<(), Permit>;
    /// Ends the wait without a permit.
    fn reject(self, rejection: WaitRejection);
}

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
    /// None without named credentials.
    credential_selector: Option<CredentialSelector>,
    /// None if the limit is not learnt.
    limit_learner: Option<LimitLearner>,
    /// None if hedging is off.
    hedging: Option<Hedging>,
}

impl<W: Waiter> PoolState<W> {
    pub(crate) fn new(
        shared: Arc<GateShared>,
        bounds: PoolBounds,
        stats: Arc<EndpointStatsTable>,
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
            endpoint_stats: stats,
            load_balancer,
            retry_budget: budget,
            credential_selector: None,
            limit_learner: None,
            hedging: None,
        }
    }

    /// Enables hedged reads.
    pub(crate) fn with_hedging(self, hedging: Option<Hedging>) -> Self {
        Self { hedging, ..self }
    }

    /// Adds named credentials.
    pub(crate) fn with_credential_selector(self, selector: Option<CredentialSelector>) -> Self {
        Self { credential_selector: selector, ..self }
    }

    pub(crate) fn credential_selector(&mut self) -> Option<&mut CredentialSelector> {
        self.credential_selector.as_mut()
    }

    /// Enables the adaptive limit.
    pub(crate) fn with_limit_learner(self, learner: Option<LimitLearner>) -> Self {
        Self { limit_learner: learner, ..self }
    }

    /// Permits that may be in use now.
    pub(crate) fn limit(&self) -> usize {
        let max = self.bounds.concurrent_max;
        self.limit_learner.as_ref().map_or(max, |learner| learner.limit().min(max))
    }

    /// Evaluates the samples. A higher limit serves waiters at once.
    pub(crate) fn update_limit(&mut self, now: Instant) -> Option<LimitChange> {
        let moved = self.limit_learner.as_mut()?.update(now)?;
        if moved.to > moved.from {
            self.serve_queue(now);
        }
        Some(moved)
    }

    pub(crate) fn load_balancer(&mut self) -> &mut LoadBalancer {
        &mut self.load_balancer
    }

    /// Decides on a request that must get its permit before `deadline`.
    pub(crate) fn decide(&self, priority: Priority, deadline: Instant, now: Instant) -> AcquireDecision {
        if self.has_capacity(now) && self.wait_queue.is_all_cancelled() {
            return AcquireDecision::Grant;
        }
        let until_deadline = deadline.saturating_duration_since(now);
        let left = until_deadline.min(self.bounds.queue_timeout);
        let capacity = self.credential_capacity(now);
        if let CredentialCapacity::OutOfRotation { until, is_refused } = capacity
            && until > now + left
        {
            return AcquireDecision::Refuse(AcquireRefusal::NoCredential { until, is_refused });
        }
        // While no credential can be used nothing is granted, and the throughput gives no expected wait.
        let pace = self
            .throughput
            .grant_interval(now)
            .filter(|_| !matches!(capacity, CredentialCapacity::OutOfRotation { .. }));
        let wait = |ahead: usize| pace.map(|pace| expected_wait(pace, ahead));
        let is_late = |ahead: usize| ahead > 0 && wait(ahead).is_some_and(|wait| wait > left);
        // Cancelled waiters are excluded only where it matters: when the queue looks too long.
        if self.wait_queue.len() < self.bounds.queued_max && !is_late(self.wait_queue.len_ahead(priority)) {
            return AcquireDecision::Queue;
        }
        let (queued, ahead) = (self.wait_queue.live_len(), self.wait_queue.live_len_ahead(priority));
        if queued >= self.bounds.queued_max && !self.wait_queue.has_displaceable(priority) {
            return AcquireDecision::Refuse(AcquireRefusal::QueueFull {
                queued,
                retry_after: wait(ahead).unwrap_or_default(),
            });
        }
        match wait(ahead) {
            Some(expected) if is_late(ahead) => {
                let is_deadline = until_deadline < self.bounds.queue_timeout;
                AcquireDecision::Refuse(AcquireRefusal::QueueTooLong { expected, left, is_deadline })
            }
            _ => AcquireDecision::Queue,
        }
    }

    /// Builds a permit; the gate must have room. The live counts rise only here.
    pub(crate) fn grant(&mut self, now: Instant) -> Option<Permit> {
        self.build_permit(None, now)
    }

    fn build_permit(&mut self, avoid: Option<EndpointId>, now: Instant) -> Option<Permit> {
        let credential = match &mut self.credential_selector {
            Some(selector) => Some(selector.pick(None, now)?),
            None => None,
        };
        let endpoint = self.pick_endpoint(avoid, now);
        Some(Permit::new(&self.shared, endpoint, credential))
    }

    /// Time at which the queue must be served again without a released permit: a credential returns then.
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

    /// Whether no request waits, cancelled ones included.
    pub(crate) fn is_queue_empty(&self) -> bool {
        self.wait_queue.is_empty()
    }

    /// The queue for its cursor.
    pub(crate) fn queue_reading(&self, now: Instant) -> QueueReading {
        let length = self.wait_queue.len();
        let expected = match length {
            0 => Some(Duration::ZERO),
            ahead => self.throughput.grant_interval(now).map(|pace| expected_wait(pace, ahead)),
        };
        let oldest = self.wait_queue.oldest_live();
        QueueReading { oldest, expected, length, length_max: self.bounds.queued_max }
    }

    /// Queues a waiter. The gate may have room since `decide`, so the queue is served at once.
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

    /// A permit was released.
    pub(crate) fn on_wake(&mut self, now: Instant) {
        self.shared.gate.wake_received();
        self.serve_queue(now);
    }

    /// Removes the waiters that have given up.
    pub(crate) fn prune_queue(&mut self, now: Instant) {
        self.wait_queue.prune();
        self.serve_queue(now);
    }

    /// Chooses another endpoint for a retry; `avoid` only if no other is usable.
    pub(crate) fn pick_other_endpoint(&mut self, avoid: EndpointId, now: Instant) -> EndpointTicket {
        self.pick_endpoint(Some(avoid), now)
    }

    /// Reserves another credential for a retry, if one has capacity. Without `must` the request keeps its credential
    /// while that is in rotation.
    pub(crate) fn switch_credential(
        &mut self,
        credential: CredentialId,
        must: bool,
        now: Instant,
    ) -> Result<Option<CredentialTicket>, NoCredential> {
        match &mut self.credential_selector {
            None => Ok(None),
            Some(selector) if !must && selector.is_in_rotation(credential, now) => Ok(None),
            Some(selector) => selector.pick(Some(credential), now).map(Some).ok_or(NoCredential),
        }
    }

    /// Whether the retry budget has room for one more retry.
    pub(crate) fn decide_retry(&self, now: Instant) -> Option<RetryWindow> {
        self.retry_budget.decide(self.shared.granted(), self.shared.gate.live(), now)
    }

    /// Spends the retry.
    pub(crate) fn grant_retry(&mut self, window: RetryWindow) -> RetryTicket {
        let ticket = self.retry_budget.spend(window);
        self.shared.publish_retry_window(self.retry_budget.window());
        ticket
    }

    /// Whether a slow read may be hedged: only with a permit that is free at once.
    pub(crate) fn decide_hedge(&self, now: Instant) -> Result<HedgeBudget, HedgeRefusal> {
        let budget = self.hedging.as_ref().and_then(|hedging| hedging.decide(self.shared.granted()));
        let budget = budget.ok_or(HedgeRefusal::Budget)?;
        if self.has_capacity(now) && self.wait_queue.is_all_cancelled() {
            Ok(budget)
        } else {
            Err(HedgeRefusal::Gate)
        }
    }

    /// Grants a hedge, at another endpoint if one is usable.
    pub(crate) fn grant_hedge(
        &mut self,
        budget: HedgeBudget,
        avoid: EndpointId,
        now: Instant,
    ) -> Option<Permit> {
        let permit = self.build_permit(Some(avoid), now)?;
        if let Some(hedging) = &mut self.hedging {
            hedging.spend(budget);
        }
        self.retry_budget.count_hedge(self.shared.granted(), now);
        self.shared.publish_retry_window(self.retry_budget.window());
        Some(permit)
    }

    /// The latency tails with the samples up to now.
    pub(crate) fn sample_tails(&self, now: Instant) -> Option<LatencyTails> {
        self.hedging.as_ref().map(|hedging| hedging.sample(now))
    }

    pub(crate) fn set_tails(&mut self, tails: LatencyTails) {
        if let Some(hedging) = &mut self.hedging {
            hedging.set_tails(tails);
        }
    }

    /// Drops the waiters; their callers see the crash. The live tickets keep the counts, and the retry budget counts as
    /// spent.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        self.retry_budget.exhaust(self.shared.granted(), now);
        if let Some(hedging) = &mut self.hedging {
            hedging.reset(self.shared.granted(), now);
        }
        self.wait_queue.clear();
        self.throughput.reset();
        self.shared.publish_grant_interval(None);
        if let Some(selector) = &mut self.credential_selector {
            selector.rebuild();
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
            // A ticket dropped after this store sees the waiters and wakes the actor. One dropped before it is seen by
            // the check below.
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
        let expected =
            self.throughput.grant_interval(now).map(|pace| expected_wait(pace, self.wait_queue.len()));
        WaitRejection { cause, retry_after: expected.unwrap_or_default() }
    }

    /// Grants free permits to the waiters in order.
    fn grant_waiting(&mut self, now: Instant) {
        let somebody_waited = !self.wait_queue.is_empty();
        let mut is_granted = false;
        while self.has_capacity(now) {
            let Some(class) = self.wait_queue.next_class() else { break };
            let Some(permit) = self.grant(now) else { break };
            let Some(waiter) = self.wait_queue.pop(class) else { break };
            // A waiter cancelled in the meantime returns the permit, which the next iteration grants.
            if waiter.try_grant(permit).is_ok() {
                self.throughput.record_grant(now);
                is_granted = true;
            }
        }
        if somebody_waited && self.wait_queue.is_empty() && !is_granted {
            // No waiter took the permit, but it was released while requests seemed to wait.
            self.throughput.record_grant(now);
        }
    }

    /// Whether the gate and the credentials have room.
    fn has_capacity(&self, now: Instant) -> bool {
        self.shared.gate.live() < self.limit()
            && self.credential_capacity(now) == CredentialCapacity::Available
    }

    fn credential_capacity(&self, now: Instant) -> CredentialCapacity {
        self.credential_selector
            .as_ref()
            .map_or(CredentialCapacity::Available, |selector| selector.capacity(now))
    }

    fn pick_endpoint(&mut self, avoid: Option<EndpointId>, now: Instant) -> EndpointTicket {
        let chosen = self.load_balancer.pick(avoid.map(|id| id.0), now);
        EndpointTicket::new(EndpointId(chosen), self.endpoint_stats.endpoint(chosen).in_flight())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
