//! The limiter's messages and its shell.

use std::sync::Arc;
use std::time::Instant;

use crate::host::{Component, Serve};
use crate::limiter::LimiterMetrics;
use crate::limiter::failures::{Closed, FailuresState, Fee};
use crate::limiter::per_key::PerKeyState;
use crate::limiter::state::{Charge, Limited, LimiterState};
use crate::mailbox::Request;
use crate::types::{BucketId, IpKey, KeyId};

/// May this client have one request on this bucket?
pub(crate) struct Admit {
    pub(crate) bucket: BucketId,
    pub(crate) client: IpKey,
    /// Admissions wanted beyond this one, if the limits are high enough.
    pub(crate) more: u32,
}

impl Request for Admit {
    /// How many requests more the asker may admit on its own.
    type Reply = Result<u32, Limited>;
    const NAME: &'static str = "limiter.admit";

    fn likeness(&self) -> u64 {
        self.client.likeness() ^ ((self.bucket.index() as u64) << 32)
    }
}

/// May this client key have one request more?
pub(crate) struct AdmitKey {
    pub(crate) key: KeyId,
    /// Whose metric a refusal is.
    pub(crate) bucket: Option<BucketId>,
}

impl Request for AdmitKey {
    type Reply = Result<(), Limited>;
    const NAME: &'static str = "limiter.admit_key";

    fn likeness(&self) -> u64 {
        self.key.index() as u64 ^ (1 << 62)
    }
}

/// This client failed to prove who it is.
pub(crate) struct Failed {
    pub(crate) client: IpKey,
    /// Whose metric a refusal is.
    pub(crate) bucket: Option<BucketId>,
}

impl Request for Failed {
    type Reply = Result<(), Limited>;
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
    failures: FailuresState,
    closed: Arc<Closed>,
    metrics: Arc<LimiterMetrics>,
}

impl Limiter {
    pub(crate) fn new(
        state: LimiterState,
        per_key: PerKeyState,
        (failures, closed): (FailuresState, Arc<Closed>),
        metrics: Arc<LimiterMetrics>,
    ) -> Self {
        Self { state, per_key, failures, closed, metrics }
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
        self.failures.rebuild(now);
    }
}

impl Serve<Admit> for Limiter {
    type Decision = Result<Charge, Limited>;

    fn decide(&self, message: &Admit, now: Instant) -> Self::Decision {
        self.state.decide(message.bucket, message.client, message.more, now)
    }

    fn apply(&mut self, message: Admit, decision: Self::Decision, now: Instant) -> Result<u32, Limited> {
        match decision {
            Ok(charge) => {
                self.state.apply(charge, now);
                self.metrics.admitted(message.bucket, 1 + charge.leased, now);
                Ok(charge.leased)
            }
            Err(limited) => {
                self.metrics.exceeded(message.bucket);
                Err(limited)
            }
        }
    }
}

impl Serve<AdmitKey> for Limiter {
    type Decision = Result<u64, Limited>;

    fn decide(&self, message: &AdmitKey, now: Instant) -> Self::Decision {
        self.per_key.decide(message.key, now)
    }

    fn apply(&mut self, message: AdmitKey, decision: Self::Decision, _: Instant) -> Result<(), Limited> {
        let next = decision.inspect_err(|_| self.refused(message.bucket))?;
        self.per_key.apply(message.key, next);
        Ok(())
    }
}

impl Serve<Failed> for Limiter {
    type Decision = Result<Option<Fee>, Limited>;

    fn decide(&self, message: &Failed, now: Instant) -> Self::Decision {
        self.failures.decide(message.client, now)
    }

    fn apply(&mut self, message: Failed, decision: Self::Decision, now: Instant) -> Result<(), Limited> {
        let Some(fee) = decision.inspect_err(|_| self.refused(message.bucket))? else { return Ok(()) };
        self.failures.apply(fee, now);
        if let Some(wait) = fee.closed_for {
            self.closed.close(message.client, now + wait, now);
        }
        Ok(())
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
