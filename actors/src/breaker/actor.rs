//! Messages and shell of the breaker actor.

use std::sync::Arc;
use std::time::Instant;

use slog::{Logger, info, o, warn};
use tokio::sync::oneshot;

use crate::actor_shell::{Component, MessageHandler};
use crate::breaker::circuit_id::CircuitId;
use crate::breaker::circuit_queue::CircuitQueue;
use crate::breaker::circuit_wait::{CircuitWaiter, WaitReply, WaitSlot};
use crate::breaker::decision::{CircuitAdmission, CircuitChange, CircuitRefusal, CircuitTransition, TrialId};
use crate::breaker::outcome::{AdverseOutcome, Outcome};
use crate::breaker::published_circuits::PublishedCircuits;
use crate::breaker::settings::CircuitSettings;
use crate::breaker::state::Circuit;
use crate::breaker::ticket::{BreakerShared, BreakerTicket};
use crate::events::{ActorChange, ActorEvents};
use crate::latest_settings::LatestSettings;
use crate::mailbox::ActorMessage;

/// Asks for a ticket. The actor builds it in the reply from `shared`.
pub(crate) struct AcquireTicket {
    pub(crate) circuit: CircuitId,
    pub(crate) shared: Arc<BreakerShared>,
}

impl ActorMessage for AcquireTicket {
    type Reply = Result<BreakerTicket, CircuitRefusal>;
    const NAME: &'static str = "breaker.try";

    fn message_fingerprint(&self) -> u64 {
        self.circuit.index() as u64
    }
}

/// Reports calls of a closed circuit: some successes, then at most one adverse outcome.
pub(crate) struct ReportCalls {
    pub(crate) circuit: CircuitId,
    pub(crate) generation: u32,
    pub(crate) successes: u32,
    pub(crate) adverse: Option<AdverseOutcome>,
}

impl ActorMessage for ReportCalls {
    type Reply = ();
    const NAME: &'static str = "breaker.judge";

    fn message_fingerprint(&self) -> u64 {
        self.circuit.index() as u64 | u64::from(self.generation) << 32
    }
}

/// Reports the outcome of a trial.
pub(crate) struct ReportTrial {
    pub(crate) circuit: CircuitId,
    pub(crate) generation: u32,
    pub(crate) id: TrialId,
    pub(crate) outcome: Outcome,
}

impl ActorMessage for ReportTrial {
    type Reply = ();
    const NAME: &'static str = "breaker.end_trial";

    fn message_fingerprint(&self) -> u64 {
        self.circuit.index() as u64 | u64::from(self.generation) << 32
    }
}

/// Reports that a connection to the upstream was made during this generation's open time.
pub(crate) struct ReportConnected {
    pub(crate) circuit: CircuitId,
    pub(crate) generation: u32,
}

impl ActorMessage for ReportConnected {
    type Reply = ();
    const NAME: &'static str = "breaker.reach";

    fn message_fingerprint(&self) -> u64 {
        self.circuit.index() as u64 | u64::from(self.generation) << 32
    }
}

/// Asks for a ticket, or to be queued for one. The actor builds a queued request's ticket from `shared`.
pub(crate) struct WaitForCircuit {
    pub(crate) circuit: CircuitId,
    pub(crate) shared: Arc<BreakerShared>,
}

impl ActorMessage for WaitForCircuit {
    type Reply = Result<WaitReply, CircuitRefusal>;
    const NAME: &'static str = "breaker.hold";

    fn message_fingerprint(&self) -> u64 {
        self.circuit.index() as u64
    }
}

/// The decision for `WaitForCircuit`: admit now, or queue.
pub(crate) enum WaitDecision {
    Admit(CircuitAdmission),
    Wait,
}

/// Reports that the open time has elapsed. Sent by a waiter, because the actor has no timer.
pub(crate) struct OpenTimeElapsed {
    pub(crate) circuit: CircuitId,
}

impl ActorMessage for OpenTimeElapsed {
    type Reply = ();
    const NAME: &'static str = "breaker.wake";

    fn message_fingerprint(&self) -> u64 {
        self.circuit.index() as u64
    }
}

/// The component: one bucket's circuits.
pub(crate) struct Breaker {
    bucket: Box<str>,
    /// Indexed by `CircuitId`. Those that the configuration does not use go on for requests of replaced configurations.
    pub(super) circuits: Vec<Circuit>,
    /// The queue of each circuit.
    pub(super) queues: Vec<CircuitQueue<CircuitWaiter>>,
    pub(super) settings: Arc<CircuitSettings>,
    pub(super) latest: Arc<LatestSettings<CircuitSettings>>,
    pub(super) published: Arc<PublishedCircuits>,
    log: Logger,
    events: ActorEvents,
}

impl Breaker {
    /// The bucket's circuits: closed, or open if the mode is `forced_open`.
    pub(crate) fn new(
        bucket: &str,
        latest: Arc<LatestSettings<CircuitSettings>>,
        seed: u64,
        published: Arc<PublishedCircuits>,
        log: Logger,
    ) -> Self {
        let settings = latest.load();
        let config = &settings.config;
        // A different seed for each circuit: circuits that re-open together must not be tried together.
        let circuit = |id: CircuitId| Circuit::new(config.clone(), seed.wrapping_add(id.index() as u64));
        let this = Self {
            bucket: bucket.into(),
            circuits: CircuitId::all().map(circuit).collect(),
            queues: CircuitId::all().map(|_| CircuitQueue::new(config.held_max())).collect(),
            settings,
            latest,
            published,
            log,
            events: ActorEvents::default(),
        };
        this.settings.metrics.set_mode(this.settings.config.mode);
        CircuitId::all().for_each(|circuit| this.publish(circuit));
        this
    }

    /// Reports transitions of the circuits.
    pub(crate) fn with_events(self, events: ActorEvents) -> Self {
        Self { events, ..self }
    }

    fn publish(&self, circuit: CircuitId) {
        let snapshot = self.circuits[circuit.index()].snapshot();
        self.published.publish(circuit, snapshot);
        self.settings.metrics.published(circuit, &snapshot);
    }

    /// Logs that the actor has other settings.
    pub(super) fn log_reconfigured(&self) {
        info!(self.log, "breaker has a new configuration"; "bucket" => self.bucket.to_string(),
            "mode" => self.settings.config.mode.as_str());
    }

    /// Whether a request may be admitted, and how. After a hand-over the successor makes the trials.
    fn admit(&self, circuit: CircuitId, now: Instant) -> Result<CircuitAdmission, CircuitRefusal> {
        match self.circuits[circuit.index()].admit(now)? {
            CircuitAdmission::Closed => Ok(CircuitAdmission::Closed),
            _ if self.published.is_handed_over() => Err(CircuitRefusal::TRIALS_TAKEN),
            trial => Ok(trial),
        }
    }

    /// Admits waiters in order, as long as the circuit admits requests.
    pub(super) fn admit_waiters(&mut self, circuit: CircuitId, now: Instant) {
        let at = circuit.index();
        while !self.queues[at].is_empty()
            && let Ok(admission) = self.admit(circuit, now)
            && let Some(CircuitWaiter { shared, ticket }) = self.queues[at].pop()
        {
            let (ticket_kind, transition) = self.circuits[at].acquire(admission, now);
            self.publish_transition(circuit, transition);
            // A waiter that has just left drops its ticket, which reports back to this actor.
            drop(ticket.send(BreakerTicket::new(shared, circuit, ticket_kind)));
        }
    }

    pub(super) fn publish_transition(&self, circuit: CircuitId, transition: Option<CircuitTransition>) {
        self.publish(circuit);
        let Some(transition) = transition else { return };
        let class = circuit.label();
        let log = self.log.new(o!("bucket" => self.bucket.to_string(), "class" => class));
        self.emit(class, transition);
        match transition {
            CircuitTransition::Opened { cause, trip, open_for } => {
                self.settings.metrics.opened(circuit);
                warn!(log, "circuit opened"; "cause" => %cause,
                    "rule" => trip.map(|trip| trip.rule.as_str()),
                    "measured" => trip.map(|trip| trip.measured),
                    "threshold" => trip.map(|trip| trip.threshold),
                    "open_ms" => u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX));
            }
            CircuitTransition::HalfOpened => info!(log, "circuit half-open"),
            CircuitTransition::HalfOpenedByConnect => {
                info!(log, "circuit half-open because a connection to its upstream succeeded")
            }
            CircuitTransition::Closed => info!(log, "circuit closed"),
            CircuitTransition::SwitchedOff => info!(log, "circuit closed because the breaker is off"),
        }
    }

    fn emit(&self, class: &'static str, transition: CircuitTransition) {
        self.events.emit(match transition {
            CircuitTransition::Opened { cause, trip, open_for } => {
                ActorChange::CircuitOpened { class, cause: cause.to_string(), trip, open_for }
            }
            CircuitTransition::HalfOpened => ActorChange::CircuitHalfOpened { class, by_connect: false },
            CircuitTransition::HalfOpenedByConnect => {
                ActorChange::CircuitHalfOpened { class, by_connect: true }
            }
            CircuitTransition::Closed => {
                let successes = self.settings.config.success_threshold.get();
                ActorChange::CircuitClosed { class, successes }
            }
            CircuitTransition::SwitchedOff => ActorChange::CircuitClosed { class, successes: 0 },
        });
    }
}

impl Component for Breaker {
    fn rebuild(&mut self, now: Instant) {
        for circuit in CircuitId::all() {
            let last = self.published.snapshot(circuit);
            // Their asks end with `Crashed`.
            self.queues[circuit.index()].clear();
            let transition = self.circuits[circuit.index()].rebuild(last, now);
            self.publish_transition(circuit, transition);
        }
    }

    fn restarted(&mut self, now: Instant) {
        self.reconfigure(now);
        self.apply_imports(now);
    }
}

impl MessageHandler<AcquireTicket> for Breaker {
    type Decision = Result<CircuitAdmission, CircuitRefusal>;

    fn decide(&self, message: &AcquireTicket, now: Instant) -> Self::Decision {
        self.admit(message.circuit, now)
    }

    fn apply(
        &mut self,
        message: AcquireTicket,
        admission: Self::Decision,
        now: Instant,
    ) -> Result<BreakerTicket, CircuitRefusal> {
        let AcquireTicket { circuit, shared } = message;
        let (ticket_kind, transition) = self.circuits[circuit.index()].acquire(admission?, now);
        self.publish_transition(circuit, transition);
        Ok(BreakerTicket::new(shared, circuit, ticket_kind))
    }
}

impl MessageHandler<ReportCalls> for Breaker {
    type Decision = CircuitChange;

    fn decide(&self, message: &ReportCalls, _: Instant) -> CircuitChange {
        self.circuits[message.circuit.index()].evaluate_calls(
            message.generation,
            message.successes,
            message.adverse,
        )
    }

    fn apply(&mut self, message: ReportCalls, change: CircuitChange, now: Instant) {
        let transition = self.circuits[message.circuit.index()].apply_change(change, now);
        self.publish_transition(message.circuit, transition);
    }
}

impl MessageHandler<ReportTrial> for Breaker {
    type Decision = CircuitChange;

    fn decide(&self, message: &ReportTrial, _: Instant) -> CircuitChange {
        self.circuits[message.circuit.index()].evaluate_trial(message.generation, message.id, message.outcome)
    }

    fn apply(&mut self, message: ReportTrial, change: CircuitChange, now: Instant) {
        let transition = self.circuits[message.circuit.index()].apply_change(change, now);
        self.publish_transition(message.circuit, transition);
        self.admit_waiters(message.circuit, now);
    }
}

impl MessageHandler<ReportConnected> for Breaker {
    type Decision = bool;

    fn decide(&self, message: &ReportConnected, _: Instant) -> bool {
        self.circuits[message.circuit.index()].is_ended_by_connect(message.generation)
    }

    fn apply(&mut self, message: ReportConnected, is_ended: bool, now: Instant) {
        if is_ended {
            let transition = self.circuits[message.circuit.index()].end_open_by_connect();
            self.publish_transition(message.circuit, Some(transition));
            self.admit_waiters(message.circuit, now);
        }
    }
}

impl MessageHandler<WaitForCircuit> for Breaker {
    type Decision = Result<WaitDecision, CircuitRefusal>;

    fn decide(&self, message: &WaitForCircuit, now: Instant) -> Self::Decision {
        let queue = &self.queues[message.circuit.index()];
        match self.admit(message.circuit, now) {
            Ok(admission) if queue.is_empty() => Ok(WaitDecision::Admit(admission)),
            Err(forced @ CircuitRefusal::Forced { .. }) => Err(forced),
            _ if self.published.waiting(message.circuit) < queue.capacity() => Ok(WaitDecision::Wait),
            admitted => Err(admitted.err().unwrap_or(CircuitRefusal::TRIALS_TAKEN)),
        }
    }

    fn apply(
        &mut self,
        message: WaitForCircuit,
        decision: Self::Decision,
        now: Instant,
    ) -> Result<WaitReply, CircuitRefusal> {
        let WaitForCircuit { circuit, shared } = message;
        match decision? {
            WaitDecision::Admit(admission) => {
                let (ticket_kind, transition) = self.circuits[circuit.index()].acquire(admission, now);
                self.publish_transition(circuit, transition);
                Ok(WaitReply::Admitted(BreakerTicket::new(shared, circuit, ticket_kind)))
            }
            WaitDecision::Wait => {
                let (ticket, receiver) = oneshot::channel();
                self.queues[circuit.index()].push(CircuitWaiter { shared, ticket });
                self.admit_waiters(circuit, now);
                let slot = WaitSlot::acquire(
                    Arc::clone(&self.published),
                    Arc::clone(&self.settings.metrics),
                    circuit,
                );
                Ok(WaitReply::Queued(receiver, slot))
            }
        }
    }
}

impl MessageHandler<OpenTimeElapsed> for Breaker {
    type Decision = ();

    fn decide(&self, _: &OpenTimeElapsed, _: Instant) {}

    fn apply(&mut self, message: OpenTimeElapsed, (): (), now: Instant) {
        self.admit_waiters(message.circuit, now);
    }
}
