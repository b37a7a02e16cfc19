//! The breaker's API for the request path.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::{BreakerConfig, BreakerMode};

use crate::breaker::actor::{AcquireTicket, Breaker};
use crate::breaker::circuit_id::CircuitId;
use crate::breaker::circuit_wait::WaitLimits;
use crate::breaker::decision::{CircuitRefusal, CircuitState, TicketKind};
use crate::breaker::metrics::BreakerMetrics;
use crate::breaker::outcome::FailureCause;
use crate::breaker::published_circuits::PublishedCircuits;
use crate::breaker::settings::CircuitSettings;
use crate::breaker::ticket::{BreakerShared, BreakerTicket};
use crate::clock;
use crate::latest_settings::LatestSettings;
use crate::mailbox::{AskError, Mailbox, SupervisedActor};
use crate::trip::{Trip, TripRule};
use crate::types::OperationClass;

/// The result of a check of the published circuit, before a request queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitCheck {
    /// The circuit is closed.
    Closed {
        /// Its generation.
        generation: u32,
    },
    /// The call may only be made as a trial: the actor must be asked.
    Trial,
    /// The circuit is open, but the mode is `shadow`, which refuses nothing. The refusal is that of the mode `on`.
    Shadowed(BreakerRejection),
}

/// Why the breaker refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerRejection {
    /// The circuit is open.
    Open {
        /// Time until the first trial.
        retry_after: Duration,
        /// The failure that opened it.
        cause: FailureCause,
        /// The rule that opened it, with its figures.
        trip: Option<Trip>,
    },
    /// All trials are in use.
    HalfOpenFull {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The mode is `forced_open`.
    Forced {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The actor gave no reply.
    Unavailable(AskError),
}

impl BreakerRejection {
    /// The reason of the refusal in header, log and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Open { .. } => "breaker_open",
            Self::HalfOpenFull { .. } => "breaker_half_open",
            Self::Forced { .. } => "breaker_forced_open",
            Self::Unavailable(_) => "breaker_unavailable",
        }
    }
}

impl From<CircuitRefusal> for BreakerRejection {
    fn from(refusal: CircuitRefusal) -> Self {
        match refusal {
            CircuitRefusal::Open { retry_after, cause, trip } => Self::Open { retry_after, cause, trip },
            CircuitRefusal::HalfOpenFull { retry_after } => Self::HalfOpenFull { retry_after },
            CircuitRefusal::Forced { retry_after } => Self::Forced { retry_after },
        }
    }
}

/// The state of a circuit for the status document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerView {
    /// The operation class of its requests; `all` for a single circuit.
    pub class: &'static str,
    /// Closed, open or half-open.
    pub state: CircuitState,
    /// Incremented by every transition.
    pub generation: u32,
    /// Consecutive failures.
    pub consecutive_failures: u32,
    /// Number of times it opened.
    pub opened_total: u64,
    /// Remaining open time; none if it is not open, or forced open.
    pub open_for: Option<Duration>,
    /// Whether a connection to the upstream ends the open time.
    pub probed: bool,
    /// The failure that last opened it.
    pub cause: Option<FailureCause>,
    /// The rule that last opened it, with its figures.
    pub trip: Option<Trip>,
    /// Requests that wait for the circuit.
    pub waiting: usize,
    /// Maximum number of requests that may wait.
    pub waiting_max: usize,
    /// Number of requests that have waited.
    pub waited_total: u64,
}

/// The part of the bucket's configuration that the handle needs. Each configuration has its own handle.
#[derive(Debug, Clone, Copy)]
pub(super) struct BreakerSettings {
    mode: BreakerMode,
    pub(super) per_operation: bool,
    timeout: Duration,
    pub(super) wait: Option<WaitLimits>,
}

/// The handle of one bucket's breaker.
#[derive(Clone)]
pub struct BreakerHandle {
    pub(super) shared: Arc<BreakerShared>,
    pub(super) settings: BreakerSettings,
    pub(super) metrics: Arc<BreakerMetrics>,
}

impl From<&BreakerConfig> for BreakerSettings {
    fn from(config: &BreakerConfig) -> Self {
        Self {
            mode: config.mode,
            per_operation: config.per_operation,
            timeout: config.timeout,
            wait: config.hold.map(|timeout| WaitLimits { timeout, waiters_max: config.held_max() }),
        }
    }
}

impl BreakerHandle {
    pub(crate) fn new(
        mailbox: Mailbox<Breaker>,
        published: Arc<PublishedCircuits>,
        latest: Arc<LatestSettings<CircuitSettings>>,
    ) -> Self {
        let CircuitSettings { config, metrics } = &*latest.load();
        let (settings, metrics) = (BreakerSettings::from(config), Arc::clone(metrics));
        Self { settings, shared: Arc::new(BreakerShared { mailbox, published, latest }), metrics }
    }

    /// The circuit that requests of this class belong to.
    pub fn circuit(&self, class: OperationClass) -> CircuitId {
        CircuitId::for_class(class, self.settings.per_operation)
    }

    /// The breaker's mode.
    pub fn mode(&self) -> BreakerMode {
        self.settings.mode
    }

    /// The most failures in a row of a circuit since the last call.
    pub fn take_failures_peak(&self) -> u32 {
        self.shared.published.take_failures_peak()
    }

    /// How often a rule has opened a circuit.
    pub fn opened_by(&self, rule: TripRule) -> u64 {
        self.shared.published.opened_by(rule)
    }

    /// Checks the published circuit, so that a request that would be refused does not queue first (B2).
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
            return Ok(CircuitCheck::Trial);
        }
        let cause = published.cause.unwrap_or(FailureCause::Connect);
        let refusal = BreakerRejection::Open { retry_after, cause, trip: published.trip };
        if settings.mode == BreakerMode::Shadow { Ok(CircuitCheck::Shadowed(refusal)) } else { Err(refusal) }
    }

    /// Acquires a ticket for the upstream, immediately before the call (B4). While the circuit is closed this sends
    /// no message. A check that a transition has made obsolete is repeated.
    ///
    /// # Errors
    /// The circuit is open, all trials are in use, or the actor gave no reply.
    pub async fn acquire(
        &self,
        circuit: CircuitId,
        check: CircuitCheck,
    ) -> Result<BreakerTicket, BreakerRejection> {
        let check = match check {
            CircuitCheck::Closed { generation } if self.shared.published.state(circuit).1 != generation => {
                self.check(circuit, clock::now())?
            }
            unchanged => unchanged,
        };
        let shared = Arc::clone(&self.shared);
        match check {
            CircuitCheck::Closed { generation } => {
                Ok(BreakerTicket::new(shared, circuit, TicketKind::Closed { generation }))
            }
            CircuitCheck::Trial => self.acquire_trial(circuit).await,
            CircuitCheck::Shadowed(refusal) => {
                self.metrics.shadow_refused(circuit);
                Ok(BreakerTicket::shadowed(shared, circuit, refusal))
            }
        }
    }

    /// A ticket if the circuit is closed at this moment. Never a trial.
    pub fn acquire_if_closed(&self, circuit: CircuitId) -> Option<BreakerTicket> {
        match self.shared.published.state(circuit) {
            (CircuitState::Closed, generation) => {
                Some(BreakerTicket::new(Arc::clone(&self.shared), circuit, TicketKind::Closed { generation }))
            }
            (CircuitState::Open | CircuitState::HalfOpen, _) => None,
        }
    }

    /// A ticket for a call with an outcome that is not counted. It is never a trial, because it would not end the
    /// half-open state. It passes a half-open circuit: a browser sends the request that becomes the trial only after
    /// its preflight was answered (Fetch Standard, "CORS-preflight fetch").
    ///
    /// # Errors
    /// The circuit is open.
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
            CircuitCheck::Trial => Ok(BreakerTicket::uncounted(shared(), circuit)),
            CircuitCheck::Shadowed(refusal) => {
                self.metrics.shadow_refused(circuit);
                Ok(BreakerTicket::shadowed(shared(), circuit, refusal))
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
        Ok(BreakerTicket::shadowed(Arc::clone(&self.shared), circuit, refusal))
    }

    /// The bucket's circuits for the status document.
    pub fn views(&self, now: Instant) -> impl Iterator<Item = BreakerView> + '_ {
        let circuits = CircuitId::of_layout(self.settings.per_operation);
        circuits.map(move |circuit| self.view(circuit, now))
    }

    fn view(&self, circuit: CircuitId, now: Instant) -> BreakerView {
        let published = self.shared.published.snapshot(circuit);
        BreakerView {
            class: circuit.label(),
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
            trip: published.trip,
            waiting: self.shared.published.waiting(circuit),
            waiting_max: self.settings.wait.map_or(0, |limits| limits.waiters_max),
            waited_total: self.metrics.waits_started(circuit),
        }
    }

    /// The supervised actor, for statistics and chaos.
    pub(crate) fn actor(&self) -> &dyn SupervisedActor {
        &self.shared.mailbox
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "circuit_wait_tests.rs"]
mod circuit_wait_tests;

#[cfg(test)]
#[path = "settings_tests.rs"]
mod settings_tests;
