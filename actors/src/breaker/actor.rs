//! The breaker's messages and its shell.

use std::sync::Arc;
use std::time::Instant;

use slog::{Logger, info, o, warn};
use tidegate_config::BreakerConfig;
use tokio::sync::oneshot;

use crate::breaker::class::{self, CircuitId};
use crate::breaker::decision::{Change, Entry, Refusal, Transition, TrialId};
use crate::breaker::hold::{Held, Place, Waiting};
use crate::breaker::metrics::BreakerMetrics;
use crate::breaker::outcome::{Adverse, Outcome};
use crate::breaker::published::Board;
use crate::breaker::room::Room;
use crate::breaker::state::Circuit;
use crate::breaker::ticket::{BreakerTicket, Shared};
use crate::host::{Component, Serve};
use crate::mailbox::Request;

/// May a request be tried? The ticket is built into the reply from what the message brings along.
pub(crate) struct Try {
    pub(crate) circuit: CircuitId,
    pub(crate) shared: Arc<Shared>,
}

impl Request for Try {
    type Reply = Result<BreakerTicket, Refusal>;
    const NAME: &'static str = "breaker.try";

    fn likeness(&self) -> u64 {
        self.circuit.index() as u64
    }
}

/// How calls through a closed circuit went: some successes, then perhaps one that tells against the upstream.
pub(crate) struct Judge {
    pub(crate) circuit: CircuitId,
    pub(crate) generation: u32,
    pub(crate) successes: u32,
    pub(crate) adverse: Option<Adverse>,
}

impl Request for Judge {
    type Reply = ();
    const NAME: &'static str = "breaker.judge";

    fn likeness(&self) -> u64 {
        self.circuit.index() as u64 | u64::from(self.generation) << 32
    }
}

/// How a trial went.
pub(crate) struct EndTrial {
    pub(crate) circuit: CircuitId,
    pub(crate) generation: u32,
    pub(crate) id: TrialId,
    pub(crate) outcome: Outcome,
}

impl Request for EndTrial {
    type Reply = ();
    const NAME: &'static str = "breaker.end_trial";

    fn likeness(&self) -> u64 {
        self.circuit.index() as u64 | u64::from(self.generation) << 32
    }
}

/// The upstream could be connected to, in this generation's open time.
pub(crate) struct Reach {
    pub(crate) circuit: CircuitId,
    pub(crate) generation: u32,
}

impl Request for Reach {
    type Reply = ();
    const NAME: &'static str = "breaker.reach";

    fn likeness(&self) -> u64 {
        self.circuit.index() as u64 | u64::from(self.generation) << 32
    }
}

/// May a request wait until it may be tried? Those who wait get their tickets built from what the message brings along.
pub(crate) struct Hold {
    pub(crate) circuit: CircuitId,
    pub(crate) shared: Arc<Shared>,
}

impl Request for Hold {
    type Reply = Result<Held, Refusal>;
    const NAME: &'static str = "breaker.hold";

    fn likeness(&self) -> u64 {
        self.circuit.index() as u64
    }
}

/// Yes, now or later.
pub(crate) enum Stay {
    Pass(Entry),
    Wait,
}

/// The open time is up, and somebody waits for that.
pub(crate) struct Wake {
    pub(crate) circuit: CircuitId,
}

impl Request for Wake {
    type Reply = ();
    const NAME: &'static str = "breaker.wake";

    fn likeness(&self) -> u64 {
        self.circuit.index() as u64
    }
}

/// The component: one bucket's circuits.
pub(crate) struct Breaker {
    bucket: Box<str>,
    /// In the order of their IDs.
    circuits: Vec<Circuit>,
    /// Where requests wait for each of them.
    rooms: Vec<Room<Waiting>>,
    per_operation: bool,
    board: Arc<Board>,
    metrics: Arc<BreakerMetrics>,
    log: Logger,
}

impl Breaker {
    /// The bucket's circuits, closed unless they are forced open.
    pub(crate) fn new(
        bucket: &str,
        config: &BreakerConfig,
        seed: u64,
        board: Arc<Board>,
        metrics: Arc<BreakerMetrics>,
        log: Logger,
    ) -> Self {
        // Each circuit has a seed of its own, or all that re-open together would be tried together.
        let ids = || class::circuits(config.per_operation).map(|(circuit, _)| circuit);
        let circuit = |id: CircuitId| Circuit::new(config.clone(), seed.wrapping_add(id.index() as u64));
        let this = Self {
            bucket: bucket.into(),
            circuits: ids().map(circuit).collect(),
            rooms: ids().map(|_| Room::new(config.held_max())).collect(),
            per_operation: config.per_operation,
            board,
            metrics,
            log,
        };
        ids().for_each(|circuit| this.publish(circuit));
        this
    }

    fn publish(&self, circuit: CircuitId) {
        let snapshot = self.circuits[circuit.index()].snapshot();
        self.board.publish(circuit, snapshot);
        self.metrics.published(circuit, &snapshot);
    }

    /// Lets through who waits, in order, as long as the circuit does.
    fn release(&mut self, circuit: CircuitId, now: Instant) {
        let at = circuit.index();
        while !self.rooms[at].is_empty()
            && let Ok(entry) = self.circuits[at].admit(now)
            && let Some(Waiting { shared, ticket }) = self.rooms[at].next()
        {
            let (pass, transition) = self.circuits[at].enter(entry, now);
            self.changed(circuit, transition);
            // One that left in this moment drops its ticket, which tells us so.
            drop(ticket.send(BreakerTicket::new(shared, circuit, pass)));
        }
    }

    fn changed(&self, circuit: CircuitId, transition: Option<Transition>) {
        self.publish(circuit);
        let Some(transition) = transition else { return };
        let class = class::circuits(self.per_operation).find(|(id, _)| *id == circuit);
        let class = class.map_or("", |(_, class)| class);
        let log = self.log.new(o!("bucket" => self.bucket.to_string(), "class" => class));
        match transition {
            Transition::Opened { cause, open_for } => {
                self.metrics.opened(circuit);
                warn!(log, "circuit opened"; "cause" => %cause,
                    "open_ms" => u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX));
            }
            Transition::HalfOpened => info!(log, "circuit half-open"),
            Transition::Reached => info!(log, "circuit half-open, its upstream can be connected to again"),
            Transition::Closed => info!(log, "circuit closed"),
        }
    }
}

impl Component for Breaker {
    fn rebuild(&mut self, now: Instant) {
        for (circuit, _) in class::circuits(self.per_operation) {
            let last = self.board.read(circuit);
            // They see the crash.
            self.rooms[circuit.index()].clear();
            let transition = self.circuits[circuit.index()].rebuild(last, now);
            self.changed(circuit, transition);
        }
    }
}

impl Serve<Try> for Breaker {
    type Decision = Result<Entry, Refusal>;

    fn decide(&self, message: &Try, now: Instant) -> Self::Decision {
        self.circuits[message.circuit.index()].admit(now)
    }

    fn apply(&mut self, message: Try, entry: Self::Decision, now: Instant) -> Result<BreakerTicket, Refusal> {
        let Try { circuit, shared } = message;
        let (pass, transition) = self.circuits[circuit.index()].enter(entry?, now);
        self.changed(circuit, transition);
        Ok(BreakerTicket::new(shared, circuit, pass))
    }
}

impl Serve<Judge> for Breaker {
    type Decision = Change;

    fn decide(&self, message: &Judge, _: Instant) -> Change {
        self.circuits[message.circuit.index()].judge(message.generation, message.successes, message.adverse)
    }

    fn apply(&mut self, message: Judge, change: Change, now: Instant) {
        let transition = self.circuits[message.circuit.index()].change(change, now);
        self.changed(message.circuit, transition);
    }
}

impl Serve<EndTrial> for Breaker {
    type Decision = Change;

    fn decide(&self, message: &EndTrial, _: Instant) -> Change {
        self.circuits[message.circuit.index()].judge_trial(message.generation, message.id, message.outcome)
    }

    fn apply(&mut self, message: EndTrial, change: Change, now: Instant) {
        let transition = self.circuits[message.circuit.index()].change(change, now);
        self.changed(message.circuit, transition);
        self.release(message.circuit, now);
    }
}

impl Serve<Reach> for Breaker {
    type Decision = bool;

    fn decide(&self, message: &Reach, _: Instant) -> bool {
        self.circuits[message.circuit.index()].is_ended_by_reach(message.generation)
    }

    fn apply(&mut self, message: Reach, is_ended: bool, now: Instant) {
        if is_ended {
            let transition = self.circuits[message.circuit.index()].reach();
            self.changed(message.circuit, Some(transition));
            self.release(message.circuit, now);
        }
    }
}

impl Serve<Hold> for Breaker {
    type Decision = Result<Stay, Refusal>;

    fn decide(&self, message: &Hold, now: Instant) -> Self::Decision {
        let room = &self.rooms[message.circuit.index()];
        match self.circuits[message.circuit.index()].admit(now) {
            Ok(entry) if room.is_empty() => Ok(Stay::Pass(entry)),
            Err(forced @ Refusal::Forced { .. }) => Err(forced),
            _ if self.board.held(message.circuit) < room.places() => Ok(Stay::Wait),
            admitted => Err(admitted.err().unwrap_or(Refusal::TRIALS_TAKEN)),
        }
    }

    fn apply(&mut self, message: Hold, decision: Self::Decision, now: Instant) -> Result<Held, Refusal> {
        let Hold { circuit, shared } = message;
        match decision? {
            Stay::Pass(entry) => {
                let (pass, transition) = self.circuits[circuit.index()].enter(entry, now);
                self.changed(circuit, transition);
                Ok(Held::Passed(BreakerTicket::new(shared, circuit, pass)))
            }
            Stay::Wait => {
                let (ticket, waits) = oneshot::channel();
                self.rooms[circuit.index()].enter(Waiting { shared, ticket });
                self.release(circuit, now);
                let place = Place::take(Arc::clone(&self.board), Arc::clone(&self.metrics), circuit);
                Ok(Held::Waiting(waits, place))
            }
        }
    }
}

impl Serve<Wake> for Breaker {
    type Decision = ();

    fn decide(&self, _: &Wake, _: Instant) {}

    fn apply(&mut self, message: Wake, (): (), now: Instant) {
        self.release(message.circuit, now);
    }
}
