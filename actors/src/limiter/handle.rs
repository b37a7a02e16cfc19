//! The limiter's API for the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tidegate_config::{Config, LimitMode, OnFailure};

use crate::change_queue::ChangeQueue;
use crate::ids::Ids;
use crate::limiter::LimiterMetrics;
use crate::limiter::actor::{
    Admit, AdmitKey, AdmitReply, AdmitSubject, ChargeAuthFailure, Inspect, Limiter, LimiterReport,
};
use crate::limiter::lease::{self, LeaseDraw, LeaseKey};
use crate::limiter::limit_status::{Allowed, LimitScope, LimitStatus};
use crate::limiter::limits::Limits;
use crate::limiter::peek::{Peek, PeekedLimit};
use crate::limiter::per_subject::SubjectKey;
use crate::limiter::reconfigure::{ApplyChanges, LimiterChange, LimiterReconfigure};
use crate::limiter::settings::ConfiguredLimit;
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

/// The handle of the limiter for the requests of one configuration.
#[derive(Clone)]
pub struct LimiterHandle {
    pub(super) mailbox: Mailbox<Limiter>,
    pub(super) changes: Arc<ChangeQueue<LimiterChange>>,
    pub(super) limits: Arc<Limits>,
    /// The number of this handle in the process. It is part of the lease keys, because a thread may serve several
    /// limiters, and because leases of a replaced configuration must not be spent under the limits of the next one.
    number: usize,
}

impl LimiterHandle {
    /// The handle and the component of the first configuration.
    pub(crate) fn create(
        mailbox: Mailbox<Limiter>,
        (config, ids): (&Config, &Ids),
        metrics: &Arc<LimiterMetrics>,
        now: Instant,
    ) -> (Self, Limiter) {
        let limits = Arc::new(Limits::new(config, ids, Arc::clone(metrics)));
        let changes = Arc::default();
        let limiter = Limiter::new(&limits, Arc::clone(&changes), now);
        (Self::new(mailbox, changes, limits), limiter)
    }

    fn new(mailbox: Mailbox<Limiter>, changes: Arc<ChangeQueue<LimiterChange>>, limits: Arc<Limits>) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self { mailbox, changes, limits, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    /// The handle of the configuration that replaces this one, and the change for the actor, which has no effect until
    /// its `commit`. `ids` are those of the new configuration, reloaded from those of this one. Both handles work on.
    pub fn reconfigured(&self, config: &Config, ids: &Ids) -> (Self, LimiterReconfigure) {
        let limits = Arc::new(self.limits.reconfigured(config, ids));
        let change = LimiterReconfigure {
            mailbox: self.mailbox.clone(),
            changes: Arc::clone(&self.changes),
            settings: Arc::clone(&limits.settings),
            metrics: Arc::clone(&limits.metrics),
        };
        (Self::new(self.mailbox.clone(), Arc::clone(&self.changes), limits), change)
    }

    /// Drops the limits and the series of buckets and keys that neither the current nor a replaced configuration has.
    pub fn forget(&self, mut buckets: Vec<BucketId>, mut keys: Vec<KeyId>) {
        buckets.sort_unstable();
        keys.sort_unstable();
        self.limits.metrics.forget(&buckets);
        self.changes.push(LimiterChange::Forget { buckets, keys });
        self.mailbox.notify(ApplyChanges);
    }

    /// The same limiter with its own leases, as on another thread.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn on_another_thread(&self) -> Self {
        Self::new(self.mailbox.clone(), Arc::clone(&self.changes), Arc::clone(&self.limits))
    }

    /// Whether the actor has applied all changes.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn has_applied_changes(&self) -> bool {
        self.changes.is_empty()
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
            && limits.limits_all()
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
        if self.limits.is_unlimited(bucket) {
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
                if refill > 0 {
                    self.refill(key, refill, now);
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
        if !self.limits.limits_key(key) {
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
        if !self.limits.limits_subjects {
            return Ok(Allowed::default());
        }
        let cost = self.limits.cost(bucket, class);
        let subject = SubjectKey::from_subject(subject, self.limits.hasher.state());
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
        take_peak(&self.limits.settings.global)
    }

    /// The same of the client address that used most of its burst.
    pub fn take_ip_peak(&self) -> Option<f64> {
        take_peak(&self.limits.settings.per_ip)
    }

    /// The same of a bucket.
    pub fn take_bucket_peak(&self, bucket: BucketId) -> Option<f64> {
        take_peak(self.limits.settings.buckets.get(bucket)?)
    }

    /// The same of the client key that used most of its burst.
    pub fn take_key_peak(&self) -> Option<f64> {
        self.limits.settings.take_key_peak()
    }

    /// The same of the token subject that used most of its burst.
    pub fn take_subject_peak(&self) -> Option<f64> {
        take_peak(&self.limits.settings.per_subject)
    }

    /// The same of the client address that used most of its burst of failed authentications.
    pub fn take_failed_auth_peak(&self) -> Option<f64> {
        take_peak(&self.limits.settings.failed_auth)
    }

    /// Asks for a refill of a lease, while the tokens left are used.
    fn refill(&self, key: LeaseKey, more: u32, now: Instant) {
        let mailbox = self.mailbox.clone();
        actix_rt::spawn(async move {
            let (_, bucket, client) = key;
            if let Ok(Ok(reply)) = mailbox.ask(Admit { bucket, client, cost: 0, more }).await {
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

fn take_peak(limit: &Option<ConfiguredLimit>) -> Option<f64> {
    limit.as_ref().map(|limit| limit.peak.take())
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
