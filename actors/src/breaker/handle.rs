//! What the request path sees of the breaker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::{BreakerConfig, BreakerMode};

use crate::actor_stats::ActorStats;
use crate::breaker::actor::{AcquireTicket, Breaker};
use crate::breaker::circuit_id::{self, CircuitId};
use crate::breaker::circuit_wait::WaitLimits;
use crate::breaker::decision::{CircuitRefusal, CircuitState, TicketKind};
use crate::breaker::metrics::BreakerMetrics;
use crate::breaker::outcome::FailureCause;
use crate::breaker::published_circuits::PublishedCircuits;
use crate::breaker::ticket::{BreakerShared, BreakerTicket};
use crate::clock;
use crate::mailbox::{AskError, Mailbox, SupervisedActor};
use crate::types::OperationClass;

/// What a circuit's publication says to a request before it queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitCheck {
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
        cause: FailureCause,
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

impl From<CircuitRefusal> for BreakerRejection {
    fn from(refusal: CircuitRefusal) -> Self {
        match refusal {
            CircuitRefusal::Open { retry_after, cause } => Self::Open { retry_after, cause },
            CircuitRefusal::HalfOpenFull { retry_after } => Self::HalfOpenFull { retry_after },
            CircuitRefusal::Forced { retry_after } => Self::Forced { retry_after },
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
    pub cause: Option<FailureCause>,
    /// Requests that wait for it.
    pub waiting: usize,
    /// Most that may.
    pub waiting_max: usize,
}

/// What of a bucket's configuration its handle needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct BreakerSettings {
    mode: BreakerMode,
    pub(super) per_operation: bool,
    timeout: Duration,
    pub(super) wait: Option<WaitLimits>,
}

/// Asks the breaker of one bucket.
#[derive(Clone)]
pub struct BreakerHandle {
    pub(super) shared: Arc<BreakerShared>,
    pub(super) settings: BreakerSettings,
    metrics: Arc<BreakerMetrics>,
}

impl BreakerHandle {
    pub(crate) fn new(
        mailbox: Mailbox<Breaker>,
        published: Arc<PublishedCircuits>,
        config: &BreakerConfig,
        metrics: Arc<BreakerMetrics>,
    ) -> Self {
        let settings = BreakerSettings {
            mode: config.mode,
            per_operation: config.per_operation,
            timeout: config.timeout,
            wait: config.hold.map(|timeout| WaitLimits { timeout, waiters_max: config.held_max() }),
        };
        Self { settings, shared: Arc::new(BreakerShared { mailbox, published }), metrics }
    }

    /// The circuit that requests of this class belong to.
    pub fn circuit(&self, class: OperationClass) -> CircuitId {
        CircuitId::for_class(class, self.settings.per_operation)
    }

    /// What becomes of the bucket's verdicts.
    pub fn mode(&self) -> BreakerMode {
        self.settings.mode
    }

    /// Looks at a circuit, so that what will be refused need not queue first (B2).
    ///
    /// # Errors
    /// The circuit is open.
    pub fn check(&self, circuit: CircuitId, now: Instant) -> Result<CircuitCheck, BreakerRejection> {
        match self.shared.published.state(circuit) {
            (CircuitState::Closed, generation) => Ok(CircuitCheck::Closed { generation }),
            (CircuitState::HalfOpen, _) => Ok(CircuitCheck::Trial),
            (CircuitState::Open, _) => self.check_open(circuit, now),
        }
    }

    fn check_open(&self, circuit: CircuitId, now: Instant) -> Result<CircuitCheck, BreakerRejection> {
        let settings = self.settings;
        let published = self.shared.published.snapshot(circuit);
        let Some(until) = published.open_until else {
            return Err(BreakerRejection::Forced { retry_after: settings.timeout });
        };
        let retry_after = until.saturating_duration_since(now);
        if retry_after.is_zero() {
            Ok(CircuitCheck::Trial)
        } else if settings.mode == BreakerMode::Shadow {
            Ok(CircuitCheck::Shadowed)
        } else {
            let cause = published.cause.unwrap_or(FailureCause::Connect);
            Err(BreakerRejection::Open { retry_after, cause })
        }
    }

    /// Takes leave to call the upstream, immediately before the call (B4). With the circuit closed, as nearly always,
    /// that asks nobody. A clearance that a transition has overtaken is looked at again.
    ///
    /// # Errors
    /// The circuit is open, all trials are taken, or the actor gave no answer.
    pub async fn acquire(
        &self,
        circuit: CircuitId,
        clearance: CircuitCheck,
    ) -> Result<BreakerTicket, BreakerRejection> {
        let clearance = match clearance {
            CircuitCheck::Closed { generation } if self.shared.published.state(circuit).1 != generation => {
                self.check(circuit, clock::now())?
            }
            unchanged => unchanged,
        };
        let shared = Arc::clone(&self.shared);
        match clearance {
            CircuitCheck::Closed { generation } => {
                Ok(BreakerTicket::new(shared, circuit, TicketKind::Closed { generation }))
            }
            CircuitCheck::Trial => self.acquire_trial(circuit).await,
            CircuitCheck::Shadowed => {
                self.metrics.shadow_refused(circuit);
                Ok(BreakerTicket::shadowed(shared, circuit))
            }
        }
    }

    /// Leave to call the upstream if the circuit is closed at this moment, and none otherwise: not even as a trial.
    pub fn acquire_if_closed(&self, circuit: CircuitId) -> Option<BreakerTicket> {
        match self.shared.published.state(circuit) {
            (CircuitState::Closed, generation) => {
                Some(BreakerTicket::new(Arc::clone(&self.shared), circuit, TicketKind::Closed { generation }))
            }
            (CircuitState::Open | CircuitState::HalfOpen, _) => None,
        }
    }

    /// Leave for a call with an outcome that counts for nothing. It is no trial, since it would end none.
    ///
    /// # Errors
    /// The circuit is open or half-open.
    pub fn acquire_uncounted(
        &self,
        circuit: CircuitId,
        now: Instant,
    ) -> Result<BreakerTicket, BreakerRejection> {
        let shared = || Arc::clone(&self.shared);
        match self.check(circuit, now)? {
            CircuitCheck::Closed { generation } => {
                Ok(BreakerTicket::new(shared(), circuit, TicketKind::Closed { generation }))
            }
            CircuitCheck::Trial if self.settings.mode != BreakerMode::Shadow => {
                Err(BreakerRejection::HalfOpenFull { retry_after: UNCOUNTED_RETRY_AFTER })
            }
            CircuitCheck::Trial | CircuitCheck::Shadowed => {
                self.metrics.shadow_refused(circuit);
                Ok(BreakerTicket::shadowed(shared(), circuit))
            }
        }
    }

    async fn acquire_trial(&self, circuit: CircuitId) -> Result<BreakerTicket, BreakerRejection> {
        let shared = Arc::clone(&self.shared);
        let answer = self.shared.mailbox.ask(AcquireTicket { circuit, shared }).await;
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
        let circuits = circuit_id::labelled_circuits(self.settings.per_operation);
        circuits.map(move |(circuit, class)| self.view(circuit, class, now))
    }

    fn view(&self, circuit: CircuitId, class: &'static str, now: Instant) -> BreakerView {
        let published = self.shared.published.snapshot(circuit);
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
            waiting: self.shared.published.waiting(circuit),
            waiting_max: self.settings.wait.map_or(0, |patience| patience.waiters_max),
        }
    }

    /// The actor's vital signs.
    pub fn actor_stats(&self) -> &Arc<ActorStats> {
        self.shared.mailbox.actor_stats()
    }

    /// The actor, whatever its kind.
    pub(crate) fn actor(&self) -> &dyn SupervisedActor {
        &self.shared.mailbox
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hold_tests.rs"]
mod hold_tests;
