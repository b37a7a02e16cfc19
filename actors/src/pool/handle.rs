//! What the request path sees of one bucket's pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::Priority;
use tokio::sync::oneshot;

use crate::clock;
use crate::mailbox::{AskError, Mailbox, Supervised};
use crate::pool::PoolMetrics;
use crate::pool::actor::{Acquire, Acquired, Checked, Fail, Handed, Pool, Reach, Retry, Succeed};
use crate::pool::budget::RetryTicket;
use crate::pool::codel::Delay;
use crate::pool::credential::{CredentialSigns, CredentialView};
use crate::pool::drain::turn_after;
use crate::pool::endpoint::{Check, Failure, Strike};
use crate::pool::hedge::{Hedge, HedgeRefusal, HedgeSigns, LearnTails, ReadKind};
use crate::pool::samples::{LimitView, Pressure, Samples};
use crate::pool::signs::{EndpointView, Signs};
use crate::pool::stash;
use crate::pool::state::{Dismissal, DismissalCause, Refusal};
use crate::pool::suspects::Suspects;
use crate::pool::ticket::{EndpointId, GateShared, Permit};
use crate::vitals::Vitals;

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
    pub(crate) overload: Option<Delay>,
}

/// Asks one bucket's pool.
#[derive(Clone)]
pub struct PoolHandle {
    pub(super) mailbox: Mailbox<Pool>,
    shared: Arc<GateShared>,
    pub(super) signs: Arc<Signs>,
    pub(super) credentials: Arc<[CredentialSigns]>,
    /// Where the limit is learnt.
    samples: Option<Arc<Samples>>,
    bounds: PoolBounds,
    metrics: PoolMetrics,
    /// None where nothing is hedged.
    hedging: Option<Arc<HedgeSigns>>,
    /// None where the gateway cannot check credentials.
    pub(super) suspects: Option<Arc<Suspects>>,
    pub(super) hasher: ahash::RandomState,
}

impl PoolHandle {
    pub(crate) fn new(
        mailbox: Mailbox<Pool>,
        shared: Arc<GateShared>,
        signs: Arc<Signs>,
        credentials: Arc<[CredentialSigns]>,
        bounds: PoolBounds,
        metrics: PoolMetrics,
    ) -> Self {
        let (samples, hedging, suspects) = (None, None, None);
        let hasher = ahash::RandomState::new();
        Self { mailbox, shared, signs, credentials, samples, bounds, metrics, hedging, suspects, hasher }
    }

    /// Tells these samples how calls went.
    pub(crate) fn sampling(self, samples: Option<Arc<Samples>>) -> Self {
        Self { samples, ..self }
    }

    /// Permits that may be out now.
    pub(crate) fn limit(&self) -> usize {
        self.samples.as_ref().map_or(self.bounds.concurrent_max, |samples| samples.limit())
    }

    /// With hedges for slow reads.
    pub(crate) fn with_hedging(self, hedging: Option<Arc<HedgeSigns>>) -> Self {
        Self { hedging, ..self }
    }

    /// With checks of credentials that answers raise doubts about.
    pub(crate) fn checking(self, suspects: Option<Arc<Suspects>>) -> Self {
        Self { suspects, ..self }
    }

    /// Waits for a permit in the bucket's queue among those of its class, until the queue's deadline or the request's own,
    /// `deadline`, whichever comes first.
    ///
    /// # Errors
    /// The queue is full or becomes so, a deadline passed or would pass, or the actor gave no answer.
    pub async fn acquire(&self, priority: Priority, deadline: Instant) -> Result<Permit, PoolRejection> {
        let permit = self.ask_for_permit(priority, deadline).await?;
        self.shared.count_granted();
        Ok(permit)
    }

    async fn ask_for_permit(&self, priority: Priority, deadline: Instant) -> Result<Permit, PoolRejection> {
        // A permit that lies here is out already, but the limit may have fallen since.
        let kept = stash::take(self.shared.number());
        if let Some(permit) = kept.filter(|permit| self.samples.is_none() || permit.live() <= self.limit()) {
            self.metrics.wait.observe(0.0);
            return Ok(permit);
        }
        match self.mailbox.ask(Acquire { priority, deadline }).await.map_err(PoolRejection::Unavailable)? {
            Acquired::Granted(permit) => {
                self.metrics.wait.observe(0.0);
                Ok(permit)
            }
            Acquired::Queued(turn) => self.wait_for(turn, deadline).await,
            Acquired::Refused(Refusal::Full { queued, retry_after }) => {
                self.metrics.queue_full.inc();
                let in_flight = self.shared.gate.live();
                Err(PoolRejection::QueueFull { queued, in_flight, retry_after })
            }
            Acquired::Refused(Refusal::Late { expected, left }) => {
                self.metrics.queue_too_long.inc();
                Err(PoolRejection::QueueTooLong { expected, left })
            }
            Acquired::Refused(Refusal::Out { until, is_refused }) => {
                self.metrics.no_credential.inc();
                let retry_after = until.saturating_duration_since(clock::now());
                Err(PoolRejection::NoCredential { retry_after, is_refused })
            }
        }
    }

    /// Waits in the queue.
    async fn wait_for(
        &self,
        turn: oneshot::Receiver<Handed>,
        deadline: Instant,
    ) -> Result<Permit, PoolRejection> {
        let since = clock::now();
        let until = deadline.min(since + self.bounds.queue_timeout);
        let handed = tokio::time::timeout_at(until.into(), turn).await;
        let waited = clock::now().saturating_duration_since(since);
        self.metrics.wait.observe(waited.as_secs_f64() * 1e3);
        match handed {
            Ok(Ok(Ok(permit))) => Ok(permit),
            Ok(Ok(Err(Dismissal { cause: DismissalCause::Displaced, retry_after }))) => {
                self.metrics.displaced.inc();
                Err(PoolRejection::Displaced { retry_after })
            }
            Ok(Ok(Err(Dismissal { cause: DismissalCause::Overload, retry_after }))) => {
                self.metrics.overload.inc();
                Err(PoolRejection::Overload { waited, retry_after })
            }
            Ok(Err(_)) => Err(PoolRejection::Unavailable(AskError::Crashed)),
            Err(_) => {
                self.metrics.queue_timeout.inc();
                let drained = self.shared.pace().map(|pace| turn_after(pace, self.shared.gate.waiting()));
                // What has just been waited for in vain is no shorter for who comes back.
                let retry_after = drained.map_or(waited, |drained| drained.max(waited));
                Err(self.no_credential().unwrap_or(PoolRejection::QueueTimeout { waited, retry_after }))
            }
        }
    }

    /// Ends a permit, or keeps it a moment for the next request on this thread. Dropping it is as good, but slower.
    pub fn finish(&self, permit: Permit, now: Instant) {
        if self.signs.len() == 1 {
            stash::keep(permit, self.limit(), now);
        }
    }

    /// Asks for leave to try again (R5); none if the bucket's budget is spent, or its actor gave no answer.
    pub async fn retry(&self) -> Option<RetryTicket> {
        let ticket = self.mailbox.ask(Retry).await.ok()?;
        if ticket.is_none() {
            self.metrics.budget_exhausted.inc();
        }
        ticket
    }

    /// Whether slow reads are asked for a second time.
    pub fn hedges(&self) -> bool {
        self.hedging.is_some()
    }

    /// How long to wait for a read before it is asked for a second time; none as long as that is not known, and while the
    /// upstream is slow as a whole.
    pub fn hedge_delay(&self, kind: ReadKind) -> Option<Duration> {
        self.hedging.as_ref()?.delay(kind)
    }

    /// A read had the first byte of its answer after so long.
    pub fn measured(&self, kind: ReadKind, latency: Duration, now: Instant) {
        if self.hedging.as_ref().is_some_and(|signs| signs.count(kind, latency, now)) {
            self.mailbox.tell(LearnTails);
        }
    }

    /// Asks for a place in which a slow read may be asked for a second time, at another endpoint than this one if one is usable.
    ///
    /// # Errors
    /// The budget is spent, no place is free at once, or the actor gave no answer.
    pub async fn hedge(&self, avoid: EndpointId) -> Result<Permit, HedgeRefusal> {
        self.mailbox.ask(Hedge { avoid }).await.unwrap_or_else(|error| Err(HedgeRefusal::Unavailable(error)))
    }

    /// An endpoint began to answer, after so long, a call that began then.
    pub fn answered(&self, endpoint: EndpointId, latency: Duration, began: Instant) {
        if self.signs.len() > 1 {
            self.signs.of(endpoint.0).answered(latency);
        }
        if let Some(samples) = &self.samples {
            samples.answered(began, latency, self.shared.gate.live());
            // Answers can be long: who waits shall not have to wait for their ends too until somebody looks at the limit.
            if self.shared.gate.waiting() > 0 && samples.is_due(clock::now()) {
                self.shared.wake();
            }
        }
    }

    /// A call that began then was too much for the upstream.
    pub fn pressed(&self, pressure: Pressure, began: Instant) {
        if let Some(samples) = &self.samples {
            samples.dropped(began, clock::now(), pressure);
        }
    }

    /// An endpoint served a call to its end.
    pub fn succeeded(&self, endpoint: EndpointId) {
        if self.signs.len() > 1 {
            self.signs.of(endpoint.0).succeed();
            if self.signs.is_panicking() {
                self.mailbox.tell(Succeed { endpoint });
            }
        }
    }

    /// An endpoint failed a call that began then. Returns whether that is the whole bucket's trouble: no other endpoint
    /// could serve, so the circuit is to know.
    pub fn failed(&self, endpoint: EndpointId, strike: Strike, began: Instant, now: Instant) -> bool {
        if self.signs.len() == 1 {
            return true;
        }
        let is_buckets = !self.signs.has_other(endpoint.0, now);
        let successes = self.signs.of(endpoint.0).successes();
        self.mailbox.tell(Fail { endpoint, failure: Failure { strike, began, successes } });
        is_buckets
    }

    /// An endpoint was asked then whether it is well.
    pub fn checked(&self, endpoint: EndpointId, is_good: bool, began: Instant) {
        self.mailbox.tell(Checked { endpoint, check: Check { is_good, began } });
    }

    /// An endpoint could be connected to, by a connection that began then. It is called again if that was its trouble, so
    /// that trials do not go to one that is still gone.
    pub fn reached(&self, endpoint: EndpointId, began: Instant) {
        if self.signs.len() > 1 {
            self.mailbox.tell(Reach { endpoint, began });
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
        self.signs.is_panicking()
    }

    /// What the status page shows.
    pub fn view(&self, now: Instant) -> PoolView {
        PoolView {
            in_flight: self.shared.gate.live(),
            concurrent_max: self.bounds.concurrent_max,
            limit: self.samples.as_ref().map(|samples| samples.view()),
            queued: self.shared.gate.waiting(),
            queued_max: self.bounds.queued_max,
            amplification: self.shared.amplification(now),
            endpoints: self.signs.views(now),
            credentials: self.credentials.iter().map(|one| one.view(now)).collect(),
        }
    }

    /// Copies into gauges what is only looked at when somebody scrapes; returns the queue's depth.
    pub(crate) fn observe(&self, now: Instant) -> usize {
        for (metrics, view) in self.metrics.endpoints.iter().zip(self.signs.views(now)) {
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
        self.metrics
            .observe_limit(self.limit(), self.samples.as_ref().map(|samples| samples.view().reductions));
        let waiting = self.shared.gate.waiting();
        self.metrics.depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        waiting
    }

    /// The actor's vital signs.
    pub fn vitals(&self) -> &Arc<Vitals> {
        self.mailbox.vitals()
    }

    /// The actor, whatever its kind.
    pub(crate) fn actor(&self) -> &dyn Supervised {
        &self.mailbox
    }
}
