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
use crate::pool::gate::ticket::{EndpointId, EndpointTicket, GateShared, GateTicket, Permit};
use crate::pool::hedge::Hedging;
use crate::pool::load_balancer::LoadBalancer;
use crate::pool::load_balancer::endpoint_stats::EndpointStatsTable;
use crate::pool::queue::queue_throughput::{QueueThroughput, expected_wait};
use crate::pool::queue::wait_queue::WaitQueue;
use crate::pool::queue_cursor::QueueReading;
use crate::pool::retry_budget::RetryBudget;

/// Time after which a pool looks again whether the pool before it serves its waiters.
const OLDER_POOL_CHECK: Duration = Duration::from_millis(100);

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
    pub(super) shared: Arc<GateShared>,
    pub(super) bounds: PoolBounds,
    pub(super) wait_queue: WaitQueue<W>,
    pub(super) throughput: QueueThroughput,
    endpoint_stats: Arc<EndpointStatsTable>,
    pub(super) load_balancer: LoadBalancer,
    pub(super) retry_budget: RetryBudget,
    /// None without named credentials.
    pub(super) credential_selector: Option<CredentialSelector>,
    /// None if the limit is not learnt.
    pub(super) limit_learner: Option<LimitLearner>,
    /// None if hedging is off.
    pub(super) hedging: Option<Hedging>,
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
        let state = Self {
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
        };
        state.publish_first_limit();
        state
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
        let state = Self { limit_learner: learner, ..self };
        state.publish_first_limit();
        state
    }

    /// Permits that may be in use now, by all pools of the bucket.
    pub(crate) fn limit(&self) -> usize {
        self.shared.gate.limit()
    }

    /// Evaluates the samples. A higher limit serves waiters at once. The newest pool of the bucket learns.
    pub(crate) fn update_limit(&mut self, now: Instant) -> Option<LimitChange> {
        let learner = self.limit_learner.as_mut().filter(|_| self.shared.sets_limit())?;
        let moved = learner.update(now)?;
        self.shared.set_limit(self.configured_limit());
        if moved.to > moved.from {
            self.serve_queue(now);
        }
        Some(moved)
    }

    pub(crate) fn load_balancer(&mut self) -> &mut LoadBalancer {
        &mut self.load_balancer
    }

    pub(crate) fn endpoint_stats(&self) -> &Arc<EndpointStatsTable> {
        &self.endpoint_stats
    }

    /// A drain of an endpoint has begun, changed or ended. No request waits while all drain.
    pub(crate) fn follow_drains(&mut self, now: Instant) {
        self.load_balancer.follow_drains(now);
        self.serve_queue(now);
    }

    /// Decides on a request that must get its permit before `deadline`.
    pub(crate) fn decide(&self, priority: Priority, deadline: Instant, now: Instant) -> AcquireDecision {
        if let Some(until) = self.endpoint_stats.all_draining(now) {
            return AcquireDecision::Refuse(AcquireRefusal::Draining { until });
        }
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

    pub(super) fn build_permit(&mut self, avoid: Option<EndpointId>, now: Instant) -> Option<Permit> {
        if self.endpoint_stats.all_draining(now).is_some() {
            return None;
        }
        let gate = GateTicket::try_acquire_below(self.room_max(now), &self.shared)?;
        let credential = match &mut self.credential_selector {
            Some(selector) => Some(selector.pick(None, now)?),
            None => None,
        };
        let endpoint = self.pick_endpoint(avoid, now)?;
        Some(Permit::new(gate, endpoint, credential))
    }

    /// Permits of the gate below which this pool may grant one more: the waiters of older pools come first.
    fn room_max(&self, now: Instant) -> usize {
        self.limit().saturating_sub(self.shared.reserved(now))
    }

    /// Time at which the queue must be served again without a released permit: a credential returns then, or an older
    /// pool may have stopped answering.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        if self.wait_queue.is_empty() || self.shared.gate.live() >= self.limit() {
            return None;
        }
        if self.shared.gate.live() >= self.room_max(now) {
            return Some(now + OLDER_POOL_CHECK);
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
        self.shared.wake_received();
        self.serve_queue(now);
    }

    /// Removes the waiters that have given up.
    pub(crate) fn prune_queue(&mut self, now: Instant) {
        self.wait_queue.prune();
        self.serve_queue(now);
    }

    /// Chooses another endpoint for a retry; `avoid` only if no other is usable. None if all drain.
    pub(crate) fn pick_other_endpoint(&mut self, avoid: EndpointId, now: Instant) -> Option<EndpointTicket> {
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
        if let Some(learner) = self.limit_learner.as_mut().filter(|_| self.shared.sets_limit()) {
            learner.reset(now);
        }
        self.shared.set_limit(self.configured_limit());
        self.shared.publish_waiting(0, false);
        self.shared.wake_received();
        self.load_balancer.publish_all();
    }

    fn serve_queue(&mut self, now: Instant) {
        if self.endpoint_stats.all_draining(now).is_some() {
            self.reject_waiters(now);
        }
        self.wait_queue.update_overload(now);
        loop {
            self.grant_waiting(now);
            for late in self.wait_queue.shed(now) {
                late.reject(self.wait_rejection(WaitRejectionCause::Overload, now));
            }
            // A ticket dropped after this store sees the waiters and wakes the actor. One dropped before it is seen by
            // the check below.
            self.shared.publish_waiting(self.wait_queue.len(), self.needs_room(now));
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

    /// All endpoints drain: no permit will come.
    fn reject_waiters(&mut self, now: Instant) {
        while let Some(class) = self.wait_queue.next_class() {
            let Some(waiter) = self.wait_queue.pop(class) else { break };
            waiter.reject(self.wait_rejection(WaitRejectionCause::Draining, now));
        }
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
    pub(super) fn has_capacity(&self, now: Instant) -> bool {
        self.shared.gate.live() < self.room_max(now)
            && self.credential_capacity(now) == CredentialCapacity::Available
    }

    /// Whether waiters could be served if the gate had room.
    fn needs_room(&self, now: Instant) -> bool {
        !self.wait_queue.is_empty() && self.credential_capacity(now) == CredentialCapacity::Available
    }

    fn credential_capacity(&self, now: Instant) -> CredentialCapacity {
        self.credential_selector
            .as_ref()
            .map_or(CredentialCapacity::Available, |selector| selector.capacity(now))
    }

    fn pick_endpoint(&mut self, avoid: Option<EndpointId>, now: Instant) -> Option<EndpointTicket> {
        let chosen = self.load_balancer.pick(avoid.map(|id| id.0), now)?;
        Some(EndpointTicket::new(EndpointId(chosen), self.endpoint_stats.endpoint(chosen).in_flight()))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
