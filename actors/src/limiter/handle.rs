//! What the request path sees of the limiter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tidegate_config::{OnFailure, RateLimit};

use crate::chaos::{Crash, Stall};
use crate::limiter::LimiterMetrics;
use crate::limiter::actor::{Admit, AdmitKey, Failed, Inspect, Limiter, LimiterReport};
use crate::limiter::failures::Closed;
use crate::limiter::lease::{self, Key, LEASE_MAX, Taken};
use crate::limiter::state::Limited;
use crate::mailbox::{AskError, Mailbox};
use crate::types::{BucketId, IpKey, KeyId};
use crate::vitals::Vitals;

/// Why the limiter did not admit a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LimiterRejection {
    /// A limit is used up.
    Limited(Limited),
    /// The actor gave no answer.
    Unavailable(AskError),
}

/// What is known of the limits without asking.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Whether any limit applies to the bucket; without one the actor is not asked.
    pub(crate) buckets: Vec<bool>,
    /// Whether client keys have one.
    pub(crate) keys: bool,
    /// The limit of authentications that fail, and who is over it.
    pub(crate) failures: Option<RateLimit>,
    pub(crate) closed: Arc<Closed>,
    pub(crate) on_failure: OnFailure,
    pub(crate) metrics: Arc<LimiterMetrics>,
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
    pub(crate) fn new(mailbox: Mailbox<Limiter>, limits: Limits) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self { mailbox, limits: Arc::new(limits), number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    /// Charges one request to every limit that applies, or to none.
    ///
    /// # Errors
    /// A limit is used up, or the actor gave no answer. While it is failed, `rate_limit.on_failure` decides.
    pub async fn admit(&self, bucket: BucketId, client: IpKey, now: Instant) -> Result<(), LimiterRejection> {
        if !self.limits.buckets.get(bucket.index()).copied().unwrap_or(true) {
            return Ok(());
        }
        let key = (self.number, bucket, client);
        let more = match lease::take(key, now) {
            Taken::Paid { refill } => {
                if refill {
                    self.refill(key, now);
                }
                return Ok(());
            }
            Taken::Ask { more } => more,
        };
        match self.mailbox.ask(Admit { bucket, client, more }).await {
            Ok(verdict) => {
                lease::keep(key, verdict.map_err(LimiterRejection::Limited)?, now);
                Ok(())
            }
            Err(error) => self.unanswered(error),
        }
    }

    /// Charges one request to a client key, once it is known to be that key's.
    ///
    /// # Errors
    /// As for `admit`.
    pub async fn admit_key(&self, key: KeyId, bucket: Option<BucketId>) -> Result<(), LimiterRejection> {
        if !self.limits.keys {
            return Ok(());
        }
        match self.mailbox.ask(AdmitKey { key, bucket }).await {
            Ok(verdict) => verdict.map_err(LimiterRejection::Limited),
            Err(error) => self.unanswered(error),
        }
    }

    /// Whether this client may try to prove who it is. Nothing is asked: it is published.
    ///
    /// # Errors
    /// Too many of its tries have failed.
    pub fn may_authenticate(
        &self,
        client: IpKey,
        bucket: Option<BucketId>,
        now: Instant,
    ) -> Result<(), LimiterRejection> {
        let limit = self.limits.failures;
        let Some((limit, wait)) = limit.zip(self.limits.closed.remaining(client, now)) else { return Ok(()) };
        if let Some(bucket) = bucket {
            self.limits.metrics.exceeded(bucket);
        }
        Err(LimiterRejection::Limited(Limited::of_failures(limit, wait)))
    }

    /// Charges a failed authentication to a client.
    ///
    /// # Errors
    /// It is over the limit already, or the actor gave no answer.
    pub async fn failed_to_authenticate(
        &self,
        client: IpKey,
        bucket: Option<BucketId>,
    ) -> Result<(), LimiterRejection> {
        if self.limits.failures.is_none() {
            return Ok(());
        }
        match self.mailbox.ask(Failed { client, bucket }).await {
            Ok(verdict) => verdict.map_err(LimiterRejection::Limited),
            Err(error) => self.unanswered(error),
        }
    }

    fn unanswered(&self, error: AskError) -> Result<(), LimiterRejection> {
        match error {
            AskError::Failed { .. } if self.limits.on_failure == OnFailure::Pass => Ok(()),
            error => Err(LimiterRejection::Unavailable(error)),
        }
    }

    /// Has more admissions of a lease paid for while what is left of it is used.
    fn refill(&self, key: Key, now: Instant) {
        let mailbox = self.mailbox.clone();
        actix_rt::spawn(async move {
            let (_, bucket, client) = key;
            if let Ok(Ok(leased)) = mailbox.ask(Admit { bucket, client, more: LEASE_MAX - 1 }).await {
                lease::keep(key, leased + 1, now);
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
    pub fn vitals(&self) -> &Arc<Vitals> {
        self.mailbox.vitals()
    }

    /// Has the actor crash.
    pub fn crash(&self, crash: Crash) {
        self.mailbox.crash(crash);
    }

    /// Has the actor stand still; chaos only.
    pub fn stall(&self, stall: Stall) {
        self.mailbox.stall(stall);
    }
}
