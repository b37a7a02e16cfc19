//! What the request path sees of one bucket's pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::Priority;
use tokio::sync::oneshot;

use crate::clock;
use crate::mailbox::{AskError, Mailbox, SupervisedActor};
use crate::pool::PoolMetrics;
use crate::pool::actor::{
    Acquire, AcquireReply, AcquireRetry, GrantResult, Pool, ReportConnected, ReportFailure,
    ReportHealthCheck, ReportSuccess,
};
use crate::pool::codel::CodelSettings;
use crate::pool::credential::{CredentialStats, CredentialView};
use crate::pool::endpoint::{EndpointFailure, FailureKind, HealthCheckResult};
use crate::pool::endpoint_stats::{EndpointStatsTable, EndpointView};
use crate::pool::hedge::{AcquireHedge, HedgeRefusal, HedgeStats, ReadKind, UpdateLatencyTails};
use crate::pool::limit_samples::{LimitSamples, LimitView, OverloadSignal};
use crate::pool::permit_cache;
use crate::pool::queue_throughput::expected_wait;
use crate::pool::retry_budget::RetryTicket;
use crate::pool::state::{AcquireRefusal, WaitRejection, WaitRejectionCause};
use crate::pool::suspect_credentials::SuspectCredentials;
use crate::pool::ticket::{EndpointId, GateShared, Permit};

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolRejection {
    /// The queue is full; with `max_queued = 0`, the gate.
    QueueFull {
        /// Waiters.
        queued: usize,
        /// Permits out.
        in_flight: usize,
        /// When those that wait will have been served; nothing where that is not known.
        retry_after: Duration,
    },
    /// The turn would come too late, so waiting for it would be in vain.
    QueueTooLong {
        /// When it would come.
        expected: Duration,
        /// How long the request could wait.
        left: Duration,
    },
    /// No permit fell free within the queue's deadline, or the request's own.
    QueueTimeout {
        /// How long it waited.
        waited: Duration,
        /// When those that wait will have been served, or as long again.
        retry_after: Duration,
    },
    /// The upstream throttles or refuses all of the bucket's credentials, for longer than a request waits.
    NoCredential {
        /// When the first may be used again.
        retry_after: Duration,
        /// Whether that one was refused.
        is_refused: bool,
    },
    /// It waited, and had to make room for one of a higher class.
    Displaced {
        /// When those that wait will have been served; nothing where that is not known.
        retry_after: Duration,
    },
    /// It waited too long in an overloaded queue, where the newest go first.
    Overload {
        /// How long it waited.
        waited: Duration,
        /// When those that wait will have been served; nothing where that is not known.
        retry_after: Duration,
    },
    /// The actor gave no answer.
    Unavailable(AskError),
}

/// What the status page shows.
#[derive(Debug, Clone)]
pub struct PoolView {
    /// Permits out.
    pub in_flight: usize,
    /// Most permits at once.
    pub concurrent_max: usize,
    /// How many of them may be out now, where that is learnt.
    pub limit: Option<LimitView>,
    /// Waiters.
    pub queued: usize,
    /// Most waiters.
    pub queued_max: usize,
    /// Attempts that the upstream saw for each request, over the last ten seconds.
    pub amplification: f64,
    /// Each endpoint, in the order of the configuration.
    pub endpoints: Vec<EndpointView>,
    /// Each credential that has a name, in the order of the configuration.
    pub credentials: Vec<CredentialView>,
}

/// The settings a handle needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolBounds {
    pub(crate) concurrent_max: usize,
    pub(crate) queued_max: usize,
    pub(crate) queue_timeout: Duration,
    /// Where overload is told from a burst.
    pub(crate) overload: Option<CodelSettings>,
}

/// Asks one bucket's pool.
#[derive(Clone)]
pub struct PoolHandle {
    pub(super) mailbox: Mailbox<Pool>,
    shared: Arc<GateShared>,
    pub(super) endpoint_stats: Arc<EndpointStatsTable>,
    pub(super) credentials: Arc<[CredentialStats]>,
    /// Where the limit is learnt.
    limit_samples: Option<Arc<LimitSamples>>,
    bounds: PoolBounds,
    metrics: PoolMetrics,
    /// None where nothing is hedged.
    hedging: Option<Arc<HedgeStats>>,
    /// None where the gateway cannot check credentials.
    pub(super) suspects: Option<Arc<SuspectCredentials>>,
    pub(super) hasher: ahash::RandomState,
}

impl PoolHandle {
    pub(crate) fn new(
        mailbox: Mailbox<Pool>,
        shared: Arc<GateShared>,
        signs: Arc<EndpointStatsTable>,
        credentials: Arc<[CredentialStats]>,
        bounds: PoolBounds,
        metrics: PoolMetrics,
    ) -> Self {
        let (limit_samples, hedging, suspects) = (None, None, None);
        let hasher = ahash::RandomState::new();
        Self {
            mailbox,
            shared,
            endpoint_stats: signs,
            credentials,
            limit_samples,
            bounds,
            metrics,
            hedging,
            suspects,
            hasher,
        }
    }

    /// Tells these samples how calls went.
    pub(crate) fn with_limit_samples(self, limit_samples: Option<Arc<LimitSamples>>) -> Self {
        Self { limit_samples, ..self }
    }

    /// Permits that may be out now.
    pub(crate) fn limit(&self) -> usize {
        self.limit_samples.as_ref().map_or(self.bounds.concurrent_max, |samples| samples.limit())
    }

    /// With hedges for slow reads.
    pub(crate) fn with_hedging(self, hedging: Option<Arc<HedgeStats>>) -> Self {
        Self { hedging, ..self }
    }

    /// With checks of credentials that answers raise doubts about.
    pub(crate) fn with_suspects(self, suspects: Option<Arc<SuspectCredentials>>) -> Self {
        Self { suspects, ..self }
    }

    /// Waits for a permit in the bucket's queue among those of its class, until the queue's deadline or the request's own,
    /// `deadline`, whichever comes first.
    ///
    /// # Errors
    /// The queue is full or becomes so, a deadline passed or would pass, or the actor gave no answer.
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
        // A permit that lies here is out already, but the limit may have fallen since.
        let kept = permit_cache::pop(self.shared.id());
        if let Some(permit) =
            kept.filter(|permit| self.limit_samples.is_none() || permit.live() <= self.limit())
        {
            self.metrics.wait.observe(0.0);
            return Ok(permit);
        }
        match self.mailbox.ask(Acquire { priority, deadline }).await.map_err(PoolRejection::Unavailable)? {
            AcquireReply::Granted(permit) => {
                self.metrics.wait.observe(0.0);
                Ok(permit)
            }
            AcquireReply::Queued(turn) => self.wait_in_queue(turn, deadline).await,
            AcquireReply::Refused(AcquireRefusal::QueueFull { queued, retry_after }) => {
                self.metrics.queue_full.inc();
                let in_flight = self.shared.gate.live();
                Err(PoolRejection::QueueFull { queued, in_flight, retry_after })
            }
            AcquireReply::Refused(AcquireRefusal::QueueTooLong { expected, left }) => {
                self.metrics.queue_too_long.inc();
                Err(PoolRejection::QueueTooLong { expected, left })
            }
            AcquireReply::Refused(AcquireRefusal::NoCredential { until, is_refused }) => {
                self.metrics.no_credential.inc();
                let retry_after = until.saturating_duration_since(clock::now());
                Err(PoolRejection::NoCredential { retry_after, is_refused })
            }
        }
    }

    /// Waits in the queue.
    async fn wait_in_queue(
        &self,
        turn: oneshot::Receiver<GrantResult>,
        deadline: Instant,
    ) -> Result<Permit, PoolRejection> {
        let since = clock::now();
        let until = deadline.min(since + self.bounds.queue_timeout);
        let handed = tokio::time::timeout_at(until.into(), turn).await;
        let waited = clock::now().saturating_duration_since(since);
        self.metrics.wait.observe(waited.as_secs_f64() * 1e3);
        match handed {
            Ok(Ok(Ok(permit))) => Ok(permit),
            Ok(Ok(Err(WaitRejection { cause: WaitRejectionCause::Displaced, retry_after }))) => {
                self.metrics.displaced.inc();
                Err(PoolRejection::Displaced { retry_after })
            }
            Ok(Ok(Err(WaitRejection { cause: WaitRejectionCause::Overload, retry_after }))) => {
                self.metrics.overload.inc();
                Err(PoolRejection::Overload { waited, retry_after })
            }
            Ok(Err(_)) => Err(PoolRejection::Unavailable(AskError::Crashed)),
            Err(_) => {
                self.metrics.queue_timeout.inc();
                let drained =
                    self.shared.grant_interval().map(|pace| expected_wait(pace, self.shared.gate.waiting()));
                // What has just been waited for in vain is no shorter for who comes back.
                let retry_after = drained.map_or(waited, |drained| drained.max(waited));
                Err(self
                    .no_credential_rejection()
                    .unwrap_or(PoolRejection::QueueTimeout { waited, retry_after }))
            }
        }
    }

    /// Ends a permit, or keeps it a moment for the next request on this thread. Dropping it is as good, but slower.
    pub fn release(&self, permit: Permit, now: Instant) {
        if self.endpoint_stats.len() == 1 {
            permit_cache::store(permit, self.limit(), now);
        }
    }

    /// Asks for leave to try again (R5); none if the bucket's budget is spent, or its actor gave no answer.
    pub async fn acquire_retry(&self) -> Option<RetryTicket> {
        let ticket = self.mailbox.ask(AcquireRetry).await.ok()?;
        if ticket.is_none() {
            self.metrics.budget_exhausted.inc();
        }
        ticket
    }

    /// Whether slow reads are asked for a second time.
    pub fn has_hedging(&self) -> bool {
        self.hedging.is_some()
    }

    /// How long to wait for a read before it is asked for a second time; none as long as that is not known, and while the
    /// upstream is slow as a whole.
    pub fn hedge_delay(&self, kind: ReadKind) -> Option<Duration> {
        self.hedging.as_ref()?.delay(kind)
    }

    /// A read had the first byte of its answer after so long.
    pub fn record_read_latency(&self, kind: ReadKind, latency: Duration, now: Instant) {
        if self.hedging.as_ref().is_some_and(|signs| signs.record(kind, latency, now)) {
            self.mailbox.notify(UpdateLatencyTails);
        }
    }

    /// Asks for a place in which a slow read may be asked for a second time, at another endpoint than this one if one is usable.
    ///
    /// # Errors
    /// The budget is spent, no place is free at once, or the actor gave no answer.
    pub async fn acquire_hedge(&self, avoid: EndpointId) -> Result<Permit, HedgeRefusal> {
        self.mailbox
            .ask(AcquireHedge { avoid })
            .await
            .unwrap_or_else(|error| Err(HedgeRefusal::Unavailable(error)))
    }

    /// An endpoint began to answer, after so long, a call that began then.
    pub fn record_response(&self, endpoint: EndpointId, latency: Duration, began: Instant) {
        if self.endpoint_stats.len() > 1 {
            self.endpoint_stats.endpoint(endpoint.0).record_latency(latency);
        }
        if let Some(samples) = &self.limit_samples {
            samples.record_latency(began, latency, self.shared.gate.live());
            // Answers can be long: who waits shall not have to wait for their ends too until somebody looks at the limit.
            if self.shared.gate.waiting() > 0 && samples.is_due(clock::now()) {
                self.shared.wake_once();
            }
        }
    }

    /// A call that began then was too much for the upstream.
    pub fn report_overload(&self, pressure: OverloadSignal, began: Instant) {
        if let Some(samples) = &self.limit_samples {
            samples.record_drop(began, clock::now(), pressure);
        }
    }

    /// An endpoint served a call to its end.
    pub fn report_success(&self, endpoint: EndpointId) {
        if self.endpoint_stats.len() > 1 {
            self.endpoint_stats.endpoint(endpoint.0).count_success();
            if self.endpoint_stats.is_panicking() {
                self.mailbox.notify(ReportSuccess { endpoint });
            }
        }
    }

    /// An endpoint failed a call that began then. Returns whether that is the whole bucket's trouble: no other endpoint
    /// could serve, so the circuit is to know.
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

    /// An endpoint was asked then whether it is well.
    pub fn report_health_check(&self, endpoint: EndpointId, is_good: bool, began: Instant) {
        self.mailbox.notify(ReportHealthCheck { endpoint, check: HealthCheckResult { is_good, began } });
    }

    /// An endpoint could be connected to, by a connection that began then. It is called again if that was its trouble, so
    /// that trials do not go to one that is still gone.
    pub fn report_connected(&self, endpoint: EndpointId, began: Instant) {
        if self.endpoint_stats.len() > 1 {
            self.mailbox.notify(ReportConnected { endpoint, began });
        }
    }

    /// Permits out.
    pub fn in_flight(&self) -> usize {
        self.shared.gate.live()
    }

    /// Waiters, as last published.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.gate.waiting()
    }

    /// Whether all endpoints are called because all fail.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn is_panicking(&self) -> bool {
        self.endpoint_stats.is_panicking()
    }

    /// What the status page shows.
    pub fn view(&self, now: Instant) -> PoolView {
        PoolView {
            in_flight: self.shared.gate.live(),
            concurrent_max: self.bounds.concurrent_max,
            limit: self.limit_samples.as_ref().map(|samples| samples.view()),
            queued: self.shared.gate.waiting(),
            queued_max: self.bounds.queued_max,
            amplification: self.shared.amplification(now),
            endpoints: self.endpoint_stats.views(now),
            credentials: self.credentials.iter().map(|one| one.view(now)).collect(),
        }
    }

    /// Copies into gauges what is only looked at when somebody scrapes; returns the queue's depth.
    pub(crate) fn observe(&self, now: Instant) -> usize {
        for (metrics, view) in self.metrics.endpoints.iter().zip(self.endpoint_stats.views(now)) {
            metrics.observe(&view);
        }
        for (kind, p95) in ReadKind::ALL.into_iter().zip(&self.metrics.hedge_p95) {
            let known = self.hedging.as_ref().and_then(|signs| signs.p95(kind));
            p95.set(known.map_or(0.0, |p95| p95.as_secs_f64() * 1e3));
        }
        self.metrics.amplification.set(self.shared.amplification(now));
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

    /// The supervised actor, for statistics and chaos.
    pub(crate) fn actor(&self) -> &dyn SupervisedActor {
        &self.mailbox
    }
}
