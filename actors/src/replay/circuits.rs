//! The circuits of one bucket in a replay.

use std::time::Instant;

use tidegate_config::{BreakerConfig, BreakerMode};

use crate::breaker::{
    AdverseOutcome, CallFailure, Circuit, CircuitId, CircuitRefusal, CircuitTransition, FailureCause,
    Outcome, TicketKind,
};
use crate::replay::call::CallOutcome;
use crate::types::OperationClass;

/// Why a circuit refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CircuitRefusalKind {
    /// It is open.
    Open,
    /// All trials are in use.
    HalfOpen,
    /// The mode is `forced_open`.
    Forced,
}

impl From<CircuitRefusal> for CircuitRefusalKind {
    fn from(refusal: CircuitRefusal) -> Self {
        match refusal {
            CircuitRefusal::Open { .. } => Self::Open,
            CircuitRefusal::HalfOpenFull { .. } => Self::HalfOpen,
            CircuitRefusal::Forced { .. } => Self::Forced,
        }
    }
}

/// A ticket of a circuit.
pub(super) struct Acquired {
    /// None for a call that only the shadow mode admits: its outcome does not count.
    pub(super) ticket: Option<TicketKind>,
    pub(super) shadowed: Option<CircuitRefusalKind>,
    pub(super) transition: Option<&'static str>,
}

/// The circuits of one bucket.
pub(super) struct BucketCircuits {
    config: BreakerConfig,
    circuits: Vec<Circuit>,
}

impl BucketCircuits {
    pub(super) fn new(config: &BreakerConfig, seed: u64) -> Self {
        let circuits = CircuitId::all()
            .map(|id| Circuit::new(config.clone(), seed.wrapping_mul(1024).wrapping_add(id.index() as u64)))
            .collect();
        Self { config: config.clone(), circuits }
    }

    fn id(&self, class: OperationClass) -> CircuitId {
        CircuitId::for_class(class, self.config.per_operation)
    }

    /// The label of the circuit of a class.
    pub(super) fn label(&self, class: OperationClass) -> &'static str {
        self.id(class).label()
    }

    /// The check before the queue. A half-open circuit without a free trial refuses only at the call.
    pub(super) fn check(&self, class: OperationClass, now: Instant) -> Result<(), CircuitRefusalKind> {
        match self.circuits[self.id(class).index()].admit(now) {
            Ok(_) | Err(CircuitRefusal::HalfOpenFull { .. }) => Ok(()),
            Err(_) if self.config.mode == BreakerMode::Shadow => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Acquires a ticket for a call that begins now.
    pub(super) fn acquire(
        &mut self,
        class: OperationClass,
        now: Instant,
    ) -> Result<Acquired, CircuitRefusalKind> {
        let at = self.id(class).index();
        match self.circuits[at].admit(now) {
            Ok(admission) => {
                let (ticket, transition) = self.circuits[at].acquire(admission, now);
                Ok(Acquired { ticket: Some(ticket), shadowed: None, transition: transition.map(state) })
            }
            Err(refusal) if self.config.mode == BreakerMode::Shadow => {
                Ok(Acquired { ticket: None, shadowed: Some(refusal.into()), transition: None })
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Reports the attempts of a call. Returns the state that the circuit has changed to.
    pub(super) fn report(
        &mut self,
        class: OperationClass,
        ticket: TicketKind,
        outcome: CallOutcome,
        now: Instant,
    ) -> Option<&'static str> {
        let at = self.id(class).index();
        let is_slow = self.config.slow_call_duration.is_some_and(|slow| outcome.first_byte > slow);
        let cause = outcome.status.map_or(FailureCause::Reset, FailureCause::Status);
        let failure = CallFailure { cause, retry_after: None };
        let circuit = &mut self.circuits[at];
        let changes = match ticket {
            TicketKind::Trial { generation, id } => {
                let result = match (outcome.failures, outcome.is_success) {
                    (0, true) => Outcome::Success,
                    (0, false) => Outcome::Neutral,
                    // The first attempt is the trial.
                    _ => Outcome::Failure { cause, retry_after: None },
                };
                let change = circuit.evaluate_trial(generation, id, result);
                return circuit.apply_change(change, now).map(state);
            }
            TicketKind::Closed { generation } => {
                let failures =
                    std::iter::repeat_n((0, Some(AdverseOutcome::Failed(failure))), outcome.failures.into());
                let last = match (outcome.is_success, is_slow) {
                    (true, true) => Some((0, Some(AdverseOutcome::Slow))),
                    (true, false) => Some((1, None)),
                    (false, _) => None,
                };
                failures.chain(last).map(move |(successes, adverse)| (generation, successes, adverse))
            }
        };
        let mut moved = None;
        for (generation, successes, adverse) in changes {
            let change = circuit.evaluate_calls(generation, successes, adverse);
            moved = circuit.apply_change(change, now).map(state).or(moved);
        }
        moved
    }
}

fn state(transition: CircuitTransition) -> &'static str {
    match transition {
        CircuitTransition::Opened { .. } => "opened",
        CircuitTransition::HalfOpened | CircuitTransition::HalfOpenedByConnect => "half_opened",
        CircuitTransition::Closed | CircuitTransition::SwitchedOff => "closed",
    }
}
