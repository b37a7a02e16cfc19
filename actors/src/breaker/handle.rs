//! What the request path sees of the breaker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::breaker::actor::{Breaker, Try};
use crate::breaker::decision::{CircuitState, Pass, Refusal};
use crate::breaker::outcome::Cause;
use crate::breaker::published::Board;
use crate::breaker::ticket::{BreakerTicket, Shared};
use crate::chaos::{Crash, Stall};
use crate::clock;
use crate::mailbox::{AskError, Mailbox};
use crate::types::BucketId;
use crate::vitals::Vitals;

/// What a circuit's publication says to a request before it queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clearance {
    /// The circuit is closed.
    Closed {
        /// Its generation.
        generation: u32,
    },
    /// Only as a trial: the actor must be asked.
    Trial,
}

/// Why the breaker does not let a request through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerRejection {
    /// The circuit is open.
    Open {
        /// Until the first trial.
        retry_after: Duration,
        /// The failure that opened it.
        cause: Cause,
    },
    /// All trials are taken.
    HalfOpenFull {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The actor gave no answer.
    Unavailable(AskError),
}

impl From<Refusal> for BreakerRejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Open { retry_after, cause } => Self::Open { retry_after, cause },
            Refusal::HalfOpenFull { retry_after } => Self::HalfOpenFull { retry_after },
        }
    }
}

/// What the status page shows of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerView {
    /// Closed, open or half-open.
    pub state: CircuitState,
    /// Rises with every transition.
    pub generation: u32,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Times it opened.
    pub opened_total: u64,
    /// How long it stays open, if it is.
    pub open_for: Option<Duration>,
    /// The failure that opened it last.
    pub cause: Option<Cause>,
}

/// Asks the breaker.
///
/// Every method panics on a bucket that is not configured: routing cannot produce one.
#[derive(Clone)]
pub struct BreakerHandle {
    shared: Arc<Shared>,
}

impl BreakerHandle {
    pub(crate) fn new(mailbox: Mailbox<Breaker>, board: Arc<Board>) -> Self {
        Self { shared: Arc::new(Shared { mailbox, board }) }
    }

    /// Looks at the bucket's circuit, so that what will be refused need not queue first (B2).
    ///
    /// # Errors
    /// The circuit is open.
    pub fn peek(&self, bucket: BucketId, now: Instant) -> Result<Clearance, BreakerRejection> {
        let board = &self.shared.board;
        match board.word(bucket) {
            (CircuitState::Closed, generation) => Ok(Clearance::Closed { generation }),
            (CircuitState::HalfOpen, _) => Ok(Clearance::Trial),
            (CircuitState::Open, _) => {
                let published = board.read(bucket);
                match published.open_until.map(|until| until.saturating_duration_since(now)) {
                    Some(retry_after) if !retry_after.is_zero() => Err(BreakerRejection::Open {
                        retry_after,
                        cause: published.cause.unwrap_or(Cause::Connect),
                    }),
                    _ => Ok(Clearance::Trial),
                }
            }
        }
    }

    /// Takes leave to call the upstream, immediately before the call (B4). With the circuit closed, as nearly always,
    /// that asks nobody. A clearance that a transition has overtaken is looked at again.
    ///
    /// # Errors
    /// The circuit is open, all trials are taken, or the actor gave no answer.
    pub async fn permit(
        &self,
        bucket: BucketId,
        clearance: Clearance,
    ) -> Result<BreakerTicket, BreakerRejection> {
        let clearance = match clearance {
            Clearance::Closed { generation } if self.shared.board.word(bucket).1 != generation => {
                self.peek(bucket, clock::now())?
            }
            unchanged => unchanged,
        };
        let shared = Arc::clone(&self.shared);
        match clearance {
            Clearance::Closed { generation } => {
                Ok(BreakerTicket::new(shared, bucket, Pass::Closed { generation }))
            }
            Clearance::Trial => {
                let answer = self.shared.mailbox.ask(Try { bucket, shared }).await;
                Ok(answer.map_err(BreakerRejection::Unavailable)??)
            }
        }
    }

    /// What the status page shows.
    pub fn view(&self, bucket: BucketId, now: Instant) -> BreakerView {
        let published = self.shared.board.read(bucket);
        BreakerView {
            state: published.state,
            generation: published.generation,
            consecutive_failures: published.consecutive_failures,
            opened_total: published.opened_total,
            open_for: match published.state {
                CircuitState::Open => published.open_until.map(|until| until.saturating_duration_since(now)),
                CircuitState::Closed | CircuitState::HalfOpen => None,
            },
            cause: published.cause,
        }
    }

    /// The actor's vital signs.
    pub fn vitals(&self) -> &Arc<Vitals> {
        self.shared.mailbox.vitals()
    }

    /// Has the actor crash.
    pub fn crash(&self, crash: Crash) {
        self.shared.mailbox.crash(crash);
    }

    /// Has the actor stand still; chaos only.
    pub fn stall(&self, stall: Stall) {
        self.shared.mailbox.stall(stall);
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
