//! The limiter's messages and its shell.

use std::sync::Arc;
use std::time::Instant;

use crate::host::{Component, Serve};
use crate::limiter::LimiterMetrics;
use crate::limiter::state::{Charge, Limited, LimiterState};
use crate::mailbox::Request;
use crate::types::{BucketId, IpKey};

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
    metrics: Arc<LimiterMetrics>,
}

impl Limiter {
    pub(crate) fn new(state: LimiterState, metrics: Arc<LimiterMetrics>) -> Self {
        Self { state, metrics }
    }
}

impl Component for Limiter {
    fn rebuild(&mut self, now: Instant) {
        self.state.rebuild(now);
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

impl Serve<Inspect> for Limiter {
    type Decision = LimiterReport;

    fn decide(&self, _: &Inspect, _: Instant) -> LimiterReport {
        LimiterReport { clients: self.state.clients() }
    }

    fn apply(&mut self, _: Inspect, report: LimiterReport, _: Instant) -> LimiterReport {
        report
    }
}
