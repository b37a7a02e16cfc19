//! What the request path sees of the limiter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tidegate_config::OnFailure;

use crate::chaos::Crash;
use crate::limiter::actor::{Admit, Inspect, Limiter, LimiterReport};
use crate::limiter::lease::{self, Key, LEASE_MAX, Taken};
use crate::limiter::state::Limited;
use crate::mailbox::{AskError, Mailbox};
use crate::types::{BucketId, IpKey};
use crate::vitals::Vitals;

/// Why the limiter did not admit a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LimiterRejection {
    /// A limit is used up.
    Limited(Limited),
    /// The actor gave no answer.
    Unavailable(AskError),
}

/// Asks the limiter.
#[derive(Clone)]
pub struct LimiterHandle {
    mailbox: Mailbox<Limiter>,
    /// Whether any limit applies to the bucket; without one the actor is not asked.
    limited: Arc<[bool]>,
    on_failure: OnFailure,
    /// Tells the limiters of one process apart where a thread serves several.
    number: usize,
}

impl LimiterHandle {
    pub(crate) fn new(mailbox: Mailbox<Limiter>, limited: Arc<[bool]>, on_failure: OnFailure) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self { mailbox, limited, on_failure, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    /// Charges one request to every limit that applies, or to none.
    ///
    /// # Errors
    /// A limit is used up, or the actor gave no answer. While it is failed, `rate_limit.on_failure` decides.
    pub async fn admit(&self, bucket: BucketId, client: IpKey, now: Instant) -> Result<(), LimiterRejection> {
        if !self.limited.get(bucket.index()).copied().unwrap_or(true) {
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
            Err(AskError::Failed { .. }) if self.on_failure == OnFailure::Pass => Ok(()),
            Err(error) => Err(LimiterRejection::Unavailable(error)),
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
}
