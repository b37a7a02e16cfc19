//! The request path's interface to one bucket's pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::Priority;

use crate::clock;
use crate::mailbox::{Mailbox, SupervisedActor};
use crate::pool::PoolMetrics;
use crate::pool::actor::{
    Acquire, AcquireReply, AcquireRetry, Pool, PoolNames, ReportConnected, ReportFailure, ReportHealthCheck,
    ReportSuccess,
};
use crate::pool::adaptive::limit_samples::{LimitSamples, LimitView, OverloadSignal};
use crate::pool::bounds::PoolBounds;
use crate::pool::credentials::credential::{CredentialStats, CredentialView};
use crate::pool::credentials::suspects::SuspectCredentials;
use crate::pool::decision::AcquireRefusal;
use crate::pool::gate::permit_cache;
use crate::pool::gate::ticket::{EndpointId, GateShared, Permit};
use crate::pool::hedge::{AcquireHedge, HedgeRefusal, HedgeStats, ReadKind, UpdateLatencyTails};
use crate::pool::load_balancer::endpoint::{EndpointFailure, FailureKind, HealthCheckResult};
use crate::pool::load_balancer::endpoint_stats::{EndpointStatsTable, EndpointView};
use crate::pool::load_balancer::tier::ServingView;
use crate::pool::operator_drain::time_left;
use crate::pool::rejection::PoolRejection;
use crate::pool::retry_budget::{RetryTicket, SpentRetries};
use crate::shedding::Shedder;

/// The pool in the status page.
#[derive(Debug, Clone)]
pub struct PoolView {
    /// Permits in use.
    pub in_flight: usize,
    /// Largest number of permits in use.
    pub concurrent_max: usize,
    /// The learnt limit; none if `concurrency.adaptive` is off.
    pub limit: Option<LimitView>,
    /// Waiters.
    pub queued: usize,
    /// Largest number of waiters.
    pub queued_max: usize,
    /// Number of requests that have waited.
    pub waited_total: u64,
    /// Upstream attempts per request over the last ten seconds.
    pub amplification: f64,
    /// The endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointView>,
    /// Those that serve.
    pub serving: ServingView,
    /// The named credentials, in the order of the configuration.
    pub credentials: Vec<CredentialView>,
}

/// Handle to one bucket's pool.
#[derive(Clone)]
pub struct PoolHandle {
    pub(super) mailbox: Mailbox<Pool>,
    pub(super) shared: Arc<GateShared>,
    pub(super) endpoint_stats: Arc<EndpointStatsTable>,
    pub(super) credentials: Arc<[CredentialStats]>,
    pub(super) names: Arc<PoolNames>,
    pub(super) retries: Arc<SpentRetries>,
    /// None if the limit is not learnt.
    pub(super) limit_samples: Option<Arc<LimitSamples>>,
    pub(super) bounds: PoolBounds,
    pub(super) metrics: PoolMetrics,
    /// None if hedging is off.
    pub(super) hedging: Option<Arc<HedgeStats>>,
    /// None if the gateway cannot check credentials.
    pub(super) suspects: Option<Arc<SuspectCredentials>>,
    pub(super) hasher: ahash::RandomState,
    pub(super) shedder: Arc<Shedder>,
}

impl PoolHandle {
    /// Permits that may be in use now, by all pools of the bucket.
    pub(crate) fn limit(&self) -> usize {
        self.shared.gate.limit()
    }

    /// Waits for a permit, in the bucket's queue if the gate is full, until the queue's timeout or `deadline`,
    /// whichever comes first.
    ///
    /// # Errors
    /// The queue is full or becomes full, the wait timed out or would time out, or the actor did not answer.
    pub async fn acquire(&self, priority: Priority, deadline: Instant) -> Result<Permit, PoolRejection> {
        let permit = self.acquire_from_gate(priority, deadline).await?;
        self.shared.count_granted();
        Ok(permit)
    }

    async fn acquire_from_gate(
        &self,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Permit, PoolRejection> {
        // A cached permit is already counted, but the limit may have fallen since it was stored.
        let cached = permit_cache::pop(self.shared.id());
        let is_valid = |permit: &Permit| permit.live() <= self.limit() && !self.may_drain(permit.endpoint());
        if let Some(permit) = cached.filter(is_valid) {
            self.metrics.wait.observe(0.0);
            return Ok(permit);
        }
        match self.mailbox.ask(Acquire { priority, deadline }).await.map_err(PoolRejection::Unavailable)? {
            AcquireReply::Granted(permit) => {
                self.metrics.wait.observe(0.0);
                Ok(permit)
            }
            AcquireReply::Queued(grant) => self.wait_in_queue(grant, deadline).await,
            AcquireReply::Refused(AcquireRefusal::QueueFull { queued, retry_after }) => {
                self.metrics.queue_full.inc();
                Err(PoolRejection::QueueFull { queued, in_flight: self.in_flight(), retry_after })
            }
            AcquireReply::Refused(AcquireRefusal::QueueTooLong { expected, left, is_deadline }) => {
                self.metrics.queue_too_long.inc();
                Err(PoolRejection::QueueTooLong { expected, left, is_deadline })
            }
            AcquireReply::Refused(AcquireRefusal::NoCredential { until, is_refused }) => {
                self.metrics.no_credential.inc();
                let retry_after = until.saturating_duration_since(clock::now());
                Err(PoolRejection::NoCredential { retry_after, is_refused })
            }
            AcquireReply::Refused(AcquireRefusal::Draining { until }) => {
                Err(PoolRejection::EndpointsDraining { left: time_left(until, clock::now()) })
            }
        }
    }

    /// Returns a permit, or caches it briefly for the next request on this thread. Dropping the permit is correct too,
    /// but slower.
    pub fn release(&self, permit: Permit, now: Instant) {
        if self.endpoint_stats.len() == 1 && !self.may_drain(permit.endpoint()) {
            permit_cache::store(permit, self.limit(), now);
        }
    }

    /// Asks for permission to retry (R5); none if the bucket's retry budget is spent or its actor did not answer.
    pub async fn acquire_retry(&self) -> Option<RetryTicket> {
        let ticket = self.mailbox.ask(AcquireRetry).await.ok()?;
        if ticket.is_none() {
            self.metrics.budget_exhausted.inc();
        }
        ticket
    }

    /// Retries that the budget did not allow, since the start.
    pub fn refused_retries(&self) -> u64 {
        self.metrics.budget_exhausted.get()
    }

    /// Whether slow reads are hedged.
    pub fn has_hedging(&self) -> bool {
        self.hedging.is_some()
    }

    /// Delay before a read is hedged; none while it is unknown, and while the upstream is slow as a whole.
    pub fn hedge_delay(&self, kind: ReadKind) -> Option<Duration> {
        self.hedging.as_ref()?.delay(kind)
    }

    /// Records the time to first byte of a read.
    pub fn record_read_latency(&self, kind: ReadKind, latency: Duration, now: Instant) {
        if self.hedging.as_ref().is_some_and(|stats| stats.record(kind, latency, now)) {
            self.mailbox.notify(UpdateLatencyTails);
        }
    }

    /// Asks for a permit for a hedge, at another endpoint than `avoid` if one is usable.
    ///
    /// # Errors
    /// The hedge budget is spent, no permit is free at once, or the actor did not answer.
    pub async fn acquire_hedge(&self, avoid: EndpointId) -> Result<Permit, HedgeRefusal> {
        self.mailbox
            .ask(AcquireHedge { avoid })
            .await
            .unwrap_or_else(|error| Err(HedgeRefusal::Unavailable(error)))
    }

    /// Records the response latency of a call that began at `began`.
    pub fn record_response(&self, endpoint: EndpointId, latency: Duration, began: Instant) {
        if self.endpoint_stats.len() > 1 {
            self.endpoint_stats.endpoint(endpoint.0).record_latency(latency);
        }
        if let Some(samples) = &self.limit_samples {
            samples.record_latency(began, latency, self.shared.gate.live());
            // Answers can be long. Without this wake-up waiters would wait for the end of one until the limit is
            // evaluated.
            if self.shared.gate.waiting() > 0 && samples.is_due(clock::now()) {
                self.shared.wake_once();
            }
        }
    }

    /// Records a call, begun at `began`, that overloaded the upstream.
    pub fn report_overload(&self, pressure: OverloadSignal, began: Instant) {
        if let Some(samples) = &self.limit_samples {
            samples.record_drop(began, clock::now(), pressure);
        }
    }

    /// Records a call that an endpoint completed successfully.
    pub fn report_success(&self, endpoint: EndpointId) {
        if self.endpoint_stats.len() > 1 {
            self.endpoint_stats.endpoint(endpoint.0).count_success();
            if self.endpoint_stats.is_panicking() {
                self.mailbox.notify(ReportSuccess { endpoint });
            }
        }
    }

    /// Records a failed call that began at `began`. Returns whether the failure counts for the whole bucket, so that
    /// the caller reports it to the circuit: no other endpoint could serve.
    pub fn report_failure(
        &self,
        endpoint: EndpointId,
        kind: FailureKind,
        began: Instant,
        now: Instant,
    ) -> bool {
        if self.endpoint_stats.len() == 1 {
            return true;
        }
        let is_buckets = !self.endpoint_stats.has_other(endpoint.0, now);
        let successes = self.endpoint_stats.endpoint(endpoint.0).successes();
        self.mailbox.notify(ReportFailure { endpoint, failure: EndpointFailure { kind, began, successes } });
        is_buckets
    }

    /// Records a health check that began at `began`.
    pub fn report_health_check(&self, endpoint: EndpointId, is_good: bool, began: Instant) {
        self.mailbox.notify(ReportHealthCheck { endpoint, check: HealthCheckResult { is_good, began } });
    }

    /// Records a connection that began at `began` and succeeded. It returns an endpoint to rotation that was excluded
    /// as unreachable, so that trial calls do not go to an endpoint that is still down.
    pub fn report_connected(&self, endpoint: EndpointId, began: Instant) {
        if self.endpoint_stats.len() > 1 {
            self.mailbox.notify(ReportConnected { endpoint, began });
        }
    }

    /// The bucket's cursor.
    pub fn shedder(&self) -> &Arc<Shedder> {
        &self.shedder
    }

    /// Whether a request gets a permit without a wait.
    pub fn has_free_permit(&self) -> bool {
        self.waiting() == 0 && self.in_flight() < self.limit()
    }

    /// Permits in use.
    pub fn in_flight(&self) -> usize {
        self.shared.gate.live()
    }

    /// Waiters, as last published.
    pub fn waiting(&self) -> usize {
        self.shared.gate.waiting()
    }

    /// The most permits in use since the last call.
    pub fn take_calls_peak(&self) -> usize {
        self.shared.gate.take_live_peak()
    }

    /// The most waiters since the last call.
    pub fn take_waiting_peak(&self) -> usize {
        self.shared.gate.take_waiting_peak()
    }

    /// Requests that have waited for a permit.
    pub fn waited_total(&self) -> u64 {
        self.shared.waited()
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn is_panicking(&self) -> bool {
        self.endpoint_stats.is_panicking()
    }

    /// The pool for the status page.
    pub fn view(&self, now: Instant) -> PoolView {
        PoolView {
            in_flight: self.shared.gate.live(),
            concurrent_max: self.bounds.concurrent_max,
            limit: self.limit_samples.as_ref().map(|samples| samples.view()),
            queued: self.shared.gate.waiting(),
            queued_max: self.bounds.queued_max,
            waited_total: self.shared.waited(),
            amplification: self.retries.amplification(self.shared.granted(), now),
            endpoints: self.endpoint_stats.views(now),
            serving: self.endpoint_stats.serving(now),
            credentials: self.credentials.iter().map(|one| one.view(now)).collect(),
        }
    }

    /// Updates the gauges that are computed on a scrape; returns the number of waiters.
    pub(crate) fn observe(&self, now: Instant) -> usize {
        for (metrics, view) in self.metrics.endpoints.iter().zip(self.endpoint_stats.views(now)) {
            metrics.observe(&view);
        }
        for (kind, p95) in ReadKind::ALL.into_iter().zip(&self.metrics.hedge_p95) {
            let known = self.hedging.as_ref().and_then(|stats| stats.p95(kind));
            p95.set(known.map_or(0.0, |p95| p95.as_secs_f64()));
        }
        self.metrics.amplification.set(self.retries.amplification(self.shared.granted(), now));
        for (metrics, one) in self.metrics.credentials.iter().zip(self.credentials.iter()) {
            metrics.observe(&one.view(now));
        }
        self.metrics.observe_limit(
            self.limit(),
            self.limit_samples.as_ref().map(|samples| samples.view().reductions),
        );
        let waiting = self.shared.gate.waiting();
        self.metrics.depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        waiting
    }

    /// Whether both are handles of one actor.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The authorities of its endpoints.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn endpoint_names(&self) -> &[String] {
        &self.names.endpoints
    }

    /// Ends the actor of a replaced configuration, when its last request has ended.
    pub fn stop(&self) {
        self.mailbox.stop();
    }

    /// The supervised actor, for statistics and chaos.
    pub(crate) fn actor(&self) -> &dyn SupervisedActor {
        &self.mailbox
    }
}
