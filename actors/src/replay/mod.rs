//! The state machines of the request path on a virtual clock, for `tidegate simulate`.
//!
//! The code of the actors runs without actors: the limits, the count per client, the circuits, and the gates with their queues. A caller
//! gives requests in the order of their starts and gets each decision through an [`Observer`]. The steps have the order of
//! `src/http/proxy.rs`: slot, limits of the head, limit of the client, limit of its key or subject, circuit, the bucket's cursor, gate,
//! circuit again.
//!
//! A request that is granted holds its permit for the time that the caller gives, so the upstream is as fast as it was recorded, whatever
//! the load. Without an effect here: leases and cached permits of worker threads (the limits are exact), levels of resources with their
//! actions, the process's cursor, the adaptive limit, credentials, endpoints, retries, hedges, waits for a circuit, connection probes, and
//! lockouts.

mod call;
mod circuits;
mod cursor;
mod gate;
mod limits;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use tidegate_config::Config;

use crate::client_counts::ClientTicket;
use crate::clock;
use crate::count::BoundedCount;
use crate::ids::{IdMap, Ids};
use crate::pool::Permit;
use crate::replay::call::{Due, DueKind, Flight, Flights};
use crate::replay::circuits::BucketCircuits;
use crate::replay::cursor::CursorAnswer;
use crate::replay::gate::{BucketGate, GateAnswer, GateEvent};
use crate::replay::limits::{ClientAdmission, ReplayLimits, report_shadowed};
use crate::types::{BucketId, ClientId, IpKey, KeyId, OperationClass};

pub use call::{CallOutcome, Work};
pub use circuits::CircuitRefusalKind;
pub use refusal::{RateScope, Refusal};

/// The client of a request, as far as it is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayCaller<'a> {
    /// No key and no token.
    Anonymous,
    /// A configured key.
    Key(KeyId),
    /// The subject of a token.
    Subject(&'a str),
    /// A key or subject that cannot be told from others: no limit of a key, a subject or a client applies to it.
    Untracked,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Its start, from the beginning of the replay. A time before the last one counts as the last one.
    pub at: Duration,
    /// Its bucket; none if it names no configured one.
    pub bucket: Option<BucketId>,
    /// The class of its operation.
    pub class: OperationClass,
    /// The address of its client.
    pub client: Option<IpKey>,
    /// Its client.
    pub caller: ReplayCaller<'a>,
    /// What it does once it is admitted.
    pub work: Work,
}

impl Arrival<'_> {
    /// Its client as limits and cursors tell clients apart.
    fn client_id(&self) -> Option<ClientId> {
        match self.caller {
            ReplayCaller::Anonymous => self.client.map(ClientId::Address),
            ReplayCaller::Key(key) => Some(ClientId::Key(key)),
            ReplayCaller::Subject(subject) => Some(ClientId::subject(subject)),
            ReplayCaller::Untracked => None,
        }
    }
}

/// A change of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitMove {
    /// Time from the beginning of the replay.
    pub at: Duration,
    /// The bucket.
    pub bucket: BucketId,
    /// The class of the circuit; `all` for a single circuit.
    pub class: &'static str,
    /// `opened`, `half_opened` or `closed`.
    pub state: &'static str,
}

/// Receives the decisions of a replay. `T` is what the caller gave with the request.
pub trait Observer<T> {
    /// The request waits in the queue of its bucket, which has `waiting` requests with it.
    fn queued(&mut self, request: T, waiting: usize);
    /// The request is admitted. `waited` is its time in the queue of its bucket.
    fn admitted(&mut self, request: T, waited: Duration);
    /// The request is refused at `at`.
    fn refused(&mut self, request: T, refusal: Refusal, at: Duration);
    /// Limits, a circuit or a cursor in shadow mode would have refused the request.
    fn shadowed(&mut self, request: T, refusal: Refusal);
    /// A circuit changed.
    fn circuit(&mut self, change: CircuitMove);
}

/// A gateway with one configuration on a virtual clock.
pub struct Replay<T> {
    origin: Instant,
    now: Duration,
    slots: BoundedCount,
    limits: ReplayLimits,
    circuits: IdMap<BucketId, BucketCircuits>,
    gates: IdMap<BucketId, BucketGate>,
    flights: Flights<T>,
    due: BinaryHeap<Due>,
    events: Vec<GateEvent>,
    /// The number of the last wait in a queue.
    last_wait: u64,
}

impl<T: Copy> Replay<T> {
    /// An idle gateway. `ids` are those of the configuration; `seed` determines all random choices.
    pub fn new(config: &Config, ids: &Ids, seed: u64) -> Self {
        let origin = clock::now();
        let buckets = || ids.buckets().map(|(_, id)| id).zip(config.buckets.values()).zip(seed..);
        let circuits = buckets()
            .map(|((id, bucket), seed)| (id, BucketCircuits::new(&bucket.upstream.circuit_breaker, seed)));
        let gates =
            buckets().map(|((id, bucket), seed)| (id, BucketGate::new(&bucket.upstream, seed, origin)));
        Self {
            origin,
            now: Duration::ZERO,
            slots: BoundedCount::new(config.server.max_concurrent_requests.get()),
            limits: ReplayLimits::new(config, ids, origin),
            circuits: circuits.collect(),
            gates: gates.collect(),
            flights: Flights::default(),
            due: BinaryHeap::new(),
            events: Vec::new(),
            last_wait: 0,
        }
    }

    /// Permits in use, and requests in the queue, of a bucket.
    pub fn occupancy(&self, bucket: BucketId) -> (usize, usize) {
        self.gates.get(bucket).map_or((0, 0), BucketGate::occupancy)
    }

    /// Requests that hold a slot.
    pub fn in_flight(&self) -> usize {
        self.slots.in_use()
    }

    fn instant(&self) -> Instant {
        self.origin + self.now
    }

    /// Ends what ends up to `until`: calls, and waits in queues.
    pub fn advance(&mut self, until: Duration, observer: &mut impl Observer<T>) {
        while self.due.peek().is_some_and(|due| due.at <= until) {
            let Some(due) = self.due.pop() else { break };
            self.now = self.now.max(due.at);
            match due.kind {
                DueKind::End => self.end(due.flight, observer),
                DueKind::QueueTimeout { wait } => self.time_out(due.flight, wait, observer),
                DueKind::Cursor { bucket } => {
                    let now = self.instant();
                    if let Some(gate) = self.gates.get_mut(bucket) {
                        gate.serve_queue(now);
                    }
                    self.handle_events(bucket, observer);
                }
            }
        }
        self.now = self.now.max(until);
    }

    /// Ends everything that is left.
    pub fn finish(&mut self, observer: &mut impl Observer<T>) {
        while let Some(at) = self.due.peek().map(|due| due.at) {
            self.advance(at, observer);
        }
    }

    /// Decides on a request.
    pub fn arrive(&mut self, arrival: Arrival<'_>, request: T, observer: &mut impl Observer<T>) {
        self.advance(arrival.at.max(self.now), observer);
        if !self.slots.try_acquire() {
            return observer.refused(request, Refusal::InFlight, self.now);
        }
        if let Err(refusal) = self.admit(&arrival, request, observer) {
            self.slots.release();
            observer.refused(request, refusal, self.now);
        }
    }

    /// The steps after the slot. An error releases the slot.
    fn admit(
        &mut self,
        arrival: &Arrival<'_>,
        request: T,
        observer: &mut impl Observer<T>,
    ) -> Result<(), Refusal> {
        let now = self.instant();
        let shadowed = self.limits.charge_head(arrival, now)?;
        report_shadowed(shadowed, request, observer);
        let (service, outcome) = match arrival.work {
            Work::Local { took } => {
                let flight = self.flights.insert(Flight::local(request));
                self.due.push(Due { at: self.now + took, flight, kind: DueKind::End });
                observer.admitted(request, Duration::ZERO);
                return Ok(());
            }
            Work::Call { service, outcome } => (service, outcome),
        };
        let client_ticket = match self.limits.acquire_client(arrival)? {
            ClientAdmission::Unlimited => None,
            ClientAdmission::Counted(ticket) => Some(ticket),
            ClientAdmission::Shadowed => {
                observer.shadowed(request, Refusal::ClientConcurrency);
                None
            }
        };
        let shadowed = self.limits.charge_caller(arrival, now)?;
        report_shadowed(shadowed, request, observer);
        let Some(bucket) = arrival.bucket.filter(|bucket| self.gates.get(*bucket).is_some()) else {
            let flight = self.flights.insert(Flight { client_ticket, ..Flight::local(request) });
            self.due.push(Due { at: self.now + service, flight, kind: DueKind::End });
            observer.admitted(request, Duration::ZERO);
            return Ok(());
        };
        self.enter(bucket, arrival, request, (service, outcome, client_ticket), observer)
    }

    /// The steps of a bucket: circuit, cursor, gate. An error releases the slot.
    fn enter(
        &mut self,
        bucket: BucketId,
        arrival: &Arrival<'_>,
        request: T,
        (service, outcome, client_ticket): (Duration, CallOutcome, Option<ClientTicket>),
        observer: &mut impl Observer<T>,
    ) -> Result<(), Refusal> {
        let now = self.instant();
        let priority = self.limits.priority(bucket, arrival);
        let (Some(gate), Some(circuits)) = (self.gates.get_mut(bucket), self.circuits.get_mut(bucket)) else {
            return Ok(());
        };
        gate.cursor.charge(arrival, priority, self.limits.cost(arrival));
        circuits.check(arrival.class, now).map_err(Refusal::Circuit)?;
        match gate.cursor_answer(arrival, priority, now) {
            CursorAnswer::Admitted => {}
            CursorAnswer::Shadowed => observer.shadowed(request, Refusal::ShedBucket),
            CursorAnswer::Refused => return Err(Refusal::ShedBucket),
        }
        let deadline = now + gate.request_timeout();
        self.last_wait += 1;
        let wait = self.last_wait;
        let flight = self.flights.insert(Flight {
            request,
            bucket: Some(bucket),
            class: arrival.class,
            arrived: self.now,
            service,
            outcome,
            wait: Some(wait),
            permit: None,
            ticket: None,
            client_ticket,
        });
        match gate.acquire((flight, wait), priority, deadline, now) {
            GateAnswer::Granted(permit) => {
                if let Err(refusal) = self.start(flight, permit, observer) {
                    self.flights.remove(flight);
                    return Err(refusal);
                }
            }
            GateAnswer::Queued => {
                observer.queued(request, gate.occupancy().1);
                let at = self.now + gate.wait_max(deadline, now);
                self.due.push(Due { at, flight, kind: DueKind::QueueTimeout { wait } });
            }
            GateAnswer::Refused(refusal) => {
                self.flights.remove(flight);
                return Err(refusal);
            }
        }
        self.handle_events(bucket, observer);
        Ok(())
    }

    /// Begins the call of a request that got its permit. An error leaves the flight without a permit.
    fn start(&mut self, id: u32, permit: Permit, observer: &mut impl Observer<T>) -> Result<(), Refusal> {
        let (now, at) = (self.instant(), self.now);
        let Some(flight) = self.flights.get_mut(id) else { return Ok(()) };
        let Some(bucket) = flight.bucket else { return Ok(()) };
        let Some(circuits) = self.circuits.get_mut(bucket) else { return Ok(()) };
        let acquired = circuits.acquire(flight.class, now).map_err(Refusal::Circuit)?;
        if let Some(refusal) = acquired.shadowed {
            observer.shadowed(flight.request, Refusal::Circuit(refusal));
        }
        if let Some(state) = acquired.transition {
            observer.circuit(CircuitMove { at, bucket, class: circuits.label(flight.class), state });
        }
        flight.ticket = acquired.ticket;
        flight.permit = Some(permit);
        flight.wait = None;
        let due = Due { at: at + flight.service, flight: id, kind: DueKind::End };
        observer.admitted(flight.request, at.saturating_sub(flight.arrived));
        self.due.push(due);
        Ok(())
    }

    /// The last byte of a request.
    fn end(&mut self, id: u32, observer: &mut impl Observer<T>) {
        let Some(mut flight) = self.flights.remove(id) else { return };
        self.slots.release();
        let (Some(bucket), now) = (flight.bucket, self.instant()) else { return };
        if let Some(ticket) = flight.ticket.take()
            && let Some(circuits) = self.circuits.get_mut(bucket)
            && let Some(state) = circuits.report(flight.class, ticket, flight.outcome, now)
        {
            let class = circuits.label(flight.class);
            observer.circuit(CircuitMove { at: self.now, bucket, class, state });
        }
        // The permit is released here, and the count of the client with it.
        drop((flight.permit, flight.client_ticket));
        if let Some(gate) = self.gates.get_mut(bucket) {
            gate.wake(now);
        }
        self.handle_events(bucket, observer);
    }

    /// The wait of a request has lasted as long as it may.
    fn time_out(&mut self, id: u32, wait: u64, observer: &mut impl Observer<T>) {
        // The place of a flight that has ended may be in use by another one.
        let Some(flight) = self.flights.get_mut(id).filter(|flight| flight.wait == Some(wait)) else {
            return;
        };
        let (request, bucket, arrived) = (flight.request, flight.bucket, flight.arrived);
        if let Some(gate) = bucket.and_then(|bucket| self.gates.get_mut(bucket)) {
            gate.cancel(wait);
            gate.cursor.record_wait(self.now.saturating_sub(arrived));
        }
        self.flights.remove(id);
        self.slots.release();
        observer.refused(request, Refusal::QueueTimeout, self.now);
    }

    /// Carries out what the queue of a bucket has decided, until nothing is left: a refusal releases a permit.
    fn handle_events(&mut self, bucket: BucketId, observer: &mut impl Observer<T>) {
        let now = self.instant();
        while let Some(gate) = self.gates.get_mut(bucket) {
            gate.take_events(&mut self.events);
            if self.events.is_empty() {
                break;
            }
            let mut events = std::mem::take(&mut self.events);
            for event in events.drain(..) {
                self.record_wait(bucket, event.flight());
                let (flight, refused) = match event {
                    GateEvent::Granted { flight, permit } => {
                        (flight, self.start(flight, permit, observer).err())
                    }
                    GateEvent::Rejected { flight, refusal } => (flight, Some(refusal)),
                };
                if let Some(refusal) = refused
                    && let Some(flight) = self.flights.remove(flight)
                {
                    self.slots.release();
                    observer.refused(flight.request, refusal, self.now);
                }
            }
            self.events = events;
            if let Some(gate) = self.gates.get_mut(bucket) {
                gate.wake(now);
            }
        }
        if let Some(due) = self.gates.get_mut(bucket).and_then(|gate| gate.update_cursor(now)) {
            let at = due.saturating_duration_since(self.origin);
            self.due.push(Due { at, flight: 0, kind: DueKind::Cursor { bucket } });
        }
    }

    /// The wait of a request that leaves the queue.
    fn record_wait(&mut self, bucket: BucketId, flight: u32) {
        if let (Some(flight), Some(gate)) = (self.flights.get_mut(flight), self.gates.get(bucket)) {
            gate.cursor.record_wait(self.now.saturating_sub(flight.arrived));
        }
    }
}
