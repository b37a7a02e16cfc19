//! The hand-over of the circuits to the successor of an upgrade (G8).
//!
//! A circuit crosses with its state, its end and its counts. Trials of a predecessor stay permits in use at the successor until
//! their leases end, and the predecessor admits no further one. Each process goes on with the calls that it makes itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tidegate_config::BreakerMode;

use crate::actor_shell::MessageHandler;
use crate::breaker::actor::Breaker;
use crate::breaker::call_window::{CallWindow, ExportedWindow};
use crate::breaker::circuit_id::CircuitId;
use crate::breaker::decision::{CircuitSnapshot, CircuitState};
use crate::breaker::handle::BreakerHandle;
use crate::breaker::published_circuits::{decode_cause, encode_cause};
use crate::breaker::state::{Circuit, LEASE, Phase};
use crate::clock::{self, MonotonicClock};
use crate::mailbox::ActorMessage;
use crate::trip::Trip;
use crate::wake_up::WakeUp;

/// The state of a circuit with what belongs to it alone. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum ExportedPhase {
    Closed(ExportedWindow),
    Open(ExportedOpen),
    HalfOpen(ExportedHalfOpen),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExportedOpen {
    until: u64,
    earliest: u64,
    is_probed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExportedHalfOpen {
    successes: u32,
}

impl Default for ExportedPhase {
    fn default() -> Self {
        Self::Closed(ExportedWindow::default())
    }
}

/// One circuit. Cause and trip are encoded as they are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedCircuit {
    phase: ExportedPhase,
    consecutive_failures: u32,
    reopened: u32,
    cause: u32,
    trip: u64,
    is_half_open_by_connect: bool,
    /// Permits of trials in use, and when the last of their leases ends.
    trials: u32,
    leases_end: u64,
}

/// The circuits of a bucket, by their labels.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedBreaker {
    per_operation: bool,
    circuits: BTreeMap<String, ExportedCircuit>,
}

impl ExportedCircuit {
    /// As far as it is published, if the actor does not answer.
    fn from_published(snapshot: &CircuitSnapshot, clock: &MonotonicClock, now: Instant) -> Self {
        let until = clock.nanos(snapshot.open_until.unwrap_or(now));
        let phase = match snapshot.state {
            CircuitState::Closed => ExportedPhase::default(),
            CircuitState::Open => {
                let is_probed = snapshot.probed;
                ExportedPhase::Open(ExportedOpen { until, earliest: until, is_probed })
            }
            CircuitState::HalfOpen => ExportedPhase::HalfOpen(ExportedHalfOpen::default()),
        };
        Self {
            phase,
            consecutive_failures: snapshot.consecutive_failures,
            reopened: snapshot.reopened,
            cause: encode_cause(snapshot.cause),
            trip: Trip::encode(snapshot.trip),
            is_half_open_by_connect: false,
            trials: snapshot.trials,
            leases_end: snapshot.leases_end.map_or(0, |end| clock.nanos(end)),
        }
    }
}

impl Circuit {
    pub(super) fn exported(&self, clock: &MonotonicClock, now: Instant) -> ExportedCircuit {
        let phase = match self.phase {
            Phase::Closed(calls) => ExportedPhase::Closed(calls.exported()),
            Phase::Open { until, earliest, probed } => ExportedPhase::Open(ExportedOpen {
                until: clock.nanos(until),
                earliest: clock.nanos(earliest),
                is_probed: probed,
            }),
            Phase::HalfOpen { successes } => ExportedPhase::HalfOpen(ExportedHalfOpen { successes }),
        };
        let published = ExportedCircuit::from_published(&self.snapshot(), clock, now);
        ExportedCircuit { phase, is_half_open_by_connect: self.is_half_open_by_connect, ..published }
    }

    /// Goes on from the circuit of a predecessor, within this configuration.
    pub(super) fn import(&mut self, exported: &ExportedCircuit, clock: &MonotonicClock, now: Instant) {
        self.consecutive_failures = exported.consecutive_failures;
        self.reopened = exported.reopened;
        (self.cause, self.trip) = (decode_cause(exported.cause), Trip::decode(exported.trip));
        self.is_half_open_by_connect = exported.is_half_open_by_connect;
        let leases_end = clock.instant(exported.leases_end).min(now + LEASE);
        let trials = exported.trials.min(self.config.half_open_max_requests.get());
        self.reserve_trials(trials, (leases_end > now).then_some(leases_end));
        let is_off = self.config.mode == BreakerMode::Off;
        self.set_phase(match exported.phase {
            ExportedPhase::Closed(window) => Phase::Closed(CallWindow::imported(window)),
            ExportedPhase::Open(_) | ExportedPhase::HalfOpen(_) if is_off => {
                Phase::Closed(CallWindow::default())
            }
            ExportedPhase::Open(ExportedOpen { until, earliest, is_probed }) => {
                let until = clock.instant(until).min(now + self.config.max_timeout);
                let probed = is_probed && self.config.connect_probe_interval.is_some();
                Phase::Open { until, earliest: clock.instant(earliest).min(until), probed }
            }
            ExportedPhase::HalfOpen(ExportedHalfOpen { successes }) => {
                let missing_one = self.config.success_threshold.get().saturating_sub(1);
                Phase::HalfOpen { successes: successes.min(missing_one) }
            }
        });
    }
}

/// How long the export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks for the circuits as they cross to a successor.
pub(crate) struct ExportCircuits(MonotonicClock);

impl ActorMessage for ExportCircuits {
    type Reply = ExportedBreaker;
    const NAME: &'static str = "breaker.export";
    const CAN_BE_POISON: bool = false;

    fn message_fingerprint(&self) -> u64 {
        0
    }
}

impl MessageHandler<ExportCircuits> for Breaker {
    type Decision = ExportedBreaker;

    fn decide(&self, ExportCircuits(clock): &ExportCircuits, now: Instant) -> ExportedBreaker {
        let exported = |id: CircuitId| self.circuits[id.index()].exported(clock, now);
        ExportedBreaker {
            per_operation: self.settings.config.per_operation,
            circuits: CircuitId::all().map(|id| (id.label().to_owned(), exported(id))).collect(),
        }
    }

    fn apply(&mut self, _: ExportCircuits, exported: ExportedBreaker, _: Instant) -> ExportedBreaker {
        exported
    }
}

/// Wakes the actor to take over the circuits of a predecessor.
pub(crate) struct ImportCircuits;

impl WakeUp for ImportCircuits {
    type Actor = Breaker;
    const NAME: &'static str = "breaker.import";

    fn wake(breaker: &mut Breaker, now: Instant) {
        breaker.apply_imports(now);
    }
}

impl Breaker {
    /// Takes over the circuits of a predecessor, if they wait.
    pub(super) fn apply_imports(&mut self, now: Instant) {
        let published = Arc::clone(&self.published);
        published.imports.apply_all(|exported| self.import(exported, now));
    }

    fn import(&mut self, exported: &ExportedBreaker, now: Instant) {
        let clock = clock::monotonic_clock();
        for id in CircuitId::all() {
            if let Some(circuit) = exported.circuits.get(id.label()) {
                self.circuits[id.index()].import(circuit, &clock, now);
            }
        }
        if exported.per_operation != self.settings.config.per_operation {
            self.change_layout(exported.per_operation);
        }
        CircuitId::all().for_each(|id| self.publish_transition(id, None));
    }
}

/// The trials are made by this process again, or there is something to check for waiters.
pub(crate) struct TakeBackTrials;

impl WakeUp for TakeBackTrials {
    type Actor = Breaker;
    const NAME: &'static str = "breaker.take_back_trials";

    fn wake(breaker: &mut Breaker, now: Instant) {
        CircuitId::all().for_each(|circuit| breaker.admit_waiters(circuit, now));
    }
}

impl BreakerHandle {
    /// The circuits for a successor, which makes the trials from now on.
    pub(crate) async fn export(&self, clock: &MonotonicClock) -> ExportedBreaker {
        self.shared.published.set_handed_over(true);
        match self.shared.mailbox.ask_again(|| ExportCircuits(*clock), EXPORT_TIMEOUT).await {
            Ok(exported) => exported,
            Err(_) => self.published(clock, clock::now()),
        }
    }

    fn published(&self, clock: &MonotonicClock, now: Instant) -> ExportedBreaker {
        let snapshot = |id: CircuitId| self.shared.published.snapshot(id);
        let exported = |id: CircuitId| ExportedCircuit::from_published(&snapshot(id), clock, now);
        ExportedBreaker {
            per_operation: self.settings.per_operation,
            circuits: CircuitId::all().map(|id| (id.label().to_owned(), exported(id))).collect(),
        }
    }

    /// Goes on from the circuits of a predecessor. They are published at once, because requests read that without a message.
    pub(crate) fn import(&self, exported: ExportedBreaker, clock: &MonotonicClock, now: Instant) {
        let settings = self.shared.latest.load();
        for id in CircuitId::all() {
            if let Some(circuit) = exported.circuits.get(id.label()) {
                let mut own = Circuit::new(settings.config.clone(), 0);
                own.import(circuit, clock, now);
                self.shared.published.publish(id, own.snapshot());
            }
        }
        if exported.per_operation != settings.config.per_operation {
            self.shared.published.copy_layout(exported.per_operation);
        }
        self.shared.published.imports.push(exported);
        self.shared.mailbox.notify(ImportCircuits);
    }

    /// Takes the trials back: the hand-over has failed.
    pub(crate) fn resume(&self) {
        self.shared.published.set_handed_over(false);
        self.shared.mailbox.notify(TakeBackTrials);
    }
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
