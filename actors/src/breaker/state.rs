//! The state machine of one circuit: when it opens, which requests it admits, when it closes.

use std::time::{Duration, Instant};

use tidegate_config::{BreakerConfig, BreakerMode};

use crate::breaker::call_window::{CallWindow, TripThresholds};
use crate::breaker::decision::{
    CircuitAdmission, CircuitChange, CircuitRefusal, CircuitSnapshot, CircuitState, CircuitTransition,
    TRIALS_TAKEN_RETRY, TicketKind, TrialId, TrialResult,
};
use crate::breaker::outcome::{AdverseOutcome, CallFailure, FailureCause, Outcome};
use crate::seeded_rng::SeededRng;
use crate::trip::Trip;

/// Open time of a circuit that a rebuild finds half-open.
const OPEN_AFTER_REBUILD: Duration = Duration::from_secs(1);
/// Time after which a trial's permit without a report expires.
pub(super) const LEASE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Trial {
    id: TrialId,
    lease_end: Instant,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    Closed(CallWindow),
    Open {
        until: Instant,
        /// The end that the upstream asked for (Retry-After), or that a rebuild found. A new configuration does not move
        /// the end before it.
        earliest: Instant,
        /// Whether a connection to the upstream ends the open time.
        probed: bool,
    },
    HalfOpen {
        successes: u32,
    },
}

/// One circuit. Shadow mode changes nothing here: the handle ignores its refusals. The mode `forced_open` covers the phase, which
/// holds again when the mode ends.
#[derive(Debug)]
pub(crate) struct Circuit {
    pub(super) config: BreakerConfig,
    pub(super) thresholds: TripThresholds,
    pub(super) phase: Phase,
    pub(super) generation: u32,
    /// Permits in use, including those of earlier generations: their requests still load the upstream.
    trials: Vec<Trial>,
    next_trial: u64,
    /// Consecutive failures since the last success in the closed state, including trials.
    pub(super) consecutive_failures: u32,
    opened_total: u64,
    pub(super) reopened: u32,
    pub(super) cause: Option<FailureCause>,
    pub(super) trip: Option<Trip>,
    /// Whether a connection ended the last open time. If trials fail nevertheless, connections are no evidence: the
    /// next open time is not shortened.
    pub(super) is_half_open_by_connect: bool,
    jitter: SeededRng,
}

impl Circuit {
    pub(crate) fn new(config: BreakerConfig, seed: u64) -> Self {
        Self {
            thresholds: TripThresholds::from(&config),
            phase: Phase::Closed(CallWindow::default()),
            config,
            generation: 1,
            trials: Vec::new(),
            next_trial: 0,
            consecutive_failures: 0,
            opened_total: 0,
            reopened: 0,
            cause: None,
            trip: None,
            is_half_open_by_connect: false,
            jitter: SeededRng::new(seed),
        }
    }

    /// Whether a request may be admitted, and how.
    pub(crate) fn admit(&self, now: Instant) -> Result<CircuitAdmission, CircuitRefusal> {
        if self.is_forced() {
            return Err(CircuitRefusal::Forced { retry_after: self.config.timeout });
        }
        let admission = match self.phase {
            Phase::Closed(_) => return Ok(CircuitAdmission::Closed),
            Phase::Open { until, .. } if now < until => {
                let retry_after = until.saturating_duration_since(now);
                return Err(CircuitRefusal::Open { retry_after, cause: self.open_cause(), trip: self.trip });
            }
            Phase::Open { .. } => CircuitAdmission::FirstTrial,
            Phase::HalfOpen { .. } => CircuitAdmission::Trial,
        };
        let leases = self.trials.iter().map(|trial| trial.lease_end).filter(|end| now < *end);
        if leases.clone().count() < self.trials_max() {
            return Ok(admission);
        }
        let next_end = leases.min().map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
        Err(CircuitRefusal::HalfOpenFull { retry_after: next_end.min(TRIALS_TAKEN_RETRY) })
    }

    /// Admits a request as `admit` decided.
    pub(crate) fn acquire(
        &mut self,
        admission: CircuitAdmission,
        now: Instant,
    ) -> (TicketKind, Option<CircuitTransition>) {
        let transition = match admission {
            CircuitAdmission::Closed => {
                return (TicketKind::Closed { generation: self.generation }, None);
            }
            CircuitAdmission::Trial => None,
            CircuitAdmission::FirstTrial => {
                self.set_phase(Phase::HalfOpen { successes: 0 });
                Some(CircuitTransition::HalfOpened)
            }
        };
        let id = TrialId(self.next_trial);
        self.next_trial += 1;
        self.trials.retain(|trial| now < trial.lease_end);
        self.trials.push(Trial { id, lease_end: now + LEASE });
        (TicketKind::Trial { generation: self.generation, id }, transition)
    }

    /// Evaluates calls made through the closed circuit: some successes, then at most one adverse outcome.
    pub(crate) fn evaluate_calls(
        &self,
        generation: u32,
        successes: u32,
        adverse: Option<AdverseOutcome>,
    ) -> CircuitChange {
        let Phase::Closed(mut calls) = self.phase else {
            return CircuitChange::Nothing;
        };
        if self.generation != generation || self.is_forced() {
            return CircuitChange::Nothing;
        }
        calls.record_successes(successes);
        let Some(adverse) = adverse else {
            return CircuitChange::Recorded(calls);
        };
        calls.record_adverse(adverse);
        // Only an adverse call opens a circuit, so late successes change no decision.
        match calls.trip(&self.thresholds) {
            Some(trip) if self.config.mode != BreakerMode::Off => {
                CircuitChange::Tripped(calls, trip, adverse.failure())
            }
            _ => CircuitChange::Recorded(calls),
        }
    }

    /// Evaluates a trial. A result after the end of its lease counts: the lease bounds permits, not evidence.
    /// Otherwise an upstream that always takes longer could never close its circuit.
    pub(crate) fn evaluate_trial(&self, generation: u32, id: TrialId, outcome: Outcome) -> CircuitChange {
        let result = match (&self.phase, outcome) {
            _ if self.generation != generation || self.is_forced() => TrialResult::Ignored,
            (Phase::HalfOpen { .. }, Outcome::Failure { cause, retry_after }) => {
                TrialResult::Failure(CallFailure { cause, retry_after })
            }
            (Phase::HalfOpen { successes }, Outcome::Success)
                if successes + 1 >= self.config.success_threshold.get() =>
            {
                TrialResult::Closing
            }
            (Phase::HalfOpen { .. }, Outcome::Success) => TrialResult::Success,
            _ => TrialResult::Ignored,
        };
        CircuitChange::TrialEnded(id, result)
    }

    /// Carries out a change.
    pub(crate) fn apply_change(&mut self, change: CircuitChange, now: Instant) -> Option<CircuitTransition> {
        match change {
            CircuitChange::Nothing => None,
            CircuitChange::Recorded(calls) => {
                self.set_calls(calls);
                None
            }
            CircuitChange::Tripped(calls, trip, failure) => {
                self.set_calls(calls);
                Some(self.open(trip, failure, calls.is_unreachable(&self.thresholds), now))
            }
            CircuitChange::TrialEnded(id, result) => {
                self.trials.retain(|trial| trial.id != id);
                self.apply_trial_result(result, now)
            }
        }
    }

    fn apply_trial_result(&mut self, result: TrialResult, now: Instant) -> Option<CircuitTransition> {
        match result {
            TrialResult::Ignored => None,
            TrialResult::Success => {
                if let Phase::HalfOpen { successes } = &mut self.phase {
                    *successes += 1;
                }
                None
            }
            TrialResult::Closing => {
                self.close();
                Some(CircuitTransition::Closed)
            }
            TrialResult::Failure(failure) => {
                self.reopened = self.reopened.saturating_add(1);
                self.consecutive_failures = self.consecutive_failures.saturating_add(1);
                Some(self.open(Trip::FAILED_TRIAL, failure, true, now))
            }
        }
    }

    /// Closes the circuit, with empty counts.
    pub(super) fn close(&mut self) {
        self.reopened = 0;
        self.consecutive_failures = 0;
        self.is_half_open_by_connect = false;
        self.set_phase(Phase::Closed(CallWindow::default()));
    }

    /// Whether a connection made in this generation ends the open time.
    pub(crate) fn is_ended_by_connect(&self, generation: u32) -> bool {
        let is_probed = matches!(self.phase, Phase::Open { probed: true, .. });
        self.generation == generation && is_probed && !self.is_forced()
    }

    /// Ends the open time: the circuit becomes half-open.
    pub(crate) fn end_open_by_connect(&mut self) -> CircuitTransition {
        self.is_half_open_by_connect = true;
        self.set_phase(Phase::HalfOpen { successes: 0 });
        CircuitTransition::HalfOpenedByConnect
    }

    /// Rebuilds the circuit from its publication. An open circuit stays open, and permits in use stay so until their
    /// leases end.
    pub(crate) fn rebuild(&mut self, last: CircuitSnapshot, now: Instant) -> Option<CircuitTransition> {
        let CircuitSnapshot { state, generation, open_until, consecutive_failures, .. } = last;
        self.generation = generation;
        self.opened_total = last.opened_total;
        self.reopened = last.reopened;
        self.cause = last.cause;
        self.trip = last.trip;
        self.consecutive_failures = consecutive_failures;
        self.trials.clear();
        self.reserve_trials(last.trials, last.leases_end);
        match state {
            CircuitState::Closed => {
                self.consecutive_failures = 0;
                self.set_phase(Phase::Closed(CallWindow::default()));
                None
            }
            // Without an end it was forced open, and its phase is not known: a trial decides when the mode ends.
            CircuitState::Open => {
                let until = open_until.unwrap_or(now + OPEN_AFTER_REBUILD);
                self.set_phase(Phase::Open { until, earliest: until, probed: last.probed });
                None
            }
            CircuitState::HalfOpen => {
                self.opened_total += 1;
                let until = now + OPEN_AFTER_REBUILD;
                self.set_phase(Phase::Open { until, earliest: until, probed: false });
                let (cause, trip) = (self.open_cause(), self.trip);
                Some(CircuitTransition::Opened { cause, trip, open_for: OPEN_AFTER_REBUILD })
            }
        }
    }

    /// Counts permits of trials in another process or of a lost state, until their leases end.
    pub(super) fn reserve_trials(&mut self, trials: u32, leases_end: Option<Instant>) {
        for lease_end in leases_end.into_iter().cycle().take(trials as usize) {
            self.trials.push(Trial { id: TrialId(self.next_trial), lease_end });
            self.next_trial += 1;
        }
    }

    /// The state to publish.
    pub(crate) fn snapshot(&self) -> CircuitSnapshot {
        let (state, open_until, probed) = match self.phase {
            _ if self.is_forced() => (CircuitState::Open, None, false),
            Phase::Closed(_) => (CircuitState::Closed, None, false),
            Phase::Open { until, probed, .. } => (CircuitState::Open, Some(until), probed),
            Phase::HalfOpen { .. } => (CircuitState::HalfOpen, None, false),
        };
        CircuitSnapshot {
            state,
            generation: self.generation,
            open_until,
            probed,
            consecutive_failures: self.consecutive_failures,
            opened_total: self.opened_total,
            reopened: self.reopened,
            cause: self.cause,
            trip: self.trip,
            trials: u32::try_from(self.trials.len()).unwrap_or(u32::MAX),
            leases_end: self.trials.iter().map(|trial| trial.lease_end).max(),
        }
    }

    /// Opens the circuit. `is_unreachable`: no failure that led here was an answer of the upstream.
    fn open(
        &mut self,
        trip: Trip,
        failure: CallFailure,
        is_unreachable: bool,
        now: Instant,
    ) -> CircuitTransition {
        let open_for = self.open_for(failure.retry_after);
        let was_half_open_by_connect = std::mem::take(&mut self.is_half_open_by_connect);
        let is_probed = self.config.connect_probe_interval.is_some()
            && is_unreachable
            && failure.cause.is_unreachable()
            && !was_half_open_by_connect;
        (self.cause, self.trip) = (Some(failure.cause), Some(trip));
        self.opened_total += 1;
        let earliest = now + failure.retry_after.unwrap_or_default().min(open_for);
        self.set_phase(Phase::Open { until: now + open_for, earliest, probed: is_probed });
        CircuitTransition::Opened { cause: failure.cause, trip: Some(trip), open_for }
    }

    /// The open time. The first one is as configured. Later ones double, with jitter so that several gateways do not
    /// try at the same moment.
    fn open_for(&mut self, retry_after: Option<Duration>) -> Duration {
        let max_timeout = self.config.max_timeout;
        let grown = match self.reopened {
            0 => self.grown_timeout(),
            _ => self.grown_timeout().mul_f64(self.jitter_factor()),
        };
        grown.max(retry_after.unwrap_or_default()).min(max_timeout)
    }

    /// The open time after this number of re-openings, without jitter.
    pub(super) fn grown_timeout(&self) -> Duration {
        let BreakerConfig { timeout, max_timeout, .. } = self.config;
        timeout.saturating_mul(1 << self.reopened.min(20)).min(max_timeout)
    }

    /// A random factor between 0.9 and 1.1.
    fn jitter_factor(&mut self) -> f64 {
        0.9 + 0.2 * self.jitter.fraction()
    }

    fn open_cause(&self) -> FailureCause {
        self.cause.unwrap_or(FailureCause::Connect)
    }

    fn trials_max(&self) -> usize {
        self.config.half_open_max_requests.get() as usize
    }

    pub(super) fn is_forced(&self) -> bool {
        self.config.mode == BreakerMode::ForcedOpen
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
    }

    fn set_calls(&mut self, calls: CallWindow) {
        self.consecutive_failures = calls.consecutive_failures();
        self.phase = Phase::Closed(calls);
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "state_random_tests.rs"]
mod random_tests;

#[cfg(test)]
#[path = "connect_probe_tests.rs"]
mod connect_probe_tests;
