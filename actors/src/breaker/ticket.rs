//! The ticket: a request's leave to call the upstream, and its duty to say how that went.
//!
//! A ticket of a closed circuit owes nothing and its `Drop` is free. A trial's ticket is a permit: dropped without a
//! report, on whichever path, it goes back without a verdict.

use std::fmt;
use std::sync::Arc;

use crate::breaker::actor::{Breaker, ReportCalls, ReportTrial};
use crate::breaker::circuit_id::CircuitId;
use crate::breaker::decision::{TicketKind, TrialId};
use crate::breaker::outcome::{AdverseOutcome, CallFailure, Outcome};
use crate::breaker::published_circuits::PublishedCircuits;
use crate::clock;
use crate::mailbox::Mailbox;

/// What a ticket needs of its handle.
pub(crate) struct BreakerShared {
    pub(crate) mailbox: Mailbox<Breaker>,
    pub(crate) published: Arc<PublishedCircuits>,
}

/// What a ticket owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obligation {
    /// It came through a closed circuit of this generation.
    ReportCall { generation: u32 },
    /// It is a trial of this generation.
    ReportTrial { generation: u32, id: TrialId },
    /// Nothing: it was let through although the circuit would not have (shadow), or has said what it had to.
    Nothing,
}

/// Leave to call a bucket's upstream.
#[must_use = "a trial's ticket that is dropped gives its permit back"]
pub struct BreakerTicket {
    shared: Arc<BreakerShared>,
    circuit: CircuitId,
    obligation: Obligation,
    slow: bool,
}

impl fmt::Debug for BreakerTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerTicket")
            .field("circuit", &self.circuit)
            .field("duty", &self.obligation)
            .field("slow", &self.slow)
            .finish_non_exhaustive()
    }
}

impl BreakerTicket {
    pub(crate) fn new(shared: Arc<BreakerShared>, circuit: CircuitId, pass: TicketKind) -> Self {
        let obligation = match pass {
            TicketKind::Closed { generation } => Obligation::ReportCall { generation },
            TicketKind::Trial { generation, id } => Obligation::ReportTrial { generation, id },
        };
        Self { shared, circuit, obligation, slow: false }
    }

    /// For a call that is made against the circuit's will; its result is none of the circuit's evidence.
    pub(crate) fn shadowed(shared: Arc<BreakerShared>, circuit: CircuitId) -> Self {
        Self { shared, circuit, obligation: Obligation::Nothing, slow: false }
    }

    /// The call took too long, however it ends.
    pub fn mark_slow(&mut self) {
        self.slow = true;
    }

    /// Whether it is a permit of a half-open circuit; none where the circuit was not asked for one.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn is_trial(&self) -> Option<bool> {
        match self.obligation {
            Obligation::ReportCall { .. } => Some(false),
            Obligation::ReportTrial { .. } => Some(true),
            Obligation::Nothing => None,
        }
    }

    /// Says how the call went. Dropping the ticket instead says `Neutral`.
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
        let board = &self.shared.published;
        // The message tells the actor nothing it needs before the next failure, unless it could end a row of them.
        if board.count_success(self.circuit, generation)
            && board.has_failures(self.circuit)
            && board.claim_flush(self.circuit, clock::now())
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
