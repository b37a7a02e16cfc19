//! Messages and shell of the limiter actor.

use std::sync::Arc;
use std::time::Instant;

use crate::actor_shell::{Component, MessageHandler};
use crate::change_queue::ChangeQueue;
use crate::limiter::LimiterMetrics;
use crate::limiter::auth_failures::{AuthFailuresState, AuthLockout, LockoutDecision};
use crate::limiter::limit_status::{Allowed, LimitStatus};
use crate::limiter::limits::Limits;
use crate::limiter::per_key::{KeyCharge, PerKeyState};
use crate::limiter::per_subject::{PerSubjectState, SubjectCharge, SubjectKey};
use crate::limiter::reconfigure::LimiterChange;
use crate::limiter::settings::LimiterSettings;
use crate::limiter::state::{Charge, LimiterState};
use crate::mailbox::ActorMessage;
use crate::types::{BucketId, IpKey, KeyId};

/// Asks to admit one request of a client.
pub(crate) struct Admit {
    /// The request's bucket; none if it names no configured one.
    pub(crate) bucket: Option<BucketId>,
    pub(crate) client: IpKey,
    /// Cost of the request in tokens; 0 for a lease alone.
    pub(crate) cost: u32,
    /// Tokens to lease in addition, if the limits are high enough.
    pub(crate) more: u32,
}

/// The reply for an admitted request.
#[derive(Debug, Clone)]
pub(crate) struct AdmitReply {
    /// Leased tokens, for the caller to spend without asking.
    pub(crate) leased: u32,
    pub(crate) allowed: Allowed,
}

impl ActorMessage for Admit {
    type Reply = Result<AdmitReply, LimitStatus>;
    const NAME: &'static str = "limiter.admit";

    fn message_fingerprint(&self) -> u64 {
        let bucket = self.bucket.map_or(u64::from(u32::MAX) + 1, |bucket| u64::from(bucket.number()));
        self.client.fingerprint() ^ (bucket << 32)
    }
}

/// Asks to admit one request of a client key.
pub(crate) struct AdmitKey {
    pub(crate) key: KeyId,
    /// Tokens that the request costs.
    pub(crate) cost: u32,
    /// The bucket that a refusal is counted for.
    pub(crate) bucket: Option<BucketId>,
}

impl ActorMessage for AdmitKey {
    type Reply = Result<Allowed, LimitStatus>;
    const NAME: &'static str = "limiter.admit_key";

    fn message_fingerprint(&self) -> u64 {
        u64::from(self.key.number()) ^ (1 << 62)
    }
}

/// Asks to admit one request of a token subject.
pub(crate) struct AdmitSubject {
    pub(crate) subject: SubjectKey,
    /// Tokens that the request costs.
    pub(crate) cost: u32,
    /// The bucket that a refusal is counted for.
    pub(crate) bucket: Option<BucketId>,
}

impl ActorMessage for AdmitSubject {
    type Reply = Result<Allowed, LimitStatus>;
    const NAME: &'static str = "limiter.admit_subject";

    fn message_fingerprint(&self) -> u64 {
        self.subject.fingerprint()
    }
}

/// Charges a failed authentication to a client address.
pub(crate) struct ChargeAuthFailure {
    pub(crate) client: IpKey,
    /// The bucket that a refusal is counted for.
    pub(crate) bucket: Option<BucketId>,
}

impl ActorMessage for ChargeAuthFailure {
    type Reply = Result<Allowed, LimitStatus>;
    const NAME: &'static str = "limiter.failed";

    fn message_fingerprint(&self) -> u64 {
        self.client.fingerprint() ^ (1 << 61)
    }
}

/// The limiter's part of the status document.
#[derive(Debug, Clone, Copy)]
pub struct LimiterReport {
    /// Number of clients in the table.
    pub clients: usize,
}

/// Asks for the report.
pub(crate) struct Inspect;

impl ActorMessage for Inspect {
    type Reply = LimiterReport;
    const NAME: &'static str = "limiter.inspect";

    fn message_fingerprint(&self) -> u64 {
        0
    }
}

/// The component.
pub(crate) struct Limiter {
    pub(super) state: LimiterState,
    pub(super) per_key: PerKeyState,
    pub(super) per_subject: PerSubjectState,
    pub(super) failures: AuthFailuresState,
    pub(super) auth_lockout: Arc<AuthLockout>,
    /// The metrics of the buckets of all configurations in use.
    metrics: LimiterMetrics,
    changes: Arc<ChangeQueue<LimiterChange>>,
    /// Whether a successor has the limits, and this process what the hand-over left.
    pub(super) is_frozen: bool,
    /// The most tokens that it has left to a cell.
    pub(super) tokens_left_max: u64,
}

impl Limiter {
    pub(super) fn new(limits: &Limits, changes: Arc<ChangeQueue<LimiterChange>>, now: Instant) -> Self {
        let settings = &*limits.settings;
        Self {
            state: LimiterState::new(settings, now),
            per_key: PerKeyState::new(settings, now),
            per_subject: PerSubjectState::new(settings, now),
            failures: AuthFailuresState::new(settings, now),
            auth_lockout: Arc::clone(&limits.auth_lockout),
            metrics: LimiterMetrics::clone(&limits.metrics),
            changes,
            is_frozen: false,
            tokens_left_max: u64::MAX,
        }
    }

    /// Applies the changes that wait.
    pub(super) fn apply_changes(&mut self, now: Instant) {
        let changes = Arc::clone(&self.changes);
        changes.apply_all(|change| match change {
            LimiterChange::Reconfigure { settings, metrics } => {
                self.reconfigure(settings, now);
                self.metrics.extend(metrics);
            }
            LimiterChange::Forget { buckets, keys } => {
                self.state.forget(|bucket| buckets.binary_search(&bucket).is_ok());
                self.per_key.forget(|key| keys.binary_search(&key).is_ok());
                self.metrics.remove(buckets);
            }
            LimiterChange::Import(times) => self.import(times, now),
            LimiterChange::Freeze => self.freeze(0, now),
            LimiterChange::Thaw => self.thaw(now),
            LimiterChange::Lower { tokens } => self.lower(*tokens),
        });
    }

    fn reconfigure(&mut self, settings: &LimiterSettings, now: Instant) {
        self.state.reconfigure(settings, now);
        self.per_key.reconfigure(settings, now);
        self.per_subject.reconfigure(settings, now);
        self.auth_lockout.set_capacity(settings.clients_max);
        if self.failures.reconfigure(settings, now) {
            self.auth_lockout.update(|client| self.failures.wait(client, now), now);
            // A lower limit locks out at once. A refused failure would not, and guessing would go on until then.
            let waits = self.failures.waits(now);
            waits.for_each(|(client, wait)| self.auth_lockout.lock_out(client, now + wait, now));
        }
        if self.is_frozen {
            // What a hand-over left was of the limits before.
            Component::rebuild(self, now);
        }
    }

    fn count_refused(&self, bucket: Option<BucketId>) {
        if let Some(bucket) = bucket {
            self.metrics.exceeded(bucket);
        }
    }
}

impl Component for Limiter {
    fn rebuild(&mut self, now: Instant) {
        self.state.rebuild(now);
        self.per_key.rebuild(now);
        self.per_subject.subjects.rebuild(now);
        // Lockouts stay, because they are published.
        self.failures.clients.rebuild(now);
    }

    fn restarted(&mut self, now: Instant) {
        self.apply_changes(now);
    }
}

impl MessageHandler<Admit> for Limiter {
    type Decision = Result<Charge, LimitStatus>;

    fn decide(&self, message: &Admit, now: Instant) -> Self::Decision {
        self.state.decide(message.bucket, message.client, message.cost, message.more, now)
    }

    fn apply(
        &mut self,
        message: Admit,
        decision: Self::Decision,
        now: Instant,
    ) -> Result<AdmitReply, LimitStatus> {
        match decision {
            Ok(charge) => {
                self.state.apply(&charge, now);
                let Charge { leased, allowed, .. } = charge;
                if let Some(bucket) = message.bucket {
                    self.metrics.count_tokens(bucket, message.cost + leased, now);
                }
                Ok(AdmitReply { leased, allowed })
            }
            Err(refusal) => {
                self.count_refused(message.bucket);
                Err(refusal)
            }
        }
    }
}

impl MessageHandler<AdmitKey> for Limiter {
    type Decision = Result<KeyCharge, LimitStatus>;

    fn decide(&self, message: &AdmitKey, now: Instant) -> Self::Decision {
        self.per_key.decide(message.key, message.cost, now)
    }

    fn apply(
        &mut self,
        message: AdmitKey,
        decision: Self::Decision,
        _: Instant,
    ) -> Result<Allowed, LimitStatus> {
        let charge = decision.inspect_err(|_| self.count_refused(message.bucket))?;
        self.per_key.apply(message.key, &charge);
        Ok(charge.allowed)
    }
}

impl MessageHandler<AdmitSubject> for Limiter {
    type Decision = Result<SubjectCharge, LimitStatus>;

    fn decide(&self, message: &AdmitSubject, now: Instant) -> Self::Decision {
        self.per_subject.decide(message.subject, message.cost, now)
    }

    fn apply(
        &mut self,
        message: AdmitSubject,
        decision: Self::Decision,
        now: Instant,
    ) -> Result<Allowed, LimitStatus> {
        let charge = decision.inspect_err(|_| self.count_refused(message.bucket))?;
        self.per_subject.apply(&charge, now);
        Ok(charge.allowed)
    }
}

impl MessageHandler<ChargeAuthFailure> for Limiter {
    type Decision = Result<LockoutDecision, LimitStatus>;

    fn decide(&self, message: &ChargeAuthFailure, now: Instant) -> Self::Decision {
        self.failures.decide(message.client, now)
    }

    fn apply(
        &mut self,
        message: ChargeAuthFailure,
        decision: Self::Decision,
        now: Instant,
    ) -> Result<Allowed, LimitStatus> {
        let charge = match decision.inspect_err(|_| self.count_refused(message.bucket))? {
            LockoutDecision::Charge(charge) => charge,
            LockoutDecision::NoCharge(allowed) => return Ok(allowed),
        };
        self.failures.apply(charge, now);
        if let Some(wait) = charge.locked_out_for {
            self.auth_lockout.lock_out(message.client, now + wait, now);
        }
        Ok(Allowed::default())
    }
}

impl MessageHandler<Inspect> for Limiter {
    type Decision = LimiterReport;

    fn decide(&self, _: &Inspect, _: Instant) -> LimiterReport {
        LimiterReport { clients: self.state.clients() }
    }

    fn apply(&mut self, _: Inspect, report: LimiterReport, _: Instant) -> LimiterReport {
        report
    }
}
