//! What the request path sees of the breaker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::{BreakerConfig, BreakerMode};

use crate::breaker::actor::{Breaker, Try};
use crate::breaker::class::{self, CircuitId};
use crate::breaker::decision::{CircuitState, Pass, Refusal};
use crate::breaker::hold::Patience;
use crate::breaker::metrics::BreakerMetrics;
use crate::breaker::outcome::Cause;
use crate::breaker::published::Board;
use crate::breaker::ticket::{BreakerTicket, Shared};
use crate::clock;
use crate::mailbox::{AskError, Mailbox, Supervised};
use crate::types::OperationClass;
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
    /// The circuit is open, but its mode is to refuse nobody.
    Shadowed,
}

/// When a call that is no trial may be made again while trials are under way.
const UNCOUNTED_RETRY_AFTER: Duration = Duration::from_secs(1);

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
    /// The configuration keeps the circuit open.
    Forced {
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
            Refusal::Forced { retry_after } => Self::Forced { retry_after },
        }
    }
}

/// What the status page shows of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerView {
    /// What its requests do.
    pub class: &'static str,
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
    /// Whether a connection to the upstream ends that.
    pub probed: bool,
    /// The failure that opened it last.
    pub cause: Option<Cause>,
    /// Requests that wait for it.
    pub held: usize,
    /// Most that may.
    pub held_max: usize,
}

/// What of a bucket's configuration its handle needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    mode: BreakerMode,
    pub(super) per_operation: bool,
    timeout: Duration,
    pub(super) patience: Option<Patience>,
}

/// Asks the breaker of one bucket.
#[derive(Clone)]
pub struct BreakerHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Settings,
    metrics: Arc<BreakerMetrics>,
}

impl BreakerHandle {
    pub(crate) fn new(
        mailbox: Mailbox<Breaker>,
        board: Arc<Board>,
        config: &BreakerConfig,
        metrics: Arc<BreakerMetrics>,
    ) -> Self {
        let settings = Settings {
            mode: config.mode,
            per_operation: config.per_operation,
            timeout: config.timeout,
            patience: config.hold.map(|hold| Patience { hold, held_max: config.held_max() }),
        };
        Self { settings, shared: Arc::new(Shared { mailbox, board }), metrics }
    }

    /// The circuit that requests of this class belong to.
    pub fn circuit(&self, class: OperationClass) -> CircuitId {
        CircuitId::of(class, self.settings.per_operation)
    }

    /// What becomes of the bucket's verdicts.
    pub fn mode(&self) -> BreakerMode {
        self.settings.mode
    }

    /// Looks at a circuit, so that what will be refused need not queue first (B2).
    ///
    /// # Errors
    /// The circuit is open.
    pub fn peek(&self, circuit: CircuitId, now: Instant) -> Result<Clearance, BreakerRejection> {
        match self.shared.board.word(circuit) {
            (CircuitState::Closed, generation) => Ok(Clearance::Closed { generation }),
            (CircuitState::HalfOpen, _) => Ok(Clearance::Trial),
            (CircuitState::Open, _) => self.peek_open(circuit, now),
        }
    }

    fn peek_open(&self, circuit: CircuitId, now: Instant) -> Result<Clearance, BreakerRejection> {
        let settings = self.settings;
        let published = self.shared.board.read(circuit);
        let Some(until) = published.open_until else {
            return Err(BreakerRejection::Forced { retry_after: settings.timeout });
        };
        let retry_after = until.saturating_duration_since(now);
        if retry_after.is_zero() {
            Ok(Clearance::Trial)
        } else if settings.mode == BreakerMode::Shadow {
            Ok(Clearance::Shadowed)
        } else {
            let cause = published.cause.unwrap_or(Cause::Connect);
            Err(BreakerRejection::Open { retry_after, cause })
        }
    }

    /// Takes leave to call the upstream, immediately before the call (B4). With the circuit closed, as nearly always,
    /// that asks nobody. A clearance that a transition has overtaken is looked at again.
    ///
    /// # Errors
    /// The circuit is open, all trials are taken, or the actor gave no answer.
    pub async fn permit(
        &self,
        circuit: CircuitId,
        clearance: Clearance,
    ) -> Result<BreakerTicket, BreakerRejection> {
        let clearance = match clearance {
            Clearance::Closed { generation } if self.shared.board.word(circuit).1 != generation => {
                self.peek(circuit, clock::now())?
            }
            unchanged => unchanged,
        };
        let shared = Arc::clone(&self.shared);
        match clearance {
            Clearance::Closed { generation } => {
                Ok(BreakerTicket::new(shared, circuit, Pass::Closed { generation }))
            }
            Clearance::Trial => self.ask_for_trial(circuit).await,
            Clearance::Shadowed => {
                self.metrics.shadow_refused(circuit);
                Ok(BreakerTicket::shadowed(shared, circuit))
            }
        }
    }

    /// Leave to call the upstream if the circuit is closed at this moment, and none otherwise: not even as a trial.
    pub fn permit_if_closed(&self, circuit: CircuitId) -> Option<BreakerTicket> {
        match self.shared.board.word(circuit) {
            (CircuitState::Closed, generation) => {
                Some(BreakerTicket::new(Arc::clone(&self.shared), circuit, Pass::Closed { generation }))
            }
            (CircuitState::Open | CircuitState::HalfOpen, _) => None,
        }
    }

    /// Leave for a call with an outcome that counts for nothing. It is no trial, since it would end none.
    ///
    /// # Errors
    /// The circuit is open or half-open.
    pub fn permit_uncounted(
        &self,
        circuit: CircuitId,
        now: Instant,
    ) -> Result<BreakerTicket, BreakerRejection> {
        let shared = || Arc::clone(&self.shared);
        match self.peek(circuit, now)? {
            Clearance::Closed { generation } => {
                Ok(BreakerTicket::new(shared(), circuit, Pass::Closed { generation }))
            }
            Clearance::Trial if self.settings.mode != BreakerMode::Shadow => {
                Err(BreakerRejection::HalfOpenFull { retry_after: UNCOUNTED_RETRY_AFTER })
            }
            Clearance::Trial | Clearance::Shadowed => {
                self.metrics.shadow_refused(circuit);
                Ok(BreakerTicket::shadowed(shared(), circuit))
            }
        }
    }

    async fn ask_for_trial(&self, circuit: CircuitId) -> Result<BreakerTicket, BreakerRejection> {
        let shared = Arc::clone(&self.shared);
        let answer = self.shared.mailbox.ask(Try { circuit, shared }).await;
        let refusal = match answer.map_err(BreakerRejection::Unavailable) {
            Ok(Ok(ticket)) => return Ok(ticket),
            Ok(Err(refusal)) => refusal.into(),
            Err(unavailable) => unavailable,
        };
        if self.settings.mode != BreakerMode::Shadow {
            return Err(refusal);
        }
        self.metrics.shadow_refused(circuit);
        Ok(BreakerTicket::shadowed(Arc::clone(&self.shared), circuit))
    }

    /// What the status page shows of the bucket's circuits.
    pub fn views(&self, now: Instant) -> impl Iterator<Item = BreakerView> + '_ {
        let circuits = class::circuits(self.settings.per_operation);
        circuits.map(move |(circuit, class)| self.view(circuit, class, now))
    }

    fn view(&self, circuit: CircuitId, class: &'static str, now: Instant) -> BreakerView {
        let published = self.shared.board.read(circuit);
        BreakerView {
            class,
            state: published.state,
            generation: published.generation,
            consecutive_failures: published.consecutive_failures,
            opened_total: published.opened_total,
            open_for: match published.state {
                CircuitState::Open => published.open_until.map(|until| until.saturating_duration_since(now)),
                CircuitState::Closed | CircuitState::HalfOpen => None,
            },
            probed: published.probed,
            cause: published.cause,
            held: self.shared.board.held(circuit),
            held_max: self.settings.patience.map_or(0, |patience| patience.held_max),
        }
    }

    /// The actor's vital signs.
    pub fn vitals(&self) -> &Arc<Vitals> {
        self.shared.mailbox.vitals()
    }

    /// The actor, whatever its kind.
    pub(crate) fn actor(&self) -> &dyn Supervised {
        &self.shared.mailbox
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hold_tests.rs"]
mod hold_tests;
