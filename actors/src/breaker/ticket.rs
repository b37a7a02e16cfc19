//! The ticket: a request's leave to call the upstream, and its duty to say how that went.
//!
//! A ticket of a closed circuit owes nothing and its `Drop` is free. A trial's ticket is a permit: dropped without a
//! report, on whichever path, it goes back without a verdict.

use std::fmt;
use std::sync::Arc;

use crate::breaker::actor::{Breaker, EndTrial, Judge};
use crate::breaker::class::CircuitId;
use crate::breaker::decision::{Pass, TrialId};
use crate::breaker::outcome::{Adverse, Failure, Outcome};
use crate::breaker::published::Board;
use crate::clock;
use crate::mailbox::Mailbox;

/// What a ticket needs of its handle.
pub(crate) struct Shared {
    pub(crate) mailbox: Mailbox<Breaker>,
    pub(crate) board: Arc<Board>,
}

/// What a ticket owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// It came through a closed circuit of this generation.
    Tell { generation: u32 },
    /// It is a trial of this generation.
    EndTrial { generation: u32, id: TrialId },
    /// Nothing: it was let through although the circuit would not have (shadow), or has said what it had to.
    Nothing,
}

/// Leave to call a bucket's upstream.
#[must_use = "a trial's ticket that is dropped gives its permit back"]
pub struct BreakerTicket {
    shared: Arc<Shared>,
    circuit: CircuitId,
    duty: Duty,
    slow: bool,
}

impl fmt::Debug for BreakerTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerTicket")
            .field("circuit", &self.circuit)
            .field("duty", &self.duty)
            .field("slow", &self.slow)
            .finish_non_exhaustive()
    }
}

impl BreakerTicket {
    pub(crate) fn new(shared: Arc<Shared>, circuit: CircuitId, pass: Pass) -> Self {
        let duty = match pass {
            Pass::Closed { generation } => Duty::Tell { generation },
            Pass::Trial { generation, id } => Duty::EndTrial { generation, id },
        };
        Self { shared, circuit, duty, slow: false }
    }

    /// For a call that is made against the circuit's will; its result is none of the circuit's evidence.
    pub(crate) fn shadowed(shared: Arc<Shared>, circuit: CircuitId) -> Self {
        Self { shared, circuit, duty: Duty::Nothing, slow: false }
    }

    /// The call took too long, however it ends.
    pub fn drag(&mut self) {
        self.slow = true;
    }

    /// Whether it is a permit of a half-open circuit; none where the circuit was not asked for one.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn is_trial(&self) -> Option<bool> {
        match self.duty {
            Duty::Tell { .. } => Some(false),
            Duty::EndTrial { .. } => Some(true),
            Duty::Nothing => None,
        }
    }

    /// Says how the call went. Dropping the ticket instead says `Neutral`.
    pub fn report(mut self, outcome: Outcome) {
        let adverse = match outcome {
            Outcome::Success if self.slow => Some(Adverse::Slow),
            Outcome::Success => None,
            Outcome::Failure { cause, retry_after } => Some(Adverse::Failed(Failure { cause, retry_after })),
            Outcome::Neutral => return,
        };
        match (std::mem::replace(&mut self.duty, Duty::Nothing), adverse) {
            (Duty::Tell { generation }, None) => self.succeeded(generation),
            (Duty::Tell { generation }, Some(adverse)) => self.failed(generation, adverse),
            (Duty::EndTrial { generation, id }, None) => self.end_trial(generation, id, Outcome::Success),
            (Duty::EndTrial { generation, id }, Some(adverse)) => {
                let Failure { cause, retry_after } = adverse.failure();
                self.end_trial(generation, id, Outcome::Failure { cause, retry_after });
            }
            (Duty::Nothing, _) => {}
        }
    }

    fn succeeded(&self, generation: u32) {
        let board = &self.shared.board;
        // The message tells the actor nothing it needs before the next failure, unless it could end a row of them.
        if board.count_success(self.circuit, generation)
            && board.has_failures(self.circuit)
            && board.claim_flush(self.circuit, clock::now())
        {
            self.tell(generation, None);
        }
    }

    fn failed(&self, generation: u32, adverse: Adverse) {
        if self.shared.board.word(self.circuit).1 == generation {
            self.tell(generation, Some(adverse));
        }
    }

    fn tell(&self, generation: u32, adverse: Option<Adverse>) {
        let circuit = self.circuit;
        let successes = self.shared.board.take_successes(circuit, generation);
        self.shared.mailbox.tell(Judge { circuit, generation, successes, adverse });
    }

    fn end_trial(&self, generation: u32, id: TrialId, outcome: Outcome) {
        self.shared.mailbox.tell(EndTrial { circuit: self.circuit, generation, id, outcome });
    }
}

impl Drop for BreakerTicket {
    fn drop(&mut self) {
        if let Duty::EndTrial { generation, id } = self.duty {
            self.end_trial(generation, id, Outcome::Neutral);
        }
    }
}
