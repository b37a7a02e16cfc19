//! The limiter's API for the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tidegate_config::{Costs, LimitMode, OnFailure, RateLimit};

use crate::limiter::LimiterMetrics;
use crate::limiter::actor::{
    Admit, AdmitKey, AdmitReply, AdmitSubject, ChargeAuthFailure, Inspect, Limiter, LimiterReport,
};
use crate::limiter::auth_failures::AuthLockout;
use crate::limiter::burst_peaks::{BurstPeak, LimiterPeaks};
use crate::limiter::lease::{self, LEASE_MAX, LeaseDraw, LeaseKey};
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::peek::{Peek, PeekedLimit};
use crate::limiter::per_subject::SubjectKey;
use crate::mailbox::{AskError, Mailbox, SupervisedActor};
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

/// Why the limiter refuses a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LimiterRejection {
    /// A limit is used up.
    Limited(LimitStatus),
    /// The actor gave no reply.
    Unavailable(AskError),
}

/// The part of the configuration that is used without asking the actor.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) buckets: Vec<BucketLimits>,
    /// Costs of requests without a bucket.
    pub(crate) costs: Costs,
    /// Whether any limit applies to requests without a bucket.
    pub(crate) is_limited: bool,
    /// Whether each client key has a limit.
    pub(crate) keys: Vec<bool>,
    /// Whether token subjects have a limit.
    pub(crate) subjects: bool,
    /// Whether admitted requests get rate-limit headers. If so, every request asks the actor.
    pub(crate) sends_headers: bool,
    /// The limit of failed authentications.
    pub(crate) auth_failures: Option<RateLimit>,
    /// Clients over that limit.
    pub(crate) auth_lockout: Arc<AuthLockout>,
    pub(crate) on_failure: OnFailure,
    pub(crate) metrics: Arc<LimiterMetrics>,
    pub(crate) peaks: LimiterPeaks,
    /// Hashes subjects.
    pub(crate) hasher: ahash::RandomState,
}

/// The limits of one bucket.
#[derive(Debug)]
pub(crate) struct BucketLimits {
    /// Whether any limit applies; otherwise the actor is not asked.
    pub(crate) is_limited: bool,
    pub(crate) costs: Costs,
}

impl Limits {
    fn cost(&self, bucket: Option<BucketId>, class: OperationClass) -> u32 {
        let bucket_limits = bucket.and_then(|bucket| self.buckets.get(bucket.index()));
        class.cost(bucket_limits.map_or(&self.costs, |bucket| &bucket.costs))
    }
}

/// The handle of the limiter.
#[derive(Clone)]
pub struct LimiterHandle {
    mailbox: Mailbox<Limiter>,
    limits: Arc<Limits>,
    /// The number of this limiter in the process. It is part of the lease keys, because a thread may serve several
    /// limiters.
    number: usize,
}

impl LimiterHandle {
    pub(crate) fn new(mailbox: Mailbox<Limiter>, limits: Arc<Limits>) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self { mailbox, limits, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    /// The same limiter with its own leases, as on another thread.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn on_another_thread(&self) -> Self {
        Self::new(self.mailbox.clone(), Arc::clone(&self.limits))
    }

    /// The cost of a request, in tokens of each limit that applies.
    pub fn cost(&self, bucket: Option<BucketId>, class: OperationClass) -> u32 {
        self.limits.cost(bucket, class)
    }

    /// Whether every request is refused now: the actor has failed, `rate_limit.on_failure` is `refuse`, and a limit
    /// applies to every bucket.
    pub fn refuses_all(&self, now: Instant) -> bool {
        let limits = &self.limits;
        limits.on_failure == OnFailure::Refuse
            && limits.buckets.iter().all(|bucket| bucket.is_limited)
            && self.mailbox.actor_stats().failed_for(now).is_some()
    }

    /// Charges one request to every limit that applies, or to none.
    ///
    /// A limit is used up, or the actor gave no reply. While it is failed, `rate_limit.on_failure` decides.
    pub async fn admit(
        &self,
        bucket: BucketId,
        class: OperationClass,
        client: IpKey,
        now: Instant,
    ) -> Result<Allowed, LimiterRejection> {
        if self.limits.buckets.get(bucket.index()).is_some_and(|bucket| !bucket.is_limited) {
            return Ok(Allowed::default());
        }
        self.charge(Some(bucket), class, client, now).await
    }

    /// Charges one request without a bucket to the limits of the whole gateway.
    ///
    /// # Errors
    /// As for `admit`.
    pub async fn admit_unrouted(
        &self,
        class: OperationClass,
        client: IpKey,
        now: Instant,
    ) -> Result<Allowed, LimiterRejection> {
        if !self.limits.is_limited {
            return Ok(Allowed::default());
        }
        self.charge(None, class, client, now).await
    }

    async fn charge(
        &self,
        bucket: Option<BucketId>,
        class: OperationClass,
        client: IpKey,
        now: Instant,
    ) -> Result<Allowed, LimiterRejection> {
        let cost = self.limits.cost(bucket, class);
        let key = (self.number, bucket, client);
        let draw =
            if self.limits.sends_headers { LeaseDraw::Ask { more: 0 } } else { lease::spend(key, cost, now) };
        let more = match draw {
            LeaseDraw::Paid { refill } => {
                if refill {
                    self.refill(key, now);
                }
                return Ok(Allowed::default());
            }
            LeaseDraw::Ask { more } => more,
        };
        match self.mailbox.ask(Admit { bucket, client, cost, more }).await {
            Ok(reply) => {
                let AdmitReply { leased, allowed } = reply.map_err(LimiterRejection::Limited)?;
                lease::store(key, leased, now);
                Ok(self.count_shadowed(bucket, allowed))
            }
            Err(error) => self.on_ask_error(error),
        }
    }

    /// Charges one authenticated request to its client key.
    ///
    /// # Errors
    /// As for `admit`.
    pub async fn admit_key(
        &self,
        key: KeyId,
        bucket: Option<BucketId>,
        class: OperationClass,
    ) -> Result<Allowed, LimiterRejection> {
        if !self.limits.keys.get(key.index()).copied().unwrap_or(false) {
            return Ok(Allowed::default());
        }
        let cost = self.limits.cost(bucket, class);
        match self.mailbox.ask(AdmitKey { key, cost, bucket }).await {
            Ok(reply) => Ok(self.count_shadowed(bucket, reply.map_err(LimiterRejection::Limited)?)),
            Err(error) => self.on_ask_error(error),
        }
    }

    /// Charges one request to the subject of its verified token.
    ///
    /// # Errors
    /// As for `admit`.
    pub async fn admit_subject(
        &self,
        subject: Option<&str>,
        bucket: Option<BucketId>,
        class: OperationClass,
    ) -> Result<Allowed, LimiterRejection> {
        if !self.limits.subjects {
            return Ok(Allowed::default());
        }
        let cost = self.limits.cost(bucket, class);
        let subject = SubjectKey::from_subject(subject, &self.limits.hasher);
        match self.mailbox.ask(AdmitSubject { subject, cost, bucket }).await {
            Ok(reply) => Ok(self.count_shadowed(bucket, reply.map_err(LimiterRejection::Limited)?)),
            Err(error) => self.on_ask_error(error),
        }
    }

    /// Checks whether a client is locked out after failed authentications. Reads the published lockouts, without an
    /// ask.
    ///
    /// The client is locked out.
    pub fn check_auth_lockout(
        &self,
        client: IpKey,
        bucket: Option<BucketId>,
        now: Instant,
    ) -> Result<Allowed, LimiterRejection> {
        let limit = self.limits.auth_failures;
        let Some((limit, wait)) = limit.zip(self.limits.auth_lockout.remaining(client, now)) else {
            return Ok(Allowed::default());
        };
        let refusal = LimitStatus::of_auth_lockout(limit, wait);
        if limit.mode == LimitMode::Shadow {
            return Ok(self.count_shadowed(bucket, Allowed::shadowed(refusal)));
        }
        if let Some(bucket) = bucket {
            self.limits.metrics.exceeded(bucket);
        }
        Err(LimiterRejection::Limited(refusal))
    }

    /// Charges a failed authentication to a client.
    ///
    /// The client is over the limit already, or the actor gave no reply.
    pub async fn charge_auth_failure(
        &self,
        client: IpKey,
        bucket: Option<BucketId>,
    ) -> Result<Allowed, LimiterRejection> {
        if self.limits.auth_failures.is_none() {
            return Ok(Allowed::default());
        }
        match self.mailbox.ask(ChargeAuthFailure { client, bucket }).await {
            Ok(reply) => Ok(self.count_shadowed(bucket, reply.map_err(LimiterRejection::Limited)?)),
            Err(error) => self.on_ask_error(error),
        }
    }

    /// The limits of a request, without a charge: those of its head if `client` is given, and that of its key.
    ///
    /// # Errors
    /// The actor gave no reply, and requests are refused meanwhile.
    pub async fn peek(
        &self,
        bucket: Option<BucketId>,
        class: OperationClass,
        client: Option<IpKey>,
        key: Option<KeyId>,
    ) -> Result<Vec<PeekedLimit>, LimiterRejection> {
        let cost = self.limits.cost(bucket, class);
        match self.mailbox.ask(Peek { bucket, client, key, cost }).await {
            Ok(limits) => Ok(limits),
            Err(error) => self.on_ask_error(error).map(|_| Vec::new()),
        }
    }

    /// The lockout of a client after failed authentications, if it refuses requests. Nothing is counted.
    pub fn peek_auth_lockout(&self, client: IpKey, now: Instant) -> Option<LimitStatus> {
        let limit = self.limits.auth_failures.filter(|limit| limit.mode != LimitMode::Shadow)?;
        let wait = self.limits.auth_lockout.remaining(client, now)?;
        Some(LimitStatus::of_auth_lockout(limit, wait))
    }

    fn on_ask_error(&self, error: AskError) -> Result<Allowed, LimiterRejection> {
        match error {
            AskError::Failed { .. } if self.limits.on_failure == OnFailure::Pass => Ok(Allowed::default()),
            error => Err(LimiterRejection::Unavailable(error)),
        }
    }

    /// Counts a request that only the shadow mode admitted.
    fn count_shadowed(&self, bucket: Option<BucketId>, allowed: Allowed) -> Allowed {
        if let Some(bucket) = bucket.filter(|_| !allowed.shadowed.is_empty()) {
            self.limits.metrics.shadowed(bucket, &allowed.shadowed);
        }
        allowed
    }

    /// The requests of a bucket that only the shadow mode admitted, by limit. Reads counters, without an ask.
    pub fn shadowed_counts(&self, bucket: BucketId) -> impl Iterator<Item = (LimitScope, u64)> {
        self.limits.metrics.shadowed_counts(bucket)
    }

    /// The highest used share of the global burst since the last call, from 0 to 1; none without a limit.
    pub fn take_global_peak(&self) -> Option<f64> {
        self.limits.peaks.bursts.global.as_ref().map(BurstPeak::take)
    }

    /// The same of the client address that used most of its burst.
    pub fn take_ip_peak(&self) -> Option<f64> {
        self.limits.peaks.bursts.per_ip.as_ref().map(BurstPeak::take)
    }

    /// The same of a bucket, by its index.
    pub fn take_bucket_peak(&self, bucket: usize) -> Option<f64> {
        self.limits.peaks.bursts.buckets.get(bucket)?.as_ref().map(BurstPeak::take)
    }

    /// The same of the client key that used most of its burst.
    pub fn take_key_peak(&self) -> Option<f64> {
        self.limits.peaks.take_of_keys()
    }

    /// The same of the token subject that used most of its burst.
    pub fn take_subject_peak(&self) -> Option<f64> {
        self.limits.peaks.subjects.as_ref().as_ref().map(BurstPeak::take)
    }

    /// The same of the client address that used most of its burst of failed authentications.
    pub fn take_failed_auth_peak(&self) -> Option<f64> {
        self.limits.peaks.failed_auth.as_ref().as_ref().map(BurstPeak::take)
    }

    /// Asks for a refill of a lease, while the tokens left are used.
    fn refill(&self, key: LeaseKey, now: Instant) {
        let mailbox = self.mailbox.clone();
        actix_rt::spawn(async move {
            let (_, bucket, client) = key;
            if let Ok(Ok(reply)) = mailbox.ask(Admit { bucket, client, cost: 0, more: LEASE_MAX }).await {
                lease::store(key, reply.leased, now);
            }
        });
    }

    /// The limiter's part of the status document.
    ///
    /// # Errors
    /// The actor gave no reply.
    pub async fn inspect(&self) -> Result<LimiterReport, AskError> {
        self.mailbox.ask(Inspect).await
    }

    /// The supervised actor, for statistics and chaos.
    pub(crate) fn actor(&self) -> &dyn SupervisedActor {
        &self.mailbox
    }
}
