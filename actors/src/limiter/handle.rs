//! What the request path sees of the limiter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tidegate_config::{Costs, LimitMode, OnFailure, RateLimit};

use crate::actor_stats::ActorStats;
use crate::limiter::LimiterMetrics;
use crate::limiter::actor::{
    Admit, AdmitKey, AdmitReply, AdmitSubject, ChargeAuthFailure, Inspect, Limiter, LimiterReport,
};
use crate::limiter::auth_failures::AuthLockout;
use crate::limiter::lease::{self, LEASE_MAX, LeaseDraw, LeaseKey};
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::per_subject::SubjectKey;
use crate::mailbox::{AskError, Mailbox, SupervisedActor};
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

/// Why the limiter did not admit a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LimiterRejection {
    /// A limit is used up.
    Limited(LimitStatus),
    /// The actor gave no answer.
    Unavailable(AskError),
}

/// What is known of the limits without asking.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) buckets: Vec<BucketLimits>,
    /// What a request costs that is about no bucket.
    pub(crate) costs: Costs,
    /// Whether any limit applies to a request that is about no bucket.
    pub(crate) is_limited: bool,
    /// Which client keys have a limit.
    pub(crate) keys: Vec<bool>,
    /// Whether subjects of tokens have one.
    pub(crate) subjects: bool,
    /// Whether those who are admitted are told what is left: then each of them asks.
    pub(crate) sends_headers: bool,
    /// The limit of authentications that fail, and who is over it.
    pub(crate) auth_failures: Option<RateLimit>,
    pub(crate) auth_lockout: Arc<AuthLockout>,
    pub(crate) on_failure: OnFailure,
    pub(crate) metrics: Arc<LimiterMetrics>,
    /// Makes keys of subjects.
    pub(crate) hasher: ahash::RandomState,
}

/// What is known of a bucket's limits.
#[derive(Debug)]
pub(crate) struct BucketLimits {
    /// Whether any limit applies; without one the actor is not asked.
    pub(crate) is_limited: bool,
    pub(crate) costs: Costs,
}

impl Limits {
    fn cost(&self, bucket: Option<BucketId>, class: OperationClass) -> u32 {
        let of_bucket = bucket.and_then(|bucket| self.buckets.get(bucket.index()));
        let costs = of_bucket.map_or(&self.costs, |bucket| &bucket.costs);
        let cost = match class {
            OperationClass::Read => costs.read,
            OperationClass::Write => costs.write,
            OperationClass::List => costs.list,
        };
        cost.get()
    }
}

/// Asks the limiter.
#[derive(Clone)]
pub struct LimiterHandle {
    mailbox: Mailbox<Limiter>,
    limits: Arc<Limits>,
    /// Tells the limiters of one process apart where a thread serves several.
    number: usize,
}

impl LimiterHandle {
    pub(crate) fn new(mailbox: Mailbox<Limiter>, limits: Arc<Limits>) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self { mailbox, limits, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    /// The same limiter as another thread sees it, with leases of its own.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn on_another_thread(&self) -> Self {
        Self::new(self.mailbox.clone(), Arc::clone(&self.limits))
    }

    /// Whether every request is refused now: the actor has failed, `rate_limit.on_failure` is `refuse`, and a limit applies to
    /// every bucket.
    pub fn refuses_all(&self, now: Instant) -> bool {
        let limits = &self.limits;
        limits.on_failure == OnFailure::Refuse
            && limits.buckets.iter().all(|bucket| bucket.is_limited)
            && self.mailbox.actor_stats().failed_for(now).is_some()
    }

    /// Charges one request to every limit that applies, or to none.
    ///
    /// # Errors
    /// A limit is used up, or the actor gave no answer. While it is failed, `rate_limit.on_failure` decides.
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

    /// Charges one request that is about no bucket to the limits of the whole gateway.
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
        let taken =
            if self.limits.sends_headers { LeaseDraw::Ask { more: 0 } } else { lease::spend(key, cost, now) };
        let more = match taken {
            LeaseDraw::Paid { refill } => {
                if refill {
                    self.refill(key, now);
                }
                return Ok(Allowed::default());
            }
            LeaseDraw::Ask { more } => more,
        };
        match self.mailbox.ask(Admit { bucket, client, cost, more }).await {
            Ok(verdict) => {
                let AdmitReply { leased, allowed } = verdict.map_err(LimiterRejection::Limited)?;
                lease::store(key, leased, now);
                Ok(self.count_shadowed(bucket, allowed))
            }
            Err(error) => self.on_ask_error(error),
        }
    }

    /// Charges one request to a client key, once it is known to be that key's.
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
            Ok(verdict) => Ok(self.count_shadowed(bucket, verdict.map_err(LimiterRejection::Limited)?)),
            Err(error) => self.on_ask_error(error),
        }
    }

    /// Charges one request to the subject of a token, once that is verified.
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
            Ok(verdict) => Ok(self.count_shadowed(bucket, verdict.map_err(LimiterRejection::Limited)?)),
            Err(error) => self.on_ask_error(error),
        }
    }

    /// Whether this client may try to prove who it is. Nothing is asked: it is published.
    ///
    /// # Errors
    /// Too many of its tries have failed.
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
        if limit.mode == LimitMode::Shadow {
            return Ok(self.count_shadowed(bucket, Allowed::shadowed(LimitScope::FailedAuth)));
        }
        if let Some(bucket) = bucket {
            self.limits.metrics.exceeded(bucket);
        }
        Err(LimiterRejection::Limited(LimitStatus::of_auth_lockout(limit, wait)))
    }

    /// Charges a failed authentication to a client.
    ///
    /// # Errors
    /// It is over the limit already, or the actor gave no answer.
    pub async fn charge_auth_failure(
        &self,
        client: IpKey,
        bucket: Option<BucketId>,
    ) -> Result<Allowed, LimiterRejection> {
        if self.limits.auth_failures.is_none() {
            return Ok(Allowed::default());
        }
        match self.mailbox.ask(ChargeAuthFailure { client, bucket }).await {
            Ok(verdict) => Ok(self.count_shadowed(bucket, verdict.map_err(LimiterRejection::Limited)?)),
            Err(error) => self.on_ask_error(error),
        }
    }

    fn on_ask_error(&self, error: AskError) -> Result<Allowed, LimiterRejection> {
        match error {
            AskError::Failed { .. } if self.limits.on_failure == OnFailure::Pass => Ok(Allowed::default()),
            error => Err(LimiterRejection::Unavailable(error)),
        }
    }

    /// Counts who passed a limit only because it is in shadow mode.
    fn count_shadowed(&self, bucket: Option<BucketId>, allowed: Allowed) -> Allowed {
        if let Some(bucket) = bucket.filter(|_| !allowed.shadowed.is_empty()) {
            self.limits.metrics.shadowed(bucket, allowed.shadowed);
        }
        allowed
    }

    /// Has more tokens of a lease paid for while what is left of it is used.
    fn refill(&self, key: LeaseKey, now: Instant) {
        let mailbox = self.mailbox.clone();
        actix_rt::spawn(async move {
            let (_, bucket, client) = key;
            if let Ok(Ok(admission)) = mailbox.ask(Admit { bucket, client, cost: 0, more: LEASE_MAX }).await {
                lease::store(key, admission.leased, now);
            }
        });
    }

    /// What the status page shows.
    ///
    /// # Errors
    /// The actor gave no answer.
    pub async fn inspect(&self) -> Result<LimiterReport, AskError> {
        self.mailbox.ask(Inspect).await
    }

    /// The actor's vital signs.
    pub fn actor_stats(&self) -> &Arc<ActorStats> {
        self.mailbox.actor_stats()
    }

    /// The actor, whatever its kind.
    pub(crate) fn actor(&self) -> &dyn SupervisedActor {
        &self.mailbox
    }
}
