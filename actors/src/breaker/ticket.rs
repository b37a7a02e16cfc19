//! The ticket: permission for one call to the upstream, and the obligation to report its outcome.
//!
//! A ticket of a closed circuit has no obligation, and its `Drop` does nothing. A trial's ticket is a permit: dropped
//! without a report, on any path, it releases the permit without a result.

use std::fmt;
use std::sync::Arc;

use crate::breaker::actor::{Breaker, ReportCalls, ReportTrial};
use crate::breaker::circuit_id::CircuitId;
use crate::breaker::decision::{TicketKind, TrialId};
use crate::breaker::handle::BreakerRejection;
use crate::breaker::outcome::{AdverseOutcome, CallFailure, Outcome};
use crate::breaker::published_circuits::PublishedCircuits;
use crate::breaker::settings::CircuitSettings;
use crate::clock;
use crate::latest_settings::LatestSettings;
use crate::mailbox::Mailbox;

/// The parts of a handle that its tickets need, and what all handles of the bucket share.
pub(crate) struct BreakerShared {
    pub(crate) mailbox: Mailbox<Breaker>,
    pub(crate) published: Arc<PublishedCircuits>,
    pub(crate) latest: Arc<LatestSettings<CircuitSettings>>,
}

/// What a ticket must report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obligation {
    /// A call of a closed circuit of this generation.
    ReportCall { generation: u32 },
    /// A trial of this generation.
    ReportTrial { generation: u32, id: TrialId },
    /// Nothing: the call was made only because of the shadow mode, or the report is done.
    Nothing,
}

/// Permission for one call to a bucket's upstream.
#[must_use = "dropping a trial's ticket releases its permit without a result"]
pub struct BreakerTicket {
    shared: Arc<BreakerShared>,
    circuit: CircuitId,
    obligation: Obligation,
    slow: bool,
    /// Boxed, so that an ordinary ticket stays small.
    shadowed: Option<Box<BreakerRejection>>,
}

impl fmt::Debug for BreakerTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerTicket")
            .field("circuit", &self.circuit)
            .field("obligation", &self.obligation)
            .field("slow", &self.slow)
            .finish_non_exhaustive()
    }
}

impl BreakerTicket {
    pub(crate) fn new(shared: Arc<BreakerShared>, circuit: CircuitId, kind: TicketKind) -> Self {
        let obligation = match kind {
            TicketKind::Closed { generation } => Obligation::ReportCall { generation },
            TicketKind::Trial { generation, id } => Obligation::ReportTrial { generation, id },
        };
        Self { shared, circuit, obligation, slow: false, shadowed: None }
    }

    /// For a call with a result that does not count as evidence.
    pub(crate) fn uncounted(shared: Arc<BreakerShared>, circuit: CircuitId) -> Self {
        Self { shared, circuit, obligation: Obligation::Nothing, slow: false, shadowed: None }
    }

    /// For a call that only the shadow mode admits: without it, the breaker would refuse the call like this.
    pub(crate) fn shadowed(
        shared: Arc<BreakerShared>,
        circuit: CircuitId,
        refusal: BreakerRejection,
    ) -> Self {
        let mut ticket = Self::uncounted(shared, circuit);
        ticket.shadowed = Some(Box::new(refusal));
        ticket
    }

    /// The refusal that shadow mode suppressed.
    pub fn shadowed_refusal(&self) -> Option<&BreakerRejection> {
        self.shadowed.as_deref()
    }

    /// Marks the call as slow, whatever its outcome.
    pub fn mark_slow(&mut self) {
        self.slow = true;
    }

    /// Whether it is a trial of a half-open circuit; none for a call that only the shadow mode admitted.
    pub fn is_trial(&self) -> Option<bool> {
        match self.obligation {
            Obligation::ReportCall { .. } => Some(false),
            Obligation::ReportTrial { .. } => Some(true),
            Obligation::Nothing => None,
        }
    }

    /// The ticket for another call of the same request, without a report of this one.
    pub fn keep_for_next_call(self) -> Self {
        let mut ticket = self;
        ticket.slow = false;
        ticket
    }

    /// Reports the outcome of the call. Dropping the ticket instead reports `Neutral`.
    pub fn report(mut self, outcome: Outcome) {
        let adverse = match outcome {
            Outcome::Success if self.slow => Some(AdverseOutcome::Slow),
            Outcome::Success => None,
            Outcome::Failure { cause, retry_after } => {
                Some(AdverseOutcome::Failed(CallFailure { cause, retry_after }))
            }
            Outcome::Neutral => return,
        };
        match (std::mem::replace(&mut self.obligation, Obligation::Nothing), adverse) {
            (Obligation::ReportCall { generation }, None) => self.report_success(generation),
            (Obligation::ReportCall { generation }, Some(adverse)) => {
                self.report_failure(generation, adverse)
            }
            (Obligation::ReportTrial { generation, id }, None) => {
                self.report_trial(generation, id, Outcome::Success)
            }
            (Obligation::ReportTrial { generation, id }, Some(adverse)) => {
                let CallFailure { cause, retry_after } = adverse.failure();
                self.report_trial(generation, id, Outcome::Failure { cause, retry_after });
            }
            (Obligation::Nothing, _) => {}
        }
    }

    fn report_success(&self, generation: u32) {
        let published = &self.shared.published;
        // The actor needs successes only with the next failure, unless they may end consecutive failures.
        if published.count_success(self.circuit, generation)
            && published.has_failures(self.circuit)
            && published.claim_flush(self.circuit, clock::now())
        {
            self.report_calls(generation, None);
        }
    }

    fn report_failure(&self, generation: u32, adverse: AdverseOutcome) {
        if self.shared.published.state(self.circuit).1 == generation {
            self.report_calls(generation, Some(adverse));
        }
    }

    fn report_calls(&self, generation: u32, adverse: Option<AdverseOutcome>) {
        let circuit = self.circuit;
        let successes = self.shared.published.drain_successes(circuit, generation);
        self.shared.mailbox.notify(ReportCalls { circuit, generation, successes, adverse });
    }

    fn report_trial(&self, generation: u32, id: TrialId, outcome: Outcome) {
        self.shared.mailbox.notify(ReportTrial { circuit: self.circuit, generation, id, outcome });
    }
}

impl Drop for BreakerTicket {
    fn drop(&mut self) {
        if let Obligation::ReportTrial { generation, id } = self.obligation {
            self.report_trial(generation, id, Outcome::Neutral);
        }
    }
}
