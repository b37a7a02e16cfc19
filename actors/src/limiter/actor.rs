//! The limiter's messages and its shell.

use std::sync::Arc;
use std::time::Instant;

use crate::host::{Component, Serve};
use crate::limiter::LimiterMetrics;
use crate::limiter::allowance::{Allowance, Allowed};
use crate::limiter::failures::{Closed, FailuresState, Sentence};
use crate::limiter::per_key::{KeyCharge, PerKeyState};
use crate::limiter::per_subject::{PerSubjectState, SubjectCharge, SubjectKey};
use crate::limiter::state::{Charge, LimiterState};
use crate::mailbox::Request;
use crate::types::{BucketId, IpKey, KeyId};

/// May this client have one request?
pub(crate) struct Admit {
    /// The bucket that it is about; none where it names no configured one.
    pub(crate) bucket: Option<BucketId>,
    pub(crate) client: IpKey,
    /// Tokens that the request costs; nothing where it is paid and only more are wanted.
    pub(crate) cost: u32,
    /// Tokens wanted beyond those, if the limits are high enough.
    pub(crate) more: u32,
}

/// Leave for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    /// How many tokens more the asker may spend on its own.
    pub(crate) leased: u32,
    pub(crate) allowed: Allowed,
}

impl Request for Admit {
    type Reply = Result<Admission, Allowance>;
    const NAME: &'static str = "limiter.admit";

    fn likeness(&self) -> u64 {
        let bucket = self.bucket.map_or(u64::from(u16::MAX) + 1, |bucket| bucket.index() as u64);
        self.client.likeness() ^ (bucket << 32)
    }
}

/// May this client key have one request more?
pub(crate) struct AdmitKey {
    pub(crate) key: KeyId,
    /// Tokens that the request costs.
    pub(crate) cost: u32,
    /// Whose metric a refusal is.
    pub(crate) bucket: Option<BucketId>,
}

impl Request for AdmitKey {
    type Reply = Result<Allowed, Allowance>;
    const NAME: &'static str = "limiter.admit_key";

    fn likeness(&self) -> u64 {
        self.key.index() as u64 ^ (1 << 62)
    }
}

/// May this subject of tokens have one request more?
pub(crate) struct AdmitSubject {
    pub(crate) subject: SubjectKey,
    /// Tokens that the request costs.
    pub(crate) cost: u32,
    /// Whose metric a refusal is.
    pub(crate) bucket: Option<BucketId>,
}

impl Request for AdmitSubject {
    type Reply = Result<Allowed, Allowance>;
    const NAME: &'static str = "limiter.admit_subject";

    fn likeness(&self) -> u64 {
        self.subject.likeness()
    }
}

/// This client failed to prove who it is.
pub(crate) struct Failed {
    pub(crate) client: IpKey,
    /// Whose metric a refusal is.
    pub(crate) bucket: Option<BucketId>,
}

impl Request for Failed {
    type Reply = Result<Allowed, Allowance>;
    const NAME: &'static str = "limiter.failed";

    fn likeness(&self) -> u64 {
        self.client.likeness() ^ (1 << 61)
    }
}

/// What the status page shows of the limiter.
#[derive(Debug, Clone, Copy)]
pub struct LimiterReport {
    /// Clients in the table.
    pub clients: usize,
}

/// Asks for a report.
pub(crate) struct Inspect;

impl Request for Inspect {
    type Reply = LimiterReport;
    const NAME: &'static str = "limiter.inspect";

    fn likeness(&self) -> u64 {
        0
    }
}

/// The component.
pub(crate) struct Limiter {
    state: LimiterState,
    per_key: PerKeyState,
    per_subject: PerSubjectState,
    failures: FailuresState,
    closed: Arc<Closed>,
    metrics: Arc<LimiterMetrics>,
}

impl Limiter {
    pub(crate) fn new(
        state: LimiterState,
        (per_key, per_subject): (PerKeyState, PerSubjectState),
        (failures, closed): (FailuresState, Arc<Closed>),
        metrics: Arc<LimiterMetrics>,
    ) -> Self {
        Self { state, per_key, per_subject, failures, closed, metrics }
    }

    fn refused(&self, bucket: Option<BucketId>) {
        if let Some(bucket) = bucket {
            self.metrics.exceeded(bucket);
        }
    }
}

impl Component for Limiter {
    fn rebuild(&mut self, now: Instant) {
        self.state.rebuild(now);
        self.per_key.rebuild(now);
        self.per_subject.rebuild(now);
        self.failures.rebuild(now);
    }
}

impl Serve<Admit> for Limiter {
    type Decision = Result<Charge, Allowance>;

    fn decide(&self, message: &Admit, now: Instant) -> Self::Decision {
        self.state.decide(message.bucket, message.client, message.cost, message.more, now)
    }

    fn apply(
        &mut self,
        message: Admit,
        decision: Self::Decision,
        now: Instant,
    ) -> Result<Admission, Allowance> {
        match decision {
            Ok(charge) => {
                self.state.apply(charge, now);
                let Charge { leased, allowed, .. } = charge;
                if let Some(bucket) = message.bucket {
                    self.metrics.taken(bucket, message.cost + leased, now);
                }
                Ok(Admission { leased, allowed })
            }
            Err(refusal) => {
                self.refused(message.bucket);
                Err(refusal)
            }
        }
    }
}

impl Serve<AdmitKey> for Limiter {
    type Decision = Result<KeyCharge, Allowance>;

    fn decide(&self, message: &AdmitKey, now: Instant) -> Self::Decision {
        self.per_key.decide(message.key, message.cost, now)
    }

    fn apply(
        &mut self,
        message: AdmitKey,
        decision: Self::Decision,
        _: Instant,
    ) -> Result<Allowed, Allowance> {
        let charge = decision.inspect_err(|_| self.refused(message.bucket))?;
        self.per_key.apply(message.key, charge);
        Ok(charge.allowed)
    }
}

impl Serve<AdmitSubject> for Limiter {
    type Decision = Result<SubjectCharge, Allowance>;

    fn decide(&self, message: &AdmitSubject, now: Instant) -> Self::Decision {
        self.per_subject.decide(message.subject, message.cost, now)
    }

    fn apply(
        &mut self,
        message: AdmitSubject,
        decision: Self::Decision,
        now: Instant,
    ) -> Result<Allowed, Allowance> {
        let charge = decision.inspect_err(|_| self.refused(message.bucket))?;
        self.per_subject.apply(charge, now);
        Ok(charge.allowed)
    }
}

impl Serve<Failed> for Limiter {
    type Decision = Result<Sentence, Allowance>;

    fn decide(&self, message: &Failed, now: Instant) -> Self::Decision {
        self.failures.decide(message.client, now)
    }

    fn apply(
        &mut self,
        message: Failed,
        decision: Self::Decision,
        now: Instant,
    ) -> Result<Allowed, Allowance> {
        let fee = match decision.inspect_err(|_| self.refused(message.bucket))? {
            Sentence::Fee(fee) => fee,
            Sentence::Free(allowed) => return Ok(allowed),
        };
        self.failures.apply(fee, now);
        if let Some(wait) = fee.closed_for {
            self.closed.close(message.client, now + wait, now);
        }
        Ok(Allowed::default())
    }
}

impl Serve<Inspect> for Limiter {
    type Decision = LimiterReport;

    fn decide(&self, _: &Inspect, _: Instant) -> LimiterReport {
        LimiterReport { clients: self.state.clients() }
    }

    fn apply(&mut self, _: Inspect, report: LimiterReport, _: Instant) -> LimiterReport {
        report
    }
}
